//! Who calls, and whether they may.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::call::{Read, shortened};
use super::headers::{CALLER, KEY};
use super::{Record, Worker};
use crate::directory::{Account, Entry, Route};
use crate::error::{CallError, OverQuota};
use crate::limits::Beyond;
use crate::model::{Access, Grant, Key, QuotaMode, State};
use crate::names::CallerName;
use crate::units::show_duration;

/// Longest key that is looked at, in bytes: as long as one in a `key_file`.
const MAX_KEY: usize = 4096;

/// Who calls, as far as the service wants to know.
#[derive(Debug)]
pub(super) struct Caller<'e> {
    name: Option<Arc<str>>,
    /// What the registry grants it,
    grants: &'e [Grant],
    /// and what is counted of each.
    accounts: &'e [Account],
    /// Which of its grants the key opened.
    opened: Option<Opened>,
    /// It named none: the kernel vouches for it, or it is the host's own.
    is_of_host: bool,
}

/// The key that a call is checked by: its own, or the host's, which is hashed once.
enum Shown<'c> {
    Plain(&'c [u8]),
    Hashed([u8; 32]),
}

/// Some of a caller's grants, by their place; most callers have one, and that one takes no memory.
#[derive(Debug)]
struct Opened(usize, Vec<usize>);

/// Takes identity and key from the call; where it has neither, who the listener vouches for, or the
/// host's own. Checks the key if the service wants one.
pub(super) fn identify<'e>(
    worker: &Worker,
    entry: &'e Entry,
    call: &Read,
    record: &mut Record,
) -> Result<Caller<'e>, CallError> {
    record.knows_service();
    if entry.service.state != State::On {
        return Err(CallError::ServiceOff(entry.name.to_string()));
    }
    // what is no text is refused: taken for nothing, its caller would be somebody else
    let unread = |name| CallError::MalformedRequest(format!("{name}, or its field in Yar, is not UTF-8"));
    let named = call.tells(CALLER, |header| &header.provider);
    let named = named.map(str::from_utf8).transpose().map_err(|_| unread(CALLER))?;
    let given = call.tells(KEY, |header| &header.token);
    // a key is looked at as bytes: to see that it is text costs less where it is ASCII
    if given.is_some_and(|key| !key.is_ascii() && str::from_utf8(key).is_err()) {
        return Err(unread(KEY));
    }
    let silent = named.is_none() && given.is_none();
    let vouched = call.vouched.as_ref().filter(|_| silent).map(CallerName::as_str);
    let (name, key) = match (vouched, worker.host_caller.as_ref().filter(|_| silent)) {
        (Some(name), _) => (Some(name), None),
        (None, Some(own)) => (Some(own.name.as_str()), worker.host_key.map(Shown::Hashed)),
        (None, None) => (named, given.map(Shown::Plain)),
    };
    let mut caller = Caller::of(entry, name, silent);
    record.caller = caller.name.as_ref().map(shortened);
    if entry.service.access == Access::Key {
        let refused = |reason| CallError::UnknownKey { service: entry.name.to_string(), reason };
        let opened = match vouched {
            Some(name) => caller.without_key(name),
            None => check_key(entry, &caller, key, SystemTime::now()),
        };
        caller.opened = Some(opened.map_err(refused)?);
    }
    record.trail.asked = call.said.explain() && caller.may_ask(worker);
    Ok(caller)
}

impl<'e> Caller<'e> {
    fn of(entry: &'e Entry, name: Option<&str>, is_of_host: bool) -> Self {
        let known = name.and_then(|name| entry.service.callers.get_key_value(name));
        let accounts = known.map_or(&[][..], |(name, _)| entry.accounts.of(name.as_str()));
        let grants = known.map_or(&[][..], |(_, grants)| grants.as_slice());
        // a name that the registry has is there to be shared
        let name = known.map(|(name, _)| name.shared()).or_else(|| name.map(Arc::from));
        Self { name, grants, accounts, opened: None, is_of_host }
    }

    /// Whether it may be told why its calls go as they do: a name that anybody may write is not enough.
    fn may_ask(&self, worker: &Worker) -> bool {
        let is_proven = self.is_of_host || self.opened.is_some();
        is_proven && self.name.as_deref().is_some_and(|name| worker.askers.iter().any(|asker| asker == name))
    }

