//! Decides everything about a call; after it nothing is asked again.

use std::sync::Arc;
use std::time::Instant;

use super::admit::{Caller, permit, within_quota};
use super::call::{Body, Read};
use super::{Record, Target, key, millis};
use crate::directory::{Entry, Route};
use crate::error::CallError;
use crate::model::State;
use crate::names::ApiName;

/// A call, decided.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The service.
    pub service: String,
    /// The API and who serves it.
    pub route: Arc<Route>,
    /// The API as called: the route's name unless that is `*`.
    pub api: String,
    /// Until then the answer's head must be there.
    pub deadline: Instant,
    /// The time the call had in all, in milliseconds.
    pub patience_ms: u64,
    /// The caller's name, where it has one.
    pub caller: Option<String>,
    /// What [`Balance::Hash`] looks at, where it does and the call has it.
    pub hash: Option<u64>,
}

impl Plan {
    /// Whether anything of it may be sent again.
    pub(super) fn may_repeat(&self) -> bool {
        self.route.policy.retries > 0 || self.route.api.idempotent
    }
}

/// The API, whether it is on, whether the caller may call it, and that often, whether anybody serves it,
/// and until when.
pub(super) fn plan(
    entry: &Entry,
    caller: &Caller,
    call: &Read,
    record: &mut Record,
) -> Result<Plan, CallError> {
    let service = entry.name.to_string();
    let api = call.target.api.clone();
    let no_api = || CallError::NoApi { service: service.clone(), api: call.target.rest_shown() };
    // what goes into a provider's path under `*` is no more than what `permit` is asked about
    if let Some(reason) = no_name(&call.target) {
        return Err(CallError::BadApi(reason));
    }
    let known = entry.route(&api).filter(|_| !api.is_empty());
    let route = known.ok_or_else(|| left_out(entry, &api).unwrap_or_else(no_api))?.clone();
    let takes_more = route.name.as_str() == "*" || matches!(call.body, Body::Yar(_));
    if call.target.rest != api && !takes_more {
        return Err(no_api());
    }
    if route.api.state != State::On {
        return Err(CallError::ApiOff { service, api });
    }
    let grant = permit(entry, caller, &route, &api)?;
    within_quota(entry, caller, grant, record)?;
    if route.pool.is_empty() {
        return Err(CallError::NoProvider { service, known: route.pool.known() });
    }
    let asked = call.asked.unwrap_or(route.policy.timeout);
    let deadline = call.started + asked.min(route.policy.timeout);
    let patience_ms = millis(call.started, deadline);
    let hash = key::of(&route.policy, call);
    Ok(Plan { service, route, api, deadline, patience_ms, caller: record.caller.clone(), hash })
}

/// Why what a call names can't be an API, where it names something.
fn no_name(target: &Target) -> Option<String> {
    if climbs(&target.rest) {
        return Some(format!("\"{}\" has a segment `.` or `..`, which no api takes", target.rest_shown()));
    }
    match ApiName::new(&target.api) {
        _ if target.api.is_empty() => None,
        _ if target.api == "*" => {
            Some("\"*\" stands for every api of a service; call one by its name".into())
        }
        Ok(_) => None,
        Err(bad) => Some(bad.to_string()),
    }
}

/// The API's node is in the registry, in either layout, and can't be read.
fn left_out(entry: &Entry, api: &str) -> Option<CallError> {
    let service = &entry.name;
    let paths = [format!("/api/{service}/{api}"), format!("/services/{service}/{api}")];
    let node = entry.service.skipped.iter().find(|node| paths.contains(&node.path))?;
    Some(CallError::BadApi(format!(
        "api \"{api}\" of service \"{service}\" is not in force: its node {} can't be read: {}",
        node.path, node.reason
    )))
}

/// Whether a path has a segment that leads out of where it stands, also percent-encoded.
fn climbs(rest: &str) -> bool {
    let plain = rest.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

impl Target {
    fn rest_shown(&self) -> String {
        let named = if self.rest.is_empty() { &self.api } else { &self.rest };
        named.chars().take(128).flat_map(char::escape_default).collect()
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
