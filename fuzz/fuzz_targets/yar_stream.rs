#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/yar_stream.rs"]
mod yar_stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(yar_stream::run, data));
