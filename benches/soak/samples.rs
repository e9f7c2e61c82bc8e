//! What the sidecar holds, look by look, and whether it grows.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::callers::Tally;
use super::support::Remora;

/// Growth from the second third of the looks to the last that is taken for noise, as a share of all: of 30 MiB 150 KiB,
/// which 50 KiB a minute make in a run of ten.
const NOISE: f64 = 0.005;
/// Of files, threads and tasks.
const FEW: f64 = 2.0;
/// Memory in KiB that a new line of `/metrics` explains: series of providers that failed for the first time.
const LINE: f64 = 0.25;

/// One look.
struct Sample {
    at: Duration,
    calls: u64,
    /// In the order of [`COLUMNS`].
    held: [f64; COLUMNS.len()],
}

const COLUMNS: [&str; 5] = ["memory KiB", "files", "threads", "tasks", "metrics"];
const MEMORY: usize = 0;
/// Lines of `/metrics`.
const LINES: usize = 4;

#[derive(Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn take(&mut self, remora: &Remora, at: Duration, tally: &Tally) {
        let [memory, files] = [remora.memory() >> 10, remora.descriptors() as u64];
        let (tasks, lines) = metrics(remora);
        let held = [memory, files, remora.threads(), tasks, lines].map(|count| count as f64);
        if self.0.is_empty() {
            let [memory, files, threads, tasks, lines] = COLUMNS;
            println!(
                "{:>7} {memory:>11} {files:>6} {threads:>8} {tasks:>6} {lines:>8} {:>10} {:>9} {:>8} {:>6}",
                "s", "good", "refused", "left", "lost"
            );
        }
        let [good, refused, left, lost] =
            [&tally.good, &tally.refused, &tally.left, &tally.lost].map(|count| count.load(Relaxed));
        let [memory, files, threads, tasks, lines] = held;
        println!(
            "{:>7.0} {memory:>11} {files:>6} {threads:>8} {tasks:>6} {lines:>8} {good:>10} {refused:>9} {left:>8} {lost:>6}",
            at.as_secs_f64(),
        );
        self.0.push(Sample { at, calls: tally.all(), held });
    }

    /// Tells by how much each count grew from the second third to the last.
    pub(crate) fn conclude(&self, tally: &Tally) {
        let third = self.0.len() / 3;
        let (before, after) = (Third::of(&self.0[third..2 * third]), Third::of(&self.0[2 * third..]));
        let (minutes, calls) = (after.minutes - before.minutes, after.calls - before.calls);
        println!("\nfrom the second third to the last, {minutes:.1} minutes and {calls:.0} calls later:");
        let grown: [f64; COLUMNS.len()] = std::array::from_fn(|n| after.held[n] - before.held[n]);
        for (n, column) in COLUMNS.iter().enumerate().filter(|(n, _)| *n != LINES) {
            let explained = if n == MEMORY { grown[LINES].max(0.0) * LINE } else { FEW };
            let flat = grown[n] <= after.held[n] * NOISE + explained;
            println!(
                "{} {column}: {:.0} on average, {:+.1} and {:+.1} a minute; at most {:+.1}",
                if flat { "PASS" } else { "FAIL" },
                after.held[n],
                grown[n],
                grown[n] / minutes,
                after.held[n] * NOISE + explained
            );
        }
        println!("     {:+.0} lines of /metrics, each of which may take {LINE} KiB", grown[LINES]);
        let lost = tally.lost.load(Relaxed);
        let word = if lost == 0 { "PASS" } else { "FAIL" };
        println!("{word} {lost} of {} calls without an answer", tally.all());
    }
}

/// Means of a third of the looks.
struct Third {
    minutes: f64,
    calls: f64,
    held: [f64; COLUMNS.len()],
}

impl Third {
    fn of(samples: &[Sample]) -> Third {
        let mean = |value: &dyn Fn(&Sample) -> f64| {
            samples.iter().map(value).sum::<f64>() / samples.len().max(1) as f64
        };
        Third {
            minutes: mean(&|sample| sample.at.as_secs_f64() / 60.0),
            calls: mean(&|sample| sample.calls as f64),
            held: std::array::from_fn(|n| mean(&|sample| sample.held[n])),
        }
    }
}

/// Tasks of all its runtimes, and how many lines there are.
fn metrics(remora: &Remora) -> (u64, u64) {
    let text = remora.admin("GET", "/metrics").text();
    let tasks = text.lines().find_map(|line| line.strip_prefix("remora_tasks ")).unwrap();
    (tasks.parse().unwrap(), text.lines().count() as u64)
}
