//! JSON with comments, changed member by member.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstObjectProp, CstRootNode};
use serde_json::Value;

use super::{FileRefusal, Members};

const MARK: &str = "\u{feff}";

pub(super) struct JsonDocument {
    marked: bool,
    root: CstRootNode,
    top: CstObject,
}

/// JSON as editors write it: comments and a comma too many are fine, anything else is not.
fn options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

/// Refuses what is no JSON by its letter.
pub(super) fn strictly(text: &str) -> Result<(), FileRefusal> {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(());
    }
    let read = serde_json::from_str::<serde::de::IgnoredAny>(text);
    read.map(|_| ()).map_err(|error| FileRefusal::Malformed(format!("this client reads strict JSON, and passes over a file with a comment or a comma too many: {error}")))
}

impl Members for JsonDocument {
    fn parse(text: &str) -> Result<Self, FileRefusal> {
        let marked = text.starts_with(MARK);
        let text = text.strip_prefix(MARK).unwrap_or(text);
        let text = if text.trim().is_empty() { "{}\n" } else { text };
        let root = CstRootNode::parse(text, &options())
            .map_err(|error| FileRefusal::Malformed(error.to_string()))?;
        let top = root
            .object_value()
            .ok_or_else(|| FileRefusal::Malformed("expected a JSON object".into()))?;
        Ok(Self { marked, root, top })
    }

    fn all(&self) -> Value {
        self.top.to_serde_value().unwrap_or_default()
    }

    fn get(&self, path: &[String]) -> Result<Option<Value>, FileRefusal> {
        Ok(self
            .find(path)?
            .and_then(|member| member.value())
            .and_then(|value| value.to_serde_value()))
    }

    fn set(&mut self, path: &[String], value: &Value) -> Result<(), FileRefusal> {
        let Some((key, holders)) = path.split_last() else { return Ok(()) };
        let mut object = self.top.clone();
        for holder in holders {
            object = match unique(&object, holder)? {
                Some(member) => holds_object(&member, holder)?,
                None => object.object_value_or_set(holder),
            };
        }
        match unique(&object, key)? {
            Some(member) => member.set_value(input(value)),
            None => {
                object.append(key, input(value));
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &[String]) -> Result<(), FileRefusal> {
        if let Some(member) = self.find(path)? {
            member.remove();
        }
        Ok(())
    }

    fn write(&self) -> String {
        format!("{}{}", if self.marked { MARK } else { "" }, self.root)
    }
}

impl JsonDocument {
    fn find(&self, path: &[String]) -> Result<Option<CstObjectProp>, FileRefusal> {
        let Some((key, holders)) = path.split_last() else { return Ok(None) };
        let mut object = self.top.clone();
        for holder in holders {
            let Some(member) = unique(&object, holder)? else { return Ok(None) };
            object = holds_object(&member, holder)?;
        }
        unique(&object, key)
    }
}

fn holds_object(member: &CstObjectProp, key: &str) -> Result<CstObject, FileRefusal> {
    member
        .object_value()
        .ok_or_else(|| FileRefusal::Ambiguous(format!("`{key}` is there, and is no object")))
}

/// The one member of that name; which of two counts would be anybody's guess.
fn unique(object: &CstObject, key: &str) -> Result<Option<CstObjectProp>, FileRefusal> {
    let mut named = object
        .properties()
        .into_iter()
        .filter(|member| member.decoded_name().as_deref() == Some(key));
    let found = named.next();
    if named.next().is_some() {
        Err(FileRefusal::Ambiguous(format!("`{key}` is there twice")))
    } else {
        Ok(found)
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(values) => CstInputValue::Array(values.iter().map(input).collect()),
        Value::Object(members) => CstInputValue::Object(
            members.iter().map(|(key, value)| (key.clone(), input(value))).collect(),
        ),
    }
}
