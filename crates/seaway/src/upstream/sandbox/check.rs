//! What the API refuses, the simulated upstream refuses too, in like words.

use serde_json::Value;

/// Checks a request to create a message.
pub(super) fn message(request: &Value) -> Result<(), String> {
    conversation(request)?;
    match &request["max_tokens"] {
        Value::Null => Err("max_tokens: Field required".into()),
        value if value.as_u64().is_some_and(|tokens| tokens >= 1) => Ok(()),
        _ => Err("max_tokens: Input should be a valid integer greater than or equal to 1".into()),
    }
}

/// Checks what a token count needs as well.
pub(super) fn conversation(request: &Value) -> Result<(), String> {
    match &request["model"] {
        Value::Null => return Err("model: Field required".into()),
        Value::String(model) if !model.is_empty() => {}
        _ => return Err("model: Input should be a valid string".into()),
    }
    let messages = match &request["messages"] {
        Value::Null => return Err("messages: Field required".into()),
        Value::Array(messages) if messages.is_empty() => return Err("messages: at least one message is required".into()),
        Value::Array(messages) => messages,
        _ => return Err("messages: Input should be a valid list".into()),
    };
    messages.iter().enumerate().try_for_each(|(index, message)| turn(message, index))
}

fn turn(message: &Value, index: usize) -> Result<(), String> {
    if !message.is_object() {
        return Err(format!("messages.{index}: Input should be a valid dictionary"));
    }
    if !matches!(message["role"].as_str(), Some("user" | "assistant" | "system")) {
        return Err(format!("messages.{index}.role: Input should be 'user' or 'assistant'"));
    }
    match &message["content"] {
        Value::Null => Err(format!("messages.{index}.content: Field required")),
        Value::String(_) => Ok(()),
        Value::Array(blocks) => blocks.iter().enumerate().try_for_each(|(place, block)| match &block["type"] {
            Value::String(_) => Ok(()),
            _ if block.is_object() => Err(format!("messages.{index}.content.{place}.type: Field required")),
            _ => Err(format!("messages.{index}.content.{place}: Input should be a valid dictionary")),
        }),
        _ => Err(format!("messages.{index}.content: Input should be a valid string or list")),
    }
}

#[cfg(test)]
mod tests {
    use super::message;

    #[track_caller]
    fn check(request: &str, expect: Result<(), &str>) {
        let request = serde_json::from_str(request).unwrap();
        assert_eq!(message(&request), expect.map_err(str::to_owned), "{request}");
    }

    #[test]
    fn what_the_api_refuses_is_refused() {
        check(r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}"#, Ok(()));
        check(r#"{"model":"m","max_tokens":1,"messages":[{"role":"system","content":[]},{"role":"user","content":[{"type":"new"}]}]}"#, Ok(()));
        check("{}", Err("model: Field required"));
        check(r#"{"model":7}"#, Err("model: Input should be a valid string"));
        check(r#"{"model":"m"}"#, Err("messages: Field required"));
        check(r#"{"model":"m","messages":{}}"#, Err("messages: Input should be a valid list"));
        check(r#"{"model":"m","messages":["x"]}"#, Err("messages.0: Input should be a valid dictionary"));
        check(r#"{"model":"m","messages":[{"role":"user","content":["x"]}]}"#, Err("messages.0.content.0: Input should be a valid dictionary"));
        check(r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#, Err("max_tokens: Field required"));
    }
}
