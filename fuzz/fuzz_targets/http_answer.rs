#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/http_answer.rs"]
mod http_answer;

const BOUND: bounded::Bound = bounded::Bound { floor: 64 << 10, per_byte: 16 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, http_answer::run, data));
