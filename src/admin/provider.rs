//! How a provider stands, as `/services/{service}` shows it.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::balance::Pool;
use crate::health::State;
use crate::model::Provider;
use crate::peer::Peer;

/// A provider with its load and health, and the share of the calls that `pool` gives it now.
pub(super) fn shown(provider: &Provider, peer: Option<&Arc<Peer>>, pool: &Pool, now: Instant) -> Value {
    let mut shown = json!({
        "address": provider.address,
        "state": provider.state,
        "weight": provider.weight,
        "idc": provider.idc,
        "tags": provider.tags,
        "max_connections": provider.max_connections,
        "ephemeral": provider.ephemeral,
    });
    let known = peer.map(|peer| of_peer(peer, pool, now));
    if let (Value::Object(shown), Some(Value::Object(known))) = (&mut shown, known) {
        shown.extend(known);
    }
    shown
}

fn of_peer(peer: &Arc<Peer>, pool: &Pool, now: Instant) -> Value {
    let (answered, failed) = peer.attempts();
    let (share, spared) = pool.share(peer, now);
    let asked = peer.asked(now);
    json!({
        "share": format!("{:.1}%", share * 100.0),
        "panic": spared.then_some(true),
        "circuit": circuit(peer.state(), now),
        "check": peer.complaint(),
        "in_flight": peer.load(),
        "latency_ms": (peer.latency(now).as_secs_f64() * 1e5).round() / 100.0,
        "asked_to_wait_ms": (!asked.is_zero()).then_some(asked.as_millis() as u64),
        "queues": peer.queues().then_some(true),
        "processes": peer.room(),
        "limit": pool.limit(peer),
        "answered": answered,
        "failed": failed,
    })
}

fn circuit(state: State, now: Instant) -> Value {
    match state {
        State::Closed => json!({ "state": "closed" }),
        State::HalfOpen { cause } => json!({ "state": "half-open", "cause": cause.word() }),
        State::Open { cause, until } => {
            let left = until.saturating_duration_since(now).as_millis() as u64;
            json!({ "state": "open", "cause": cause.word(), "probe_in_ms": left })
        }
    }
}
