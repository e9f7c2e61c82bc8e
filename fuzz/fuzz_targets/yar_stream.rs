#![no_main]

#[path = "../bodies/yar_stream.rs"]
mod yar_stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| yar_stream::run(data));
