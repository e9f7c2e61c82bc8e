#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/znode.rs"]
mod znode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(znode::run, data));
