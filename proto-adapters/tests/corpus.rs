//! The fuzz target's body over its corpus and over everything near it.
#![expect(clippy::unwrap_used, reason = "a message that breaks a promise must stop the test")]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/bodies/yar_message.rs"]
mod yar_message;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/yar_message");
    fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_message_of_the_corpus_keeps_its_promises() {
    let corpus = corpus();
    assert!(corpus.len() >= 12);
    corpus.iter().for_each(|message| yar_message::run(message));
}

#[test]
fn every_single_changed_byte_is_read_without_panic() {
    for message in corpus() {
        for at in 82..message.len() {
            for change in [0x01, 0x10, 0x20, 0x40, 0x80, 0xff] {
                let mut changed = message.clone();
                changed.get_mut(at).map(|byte| *byte ^= change).unwrap();
                yar_message::run(&changed);
            }
        }
    }
}

#[test]
fn every_cut_is_read_without_panic() {
    for message in corpus() {
        for cut in 0..message.len() {
            yar_message::run(message.get(..cut).unwrap());
        }
    }
}
