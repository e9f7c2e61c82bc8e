//! What the sidecar holds, look by look, and whether it grows.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::callers::Tally;
use super::support::Remora;

/// Growth of memory within the second half, as a share of all, that is taken for noise.
const NOISE: f64 = 0.03;

/// One look.
struct Sample {
    at: Duration,
    /// Memory in KiB, files, threads, tasks; in the order of [`COLUMNS`].
    held: [f64; COLUMNS.len()],
}

const COLUMNS: [&str; 4] = ["memory KiB", "files", "threads", "tasks"];

#[derive(Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn take(&mut self, remora: &Remora, at: Duration, tally: &Tally) {
        let [memory, files] = [remora.memory() >> 10, remora.descriptors() as u64];
        let held = [memory, files, remora.threads(), tasks(remora)].map(|count| count as f64);
        if self.0.is_empty() {
            println!(
                "{:>7} {:>11} {:>6} {:>8} {:>6} {:>10} {:>9} {:>8} {:>6}",
                "s", COLUMNS[0], COLUMNS[1], COLUMNS[2], COLUMNS[3], "good", "refused", "left", "lost"
            );
        }
        let [good, refused, left, lost] =
            [&tally.good, &tally.refused, &tally.left, &tally.lost].map(|count| count.load(Relaxed));
        println!(
            "{:>7.0} {:>11} {:>6} {:>8} {:>6} {good:>10} {refused:>9} {left:>8} {lost:>6}",
            at.as_secs_f64(),
            held[0],
            held[1],
            held[2],
            held[3]
        );
        self.0.push(Sample { at, held });
    }

    /// Tells how fast each count grew in the second half.
    pub(crate) fn conclude(&self, tally: &Tally) {
        let half = &self.0[self.0.len() / 2..];
        let minutes = (half[half.len() - 1].at - half[0].at).as_secs_f64() / 60.0;
        println!("\nin the last {minutes:.1} minutes:");
        for (n, column) in COLUMNS.iter().enumerate() {
            let slope = slope(half, n);
            let mean = half.iter().map(|sample| sample.held[n]).sum::<f64>() / half.len() as f64;
            let flat = slope * minutes <= mean * NOISE + 1.0;
            let word = if flat { "PASS" } else { "FAIL" };
            println!("{word} {column}: {mean:.0} on average, {slope:+.2} a minute");
        }
        let lost = tally.lost.load(Relaxed);
        let word = if lost == 0 { "PASS" } else { "FAIL" };
        println!("{word} {lost} calls without an answer");
    }
}

/// By least squares, a minute.
fn slope(samples: &[Sample], column: usize) -> f64 {
    let points = samples.iter().map(|sample| (sample.at.as_secs_f64() / 60.0, sample.held[column]));
    let count = samples.len() as f64;
    let (x, y) = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (xy, xx) = points.fold((0.0, 0.0), |(xy, xx), point| {
        let from = point.0 - x;
        (xy + from * (point.1 - y), xx + from * from)
    });
    if xx == 0.0 { 0.0 } else { xy / xx }
}

/// Of all its runtimes.
fn tasks(remora: &Remora) -> u64 {
    let text = remora.admin("GET", "/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix("remora_tasks ")).unwrap();
    value.parse().unwrap()
}
