#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/transfer.rs"]
mod transfer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(transfer::run, data));
