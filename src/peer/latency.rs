//! How slow a peer is: peak EWMA in one atomic.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What a peer that never answered is thought to take, until its first answer says it.
pub(super) const UNKNOWN: Duration = Duration::from_millis(30);
/// After so long without a call, what is known counts for about a third.
const DECAY: f32 = 10.0;
/// Of the difference to what answers usually take, what each of them counts.
const STEP: f32 = 1.0 / 8.0;
/// The clock of an estimate.
const TICKS_PER_SECOND: f32 = 10_000.0;

/// A slower answer counts at once, faster ones little by little; what is known fades.
#[derive(Debug)]
pub(super) struct Latency {
    base: Instant,
    /// Seconds as the bits of an `f32`, and below them when that was so, in ticks since `base`.
    estimate: AtomicU64,
    /// What answers usually take, in seconds as the bits of an `f32`, whoever was not waited for; 0: no answer yet.
    usual: AtomicU32,
}

impl Latency {
    pub(super) fn new(base: Instant) -> Self {
        Self { base, estimate: AtomicU64::new(pack(UNKNOWN.as_secs_f32(), 0)), usual: AtomicU32::new(0) }
    }

    /// Seconds an answer takes, as far as is known now.
    pub(super) fn seconds(&self, now: Instant) -> f32 {
        let (seconds, then) = unpack(self.estimate.load(Relaxed));
        seconds * kept(then, self.tick(now))
    }

    /// Whether anybody ever waited for an answer.
    pub(super) fn is_known(&self) -> bool {
        let (seconds, then) = unpack(self.estimate.load(Relaxed));
        !is_unknown(seconds, then)
    }

    /// What its answers usually take; `None`: it gave none yet.
    pub(super) fn usual(&self) -> Option<Duration> {
        let usual = f32::from_bits(self.usual.load(Relaxed));
        (usual > 0.0).then(|| Duration::from_secs_f32(usual))
    }

    /// Notes that one took so long.
    pub(super) fn note(&self, took: Duration, now: Instant) {
        let (took, tick) = (took.as_secs_f32(), self.tick(now));
        // of two at once, either may be the last
        let usual = f32::from_bits(self.usual.load(Relaxed));
        let next = if usual > 0.0 { usual + (took - usual) * STEP } else { took };
        self.usual.store(next.to_bits(), Relaxed);
        self.update(|seconds, then| {
            if is_unknown(seconds, then) {
                return Some(pack(took, tick));
            }
            let kept = kept(then, tick);
            let known = seconds * kept;
            Some(pack(if took > known { took } else { known + took * (1.0 - kept) }, tick))
        });
    }

    /// Notes that one took so long or longer: it can only make the peer look slower.
    pub(super) fn at_least(&self, took: Duration, now: Instant) {
        let (took, tick) = (took.as_secs_f32(), self.tick(now));
        self.update(|seconds, then| (took > seconds * kept(then, tick)).then(|| pack(took, tick)));
    }

    fn update(&self, next: impl Fn(f32, u32) -> Option<u64>) {
        // of two at once, either may be the last
        let _ = self.estimate.fetch_update(Relaxed, Relaxed, |packed| {
            let (seconds, then) = unpack(packed);
            next(seconds, then)
        });
    }

    fn tick(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.base);
        // begins again after five days, when what is known is long forgotten
        (since.as_micros() / 100) as u32
    }
}

fn is_unknown(seconds: f32, then: u32) -> bool {
    then == 0 && seconds == UNKNOWN.as_secs_f32()
}

/// The part of an estimate of `then` that still counts.
fn kept(then: u32, tick: u32) -> f32 {
    // another thread's clock may be a moment ahead
    let ticks = tick.wrapping_sub(then);
    if ticks > u32::MAX / 2 { 1.0 } else { (ticks as f32 / (-DECAY * TICKS_PER_SECOND)).exp() }
}

fn pack(seconds: f32, tick: u32) -> u64 {
    u64::from(seconds.to_bits()) << 32 | u64::from(tick)
}

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn shown(latency: &Latency, now: Instant) -> f32 {
        (latency.seconds(now) * 1e4).round() / 10.0
    }

    #[test]
    fn a_slower_answer_counts_at_once_and_faster_ones_over_seconds() {
        let start = Instant::now();
        let latency = Latency::new(start);
        assert_eq!(shown(&latency, start), 30.0);
        latency.note(200 * MS, start);
        assert_eq!(shown(&latency, start), 200.0);
        for n in 1..=1000 {
            latency.note(10 * MS, start + 10 * MS * n);
        }
        // after 10 s about a third of the difference is left
        assert_eq!(shown(&latency, start + 10_000 * MS).round(), 80.0);
    }

    #[test]
    fn the_first_answer_says_how_fast_it_is() {
        let start = Instant::now();
        let latency = Latency::new(start);
        assert!(!latency.is_known() && latency.usual().is_none());
        latency.note(MS, start + MS);
        assert!(latency.is_known());
        assert_eq!(shown(&latency, start + MS), 1.0);
    }

    #[test]
    fn what_is_known_fades_and_a_lower_bound_never_lowers_it() {
        let start = Instant::now();
        let latency = Latency::new(start);
        latency.note(1000 * MS, start);
        latency.at_least(5 * MS, start);
        assert_eq!(shown(&latency, start), 1000.0);
        assert_eq!(shown(&latency, start + 10_000 * MS).round(), 368.0);
        latency.at_least(500 * MS, start + 10_000 * MS);
        assert_eq!(shown(&latency, start + 10_000 * MS), 500.0);
        assert_eq!(latency.usual(), Some(1000 * MS), "which is no answer");
    }
}
