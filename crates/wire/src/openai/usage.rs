//! Token counts as OpenAI gives them: cached tokens are part of the prompt there.

use std::fmt::Write;

use crate::Usage;

/// Writes a `usage` object.
pub(crate) fn write(out: &mut String, usage: &Usage) {
    let prompt = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
    let total = prompt.saturating_add(usage.output);
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total},\"prompt_tokens_details\":{{\"cached_tokens\":{read},\"cache_write_tokens\":{written}}},\"completion_tokens_details\":{{\"reasoning_tokens\":{thinking}}}}}",
        completion = usage.output,
        read = usage.cache_read,
        written = usage.cache_write,
        thinking = usage.thinking,
    );
}

/// Writes a `usage` object as Responses has it.
pub(crate) fn write_responses(out: &mut String, usage: &Usage) {
    let prompt = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
    let total = prompt.saturating_add(usage.output);
    let _ = write!(
        out,
        "{{\"input_tokens\":{prompt},\"input_tokens_details\":{{\"cached_tokens\":{read},\"cache_write_tokens\":{written}}},\"output_tokens\":{output},\"output_tokens_details\":{{\"reasoning_tokens\":{thinking}}},\"total_tokens\":{total}}}",
        output = usage.output,
        read = usage.cache_read,
        written = usage.cache_write,
        thinking = usage.thinking,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_are_part_of_the_prompt() {
        let mut out = String::new();
        write(
            &mut out,
            &Usage {
                input: 1,
                output: 2,
                cache_read: 30,
                cache_write: 400,
                cache_write_1h: 0,
                thinking: 1,
                ..Usage::default()
            },
        );
        assert_eq!(
            out,
            r#"{"prompt_tokens":431,"completion_tokens":2,"total_tokens":433,"prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":400},"completion_tokens_details":{"reasoning_tokens":1}}"#
        );
    }
}
