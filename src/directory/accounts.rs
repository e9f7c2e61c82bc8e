//! What is counted of the callers that the registry knows; survives updates of the view.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::limits::Limiter;
use crate::model::{Grant, Key, Quota, QuotaScope, Service};
use crate::names::CallerName;

/// Of every caller of one service, an account for each of its grants, in their order.
///
/// Nothing is kept of callers and keys that are not in the registry.
#[derive(Debug, Default)]
pub struct Accounts(ahash::HashMap<CallerName, Vec<Account>>);

/// What is counted of one grant.
#[derive(Debug)]
pub struct Account {
    /// Its quota, where it has one.
    pub limiter: Option<Arc<Limiter>>,
    /// The use of its keys, in their order.
    pub keys: Vec<Arc<LastUse>>,
}

/// When a key was last used, to the second.
#[derive(Debug, Default)]
pub struct LastUse(AtomicU64);

impl Accounts {
    /// Those of `service`; what was counted `before` stays where quota or key are the same, and what was
    /// lent stays lent. `shared`: a fleet's quotas are lent to this host.
    pub(super) fn new(
        service: &Service,
        before: Option<(&Service, &Self)>,
        shared: bool,
        now: Instant,
    ) -> Self {
        let accounts = service.callers.iter().map(|(name, grants)| {
            let former = before.and_then(|(service, accounts)| {
                Some((service.callers.get(name)?.as_slice(), accounts.of(name.as_str())))
            });
            let (former, counted) = former.unwrap_or_default();
            let limiter = |quota: &Quota, former: Option<&Limiter>| match quota.scope {
                QuotaScope::Fleet if shared => Limiter::shared(quota.clone(), former, now),
                QuotaScope::Fleet | QuotaScope::Host => Limiter::new(quota.clone(), now),
            };
            let account = |grant| Account::new(grant, former, counted, limiter);
            (name.clone(), grants.iter().map(account).collect())
        });
        Self(accounts.collect())
    }

    /// Whether nothing is forgotten of what was used where they are made anew.
    pub(super) fn are_rested(&self, now: Instant) -> bool {
        let mut limiters = self.0.values().flatten().filter_map(|account| account.limiter.as_ref());
        limiters.all(|limiter| limiter.is_rested(now))
    }

    /// The accounts of one caller; none where the registry doesn't know it.
    pub fn of(&self, caller: &str) -> &[Account] {
        self.0.get(caller).map_or(&[], Vec::as_slice)
    }
}

impl Account {
    fn new(
        grant: &Grant,
        former: &[Grant],
        counted: &[Self],
        new: impl Fn(&Quota, Option<&Limiter>) -> Limiter,
    ) -> Self {
        let known = || former.iter().zip(counted);
        let limiter = grant.quota.as_ref().map(|quota| {
            // the same entry, whatever else it says now
            let same = known().find(|(former, _)| former.of_api == grant.of_api);
            let former = same.and_then(|(_, account)| account.limiter.as_ref());
            let same = former.filter(|limiter| limiter.quota() == quota);
            same.cloned().unwrap_or_else(|| Arc::new(new(quota, former.map(Arc::as_ref))))
        });
        let last_use = |key: &Key| {
            let mut uses = known().flat_map(|(grant, account)| grant.keys.iter().zip(&account.keys));
            let same = uses.find(|(former, _)| former.sha256 == key.sha256);
            same.map(|(_, last_use)| last_use.clone()).unwrap_or_default()
        };
        Self { limiter, keys: grant.keys.iter().map(last_use).collect() }
    }
}

impl LastUse {
    /// It is used now.
    pub fn touch(&self, now: SystemTime) {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // workers share it: most calls leave it as it is
        if self.0.load(Relaxed) < second {
            self.0.store(second, Relaxed);
        }
    }

