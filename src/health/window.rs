//! Good and bad calls of the recent past, over windows of any length at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Parts that one scale keeps; the oldest is forgotten at once.
const BUCKETS: u32 = 20;
/// A part of the finest scale, in milliseconds; each further scale has parts four times as long.
const FINEST: u64 = 10;
/// Windows up to 14 hours are told apart; longer ones count as these.
const SCALES: usize = 10;

/// What APIs with windows of different lengths count of one provider.
#[derive(Debug)]
pub(super) struct Window {
    base: Instant,
    /// One bit for each scale that somebody uses.
    used: AtomicU32,
    scales: [OnceLock<Box<Scale>>; SCALES],
}

type Scale = [Bucket; BUCKETS as usize];

/// One part of it.
#[derive(Debug, Default)]
struct Bucket {
    tick: AtomicU32,
    good: AtomicU32,
    bad: AtomicU32,
}

impl Window {
    pub(super) fn new(base: Instant) -> Self {
        Self { base, used: AtomicU32::new(0), scales: Default::default() }
    }

    /// Counts a call in the scale of this window, and in those of others that were asked for.
    pub(super) fn add(&self, good: bool, length: Duration, now: Instant) {
        let own = scale(length);
        let mut used = self.used.load(Relaxed);
        if used & (1 << own) == 0 {
            used |= self.used.fetch_or(1 << own, Relaxed) | (1 << own);
        }
        let since = millis(now.saturating_duration_since(self.base));
        while used != 0 {
            let scale = used.trailing_zeros() as usize;
            used &= used - 1;
            let tick = (since / part(scale)) as u32;
            let Some(bucket) = self.buckets(scale).and_then(|all| all.get((tick % BUCKETS) as usize)) else {
                continue;
            };
            bucket.add(good, tick);
        }
    }

    /// Good and bad calls in this window, as far as they were counted in its scale.
    pub(super) fn sum(&self, length: Duration, now: Instant) -> (u64, u64) {
        let scale = scale(length);
        let since = millis(now.saturating_duration_since(self.base));
        let tick = (since / part(scale)) as u32;
        let parts = millis(length).div_ceil(part(scale)).clamp(1, BUCKETS.into()) as u32;
        let recent = |bucket: &&Bucket| tick.wrapping_sub(bucket.tick.load(Relaxed)) < parts;
        let counted = self.buckets(scale).into_iter().flatten().filter(recent);
        counted.fold((0, 0), |(good, bad), bucket| {
            (good + u64::from(bucket.good.load(Relaxed)), bad + u64::from(bucket.bad.load(Relaxed)))
        })
    }

    pub(super) fn clear(&self) {
        for bucket in self.scales.iter().filter_map(OnceLock::get).flat_map(|scale| scale.iter()) {
            bucket.good.store(0, Relaxed);
            bucket.bad.store(0, Relaxed);
        }
    }

    fn buckets(&self, scale: usize) -> Option<&Scale> {
        self.scales.get(scale).map(|scale| &**scale.get_or_init(Box::default))
    }
}

impl Bucket {
    fn add(&self, good: bool, tick: u32) {
        if self.tick.load(Relaxed) != tick {
            // of two that come here at once, one may lose its count
            self.good.store(0, Relaxed);
            self.bad.store(0, Relaxed);
            self.tick.store(tick, Relaxed);
        }
        if good { &self.good } else { &self.bad }.fetch_add(1, Relaxed);
    }
}

/// The finest scale that keeps all of a window.
fn scale(length: Duration) -> usize {
    let length = millis(length);
    let keeps = |scale: &usize| part(*scale) * u64::from(BUCKETS) >= length;
    (0..SCALES).find(keeps).unwrap_or(SCALES - 1)
}

/// Milliseconds in one part of a scale.
fn part(scale: usize) -> u64 {
    FINEST << (2 * scale)
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn windows_of_different_lengths_leave_each_others_counts_alone() {
        let start = Instant::now();
        let (window, lengths) = (Window::new(start), [100 * MS, 10_000 * MS, 60_000 * MS]);
        for ms in 0..20_000 {
            let (now, length) = (start + ms * MS, lengths[ms as usize % 3]);
            window.add(ms % 2 == 0, length, now);
        }
        let end = start + 19_999 * MS;
        for (length, least, most) in
            [(lengths[0], 91, 100), (lengths[1], 9_400, 10_300), (lengths[2], 19_990, 20_000)]
        {
            let (good, bad) = window.sum(length, end);
            assert!((least..=most).contains(&(good + bad)), "{length:?}: {good} and {bad}");
            assert!(good.abs_diff(bad) <= 2, "{length:?}: {good} and {bad}");
        }
    }

    #[test]
    fn no_length_is_too_long_and_what_nobody_counts_in_is_empty() {
        let start = Instant::now();
        let window = Window::new(start);
        window.add(true, Duration::MAX, start);
        assert_eq!(window.sum(Duration::MAX, start + 3_600_000 * MS), (1, 0));
        assert_eq!(window.sum(1000 * MS, start), (0, 0));
        window.clear();
        assert_eq!(window.sum(Duration::MAX, start), (0, 0));
    }
}
