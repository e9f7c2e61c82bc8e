//! One caller's quota: GCRA for one of this host, a bucket for the lent part of one that a fleet shares.

use std::fmt;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as Cells, RateLimiter};
use tokio::sync::Notify;

use super::share::{Bucket, Lent};
use crate::model::{Quota, QuotaMode};

/// How long a caller waits before it asks about a quota that can't be read again.
const UNREAD: Duration = Duration::from_secs(10);

/// Bytes of a [`Field`] with the largest numbers.
const LONGEST_FIELD: usize = 43;

type Gcra = RateLimiter<NotKeyed, InMemoryState, Told, StateInformationMiddleware>;

/// A quota and how much of it is used; all workers share it.
pub struct Limiter {
    quota: Quota,
    /// As callers are told of it, made once for all of them.
    policy: Bytes,
    kind: Kind,
}

enum Kind {
    /// It can't be read, and admits nothing.
    Unread,
    /// It is this host's own, since then.
    Own(Instant, Told, Gcra),
    /// It is a fleet's.
    Shared(Shared),
}

/// What is lent to this host of a fleet's quota.
struct Shared {
    bucket: Mutex<Bucket>,
    /// Calls so far.
    asked: AtomicU64,
    /// Told of a call that finds nothing lent,
    missed: Notify,
    /// and all who wait for it of what is lent.
    given: Notify,
}

/// The time as it was last told, in nanoseconds; it never goes back.
#[derive(Debug, Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Relaxed).into()
    }
}

/// A header's value; every answer to a caller with a quota has one, and it is written without an allocation.
#[derive(Debug)]
pub struct Field {
    bytes: [u8; LONGEST_FIELD],
    len: usize,
}

/// How a caller stands with its quota after a call that it admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Calls in each `per`,
    pub rate: u32,
    /// and the time that is meant.
    pub per: Duration,
    /// Calls that are admitted at once.
    pub left: u32,
    /// Until as many as ever are; after a refused call, until one is.
    pub reset: Duration,
}

/// A call beyond the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond {
    /// How the caller stands; nothing is left.
    pub standing: Standing,
    /// Whether it is refused or only counted.
    pub mode: QuotaMode,
    /// Nothing of a fleet's quota is lent to this host, but until then something may be: worth to wait for.
    pub hope: Option<Instant>,
    /// How many millionths of a fleet's quota this host may use.
    pub part: Option<u32>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter").field(&self.quota).finish()
    }
}

impl Limiter {
    /// A quota of this host, with nothing used yet at `now`.
    pub fn new(quota: Quota, now: Instant) -> Self {
        let told = Told::default();
        let apart = Duration::from_nanos(u64::try_from(quota.apart()).unwrap_or(u64::MAX));
        let cells = NonZeroU32::new(quota.burst).zip(Cells::with_period(apart));
        let cells = cells.filter(|_| quota.is_read()).map(|(burst, cells)| cells.allow_burst(burst));
        let gcra = cells.map(|cells| RateLimiter::direct_with_clock(cells, told.clone()).with_middleware());
        let kind = gcra.map_or(Kind::Unread, |gcra| Kind::Own(now, told, gcra));
        Self { policy: policy(&quota), quota, kind }
    }

    /// A quota that a fleet shares; until something of it is lent, only its floor is admitted. What was lent
    /// of the `former` one of the same entry stays lent.
    pub fn shared(quota: Quota, former: Option<&Self>, now: Instant) -> Self {
        let (bucket, asked) = match former.map(|former| &former.kind) {
            Some(Kind::Shared(former)) => {
                (lock(&former.bucket).edited(&quota, now), former.asked.load(Relaxed))
            }
            Some(Kind::Unread | Kind::Own(..)) | None => (Bucket::new(&quota, now), 0),
        };
        let (bucket, asked) = (Mutex::new(bucket), AtomicU64::new(asked));
        let (missed, given) = (Notify::new(), Notify::new());
        let kind = Kind::Shared(Shared { bucket, asked, missed, given });
        Self { policy: policy(&quota), quota, kind }
    }

    /// What it holds to.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// The same as `RateLimit-Policy`, after draft-ietf-httpapi-ratelimit-headers-10.
    pub fn policy(&self) -> &Bytes {
        &self.policy
    }

    /// How many calls were asked for so far, where a fleet shares the quota.
    pub fn asked(&self) -> Option<u64> {
        match &self.kind {
            Kind::Shared(shared) => Some(shared.asked.load(Relaxed)),
            Kind::Unread | Kind::Own(..) => None,
        }
    }

    /// From now on this part of a shared quota is lent to this host; `None`: none is.
    pub fn lend(&self, lent: Option<Lent>, now: Instant) {
        let Kind::Shared(shared) = &self.kind else { return };
        let mut bucket = lock(&shared.bucket);
        bucket.lend(lent, now);
        if bucket.lent(now) > 0 {
            shared.given.notify_waiters();
        }
    }

