#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[allow(dead_code, reason = "its own body is another target's")]
#[path = "../bodies/http_route.rs"]
mod http_route;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/provider.rs"]
mod provider;
#[allow(dead_code, reason = "it reads requests too")]
#[path = "../bodies/strict.rs"]
mod strict;

const BOUND: bounded::Bound = bounded::Bound { floor: 1 << 20, per_byte: 1024 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, provider::run, data));
