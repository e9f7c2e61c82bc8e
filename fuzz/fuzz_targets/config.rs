#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/config.rs"]
mod config;
#[path = "../bodies/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(config::run, data));
