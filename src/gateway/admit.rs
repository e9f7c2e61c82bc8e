//! Who calls, and whether they may.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::call::{Read, shortened};
use super::headers::{CALLER, KEY};
use super::{Record, Worker};
use crate::directory::{Entry, Route};
use crate::error::{CallError, OverQuota};
use crate::limits::Beyond;
use crate::model::{Access, Grant, Key, QuotaMode, State};
use crate::names::CallerName;
use crate::units::show_duration;

/// Longest key that is looked at, in bytes: as long as one in a `key_file`.
const MAX_KEY: usize = 4096;

/// Who calls, as far as the service wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    name: Option<Arc<str>>,
    /// Which of its grants the key opened.
    opened: Vec<usize>,
    /// It named none: the kernel vouches for it, or it is the host's own.
    is_of_host: bool,
}

/// Takes identity and key from the call; where it has neither, who the listener vouches for, or the
/// host's own. Checks the key if the service wants one.
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
    // what is no text is refused: taken for nothing, its caller would be somebody else
    let unread = |name| CallError::MalformedRequest(format!("{name}, or its field in Yar, is not UTF-8"));
    let named = call.tells(&call.said.caller, |header| &header.provider);
    let named = named.map(str::from_utf8).transpose().map_err(|_| unread(&CALLER))?;
    let given = call.tells(&call.said.key, |header| &header.token);
    // a key is looked at as bytes: to see that it is text costs less where it is ASCII
    if given.is_some_and(|key| !key.is_ascii() && str::from_utf8(key).is_err()) {
        return Err(unread(&KEY));
    }
    let silent = named.is_none() && given.is_none();
    let vouched = call.vouched.as_ref().filter(|_| silent).map(CallerName::as_str);
    let (name, key) = match (vouched, worker.host_caller.as_ref().filter(|_| silent)) {
        (Some(name), _) => (Some(name), None),
        (None, Some(own)) => (Some(own.name.as_str()), own.key.as_deref().map(str::as_bytes)),
        (None, None) => (named, given),
    };
    let name: Option<Arc<str>> = name.map(Arc::from);
    record.caller = name.as_ref().map(shortened);
    let mut opened = Vec::new();
    if entry.service.access == Access::Key {
        let refused = |reason| CallError::UnknownKey { service: entry.name.to_string(), reason };
        opened = match vouched {
            Some(name) => without_key(entry, name),
            None => check_key(entry, name.as_deref(), key, SystemTime::now()),
        }
        .map_err(refused)?;
    }
    let caller = Caller { name, opened, is_of_host: silent };
    record.trail.asked = call.said.explain() && caller.may_ask(worker);
    Ok(caller)
}

impl Caller {
    /// Whether it may be told why its calls go as they do: a name that anybody may write is not enough.
    fn may_ask(&self, worker: &Worker) -> bool {
        let is_proven = self.is_of_host || !self.opened.is_empty();
        is_proven && self.name.as_deref().is_some_and(|name| worker.askers.iter().any(|asker| asker == name))
    }
}

/// All grants of a caller whom the kernel vouches for, at least one.
fn without_key(entry: &Entry, name: &str) -> Result<Vec<usize>, String> {
    match entry.service.callers.get(name).map_or(0, Vec::len) {
        0 => Err(format!("caller \"{name}\", this listener's name for the calling user, has no entry there")),
        grants => Ok((0..grants).collect()),
    }
}

/// The caller's grants that the key opens, at least one.
fn check_key(
    entry: &Entry,
    name: Option<&str>,
    key: Option<&[u8]>,
    now: SystemTime,
) -> Result<Vec<usize>, String> {
    let name = name.ok_or("say who calls by X-Caller (Yar: provider) and X-Api-Key (Yar: token)")?;
    let key = key.ok_or_else(|| format!("caller \"{name}\" sent none by X-Api-Key (Yar: token)"))?;
    let grants = entry.service.callers.get(name).map_or(&[][..], Vec::as_slice);
    if key.len() > MAX_KEY {
        return Err(format!("this one has {} bytes, more than the {MAX_KEY} that any has", key.len()));
    }
    let digest = Sha256::digest(key).into();
    let accounts = entry.accounts.of(name);
    let mut opened = Vec::new();
    for (index, grant) in grants.iter().enumerate() {
        let Some(key) = opens(&grant.keys, &digest, now) else { continue };
        let last_use = accounts.get(index).and_then(|account| account.keys.get(key));
        last_use.into_iter().for_each(|last_use| last_use.touch(now));
        opened.push(index);
    }
    if entry.service.callers.values().flatten().all(|grant| grant.keys.is_empty()) {
        return Err(format!("nobody has one; /services/{} of the admin port says why", entry.name));
    }
    // an unknown caller and a wrong key read the same
    if opened.is_empty() {
        Err(format!("this one does not open it for caller \"{name}\""))
    } else {
        Ok(opened)
    }
}

