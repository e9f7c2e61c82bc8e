//! The fuzz targets' bodies over their corpora and over everything near them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::panic;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[path = "../fuzz/bodies/config.rs"]
mod config;
#[path = "../fuzz/bodies/http_answer.rs"]
mod http_answer;
#[path = "../fuzz/bodies/http_request.rs"]
mod http_request;
#[path = "../fuzz/bodies/http_route.rs"]
mod http_route;
#[path = "../fuzz/bodies/message.rs"]
mod message;
#[path = "../fuzz/bodies/problem.rs"]
mod problem;
#[path = "../fuzz/bodies/provider.rs"]
mod provider;
#[path = "../fuzz/bodies/registry_file.rs"]
mod registry_file;
#[path = "../fuzz/bodies/snapshot.rs"]
mod snapshot;
#[path = "../fuzz/bodies/strict.rs"]
mod strict;
#[path = "../fuzz/bodies/traceparent.rs"]
mod traceparent;
#[path = "../fuzz/bodies/transfer.rs"]
mod transfer;
#[path = "../fuzz/bodies/znode.rs"]
mod znode;

/// A target's name, its body, and how many inputs near each seed are tried.
type Target = (&'static str, fn(&[u8]), usize);

const TARGETS: [Target; 11] = [
    ("config", config::run, 300),
    ("http_answer", http_answer::run, 300),
    ("http_request", http_request::run, 300),
    ("http_route", http_route::run, 60),
    ("problem", problem::run, 300),
    ("provider", provider::run, 60),
    ("registry_file", registry_file::run, 100),
    ("snapshot", snapshot::run, 300),
    ("traceparent", traceparent::run, 60),
    ("transfer", transfer::run, 300),
    ("znode", znode::run, 300),
];

/// Length of a name that the engine gave.
const HASH: usize = 40;

/// A panic in a task of its own ends nothing else: it has to be looked for.
static PANICS: AtomicUsize = AtomicUsize::new(0);
static WATCH: Once = Once::new();

fn watched(work: impl FnOnce()) {
    WATCH.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Relaxed);
            before(info);
        }));
    });
    work();
    assert_eq!(PANICS.load(Relaxed), 0, "a task panicked");
}

/// The seeds: what the engine found beside them is not in the repository.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let seeds = files.filter(|file| file.file_name().len() != HASH);
    seeds.map(|file| fs::read(file.path()).unwrap()).collect()
}

#[test]
fn every_input_of_the_corpora_keeps_its_promises() {
    watched(|| {
        for (target, run, _) in TARGETS {
            let corpus = corpus(target);
            assert!(corpus.len() >= 12, "{target}");
            corpus.iter().for_each(|input| run(input));
        }
    });
}

#[test]
fn changed_bytes_are_read_without_panic() {
    watched(|| {
        for (target, run, tries) in TARGETS {
            for input in corpus(target) {
                for at in (0..input.len()).step_by(input.len().div_ceil(tries).max(1)) {
                    let mut changed = input.clone();
                    // a different change at every place
                    changed[at] ^= [0x01, 0x10, 0x20, 0x40, 0x80, 0xff][at % 6];
                    run(&changed);
                }
            }
        }
    });
}

#[test]
fn cuts_are_read_without_panic() {
    watched(|| {
        for (target, run, tries) in TARGETS {
            for input in corpus(target) {
                let cuts = (0..input.len()).step_by(input.len().div_ceil(tries).max(1));
                cuts.for_each(|cut| run(&input[..cut]));
            }
        }
    });
}
