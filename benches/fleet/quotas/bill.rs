//! What is counted while a state lasts, and the table of it.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::super::meter::{cpu, own_cpu};
use super::super::nodes::ask;
use super::crowd::Tally;

/// What the server counted since it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    at: Instant,
    /// Requests and pings.
    packets: u64,
    /// Requests that changed something.
    writes: u64,
    /// Watches that fired.
    events: u64,
    server: Duration,
    sidecars: Duration,
}

impl Counters {
    /// As the server at `address` tells them.
    pub(super) fn read(address: &str, pid: u32) -> Self {
        let text = ask(address, "mntr");
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let events = ["changed", "children", "created", "deleted"];
        Self {
            at: Instant::now(),
            packets: value("zk_packets_received"),
            writes: value("zk_cnt_updatelatency"),
            events: events.map(|kind| value(&format!("zk_sum_node_{kind}_watch_count"))).iter().sum(),
            server: cpu(&format!("/proc/{pid}")),
            sidecars: own_cpu(),
        }
    }
}

/// One state of one fleet, counts per second.
#[derive(Debug, Clone)]
pub(super) struct Line {
    sidecars: usize,
    state: &'static str,
    writes: f64,
    reads: f64,
    events: f64,
    pings: f64,
    /// Requests in the busiest second.
    peak: f64,
    heard: f64,
    used: Option<f64>,
    /// When at least nine tenths of what was due passed in a second.
    after: Option<Duration>,
    server: f64,
    each: f64,
}

pub(super) struct Bill {
    sidecars: usize,
    services: usize,
    samples: Vec<(Counters, Tally)>,
    pub(super) lines: Vec<Line>,
}

impl Bill {
    pub(super) fn new(sidecars: usize, services: usize, first: Counters) -> Self {
        Self { sidecars, services, samples: vec![(first, Tally::default())], lines: Vec::new() }
    }

    pub(super) fn sample(&mut self, counters: Counters, tally: Tally) {
        self.samples.push((counters, tally));
    }

    /// The state is over; its samples become a line.
    pub(super) fn close(&mut self, state: &'static str) {
        // the first sample of all has no tally
        let skipped = usize::from(self.lines.is_empty());
        let samples = self.samples.get(skipped..).unwrap_or_default();
        let (Some((from, before)), Some((to, after))) = (samples.first(), samples.last()) else { return };
        let took = (to.at - from.at).as_secs_f64();
        let per_second = |from: u64, to: u64| to.saturating_sub(from) as f64 / took;
        let writes = per_second(from.writes, to.writes);
        let operations = per_second(before.operations, after.operations);
        let busiest = samples.windows(2).map(|pair| {
            let [(a, x), (b, y)] = pair else { return 0.0 };
            (y.operations - x.operations) as f64 / (b.at - a.at).as_secs_f64()
        });
        let due = after.due - before.due;
        let passing = samples.windows(2).find(|pair| {
            let [(_, x), (_, y)] = pair else { return false };
            y.due > x.due && (y.passed - x.passed) as f64 >= 0.9 * (y.due - x.due)
        });
        let line = Line {
            sidecars: self.sidecars,
            state,
            writes,
            reads: operations - writes,
            events: per_second(from.events, to.events),
            pings: per_second(from.packets, to.packets) - operations,
            peak: busiest.fold(0.0, f64::max),
            heard: per_second(before.events, after.events),
            used: (due > 0.0).then(|| (after.passed - before.passed) as f64 / due),
            after: passing.and_then(|pair| pair.first()).map(|(counters, _)| counters.at - from.at),
            server: (to.server - from.server).as_secs_f64() / took,
            each: to.sidecars.saturating_sub(from.sidecars).as_secs_f64() / took / self.sidecars as f64,
        };
        println!("{} services, {} of {} connected: {line:?}", self.services, after.connected, self.sidecars);
        self.lines.push(line);
        self.samples.drain(..self.samples.len() - 1);
    }
}

/// All lines, and beside the steady ones what the periods in the code, multiplied, make of it.
pub(super) fn markdown(lines: &[Line]) -> String {
    let mut text = String::from(
        "| sidecars | state | writes/s | reads/s | events/s | heard of | pings/s | requests, busiest second | \
         quota used | nine tenths after | server's CPU | of a sidecar |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let used = line.used.map_or("–".into(), |used| format!("{:.0} %", used * 100.0));
        let after = line.after.map_or("–".into(), |after| format!("{:.0} s", after.as_secs_f64()));
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {used} | {after} | {:.0} % | {:.2} ms/s |",
            line.sidecars,
            line.state,
            line.writes,
            line.reads,
            line.events,
            line.heard,
            line.pings,
            line.peak,
            line.server * 100.0,
            line.each * 1000.0,
        );
    }
    text
}
