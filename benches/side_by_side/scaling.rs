//! What one worker of remora carries, and what several do.

use std::path::Path;
use std::time::Instant;

use super::contender::{Contender, Kind, Means};
use super::load::{self, Load, Slice};
use super::report::{median, percentile};
use super::{pin_to, wire};

/// Prints a row for one worker and one for `workers`, each load in turns; or why that can't be measured here.
pub(crate) fn run(loads: &[Load], dir: &Path, workers: usize, [rounds, calls]: [usize; 2]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 * workers {
        println!(
            "not measured: {workers} workers need {workers} cores, and callers and providers as many to keep them busy; \
             this machine has {cores}"
        );
        return;
    }
    // before there are other threads: these stay where this process is
    pin_to(&format!("{workers}-{}", cores - 1));
    let providers = [wire::provider(), wire::provider()];
    let sidecars = [1, workers].map(|workers| {
        let dir = dir.join(workers.to_string());
        std::fs::create_dir(&dir).unwrap();
        (workers, Contender::start(Kind::Remora, Means { dir: &dir, providers, workers }).unwrap())
    });
    let callers = cores - workers;
    println!("{callers} threads of callers; calls/s and CPU are medians over {rounds} rounds\n");
    println!("| load | workers | calls/s | CPU µs/call | p99 µs |\n|---|---|---|---|---|");
    for load in loads {
        let mut slices = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for ((_, sidecar), slices) in sidecars.iter().zip(&mut slices) {
                slices.push(slice(load, sidecar, callers, calls));
            }
        }
        for ((workers, _), slices) in sidecars.iter().zip(&slices) {
            println!(
                "| {} | {workers} | {:.0} | {:.1} | {} |",
                load.name,
                median(slices.iter().map(|slice| slice.per_second)),
                median(slices.iter().map(|slice| slice.cpu)),
                percentile(slices, 0.99).as_micros()
            );
        }
    }
}

/// With `callers` threads of the load's connections each.
fn slice(load: &Load, sidecar: &Contender, callers: usize, calls: usize) -> Slice {
    let (cpu, start) = (sidecar.cpu(), Instant::now());
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..callers).map(|_| scope.spawn(|| load::make(load, sidecar, calls))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let failed = made.iter().map(|(_, failed)| failed).sum();
    let took = made.into_iter().flat_map(|(took, _)| took).collect();
    Slice::of(took, failed, start.elapsed(), sidecar.cpu() - cpu)
}
