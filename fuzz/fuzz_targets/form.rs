#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/form.rs"]
mod form;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(form::run, data));
