//! The smallest value that a JSON schema accepts, for tools and structured outputs.

use serde_json::{Map, Value};

/// How deep a schema is followed.
const DEEPEST: usize = 16;

/// Makes a value; `root` is where `$ref`s point into.
pub(super) fn of_schema(schema: &Value, root: &Value) -> Value {
    sample(schema, root, 0)
}

fn sample(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    if let Some(target) =
        schema["$ref"].as_str().and_then(|path| root.pointer(path.trim_start_matches('#')))
    {
        return sample(target, root, depth + 1);
    }
    if let Some(value) =
        [&schema["const"], &schema["default"], &schema["enum"][0], &schema["examples"][0]]
            .into_iter()
            .find(|value| !value.is_null())
    {
        return value.clone();
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[key].get(0) {
            return sample(first, root, depth + 1);
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    match kind {
        Some("string") => Value::String(text(schema["format"].as_str())),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        Some("boolean") => true.into(),
        Some("array") => {
            let count = schema["minItems"].as_u64().unwrap_or(1).min(8);
            (0..count).map(|_| sample(&schema["items"], root, depth + 1)).collect()
        }
        Some("object") | None if schema.get("properties").is_some() => object(schema, root, depth),
        Some("object") => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn object(schema: &Value, root: &Value, depth: usize) -> Value {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let wanted = properties.filter(|(name, _)| required.contains(&name.as_str()));
    Value::Object(
        wanted.map(|(name, schema)| (name.clone(), sample(schema, root, depth + 1))).collect(),
    )
}

fn text(format: Option<&str>) -> String {
    match format {
        Some("date") => "2026-01-01",
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("email") => "sandbox@example.com",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "sandbox",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::of_schema;

    #[test]
    fn required_members_are_filled() {
        let schema = serde_json::json!({
            "type": "object", "required": ["a", "b", "c", "d"],
            "properties": {
                "a": {"type": "string"}, "b": {"$ref": "#/$defs/n"}, "c": {"type": "array", "items": {"enum": ["x", "y"]}},
                "d": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "e": {"type": "string"},
            },
            "$defs": {"n": {"type": "integer", "minimum": 3}},
        });
        assert_eq!(
            of_schema(&schema, &schema),
            serde_json::json!({"a": "sandbox", "b": 3, "c": ["x"], "d": true})
        );
    }

    #[test]
    fn a_schema_that_holds_itself_ends() {
        let schema = serde_json::json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}});
        assert!(of_schema(&schema, &schema).is_object());
    }
}
