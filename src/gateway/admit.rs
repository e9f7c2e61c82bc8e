//! Who calls, and whether they may.

use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::call::Read;
use super::{Record, Worker};
use crate::directory::{Entry, Route};
use crate::error::CallError;
use crate::model::{Access, Grant, Key, State};

/// Who calls, as far as the service wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    name: Option<String>,
    /// Which of its grants the key opened.
    opened: Vec<usize>,
    /// It named none and is the host's own.
    is_host: bool,
}

/// Takes identity and key from the call, or the host's own where it has neither; checks the key if the service wants one.
pub(super) fn identify(
    worker: &Worker,
    entry: &Entry,
    call: &Read,
    record: &mut Record,
) -> Result<Caller, CallError> {
    record.knows_service();
    if entry.service.state != State::On {
        return Err(CallError::ServiceOff(entry.name.to_string()));
    }
    let named = call.header("x-caller").or_else(|| call.yar_field(|header| &header.provider));
    let given = call.header("x-api-key").or_else(|| call.yar_field(|header| &header.token));
    let is_host = named.is_none() && given.is_none() && worker.host_caller.is_some();
    let (name, key) = match (named, given, &worker.host_caller) {
        (None, None, Some(own)) => (Some(own.name.as_str()), own.key.as_deref()),
        _ => (named, given),
    };
    record.caller = name.map(|name| name.chars().take(128).collect());
    let mut opened = Vec::new();
    if entry.service.access == Access::Key {
        let refused = |reason| CallError::UnknownKey { service: entry.name.to_string(), reason };
        opened = check_key(entry, name, key, SystemTime::now()).map_err(refused)?;
    }
    let caller = Caller { name: name.map(str::to_owned), opened, is_host };
    record.trail.asked =
        call.header("x-remora-explain").is_some_and(|value| value == "1") && caller.may_ask(worker);
    Ok(caller)
}

impl Caller {
    /// Whether it may be told why its calls go as they do: a name that anybody may write is not enough.
    fn may_ask(&self, worker: &Worker) -> bool {
        let is_proven = self.is_host || !self.opened.is_empty();
        is_proven && self.name.as_ref().is_some_and(|name| worker.askers.contains(name))
    }
}

/// The caller's grants that the key opens, at least one.
fn check_key(
    entry: &Entry,
    name: Option<&str>,
    key: Option<&str>,
    now: SystemTime,
) -> Result<Vec<usize>, String> {
    let name = name.ok_or("say who calls by X-Caller (Yar: provider) and X-Api-Key (Yar: token)")?;
    let key = key.ok_or_else(|| format!("caller \"{name}\" sent none by X-Api-Key (Yar: token)"))?;
    let grants = entry.service.callers.get(name).map_or(&[][..], Vec::as_slice);
    let opened = (0..).zip(grants).filter(|(_, grant)| opens(&grant.keys, key, now));
    let opened: Vec<_> = opened.map(|(index, _)| index).collect();
    if entry.service.callers.is_empty() {
        return Err(format!("nobody has one; /services/{} of the admin port says why", entry.name));
    }
    // an unknown caller and a wrong key read the same
    if opened.is_empty() {
        Err(format!("this one does not open it for caller \"{name}\""))
    } else {
        Ok(opened)
    }
}

fn opens(keys: &[Key], given: &str, now: SystemTime) -> bool {
    let given = Sha256::digest(given.as_bytes());
    let same = |key: &Key| key.sha256.iter().zip(given.iter()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0;
    let live = |key: &Key| key.expires.is_none_or(|expires| now < expires);
    // every key is compared, whichever one fits
    keys.iter().fold(false, |found, key| found | (same(key) & live(key)))
}

/// Whether the caller may call this API.
pub(super) fn permit(entry: &Entry, caller: &Caller, route: &Route, api: &str) -> Result<(), CallError> {
    if entry.service.access == Access::Open {
        return Ok(());
    }
    let name = caller.name.as_deref().unwrap_or("");
    let allowed =
        |grant: &Grant| grant.state == State::On && grant.apis.iter().any(|p| covers(p, api, route));
    let grants = entry.service.callers.get(name).map_or(&[][..], Vec::as_slice);
    let mut opened = caller.opened.iter().filter_map(|index| grants.get(*index));
    match opened.any(allowed) {
        true => Ok(()),
        false => Err(CallError::Forbidden { caller: name.to_owned(), api: format!("{}/{api}", entry.name) }),
    }
}

/// `*` at the end of a pattern stands for any rest; an API named `*` is covered by its own name too.
fn covers(pattern: &str, api: &str, route: &Route) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => api.starts_with(start),
        None => pattern == api || pattern == route.name.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_key_opens_until_it_expires_and_two_may_live() {
        let key = |text: &str, expires| Key { sha256: Sha256::digest(text).into(), expires };
        let now = SystemTime::now();
        let keys = [key("old", Some(now + Duration::from_secs(1))), key("new", None)];
        assert!(opens(&keys, "old", now) && opens(&keys, "new", now));
        assert!(!opens(&keys, "old", now + Duration::from_secs(1)));
        assert!(!opens(&keys, "", now) && !opens(&[], "old", now));
    }
}
