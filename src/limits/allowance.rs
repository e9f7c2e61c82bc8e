//! How many further attempts the calls of late may cost: a share of them, and a few a second beside.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Seconds that count as "of late".
const SECONDS: usize = 10;

/// Calls and further attempts of late; the rule itself is given with every question, so it may change.
#[derive(Debug)]
pub struct Allowance {
    start: Instant,
    calls: Tally,
    /// What was paid with the share.
    spent: Tally,
    /// When the attempts beside the share are paid off, in nanoseconds since `start`.
    paid_off: AtomicU64,
}

/// So many of something in each of the last seconds: the second in the upper half, the number in the lower.
#[derive(Debug, Default)]
struct Tally([AtomicU64; SECONDS]);

impl Allowance {
    /// Nothing counted yet.
    pub fn new(now: Instant) -> Self {
        Self { start: now, calls: Tally::default(), spent: Tally::default(), paid_off: AtomicU64::new(0) }
    }

    /// Counts a call.
    pub fn count(&self, now: Instant) {
        self.calls.add(self.since_start(now).as_secs());
    }

    /// Takes one further attempt out of `share` percent of the calls of late, or else out of `per_second`.
    pub fn take(&self, share: u8, per_second: u32, now: Instant) -> bool {
        self.take_share(share, now) || self.take_beside(per_second, now)
    }

    fn take_share(&self, share: u8, now: Instant) -> bool {
        let second = self.since_start(now).as_secs();
        let may = self.calls.sum(second) * u64::from(share) / 100;
        // counted first: two who ask at once must not both get the last one
        self.spent.add(second);
        let fits = self.spent.sum(second) <= may;
        if !fits {
            self.spent.undo(second);
        }
        fits
    }

    /// `per_second` over time, and as many at once after a second of rest.
    fn take_beside(&self, per_second: u32, now: Instant) -> bool {
        let Some(each) = 1_000_000_000_u64.checked_div(per_second.into()) else { return false };
        let now = self.since_start(now).as_nanos() as u64;
        let pay = |paid_off: u64| {
            let next = paid_off.max(now) + each;
            (next <= now + each * u64::from(per_second)).then_some(next)
        };
        self.paid_off.fetch_update(Relaxed, Relaxed, pay).is_ok()
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}

impl Tally {
    fn slot(&self, second: u64) -> Option<&AtomicU64> {
        self.0.get(second as usize % SECONDS)
    }

    fn add(&self, second: u64) {
        let add = |slot: u64| match second.cmp(&(slot >> 32)) {
            Ordering::Equal => Some(slot + 1),
            Ordering::Greater => Some((second << 32) | 1),
            Ordering::Less => None,
        };
        // a slot that turned to a later second has no room for one of ten seconds ago
        let _ = self.slot(second).map(|slot| slot.fetch_update(Relaxed, Relaxed, add));
    }

    fn undo(&self, second: u64) {
        let undo = |slot: u64| (slot >> 32 == second && slot as u32 > 0).then(|| slot - 1);
        // a slot that turned to another second has forgotten it already
        let _ = self.slot(second).map(|slot| slot.fetch_update(Relaxed, Relaxed, undo));
    }

    fn sum(&self, second: u64) -> u64 {
        let slots = self.0.iter().map(|slot| slot.load(Relaxed));
        let of_late = slots.filter(|slot| second.saturating_sub(slot >> 32) < SECONDS as u64);
        of_late.map(|slot| u64::from(slot as u32)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(allowance: &Allowance, (share, per_second): (u8, u32), now: Instant) -> usize {
        (0..10_000).take_while(|_| allowance.take(share, per_second, now)).count()
    }

    #[test]
    fn a_share_of_the_calls_of_late_may_be_taken_and_a_few_a_second_beside() {
        let start = Instant::now();
        let allowance = Allowance::new(start);
        (0..100).for_each(|_| allowance.count(start));
        assert_eq!(taken(&allowance, (20, 10), start), 30);
        assert_eq!(taken(&allowance, (20, 10), start + SECOND / 2), 5);
        assert_eq!(taken(&allowance, (20, 10), start + SECOND / 2 + 3 * SECOND), 10, "rest is not hoarded");
    }

    #[test]
    fn calls_are_forgotten_after_ten_seconds_and_so_is_what_they_paid_for() {
        let start = Instant::now();
        let allowance = Allowance::new(start);
        (0..100).for_each(|_| allowance.count(start));
        assert_eq!(taken(&allowance, (20, 0), start + 9 * SECOND), 20);
        assert_eq!(taken(&allowance, (20, 0), start + 10 * SECOND), 0);
        (0..50).for_each(|_| allowance.count(start + 20 * SECOND));
        assert_eq!(taken(&allowance, (20, 0), start + 20 * SECOND), 10);
    }

    #[test]
    fn a_call_that_waited_long_before_it_is_counted_wipes_out_no_later_ones() {
        let start = Instant::now();
        let allowance = Allowance::new(start);
        (0..100).for_each(|_| allowance.count(start + 20 * SECOND));
        allowance.count(start + 10 * SECOND);
        assert_eq!(taken(&allowance, (20, 0), start + 20 * SECOND), 20);
    }

    #[test]
    fn a_storm_of_five_minutes_costs_no_more_than_its_budget() {
        let start = Instant::now();
        let allowance = Allowance::new(start);
        let (mut calls, mut taken) = (0, 0);
        for ms in 0..300_000_u64 {
            let now = start + Duration::from_millis(ms);
            calls += 1;
            allowance.count(now);
            taken += u64::from(allowance.take(20, 10, now));
        }
        let may = calls / 5 + 300 * 10;
        assert!(taken <= may + 10 && taken > may * 99 / 100, "{taken} of {may}");
    }

    #[test]
    fn nothing_is_taken_where_nothing_is_allowed() {
        let now = Instant::now();
        let allowance = Allowance::new(now);
        (0..100).for_each(|_| allowance.count(now));
        assert_eq!(taken(&allowance, (0, 0), now), 0);
        assert_eq!(taken(&Allowance::new(now), (100, 0), now), 0);
    }

    #[test]
    fn workers_at_once_take_no_more_than_there_is() {
        let now = Instant::now();
        let allowance = Allowance::new(now);
        (0..5_000).for_each(|_| allowance.count(now));
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| taken(&allowance, (20, 10), now))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(taken <= 1010, "{taken}");
    }
}
