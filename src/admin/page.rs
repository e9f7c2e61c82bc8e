//! What the admin pages show, as one value that is printed as JSON or as text.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::provider;
use crate::balance::Pool;
use crate::directory::{Account, Directory, Entry, LastUse, Route};
use crate::explain::Memory;
use crate::model::{Grant, Key, Provider, Service, Skipped};
use crate::names::CallerName;
use crate::registry::Source;
use crate::upstream::Budget;

/// The pages there are.
pub(super) const INDEX: &str = "\
pages (add ?format=json for programs):
  /livez               alive
  /readyz              takes calls
  /metrics             for Prometheus
  /services            services in the view
  /services/{service}  one of them: rules, providers, load, skipped nodes
  /quotas/{service}    who has which part of the quotas that a fleet shares
  /explain             calls that failed, and some that did not
  /explain/{id}        one of them: rules and where each came from, candidates, attempts
  /cache/diff          the view beside what the registry holds now
  /registry            how it stands with the registry
  /config              the configuration as resolved
  POST /log-level      the body is the level: info, debug, call=warn,remora=debug
  POST /registry/trust a ZooKeeper that lost its data, or is another one, is right
  POST /drain          own providers leave the registry, readiness ends
";

/// What `/services` lists.
const IN_VIEW: &str = "services called since the start, or found in the snapshot; any other is read when it is first called, and left out again when nobody called it for 10 minutes";

/// Every service in the view.
pub(super) fn services(directory: &Directory) -> Value {
    let rows = directory.list().into_iter().map(|(name, entry)| {
        let summary = json!({
            "state": entry.service.state,
            "access": entry.service.access,
            "apis": entry.service.apis.len(),
            "providers": count(&entry.service, false),
            "held": count(&entry.service, true),
            "skipped": entry.service.skipped.len(),
            "in_flight": entry.gate.in_flight(),
            "age_s": age(entry.since),
            "checked_s": directory.checked(&entry).0.as_secs(),
            "stale": directory.checked(&entry).1,
        });
        (name.to_string(), summary)
    });
    json!({ "note": IN_VIEW, "services": rows.collect::<serde_json::Map<_, _>>() })
}

/// Addresses that the registry has, or those that it lost with many others.
fn count(service: &Service, held: bool) -> usize {
    let of_apis = service.apis.values().flat_map(|api| api.providers.iter().flatten());
    let all = service.providers.iter().chain(of_apis).filter(|provider| provider.held == held);
    all.map(|provider| &provider.address).collect::<BTreeSet<_>>().len()
}

/// One service with its rules, providers and load; paths as they stand in the registry, below `root`.
pub(super) fn service(directory: &Directory, entry: &Entry, buffers: &Budget, root: &str) -> Value {
    let peers = entry.peers();
    let now = Instant::now();
    // what the registry has, and beside it what it lost with many others
    let list = |all: &[Provider], pool: &Pool, held: bool| {
        let one = |one: &Provider| provider::shown(one, peers.get(&one.address), pool, now);
        all.iter().filter(|provider| provider.held == held).map(one).collect::<Vec<_>>()
    };
    let held = |all: &[Provider], pool: &Pool| Some(list(all, pool, true)).filter(|held| !held.is_empty());
    let api = |route: &std::sync::Arc<Route>| {
        let api = &route.api;
        let shown = json!({
            "state": api.state,
            "encoding": api.encoding,
            "transport": api.transport,
            "path": api.path,
            "method": api.method,
            "params": api.params,
            "idempotent": api.idempotent,
            "description": api.description,
            "schema": api.schema,
            "in_flight": route.gate.as_ref().map(|gate| gate.in_flight()),
            "limit": route.gate.as_ref().map(|gate| gate.limit()),
            "waiting": route.gate.as_ref().map(|gate| gate.waiting()),
            "policy": route.policy.to_value(),
            "providers": api.providers.as_ref().map(|own| list(own, &route.pool, false)),
            "held": api.providers.as_ref().and_then(|own| held(own, &route.pool)),
        });
        (route.name.to_string(), shown)
    };
    let skipped = |node: &Skipped| json!({ "path": format!("{root}{}", node.path), "reason": node.reason });
    let service = &entry.service;
    json!({
        "name": entry.name,
        "state": service.state,
        "access": service.access,
        "owner": service.owner,
        "description": service.description,
        "age_s": age(entry.since),
        "checked_s": directory.checked(entry).0.as_secs(),
        "stale": directory.checked(entry).1,
        "in_flight": entry.gate.in_flight(),
        "limit": entry.gate.limit(),
        "waiting": entry.gate.waiting() + entry.board.waiting(),
        "buffers": { "held": entry.part.held(), "most": buffers.most_of(&entry.part) },
        "policy": entry.policy.to_value(),
        "providers": list(&service.providers, &entry.pool, false),
        "held": held(&service.providers, &entry.pool),
        "apis": entry.all_routes().map(api).collect::<serde_json::Map<_, _>>(),
        "callers": callers(entry, SystemTime::now()),
        "skipped": service.skipped.iter().map(skipped).collect::<Vec<_>>(),
    })
}

