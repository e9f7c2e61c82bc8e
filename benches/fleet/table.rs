//! The figures of all phases side by side, as Markdown.

use std::fmt::Write;
use std::time::Duration;

use super::meter::Figures;

/// A column.
pub(crate) struct Phase {
    pub(crate) name: String,
    rows: Vec<(&'static str, String)>,
}

/// Rows in the order they are shown.
const ROWS: [&str; 22] = [
    "phase, s",
    "all connected, s",
    "last write acknowledged, s",
    "views equal, called services: p50 / p99 / max, s",
    "views equal, all services: p50 / p99 / max, s",
    "write to view: p50 / p99 / max, ms",
    "every view read again, s",
    "operations",
    "operations/s, all the phase",
    "operations/s, busiest second",
    "events",
    "reconnects",
    "sessions lost",
    "own providers missing in ZooKeeper: how many / longest, s",
    "own providers missing in a view: how many / longest, s",
    "server latency avg / max, ms",
    "requests outstanding at a server, max",
    "sidecars' CPU, s",
    "CPU of one sidecar, ms per s",
    "servers' CPU, s",
    "memory of one sidecar, KiB",
    "drift",
];

impl Phase {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rows: Vec::new() }
    }

    pub(crate) fn set(&mut self, row: &'static str, value: impl ToString) {
        debug_assert!(ROWS.contains(&row), "{row}");
        self.rows.push((row, value.to_string()));
    }

    /// The rows every phase has; `base` is the process's memory without sidecars.
    pub(crate) fn figures(&mut self, figures: &Figures, sidecars: usize, base: u64) {
        let per_second = |count: u64| (count as f64 / figures.took.as_secs_f64()).round();
        let gap = |count: usize, longest: Duration| match count {
            0 => "0".to_owned(),
            count => format!("{count} / {}", seconds(longest)),
        };
        let cpu = figures.cpu.as_secs_f64();
        let each = cpu * 1000.0 / sidecars as f64 / figures.took.as_secs_f64();
        self.set("phase, s", seconds(figures.took));
        self.set("operations", figures.operations);
        self.set("operations/s, all the phase", per_second(figures.operations));
        self.set("operations/s, busiest second", figures.peak);
        self.set("events", figures.events);
        self.set("reconnects", figures.reconnects);
        self.set("sessions lost", figures.sessions_lost);
        let row = "own providers missing in ZooKeeper: how many / longest, s";
        self.set(row, gap(figures.gaps, figures.gap));
        let row = "own providers missing in a view: how many / longest, s";
        self.set(row, gap(figures.view_gaps, figures.view_gap));
        let row = "server latency avg / max, ms";
        self.set(row, format!("{:.1} / {}", figures.latency_avg, figures.latency_max));
        self.set("requests outstanding at a server, max", figures.outstanding);
        self.set("sidecars' CPU, s", format!("{cpu:.1}"));
        self.set("CPU of one sidecar, ms per s", format!("{each:.2}"));
        self.set("servers' CPU, s", format!("{:.1}", figures.servers_cpu.as_secs_f64()));
        let each = (figures.memory.saturating_sub(base) / sidecars as u64) >> 10;
        self.set("memory of one sidecar, KiB", each);
        self.set("drift", figures.drift);
    }

    /// One phase by itself, while the others are still to come.
    pub(crate) fn print(&self) {
        println!("\n{}", self.name);
        for row in ROWS {
            if let Some(value) = self.value(row) {
                println!("  {row:58} {value}");
            }
        }
    }

    fn value(&self, row: &str) -> Option<&str> {
        self.rows.iter().find(|(name, _)| *name == row).map(|(_, value)| value.as_str())
    }
}

pub(crate) fn markdown(phases: &[Phase]) -> String {
    let mut text = String::from("|");
    phases.iter().for_each(|phase| write!(text, " | {}", phase.name).unwrap());
    text += " |\n|---";
    phases.iter().for_each(|_| text += "|---");
    text += "|\n";
    for row in ROWS.into_iter().filter(|row| phases.iter().any(|phase| phase.value(row).is_some())) {
        write!(text, "| {row}").unwrap();
        phases.iter().for_each(|phase| write!(text, " | {}", phase.value(row).unwrap_or("")).unwrap());
        text += " |\n";
    }
    text
}

/// `p50 / p99 / max` of sorted or unsorted times.
pub(crate) fn spread(mut times: Vec<Duration>, shown: fn(Duration) -> String) -> String {
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return "–".into() };
    let at = |share: f64| shown(times[(last as f64 * share).round() as usize]);
    format!("{} / {} / {}", at(0.5), at(0.99), at(1.0))
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

pub(crate) fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}
