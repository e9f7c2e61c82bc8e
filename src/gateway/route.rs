//! Decides everything about a call; after it nothing is asked again.

use std::sync::Arc;
use std::time::Instant;

use super::admit::{Caller, permit};
use super::call::{Body, Read};
use super::{Record, millis};
use crate::directory::{Entry, Route};
use crate::error::CallError;
use crate::model::State;
use crate::names::ApiName;

/// A call, decided.
#[derive(Debug)]
pub(super) struct Plan {
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
}

/// The API, whether it is on, whether the caller may call it, until when, and whether anybody serves it.
pub(super) fn plan(
    entry: &Entry,
    caller: &Caller,
    call: &Read,
    record: &mut Record,
) -> Result<Plan, CallError> {
    let service = entry.name.to_string();
    let api = call.target.api.clone();
    let no_api = || CallError::NoApi { service: service.clone(), api: call.target.rest_shown() };
    let route = entry.route(&api).ok_or_else(no_api)?.clone();
    let takes_more = route.name.as_str() == "*" || matches!(call.body, Body::Yar(_));
    // what goes into a provider's path under `*` is no more than what `permit` is asked about
    if ApiName::new(&api).is_err() || api == "*" || climbs(&call.target.rest) {
        return Err(no_api());
    }
    if call.target.rest != api && !takes_more {
        return Err(no_api());
    }
    if route.api.state != State::On {
        return Err(CallError::ApiOff { service, api });
    }
    permit(entry, caller, &route, &api)?;
    if route.pool.is_empty() {
        return Err(CallError::NoProvider { service, known: route.pool.known() });
    }
    let asked = call.asked.unwrap_or(route.policy.timeout);
    let deadline = call.started + asked.min(route.policy.timeout);
    let patience_ms = millis(call.started, deadline);
    Ok(Plan { route, api, deadline, patience_ms, caller: record.caller.clone() })
}

/// Whether a path has a segment that leads out of where it stands, also percent-encoded.
fn climbs(rest: &str) -> bool {
    let plain = rest.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

impl super::Target {
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
