//! The property itself is in `seaway_wire::properties`, where plain tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| seaway_wire::properties::responses_request(input));