/// The calls whose stories are kept.
pub(super) fn stories(memory: &Memory) -> Value {
    let stories: Vec<_> = memory.list().iter().map(|(id, story)| story.summary(*id)).collect();
    json!({ "calls": stories })
}

/// Millionths as people read them.
fn share(millionths: u32) -> String {
    format!("{:.1}%", f64::from(millionths) / 10_000.0)
}

/// Who may call, each key by the beginning of its hash.
fn callers(entry: &Entry, now: SystemTime) -> Value {
    let key = |(key, last_use): (&Key, &std::sync::Arc<LastUse>)| {
        let fingerprint = key.sha256.iter().take(4).map(|byte| format!("{byte:02x}"));
        json!({
            "fingerprint": fingerprint.collect::<String>(),
            "last_used_s": last_use.ago(now).map(|ago| ago.as_secs()),
            "expires_in_s": key.expires.map(|at| at.duration_since(now).map_or(0, |left| left.as_secs())),
        })
    };
    let grant = |(grant, account): (&Grant, &Account)| {
        json!({
            "state": grant.state,
            "apis": grant.apis,
            "quota": grant.quota,
            "lent": account.limiter.as_ref().and_then(|limiter| limiter.lent(Instant::now())).map(share),
            "keys": grant.keys.iter().zip(&account.keys).map(key).collect::<Vec<_>>(),
        })
    };
    let caller = |(name, grants): (&CallerName, &Vec<Grant>)| {
        let grants = grants.iter().zip(entry.accounts.of(name.as_str())).map(grant);
        (name.to_string(), grants.collect::<Vec<_>>().into())
    };
    entry.service.callers.iter().map(caller).collect::<serde_json::Map<_, _>>().into()
}

/// How it stands with the registry.
pub(super) fn registry(source: &Source) -> Value {
    serde_json::to_value(source.status()).unwrap_or_default()
}

fn age(since: SystemTime) -> u64 {
    since.elapsed().map_or(0, |age| age.as_secs())
}

/// A value as indented lines: `key: value`, lists as `- `, what is absent left out.
pub(super) fn as_text(value: &Value) -> String {
    let mut text = String::new();
    lines(value, 0, &mut text);
    text
}

fn lines(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(_, field)| !field.is_null()) {
                one(&format!("{indent}{name}:"), field, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                one(&format!("{indent}-"), item, depth, text);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn one(head: &str, value: &Value, depth: usize, text: &mut String) {
    // writing to a string can't fail
    let _ = match value {
        Value::Object(fields) if fields.is_empty() => writeln!(text, "{head} none"),
        Value::Array(items) if items.is_empty() => writeln!(text, "{head} none"),
        Value::Object(_) | Value::Array(_) => {
            let _ = writeln!(text, "{head}");
            lines(value, depth + 1, text);
            Ok(())
        }
        Value::String(plain) => writeln!(text, "{head} {}", printable(plain)),
        Value::Null | Value::Bool(_) | Value::Number(_) => writeln!(text, "{head} {value}"),
    };
}

/// Quotes and letters of any script as they are, what would leave the line escaped.
fn printable(text: &str) -> String {
    let shown = |c: char| if matches!(c, '\'' | '"') { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_lines_and_a_hostile_name_stays_on_its_line() {
        let value = json!({ "a": 1, "b": [{ "c": "x\ny\u{202e}" }], "d": [], "e": null, "f": "用户's" });
        assert_eq!(as_text(&value), "a: 1\nb:\n  -\n    c: x\\ny\\u{202e}\nd: none\nf: 用户's\n");
    }
}
