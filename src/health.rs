//! One provider's circuit: closed, open for a while, half-open for exactly one call.
//!
//! Calls that end well while nothing was wrong cost a few relaxed atomics; only what opens, probes
//! or closes takes the lock.

use std::sync::atomic::{
    AtomicU8, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::model::Circuit as Rules;

mod window;

use window::Window;

/// Doublings of the time a circuit is open, however often it opened.
const MOST_DOUBLINGS: u32 = 20;
/// Of the time a circuit may be open, the part it always is: no probe follows at once.
const LEAST_OPEN: f64 = 0.1;

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;

/// What a provider did wrong with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It took no connection.
    Unreached,
    /// It ended before its answer did.
    Cut,
    /// It did not answer in time.
    Late,
    /// It did not answer in several times what its answers take, to a caller that left it little time.
    Silent,
    /// It answered 5xx.
    Status,
    /// Its bytes are not what its encoding says.
    BadAnswer,
}

/// Why a circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// So many failures in a row.
    Consecutive,
    /// Too few good ones among its calls.
    Rate,
    /// Its health check failed.
    Active,
}

/// How a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// No call passes until then; after it one does.
    Open {
        /// Why.
        cause: Cause,
        /// When a probe is due.
        until: Instant,
    },
    /// One call probes.
    HalfOpen {
        /// Why it was open.
        cause: Cause,
    },
}

/// What became of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened, or a probe failed.
    Opened(Cause),
    /// A call has begun to probe.
    HalfOpened,
    /// The probe vanished without a result: another may follow at once.
    Released,
    /// A probe is due earlier than it was.
    Due,
    /// Calls pass again.
    Closed,
}

/// The right to probe; one at a time.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim(u32);

/// The circuit of one provider, shared by all workers.
#[derive(Debug)]
pub struct Circuit {
    phase: AtomicU8,
    in_a_row: AtomicU32,
    window: Window,
    shut: Mutex<Shut>,
}

/// What matters only while it is not closed.
#[derive(Debug)]
struct Shut {
    cause: Cause,
    /// The last failure before it opened.
    fault: Option<Fault>,
    until: Instant,
    /// How often it opened since it was last closed for a whole window.
    times: u32,
    closed: Instant,
    claims: u32,
}

impl Fault {
    /// The word for it in metrics and log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreached => "unreached",
            Self::Cut => "cut",
            Self::Late | Self::Silent => "deadline",
            Self::Status => "5xx",
            Self::BadAnswer => "bad-answer",
        }
    }
}

impl Cause {
    /// The word for it in metrics, log and admin.
    pub fn word(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::Rate => "rate",
            Self::Active => "active",
        }
    }
}

impl Circuit {
    /// A closed one.
    pub fn new(now: Instant) -> Self {
        let shut =
            Shut { cause: Cause::Consecutive, fault: None, until: now, times: 0, closed: now, claims: 0 };
        Self {
            phase: AtomicU8::new(CLOSED),
            in_a_row: AtomicU32::new(0),
            window: Window::new(now),
            shut: Mutex::new(shut),
        }
    }

    /// Whether calls pass.
    pub fn is_closed(&self) -> bool {
        self.phase.load(Acquire) == CLOSED
    }

    /// How it stands.
    pub fn state(&self) -> State {
        if self.is_closed() {
            return State::Closed;
        }
        let shut = self.lock();
        match self.phase.load(Relaxed) {
            CLOSED => State::Closed,
            HALF_OPEN => State::HalfOpen { cause: shut.cause },
            _ => State::Open { cause: shut.cause, until: shut.until },
        }
    }

