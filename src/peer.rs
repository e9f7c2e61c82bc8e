//! A provider with its load and health; both survive updates of the view.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::health::{Change, Fault, State};
use crate::limits::Auto;
use crate::model::Circuit as Rules;
use crate::names::Address;

mod board;
mod complaint;
mod faults;
mod known;
mod latency;
mod line;
mod list;
mod place;
mod tally;

pub use board::Board;
use known::Known;
pub use line::Waiting;
pub use list::Peers;
pub use place::InFlight;
pub use tally::Tally;

/// A provider that has not answered in so many times what its answers usually take is silent,
const SILENT_TIMES: u32 = 5;
/// but not before.
const SILENT_AFTER: Duration = Duration::from_millis(50);
/// Longest time that a provider can ask to be left alone for.
const MOST_LATER: Duration = Duration::from_secs(60);

/// Load and health of one address, shared by all workers and by every version of the view.
#[derive(Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: Address,
    origin: Arc<Origin>,
    /// Nothing until it is called or checked: a view may have a hundred thousand peers.
    known: OnceLock<Box<Known>>,
}

/// What peers that came at one time share.
#[derive(Debug)]
pub struct Origin {
    board: Arc<Board>,
    /// When they came, where their service was in the view already: they may have to warm up.
    came: Option<Instant>,
}

/// How an attempt ended, as far as that says something of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What was wrong; `None`: it answered, be it 4xx.
    pub fault: Option<Fault>,
    /// For how long it asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// What the next answer of a peer is thought to cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// How long it takes, and how long the peer still asks to be left alone.
    pub seconds: f32,
    /// Whether anybody ever waited for one.
    pub is_known: bool,
    /// Whether it asks to be left alone.
    pub asks: bool,
}

impl Peer {
    /// A peer without load; `came`: its service was in the view already.
    pub fn new(address: Address, board: Arc<Board>, now: Instant, came: bool) -> Arc<Self> {
        Self::of(address, &Origin::new(board, came.then_some(now)))
    }

    /// The same, one of several.
    pub fn of(address: Address, origin: &Arc<Origin>) -> Arc<Self> {
        Arc::new(Self { address, origin: origin.clone(), known: OnceLock::new() })
    }

    /// When it came, where its service was in the view already: it may have to warm up.
    pub fn came(&self) -> Option<Instant> {
        self.origin.came
    }

    fn board(&self) -> &Board {
        &self.origin.board
    }

    fn known(&self, now: Instant) -> &Known {
        self.known.get_or_init(|| Known::new(now))
    }

    /// What `read` says; `unknown` of one that was neither called nor checked.
    fn read<T>(&self, unknown: T, read: impl FnOnce(&Known) -> T) -> T {
        self.known.get().map_or(unknown, |known| read(known))
    }

    /// Counts a call in, whatever the load.
    pub fn enter(self: &Arc<Self>, now: Instant) -> InFlight {
        self.known(now).enter();
        InFlight::at(self, now)
    }

    /// Counts a call in, unless that would be more than `most` or than its own status page allows.
    pub fn try_enter(self: &Arc<Self>, most: u32, now: Instant) -> Option<InFlight> {
        self.known(now).try_enter(most).then(|| InFlight::at(self, now))
    }

    /// The same under `concurrency: auto`: nor more than the limit found for it, which follows this call.
    pub fn try_enter_limited(self: &Arc<Self>, most: u32, now: Instant) -> Option<InFlight> {
        let most = most.min(self.known(now).find_limit(now));
        Some(self.try_enter(most, now)?.with(|place| place.limited = true))
    }

    /// Most calls at once by how long its answers take, where calls are under `concurrency: auto`.
    pub fn limit(&self) -> u32 {
        self.read(Auto::FIRST, Known::limit)
    }

    /// Counts in the one call that probes, where one is due.
    pub fn probe(self: &Arc<Self>, now: Instant) -> Option<InFlight> {
        let claim = self.known.get()?.circuit.claim(now)?;
        self.board().note(Change::HalfOpened);
        Some(self.enter(now).with(|place| place.claim = Some(claim)))
    }

    /// Calls under way.
    pub fn load(&self) -> u32 {
        self.read(0, Known::load)
    }

    /// What an answer is thought to cost.
    pub fn cost(&self, now: Instant) -> Cost {
        self.read(Cost::UNKNOWN, |known| known.cost(now))
    }

    /// How long an answer takes by what is known.
    pub fn latency(&self, now: Instant) -> Duration {
        let seconds = self.read(Cost::UNKNOWN.seconds, |known| known.latency.seconds(now));
        Duration::from_secs_f32(seconds.max(0.0))
    }

    /// Whether it should have answered in `had` by what its answers usually take.
    pub fn is_silent(&self, had: Duration) -> bool {
        let is_long = |usual: Duration| had >= SILENT_AFTER.max(usual.saturating_mul(SILENT_TIMES));
        self.read(None, |known| known.latency.usual()).is_some_and(is_long)
    }

    /// For how long it still asks to be left alone.
    pub fn asked(&self, now: Instant) -> Duration {
        self.read(Duration::ZERO, |known| known.asked(now))
    }

