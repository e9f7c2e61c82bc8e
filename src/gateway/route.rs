//! Decides everything about a call; after it nothing is asked again.

use std::sync::Arc;
use std::time::Instant;

use super::admit::{Caller, permit, within_quota};
use super::call::{Body, Read};
use super::{Record, Target, key, millis};
use crate::directory::{Entry, Route};
use crate::error::CallError;
use crate::model::{Encoding, State};
use crate::names::{ApiName, ServiceName};
use crate::telemetry::Trace;
use crate::words;

/// A call, decided.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The service.
    pub service: ServiceName,
    /// The API and who serves it.
    pub route: Arc<Route>,
    /// The API as called: the route's name unless that is `*`.
    pub api: Arc<str>,
    /// When it was decided,
    pub decided: Instant,
    /// and until when the answer's head must be there.
    pub deadline: Instant,
    /// The time the call had in all, in milliseconds.
    pub patience_ms: u64,
    /// Whether the caller set a deadline, which its provider is told.
    pub has_deadline: bool,
    /// The caller's name, where it has one.
    pub caller: Option<Arc<str>>,
    /// What [`Balance::Hash`] looks at, where it does and the call has it.
    pub hash: Option<u64>,
    /// Its place in a trace, where it is recorded.
    pub trace: Option<Trace>,
}

impl Plan {
    /// Whether anything of it may be sent again.
    pub(super) fn may_repeat(&self) -> bool {
        self.route.policy.retries > 0 || self.route.api.idempotent
    }
}

/// The API, whether it is on, whether the caller may call it, and that often, whether anybody serves it or may be
/// tried, and until when.
pub(super) async fn plan(
    entry: &Entry,
    caller: &Caller<'_>,
    call: &Read,
    record: &mut Record,
) -> Result<Plan, CallError> {
    let service = entry.name.clone();
    let api = call.target.api.clone();
    let no_api = || match call.body {
        Body::Yar(_) if api.is_empty() => CallError::BadApi(format!(
            "the method names no api; over raw Yar call {service}.{{api}}, over HTTP {{api}} at /{service}"
        )),
        Body::Yar(_) | Body::Http(_) => {
            CallError::NoApi { service: service.to_string(), api: call.target.rest_shown() }
        }
    };
    // what goes into a provider's path under `*` is no more than what `permit` is asked about
    if let Some(reason) = no_name(&call.target) {
        return Err(CallError::BadApi(reason));
    }
    let known = entry.route(&api).filter(|_| !api.is_empty());
    let route = known
        .ok_or_else(|| left_out(entry, &api).filter(|_| !api.is_empty()).unwrap_or_else(no_api))?
        .clone();
    // from here on its rules are known, whatever becomes of it
    record.route = Some(route.clone());
    if call.target.rest != api && matches!(call.body, Body::Http(_)) {
        match (route.name.as_str(), route.api.encoding) {
            ("*", Encoding::Json) => {}
            ("*", _) => return Err(CallError::BadApi(no_path(&service, &api, &call.target))),
            _ => return Err(no_api()),
        }
    }
    if route.api.state != State::On {
        return Err(CallError::ApiOff { service: service.to_string(), api: api.to_string() });
    }
    let grant = permit(entry, caller, &route, &api)?;
    let asked = call.asked.unwrap_or(route.policy.timeout);
    let deadline = call.started + asked.min(route.policy.timeout);
    let decided = within_quota(caller, grant, (Instant::now(), deadline), entry, record).await?;
    if route.pool.is_empty() {
        return Err(CallError::NoProvider { service: service.to_string(), known: route.pool.known() });
    }
    if let Some(retry_after) = route.pool.all_open(decided) {
        return Err(CallError::CircuitOpen { service: service.to_string(), retry_after });
    }
    let patience_ms = millis(call.started, deadline);
    let hash = key::of(&route.policy, call);
    let (has_deadline, caller, trace) = (call.asked.is_some(), record.caller.clone(), record.trace());
    Ok(Plan { service, route, api, decided, deadline, patience_ms, has_deadline, caller, hash, trace })
}

/// A JSON provider would get the rest of the path; dropped, it would be missed.
fn no_path(service: &ServiceName, api: &str, target: &Target) -> String {
    format!(
        "\"{}\" is more than the name of a function of a Yar provider; call /{service}/{api} alone",
        target.rest_shown()
    )
}

/// Why what a call names can't be an API, where it names something.
fn no_name(target: &Target) -> Option<String> {
    if climbs(&target.rest) {
        return Some(format!("\"{}\" has a segment `.` or `..`, which no api takes", target.rest_shown()));
    }
    match ApiName::check(&target.api) {
        _ if target.api.is_empty() => None,
        _ if &*target.api == "*" => {
            Some("\"*\" stands for every api of a service; call one by its name".into())
        }
        Ok(()) => None,
        Err(bad) => Some(bad.to_string()),
    }
}

/// The API's node, or that of `*`, is in the registry, in either layout, and can't be read.
fn left_out(entry: &Entry, api: &str) -> Option<CallError> {
    let (service, skipped) = (&entry.name, &entry.service.skipped);
    let paths = [api, "*"]
        .map(|name| [format!("/api/{service}/{name}"), format!("/services/{service}/{name}")])
        .concat();
    let node = paths.iter().find_map(|path| skipped.iter().find(|node| node.path == *path))?;
    Some(CallError::BadApi(format!(
        "api \"{api}\" of service \"{service}\" is not in force: its node {} can't be read: {}",
        node.path, node.reason
    )))
}

/// Whether a path has a segment that leads out of where it stands, also percent-encoded.
fn climbs(rest: &str) -> bool {
    if !rest.contains(['.', '%']) {
        return false;
    }
    let plain = rest.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

impl Target {
    fn rest_shown(&self) -> String {
        let named = if self.rest.is_empty() { &self.api } else { &self.rest };
        words::quoted(named, 128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_climbs_is_seen_however_it_is_written() {
        for bad in ["..", "a/../b", "a/%2e%2E/b", "a/.%2e", "a%2f..%2Fb", "a/./b", "a/..%5cb"] {
            assert!(climbs(bad), "{bad}");
        }
        for good in ["a", "a/b.c", "a/...", "a/..b", ""] {
            assert!(!climbs(good), "{good}");
        }
    }
}
