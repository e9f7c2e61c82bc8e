#![no_main]

#[path = "../bodies/yar_message.rs"]
mod yar_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| yar_message::run(data));
