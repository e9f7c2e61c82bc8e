#![no_main]

use proto_adapters::Wire;

#[path = "../bodies/crossing.rs"]
mod crossing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| crossing::run(Wire::Json, Wire::Php, data));
