//! What a body says of where it belongs: the models of a batch, the files of a message, the id of what was made.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use memchr::memmem;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::Members;

/// Returns the models that a batch asks; none where it cannot be read, which its upstream will say.
pub fn models_of_batch(body: &[u8]) -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        requests: Vec<Item<'a>>,
    }
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        model: Cow<'a, str>,
    }
    let batch = serde_json::from_slice::<Batch<'_>>(body);
    batch.map_or_else(
        |_| BTreeSet::new(),
        |batch| batch.requests.into_iter().map(|item| item.params.model.into_owned()).collect(),
    )
}

/// Returns the files that a message names, by their ids. Found by their member alone: a text that speaks of one names
/// a file too, and nobody but a store of ids is asked for it.
pub fn files_of_message(body: &[u8]) -> Vec<&str> {
    const MEMBER: &[u8] = b"\"file_id\"";
    let ids = memmem::find_iter(body, MEMBER).filter_map(|at| {
        let rest = body[at + MEMBER.len()..]
            .trim_ascii_start()
            .strip_prefix(b":")?
            .trim_ascii_start()
            .strip_prefix(b"\"")?;
        let id = &rest[..memchr::memchr(b'"', rest)?];
        std::str::from_utf8(id).ok().filter(|id| !id.is_empty() && id.len() <= LONGEST)
    });
    ids.collect()
}

// Made once: to make one takes longer than to look through a small body.
static MEMBER: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(b"file_id"));
static ESCAPE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\\u"));

/// Returns every file that a body names, however it is written: for who has to know them all. None where it cannot be
/// read, which its upstream will say.
pub fn files_named(body: &[u8]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    // Nearly no request does, and a name that is not written out has an escape.
    let may = MEMBER.find(body).is_some() || ESCAPE.find(body).is_some();
    if may {
        let mut json = serde_json::Deserializer::from_slice(body);
        let read = NamedFiles(&mut named).deserialize(&mut json);
        if read.is_err() {
            named.clear();
        }
    }
    named
}

/// Collects every `file_id` of a value.
struct NamedFiles<'n>(&'n mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for NamedFiles<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NamedFiles<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "file_id" {
                map.next_value_seed(FileId(self.0))?;
            } else {
                map.next_value_seed(NamedFiles(self.0))?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(NamedFiles(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The value of a `file_id`: a text, or anything else that may hold some.
struct FileId<'n>(&'n mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for FileId<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str::<String>(value.get()) {
            Ok(id) => drop(self.0.insert(id)),
            Err(_) => self.0.extend(files_named(value.get().as_bytes())),
        }
        Ok(())
    }
}

/// The longest id that is believed to be one.
const LONGEST: usize = 200;

/// Returns the id of what an answer says was made.
pub fn id_of_made(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Made {
        id: String,
    }
    serde_json::from_slice::<Made>(body)
        .ok()
        .map(|made| made.id)
        .filter(|id| !id.is_empty() && id.len() <= LONGEST)
}

/// Writes a list anew with those of its entries alone whose ids are kept; `None` if it is none. What is told of further
/// pages stays: by it they are asked for.
pub fn kept_of_list(list: &[u8], keep: impl Fn(&str) -> bool) -> Option<String> {
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    let mut list: Members = serde_json::from_slice(list).ok()?;
    let entries: Vec<&RawValue> = serde_json::from_str(list.get("data")?).ok()?;
    let kept: Vec<&str> = entries
        .into_iter()
        .map(RawValue::get)
        .filter(|raw| serde_json::from_str::<Entry<'_>>(raw).is_ok_and(|entry| keep(&entry.id)))
        .collect();
    let kept = format!("[{}]", kept.join(","));
    list.set("data", kept);
    Some(list.write())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_however_it_is_written() {
        for (body, files) in [
            (
                r#"{"a":[{"source":{"file_id":"f1"}},{"file_id": "f2"}],"n":[1,-1,1.5,true,null,"x"]}"#,
                &["f1", "f2"][..],
            ),
            (r#"{"file\u005fid":"f1"}"#, &["f1"]),
            (r#"{"file_id":"\u00661"}"#, &["f1"]),
            (r#"{"file_id":{"file_id":["f1",{"file_id":"f2"}]}}"#, &["f2"]),
            (r#"{"file_id":"a","file_id":"b"}"#, &["a", "b"]),
            (r#"{"text":"\"file_id\":\"f1\""}"#, &[]),
            (r#"{"file_id":"f1""#, &[]),
            ("", &[]),
        ] {
            assert_eq!(
                files_named(body.as_bytes()).into_iter().collect::<Vec<_>>(),
                files,
                "{body}"
            );
        }
    }

    #[test]
    fn of_a_list_that_is_kept_which_is_to_be() {
        let list = br#"{"data":[{"id":"a","n":1.0},{"id":"b"},{"no":"id"},7,{"id":"c"}],"has_more":true,"last_id":"c"}"#;
        assert_eq!(
            kept_of_list(list, |id| id != "b").as_deref(),
            Some(r#"{"data":[{"id":"a","n":1.0},{"id":"c"}],"has_more":true,"last_id":"c"}"#)
        );
        for none in ["", "[]", "{}", r#"{"data":7}"#] {
            assert_eq!(kept_of_list(none.as_bytes(), |_| true), None, "{none}");
        }
    }

    #[test]
    fn the_models_of_a_batch_are_found() {
        let batch = br#"{"requests":[{"custom_id":"1","params":{"model":"b","messages":[]}},{"params":{"max_tokens":1,"model":"a"}},{"params":{"model":"b"}}]}"#;
        assert_eq!(models_of_batch(batch).into_iter().collect::<Vec<_>>(), ["a", "b"]);
        for unreadable in ["", "{}", r#"{"requests":[{"params":{}}]}"#, r#"{"requests":[1]}"#] {
            assert!(models_of_batch(unreadable.as_bytes()).is_empty(), "{unreadable}");
        }
    }

    #[test]
    fn the_files_of_a_message_are_found() {
        let cases: [(&str, &[&str]); 5] = [
            (
                r#"{"source":{"type":"file","file_id":"file_1"}},{"file_id" : "file_2"}"#,
                &["file_1", "file_2"],
            ),
            (r#"{"text":"a \"file_id\": \"x\""}"#, &[]),
            (r#"{"file_id":7}"#, &[]),
            (r#"{"file_id":""#, &[]),
            (r#"{"file_id":"""#, &[]),
        ];
        for (body, expect) in cases {
            assert_eq!(files_of_message(body.as_bytes()), expect, "{body}");
        }
    }

    #[test]
    fn what_was_made_has_an_id() {
        assert_eq!(
            id_of_made(br#"{"type":"file","id":"file_1","size_bytes":3}"#).as_deref(),
            Some("file_1")
        );
        assert_eq!(id_of_made(b"[]"), None);
        assert_eq!(id_of_made(br#"{"id":""}"#), None);
    }
}
