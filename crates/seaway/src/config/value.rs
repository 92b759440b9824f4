//! Values of settings, and how text becomes one.

use std::time::Duration;

use super::settings::Kind;

/// Longer times are slips, and clocks cannot add them.
const LONGEST_SPAN: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A value, whichever layer it came from.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Flag(bool),
    Count(i64),
    Amount(f64),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Reads a value as a variable or flag gives it.
    ///
    /// # Errors
    ///
    /// What would have been right.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, String> {
        let list = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let value = match kind {
            Kind::Text | Kind::Choice(_) | Kind::Size | Kind::Span => Self::Text(text.to_owned()),
            Kind::Flag => Self::Flag(match text {
                "true" | "1" | "yes" | "on" => true,
                "false" | "0" | "no" | "off" => false,
                _ => return Err("expected `true` or `false`".into()),
            }),
            Kind::Count => Self::Count(text.parse().map_err(|_| "expected a whole number")?),
            Kind::Amount => Self::Amount(text.parse().map_err(|_| "expected a number")?),
            // As a file has it, where it is one of TOML's; a JSON list is one of them.
            Kind::Texts | Kind::Counts if text.trim_start().starts_with('[') => parse_list(text)
                .or_else(|| Self::parse_any(text))
                .ok_or_else(|| format!("expected {}", expected(kind)))?,
            Kind::Texts => Self::List(list().map(|item| Self::Text(item.to_owned())).collect()),
            Kind::Counts => {
                let counts: Result<_, _> =
                    list().map(|item| item.parse().map(Self::Count)).collect();
                Self::List(counts.map_err(|_| "expected whole numbers, separated by commas")?)
            }
            Kind::TextMap | Kind::AnyMap => {
                let json = serde_json::from_str(text).map_err(|_| "expected a JSON object")?;
                Self::from_json(json).ok_or("expected a JSON object without null")?
            }
        };
        value.check(kind)?;
        Ok(value)
    }

    /// Checks that a value is of its kind.
    ///
    /// # Errors
    ///
    /// What would have been right.
    pub fn check(&self, kind: Kind) -> Result<(), String> {
        let texts = |items: &[Self]| items.iter().all(|item| matches!(item, Self::Text(_)));
        let good = match (kind, self) {
            (Kind::Text, Self::Text(_)) | (Kind::Flag, Self::Flag(_)) => true,
            (Kind::Count, Self::Count(count)) => *count >= 0,
            (Kind::Amount, Self::Amount(amount)) => *amount >= 0.0,
            (Kind::Amount, Self::Count(count)) => *count >= 0,
            (Kind::Size, _) => self.size().is_some(),
            (Kind::Span, _) => self.span().is_some(),
            (Kind::Choice(choices), Self::Text(text)) => choices.contains(&text.as_str()),
            (Kind::Texts, Self::Text(_)) => true,
            (Kind::Texts, Self::List(items)) => texts(items),
            (Kind::Counts, Self::List(items)) => {
                items.iter().all(|item| matches!(item, Self::Count(_)))
            }
            (Kind::TextMap, Self::Map(entries)) => {
                entries.iter().all(|(_, value)| matches!(value, Self::Text(_)))
            }
            (Kind::AnyMap, Self::Map(_)) => true,
            _ => false,
        };
        if good { Ok(()) } else { Err(format!("expected {}", expected(kind))) }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list of texts; one text is a list of one.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::List(items) => items.iter().filter_map(Self::text).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    pub fn flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Count(count) => u64::try_from(*count).ok(),
            _ => None,
        }
    }

    pub fn amount(&self) -> Option<f64> {
        match self {
            Self::Amount(amount) => Some(*amount),
            Self::Count(count) => i32::try_from(*count).ok().map(f64::from),
            _ => None,
        }
    }

    pub fn entries(&self) -> &[(String, Value)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Bytes.
    pub fn size(&self) -> Option<u64> {
        let Self::Text(text) = self else { return self.count() };
        let (number, unit) = split_unit(text)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return None,
        };
        number.checked_mul(factor)
    }

    pub fn span(&self) -> Option<Duration> {
        self.any_span().filter(|span| *span <= LONGEST_SPAN)
    }

    fn any_span(&self) -> Option<Duration> {
        let Self::Text(text) = self else { return self.count().map(Duration::from_secs) };
        let (number, unit) = split_unit(text)?;
        let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
        match unit {
            "ms" => Some(Duration::from_millis(number)),
            "" | "s" => seconds(1),
            "m" | "min" => seconds(60),
            "h" => seconds(3_600),
            "d" => seconds(86_400),
            "w" => seconds(604_800),
            _ => None,
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Count(count) => (*count).into(),
            Self::Amount(amount) => (*amount).into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => {
                entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()
            }
        }
    }

    /// Reads JSON; `None` if the text is none.
    pub fn parse_any(text: &str) -> Option<Self> {
        Self::from_json(serde_json::from_str(text).ok()?)
    }

    fn from_json(json: serde_json::Value) -> Option<Self> {
        use serde_json::Value as Json;
        Some(match json {
            Json::Null => return None,
            Json::Bool(flag) => Self::Flag(flag),
            Json::Number(number) => match number.as_i64() {
                Some(count) => Self::Count(count),
                None => Self::Amount(number.as_f64()?),
            },
            Json::String(text) => Self::Text(text),
            Json::Array(items) => {
                Self::List(items.into_iter().map(Self::from_json).collect::<Option<_>>()?)
            }
            Json::Object(entries) => {
                let entries =
                    entries.into_iter().map(|(key, value)| Some((key, Self::from_json(value)?)));
                Self::Map(entries.collect::<Option<_>>()?)
            }
        })
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Text => "a text".into(),
        Kind::Flag => "`true` or `false`".into(),
        Kind::Count => "a whole number".into(),
        Kind::Amount => "a number that is not negative".into(),
        Kind::Size => "a size such as `\"32MiB\"`".into(),
        Kind::Span => "a time such as `\"30s\"`".into(),
        Kind::Choice(choices) => {
            let quoted: Vec<_> = choices.iter().map(|choice| format!("`{choice}`")).collect();
            format!("one of {}", quoted.join(", "))
        }
        Kind::Texts => "a list of texts".into(),
        Kind::Counts => "a list of whole numbers".into(),
        Kind::TextMap => "a table of texts".into(),
        Kind::AnyMap => "a table".into(),
    }
}