    /// Whether calls pass.
    pub fn is_closed(&self) -> bool {
        self.read(true, |known| known.circuit.is_closed())
    }

    /// How its circuit stands.
    pub fn state(&self) -> State {
        self.read(State::Closed, |known| known.circuit.state())
    }

    /// Attempts that were answered and attempts that failed, since the peer is known.
    pub fn attempts(&self) -> (u64, u64) {
        self.read((0, 0), |known| (known.answered.load(Relaxed), known.failed.load(Relaxed)))
    }

    /// Counts an attempt that failed, whatever became of the call.
    pub fn fails(&self, fault: Fault) {
        // there since it was called
        self.known.get().into_iter().for_each(|known| known.faults.note(fault));
    }

    /// Such attempts by the word for what was wrong, since the peer is known.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> + use<'_> {
        self.known.get().into_iter().flat_map(|known| known.faults.counts())
    }

    /// A health check failed often enough.
    pub fn eject(&self, rules: &Rules, now: Instant) -> Option<Change> {
        self.noted(self.known(now).circuit.eject(rules, now))
    }

    /// Its health checks succeed again.
    pub fn restore(&self, now: Instant) -> Option<Change> {
        self.noted(self.read(None, |known| known.circuit.restore(now)))
    }

    /// Whether taking a connection is all that it lacks.
    pub fn waits_for_connect(&self) -> bool {
        self.read(false, |known| known.circuit.waits_for_connect())
    }

    /// It took a connection.
    pub fn reached(&self, now: Instant) -> Option<Change> {
        self.noted(self.read(None, |known| known.circuit.reached(now)))
    }

    /// What its own status page says: calls wait there while it has so many processes; `None`: none waits.
    pub fn queue(&self, processes: Option<u32>, now: Instant) {
        let known = self.known(now);
        known.room.store(processes.map_or(u32::MAX, |processes| processes.max(1)), Relaxed);
        if known.queues.swap(processes.is_some(), Relaxed) != processes.is_some() {
            self.board().moved();
        }
    }

    /// Whether calls wait there, by its own status page.
    pub fn queues(&self) -> bool {
        self.read(false, |known| known.queues.load(Relaxed))
    }

    /// Most calls at once by its own status page.
    pub fn room(&self) -> Option<u32> {
        Some(self.read(u32::MAX, |known| known.room.load(Relaxed))).filter(|room| *room < u32::MAX)
    }

    fn noted(&self, change: Option<Change>) -> Option<Change> {
        if let Some(change) = change {
            self.board().note(change);
        }
        change
    }
}

impl Origin {
    /// Of peers whose service has this board; `came`: it was in the view already.
    pub fn new(board: Arc<Board>, came: Option<Instant>) -> Arc<Self> {
        Arc::new(Self { board, came })
    }
}

impl Cost {
    /// Of a peer that was never called.
    const UNKNOWN: Self = Self { seconds: latency::UNKNOWN.as_secs_f32(), is_known: false, asks: false };
}

impl Outcome {
    /// It answered.
    pub const GOOD: Self = Self { fault: None, retry_after: None };

    /// It failed.
    pub fn bad(fault: Fault) -> Self {
        Self { fault: Some(fault), retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(now: Instant) -> Arc<Peer> {
        Peer::new(Address::new("10.0.0.5:80").unwrap(), Arc::default(), now, false)
    }

    fn record(place: &mut InFlight, outcome: Outcome, now: Instant) -> Option<Change> {
        place.record(outcome, &Rules::default(), now, || true)
    }

    #[test]
    fn a_call_that_vanishes_is_counted_out() {
        let now = Instant::now();
        let (peer, all) = (peer(now), Arc::default());
        let (also, other) = (Arc::new(Tally::new(&all)), Tally::new(&all));
        let (one, two) = (peer.enter(now), peer.enter(now).counted(Some(&also)));
        assert_eq!((peer.load(), also.own(), other.own(), other.all()), (2, 1, 0, 1));
        drop(one);
        drop(two);
        assert_eq!((peer.load(), also.own(), also.all()), (0, 0, 0));
    }

    #[test]
    fn a_full_one_takes_no_more() {
        let now = Instant::now();
        let peer = peer(now);
        let _one = peer.try_enter(2, now).unwrap();
        let two = peer.try_enter(2, now).unwrap();
        assert!(peer.try_enter(2, now).is_none());
        assert_eq!(peer.load(), 2);
        peer.queue(Some(1), now);
        drop(two);
        assert!(peer.try_enter(2, now).is_none(), "its own processes are all busy");
        peer.queue(None, now);
        assert!(peer.try_enter(2, now).is_some());
    }

    #[test]
    fn who_fails_fast_does_not_look_fast() {
        let now = Instant::now();
        let (good, bad) = (peer(now), peer(now));
        let later = now + SECOND / 10;
        for _ in 0..20 {
            record(&mut good.enter(later), Outcome::GOOD, later);
            record(&mut bad.enter(later), Outcome::bad(Fault::Status), later);
        }
        assert!(good.cost(later).seconds <= bad.cost(later).seconds);
        assert_eq!((good.attempts(), bad.attempts()), ((20, 0), (0, 20)));
    }

    #[test]
    fn a_wish_to_be_left_alone_is_heard_for_a_minute_at_most() {
        let now = Instant::now();
        let peer = peer(now);
        for (asked, heard) in [(2 * SECOND, 2.0), (Duration::from_secs(u64::MAX / 2), 60.0)] {
            let outcome = Outcome { fault: None, retry_after: Some(asked) };
            record(&mut peer.enter(now), outcome, now);
            assert!((peer.cost(now).seconds - heard).abs() < 0.1, "{asked:?}: {:?}", peer.cost(now));
        }
        assert!(peer.cost(now + 61 * SECOND).seconds < 0.1);
    }

    #[test]
    fn a_probe_that_vanishes_lets_another_and_the_board_tells_of_each_step() {
        let now = Instant::now();
        let board = Arc::new(Board::default());
        let peer = Peer::new(Address::new("10.0.0.5:80").unwrap(), board.clone(), now, false);
        for _ in 0..5 {
            record(&mut peer.enter(now), Outcome::bad(Fault::Unreached), now);
        }
        let (opened, later) = (board.generation(), now + 60 * SECOND);
        assert!(opened > 0 && peer.probe(now).is_none());
        let probe = peer.probe(later).unwrap();
        assert!(probe.probes() && peer.probe(later).is_none() && board.generation() > opened);
        drop(probe);
        let mut probe = peer.probe(later).unwrap();
        assert_eq!(record(&mut probe, Outcome::GOOD, later), Some(Change::Closed));
        let counts: Vec<_> = board.counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 0, 0, 2, 1]);
    }

