#![no_main]

use proto_adapters::Wire;

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/crossing.rs"]
mod crossing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(
    |data| crossing::run(Wire::Msgpack, Wire::Json, data),
    data
));
