//! JSON Schemas: those of a tool's input, and those that answers are held to.

use serde_json::{Map, Value};

use super::Checked;

/// How deep a schema is followed.
const DEEPEST: usize = 64;
const INVALID: &str = "JSON schema is invalid. It must match JSON Schema draft 2020-12 (https://json-schema.org/draft/2020-12). Learn more about tool use at https://docs.claude.com/en/docs/tool-use.";

/// Checks the schema of a tool's input.
pub(super) fn input(schema: &Value, path: &str) -> Checked {
    let Some(top) = schema.as_object() else {
        return Err(format!("{path}: Input should be a valid dictionary").into());
    };
    if ["oneOf", "allOf", "anyOf"].iter().any(|key| top.contains_key(*key)) {
        return Err(format!(
            "{path}: input_schema does not support oneOf, allOf, or anyOf at the top level"
        )
        .into());
    }
    match &top.get("type") {
        None => return Err(format!("{path}.type: Field required").into()),
        Some(kind) if *kind == "object" => {}
        Some(_) => return Err(format!("{path}.type: Input should be 'object'").into()),
    }
    if is_valid(schema, 0) { Ok(()) } else { Err(format!("{path}: {INVALID}").into()) }
}

/// True for what the meta-schema of draft 2020-12 lets through, as far as it is looked at.
fn is_valid(schema: &Value, depth: usize) -> bool {
    let Some(schema) = schema.as_object() else { return schema.is_boolean() };
    depth <= DEEPEST && schema.iter().all(|(key, value)| is_valid_member(key, value, depth))
}

fn is_valid_member(key: &str, value: &Value, depth: usize) -> bool {
    let names =
        |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    match key {
        "properties" | "$defs" | "definitions" | "patternProperties" | "dependentSchemas" => value
            .as_object()
            .is_some_and(|named| named.values().all(|schema| is_valid(schema, depth + 1))),
        "items"
        | "additionalProperties"
        | "not"
        | "if"
        | "then"
        | "else"
        | "contains"
        | "propertyNames" => is_valid(value, depth + 1),
        "anyOf" | "allOf" | "oneOf" | "prefixItems" => value.as_array().is_some_and(|list| {
            !list.is_empty() && list.iter().all(|schema| is_valid(schema, depth + 1))
        }),
        "required" => names(value),
        "enum" => value.is_array(),
        "type" => {
            let known = |kind: &Value| {
                kind.as_str().is_some_and(|kind| {
                    ["null", "boolean", "object", "array", "number", "string", "integer"]
                        .contains(&kind)
                })
            };
            known(value)
                || value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(known))
        }
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
            value.is_number()
        }
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
            value.as_f64().is_some_and(|count| count >= 0.0)
        }
        "pattern" | "format" | "title" | "description" | "$ref" | "$schema" | "$id" => {
            value.is_string()
        }
        _ => true,
    }
}

/// Checks the format that an answer is to have.
pub(super) fn format(format: &Value, path: &str) -> Checked {
    if format.is_null() {
        return Ok(());
    }
    if format["type"] != "json_schema" {
        return Err(format!(
            "{}: Input should be a JSON schema format",
            path.trim_end_matches(".schema")
        )
        .into());
    }
    let schema = &format["schema"];
    if !schema.is_object() {
        return Err(format!("{path}: Field required").into());
    }
    enforceable(schema, path)
}

/// Checks that answers can be held to a schema.
pub(super) fn enforceable(schema: &Value, path: &str) -> Checked {
    if refers_to_itself(schema, schema, &mut Vec::new(), 0) {
        return Err(format!("{path}: Circular references are not supported in the schema").into());
    }
    held(schema, path, 0)
}

