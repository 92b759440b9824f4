//! The turns of a conversation: what they hold, and how calls and results pair.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::Checked;

pub(super) fn check(request: &Value) -> Checked {
    let messages = match &request["messages"] {
        Value::Null => return Err("messages: Field required".into()),
        Value::Array(messages) if messages.is_empty() => {
            return Err("messages: at least one message is required".into());
        }
        Value::Array(messages) => messages,
        _ => return Err("messages: Input should be a valid list".into()),
    };
    messages.iter().enumerate().try_for_each(|(index, message)| turn(message, index))?;
    for (index, message) in messages.iter().enumerate() {
        paired(messages, index, message)?;
    }
    let last = messages.last().filter(|last| last["role"] == "assistant");
    let ends = last.and_then(|last| {
        last["content"].as_str().or_else(|| last["content"].as_array()?.last()?["text"].as_str())
    });
    if ends.is_some_and(|text| text.ends_with(char::is_whitespace)) {
        return Err("messages: final assistant content cannot end with trailing whitespace".into());
    }
    Ok(())
}

fn turn(message: &Value, index: usize) -> Checked {
    if !message.is_object() {
        return Err(format!("messages.{index}: Input should be a valid dictionary").into());
    }
    if !matches!(message["role"].as_str(), Some("user" | "assistant" | "system")) {
        return Err(format!("messages.{index}.role: Input should be 'user' or 'assistant'").into());
    }
    match &message["content"] {
        Value::Null => Err(format!("messages.{index}.content: Field required").into()),
        Value::String(_) => Ok(()),
        Value::Array(blocks) => blocks.iter().enumerate().try_for_each(|(place, block)| {
            self::block(block, &format!("messages.{index}.content.{place}"))
        }),
        _ => {
            Err(format!("messages.{index}.content: Input should be a valid string or list").into())
        }
    }
}

fn block(block: &Value, path: &str) -> Checked {
    match &block["type"] {
        Value::String(_) => {}
        _ if block.is_object() => return Err(format!("{path}.type: Field required").into()),
        _ => return Err(format!("{path}: Input should be a valid dictionary").into()),
    }
    match block["type"].as_str() {
        Some("text") if block["text"].as_str() == Some("") => {
            Err("messages: text content blocks must be non-empty".into())
        }
        Some("image") => picture(block, path),
        Some("tool_result") => {
            let parts = block["content"].as_array().into_iter().flatten().enumerate();
            parts
                .filter(|(_, part)| part["type"] == "image")
                .try_for_each(|(place, part)| picture(part, &format!("{path}.content.{place}")))
        }
        _ => Ok(()),
    }
}

/// A picture's label has to be true.
fn picture(block: &Value, path: &str) -> Checked {
    let source = &block["source"];
    let (Some(label), Some(data)) = (source["media_type"].as_str(), source["data"].as_str()) else {
        return Ok(());
    };
    if !matches!(label, "image/jpeg" | "image/png" | "image/gif" | "image/webp") {
        return Err(format!("{path}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'").into());
    }
    let beginning =
        data.get(..16).and_then(|data| BASE64_STANDARD.decode(data).ok()).unwrap_or_default();
    let seen = match beginning.as_slice() {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => "image/webp",
        _ => return Ok(()),
    };
    if seen != label {
        return Err(format!("{path}.image.source.base64: The image was specified using the {label} media type, but the image appears to be a {seen} image").into());
    }
    Ok(())
}

fn ids<'v>(message: Option<&'v Value>, kind: &'v str, key: &'v str) -> Vec<&'v str> {
    let blocks = message.and_then(|message| message["content"].as_array()).into_iter().flatten();
    blocks.filter(|block| block["type"] == kind).filter_map(|block| block[key].as_str()).collect()
}

fn paired(messages: &[Value], index: usize, message: &Value) -> Checked {
    if message["role"] == "assistant" {
        let results = ids(messages.get(index + 1), "tool_result", "tool_use_id");
        let open: Vec<&str> = ids(Some(message), "tool_use", "id")
            .into_iter()
            .filter(|id| !results.contains(id))
            .collect();
        if !open.is_empty() {
            let ids = open.join(", ");
            return Err(format!(
                "messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
            )
            .into());
        }
    }
    let before = index.checked_sub(1).and_then(|before| messages.get(before));
    let calls = ids(before, "tool_use", "id");
    match ids(Some(message), "tool_result", "tool_use_id").into_iter().find(|id| !calls.contains(id)) {
        Some(id) => Err(format!(
            "messages.{index}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
        )
        .into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::refused;

    #[test]
    fn calls_and_results_pair() {
        const SOURCE: &str =
            "the API's words, quoted in reports against LiteLLM, LangChain and others";
        let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]});
        let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r"}]});
        let ask = json!({"role": "user", "content": "x"});
        refused(&json!({"messages": [ask, call, result]}), "", SOURCE);
        refused(
            &json!({"messages": [ask, call, ask]}),
            "`tool_use` ids were found without `tool_result` blocks immediately after: t1",
            SOURCE,
        );
        refused(
            &json!({"messages": [ask, result]}),
            "unexpected `tool_use_id` found in `tool_result` blocks: t1",
            SOURCE,
        );
    }

    #[test]
    fn texts_say_something() {
        const SOURCE: &str = "the API's words, quoted in reports";
        refused(
            &json!({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
            "text content blocks must be non-empty",
            SOURCE,
        );
        let prefill = |text: &str| json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": text}]});
        refused(
            &prefill("a "),
            "final assistant content cannot end with trailing whitespace",
            SOURCE,
        );
        refused(&prefill("a"), "", SOURCE);
    }

    #[test]
    fn a_pictures_label_is_true() {
        const SOURCE: &str =
            "the API's words, quoted in reports of clients that label every picture as JPEG";
        let picture = |label: &str| json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": label, "data": "iVBORw0KGgoAAAANSUhEUg=="}}]}]});
        refused(&picture("image/png"), "", SOURCE);
        refused(
            &picture("image/jpeg"),
            "The image was specified using the image/jpeg media type, but the image appears to be a image/png image",
            SOURCE,
        );
        refused(&picture("image/svg+xml"), "media_type: Input should be", SOURCE);
    }
}
