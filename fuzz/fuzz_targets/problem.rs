#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/problem.rs"]
mod problem;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(problem::run, data));