/// What each type of value cannot be held to.
const BOUNDS: [(&str, &[&str]); 4] = [
    ("integer", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    ("string", &["minLength", "maxLength"]),
    ("array", &["maxItems", "uniqueItems", "prefixItems"]),
];

fn held(schema: &Value, path: &str, depth: usize) -> Checked {
    let Some(object) = schema.as_object() else { return Ok(()) };
    if depth > DEEPEST {
        return Err(format!("{path}: the schema is too deep").into());
    }
    let types: Vec<&str> = match object.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if types.contains(&"object") && object.get("additionalProperties") != Some(&Value::Bool(false))
    {
        return Err(format!(
            "{path}: For 'object' type, 'additionalProperties' must be explicitly set to false"
        )
        .into());
    }
    for (kind, keys) in BOUNDS.iter().filter(|(kind, _)| types.contains(kind)) {
        let found: Vec<&str> =
            keys.iter().copied().filter(|key| object.contains_key(*key)).collect();
        if !found.is_empty() {
            return Err(format!(
                "{path}: For '{kind}' type, properties {} are not supported",
                found.join(", ")
            )
            .into());
        }
    }
    if types.contains(&"array")
        && object.get("minItems").and_then(Value::as_u64).is_some_and(|least| least > 1)
    {
        return Err(format!(
            "{path}: For 'array' type, 'minItems' values other than 0 or 1 are not supported"
        )
        .into());
    }
    if object.get("$ref").and_then(Value::as_str).is_some_and(|target| !target.starts_with('#')) {
        return Err(format!("{path}: external $ref is not supported").into());
    }
    below(object).try_for_each(|schema| held(schema, path, depth + 1))
}

/// The schemas right below one.
fn below(schema: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let named = ["properties", "$defs", "definitions"]
        .into_iter()
        .filter_map(|key| schema.get(key)?.as_object())
        .flat_map(|named| named.values());
    let listed = ["anyOf", "allOf", "oneOf"]
        .into_iter()
        .filter_map(|key| schema.get(key)?.as_array())
        .flatten();
    named.chain(listed).chain(schema.get("items"))
}

fn refers_to_itself<'v>(
    schema: &'v Value,
    root: &'v Value,
    open: &mut Vec<&'v str>,
    depth: usize,
) -> bool {
    let Some(object) = schema.as_object() else { return false };
    if depth > DEEPEST {
        return true;
    }
    if let Some(target) =
        object.get("$ref").and_then(Value::as_str).filter(|target| target.starts_with('#'))
    {
        if open.contains(&target) || target == "#" {
            return true;
        }
        open.push(target);
        let back = root
            .pointer(target.trim_start_matches('#'))
            .is_some_and(|target| refers_to_itself(target, root, open, depth + 1));
        open.pop();
        if back {
            return true;
        }
    }
    below(object).any(|schema| refers_to_itself(schema, root, open, depth + 1))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::refused;

    fn tool(schema: Value) -> Value {
        json!({"tools": [{"name": "f", "input_schema": schema}]})
    }

    fn format(schema: Value) -> Value {
        json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}})
    }

    #[test]
    fn a_tools_schema_is_one_object_of_draft_2020_12() {
        const SOURCE: &str =
            "the API's words, quoted in reports against MCP servers and OpenAPI tools";
        for key in ["anyOf", "oneOf", "allOf"] {
            refused(
                &tool(json!({"type": "object", key: [{"type": "object"}]})),
                "input_schema does not support oneOf, allOf, or anyOf at the top level",
                SOURCE,
            );
        }
        refused(
            &tool(json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}})),
            "input_schema.type: Field required",
            SOURCE,
        );
        refused(
            &tool(json!({"type": "array", "items": {}})),
            "input_schema.type: Input should be 'object'",
            SOURCE,
        );
        for schema in [
            json!({"type": "object", "properties": null}),
            json!({"type": "object", "required": null}),
            json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "exclusiveMinimum": true}}}),
            json!({"type": "object", "properties": {"t": {"type": "array", "items": [{"type": "string"}]}}}),
            json!({"type": "object", "properties": {"x": {"type": "any"}}}),
            json!({"type": "object", "properties": {"x": {"enum": null}}}),
        ] {
            refused(
                &tool(schema),
                "JSON schema is invalid. It must match JSON Schema draft 2020-12",
                SOURCE,
            );
        }
        refused(
            &tool(
                json!({"type": "object", "properties": {"n": {"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#"}]}}, "x-own": 1}),
            ),
            "",
            SOURCE,
        );
    }

    #[test]
    fn answers_are_held_to_what_can_be_enforced() {
        const SOURCE: &str = "https://platform.claude.com/docs/en/build-with-claude/structured-outputs, and its words in reports";
        refused(
            &format(json!({"type": "object", "properties": {}})),
            "For 'object' type, 'additionalProperties' must be explicitly set to false",
            SOURCE,
        );
        refused(
            &format(json!({"type": "object", "additionalProperties": {"type": "integer"}})),
            "'additionalProperties' must be explicitly set to false",
            SOURCE,
        );
        refused(
            &format(json!({"type": "integer", "minimum": 1, "maximum": 2})),
            "For 'integer' type, properties minimum, maximum are not supported",
            SOURCE,
        );
        refused(
            &format(json!({"type": "array", "items": {"type": "string", "minLength": 1}})),
            "For 'string' type, properties minLength are not supported",
            SOURCE,
        );
        refused(
            &format(json!({"type": "array", "minItems": 2})),
            "'minItems' values other than 0 or 1",
            SOURCE,
        );
        refused(&format(json!({"$ref": "https://x/y"})), "external $ref", SOURCE);
        let node = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}, "additionalProperties": false});
        refused(
            &format(json!({"$ref": "#/$defs/N", "$defs": {"N": node}})),
            "Circular references are not supported",
            SOURCE,
        );
        refused(
            &json!({"tools": [{"name": "f", "strict": true, "input_schema": {"type": "object", "properties": {"x": {"$ref": "#"}}, "additionalProperties": false}}]}),
            "Circular references",
            SOURCE,
        );
        refused(
            &format(
                json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"], "additionalProperties": false}),
            ),
            "",
            SOURCE,
        );
    }
}
