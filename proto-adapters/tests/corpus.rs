//! The fuzz targets' bodies over their corpora and over everything near them.
#![expect(clippy::unwrap_used, reason = "a message that breaks a promise must stop the test")]

use std::fs;
use std::path::Path;

use proto_adapters::Wire;

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
