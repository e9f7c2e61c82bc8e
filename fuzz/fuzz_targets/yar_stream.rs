#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/yar_stream.rs"]
mod yar_stream;

const BOUND: bounded::Bound = bounded::Bound { floor: 64 << 10, per_byte: 16 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, yar_stream::run, data));
