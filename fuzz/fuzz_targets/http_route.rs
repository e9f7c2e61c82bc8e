#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/http_route.rs"]
mod http_route;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/strict.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(http_route::run, data));
