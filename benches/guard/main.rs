//! Instructions and allocations of the worker for a call, counted by callgrind: the same on every machine, however busy.
//!
//! `cargo bench --bench guard` fails where a call costs more than `benches/guard/bounds` says, where a bound is higher
//! than in the commit before, where metrics make up more than 3 % of a call, or a collector (`otlp`) of calls that are
//! not recorded adds more than 1 %. `benches/guard/setup` installs valgrind. What the kernel does is not counted.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench stops where it fails"
)]

mod bounds;
mod callgrind;
mod rows;
#[path = "../wire/mod.rs"]
mod wire;

use std::process::ExitCode;

use bounds::Bounds;
use callgrind::Counts;
use rows::{Row, SCENES};

/// Of a call's instructions: what metrics and what a collector may take.
const METRICS: f64 = 0.03;
const OTLP: f64 = 0.01;
/// What counts a call and its time: the instruments, and the record that uses them, which writes the log too.
const OF_METRICS: [&str; 3] = ["opentelemetry", "src/telemetry.rs", "src/gateway/record.rs"];

fn main() -> ExitCode {
    let bounds = Bounds::read();
    let mut wrong = bounds.risen();
    println!("{:22} {:>14} {:>8} {:>14} {:>8}", "call", "instructions", "bound", "allocations", "bound");
    let provider = wire::provider();
    let counted: Vec<(&Row, Counts)> = SCENES.iter().flat_map(|scene| rows::count(scene, provider)).collect();
    for (row, counts) in &counted {
        let Counts { instructions, allocations, .. } = counts;
        let bound = bounds.of(row.name);
        let [most, most_allocations] =
            bound.map_or(["-".to_owned(), "-".to_owned()], |b| b.map(|b| b.to_string()));
        println!("{:22} {instructions:>14.0} {most:>8} {allocations:>14.1} {most_allocations:>8}", row.name);
        match bound {
            None => wrong.push(format!("{}: has no line in {}", row.name, bounds::FILE)),
            Some([most, most_allocations]) => {
                if *instructions > most || *allocations > most_allocations {
                    wrong.push(format!("{}: costs more than its line in {} allows", row.name, bounds::FILE));
                }
            }
        }
    }
    let of = |name: &str| &counted.iter().find(|(row, _)| row.name == name).unwrap().1;
    let plain = of(rows::PLAIN);
    let metrics = plain.of_files(&OF_METRICS) / plain.instructions;
    let otlp = of(rows::UNSAMPLED).instructions / plain.instructions - 1.0;
    for (what, share, most) in [("metrics are", metrics, METRICS), ("a collector adds", otlp, OTLP)] {
        println!("{what} {:.2} % of a call; at most {} %", share * 100.0, most * 100.0);
        if share > most {
            wrong.push(format!("{what} {:.2} % of a call, over {} %", share * 100.0, most * 100.0));
        }
    }
    wrong.iter().for_each(|wrong| eprintln!("{wrong}"));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
