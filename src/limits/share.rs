//! One caller's part of a quota that a fleet shares: a bucket that fills as fast as a lease says (pure).

use std::time::{Duration, Instant};

use crate::model::Quota;

/// Parts of a quota.
const WHOLE: f64 = 1e6;
/// How long a lease is waited for by calls that find none; Retry-After would have them wait as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// A part of a quota as it is lent to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    /// So many millionths,
    pub share: u32,
    /// until then.
    pub until: Instant,
    /// So many of them were set aside for this host ever since its lease before, also after that ended.
    pub kept: u32,
}

/// Calls that may pass: what a host saves up belongs to its share, and goes where that goes.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Calls a second, and at once, of the whole quota.
    rate: f64,
    burst: f64,
    /// The part that needs no lease.
    floor: f64,
    /// The part that was lent, until then.
    share: f64,
    until: Instant,
    calls: f64,
    at: Instant,
    /// What was saved up when the last lease ended; the first begins with one call.
    resting: f64,
    /// Up to when a lease filled it.
    leased: Instant,
    /// When a call last passed.
    last: Option<Instant>,
    /// Whether a lease was there since the last call that found its end.
    had: bool,
    /// How often a call found a lease at its end.
    lapses: u64,
    /// When a call found nothing lent, where nothing was lent since.
    missed: Option<Instant>,
}

