//! Counting: tokens from text, and what a prompt cache would have held.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// How many prompt prefixes are remembered.
const REMEMBERED: usize = 4096;

/// Counts the tokens of a text: four characters make one.
pub(super) fn of_text(text: &str) -> u64 {
    let characters = text.chars().count();
    u64::try_from(characters.div_ceil(4)).unwrap_or(u64::MAX)
}

/// Counts the tokens that a whole request would send.
pub(super) fn of_request(request: &Value) -> u64 {
    segments(request).iter().map(|segment| of_text(&segment.text)).sum()
}

/// The input tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct InputCount {
    pub fresh: u64,
    pub read: u64,
    pub written: u64,
}

/// The prefixes that earlier requests marked with `cache_control`.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<CachedPrefix>);

#[derive(Debug, Default)]
struct CachedPrefix {
    prefixes: HashSet<u64>,
    order: VecDeque<u64>,
}

struct Segment {
    text: String,
    marked: bool,
}

impl Cache {
    /// Counts a request and remembers the prefixes it marks.
    pub(super) fn count(&self, request: &Value) -> InputCount {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = segments(request);
        let mut hasher = DefaultHasher::new();
        let (mut tokens, mut read, mut marked) = (0, 0, 0);
        for segment in &segments {
            segment.text.hash(&mut hasher);
            tokens += of_text(&segment.text);
            let prefix = hasher.finish();
            if known.prefixes.contains(&prefix) {
                read = tokens;
            }
            if segment.marked {
                marked = tokens;
                known.remember(prefix);
            }
        }
        // A prefix is only looked up for requests that mark one.
        let read = read.min(marked);
        InputCount { fresh: tokens - marked.max(read), read, written: marked - read }
    }
}

impl CachedPrefix {
    fn remember(&mut self, prefix: u64) {
        if self.prefixes.insert(prefix) {
            self.order.push_back(prefix);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.prefixes.remove(&oldest);
        }
    }
}

/// The prompt in the order in which it is cached: tools, system, messages.
fn segments(request: &Value) -> Vec<Segment> {
    let mut segments = Vec::new();
    for key in ["tools", "system"] {
        add(&mut segments, &request[key], "");
    }
    for message in request["messages"].as_array().map(Vec::as_slice).unwrap_or_default() {
        add(&mut segments, &message["content"], message["role"].as_str().unwrap_or_default());
    }
    // The API leaves this block out of its cache when it comes first and alone.
    segments.retain(|segment| !segment.text.contains("x-anthropic-billing-header:"));
    segments
}

fn add(segments: &mut Vec<Segment>, content: &Value, role: &str) {
    match content {
        Value::String(text) => {
            segments.push(Segment { text: format!("{role}{text}"), marked: false });
        }
        Value::Array(blocks) => segments.extend(blocks.iter().map(|block| segment(block, role))),
        _ => {}
    }
}

fn segment(block: &Value, role: &str) -> Segment {
    let mut block = block.clone();
    let marked = block
        .as_object_mut()
        .and_then(|block| block.remove("cache_control"))
        .is_some_and(|mark| !mark.is_null());
    // A text block and the same text as a string are one prompt.
    let text = match (&block["type"], block["text"].as_str()) {
        (kind, Some(text)) if kind == "text" => format!("{role}{text}"),
        _ => format!("{role}{block}"),
    };
    Segment { text, marked }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(turns: &[(&str, bool)]) -> Value {
        let blocks = turns.iter().map(|(text, marked)| {
            let mut block = serde_json::json!({"type": "text", "text": text});
            if *marked {
                block["cache_control"] = serde_json::json!({"type": "ephemeral"});
            }
            block
        });
        serde_json::json!({"messages": [{"role": "", "content": blocks.collect::<Vec<_>>()}]})
    }

    #[test]
    fn a_marked_prefix_is_read_the_next_time() {
        let cache = Cache::default();
        let counted = |fresh, read, written| InputCount { fresh, read, written };
        assert_eq!(cache.count(&request(&[("aaaa", true), ("bbbb", false)])), counted(1, 0, 1));
        assert_eq!(
            cache.count(&request(&[("aaaa", false), ("bbbb", true), ("cccc", false)])),
            counted(1, 1, 1)
        );
        assert_eq!(
            cache.count(&request(&[("aaaa", false), ("bbbb", false), ("cccc", true)])),
            counted(0, 2, 1)
        );
        assert_eq!(cache.count(&request(&[("AAAA", false), ("bbbb", true)])), counted(0, 0, 2));
        assert_eq!(cache.count(&request(&[("aaaa", false)])), counted(1, 0, 0));
    }
}
