//! What is watched of the view: circuits and shared quotas by operators, new entries by the registry.

use std::sync::Arc;
use std::time::Instant;

use super::{Directory, Entry};
use crate::limits::Limiter;
use crate::peer::Peer;

mod pools;

impl Directory {
    /// Waits for the next new entry, one that came since this was last waited for included; for one task.
    pub async fn moved(&self) {
        self.moves.notified().await;
    }

    /// Shows of each service how its providers stand, and how many calls wait.
    pub fn observe(self: &Arc<Self>) {
        let view = self.clone();
        self.telemetry.observe_counts(
            "remora.circuit.transitions",
            "Circuits of providers that opened, let a call probe, or closed",
            ["service", "to"],
            move || view.list().values().flat_map(|entry| transitions(entry)).collect(),
        );
        let view = self.clone();
        self.telemetry.observe_counts(
            "remora.provider.failures",
            "Attempts that a provider failed: 5xx, unreached, cut, bad-answer or deadline",
            ["service", "provider", "reason"],
            // counted beside the peer: what left the view leaves no series
            move || view.list().values().flat_map(|entry| failures(entry)).collect(),
        );
        self.observe_quotas();
        self.observe_pools();
        self.observe_gates();
        let view = self.clone();
        self.telemetry.observe_each(
            "remora.service.buffers.bytes",
            "Bodies held to be converted, of services that have some",
            "service",
            move || view.list().values().filter_map(|entry| holds(entry)).collect(),
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

impl Directory {
    /// Shows what is lent of quotas that a fleet shares.
    fn observe_quotas(self: &Arc<Self>) {
        let view = self.clone();
        self.telemetry.observe_pairs(
            "remora.quota.lent.millionths",
            "This sidecar's share of a quota that the fleet shares; of several entries the smallest",
            ["service", "caller"],
            move || {
                let now = Instant::now();
                of_shared(&view, |limiter| limiter.lent(now).map(u64::from), u64::min)
            },
        );
        let view = self.clone();
        self.telemetry.observe_counts(
            "remora.quota.lapses",
            "Leases of a shared quota that had ended without another when their caller called",
            ["service", "caller"],
            move || of_shared(&view, Limiter::lapses, std::ops::Add::add),
        );
    }
}

/// What `read` says of each caller's shared quotas, in layout `tree` one for each API.
fn of_shared(
    view: &Directory,
    read: impl Fn(&Limiter) -> Option<u64>,
    join: impl Fn(u64, u64) -> u64,
) -> Vec<([String; 2], u64)> {
    let mut found = Vec::new();
    for entry in view.list().values() {
        for caller in entry.service.callers.keys() {
            let limiters = entry.accounts.of(caller.as_str()).iter().filter_map(|a| a.limiter.as_ref());
            let value = limiters.filter_map(|limiter| read(limiter)).reduce(&join);
            found.extend(value.map(|value| ([entry.name.to_string(), caller.to_string()], value)));
        }
    }
    found
}

/// What happened at least once.
fn transitions(entry: &Entry) -> Vec<([String; 2], u64)> {
    let counts = entry.board.counts().into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(to, count)| ([entry.name.to_string(), to.to_owned()], count)).collect()
}

/// What happened at least once, of the providers there are.
fn failures(entry: &Entry) -> Vec<([String; 3], u64)> {
    let of_peer = |peer: &Peer| {
        let labels = |reason: &str| [entry.name.to_string(), peer.address.to_string(), reason.to_owned()];
        peer.failures().map(|(reason, count)| (labels(reason), count)).collect::<Vec<_>>()
    };
    entry.peers().iter().flat_map(|peer| of_peer(peer)).collect()
}

fn holds(entry: &Entry) -> Option<(String, u64)> {
    let held = entry.part.held();
    (held > 0).then(|| (entry.name.to_string(), held))
}

fn open(entry: &Entry) -> u64 {
    entry.peers().iter().filter(|peer| !peer.is_closed()).count() as u64
}