    #[test]
    fn answers_that_break_off_are_failures_in_a_row() {
        let (now, rules) = (Instant::now(), Rules::default());
        let peer = peer(now);
        let answers = |place: &mut InFlight, end: Outcome| {
            place.begins(Outcome::GOOD, now);
            assert!(place.streams());
            place.record(end, &rules, now, || true)
        };
        let broken: Vec<_> =
            (0..5).map(|_| answers(&mut peer.enter(now), Outcome::bad(Fault::Cut))).collect();
        assert_eq!(broken[4], Some(Change::Opened(crate::health::Cause::Consecutive)));
        assert_eq!(peer.attempts(), (5, 0), "an attempt counts once");
        let later = now + 60 * SECOND;
        let mut probe = peer.probe(later).unwrap();
        probe.begins(Outcome::GOOD, later);
        assert!(!peer.is_closed(), "its body is still to come");
        assert!(matches!(answers(&mut probe, Outcome::bad(Fault::Cut)), Some(Change::Opened(_))));
        let mut probe = peer.probe(later + 60 * SECOND).unwrap();
        assert_eq!(answers(&mut probe, Outcome::GOOD), Some(Change::Closed));
    }

    #[test]
    fn a_caller_that_sends_its_body_slowly_makes_no_peer_look_slow() {
        let start = Instant::now();
        let peer = peer(start);
        let now = start + 10 * SECOND;
        let mut slow = peer.enter(start);
        slow.asks(now - SECOND / 100);
        record(&mut slow, Outcome::GOOD, now);
        assert_eq!(peer.latency(now).as_millis(), 10);
        let (mut early, mut gone) = (peer.enter(start), peer.enter(start));
        early.spare();
        record(&mut early, Outcome::GOOD, now);
        gone.spare();
        drop(gone);
        assert_eq!((peer.latency(now).as_millis(), peer.attempts()), (10, (2, 0)));
    }

    #[test]
    fn one_that_answered_quickly_is_silent_after_a_while_and_one_that_never_did_is_not() {
        let now = Instant::now();
        let peer = peer(now);
        assert!(!peer.is_silent(3600 * SECOND));
        for _ in 0..20 {
            record(&mut peer.enter(now - SECOND / 50), Outcome::GOOD, now);
        }
        assert!(!peer.is_silent(SECOND / 20) && peer.is_silent(SECOND / 9));
        // those that were not answered don't make it look usual
        for _ in 0..20 {
            record(&mut peer.enter(now - SECOND), Outcome::bad(Fault::Silent), now);
        }
        assert!(peer.is_silent(SECOND / 9));
    }

    #[test]
    fn a_probe_whose_answer_goes_on_lets_calls_pass_and_its_end_counts() {
        let (now, rules) = (Instant::now(), Rules { consecutive: 1, ..Rules::default() });
        let peer = peer(now);
        peer.enter(now).record(Outcome::bad(Fault::Status), &rules, now, || true);
        let later = now + 60 * SECOND;
        let mut probe = peer.probe(later).unwrap();
        probe.begins(Outcome::GOOD, later);
        assert_eq!(probe.goes_on(&rules, later), Some(Change::Closed));
        assert!(probe.streams() && probe.goes_on(&rules, later).is_none());
        let end = probe.record(Outcome::bad(Fault::Cut), &rules, later, || true);
        assert!(matches!(end, Some(Change::Opened(_))));
    }
}
