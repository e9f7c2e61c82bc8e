//! The limit of calls in flight that finds itself: it grows until answers grow slower.

use std::time::{Duration, Instant};

/// Where it starts, and between what it stays.
pub(super) const FIRST: f64 = 20.0;
const LEAST: f64 = 3.0;
const MOST: f64 = 1024.0;
/// A window is over after so long with so many answers, or after `LONGEST` with any.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);
const ENOUGH: u32 = 10;
/// How far answers may be over the best time before the limit falls.
const TOLERANCE: f64 = 1.25;
/// Half of the limit helps where answers then take less than this share of the time before.
const HELPS: f64 = 0.8;
/// How long the best time is believed in.
const BELIEVED: Duration = Duration::from_secs(30);

/// With every window: limit × (1.25 × best ÷ mean, from 0.5 to 1) + √limit.
///
/// The best time is the mean of the best window of the last 30 s. Then it is measured anew: at once where
/// less than half of the limit is used; else the limit is halved for two windows, and again where that helps.
#[derive(Debug)]
pub(super) struct Gradient {
    limit: f64,
    window: Window,
    /// In seconds.
    best: f64,
    believed_until: Instant,
    halved: Option<Halved>,
}

/// The best time is being measured.
#[derive(Debug, Clone, Copy)]
struct Halved {
    /// The limit before,
    from: f64,
    /// and the mean with it.
    mean: f64,
    /// Answers of this window are still from before.
    begins: bool,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    answers: u32,
    /// Of their times, in seconds.
    sum: f64,
    /// Most calls in flight.
    busiest: u32,
}

impl Window {
    fn new(since: Instant) -> Self {
        Self { since, answers: 0, sum: 0.0, busiest: 0 }
    }

    fn mean(&self) -> f64 {
        // a time of 0 would make a ratio of nothing
        (self.sum / f64::from(self.answers)).max(1e-6)
    }

    fn is_over(&self, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(self.since);
        lasted >= LONGEST || (lasted >= SHORTEST && self.answers >= ENOUGH)
    }
}

impl Gradient {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            limit: FIRST,
            window: Window::new(now),
            best: f64::INFINITY,
            believed_until: now + BELIEVED,
            halved: None,
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Notes an answer that took so long, with so many calls in flight; gives the limit where a window ended.
    pub(super) fn answered(&mut self, took: Duration, in_flight: u32, now: Instant) -> Option<u32> {
        self.window.answers += 1;
        self.window.sum += took.as_secs_f64();
        self.window.busiest = self.window.busiest.max(in_flight);
        if !self.window.is_over(now) {
            return None;
        }
        let window = std::mem::replace(&mut self.window, Window::new(now));
        self.follow(&window, now);
        Some(self.limit())
    }

    fn follow(&mut self, window: &Window, now: Instant) {
        let mean = window.mean();
        match self.halved {
            None => {}
            Some(halved) if halved.begins => {
                self.halved = Some(Halved { begins: false, ..halved });
                return;
            }
            Some(halved) if mean < halved.mean * HELPS && self.limit > LEAST => return self.halve(mean),
            Some(halved) => {
                self.halved = None;
                (self.limit, self.best, self.believed_until) = (halved.from, mean, now + BELIEVED);
                return;
            }
        }
        let is_busy = f64::from(window.busiest) * 2.0 >= self.limit;
        if now >= self.believed_until {
            if is_busy {
                return self.halve(mean);
            }
            (self.best, self.believed_until) = (mean, now + BELIEVED);
        }
        self.best = self.best.min(mean);
        if is_busy {
            let gradient = (TOLERANCE * self.best / mean).clamp(0.5, 1.0);
            self.limit = (self.limit * gradient + self.limit.sqrt()).clamp(LEAST, MOST);
        }
    }