/// What a call that finds nothing lent means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Miss {
    /// It is the first one since something was lent.
    pub(super) is_first: bool,
    /// Until then something may be lent soon, as far as anybody knows.
    pub(super) hope: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(quota: &Quota, now: Instant) -> Self {
        let rate = f64::from(quota.rate.max(1));
        Self {
            rate: rate / quota.per.as_secs_f64(),
            burst: f64::from(quota.burst),
            floor: f64::from(quota.floor) / rate,
            share: 0.0,
            until: now,
            calls: 0.0,
            at: now,
            resting: 1.0,
            leased: now,
            missed: None,
            last: None,
            had: false,
            lapses: 0,
        }
    }

    /// The same where the quota is another one from now on; what is saved up stays, as far as it fits.
    pub(super) fn edited(&mut self, quota: &Quota, now: Instant) -> Self {
        self.fill(now);
        let Self { rate, burst, floor, .. } = Self::new(quota, now);
        let mut after = Self { rate, burst, floor, ..*self };
        after.rest();
        after
    }

    /// From now on this is lent; `None`: nothing is.
    pub(super) fn lend(&mut self, lent: Option<Lent>, now: Instant) {
        self.fill(now);
        let lent = lent.filter(|lent| lent.share > 0 && self.at < lent.until);
        (self.share, self.until) = lent.map_or((0.0, now), |l| (f64::from(l.share) / WHOLE, l.until));
        if let Some(lent) = lent {
            let idle = self.at.saturating_duration_since(self.leased).as_secs_f64();
            let saved = self.resting + idle * self.rate * f64::from(lent.kept) / WHOLE;
            // where somebody else had the share meanwhile, what was saved up is that one's
            self.calls += if lent.kept > 0 { saved } else { self.resting.min(1.0) };
            (self.resting, self.leased) = (0.0, self.at);
            (self.missed, self.had) = (None, true);
        }
        self.rest();
    }

    /// Lets one call pass, or says after how long one may; gives how many pass then, and when as many as ever.
    pub(super) fn take(&mut self, now: Instant) -> Result<(u32, Duration), Duration> {
        self.fill(now);
        let speed = self.rate * self.part();
        // a lease may come at any time
        let until = |calls: f64| match speed {
            0.0 => Duration::from_secs(1),
            speed => Duration::from_secs_f64(((calls - self.calls) / speed).clamp(0.0, 86_400.0)),
        };
        if self.calls < 1.0 {
            let is_lapsed = self.at >= self.until && std::mem::take(&mut self.had);
            self.lapses += u64::from(is_lapsed);
            return Err(until(1.0));
        }
        let reset = until(self.most() + 1.0);
        self.calls -= 1.0;
        self.last = Some(self.at);
        Ok((self.calls as u32, reset))
    }

    /// What it means where a call at `now` finds nothing lent.
    pub(super) fn misses(&mut self, now: Instant) -> Option<Miss> {
        if self.lent(now) > 0 {
            return None;
        }
        let is_first = self.missed.is_none();
        let hope = *self.missed.get_or_insert(now) + PATIENCE;
        // who waited in vain speaks for all after it, until something is lent
        Some(Miss { is_first, hope: (now < hope).then_some(hope) })
    }

    /// When a call last passed.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// How often calls were refused because a lease had ended; those after the first one are not counted.
    pub(super) fn lapses(&self) -> u64 {
        self.lapses
    }

    /// How many millionths are lent now.
    pub(super) fn lent(&self, now: Instant) -> u32 {
        if now < self.until { (self.share * WHOLE).round() as u32 } else { 0 }
    }

    /// How many millionths of the quota held when this was last asked, the floor among them.
    pub(super) fn admits(&self) -> u32 {
        (self.part() * WHOLE).round() as u32
    }

    /// The part of the quota that holds at `at`.
    fn part(&self) -> f64 {
        let lent = if self.at < self.until { self.share } else { 0.0 };
        self.floor + lent
    }

    /// Most calls at once: one at least, where there is any part.
    fn most(&self) -> f64 {
        if self.part() > 0.0 { (self.burst * self.part()).max(1.0) } else { 0.0 }
    }

    fn fill(&mut self, now: Instant) {
        let now = now.max(self.at);
        if self.at < self.until {
            self.pour(self.until.min(now));
            self.leased = self.at;
            self.rest();
        }
        self.pour(now);
    }

    /// Fills at one speed.
    fn pour(&mut self, end: Instant) {
        let passed = end.saturating_duration_since(self.at).as_secs_f64();
        self.calls = (self.calls + passed * self.rate * self.part()).min(self.most());
        self.at = end;
    }

    /// What is over the most there may be rests where no lease is, and is gone where one is.
    fn rest(&mut self) {
        let over = (self.calls - self.most()).max(0.0);
        self.calls -= over;
        if self.at >= self.until {
            self.resting += over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bucket(floor: u32, now: Instant) -> Bucket {
        let quota = json!({"rate": 100, "per": "1s", "burst": 10, "floor": floor});
        Bucket::new(&Quota::parse(&quota).unwrap(), now)
    }

    /// Lends what was not this host's before.
    fn lend(bucket: &mut Bucket, share: u32, until: Instant, now: Instant) {
        bucket.lend(Some(Lent { share, until, kept: 0 }), now);
    }

    /// How many of a call each millisecond pass.
    fn pass(bucket: &mut Bucket, from: Instant, ms: std::ops::Range<u64>) -> usize {
        ms.filter(|ms| bucket.take(from + Duration::from_millis(*ms)).is_ok()).count()
    }

    #[test]
    fn a_lease_lets_its_part_pass_and_nothing_after_its_end() {
        let now = Instant::now();
        let mut bucket = bucket(0, now);
        assert_eq!(pass(&mut bucket, now, 0..1000), 0, "no lease yet");
        let (from, until) = (now + Duration::from_secs(1), now + Duration::from_secs(3));
        lend(&mut bucket, 250_000, until, from);
        let passed = pass(&mut bucket, from, 0..2000);
        assert!((50..=51).contains(&passed), "{passed} in 2 s at 25 a second");
        assert_eq!(pass(&mut bucket, until, 0..5000), 0);
    }

    #[test]
    fn who_finds_nothing_lent_hopes_for_a_while_after_the_first_who_did() {
        let now = Instant::now();
        let mut bucket = bucket(0, now);
        let (half, hope) = (PATIENCE / 2, Some(now + PATIENCE));
        assert_eq!(bucket.misses(now), Some(Miss { is_first: true, hope }));
        lend(&mut bucket, 0, now + PATIENCE, now);
        assert_eq!(bucket.misses(now + half), Some(Miss { is_first: false, hope }), "that was no lease");
        assert_eq!(bucket.misses(now + PATIENCE), Some(Miss { is_first: false, hope: None }));
        let later = now + 2 * PATIENCE;
        lend(&mut bucket, 1, later + half, later);
        assert_eq!(bucket.misses(later), None);
        let hope = Some(later + half + PATIENCE);
        assert_eq!(bucket.misses(later + half), Some(Miss { is_first: true, hope }));
    }

    #[test]
    fn one_call_is_saved_up_from_the_start_and_between_leases() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut bucket = bucket(0, now);
        lend(&mut bucket, 1, now + second, now);
        assert_eq!(pass(&mut bucket, now, 0..1000), 1, "and nothing of so small a part");
        lend(&mut bucket, 1_000_000, now + 2 * second, now + second);
        assert_eq!(pass(&mut bucket, now + 3 * second, 0..1000), 0, "it is over");
        let again = now + 5 * second;
        lend(&mut bucket, 1, again + second, again);
        assert_eq!(pass(&mut bucket, again, 0..1000), 1);
    }

    #[test]
    fn without_a_lease_the_floor_passes() {
        let now = Instant::now();
        let mut bucket = bucket(5, now);
        let passed = pass(&mut bucket, now, 0..10_000);
        assert!((49..=50).contains(&passed), "{passed} in 10 s at 5 a second");
        lend(&mut bucket, 100_000, now + Duration::from_secs(20), now + Duration::from_secs(10));
        let passed = pass(&mut bucket, now, 10_000..30_000);
        assert!((198..=203).contains(&passed), "{passed} in 10 s at 15 a second and 10 s at 5");
    }

    #[test]
    fn shares_that_change_hands_make_no_calls() {
        let now = Instant::now();
        let (mut one, mut other) = (bucket(0, now), bucket(0, now));
        let (mut passed, end) = (0, now + Duration::from_secs(1000));
        for second in 0..100 {
            let at = now + Duration::from_secs(second);
            let (to, from) = if second % 2 == 0 { (&mut one, &mut other) } else { (&mut other, &mut one) };
            lend(from, 0, end, at);
            lend(to, 1_000_000, end, at);
            passed += pass(to, at, 0..1000) + pass(from, at, 0..1000);
        }
        assert!(passed <= 100 * 100 + 10, "{passed}");
        assert!(passed >= 9_800, "{passed}");
    }

    #[test]
    fn what_is_saved_up_rests_while_no_lease_is_and_the_share_that_was_kept_goes_on_filling() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let slow = Quota::parse(&json!({"rate": 100, "per": "1h", "burst": 10})).unwrap();
        for (kept, passes) in [(1_000_000, 5), (500_000, 4), (0, 2)] {
            let mut bucket = Bucket::new(&slow, start);
            lend(&mut bucket, 1_000_000, at(72), at(0));
            assert!(bucket.take(at(0)).is_ok(), "the first lease begins with a call");
            assert!(bucket.take(at(1)).is_err());
            assert_eq!(bucket.lapses(), 0);
            bucket.lend(None, at(73));
            bucket.lend(None, at(100));
            assert!(bucket.take(at(143)).is_err(), "nothing passes without a lease");
            assert!(bucket.take(at(144)).is_err() && bucket.lapses() == 1);
            let lent = Lent { share: 1_000_000, until: at(200), kept };
            // two calls before the end, and as many after it
            bucket.lend(Some(lent), at(145));
            let passed = (0..20).filter(|_| bucket.take(at(182)).is_ok()).count();
            // and one while it is lent again
            assert_eq!(passed, passes, "{kept} were kept");
        }
    }

    #[test]
    fn what_rests_is_no_more_than_a_share_may_save_up() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut bucket = bucket(0, start);
        lend(&mut bucket, 1_000_000, at(10), at(0));
        let lent = Lent { share: 200_000, until: at(1000), kept: 200_000 };
        bucket.lend(Some(lent), at(990));
        assert_eq!(pass(&mut bucket, at(990), 0..1), 1);
        assert_eq!((0..20).filter(|_| bucket.take(at(990)).is_ok()).count(), 1, "two of the burst of ten");
    }
}
