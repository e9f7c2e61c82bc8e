//! How much a caller asks for, by how often its limiter was asked.

use std::time::{Duration, Instant};

/// A caller that was silent for so long asks for nothing; the view forgets services after as long.
const SILENT: Duration = Duration::from_secs(600);
/// The average goes back over so many seconds.
const OVER: f64 = 5.0;
/// Of calls seen at once, so many count for what is asked for until the next.
const MOST: f64 = 10.0;

/// What is known of one caller.
#[derive(Debug)]
pub(crate) struct Meter {
    asked: u64,
    at: Instant,
    /// Calls a second, lately.
    speed: f64,
    last: Option<Seen>,
}

/// When a caller was last seen to call.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    /// How long after the time before, lately.
    apart: Duration,
    /// How often at that time.
    calls: f64,
}

impl Meter {
    /// Of a caller that did not call yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { asked: 0, at: now, speed: 0.0, last: None }
    }

    /// What it asks for in calls per million seconds, where its limiter was asked so often; `None`: nothing.
    pub(crate) fn read(&mut self, asked: u64, now: Instant) -> Option<u64> {
        // another limiter begins at nothing
        let calls = asked.checked_sub(self.asked).unwrap_or(asked);
        if calls > 0 {
            let since = |last: Seen| now.saturating_duration_since(last.at);
            let apart = self.last.map_or(Duration::ZERO, |last| (last.apart + since(last)) / 2);
            self.last = Some(Seen { at: now, apart, calls: (calls as f64).min(MOST) });
        }
        let speed = self.speed(calls as f64, now);
        self.asked = asked;
        let last = self.last?;
        let since = now.saturating_duration_since(last.at);
        // who calls now and then wants as many calls by the time of the next, and a little earlier
        let seldom = 1.05 * last.calls / last.apart.max(since).as_secs_f64().max(1.0);
        // an average is one over several calls
        let often = if speed * OVER >= 2.0 { speed } else { 0.0 };
        (since < SILENT).then(|| (often.max(seldom) * 1e6).ceil() as u64)
    }

    fn speed(&mut self, calls: f64, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        if passed > 0.0 {
            let kept = (-passed / OVER).exp();
            self.speed = self.speed * kept + calls / passed * (1.0 - kept);
            self.at = now;
        } else if self.speed == 0.0 {
            // known to be called before it is known how often
            self.speed = calls / OVER;
        }
        self.speed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(500);

    #[test]
    fn what_is_asked_for_is_known_soon_and_forgotten_when_it_ends() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        assert_eq!(meter.read(0, start), None);
        assert!(meter.read(1, start) > Some(0), "the first call is known at once");
        let (mut at, mut asked, mut asks) = (start, 1, None);
        for _ in 0..60 {
            (at, asked) = (at + TICK, asked + 50);
            asks = meter.read(asked, at);
        }
        assert!((99_000_000..101_000_000).contains(&asks.unwrap()), "{asks:?}");
        for _ in 0..120 {
            at += TICK;
            asks = meter.read(asked, at);
        }
        assert!(asks < Some(250_000), "{asks:?} a minute after the last call");
        assert_eq!(meter.read(asked, at + SILENT), None);
    }

    #[test]
    fn who_calls_now_and_then_asks_for_that_all_the_time() {
        for apart in [30, 60, 300, 590] {
            let start = Instant::now();
            let (mut meter, mut least) = (Meter::new(start), u64::MAX);
            for tick in 0..40 * apart {
                let asks = meter.read(1 + tick / (2 * apart), start + TICK * tick as u32);
                least = least.min(asks.unwrap());
            }
            assert!((1_000_000 / apart..1_200_000 / apart).contains(&least), "every {apart} s: {least}");
        }
    }
}
