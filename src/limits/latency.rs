//! How long answers took of late, as far as it takes to say what is unusually long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::Allowance;

/// Four to each doubling, from a microsecond to two minutes.
const BUCKETS: usize = 104;
const MOST: u64 = (1 << 27) - 1;
/// With so many samples all weights are halved: what was long ago fades.
const FULL: u32 = 2048;
/// With fewer samples nothing is said.
const FEW: u32 = 20;

/// Times of the last thousand or two answers, within a quarter of their value.
#[derive(Debug)]
pub struct Latencies {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

/// What second attempts of one API go by.
#[derive(Debug)]
pub struct Hedges {
    /// How long its answers take.
    pub latencies: Latencies,
    /// How many of them its calls may cost.
    pub allowance: Allowance,
}

impl Hedges {
    /// What there was, or nothing known yet.
    pub fn kept(former: Option<&Arc<Self>>, now: Instant) -> Arc<Self> {
        let new = || Arc::new(Self { latencies: Latencies::default(), allowance: Allowance::new(now) });
        former.cloned().unwrap_or_else(new)
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU32::new(0)), total: AtomicU32::new(0) }
    }
}

impl Latencies {
    /// Notes how long an answer took, or had not come when it was no longer waited for.
    pub fn record(&self, took: Duration) {
        if let Some(count) = self.counts.get(bucket(took)) {
            count.fetch_add(1, Relaxed);
        }
        // one of those who are here at once finds it full
        if self.total.fetch_add(1, Relaxed) + 1 == FULL {
            self.fade();
        }
    }

    /// What 95 of 100 answers took no longer than; `None` with less than 20 of them.
    pub fn p95(&self) -> Option<Duration> {
        let counts = || self.counts.iter().map(|count| u64::from(count.load(Relaxed)));
        let total: u64 = counts().sum();
        if total < u64::from(FEW) {
            return None;
        }
        let wanted = (total * 95).div_ceil(100);
        let mut seen = 0;
        let is_there = |count: u64| {
            seen += count;
            seen >= wanted
        };
        counts().position(is_there).map(|bucket| Duration::from_micros(least(bucket + 1)))
    }

    fn fade(&self) {
        let mut total = 0;
        for count in &self.counts {
            let taken = count.load(Relaxed).div_ceil(2);
            total += count.fetch_sub(taken, Relaxed) - taken;
        }
        self.total.store(total, Relaxed);
    }
}

fn bucket(took: Duration) -> usize {
    let us = (took.as_micros() as u64).min(MOST);
    match us.checked_ilog2() {
        None | Some(0 | 1) => us as usize,
        Some(doubling) => (doubling as usize - 1) * 4 + (us >> (doubling - 2)) as usize % 4,
    }
}

/// The least that falls into a bucket, in microseconds.
fn least(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64,
        _ => (4 + bucket as u64 % 4) << (bucket / 4 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_between_the_bounds_of_its_bucket() {
        for us in (0..10_000).chain((0..27).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let found = bucket(Duration::from_micros(us));
            assert!(least(found) <= us && us < least(found + 1), "{us} in {found}");
        }
        assert_eq!(bucket(Duration::from_secs(1 << 40)), BUCKETS - 1);
    }

    #[test]
    fn p95_is_what_one_in_twenty_is_longer_than() {
        let latencies = Latencies::default();
        for n in 0..19 {
            assert_eq!(latencies.p95(), None, "after {n}");
            latencies.record(Duration::from_millis(10));
        }
        latencies.record(Duration::from_secs(3));
        let p95 = latencies.p95().unwrap();
        assert!((10_000..=12_500).contains(&p95.as_micros()), "{p95:?}");
        (0..2).for_each(|_| latencies.record(Duration::from_secs(3)));
        assert!(latencies.p95().unwrap() >= Duration::from_secs(3));
    }

    #[test]
    fn what_was_long_ago_fades() {
        let latencies = Latencies::default();
        (0..100_000).for_each(|_| latencies.record(Duration::from_millis(500)));
        (0..4 * FULL).for_each(|_| latencies.record(Duration::from_millis(10)));
        let p95 = latencies.p95().unwrap();
        assert!((10_000..=12_500).contains(&p95.as_micros()), "{p95:?}");
        assert!(latencies.total.load(Relaxed) <= FULL);
    }

    #[test]
    fn workers_at_once_lose_nothing() {
        let latencies = Latencies::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..FULL).for_each(|_| latencies.record(Duration::from_millis(1))));
            }
        });
        let counted: u32 = latencies.counts.iter().map(|count| count.load(Relaxed)).sum();
        assert!((FULL / 4..2 * FULL).contains(&counted), "{counted}");
    }
}
