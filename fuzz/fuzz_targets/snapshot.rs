#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/snapshot.rs"]
mod snapshot;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(snapshot::run, data));