    /// A call that was no probe ended well.
    pub fn good(&self, rules: &Rules, now: Instant) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
        }
        self.window.add(true, rules.window, now);
    }

    /// A call that was no probe failed; `room` says whether one more may be opened by its rate.
    pub fn bad(
        &self,
        fault: Fault,
        rules: &Rules,
        now: Instant,
        room: impl FnOnce() -> bool,
    ) -> Option<Change> {
        // an API may be slow beside others of its provider: one that answers these is not silent
        let is_counted = fault != Fault::Silent;
        if is_counted {
            self.window.add(false, rules.window, now);
        }
        let in_a_row = self.in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        if in_a_row >= rules.consecutive {
            return self.open(Cause::Consecutive, Some(fault), rules, now);
        }
        let (good, bad) = self.window.sum(rules.window, now);
        let calls = good + bad;
        let poor = calls >= u64::from(rules.min_calls) && good * 100 < calls * u64::from(rules.good);
        if poor && is_counted && self.is_closed() && room() {
            return self.open(Cause::Rate, Some(fault), rules, now);
        }
        None
    }

    /// The right to probe, where that is due and nobody has it.
    pub fn claim(&self, now: Instant) -> Option<Claim> {
        let mut shut = self.lock();
        if self.phase.load(Relaxed) != OPEN || now < shut.until {
            return None;
        }
        shut.claims = shut.claims.wrapping_add(1);
        self.phase.store(HALF_OPEN, Release);
        Some(Claim(shut.claims))
    }

    /// The probe went without a result.
    pub fn release(&self, claim: Claim) -> Option<Change> {
        let shut = self.lock();
        self.is_probed_by(&shut, &claim).then(|| {
            self.phase.store(OPEN, Release);
            Change::Released
        })
    }

    /// The probe had too little time for a result: the next follows after as long as a circuit is open first.
    pub fn postpone(&self, claim: Claim, rules: &Rules, now: Instant) -> Option<Change> {
        let mut shut = self.lock();
        self.is_probed_by(&shut, &claim).then(|| {
            shut.until = now + rules.open.min(rules.max_open);
            self.phase.store(OPEN, Release);
            Change::Released
        })
    }

    /// The probe's result; nothing where its claim was overtaken.
    pub fn probed(&self, claim: Claim, fault: Option<Fault>, rules: &Rules, now: Instant) -> Option<Change> {
        let mut shut = self.lock();
        if !self.is_probed_by(&shut, &claim) {
            return None;
        }
        let Some(fault) = fault else {
            return Some(self.close(&mut shut, now));
        };
        let cause = shut.cause;
        Some(self.shut(&mut shut, cause, Some(fault), rules, now))
    }

    /// A health check of its provider failed often enough: open until one succeeds, or checks end.
    pub fn eject(&self, rules: &Rules, now: Instant) -> Option<Change> {
        let mut shut = self.lock();
        let closed = self.phase.load(Relaxed) == CLOSED;
        if !closed && shut.cause != Cause::Active {
            return None;
        }
        (shut.cause, shut.fault) = (Cause::Active, None);
        shut.until = now + rules.max_open;
        self.phase.store(OPEN, Release);
        closed.then_some(Change::Opened(Cause::Active))
    }

    /// Its provider became well by its health check: what that opened closes, else a probe is due now.
    pub fn restore(&self, now: Instant) -> Option<Change> {
        let mut shut = self.lock();
        if self.phase.load(Relaxed) != OPEN {
            return None;
        }
        if shut.cause == Cause::Active {
            return Some(self.close(&mut shut, now));
        }
        (now < shut.until).then(|| {
            shut.until = now;
            Change::Due
        })
    }

    /// Whether it is open because its provider took no connections, so that taking one makes it well.
    pub fn waits_for_connect(&self) -> bool {
        !self.is_closed() && self.is_deaf(&self.lock())
    }

    /// Its provider takes connections again: closes what was open because it took none.
    pub fn reached(&self, now: Instant) -> Option<Change> {
        let mut shut = self.lock();
        self.is_deaf(&shut).then(|| self.close(&mut shut, now))
    }

    fn is_deaf(&self, shut: &Shut) -> bool {
        let open = self.phase.load(Relaxed) == OPEN;
        open && shut.cause == Cause::Consecutive && shut.fault == Some(Fault::Unreached)
    }

    fn is_probed_by(&self, shut: &Shut, claim: &Claim) -> bool {
        self.phase.load(Relaxed) == HALF_OPEN && shut.claims == claim.0
    }

    fn open(&self, cause: Cause, fault: Option<Fault>, rules: &Rules, now: Instant) -> Option<Change> {
        let mut shut = self.lock();
        match self.phase.load(Relaxed) {
            CLOSED => {}
            // where all are ill, calls go on in spite of a poor rate or check, but not of this
            OPEN if cause == Cause::Consecutive && shut.cause != cause => {}
            _ => return None,
        }
        Some(self.shut(&mut shut, cause, fault, rules, now))
    }

    fn shut(
        &self,
        shut: &mut Shut,
        cause: Cause,
        fault: Option<Fault>,
        rules: &Rules,
        now: Instant,
    ) -> Change {
        if self.phase.load(Relaxed) == CLOSED && shut.closed + rules.window <= now {
            shut.times = 0;
        }
        let longest = rules.open.saturating_mul(1 << shut.times.min(MOST_DOUBLINGS)).min(rules.max_open);
        let chance = LEAST_OPEN + (1.0 - LEAST_OPEN) * fastrand::f64();
        shut.times = shut.times.saturating_add(1);
        (shut.cause, shut.fault, shut.until) = (cause, fault, now + longest.mul_f64(chance));
        self.in_a_row.store(0, Relaxed);
        self.phase.store(OPEN, Release);
        Change::Opened(cause)
    }

    fn close(&self, shut: &mut Shut, now: Instant) -> Change {
        shut.closed = now;
        self.in_a_row.store(0, Relaxed);
        self.window.clear();
        self.phase.store(CLOSED, Release);
        Change::Closed
    }

    fn lock(&self) -> MutexGuard<'_, Shut> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn fails(circuit: &Circuit, times: usize, now: Instant) -> Vec<Option<Change>> {
        (0..times).map(|_| circuit.bad(Fault::Cut, &Rules::default(), now, || true)).collect()
    }

    fn due(circuit: &Circuit) -> Instant {
        let State::Open { until, .. } = circuit.state() else { panic!("{:?}", circuit.state()) };
        until
    }

    /// Opened by five failures at `now`.
    fn opened(now: Instant) -> Circuit {
        let circuit = Circuit::new(now);
        assert_eq!(fails(&circuit, 5, now).pop().unwrap(), Some(Change::Opened(Cause::Consecutive)));
        circuit
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_good_one_between_does_not() {
        let (now, rules) = (Instant::now(), Rules::default());
        let circuit = Circuit::new(now);
        for _ in 0..3 {
            assert_eq!(fails(&circuit, 4, now), [None; 4]);
            circuit.good(&rules, now);
        }
        assert!(circuit.is_closed());
        fails(&circuit, 5, now);
        assert!(matches!(circuit.state(), State::Open { cause: Cause::Consecutive, .. }));
        // calls that were under way when it opened
        assert_eq!(fails(&circuit, 20, now), [None; 20]);
    }

    #[test]
    fn a_poor_rate_opens_it_after_enough_calls_where_there_is_room() {
        let (now, rules) = (Instant::now(), Rules::default());
        let circuit = Circuit::new(now);
        let pair = |room: bool, at| {
            circuit.good(&rules, at);
            circuit.bad(Fault::Status, &rules, at, || room)
        };
        // one of two is good: under 80 %, but 18 calls are too few
        assert!((0..9).all(|_| pair(true, now).is_none()));
        assert_eq!(pair(false, now), None);
        assert_eq!(pair(true, now), Some(Change::Opened(Cause::Rate)));
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let (now, rules) = (Instant::now(), Rules::default());
        let circuit = Circuit::new(now);
        for _ in 0..9 {
            circuit.good(&rules, now);
            circuit.bad(Fault::Status, &rules, now, || true);
        }
        let later = now + rules.window + SECOND;
        circuit.good(&rules, later);
        assert_eq!(circuit.bad(Fault::Status, &rules, later, || true), None);
        assert_eq!(circuit.window.sum(rules.window, later), (1, 1));
        // a shorter window takes effect with the next call, and nothing older counts in it
        let short = Rules { window: SECOND, ..rules };
        assert_eq!(circuit.bad(Fault::Status, &short, later + SECOND, || true), None);
    }

    #[test]
    fn apis_with_windows_of_their_own_see_all_calls_of_a_provider_they_share() {
        let (now, rules) = (Instant::now(), Rules::default());
        let (short, long) = (Rules { window: SECOND, ..rules }, Rules { window: 60 * SECOND, ..rules });
        let circuit = Circuit::new(now);
        for rules in [short, long, rules] {
            assert_eq!(circuit.bad(Fault::Status, &rules, now, || true), None);
        }
        let mut opened = Vec::new();
        for n in 0..8 {
            for rules in [short, long, rules] {
                circuit.good(&rules, now + n * SECOND / 100);
                opened.push(circuit.bad(Fault::Status, &rules, now + n * SECOND / 100, || true));
            }
        }
        let at = opened.iter().position(Option::is_some);
        assert!(at.is_some_and(|at| at <= 9), "of 20 calls half failed: {at:?}");
    }

    #[test]
    fn it_is_open_for_twice_as_long_each_time_up_to_a_limit_with_jitter() {
        let rules = Rules::default();
        let mut seen = Vec::new();
        for _ in 0..50 {
            let mut now = Instant::now();
            let circuit = opened(now);
            for times in 0..9 {
                let longest = SECOND * (1 << times.min(6)).min(60);
                let open = due(&circuit) - now;
                assert!(open <= longest && open >= longest / 10, "{times}: {open:?}");
                if times == 0 {
                    seen.push(open);
                }
                now = due(&circuit);
                let claim = circuit.claim(now).unwrap();
                let change = circuit.probed(claim, Some(Fault::Late), &rules, now);
                assert_eq!(change, Some(Change::Opened(Cause::Consecutive)));
            }
        }
        let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
        assert!(*most - *least > SECOND / 2, "no jitter: {least:?} to {most:?}");
    }

    #[test]
    fn exactly_one_call_probes_when_it_is_due_and_one_that_vanishes_lets_another() {
        let (now, rules) = (Instant::now(), Rules::default());
        let circuit = opened(now);
        assert!(circuit.claim(now).is_none(), "it is not due yet");
        let now = due(&circuit);
        let claim = circuit.claim(now).unwrap();
        assert!((0..100).all(|_| circuit.claim(now + SECOND).is_none()));
        assert_eq!(circuit.state(), State::HalfOpen { cause: Cause::Consecutive });
        assert_eq!(circuit.release(claim), Some(Change::Released));
        let claim = circuit.claim(now).unwrap();
        assert_eq!(circuit.probed(claim, None, &rules, now), Some(Change::Closed));
        assert!(circuit.is_closed() && circuit.claim(now).is_none());
    }

    #[test]
    fn a_probe_that_had_no_time_is_not_followed_at_once() {
        let rules = Rules::default();
        let circuit = opened(Instant::now());
        let now = due(&circuit);
        let claim = circuit.claim(now).unwrap();
        assert_eq!(circuit.postpone(claim, &rules, now), Some(Change::Released));
        assert_eq!((due(&circuit), circuit.claim(now)), (now + rules.open, None));
        assert!(circuit.claim(now + rules.open).is_some());
    }

    #[test]
    fn who_is_silent_to_all_is_left_alone_and_who_answers_some_is_not() {
        let (now, rules) = (Instant::now(), Rules::default());
        let circuit = Circuit::new(now);
        for _ in 0..50 {
            assert_eq!(circuit.bad(Fault::Silent, &rules, now, || true), None);
            circuit.good(&rules, now);
        }
        let mut ends: Vec<_> = (0..5).map(|_| circuit.bad(Fault::Silent, &rules, now, || true)).collect();
        assert_eq!(ends.pop().unwrap(), Some(Change::Opened(Cause::Consecutive)));
    }

    #[test]
    fn threads_that_all_want_to_probe_get_one_claim() {
        let now = Instant::now();
        let circuit = opened(now);
        let barrier = std::sync::Barrier::new(8);
        let claim = || {
            barrier.wait();
            circuit.claim(now + 60 * SECOND).is_some()
        };
        let claimed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|got| *got).count()
        });
        assert_eq!(claimed, 1);
    }

    #[test]
    fn the_time_it_is_open_is_short_again_after_it_was_closed_for_a_window() {
        let rules = Rules::default();
        for (closed_for, longest) in [(SECOND, 4 * SECOND), (rules.window, SECOND)] {
            let mut most = Duration::ZERO;
            for _ in 0..200 {
                let mut now = Instant::now();
                let circuit = opened(now);
                for result in [Some(Fault::Cut), None] {
                    now = due(&circuit);
                    let claim = circuit.claim(now).unwrap();
                    circuit.probed(claim, result, &rules, now);
                }
                now += closed_for;
                fails(&circuit, 5, now);
                most = most.max(due(&circuit) - now);
            }
            assert!(most <= longest && most > longest.mul_f64(0.9), "{closed_for:?}: {most:?}");
        }
    }

    #[test]
    fn calls_that_pass_an_open_one_in_a_panic_can_still_show_that_it_is_dead() {
        let (now, rules) = (Instant::now(), Rules::default());
        let circuit = Circuit::new(now);
        circuit.eject(&rules, now);
        assert!(matches!(circuit.state(), State::Open { cause: Cause::Active, .. }));
        let last = fails(&circuit, 5, now).pop().unwrap();
        assert_eq!(last, Some(Change::Opened(Cause::Consecutive)));
    }

    #[test]
    fn what_a_health_check_opened_it_closes_and_any_other_becomes_due() {
        let (now, rules) = (Instant::now(), Rules::default());
        let circuit = Circuit::new(now);
        assert_eq!(circuit.eject(&rules, now), Some(Change::Opened(Cause::Active)));
        assert_eq!(circuit.eject(&rules, now + SECOND), None);
        assert_eq!(due(&circuit), now + SECOND + rules.max_open, "checks go on");
        assert_eq!(circuit.restore(now), Some(Change::Closed));

        let circuit = opened(now);
        assert_eq!(circuit.eject(&rules, now), None, "the reason that matters more stays");
        assert_eq!(circuit.restore(now), Some(Change::Due));
        assert!(circuit.claim(now).is_some());
        assert_eq!(circuit.restore(now), None);
    }

    #[test]
    fn only_what_took_no_connection_is_well_by_taking_one() {
        let (now, rules) = (Instant::now(), Rules::default());
        for (fault, well) in [(Fault::Unreached, Some(Change::Closed)), (Fault::Late, None)] {
            let circuit = Circuit::new(now);
            for _ in 0..5 {
                circuit.bad(fault, &rules, now, || true);
            }
            assert_eq!(circuit.waits_for_connect(), well.is_some());
            assert_eq!(circuit.reached(now), well, "{fault:?}");
        }
    }

    #[test]
    fn a_claim_that_was_overtaken_decides_nothing() {
        let (now, rules) = (Instant::now(), Rules::default());
        let circuit = Circuit::new(now);
        circuit.eject(&rules, now);
        let old = circuit.claim(now + rules.max_open).unwrap();
        circuit.eject(&rules, now + rules.max_open);
        assert_eq!(circuit.probed(old, None, &rules, now), None);
        assert!(!circuit.is_closed());
    }
}
