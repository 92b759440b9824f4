//! Tool arguments that the answer's end cut off.

/// Returns the longest JSON value that a cut-off text surely says.
///
/// Members and elements that had not ended are left out, as the SDKs' own stream
/// accumulators do. `None` if not even the outermost bracket had come.
pub(super) fn complete(text: &str) -> Option<String> {
    let mut closers = Vec::new();
    // How much of the text is sure, and what closes it there.
    let mut sure: Option<(usize, String)> = None;
    let mut chars = text.char_indices().peekable();
    let mut value_may_begin = true;
    let mark = |at: usize, closers: &[char]| Some((at, closers.iter().rev().collect::<String>()));
    while let Some((at, c)) = chars.next() {
        match c {
            '{' | '[' => {
                closers.push(if c == '{' { '}' } else { ']' });
                value_may_begin = c == '[';
                sure = mark(at + 1, &closers);
            }
            '}' | ']' => {
                closers.pop()?;
                value_may_begin = false;
                sure = mark(at + 1, &closers);
            }
            ':' => value_may_begin = true,
            ',' => value_may_begin = closers.last() == Some(&']'),
            '"' => {
                let Some(end) = string_end(text, at) else { break };
                while chars.next_if(|(next, _)| *next < end).is_some() {}
                if value_may_begin {
                    sure = mark(end, &closers);
                    value_may_begin = false;
                }
            }
            c if c.is_whitespace() => {}
            _ => {
                let end = text[at..].find([',', '}', ']']).map(|length| at + length);
                // Without its end a number may have had more digits.
                let Some(end) = end else { break };
                while chars.next_if(|(next, _)| *next < end).is_some() {}
                sure = mark(end, &closers);
                value_may_begin = false;
            }
        }
    }
    let (end, closers) = sure?;
    let value = format!("{}{closers}", &text[..end]);
    serde_json::from_str::<serde::de::IgnoredAny>(&value).is_ok().then_some(value)
}

/// Where the string that opens at `at` ends, past its quote.
fn string_end(text: &str, at: usize) -> Option<usize> {
    let mut escaped = false;
    for (offset, byte) in text.as_bytes().get(at + 1..)?.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1 + offset + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[track_caller]
    fn check(text: &str, expect: Option<&str>) {
        assert_eq!(complete(text).as_deref(), expect, "{text}");
    }

    #[test]
    fn what_had_ended_is_kept() {
        check("", None);
        check("{", Some("{}"));
        check(r#"{"a"#, Some("{}"));
        check(r#"{"a":"#, Some("{}"));
        check(r#"{"a":"b"#, Some("{}"));
        check(r#"{"a":"b""#, Some(r#"{"a":"b"}"#));
        check(r#"{"a":"b","c":12"#, Some(r#"{"a":"b"}"#));
        check(r#"{"a":"\"}","c":12,"d"#, Some(r#"{"a":"\"}","c":12}"#));
        check(r#"{"a":[1,{"b":true},"x"#, Some(r#"{"a":[1,{"b":true}]}"#));
        check(r#"{"a": {"b": [ "ü" , nul"#, Some(r#"{"a": {"b": [ "ü"]}}"#));
    }

    #[test]
    fn every_cut_of_a_value_completes_to_json() {
        let text =
            r#"{"ü": [1, -2.5e3, "a\"\\", {"k": null}], "b": {"c": [true, []]}, "d": "x,}]"}"#;
        for (at, _) in text.char_indices().skip(1) {
            assert!(complete(&text[..at]).is_some(), "cut at {at}");
        }
    }
}
