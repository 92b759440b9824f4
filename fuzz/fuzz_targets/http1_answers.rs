//! The property itself is in `seaway_http1::properties`, where plain tests run it too.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| seaway_http1::properties::responses(input));
