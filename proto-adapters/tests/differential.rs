//! Random values through PHP's own codecs and through ours: same bytes, same values, every way.
//!
//! A failure names its seed: `DIFFERENTIAL_SEED=n cargo test -p proto-adapters --test differential`
//! runs the same values again; `DIFFERENTIAL_VALUES` says how many.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a value that crosses otherwise must stop the test")]

use std::collections::BTreeSet;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::process::{Command, Stdio};

use proto_adapters::{Options, Wire, transcode};

mod dice;
#[path = "differential/random.rs"]
mod random;
#[path = "differential/value.rs"]
mod value;

use dice::Random;
use value::{Key, Value, is_list, read, written};

const WIRES: [(Wire, &str); 3] = [(Wire::Php, "php"), (Wire::Msgpack, "msgpack"), (Wire::Json, "json")];
const REFUSED: u32 = u32::MAX;

/// In the form that the PHP script reads.
fn hand_over(value: &Value, out: &mut Vec<u8>) {
    let sized = |out: &mut Vec<u8>, kind: u8, len: usize| {
        out.push(kind);
        out.extend(u32::try_from(len).unwrap().to_be_bytes());
    };
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(value) => out.push(if *value { b't' } else { b'f' }),
        Value::Int(value) => {
            out.push(b'i');
            out.extend(value.to_be_bytes());
        }
        Value::Float(value) => {
            out.push(b'd');
            out.extend(value.to_be_bytes());
        }
        Value::Str(value) => {
            sized(out, b's', value.len());
            out.extend_from_slice(value);
        }
        Value::Array(entries) => {
            sized(out, b'a', entries.len());
            for (key, value) in entries {
                match key {
                    Key::Int(key) => hand_over(&Value::Int(*key), out),
                    Key::Str(key) => hand_over(&Value::Str(key.clone()), out),
                }
                hand_over(value, out);
            }
        }
    }
}

/// What PHP says of a value: how it packs it, if it does, and which byte strings it unpacks to it.
struct Verdict {
    packed: Option<Vec<u8>>,
    same: Vec<bool>,
}

/// One PHP process for all values, each with byte strings that should unpack to it.
fn ask(codec: &str, precision: &str, asked: &[(&Value, Vec<Vec<u8>>)]) -> Vec<Verdict> {
    let mut input = Vec::new();
    for (value, packed) in asked {
        hand_over(value, &mut input);
        input.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
        for bytes in packed {
            input.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            input.extend_from_slice(bytes);
        }
    }
    let mut php = Command::new("php")
        .args(["-d", "memory_limit=-1", "-d", &format!("serialize_precision={precision}")])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/codec.php"))
        .arg(codec)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("php: {error}; run tests/setup"));
    let mut stdin = php.stdin.take().unwrap();
    stdin.write_all(&input).unwrap();
    drop(stdin);
    let done = php.wait_with_output().unwrap();
    let mut rest = done.stdout.as_slice();
    let verdicts = asked.iter().map(|(_, packed)| verdict(&mut rest, packed.len())).collect();
    assert!(done.status.success() && rest.is_empty(), "php: {}", done.status);
    verdicts
}

fn verdict(rest: &mut &[u8], asked: usize) -> Verdict {
    let mut take = |len: usize| {
        let (taken, left) = rest.split_at_checked(len).unwrap_or_else(|| panic!("php broke off"));
        *rest = left;
        taken
    };
    let length = u32::from_be_bytes(*take(4).first_chunk().unwrap());
    let packed = (length != REFUSED).then(|| take(length as usize).to_vec());
    Verdict { packed, same: take(asked).iter().map(|byte| *byte == b'1').collect() }
}