    /// Waits for a call that finds nothing lent of a shared quota, for the first one since something was.
    pub async fn missed(&self) {
        match &self.kind {
            Kind::Shared(shared) => shared.missed.notified().await,
            Kind::Unread | Kind::Own(..) => std::future::pending().await,
        }
    }

    /// Waits until something of a shared quota is lent, until then at the latest.
    pub async fn given(&self, until: Instant) {
        let Kind::Shared(shared) = &self.kind else { return };
        let mut given = pin!(shared.given.notified());
        // what is lent between looking and waiting counts
        given.as_mut().enable();
        if lock(&shared.bucket).lent(Instant::now()) == 0 {
            let _ = tokio::time::timeout_at(until.into(), given).await;
        }
    }

    /// How many millionths of a shared quota are lent to this host now.
    pub fn lent(&self, now: Instant) -> Option<u32> {
        match &self.kind {
            Kind::Shared(shared) => Some(lock(&shared.bucket).lent(now)),
            Kind::Unread | Kind::Own(..) => None,
        }
    }

    /// Whether as many calls pass at once as ever; a limiter that says so may be forgotten and made anew.
    pub fn is_rested(&self, now: Instant) -> bool {
        let last = match &self.kind {
            Kind::Unread => None,
            Kind::Own(since, told, _) => {
                let told = Duration::from_nanos(told.now().as_u64());
                (!told.is_zero()).then(|| *since + told)
            }
            Kind::Shared(shared) => lock(&shared.bucket).last(),
        };
        let rest = self.quota.apart() * u128::from(self.quota.burst);
        last.is_none_or(|last| now.saturating_duration_since(last).as_nanos() >= rest)
    }

    /// How often calls were refused because the lease of a shared quota had ended.
    pub fn lapses(&self) -> Option<u64> {
        match &self.kind {
            Kind::Shared(shared) => Some(lock(&shared.bucket).lapses()),
            Kind::Unread | Kind::Own(..) => None,
        }
    }

    /// Counts one call, if it is within the quota.
    pub fn take(&self, now: Instant) -> Result<Standing, Beyond> {
        match &self.kind {
            Kind::Unread => Err(self.beyond(UNREAD)),
            Kind::Own(since, told, gcra) => self.take_own((*since, told, gcra), now),
            Kind::Shared(shared) => {
                shared.asked.fetch_add(1, Relaxed);
                let mut bucket = lock(&shared.bucket);
                bucket.take(now).map(|(left, reset)| self.standing(left, reset)).map_err(|wait| {
                    let miss = bucket.misses(now);
                    if miss.is_some_and(|miss| miss.is_first) {
                        shared.missed.notify_one();
                    }
                    let hope = miss.and_then(|miss| miss.hope);
                    Beyond { hope, part: Some(bucket.admits()), ..self.beyond(wait) }
                })
            }
        }
    }

    fn take_own(
        &self,
        (since, told, gcra): (Instant, &Told, &Gcra),
        now: Instant,
    ) -> Result<Standing, Beyond> {
        told.0.fetch_max(now.saturating_duration_since(since).as_nanos() as u64, Relaxed);
        match gcra.check() {
            Ok(seen) => {
                let left = seen.remaining_burst_capacity();
                let used = u128::from(self.quota.burst.saturating_sub(left));
                let reset = Duration::from_nanos((used * self.quota.apart()) as u64);
                Ok(self.standing(left, reset))
            }
            Err(early) => Err(self.beyond(early.wait_time_from(told.now()))),
        }
    }

    fn standing(&self, left: u32, reset: Duration) -> Standing {
        Standing { rate: self.quota.rate, per: self.quota.per, left, reset }
    }

    fn beyond(&self, wait: Duration) -> Beyond {
        Beyond { standing: self.standing(0, wait), mode: self.quota.mode, hope: None, part: None }
    }
}

/// The value, also after a panic elsewhere: every writer leaves it whole.
fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A window is told in whole seconds only.
fn policy(quota: &Quota) -> Bytes {
    let (rate, window) = (quota.rate, quota.per.as_secs());
    match quota.per.subsec_nanos() {
        0 => format!("\"quota\";q={rate};w={window}").into(),
        _ => format!("\"quota\";q={rate}").into(),
    }
}

impl Standing {
    /// `RateLimit`, by the same draft as [`Limiter::policy`].
    pub fn limit(&self) -> Field {
        let (mut left, mut reset) = (itoa::Buffer::new(), itoa::Buffer::new());
        let mut field = Field { bytes: [0; LONGEST_FIELD], len: 0 };
        for part in ["\"quota\";r=", left.format(self.left), ";t=", reset.format(self.seconds())] {
            field.push(part.as_bytes());
        }
        field
    }

    /// Whole seconds until the reset, at least one.
    pub fn seconds(&self) -> u64 {
        self.reset.as_secs().saturating_add(u64::from(self.reset.subsec_nanos() > 0)).max(1)
    }
}

impl Field {
    fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(part);
            self.len = end;
        }
    }
}

impl AsRef<[u8]> for Field {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QuotaScope;