    /// All grants of a caller whom the kernel vouches for, at least one.
    fn without_key(&self, name: &str) -> Result<Opened, String> {
        let no_entry =
            || format!("caller \"{name}\", this listener's name for the calling user, has no entry there");
        Opened::by(0..self.grants.len()).ok_or_else(no_entry)
    }
}

impl Opened {
    /// At least one.
    fn by(mut places: impl Iterator<Item = usize>) -> Option<Self> {
        let first = places.next()?;
        Some(Self(first, places.collect()))
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.0).chain(self.1.iter().copied())
    }
}

/// The caller's grants that the key opens, at least one.
fn check_key(
    entry: &Entry,
    caller: &Caller<'_>,
    key: Option<Shown<'_>>,
    now: SystemTime,
) -> Result<Opened, String> {
    let name = caller.name.as_deref();
    let name = name.ok_or("say who calls by X-Caller (Yar: provider) and X-Api-Key (Yar: token)")?;
    let key = key.ok_or_else(|| format!("caller \"{name}\" sent none by X-Api-Key (Yar: token)"))?;
    let digest = match key {
        Shown::Hashed(digest) => digest,
        Shown::Plain(key) if key.len() <= MAX_KEY => hashed(key),
        Shown::Plain(key) => {
            return Err(format!("this one has {} bytes, more than the {MAX_KEY} that any has", key.len()));
        }
    };
    let opened = caller.grants.iter().enumerate().filter_map(|(index, grant)| {
        let key = opens(&grant.keys, &digest, now)?;
        let last_use = caller.accounts.get(index).and_then(|account| account.keys.get(key));
        last_use.into_iter().for_each(|last_use| last_use.touch(now));
        Some(index)
    });
    Opened::by(opened).ok_or_else(|| {
        if entry.service.callers.values().flatten().all(|grant| grant.keys.is_empty()) {
            return format!("nobody has one; /services/{} of the admin port says why", entry.name);
        }
        // an unknown caller and a wrong key read the same
        format!("this one does not open it for caller \"{name}\"")
    })
}

/// A key as the registry has it.
pub(super) fn hashed(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
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
    caller: &Caller<'_>,
    route: &Route,
    api: &str,
) -> Result<Option<usize>, CallError> {
    let grants = caller.grants;
    let is_about = |grant: &Grant| grant.apis.iter().any(|p| covers(p, api, route));
    if entry.service.access == Access::Open {
        return Ok(grants.iter().position(is_about));
    }
    let allows =
        |index: &usize| grants.get(*index).is_some_and(|grant| grant.state == State::On && is_about(grant));
    match caller.opened.iter().flat_map(Opened::places).find(allows) {
        Some(index) => Ok(Some(index)),
        None => {
            let name = caller.name.as_deref().unwrap_or_default().to_owned();
            Err(CallError::Forbidden { caller: name, api: format!("{}/{api}", entry.name) })
        }
    }
}

/// Counts the call in the quota of its grant, where that has one; waits where its part of a fleet's quota is
/// about to come. The time is then what this gives.
pub(super) async fn within_quota(
    caller: &Caller<'_>,
    grant: Option<usize>,
    (mut now, deadline): (Instant, Instant),
    entry: &Entry,
    record: &mut Record,
) -> Result<Instant, CallError> {
    let account = grant.and_then(|grant| caller.accounts.get(grant));
    let Some(limiter) = account.and_then(|account| account.limiter.as_ref()) else { return Ok(now) };
    let quota = limiter.quota();
    let mut taken = limiter.take(now);
    if let Err(Beyond { hope: Some(until), mode: QuotaMode::Enforce, .. }) = taken {
        Box::pin(limiter.given(until.min(deadline))).await;
        now = Instant::now();
        taken = limiter.take(now);
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
                    caller: caller.name.as_deref().unwrap_or_default().to_owned(),
                    service: entry.name.to_string(),
                    quota: quota.is_read().then(shown),
                    part: beyond.part,
                    wait: beyond.standing.seconds(),
                }));
            }
        }
    }
    Ok(now)
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
