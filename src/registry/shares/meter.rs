//! How much a caller asks for, by how often its limiter was asked.

use std::time::{Duration, Instant};

/// A caller that was silent for so long asks for nothing; the view forgets services after as long.
const SILENT: Duration = Duration::from_secs(600);
/// The average goes back over so many seconds, or to where the demand became another one,
const OVER: f64 = 5.0;
/// but over a second at least.
const LEAST: f64 = 1.0;
/// What shows whether it became another one: two of these in a row that are no chance, both more or both
/// less. A burst is in one, or in two where nothing is odd if it is long.
const WINDOW: Duration = Duration::from_secs(1);
/// No chance is what differs by more than so many standard deviations.
const ODD: f64 = 3.0;
/// Of calls seen at once, so many count for what is asked for until the next.
const MOST: f64 = 10.0;

/// What is known of one caller.
#[derive(Debug)]
pub(crate) struct Meter {
    asked: u64,
    at: Instant,
    /// Calls since `since`, the less the longer ago.
    sum: f64,
    since: Instant,
    window: Window,
    /// The one before.
    former: Window,
    last: Option<Seen>,
}

/// Calls from then on, beside the average.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    calls: f64,
    /// Calls a second by the average at its begin.
    expected: f64,
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
        let window = Window { from: now, calls: 0.0, expected: 0.0 };
        Self { asked: 0, at: now, sum: 0.0, since: now, window, former: window, last: None }
    }

    /// What it asks for in calls per million seconds, where its limiter was asked so often; `None`: nothing.
    pub(crate) fn read(&mut self, asked: u64, now: Instant) -> Option<u64> {
        // another limiter begins at nothing
        let calls = asked.checked_sub(self.asked).unwrap_or(asked);
        self.asked = asked;
        if self.last.is_none() {
            // the average begins after the first call: nobody knows what the time before it counts
            (self.at, self.since, self.window.from) = (now, now, now);
        } else {
            self.count(calls as f64, now);
        }
        if calls > 0 {
            let since = |last: Seen| now.saturating_duration_since(last.at);
            let apart = self.last.map_or(Duration::ZERO, |last| (last.apart + since(last)) / 2);
            self.last = Some(Seen { at: now, apart, calls: (calls as f64).min(MOST) });
        }
        let last = self.last?;
        let since = now.saturating_duration_since(last.at);
        // who calls now and then wants as many calls by the time of the next, and a little earlier
        let seldom = 1.05 * last.calls / last.apart.max(since).as_secs_f64().max(1.0);
        // an average is one over several calls
        let often = if self.sum >= 2.0 { self.speed() } else { 0.0 };
        (since < SILENT).then(|| (often.max(seldom) * 1e6).ceil() as u64)
    }

    /// Calls a second, lately.
    fn speed(&self) -> f64 {
        let age = self.at.saturating_duration_since(self.since).as_secs_f64().max(LEAST);
        self.sum / weight(age)
    }

    fn count(&mut self, calls: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let spread = if passed > 0.0 { weight(passed) / passed } else { 1.0 };
        self.sum = self.sum * (-passed / OVER).exp() + calls * spread;
        self.at = now;
        self.window.calls += calls;
        if now.saturating_duration_since(self.window.from) >= WINDOW {
            self.turn(now);
        }
    }

    /// The window is over; where it and the one before tell of another demand, the average begins with them.
    fn turn(&mut self, now: Instant) {
        let (one, two) = (self.former, self.window);
        let odds = two.odds(now);
        let is_other = one.odds(two.from) * odds > 0.0;
        if is_other {
            self.since = one.from;
            let age = now.saturating_duration_since(one.from).as_secs_f64();
            self.sum = (one.calls + two.calls) * weight(age) / age;
        }
        // the second of two is held against the same as the first
        let expected = if odds != 0.0 && !is_other { two.expected } else { self.speed() };
        (self.former, self.window) = (two, Window { from: now, calls: 0.0, expected });
    }
}

impl Window {
    /// Above 0: more calls than by chance, below: fewer.
    fn odds(&self, end: Instant) -> f64 {
        let expected = self.expected * end.saturating_duration_since(self.from).as_secs_f64();
        let odd = self.calls - expected;
        // a pause is no demand of its own: who pauses comes back, and would find its share with others
        if self.calls > 0.0 && odd.abs() > ODD * self.calls.max(expected).sqrt() { odd } else { 0.0 }
    }
}

/// What one call a second for so many seconds counts.
fn weight(seconds: f64) -> f64 {
    OVER * (1.0 - (-seconds / OVER).exp())
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

    /// What is asked for at the end, where so many calls come in each of so many ticks.
    fn plays(meter: &mut Meter, (at, asked): (&mut Instant, &mut u64), calls: u64, ticks: u32) -> f64 {
        let mut asks = None;
        for _ in 0..ticks {
            (*at, *asked) = (*at + TICK, *asked + calls);
            asks = meter.read(*asked, *at);
        }
        asks.unwrap_or(0) as f64 / 1e6
    }

    #[test]
    fn another_demand_is_known_after_seconds_and_a_burst_is_none() {
        let (mut at, mut asked) = (Instant::now(), 1);
        let mut meter = Meter::new(at);
        meter.read(asked, at);
        let asks = plays(&mut meter, (&mut at, &mut asked), 10, 2);
        assert!((18.0..22.0).contains(&asks), "{asks}: the first second tells");
        for (calls, most) in [(100, 210.0), (1, 3.0), (10, 21.0)] {
            plays(&mut meter, (&mut at, &mut asked), calls, 7);
            let asks = plays(&mut meter, (&mut at, &mut asked), calls, 1);
            let least = 1.8 * calls as f64;
            assert!((least..=most).contains(&asks), "{asks} where {calls} calls come in half a second");
        }
        plays(&mut meter, (&mut at, &mut asked), 10, 40);
        let asks = plays(&mut meter, (&mut at, &mut asked), 100, 1);
        assert!(asks < 45.0, "{asks} after a burst");
        let asks = plays(&mut meter, (&mut at, &mut asked), 0, 3);
        assert!(asks > 10.0, "{asks} in a pause");
    }
}
