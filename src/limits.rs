//! How often something may be done.

use std::fmt;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_burst_turns_are_waited_for() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let pace = Pace::new(number(1000), number(10));
        for _ in 0..10 {
            assert!(pace.limiter.check().is_ok());
        }
        let too_early = pace.limiter.check().unwrap_err();
        assert!(too_early.wait_time_from(pace.clock.now()) <= std::time::Duration::from_millis(1));
        pace.turn().await;
    }
}
