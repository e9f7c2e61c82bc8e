//! Who has which part of the quotas that a fleet shares, as it stands in the registry now.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::holder::NAME;
use super::{Limiters, Place, places};
use crate::directory::Entry;
use crate::registry::shares::{Card, WHOLE};
use crate::registry::{Held, Owner, Source, Trouble, now};

/// What a service's sidecars have of its shared quotas; every sidecar reads the same, whoever holds.
pub async fn shown(source: &Source, entry: &Entry) -> Value {
    let mut found = Map::new();
    for place in places(source.layout(), entry) {
        let limiters = place.limiters(entry);
        if !limiters.is_empty() {
            found.insert(place.path(), at(source, &place, &limiters).await);
        }
    }
    let note = match (source.is_shared(), found.is_empty()) {
        (false, _) => "this registry is of one host, which is the whole fleet",
        (true, true) => "no caller of this service has a quota that a fleet shares",
        (true, false) => "as the registry has it now; ages by its clock",
    };
    json!({ "service": entry.name, "note": note, "quotas": found })
}

async fn at(source: &Source, place: &Place, limiters: &Limiters) -> Value {
    let lent = |(caller, limiter): (&String, &std::sync::Arc<crate::limits::Limiter>)| {
        (caller.clone(), json!(limiter.lent(now()).map(part)))
    };
    let mut shown = json!({ "in_use_here": limiters.iter().map(lent).collect::<Map<_, _>>() });
    let read = match source.held_below(&place.path()).await {
        Ok(held) => cards(&held, limiters),
        Err(Trouble::NoNode) => json!({ "problem": "no sidecar calls there yet" }),
        Err(trouble) => json!({ "problem": format!("the shares of the others can't be read: {trouble}") }),
    };
    if let (Value::Object(shown), Value::Object(read)) = (&mut shown, read) {
        shown.extend(read);
    }
    shown
}

fn cards(held: &[(String, Held)], limiters: &Limiters) -> Value {
    let (holder, cards): (Vec<_>, Vec<_>) = held.iter().partition(|(name, _)| name == NAME);
    let mut sums: BTreeMap<&String, u64> = BTreeMap::new();
    let mut sidecars = Map::new();
    for (name, held) in cards {
        let card = Card::read(&held.data);
        let mut callers = Map::new();
        for caller in limiters.keys() {
            let share = card.shares.get(caller).copied().unwrap_or(0);
            *sums.entry(caller).or_default() += u64::from(share);
            let asks = card.asks.get(caller).copied().unwrap_or(0) as f64 / 1e6;
            let before = card.before.get(caller).copied().map(part);
            let row = json!({ "share": part(share), "asks_per_s": asks, "before": before });
            callers.insert(caller.clone(), row);
        }
        let row = json!({
            "this": (held.owner == Owner::Me).then_some(true),
            "age_s": age(held),
            "confirmed": card.is_taken(),
            "callers": callers,
        });
        sidecars.insert(name.clone(), row);
    }
    let given: Map<_, _> =
        sums.into_iter().map(|(caller, sum)| (caller.clone(), json!(part(sum as u32)))).collect();
    json!({ "holder": holder.first().map(|(_, held)| of_holder(held)), "given": given, "sidecars": sidecars })
}

/// Who shares out; an older version's node does not say.
fn of_holder(held: &Held) -> Value {
    let data: Value = serde_json::from_slice(&held.data).unwrap_or_default();
    json!({
        "host": data.get("host").cloned().unwrap_or_else(|| "one of an older version".into()),
        "this": (held.owner == Owner::Me).then_some(true),
        "age_s": age(held),
    })
}

/// Seconds since a node was last written.
fn age(held: &Held) -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis() as i64;
    (held.written > 0).then(|| since.saturating_sub(held.written).max(0) as u64 / 1000)
}

fn part(millionths: u32) -> String {
    format!("{:.1}%", f64::from(millionths) * 100.0 / f64::from(WHOLE))
}