/// Reads a list as a file would have it.
pub(super) fn parse_list(text: &str) -> Option<Value> {
    toml_value(&text.trim().parse().ok()?).ok().filter(|value| matches!(value, Value::List(_)))
}

pub(super) fn toml_value(value: &toml_edit::Value) -> Result<Value, String> {
    use toml_edit::Value as Toml;
    Ok(match value {
        Toml::String(text) => Value::Text(text.value().clone()),
        Toml::Integer(count) => Value::Count(*count.value()),
        Toml::Float(amount) => Value::Amount(*amount.value()),
        Toml::Boolean(flag) => Value::Flag(*flag.value()),
        Toml::Datetime(_) => return Err("a date is not expected here".into()),
        Toml::Array(items) => Value::List(items.iter().map(toml_value).collect::<Result<_, _>>()?),
        Toml::InlineTable(table) => {
            let entries =
                table.iter().map(|(name, value)| Ok((name.to_owned(), toml_value(value)?)));
            Value::Map(entries.collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        let size = |text: &str| Value::Text(text.into()).size();
        assert_eq!(size("32MiB"), Some(32 << 20));
        assert_eq!(size("7"), Some(7));
        assert_eq!(size("1 KB"), Some(1000));
        assert_eq!(size("1 parsec"), None);
        let span = |text: &str| Value::Text(text.into()).span();
        assert_eq!(span("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(span("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(span("soon"), None);
        assert_eq!(span("9999999999999d"), None);
        assert_eq!(Value::Count(9).span(), Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_wrong_value_says_what_is_right() {
        assert_eq!(Value::parse("maybe", Kind::Flag), Err("expected `true` or `false`".into()));
        assert_eq!(
            Value::parse("x", Kind::Choice(&["a", "b"])),
            Err("expected one of `a`, `b`".into())
        );
        assert_eq!(Value::parse("-1", Kind::Count), Err("expected a whole number".into()));
        assert!(Value::parse(r#"{"a":"b"}"#, Kind::TextMap).is_ok());
        assert!(Value::parse(r#"{"a":1}"#, Kind::TextMap).is_err());
        let both = |text: &str| Value::parse(text, Kind::Texts).unwrap().texts();
        for text in [r#"["a", "b"]"#, "a, b", "a,b", "['a', 'b']", " [\"a\",\"b\",]"] {
            assert_eq!(both(text), ["a", "b"], "{text}");
        }
        for text in ["[429, 529]", "429,529", "429, 529", "[429,529]"] {
            assert_eq!(
                Value::parse(text, Kind::Counts),
                Ok(Value::List(vec![Value::Count(429), Value::Count(529)])),
                "{text}"
            );
        }
        assert_eq!(
            Value::parse("['a']", Kind::Counts),
            Err("expected a list of whole numbers".into())
        );
        assert_eq!(Value::parse("[a", Kind::Texts), Err("expected a list of texts".into()));
    }
}
