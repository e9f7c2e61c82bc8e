//! How often something may be done, how much of it at once, and what trying again may cost.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

pub mod allowance;
mod auto;
pub mod gate;
mod gradient;
pub mod latency;
mod part;
mod quota;
mod share;

pub use allowance::Allowance;
pub use auto::Auto;
pub use gate::{Gate, Place};
pub use latency::{Hedges, Latencies};
pub use part::Part;
pub use quota::{Beyond, Limiter, Standing};
pub use share::Lent;

/// No pause after a failure is shorter: what failed at once would be tried without end.
const SHORTEST: Duration = Duration::from_millis(10);

/// So many a second over time, and so many at once after a rest.
pub struct Pace {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace")
    }
}

impl Pace {
    /// `burst` at once, then `per_second`.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let clock = DefaultClock::default();
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Self { limiter: RateLimiter::direct_with_clock(quota, clock.clone()), clock }
    }

    /// Waits until it may be done once more.
    pub async fn turn(&self) {
        while let Err(too_early) = self.limiter.check() {
            tokio::time::sleep(too_early.wait_time_from(self.clock.now())).await;
        }
    }
}

/// The pause after so many failures in a row: full jitter up to 0.1 s, doubling with every failure to `most`.
pub fn backoff(failures: u32, most: Duration, rng: &mut fastrand::Rng) -> Duration {
    let longest = Duration::from_millis(100 << failures.saturating_sub(1).min(16)).min(most);
    longest.mul_f64(rng.f64()).max(SHORTEST.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_anywhere_up_to_a_limit_that_doubles_and_ends() {
        let (mut rng, most) = (fastrand::Rng::with_seed(7), Duration::from_millis(700));
        for (failures, limit) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 700), (u32::MAX, 700)] {
            let pauses: Vec<_> = (0..1000).map(|_| backoff(failures, most, &mut rng)).collect();
            let (low, limit) = (pauses.iter().min().unwrap(), Duration::from_millis(limit));
            assert!(*low >= SHORTEST && *low < limit / 5, "{failures}: {low:?}");
            assert!(pauses.iter().all(|pause| *pause <= limit), "{failures}");
            assert!(pauses.iter().any(|pause| *pause > limit.mul_f64(0.9)), "{failures}");
        }
    }

    #[tokio::test]
    async fn after_a_burst_turns_are_waited_for() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let pace = Pace::new(number(1000), number(10));
        for _ in 0..10 {
            assert!(pace.limiter.check().is_ok());
        }
        let too_early = pace.limiter.check().unwrap_err();
        assert!(too_early.wait_time_from(pace.clock.now()) <= Duration::from_millis(1));
        pace.turn().await;
    }
}
