//! What is watched of the view: circuits by operators, new entries by the registry.

use std::sync::Arc;

use super::{Directory, Entry};

impl Directory {
    /// Waits for the next new entry, one that came since this was last waited for included; for one task.
    pub async fn moved(&self) {
        self.moves.notified().await;
    }

    /// Shows how many circuits of each service are not closed, and how often they changed.
    pub fn observe(self: &Arc<Self>) {
        let view = self.clone();
        self.telemetry.observe_counts(
            "remora.circuit.transitions",
            "Circuits of providers that opened, let a call probe, or closed",
            ["service", "to"],
            move || view.list().values().flat_map(|entry| transitions(entry)).collect(),
        );
        let view = self.clone();
        self.telemetry.observe_each(
            "remora.circuits.open",
            "Providers that are left alone now",
            "service",
            move || view.list().values().map(|entry| (entry.name.to_string(), open(entry))).collect(),
        );
    }
}

/// What happened at least once.
fn transitions(entry: &Entry) -> Vec<([String; 2], u64)> {
    let counts = entry.board.counts().into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(to, count)| ([entry.name.to_string(), to.to_owned()], count)).collect()
}

fn open(entry: &Entry) -> u64 {
    entry.peers().values().filter(|peer| !peer.is_closed()).count() as u64
}
