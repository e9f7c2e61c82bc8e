//! The fuzz targets' bodies over their corpora and over everything near them.
#![expect(clippy::unwrap_used, reason = "a message that breaks a promise must stop the test")]

use std::fs;
use std::path::Path;

use proto_adapters::Wire;

#[path = "../../fuzz/bounded.rs"]
mod bounded;
#[path = "../../fuzz/bodies/form.rs"]
mod form;
#[path = "../../fuzz/bodies/yar_message.rs"]
mod yar_message;

use yar_message::crossing;

/// A target's name, its body, and the first byte that is worth changing.
type Target = (&'static str, fn(&[u8]), usize);

const TARGETS: [Target; 6] = [
    ("yar_message", yar_message::run, 82),
    ("php_to_json", |value| crossing::run(Wire::Php, Wire::Json, value), 0),
    ("json_to_php", |value| crossing::run(Wire::Json, Wire::Php, value), 0),
    ("msgpack_to_json", |value| crossing::run(Wire::Msgpack, Wire::Json, value), 0),
    ("form", form::run, 0),
    ("json_to_msgpack", |value| crossing::run(Wire::Json, Wire::Msgpack, value), 0),
];

/// Length of a name that the engine gave.
const HASH: usize = 40;

/// The seeds: what the engine found beside them is not in the repository.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let seeds = files.filter(|file| file.file_name().len() != HASH);
    seeds.map(|file| fs::read(file.path()).unwrap()).collect()
}

#[test]
fn every_input_of_the_corpora_keeps_its_promises() {
    for (target, run, _) in TARGETS {
        let corpus = corpus(target);
        assert!(corpus.len() >= 12, "{target}");
        corpus.iter().for_each(|input| run(input));
    }
}

#[test]
fn every_single_changed_byte_is_read_without_panic() {
    for (target, run, first) in TARGETS {
        for input in corpus(target) {
            for at in first..input.len() {
                for change in [0x01, 0x10, 0x20, 0x40, 0x80, 0xff] {
                    let mut changed = input.clone();
                    changed.get_mut(at).map(|byte| *byte ^= change).unwrap();
                    run(&changed);
                }
            }
        }
    }
}

#[test]
fn every_cut_is_read_without_panic() {
    for (target, run, _) in TARGETS {
        for input in corpus(target) {
            for cut in 0..input.len() {
                run(input.get(..cut).unwrap());
            }
        }
    }
}

/// What a target may hold for each byte, as in `fuzz/fuzz_targets`.
const PER_BYTE: [(&str, u64); 6] = [
    ("yar_message", 160),
    ("php_to_json", 16),
    ("json_to_php", 64),
    ("msgpack_to_json", 64),
    ("form", 96),
    ("json_to_msgpack", 32),
];

/// Many of what grows the most.
fn wide(target: &str) -> Vec<u8> {
    const MANY: usize = 20_000;
    let packed = [&[0xdd, 0, 0, 0x4e, 0x20][..], &[0x90; MANY]].concat();
    match target {
        "json_to_php" | "json_to_msgpack" => format!("[{}1]", "1.5,[],".repeat(MANY)).into_bytes(),
        "php_to_json" => {
            let entries: String = (0..MANY).map(|key| format!("i:{key};N;")).collect();
            format!("a:{MANY}:{{{entries}}}").into_bytes()
        }
        "form" => (0..999).map(|name| format!("{name}&")).collect::<String>().into_bytes(),
        "msgpack_to_json" => packed,
        _ => {
            let mut head = corpus("yar_message").into_iter().find(|seed| seed[82..].starts_with(b"MSGPACK"));
            let head = head.as_mut().map(|seed| &seed[..90]).unwrap();
            [head, b"\x83\xa1i\x07\xa1m\xa1a\xa1p", &packed].concat()
        }
    }
}

#[test]
fn what_is_held_follows_the_length_of_the_input() {
    for ((target, run, _), (named, per_byte)) in TARGETS.into_iter().zip(PER_BYTE) {
        assert_eq!(target, named);
        let bound = bounded::Bound { floor: 64 << 10, per_byte };
        let inputs = corpus(target).into_iter().chain([wide(target)]);
        inputs.for_each(|input| bounded::run(&bound, run, &input));
    }
}
