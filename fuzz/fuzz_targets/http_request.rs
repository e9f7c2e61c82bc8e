#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/http_request.rs"]
mod http_request;

const BOUND: bounded::Bound = bounded::Bound { floor: 64 << 10, per_byte: 16 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, http_request::run, data));
