#![no_main]

use proto_adapters::Wire;

#[path = "../bounded.rs"]
mod bounded;
#[path = "../bodies/crossing.rs"]
mod crossing;

const BOUND: bounded::Bound = bounded::Bound { floor: 64 << 10, per_byte: 32 };

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::run(
    &BOUND,
    |data| crossing::run(Wire::Json, Wire::Msgpack, data),
    data
));
