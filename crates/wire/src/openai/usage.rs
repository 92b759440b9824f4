//! Token counts as OpenAI's dialects give them: cached tokens are part of the prompt there.

use std::fmt::Write;

use crate::Usage;

/// What a dialect calls its counts.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    pub input: &'static str,
    pub output: &'static str,
}

pub const CHAT: Words = Words { input: "prompt", output: "completion" };

/// Writes a `usage` object.
pub fn write(out: &mut String, usage: &Usage, words: Words) {
    let Words { input, output } = words;
    let prompt = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
    let total = prompt.saturating_add(usage.output);
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "{{\"{input}_tokens\":{prompt},\"{output}_tokens\":{completion},\"total_tokens\":{total},\"{input}_tokens_details\":{{\"cached_tokens\":{read},\"cache_write_tokens\":{written}}},\"{output}_tokens_details\":{{\"reasoning_tokens\":{thinking}}}}}",
        completion = usage.output,
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
        write(&mut out, &Usage { input: 1, output: 2, cache_read: 30, cache_write: 400, cache_write_1h: 0, thinking: 1 }, CHAT);
        assert_eq!(
            out,
            r#"{"prompt_tokens":431,"completion_tokens":2,"total_tokens":433,"prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":400},"completion_tokens_details":{"reasoning_tokens":1}}"#
        );
    }
}