    fn quota(rate: u32, per: Duration, burst: u32) -> Quota {
        let (scope, mode) = (QuotaScope::Host, QuotaMode::Enforce);
        Quota { rate, per, burst, floor: 0, scope, mode }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rate_over_time() {
        let start = Instant::now();
        let limiter = Limiter::new(quota(10, ms(1000), 3), start);
        let left: Vec<_> = (0..3).map(|_| limiter.take(start).unwrap().left).collect();
        assert_eq!(left, [2, 1, 0]);
        let beyond = limiter.take(start).unwrap_err();
        assert_eq!((beyond.standing.left, beyond.standing.reset), (0, ms(100)));
        let admitted = (0..10_000).filter(|at| limiter.take(start + ms(*at)).is_ok()).count();
        assert_eq!(admitted, 99, "one each 100 ms, the first after 100 ms");
        assert_eq!(limiter.take(start + ms(60_000)).unwrap().left, 2, "after a rest the burst is back");
    }

    #[test]
    fn a_clock_that_is_told_late_gives_nothing_twice() {
        let start = Instant::now();
        let limiter = Limiter::new(quota(1, ms(1000), 1), start);
        assert!(limiter.take(start + ms(5000)).is_ok());
        assert!(limiter.take(start).is_err() && limiter.take(start + ms(5999)).is_err());
        assert!(limiter.take(start + ms(6000)).is_ok());
    }

    #[test]
    fn one_that_is_used_is_not_to_be_forgotten_before_its_burst_is_back() {
        let start = Instant::now();
        let day = Duration::from_secs(86_400);
        let shared = Limiter::shared(Quota { scope: QuotaScope::Fleet, ..quota(10, day, 5) }, None, start);
        shared.lend(Some(Lent { share: 1_000_000, until: start + day, kept: 0 }), start);
        for limiter in [Limiter::new(quota(10, day, 5), start), shared] {
            assert!(limiter.is_rested(start), "never used");
            let used = start + ms(1);
            assert!(limiter.take(used).is_ok());
            assert!(!limiter.is_rested(used + day / 2 - ms(1)));
            assert!(limiter.is_rested(used + day / 2));
        }
    }

    #[test]
    fn what_can_not_be_read_admits_nothing() {
        let limiter = Limiter::new(Quota::UNREAD, Instant::now());
        let beyond = limiter.take(Instant::now()).unwrap_err();
        assert_eq!((beyond.standing.seconds(), beyond.mode), (10, QuotaMode::Enforce));
    }

    #[tokio::test]
    async fn a_call_that_finds_nothing_lent_tells_so_and_passes_once_something_is() {
        let start = Instant::now();
        let fleet = Quota { scope: QuotaScope::Fleet, ..quota(100, ms(1000), 10) };
        let limiter = Arc::new(Limiter::shared(fleet, None, start));
        let beyond = limiter.take(start).unwrap_err();
        let hope = beyond.hope.unwrap();
        assert_eq!(beyond.part, Some(0));
        let lender = limiter.clone();
        let lends = tokio::spawn(async move {
            lender.missed().await;
            let lent = Lent { share: 500_000, until: start + ms(600_000), kept: 0 };
            lender.lend(Some(lent), Instant::now());
        });
        // it never ends by itself: that it is told ends it
        limiter.given(hope + ms(600_000)).await;
        assert!(limiter.take(Instant::now()).is_ok());
        lends.await.unwrap();
        limiter.given(hope + ms(600_000)).await;
    }

    #[test]
    fn the_extremes_of_a_quota_are_held_to() {
        let start = Instant::now();
        for (rate, per, burst) in [
            (1_000_000_000, Duration::from_secs(3600), 1_000_000_000),
            (1, Duration::from_secs(86_400), 1),
            (1_000_000, ms(1000), 1),
        ] {
            let limiter = Limiter::new(quota(rate, per, burst), start);
            assert_eq!(limiter.take(start).unwrap().left, burst - 1, "{rate} per {per:?}");
            assert_eq!(limiter.take(start + per).unwrap().left, burst - 1, "{rate} per {per:?}");
        }
    }

    #[test]
    fn fields_are_those_of_the_draft() {
        let now = Instant::now();
        let policies = [(2000, "\"quota\";q=100;w=2"), (250, "\"quota\";q=100")];
        for (per, policy) in policies {
            let quota = quota(100, ms(per), 1);
            assert_eq!(Limiter::new(quota.clone(), now).policy(), policy);
            assert_eq!(Limiter::shared(quota, None, now).policy(), policy);
        }
        let standing = Standing { rate: 100, per: ms(2000), left: 7, reset: ms(1200) };
        assert_eq!(standing.limit().as_ref(), b"\"quota\";r=7;t=2");
        let resets = [(Duration::ZERO, 1), (ms(1000), 1), (ms(1001), 2)];
        for (reset, seconds) in resets {
            assert_eq!(Standing { reset, ..standing }.seconds(), seconds, "{reset:?}");
        }
        let longest = Standing { left: u32::MAX, reset: Duration::from_secs(u64::MAX), ..standing };
        assert_eq!(longest.limit().as_ref(), b"\"quota\";r=4294967295;t=18446744073709551615");
    }
}