/// Whether PHP's JSON of it may be spelled otherwise: `1.0e+25` for `1e25`.
fn has_exponent(value: &Value) -> bool {
    match value {
        Value::Float(value) => format!("{value:?}").contains('e') || value.abs() >= 1e15,
        Value::Array(entries) => entries.iter().any(|(_, value)| has_exponent(value)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Str(_) => false,
    }
}

fn check(wire: Wire, value: &Value, verdict: &Verdict, ours: Option<&Vec<u8>>) -> Result<(), String> {
    let (Some(theirs), Some(ours)) = (&verdict.packed, ours) else {
        let agreed = verdict.packed.is_none() && ours.is_none();
        return if agreed { Ok(()) } else { Err(format!("php: {:?}, ours: {ours:?}", verdict.packed)) };
    };
    if (wire != Wire::Json || !has_exponent(value)) && theirs != ours {
        return Err(format!("php: {}\nours: {}", theirs.escape_ascii(), ours.escape_ascii()));
    }
    let seen = read(wire, theirs);
    if seen != *value {
        return Err(format!("php's bytes {} were read as {seen:?}", theirs.escape_ascii()));
    }
    match verdict.same.iter().position(|same| !same) {
        Some(0) => Err(format!("php reads another value from {}", ours.escape_ascii())),
        Some(way) => Err(format!("php reads another value after crossing {way}")),
        None => Ok(()),
    }
}

#[test]
fn every_value_has_phps_bytes_and_crosses_every_way_without_change() {
    let seed = env::var("DIFFERENTIAL_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    let count = env::var("DIFFERENTIAL_VALUES").map_or(10_000, |count| count.parse().unwrap());
    println!("DIFFERENTIAL_SEED={seed}");
    let mut random = Random::new(seed);
    let values: Vec<_> = (0..count).map(|_| random.value(0)).collect();
    for (wire, codec) in WIRES {
        let ours: Vec<_> = values.iter().map(|value| written(wire, value)).collect();
        let asked: Vec<_> =
            values.iter().zip(&ours).map(|(value, ours)| (value, ways(wire, value, ours))).collect();
        let verdicts = ask(codec, "-1", &asked);
        for ((value, verdict), ours) in values.iter().zip(&verdicts).zip(&ours) {
            if let Err(reason) = check(wire, value, verdict, ours.as_ref()) {
                panic!("DIFFERENTIAL_SEED={seed}: {codec}: {value:?}\n{reason}");
            }
        }
    }
    let plain: Vec<_> = values.iter().map(|value| (value, Vec::new())).collect();
    for (value, verdict) in values.iter().zip(ask("php", "17", &plain)) {
        let seen = read(Wire::Php, &verdict.packed.unwrap());
        assert!(seen == *value, "DIFFERENTIAL_SEED={seed}: 17 digits: {value:?} was read as {seen:?}");
    }
}

/// Our bytes for a value, and what our bytes for it in the other codecs become.
fn ways(wire: Wire, value: &Value, ours: &Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let Some(ours) = ours else { return Vec::new() };
    let mut ways = vec![ours.clone()];
    for (other, _) in WIRES.into_iter().filter(|(other, _)| *other != wire) {
        let Some(bytes) = written(other, value) else { continue };
        ways.push(transcode(other, wire, &bytes, "$", Options::default()).unwrap());
    }
    ways
}

#[test]
fn the_generator_makes_every_kind_of_value() {
    let mut random = Random::new(7);
    let mut kinds = BTreeSet::new();
    for _ in 0..2000 {
        kinds.insert(match random.value(0) {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(i64::MIN) => "smallest integer",
            Value::Int(i64::MAX) => "largest integer",
            Value::Int(_) => "integer",
            Value::Float(value) if value.is_nan() => "NaN",
            Value::Float(value) if value.is_infinite() => "infinite",
            Value::Float(value) if value.to_bits() == (-0.0_f64).to_bits() => "minus zero",
            Value::Float(value) if value.fract() == 0.0 => "whole float",
            Value::Float(_) => "float",
            Value::Str(value) if value.is_empty() => "empty string",
            Value::Str(value) if str::from_utf8(&value).is_err() => "no UTF-8",
            Value::Str(value) if value.contains(&0) => "NUL",
            Value::Str(_) => "string",
            Value::Array(entries) if entries.is_empty() => "empty array",
            Value::Array(entries) if is_list(&entries) => "list",
            Value::Array(entries) if entries.iter().all(|(key, _)| matches!(key, Key::Int(_))) => "sparse",
            Value::Array(_) => "map",
        });
    }
    assert_eq!(kinds.len(), 18, "{kinds:?}");
}
