//! Values from one codec to the other: MB/s of input by direction and size, beside other libraries.
//!
//! `cargo bench --bench codec`; `-- 0.2` sets the seconds for each line (0.1), a further word chooses
//! directions by their names. Ours and the other one take short turns within one run, and each figure is
//! the best of its turns, so that ratios hold on a busy machine. JSON and msgpack stand beside `serde_json::Value` with `rmpv`; PHP beside `deser-php` into
//! structs, which knows the shape beforehand. Allocations are those of one conversion.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a bench stops where it fails")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use proto_adapters::{Options, Wire, transcode};

/// Fewest turns that ours and the other one take.
const TURNS: u32 = 10;
/// Length of a turn, so short that some are not disturbed.
const TURN: Duration = Duration::from_micros(400);
/// Bytes of JSON, about.
const SIZES: [usize; 5] = [100, 300, 1 << 10, 10 << 10, 1 << 20];

#[derive(deser::Deserialize, deser::Serialize, serde::Deserialize, serde::Serialize)]
struct User {
    id: u64,
    name: String,
    active: bool,
    balance: f64,
    tags: Vec<String>,
    note: Option<String>,
}

type Convert = fn(&[u8]) -> Vec<u8>;

struct Direction {
    name: &'static str,
    from: Wire,
    to: Wire,
    other: Option<(&'static str, Convert)>,
}

const DIRECTIONS: [Direction; 6] = [
    Direction {
        name: "JSON → msgpack",
        from: Wire::Json,
        to: Wire::Msgpack,
        other: Some(("serde_json + rmpv", json_to_msgpack)),
    },
    Direction {
        name: "msgpack → JSON",
        from: Wire::Msgpack,
        to: Wire::Json,
        other: Some(("rmpv + serde_json", msgpack_to_json)),
    },
    Direction {
        name: "JSON → PHP",
        from: Wire::Json,
        to: Wire::Php,
        other: Some(("serde_json + deser-php, typed", json_to_php)),
    },
    Direction {
        name: "PHP → JSON",
        from: Wire::Php,
        to: Wire::Json,
        other: Some(("deser-php + serde_json, typed", php_to_json)),
    },
    Direction { name: "PHP → msgpack", from: Wire::Php, to: Wire::Msgpack, other: None },
    Direction { name: "msgpack → PHP", from: Wire::Msgpack, to: Wire::Php, other: None },
];

fn main() {
    let seconds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(0.1);
    let words =
        std::env::args().skip(1).filter(|word| !word.starts_with('-') && word.parse::<f64>().is_err());
    let words: Vec<_> = words.collect();
    println!(
        "{:16} {:>8} {:>9} {:>6} {:>9} {:>6}  beside",
        "direction", "bytes", "MB/s", "allocs", "other", "ratio"
    );
    for direction in DIRECTIONS {
        if !words.iter().all(|word| direction.name.contains(word)) {
            continue;
        }
        for size in SIZES {
            measure(&direction, &value(size), Duration::from_secs_f64(seconds));
        }
    }
}

fn measure(direction: &Direction, json: &[u8], most: Duration) {
    let Direction { from, to, .. } = *direction;
    let input = convert(Wire::Json, from, json);
    let expected = convert(from, to, &input);
    let ours = || convert(from, to, &input);
    let allocations = allocation_counter::measure(|| drop(black_box(ours()))).count_total;
    let other = direction.other.map(|(name, other)| {
        // keys may stand in another order: what it means is the same
        assert_eq!(other(&input).len(), expected.len(), "{}: {name} says something else", direction.name);
        (name, other)
    });
    let (mut best, mut best_other) = (f64::MAX, f64::MAX);
    let (begun, mut turns) = (Instant::now(), 0);
    while turns < TURNS || begun.elapsed() < most {
        best = best.min(time(ours));
        if let Some((_, other)) = other {
            best_other = best_other.min(time(|| other(&input)));
        }
        turns += 1;
    }
    let speed = |seconds: f64| input.len() as f64 / seconds / 1e6;
    let beside = other.map_or_else(String::new, |(name, _)| {
        format!("{:>9.0} {:>6.2}  {name}", speed(best_other), best_other / best)
    });
    println!("{:16} {:>8} {:>9.0} {allocations:>6} {beside}", direction.name, input.len(), speed(best));
}

/// Seconds of one call, over a turn.
fn time(work: impl Fn() -> Vec<u8>) -> f64 {
    let (begun, mut calls) = (Instant::now(), 0_u32);
    loop {
        black_box(work());
        calls += 1;
        let spent = begun.elapsed();
        if spent >= TURN {
            return spent.as_secs_f64() / f64::from(calls);
        }
    }
}

fn convert(from: Wire, to: Wire, value: &[u8]) -> Vec<u8> {
    if from == to {
        return value.to_vec();
    }
    transcode(from, to, value, "$", Options::default()).unwrap()
}

/// Users in a list, about so many bytes of JSON.
fn value(size: usize) -> Vec<u8> {
    let user = |id: u64| User {
        id: id * 7_919,
        name: format!("Grüße, user {id}"),
        active: id.is_multiple_of(2),
        balance: id as f64 * 1.25 + 0.5,
        tags: vec!["php".into(), "yar".into()],
        note: id.is_multiple_of(3).then(|| "calls often, \"quotes\" sometimes".into()),
    };
    let one = serde_json::to_vec(&user(1)).unwrap().len();
    let users: Vec<_> = (1..=(size / one).max(1) as u64).map(user).collect();
    serde_json::to_vec(&users).unwrap()
}

fn json_to_msgpack(json: &[u8]) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap();
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &rmpv::ext::to_value(&value).unwrap()).unwrap();
    bytes
}

fn msgpack_to_json(mut msgpack: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&rmpv::decode::read_value(&mut msgpack).unwrap()).unwrap()
}

fn json_to_php(json: &[u8]) -> Vec<u8> {
    deser_php::to_vec(&serde_json::from_slice::<Vec<User>>(json).unwrap()).unwrap()
}

fn php_to_json(php: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&deser_php::from_slice::<Vec<User>>(php).unwrap()).unwrap()
}
