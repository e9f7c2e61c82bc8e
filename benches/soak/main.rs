//! Calls of every kind for minutes, while the registry changes and providers fail: whether anything grows.
//!
//! `cargo bench --bench soak -- minutes=10`; `rate=500` calls a second (default 300), `pause=5` seconds between two
//! looks. `calls=10000000` makes so many calls instead, as fast as they go. Prints what it sees, and at the end by how much
//! each count grew from the second third to the last.

#![allow(missing_docs, unreachable_pub, dead_code, reason = "a program that shares parts with the tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where it fails")]

mod callers;
mod providers;
mod samples;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../wire/mod.rs"]
mod wire;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use callers::{Pace, Tally};
use samples::Samples;
use world::World;

/// Between two edits of the registry.
const EDIT: Duration = Duration::from_secs(1);
/// Between two changes of what a provider does, and how long it does it.
const FAULT: Duration = Duration::from_secs(5);

fn main() {
    let (mut minutes, mut rate, mut pause, mut calls) = (10.0, 300.0, 5.0, 0.0);
    for word in std::env::args().skip(1).filter(|word| !word.starts_with("--")) {
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        let value = value.parse().unwrap_or_else(|_| panic!("{word} is not such as minutes=10"));
        match name {
            "minutes" => minutes = value,
            "rate" => rate = value,
            "pause" => pause = value,
            "calls" => calls = value,
            _ => panic!("{name}: there are minutes, rate, pause and calls"),
        }
    }
    let mut world = World::new();
    let tally = Arc::<Tally>::default();
    let pace = if calls > 0.0 { Pace::Fast } else { Pace::Rate(rate) };
    let callers = callers::start(&world, pace, tally.clone());
    let (start, mut samples) = (Instant::now(), Samples::default());
    let (mut next_look, mut next_edit, mut next_fault) = (start, start, start);
    let goes_on = || match pace {
        Pace::Rate(_) => start.elapsed().as_secs_f64() < minutes * 60.0,
        Pace::Fast => (tally.all() as f64) < calls,
    };
    while goes_on() {
        let now = Instant::now();
        if now >= next_edit {
            next_edit += EDIT;
            world.edit();
        }
        if now >= next_fault {
            next_fault += FAULT;
            world.fault();
        }
        if now >= next_look {
            next_look += Duration::from_secs_f64(pause);
            samples.take(&world.remora, start.elapsed(), &tally);
        }
        std::thread::sleep(
            next_look.min(next_edit).min(next_fault).saturating_duration_since(Instant::now()),
        );
    }
    samples.take(&world.remora, start.elapsed(), &tally);
    callers.stop();
    samples.conclude(&tally);
    let ended = world.remora.terminate();
    println!("remora ended with {ended}");
}
