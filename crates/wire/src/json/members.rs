//! An object that is being built: ordered members, each kept as source text.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::quote;

/// An object under construction. Members keep their order and their spelling.
#[derive(Debug, Default, Clone)]
pub struct Members(Vec<(String, String)>);

impl Members {
    /// Returns a member's source text.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, raw)| raw.as_str())
    }

    /// Writes a member, in its old place if it had one.
    pub fn set(&mut self, key: &str, raw: impl Into<String>) {
        let raw = raw.into();
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = raw,
            None => self.0.push((key.to_owned(), raw)),
        }
    }

    /// Takes each member of `other`; `null` never replaces a value.
    pub fn merge(&mut self, other: Self) {
        for (key, raw) in other.0 {
            if raw != "null" || self.get(&key).is_none() {
                self.set(&key, raw);
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, raw)| (key.as_str(), raw.as_str()))
    }

    /// Writes the object.
    pub fn write(&self) -> String {
        let mut out = String::from("{");
        for (index, (key, raw)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&quote(key));
            out.push(':');
            out.push_str(raw);
        }
        out.push('}');
        out
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some((key, raw)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.set(&key, raw.get());
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::Members;

    #[test]
    fn order_and_spelling_survive() {
        let mut members: Members =
            serde_json::from_str(r#"{"b": 1.0, "a":[ 1 ], "b\n":12345678901234567890}"#).unwrap();
        members.set("a", "2");
        members.set("z", "null");
        assert_eq!(members.write(), r#"{"b":1.0,"a":2,"b\n":12345678901234567890,"z":null}"#);
    }

    #[test]
    fn null_never_erases() {
        let mut members: Members = serde_json::from_str(r#"{"a":1}"#).unwrap();
        members.merge(serde_json::from_str(r#"{"a":null,"b":null,"c":3}"#).unwrap());
        assert_eq!(members.write(), r#"{"a":1,"b":null,"c":3}"#);
    }
}
