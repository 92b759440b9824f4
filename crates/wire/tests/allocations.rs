//! What an answer on its way costs in allocations, counted.

use bytes::Bytes;
use seaway_wire::chat::{ChatShape, ChatStamp, ChatStream};
use seaway_wire::event::FromSse;
use seaway_wire::stage::Out;
use seaway_wire::{Dialect, Meter, Relay};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const FRAMES: u64 = 1000;

/// How many allocations a call makes.
fn allocations(mut call: impl FnMut()) -> u64 {
    let before = dhat::HeapStats::get().total_blocks;
    call();
    dhat::HeapStats::get().total_blocks - before
}

/// One test, since the allocator counts for the whole process.
#[test]
fn a_relayed_frame_costs_no_allocation_and_a_translated_one_few() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let start = Bytes::from_static(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-x\",\"content\":[],\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n");
    let block = Bytes::from_static(b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    let delta = Bytes::from_static("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"gr\u{fc}\u{df} dich\"}}\n\n".as_bytes());

    let (mut relay, mut out) = (Relay::new(Meter::for_events(Dialect::Messages)), Out::new());
    for frame in [&start, &block, &delta] {
        relay.push(frame.clone(), &mut out);
        out.clear();
    }
    let relayed = allocations(|| {
        for _ in 0..FRAMES {
            relay.push(delta.clone(), &mut out);
            assert_eq!(out.pop_front().as_ref(), Some(&delta), "byte for byte");
        }
    });
    assert_eq!(relayed, 0, "in {FRAMES} frames");

    let stamp = ChatStamp { id: "id".into(), created: 1 };
    let mut stream = FromSse::new(ChatStream::new(ChatShape::default(), stamp));
    for frame in [&start, &block, &delta] {
        stream.translate(frame, &mut out);
        out.clear();
    }
    let translated = allocations(|| {
        for _ in 0..FRAMES {
            stream.translate(&delta, &mut out);
            assert_eq!(out.pop_front().map(|chunk| chunk.ends_with(b"\n\n")), Some(true));
        }
    });
    assert!(translated <= 2 * FRAMES, "{translated} in {FRAMES} frames");
}
