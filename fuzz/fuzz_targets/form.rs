#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/form.rs"]
mod form;

const BOUND: bounded::Bound = bounded::Bound { floor: 64 << 10, per_byte: 96 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(&BOUND, form::run, data));
