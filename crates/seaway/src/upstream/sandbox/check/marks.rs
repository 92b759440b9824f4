//! Cache marks: how many, on what, and in which order.

use serde_json::Value;

use super::Checked;

/// How many a request may have.
const MOST: usize = 4;

pub(super) fn check(request: &Value) -> Checked {
    let mut marks = Vec::new();
    for key in ["tools", "system"] {
        for (index, block) in request[key].as_array().into_iter().flatten().enumerate() {
            take(block, &format!("{key}.{index}"), &mut marks)?;
        }
    }
    for (index, message) in request["messages"].as_array().into_iter().flatten().enumerate() {
        for (place, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            let path = format!("messages.{index}.content.{place}");
            for (inner, part) in block["content"].as_array().into_iter().flatten().enumerate() {
                take(part, &format!("{path}.content.{inner}"), &mut marks)?;
            }
            take(block, &path, &mut marks)?;
        }
    }
    let count = marks.len() + usize::from(!request["cache_control"].is_null());
    if count > MOST {
        return Err(format!(
            "A maximum of {MOST} blocks with cache_control may be provided. Found {count}."
        )
        .into());
    }
    let short = marks.iter().position(|(_, hour)| !hour).unwrap_or(marks.len());
    match marks.iter().skip(short).find(|(_, hour)| *hour) {
        Some((path, _)) => Err(format!(
            "{path}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
        )
        .into()),
        None => Ok(()),
    }
}

/// Notes a block's mark: where it is, and whether it lives an hour.
fn take(block: &Value, path: &str, marks: &mut Vec<(String, bool)>) -> Checked {
    let mark = &block["cache_control"];
    if mark.is_null() {
        return Ok(());
    }
    if block["type"] == "text" && block["text"].as_str().is_some_and(str::is_empty) {
        return Err(
            format!("{path}.text: cache_control cannot be set for empty text blocks").into()
        );
    }
    marks.push((path.to_owned(), mark["ttl"] == "1h"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::refused;

    const SOURCE: &str = "the API's words, quoted in reports; the rules are at https://platform.claude.com/docs/en/build-with-claude/prompt-caching";

    fn marked(ttls: &[&str]) -> Value {
        let blocks: Vec<Value> = ttls.iter().map(|ttl| json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": ttl}})).collect();
        json!({"messages": [{"role": "user", "content": blocks}]})
    }

    #[test]
    fn marks_are_few_and_in_order() {
        refused(&marked(&["5m"; 4]), "", SOURCE);
        refused(
            &marked(&["5m"; 5]),
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
            SOURCE,
        );
        refused(&marked(&["1h", "5m"]), "", SOURCE);
        refused(
            &marked(&["5m", "1h"]),
            "messages.0.content.1.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m'",
            SOURCE,
        );
        let mut across = marked(&["1h"]);
        across["system"] =
            json!([{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]);
        refused(&across, "must not come after", SOURCE);
    }
}
