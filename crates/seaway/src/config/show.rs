//! The configuration as people and editors read it.

use serde_json::{Map, Value as Json, json};

use super::layers::{Layers, dotted};
use super::settings::{Kind, SETTINGS, Setting, find};

/// One effective setting.
#[derive(Debug, serde::Serialize)]
pub struct ShownSetting {
    pub key: String,
    /// Redacted where it is a secret.
    pub value: Json,
    pub origin: String,
}

/// Lists every setting that has a value, with where it came from.
pub fn shown(layers: &Layers) -> Vec<ShownSetting> {
    let fixed = SETTINGS
        .iter()
        .filter(|setting| !setting.path.contains('*') && !setting.default.is_empty());
    let defaults = fixed.filter(|setting| {
        layers.get(&setting.path.split('.').map(str::to_owned).collect::<Vec<_>>()).is_none()
    });
    let mut all: Vec<ShownSetting> = defaults
        .map(|setting| ShownSetting {
            key: setting.path.into(),
            value: setting.default.into(),
            origin: "default".into(),
        })
        .collect();
    for (key, (value, origin)) in layers.iter() {
        let secret = find(key).is_some_and(|setting| setting.secret);
        let value = match value.text() {
            _ if secret => "(redacted)".into(),
            Some(text) => without_userinfo(text).into(),
            None => value.to_json(),
        };
        let origin = origin.to_string();
        let origin = if origin.starts_with("(built in)") { "default".into() } else { origin };
        all.push(ShownSetting { key: dotted(key), value, origin });
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

/// An address may hold a name and a password before its host.
pub(super) fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once('@') {
        Some((userinfo, _)) => format!("{scheme}://(redacted){}", &rest[userinfo.len()..]),
        None => text.to_owned(),
    }
}

/// Returns a JSON Schema of the file, for editors that check TOML.
pub fn schema() -> Json {
    let mut root = object();
    for setting in SETTINGS {
        let segments: Vec<&str> = setting.path.split('.').collect();
        insert(&mut root, &segments, setting);
    }
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "seaway.toml".into();
    root
}

fn object() -> Json {
    json!({"type": "object", "properties": {}, "additionalProperties": false})
}

fn insert(node: &mut Json, segments: &[&str], setting: &Setting) {
    let Some((first, rest)) = segments.split_first() else { return };
    if rest.is_empty() {
        node["properties"][*first] = leaf(setting);
        return;
    }
    let slot = if *first == "*" {
        &mut node["additionalProperties"]
    } else {
        &mut node["properties"][*first]
    };
    if !slot.is_object() {
        *slot = object();
    }
    // `[[route]]` is a list of tables, every other group a table of names.
    if *first == "route" {
        *slot =
            json!({"type": "array", "items": slot.get("items").cloned().unwrap_or_else(object)});
        return insert(&mut slot["items"], &rest[1..], setting);
    }
    insert(slot, rest, setting);
    // A credential's value may be written without its table.
    if rest == ["value"] {
        let table = slot.take();
        *slot = json!({"anyOf": [{"type": "string"}, table]});
    } else if let Some(table) = slot.get_mut("anyOf").map(|any| any[1].take()) {
        let mut table = table;
        insert(&mut table, rest, setting);
        *slot = json!({"anyOf": [{"type": "string"}, table]});
    }
}

fn leaf(setting: &Setting) -> Json {
    let mut schema = match setting.kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Count => json!({"type": "integer", "minimum": 0}),
        Kind::Amount => json!({"type": "number", "minimum": 0}),
        Kind::Size | Kind::Span => json!({"type": ["string", "integer"]}),
        Kind::Choice(choices) => json!({"enum": choices}),
        Kind::Texts => {
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
        }
        Kind::Counts => json!({"type": "array", "items": {"type": "integer"}}),
        Kind::TextMap => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::AnyMap => Json::Object(Map::from_iter([("type".into(), "object".into())])),
    };
    schema["description"] = setting.about.into();
    if !setting.default.is_empty() {
        schema["default"] = setting.default.into();
    }
    schema
}

/// Writes the settings as the table that docs/settings.md holds.
pub fn markdown_table() -> String {
    let mut out = String::from("| key | default | |\n| --- | --- | --- |\n");
    for setting in SETTINGS {
        let key = setting.path.replace(".*", ".NAME");
        let default = if setting.default.is_empty() {
            String::new()
        } else {
            format!("`{}`", setting.default)
        };
        out.push_str(&format!("| `{key}` | {default} | {} |\n", setting.about));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_every_setting() {
        let schema = schema();
        let upstream = &schema["properties"]["upstream"]["additionalProperties"]["properties"];
        assert_eq!(upstream["kind"]["enum"][0], "anthropic");
        let credential = &upstream["api_key"]["anyOf"];
        assert_eq!(credential[0]["type"], "string");
        for name in ["value", "env", "file", "command", "ttl"] {
            assert!(credential[1]["properties"][name].is_object(), "{name}: {credential}");
        }
        assert_eq!(schema["properties"]["route"]["items"]["properties"]["model"]["type"], "string");
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut layers = Layers::default();
        layers.add_file(std::path::Path::new("s.toml"), "api_key = 'hush'\n[upstream.a]\napi_key = 'hush'\nheaders = {x = 'hush'}\nproxy = 'http://me:hush@p:1/x'\n");
        let text = serde_json::to_string(&shown(&layers)).unwrap();
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("s.toml:1:1"), "{text}");
    }
}
