#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/traceparent.rs"]
mod traceparent;

const BOUND: bounded::Bound = bounded::Bound { floor: 1 << 14, per_byte: 64 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, traceparent::run, data));
