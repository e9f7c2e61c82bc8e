#![no_main]

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/message.rs"]
mod message;
#[path = "../bodies/registry_file.rs"]
mod registry_file;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(registry_file::run, data));
