//! What is counted elsewhere and shown in the metrics.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::directory::Directory;
use crate::listen::Seats;
use crate::registry::{self, Source};
use crate::telemetry::{self, Telemetry};
use crate::upstream::Budget;

type Read = fn(&registry::StatusReport) -> u64;

/// What operators watch of the registry and of the view.
pub(super) fn observe(
    telemetry: &Telemetry,
    source: &Source,
    directory: &Arc<Directory>,
    buffers: &Arc<Budget>,
) {
    let counts: [(_, _, Read); 5] = [
        ("remora.registry.reconnects", "Connections to the registry made again", |s| s.reconnects),
        ("remora.registry.sessions", "Sessions opened at the registry", |s| s.sessions),
        ("remora.registry.operations", "Requests sent to the registry", |s| s.operations),
        ("remora.registry.events", "Changes heard of from the registry", |s| s.events),
        ("remora.registry.drift", "Differences found between view and registry; must stay 0", |s| s.drift),
    ];
    for (name, description, read) in counts {
        let source = source.clone();
        telemetry.observe_count(name, description, move || read(&source.status()));
    }
    let states: [(_, _, Read); 4] = [
        ("remora.registry.connected", "1 while the registry can be asked", |s| s.connected.into()),
        ("remora.registry.believed", "0 while a registry is reached and not believed", |s| s.believed.into()),
        ("remora.registry.watched.paths", "Paths watched at the registry", |s| s.watched_paths as u64),
        (
            "remora.registry.held.providers",
            "Providers that vanished with many others, kept as a last resort",
            |s| s.held_providers as u64,
        ),
    ];
    for (name, description, read) in states {
        let source = source.clone();
        telemetry.observe(name, description, move || read(&source.status()));
    }
    telemetry.observe_count(
        "remora.log.lines.dropped",
        "Lines of the log dropped because nobody read it",
        telemetry::log_lines_dropped,
    );
    directory.observe();
    let held = buffers.clone();
    telemetry.observe("remora.buffers.bytes", "Bodies held to be converted", move || held.held());
    let view = directory.clone();
    telemetry.observe("remora.view.services", "Services in the view", move || view.list().len() as u64);
    let view = directory.clone();
    telemetry.observe(
        "remora.view.stale",
        "Services not read again since the registry went away",
        move || view.list().values().filter(|entry| view.checked(entry).1).count() as u64,
    );
    let of = source.clone();
    telemetry.observe_each(
        "remora.registry.problems",
        "1 for what is wrong with the registry now",
        "topic",
        move || of.status().topics.into_iter().map(|topic| (topic.to_owned(), 1)).collect(),
    );
    let of = source.clone();
    telemetry.observe_each("remora.own.registered", "1 while an own provider is registered", "node", {
        move || of.status().own.into_iter().map(|own| (own.path, own.registered.into())).collect()
    });
    let view = directory.clone();
    telemetry.observe(
        "remora.view.skipped",
        "Registry nodes left out because they can't be read",
        move || view.list().values().map(|entry| entry.service.skipped.len() as u64).sum(),
    );
}

/// How many callers are connected, and how many may be.
pub(super) fn seats(telemetry: &Telemetry, seats: &Arc<Seats>) {
    let of = seats.clone();
    telemetry.observe("remora.connections", "Callers connected now", move || of.taken() as u64);
    let limit = seats.limit() as u64;
    telemetry.observe("remora.connections.limit", "Callers that may be connected at once", move || limit);
}

/// How many tasks these run now.
pub(super) fn tasks(telemetry: &Telemetry, runtimes: Vec<Handle>) {
    let alive = move || runtimes.iter().map(|runtime| runtime.metrics().num_alive_tasks() as u64).sum();
    telemetry.observe("remora.tasks", "Connections of both sides and what runs beside them", alive);
}
