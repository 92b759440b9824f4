//! Speed and allocations of the machines that every byte passes.
//!
//! `cargo bench -p seaway-wire`. The relay allocates nothing per frame: see the counts
//! under `relay`, which are those of its queue and its decoder, once a stream.

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use seaway_wire::Request;
use seaway_wire::json::RawObject;
use seaway_wire::messages::{Edits, Fold, Meter};
use seaway_wire::stage::{End, Out, Relay, Stage};

#[global_allocator]
static ALLOC: AllocProfiler<std::alloc::System> = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A stream of `count` deltas, a frame each.
fn frames(count: usize) -> Vec<Bytes> {
    let mut frames = vec![event(r#"{"type":"message_start","message":{"model":"m","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#)];
    frames.push(event(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#));
    let delta = event(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a few words of text"}}"#);
    frames.extend(std::iter::repeat_n(delta, count));
    frames.push(event(r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#));
    frames.push(event(r#"{"type":"message_stop"}"#));
    frames
}

fn event(data: &str) -> Bytes {
    Bytes::from(format!("event: content_block_delta\ndata: {data}\n\n"))
}

/// A request of about 200 KB, half of it code.
fn request() -> String {
    let code = include_str!("wire.rs").repeat(4);
    let turns: Vec<serde_json::Value> =
        (0..14).map(|turn| serde_json::json!({"role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": [{"type": "text", "text": code}]})).collect();
    serde_json::json!({"model": "m", "max_tokens": 9, "stream": true, "system": code, "messages": turns}).to_string()
}

#[divan::bench(args = [10, 100, 1000])]
fn relay(bencher: Bencher<'_, '_>, count: usize) {
    let frames = frames(count);
    bencher.counter(BytesCount::new(frames.iter().map(Bytes::len).sum::<usize>())).bench_local(|| {
        let mut relay = Relay::new(Meter::for_events());
        let mut out = Out::new();
        for frame in &frames {
            relay.push(frame.clone(), &mut out);
            black_box(out.pop_front());
        }
        relay.finish(End::Complete, &mut out)
    });
}

#[divan::bench(args = [10, 100, 1000])]
fn fold(bencher: Bencher<'_, '_>, count: usize) {
    let frames = frames(count);
    bencher.counter(BytesCount::new(frames.iter().map(Bytes::len).sum::<usize>())).bench_local(|| {
        let mut fold = Fold::default();
        for frame in &frames {
            fold.push(frame);
        }
        fold.finish().map(|folded| folded.body)
    });
}

#[divan::bench]
fn look_at_a_request(bencher: Bencher<'_, '_>) {
    let body = request();
    bencher.counter(BytesCount::of_str(&body)).bench(|| RawObject::parse(black_box(body.as_bytes())).is_ok());
}

#[divan::bench]
fn edit_a_request(bencher: Bencher<'_, '_>) {
    let body = request();
    let edits = Edits { model: Some(("alias".into(), "other".into())), strip_cache_ttl: true, ..Edits::default() };
    bencher.counter(BytesCount::of_str(&body)).bench(|| Request::parse(black_box(body.as_bytes())).map(|request| edits.apply(&request).body));
}
