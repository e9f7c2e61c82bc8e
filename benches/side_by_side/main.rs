//! Remora beside nginx, HAProxy and Envoy: CPU per call, latency and memory under the same loads.
//!
//! `benches/side_by_side/setup && cargo bench --bench side_by_side`; `-- rounds=9 calls=3000` sets how often
//! every load is run at every contender and with how many calls, `peers=haproxy,envoy` beside whom, and
//! further words choose loads by their names. The variable `REMORA` names another binary of it. `-- workers=2` compares one worker of remora with two instead.
//! One worker each, access logs off, connections to the two providers kept. Contenders share the first core; loads
//! and the providers have the second. In every round they take turns; shown are medians over the rounds, and
//! the ratio of remora to each within a round with its least and most. Written to `target/side_by_side.md`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a bench stops where it fails")]

mod contender;
mod load;
mod report;
mod scaling;
#[path = "../wire/mod.rs"]
mod wire;

use std::collections::BTreeMap;
use std::process::Command;

use contender::{Contender, Kind, Means};
use load::Slice;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let number = |name: &str, default: usize| {
        let given = args.iter().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
        given.unwrap_or(default)
    };
    let (rounds, calls) = (number("rounds", 9), number("calls", 3000));
    let peers = args.iter().find_map(|arg| arg.strip_prefix("peers="));
    let is_wanted = |kind: &Kind| {
        let name = kind.name().to_lowercase();
        [Kind::Direct, Kind::Remora].contains(kind)
            || peers.is_none_or(|peers| peers.split(',').any(|peer| peer == name))
    };
    let words: Vec<_> = args.iter().filter(|arg| !arg.contains('=')).collect();
    let mut loads = load::all();
    loads.retain(|load| words.iter().all(|word| load.name.contains(word.as_str())));
    let dir = tempfile::tempdir().unwrap();
    let workers = number("workers", 1);
    if workers > 1 {
        return scaling::run(&loads, dir.path(), workers, [rounds, calls]);
    }
    pin_to("1");
    let providers = [wire::provider(), wire::provider()];
    let means = Means { dir: dir.path(), providers, workers };
    let contenders: Vec<_> =
        Kind::ALL.into_iter().filter(is_wanted).filter_map(|kind| Contender::start(kind, means)).collect();
    assert!(contenders.iter().any(|contender| contender.kind == Kind::Remora));
    let idle: BTreeMap<Kind, u64> =
        contenders.iter().map(|contender| (contender.kind, contender.memory())).collect();
    let mut slices: BTreeMap<(usize, Kind), Vec<Slice>> = BTreeMap::new();
    for round in 0..=rounds {
        for (index, load) in loads.iter().enumerate() {
            for contender in &contenders {
                let slice = load::run(load, contender, calls);
                // the first round opens connections and fills caches
                if let Some(slice) = slice.filter(|_| round > 0) {
                    slices.entry((index, contender.kind)).or_default().push(slice);
                }
            }
        }
        eprintln!("round {round} of {rounds}");
    }
    let text = report::write(&loads, &contenders, &idle, &slices);
    println!("{text}");
    std::fs::write("target/side_by_side.md", text).unwrap();
}

/// This process, with callers and providers.
fn pin_to(cores: &str) {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["-a", "-c", "-p", cores, &pid]).output();
    if !done.is_ok_and(|done| done.status.success()) {
        eprintln!("not pinned to core {cores}: taskset failed, or there is no such core");
    }
}
