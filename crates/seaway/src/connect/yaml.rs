//! YAML, changed only between our marks.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::FileRefusal;

const BEGIN: &str = "# >>> seaway connect: these lines are its own, `--undo` takes them out";
const END: &str = "# <<< seaway connect";
/// Before a line that stood where ours stand.
const WAS: &str = "# was: ";

/// Where our lines go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinePlace {
    /// Behind everything: further members or further items, as the file has them.
    End,
    /// The first items of this member's list.
    Under {
        member: String,
        /// What a new file begins with.
        head: String,
    },
}

/// Adds our lines, in place of what stood between the marks.
pub(super) fn insert(text: &str, place: &LinePlace, block: &str) -> Result<String, FileRefusal> {
    let carriage_returns = super::line_ends(text)?;
    let bare = remove(text)?;
    let before = parse(&bare)?;
    let own = parse(block)?;
    let (written, expected) = match place {
        LinePlace::End => (at_the_end(&bare, block), joined(before, own)?),
        LinePlace::Under { member, head } if blank(&bare) => (
            at_the_end(head, &format!("{member}:\n{}", indented(block, "  "))),
            joined(parse(head)?, object(member, own))?,
        ),
        LinePlace::Under { member, .. } => match before.get(member) {
            None => (
                at_the_end(&bare, &format!("{member}:\n{}", indented(block, "  "))),
                joined(before, object(member, own))?,
            ),
            Some(list) if list.as_array().is_some_and(Vec::is_empty) => {
                let mut expected = before.clone();
                expected[member] = own;
                (in_place_of(&bare, member, block)?, expected)
            }
            Some(list) => {
                let items: Vec<Value> =
                    own.as_array().into_iter().chain(list.as_array()).flatten().cloned().collect();
                let mut expected = before.clone();
                expected[member] = items.into();
                (among(&bare, member, block)?, expected)
            }
        },
    };
    let written = if carriage_returns {
        written.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        written
    };
    if parse(&written)? == expected {
        Ok(written)
    } else {
        Err(FileRefusal::Ambiguous("it is not written in a way that lines can be added to".into()))
    }
}

/// Takes our lines out.
pub(super) fn remove(text: &str) -> Result<String, FileRefusal> {
    let at = |mark: &str| text.lines().position(|line| line.trim() == mark);
    match (at(BEGIN), at(END)) {
        (None, None) => Ok(text.to_owned()),
        (Some(begin), Some(end)) if begin < end => {
            let kept = |(number, line): (usize, &'_ str)| {
                if (begin..=end).contains(&number) {
                    line.strip_prefix(WAS).map(str::to_owned)
                } else {
                    Some(line.to_owned())
                }
            };
            Ok(text.split_inclusive('\n').enumerate().filter_map(kept).collect())
        }
        _ => Err(FileRefusal::Ambiguous("one of our two marks is missing".into())),
    }
}

fn marked(block: &str, indent: &str) -> String {
    indented(&format!("{BEGIN}\n{}\n{END}\n", block.trim_end()), indent)
}

fn indented(block: &str, indent: &str) -> String {
    block.lines().map(|line| format!("{indent}{line}\n")).collect()
}

fn at_the_end(text: &str, block: &str) -> String {
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{gap}{}", marked(block, ""))
}

/// In place of a member's line, which is kept between the marks and comes back with them gone.
fn in_place_of(text: &str, member: &str, block: &str) -> Result<String, FileRefusal> {
    let heads = |line: &&str| line.strip_prefix(member).is_some_and(|rest| rest.starts_with(':'));
    let line = text.lines().find(heads).filter(|line| line.contains("[]")).ok_or_else(|| {
        FileRefusal::Ambiguous(format!("`{member}` is not a list on a line of its own"))
    })?;
    let own = marked(&format!("{WAS}{line}\n{member}:\n{}", indented(block, "  ")), "");
    Ok(text
        .split_inclusive('\n')
        .map(|one| if one.trim_end() == line.trim_end() { own.clone() } else { one.to_owned() })
        .collect())
}

