#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/yar_message.rs"]
mod yar_message;

const BOUND: bounded::Bound = bounded::Bound { floor: 64 << 10, per_byte: 160 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, yar_message::run, data));
