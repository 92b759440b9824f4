//! What must hold for any input: run by the fuzz targets, and by plain tests on the corpus.
//!
//! Each panics if its property does not hold.

mod chat;
mod claude_code;
mod responses;
mod taken;

use bytes::Bytes;

pub use chat::{chat_prefix, chat_request, chat_stream};
pub use claude_code::{claude_ask, claude_turn};
pub use responses::{responses_again, responses_request, responses_stream};

use crate::event::FromSse;
use crate::json::{Patch, RawObject};
use crate::messages::{Edits, Fold, Suffix};
use crate::relay::Relay;
use crate::sse::EventDecoder;
use crate::stage::{End, Out};
use crate::{Dialect, Meter, Request};

/// The largest event in these properties.
const LIMIT: usize = 1 << 16;

/// Where the network cuts does not matter to the decoder.
pub fn sse(input: &[u8]) {
    let whole = decode(input, input.len().max(1));
    for size in [1, 2, 3, 7] {
        assert_eq!(whole, decode(input, size), "in pieces of {size} bytes");
    }
    relay(input);
}

fn decode(input: &[u8], size: usize) -> Vec<(Option<String>, Vec<u8>)> {
    let mut decoder = EventDecoder::with_limit(LIMIT);
    let mut seen = Vec::new();
    for piece in input.chunks(size) {
        let mut events = decoder.read(piece);
        while let Ok(Some(event)) = events.next() {
            seen.push((event.name.map(str::to_owned), event.data.to_vec()));
        }
    }
    seen
}

/// The relay writes what it read.
fn relay(input: &[u8]) {
    let mut relay = Relay::new(Meter::for_events(Dialect::Messages));
    let mut out = Out::new();
    for piece in input.chunks(5) {
        relay.push(Bytes::copy_from_slice(piece), &mut out);
    }
    relay.finish(End::Complete);
    assert_eq!(out.iter().flat_map(|frame| frame.iter().copied()).collect::<Vec<u8>>(), input);
}

/// Edits leave JSON where there was JSON, and the same JSON every time.
pub fn raw_object(input: &[u8]) {
    let strict = serde_json::from_slice::<crate::json::Members>(input).is_ok();
    let Ok(object) = RawObject::parse(input) else { return };
    let mut patch = Patch::new(object.source());
    let keys: Vec<String> = object.keys().map(str::to_owned).collect();
    let gone: Vec<&str> = keys.iter().step_by(2).map(String::as_str).collect();
    patch.members(&object, &gone, &[("new member", "1")]);
    let edited = patch.apply();
    if strict {
        let members: crate::json::Members =
            serde_json::from_str(&edited).expect("an edited object is JSON");
        assert_eq!(members.get("new member"), Some("1"));
    }
    edits(input, strict);
}

fn edits(input: &[u8], strict: bool) {
    let Ok(request) = Request::parse(input) else { return };
    let suffix = Suffix { name: "s".into(), plain: Some("\"x\n".into()), thinking: None };
    let edits = Edits {
        model: Some(("alias".into(), "m".into())),
        drop: vec!["metadata".into()],
        set: vec![("set".into(), "top_k".into(), "1".into())],
        system: vec![("prefix".into(), "P".into())],
        suffix: Some(suffix),
        strip_cache_ttl: true,
        one_sampling_param: true,
        drop_strict_tools: true,
        force_stream: true,
    };
    let first = edits.apply(&request).body;
    assert_eq!(first, edits.apply(&request).body, "a retry must send the same bytes");
    if let Some(body) = first.filter(|_| strict) {
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok(), "{body}");
    }
}

/// Where the network cuts does not matter to the fold, and what it writes is JSON.
pub fn fold(input: &[u8]) {
    let whole = folded(input, input.len().max(1));
    for size in [1, 3, 11] {
        assert_eq!(whole, folded(input, size), "in pieces of {size} bytes");
    }
    if let Ok(body) = whole {
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok(), "{body}");
    }
}

fn folded(input: &[u8], size: usize) -> Result<String, String> {
    let mut fold = FromSse::<Fold>::default();
    input.chunks(size).for_each(|piece| fold.push(piece));
    fold.into_sink().finish().map(|folded| folded.body).map_err(|error| error.to_string())
}
