#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/znode.rs"]
mod znode;

const BOUND: bounded::Bound = bounded::Bound { floor: 1 << 20, per_byte: 1024 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, znode::run, data));