/// Which of the keys the given one is, while it lives.
fn opens(keys: &[Key], given: &[u8; 32], now: SystemTime) -> Option<usize> {
    let same = |key: &Key| key.sha256.iter().zip(given).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0;
    let live = |key: &Key| key.expires.is_none_or(|expires| now < expires);
    // every key is compared, whichever one fits
    let fits = |(index, key): (usize, &Key)| (same(key) & live(key)).then_some(index);
    keys.iter().enumerate().fold(None, |found, key| fits(key).or(found))
}

/// Whether the caller may call this API, and which of its grants is about that; an open service lets in
/// callers without one.
pub(super) fn permit(
    entry: &Entry,
    caller: &Caller,
    route: &Route,
    api: &str,
) -> Result<Option<usize>, CallError> {
    let name = caller.name.as_deref().unwrap_or("");
    let grants = entry.service.callers.get(name).map_or(&[][..], Vec::as_slice);
    let is_about = |grant: &Grant| grant.apis.iter().any(|p| covers(p, api, route));
    if entry.service.access == Access::Open {
        return Ok(grants.iter().position(is_about));
    }
    let allows =
        |index: &&usize| grants.get(**index).is_some_and(|grant| grant.state == State::On && is_about(grant));
    match caller.opened.iter().find(allows) {
        Some(index) => Ok(Some(*index)),
        None => Err(CallError::Forbidden { caller: name.to_owned(), api: format!("{}/{api}", entry.name) }),
    }
}

/// Counts the call in the quota of its grant, where that has one; waits where its part of a fleet's quota is
/// about to come.
pub(super) async fn within_quota(
    entry: &Entry,
    caller: &Caller,
    grant: Option<usize>,
    deadline: Instant,
    record: &mut Record,
) -> Result<(), CallError> {
    let (Some(name), Some(grant)) = (&caller.name, grant) else { return Ok(()) };
    let account = entry.accounts.of(name).get(grant);
    let Some(limiter) = account.and_then(|account| account.limiter.as_ref()) else { return Ok(()) };
    let quota = limiter.quota();
    let mut taken = limiter.take(Instant::now());
    if let Err(Beyond { hope: Some(until), mode: QuotaMode::Enforce, .. }) = taken {
        Box::pin(limiter.given(until.min(deadline))).await;
        taken = limiter.take(Instant::now());
    }
    match taken {
        // what is only counted is not told
        Ok(_) if quota.mode == QuotaMode::Shadow => {}
        Ok(standing) => record.stands(standing, limiter),
        Err(beyond) => {
            record.goes_beyond(&beyond);
            if quota.mode == QuotaMode::Enforce {
                record.stands(beyond.standing, limiter);
                let shown = || format!("{} per {}", quota.rate, show_duration(quota.per));
                return Err(CallError::QuotaExceeded(OverQuota {
                    caller: name.to_string(),
                    service: entry.name.to_string(),
                    quota: quota.is_read().then(shown),
                    part: beyond.part,
                    wait: beyond.standing.seconds(),
                }));
            }
        }
    }
    Ok(())
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
        let opens = |keys: &[Key], text: &str, now| opens(keys, &Sha256::digest(text).into(), now);
        assert_eq!((opens(&keys, "old", now), opens(&keys, "new", now)), (Some(0), Some(1)));
        assert_eq!(opens(&keys, "old", now + Duration::from_secs(1)), None);
        assert_eq!((opens(&keys, "", now), opens(&[], "old", now)), (None, None));
    }
}
