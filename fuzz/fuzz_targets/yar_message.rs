#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/yar_message.rs"]
mod yar_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(yar_message::run, data));
