//! TOML, changed member by member.

use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike};

use super::{FileRefusal, Members};

pub(super) struct TomlDocument {
    toml: DocumentMut,
    /// Lines end as on Windows.
    carriage_returns: bool,
}

impl Members for TomlDocument {
    fn parse(text: &str) -> Result<Self, FileRefusal> {
        let carriage_returns = super::line_ends(text)?;
        let toml = text
            .replace("\r\n", "\n")
            .parse()
            .map_err(|error: toml_edit::TomlError| FileRefusal::Malformed(error.to_string()))?;
        Ok(Self { toml, carriage_returns })
    }

    fn all(&self) -> Value {
        members(self.toml.as_table())
    }

    fn get(&self, path: &[String]) -> Result<Option<Value>, FileRefusal> {
        let mut item = self.toml.as_item();
        for key in path {
            let Some(table) = item.as_table_like() else { return Ok(None) };
            let Some(next) = table.get(key) else { return Ok(None) };
            item = next;
        }
        Ok(Some(json(item)))
    }

    fn set(&mut self, path: &[String], value: &Value) -> Result<(), FileRefusal> {
        let Some((key, holders)) = path.split_last() else { return Ok(()) };
        let mut table: &mut dyn TableLike = self.toml.as_table_mut();
        for holder in holders {
            let made = || {
                let mut table = Table::new();
                table.set_implicit(true);
                Item::Table(table)
            };
            table =
                table.entry(holder).or_insert_with(made).as_table_like_mut().ok_or_else(|| {
                    FileRefusal::Ambiguous(format!("`{holder}` is there, and is no table"))
                })?;
        }
        match (table.get_mut(key).and_then(Item::as_value_mut), toml(value)) {
            // What stands around it stays.
            (Some(there), Item::Value(mut value)) => {
                *value.decor_mut() = there.decor().clone();
                *there = value;
            }
            (_, item) => {
                table.insert(key, item);
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &[String]) -> Result<(), FileRefusal> {
        let Some((key, holders)) = path.split_last() else { return Ok(()) };
        let mut table: &mut dyn TableLike = self.toml.as_table_mut();
        for holder in holders {
            let Some(next) = table.get_mut(holder).and_then(Item::as_table_like_mut) else {
                return Ok(());
            };
            table = next;
        }
        table.remove(key);
        Ok(())
    }

    fn write(&self) -> String {
        let text = self.toml.to_string();
        if self.carriage_returns { text.replace('\n', "\r\n") } else { text }
    }
}

fn members(table: &dyn TableLike) -> Value {
    table.iter().map(|(key, item)| (key.to_owned(), json(item))).collect::<Map<_, _>>().into()
}

fn json(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Table(table) => members(table),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| members(table)).collect(),
        Item::Value(value) => json_value(value),
    }
}

fn json_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(value) => (*value.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(values) => values.iter().map(json_value).collect(),
        toml_edit::Value::InlineTable(table) => members(table),
    }
}

fn toml(value: &Value) -> Item {
    match value {
        Value::Object(members) => {
            let mut table = Table::new();
            for (key, value) in members {
                table.insert(key, toml(value));
            }
            Item::Table(table)
        }
        Value::Array(values) => Item::Value(
            values
                .iter()
                .filter_map(|value| toml(value).into_value().ok())
                .collect::<Array>()
                .into(),
        ),
        Value::Bool(value) => toml_edit::value(*value),
        Value::Number(number) => number.as_i64().map_or_else(
            || toml_edit::value(number.as_f64().unwrap_or_default()),
            toml_edit::value,
        ),
        Value::String(text) => toml_edit::value(text),
        Value::Null => Item::None,
    }
}