    fn halve(&mut self, mean: f64) {
        self.halved = Some(Halved { from: self.limit, mean, begins: true });
        self.limit = (self.limit / 2.0).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Providers that carry `capacity` calls at once in `base` each; more of them wait their turn.
    struct Model {
        gradient: Gradient,
        now: Instant,
    }

    impl Model {
        fn new() -> Self {
            let now = Instant::now();
            Self { gradient: Gradient::new(now), now }
        }

        /// As many calls at once as there may be, but no more than `wanted`.
        fn run(&mut self, seconds: u64, (capacity, base_ms): (f64, f64), wanted: u32) -> Vec<u32> {
            let end = self.now + Duration::from_secs(seconds);
            let mut limits = Vec::new();
            while self.now < end {
                let in_flight = self.gradient.limit().min(wanted);
                let ms = base_ms * (f64::from(in_flight) / capacity).max(1.0);
                let took = Duration::from_secs_f64(ms / 1000.0);
                self.now += took / in_flight;
                limits.extend(self.gradient.answered(took, in_flight, self.now));
            }
            limits
        }
    }

    #[test]
    fn it_finds_what_the_providers_can_carry_and_stays_there() {
        for capacity in [10.0, 50.0, 200.0] {
            let mut model = Model::new();
            model.run(60, (capacity, 50.0), 5000);
            let limits = model.run(120, (capacity, 50.0), 5000);
            let (least, most) = (limits.iter().min().unwrap(), limits.iter().max().unwrap());
            assert!(f64::from(*most) <= capacity * 2.5 + 10.0, "{capacity}: {most}");
            assert!(f64::from(*least) >= capacity / 4.0, "{capacity}: {least}");
            let mean = limits.iter().map(|limit| f64::from(*limit)).sum::<f64>() / limits.len() as f64;
            assert!(mean >= capacity, "{capacity}: {mean}");
        }
    }

    #[test]
    fn it_follows_providers_that_come_and_go() {
        let mut model = Model::new();
        model.run(60, (100.0, 50.0), 5000);
        assert!(model.gradient.limit() >= 100);
        model.run(30, (10.0, 50.0), 5000);
        assert!(model.gradient.limit() <= 40, "{}", model.gradient.limit());
        model.run(60, (100.0, 50.0), 5000);
        assert!(model.gradient.limit() >= 100, "{}", model.gradient.limit());
    }

    #[test]
    fn providers_that_are_slower_for_good_are_not_throttled_for_good() {
        let mut model = Model::new();
        model.run(60, (50.0, 50.0), 5000);
        model.run(60, (50.0, 200.0), 5000);
        let limits = model.run(60, (50.0, 200.0), 5000);
        let mean = limits.iter().sum::<u32>() / limits.len() as u32;
        assert!(mean >= 40, "{mean}");
    }

    #[test]
    fn what_is_not_used_neither_grows_nor_falls() {
        let mut model = Model::new();
        let limits = model.run(120, (50.0, 50.0), 5);
        assert!(limits.iter().all(|limit| *limit == 20), "{limits:?}");
    }

    #[test]
    fn it_stays_between_its_bounds_whatever_comes() {
        let mut model = Model::new();
        let limits = model.run(30, (1e9, 20.0), 5000);
        assert_eq!(limits.iter().max(), Some(&1024));
        let limits = model.run(120, (0.1, 3.0), 5000);
        assert!(limits.iter().all(|limit| (3..=1024).contains(limit)));
        for took in [Duration::ZERO, Duration::MAX] {
            model.now += LONGEST;
            let limit = model.gradient.answered(took, u32::MAX, model.now).unwrap();
            assert!((3..=1024).contains(&limit), "{took:?}: {limit}");
        }
    }

    #[test]
    fn a_window_lasts_from_100_ms_to_a_second() {
        let start = Instant::now();
        let mut gradient = Gradient::new(start);
        let mut at = |ms| gradient.answered(Duration::from_millis(5), 20, start + Duration::from_millis(ms));
        assert!((0..99).all(|ms| at(ms).is_none()));
        assert!(at(100).is_some());
        assert_eq!((at(900), at(1099)), (None, None));
        assert!(at(1100).is_some());
    }
}
