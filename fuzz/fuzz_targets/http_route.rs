#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/http_route.rs"]
mod http_route;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/strict.rs"]
mod strict;

const BOUND: bounded::Bound = bounded::Bound { floor: 1 << 20, per_byte: 1024 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, http_route::run, data));