/// Right behind the line of the member whose list it is.
fn among(text: &str, member: &str, block: &str) -> Result<String, FileRefusal> {
    let unclear = || {
        FileRefusal::Ambiguous(format!(
            "`{member}` is not a list with a line for each item's beginning"
        ))
    };
    let heads = |line: &str| {
        line.strip_prefix(member)
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#'))
    };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let head = lines.iter().position(|line| heads(line)).ok_or_else(unclear)?;
    let first = lines[head + 1..]
        .iter()
        .find(|line| !blank(line) && !line.trim_start().starts_with('#'))
        .ok_or_else(unclear)?;
    let item = first.trim_start_matches(' ');
    if !item.starts_with("- ") && item.trim_end() != "-" {
        return Err(unclear());
    }
    let own = marked(block, &first[..first.len() - item.len()]);
    Ok(format!("{}{own}{}", lines[..=head].concat(), lines[head + 1..].concat()))
}

fn blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn object(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

/// What two halves of a file are together.
fn joined(before: Value, own: Value) -> Result<Value, FileRefusal> {
    match (before, own) {
        (Value::Null, own) => Ok(own),
        (Value::Object(mut before), Value::Object(own)) => {
            for (key, value) in own {
                if before.insert(key.clone(), value).is_some() {
                    return Err(FileRefusal::Taken(key));
                }
            }
            Ok(before.into())
        }
        (Value::Array(mut before), Value::Array(own)) => {
            before.extend(own);
            Ok(before.into())
        }
        _ => Err(FileRefusal::Malformed("it holds something else than it should".into())),
    }
}

fn parse(text: &str) -> Result<Value, FileRefusal> {
    if text.lines().all(|line| blank(line) || line.trim_start().starts_with('#')) {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str(text).map_err(|error| {
        FileRefusal::Malformed(error.to_string().lines().next().unwrap_or_default().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> LinePlace {
        LinePlace::Under { member: "models".into(), head: "name: Local\n".into() }
    }

    #[track_caller]
    fn check(place: &LinePlace, text: &str, block: &str, expect: &str) {
        let after = insert(text, place, block).unwrap();
        let expect = expect
            .replace('(', &format!("{BEGIN}\n"))
            .replace(')', &format!("{END}\n"))
            .replace("[[", &format!("  {BEGIN}\n"))
            .replace("]]", &format!("  {END}\n"));
        assert_eq!(after, expect);
        assert_eq!(insert(&after, place, block).unwrap(), after);
        assert_eq!(remove(&after).unwrap().trim_end(), text.trim_end());
    }

    #[test]
    fn members_and_items_go_to_the_end() {
        check(&LinePlace::End, "", "a: 1", "(a: 1\n)");
        check(&LinePlace::End, "# mine\nb: 2", "a: 1", "# mine\nb: 2\n(a: 1\n)");
        check(&LinePlace::End, "- x: 1\n", "- y: 2\n", "- x: 1\n(- y: 2\n)");
    }

    #[test]
    fn items_go_in_front_of_those_that_are_there() {
        check(
            &models(),
            "a: 1\nmodels: # mine\n\n  - name: x\n    b: 2\nc: 3\n",
            "- name: s\n  d: 4",
            "a: 1\nmodels: # mine\n[[  - name: s\n    d: 4\n]]\n  - name: x\n    b: 2\nc: 3\n",
        );
        check(&models(), "models:\n- name: x\n", "- name: s", "models:\n(- name: s\n)- name: x\n");
        check(&models(), "a: 1\n", "- name: s", "a: 1\n(models:\n  - name: s\n)");
        check(
            &models(),
            "a: 1\nmodels: []\nc: 3\n",
            "- name: s",
            "a: 1\n(# was: models: []\nmodels:\n  - name: s\n)c: 3\n",
        );
        assert_eq!(
            insert("", &models(), "- name: s").unwrap(),
            format!("name: Local\n{BEGIN}\nmodels:\n  - name: s\n{END}\n")
        );
    }

    #[test]
    fn what_cannot_be_added_to_is_refused() {
        for (place, text, block) in [
            (LinePlace::End, "a: 2\n", "a: 1"),
            (LinePlace::End, "- x\n", "a: 1"),
            (LinePlace::End, "{b: 1}\n", "a: 1"),
            (LinePlace::End, "a: [\n", "b: 1"),
            (LinePlace::End, "b: |\n  text\n---\nc: 1\n", "a: 1"),
            (models(), "models: [{name: x}]\n", "- name: s"),
            (models(), "models: 7\n", "- name: s"),
            (models(), "x: |\n models:\n - y\nmodels:\n  x: 1\n", "- name: s"),
        ] {
            assert!(
                insert(text, &place, block).is_err(),
                "{text}: {:?}",
                insert(text, &place, block)
            );
        }
        assert!(remove(&format!("{BEGIN}\na: 1\n")).is_err());
    }
}
