//! What operators watch of pools and limits.

use std::sync::Arc;
use std::time::Instant;

use crate::balance::Pool;
use crate::directory::{Directory, Entry};
use crate::limits::Gate;

impl Directory {
    pub(super) fn observe_pools(self: &Arc<Self>) {
        let view = self.clone();
        self.telemetry.observe_each(
            "remora.panic",
            "1 while so few providers are well that rates and health checks are not heeded",
            "service",
            move || {
                let now = Instant::now();
                let panics = |entry: &Entry| pools(entry).any(|pool| pool.panics(now));
                view.list().values().map(|entry| (entry.name.to_string(), panics(entry).into())).collect()
            },
        );
        let view = self.clone();
        self.telemetry.observe_each(
            "remora.zone.away",
            "Calls that leave the own data centre now, in percent; of an API's own providers the most",
            "service",
            move || {
                let now = Instant::now();
                let away = |entry: &Entry| pools(entry).filter_map(|pool| pool.away(now)).max();
                let away = |entry: &Arc<Entry>| Some((entry.name.to_string(), away(entry)?));
                view.list().values().filter_map(away).collect()
            },
        );
    }

    pub(super) fn observe_gates(self: &Arc<Self>) {
        type Read = fn(&Entry, &Gate, bool) -> u64;
        let of_gates: [(_, _, Read); 3] = [
            ("remora.calls.in.flight", "Calls in flight now", |_, gate, _| gate.in_flight().into()),
            ("remora.concurrency.limit", "Most calls in flight now, set or found", |_, gate, _| {
                gate.limit().into()
            }),
            ("remora.calls.waiting", "Calls that wait in line for a place", |entry, gate, is_whole| {
                let at_peers = if is_whole { entry.board.waiting() } else { 0 };
                (gate.waiting() + at_peers) as u64
            }),
        ];
        for (name, description, read) in of_gates {
            let view = self.clone();
            self.telemetry.observe_pairs(name, description, ["service", "api"], move || {
                view.list().values().flat_map(|entry| gates(entry, read)).collect()
            });
        }
    }
}

fn pools(entry: &Entry) -> impl Iterator<Item = &Pool> {
    let own = entry.all_routes().map(|route| &route.pool).filter(|pool| !Arc::ptr_eq(pool, &entry.pool));
    std::iter::once(&entry.pool).chain(own).map(|pool| &**pool)
}

/// What `read` says of the service's gate, and of those of its APIs.
fn gates(entry: &Entry, read: fn(&Entry, &Gate, bool) -> u64) -> Vec<([String; 2], u64)> {
    let of = |api: &str, gate: &Gate| {
        ([entry.name.to_string(), api.to_owned()], read(entry, gate, api.is_empty()))
    };
    let own = entry.all_routes().filter_map(|route| Some(of(route.name.as_str(), route.gate.as_ref()?)));
    std::iter::once(of("", &entry.gate)).chain(own).collect()
}