    /// How long ago it was used; `None`: not since the start.
    pub fn ago(&self, now: SystemTime) -> Option<Duration> {
        match self.0.load(Relaxed) {
            0 => None,
            second => {
                let then = UNIX_EPOCH + Duration::from_secs(second);
                Some(now.duration_since(then).unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Lent;
    use serde_json::json;

    fn service(rate: u32, keys: &[u8]) -> Service {
        limited(json!({"rate": rate, "burst": 1}), keys)
    }

    fn limited(quota: serde_json::Value, keys: &[u8]) -> Service {
        let quota = Quota::parse(&quota).ok();
        let key = |n: &u8| Key { sha256: [*n; 32], expires: None };
        let keys = keys.iter().map(key).collect();
        let grant = Grant { keys, apis: vec!["*".into()], quota, ..Grant::default() };
        let mut service = Service::default();
        service.callers.insert(CallerName::new("web").unwrap(), vec![grant]);
        service
    }

    #[test]
    fn what_is_counted_stays_with_the_same_quota_and_the_same_key() {
        let (now, today) = (Instant::now(), SystemTime::now());
        let (first, rotated, raised) = (service(1, &[1]), service(1, &[2, 1]), service(2, &[2]));
        let one = Accounts::new(&first, None, false, now);
        let take = |accounts: &Accounts| accounts.of("web")[0].limiter.as_ref().unwrap().take(now).is_ok();
        assert!(take(&one) && !take(&one));
        one.of("web")[0].keys[0].touch(today);
        let two = Accounts::new(&rotated, Some((&first, &one)), false, now);
        assert!(!take(&two), "the quota is the same");
        let used: Vec<_> = two.of("web")[0].keys.iter().map(|key| key.ago(today).is_some()).collect();
        assert_eq!(used, [false, true]);
        let three = Accounts::new(&raised, Some((&rotated, &two)), false, now);
        assert!(take(&three), "another quota begins anew");
        assert!(three.of("shop").is_empty());
    }

    fn limiter(accounts: &Accounts) -> &Limiter {
        accounts.of("web")[0].limiter.as_ref().unwrap()
    }

    #[test]
    fn an_entry_that_covers_more_apis_keeps_what_is_used() {
        let now = Instant::now();
        let (first, mut second) = (service(1, &[]), service(1, &[]));
        let one = Accounts::new(&first, None, false, now);
        assert!(limiter(&one).take(now).is_ok());
        second.callers.get_mut("web").unwrap()[0].apis.push("get".into());
        let two = Accounts::new(&second, Some((&first, &one)), false, now);
        assert!(limiter(&two).take(now).is_err());
    }

    #[test]
    fn what_is_lent_and_saved_up_stays_where_a_shared_quota_is_edited() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = limited(json!({"rate": 10, "burst": 100}), &[]);
        let one = Accounts::new(&first, None, true, start);
        limiter(&one).lend(Some(Lent { share: 500_000, until: at(100), kept: 0 }), start);
        assert!(limiter(&one).take(start).is_ok());
        // five a second for four seconds are saved up; what does not fit is not kept
        for (quota, passes) in [
            (json!({"rate": 10, "burst": 1000}), 20),
            (json!({"rate": 10, "burst": 8, "mode": "shadow"}), 4),
            (json!({"rate": 1, "burst": 60, "per": "10s"}), 20),
        ] {
            let second = limited(quota.clone(), &[]);
            let two = Accounts::new(&second, Some((&first, &one)), true, at(4));
            assert_eq!(limiter(&two).lent(at(4)), Some(500_000), "{quota}");
            assert_eq!(limiter(&two).asked(), Some(1));
            let passed = (0..100).filter(|_| limiter(&two).take(at(4)).is_ok()).count();
            assert_eq!(passed, passes, "{quota}");
        }
        let own = limited(json!({"rate": 10, "scope": "host"}), &[]);
        let three = Accounts::new(&own, Some((&first, &one)), true, at(4));
        assert!(limiter(&three).take(at(4)).is_ok(), "another scope begins anew");
    }
}
