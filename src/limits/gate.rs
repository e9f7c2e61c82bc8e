//! A limit of calls in flight, with a line before it: first come, first served.

use std::collections::VecDeque;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::gradient::Gradient;
use crate::model::Concurrency;

/// So many may wait at least, however low the limit is; else as many as the limit.
const LEAST_LINE: usize = 16;

/// Calls in flight of one service or API, of all workers, and those that wait to be.
#[derive(Debug)]
pub struct Gate {
    limit: AtomicU32,
    in_flight: AtomicU32,
    /// Those in the line; changed only with the line locked.
    waiting: AtomicUsize,
    line: Mutex<Line>,
    is_auto: AtomicBool,
    auto: Mutex<Option<Box<Gradient>>>,
}

#[derive(Debug, Default)]
struct Line {
    first: VecDeque<(u64, oneshot::Sender<()>)>,
    next: u64,
}

/// A place among the calls in flight; given back on drop.
#[derive(Debug)]
pub struct Place(Arc<Gate>);

/// A place in the line; who drops it has left.
#[derive(Debug)]
pub struct Waiting {
    gate: Arc<Gate>,
    number: u64,
    turn: oneshot::Receiver<()>,
    /// The turn was taken.
    done: bool,
}

impl Gate {
    /// Nobody in it yet.
    pub fn new(concurrency: Concurrency, now: Instant) -> Arc<Self> {
        let gate = Self {
            limit: AtomicU32::new(1),
            in_flight: AtomicU32::new(0),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
            is_auto: AtomicBool::new(false),
            auto: Mutex::default(),
        };
        gate.obey(concurrency, now);
        Arc::new(gate)
    }

    /// The one there was, obeying this rule from now on; or a new one.
    pub fn kept(former: Option<&Arc<Self>>, concurrency: Concurrency, now: Instant) -> Arc<Self> {
        let Some(gate) = former else { return Self::new(concurrency, now) };
        gate.obey(concurrency, now);
        gate.clone()
    }

    /// From now on this rule holds; an automatic limit that is one already goes on.
    pub fn obey(&self, concurrency: Concurrency, now: Instant) {
        let mut auto = lock(&self.auto);
        let limit = match concurrency {
            Concurrency::Fixed(most) => {
                *auto = None;
                most
            }
            Concurrency::Auto => auto.get_or_insert_with(|| Box::new(Gradient::new(now))).limit(),
        };
        self.is_auto.store(auto.is_some(), Relaxed);
        // still locked: an answer noted meanwhile must not set the limit of the rule before
        self.set_limit(limit);
    }

    /// A place, if one is free and nobody waits for it.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        (self.waiting.load(SeqCst) == 0 && self.take()).then(|| Place(self.clone()))
    }

    /// A place at the end of the line; `None`: it is full.
    pub fn line_up(self: &Arc<Self>) -> Option<Waiting> {
        let mut line = lock(&self.line);
        if line.first.len() >= LEAST_LINE.max(self.limit() as usize) {
            return None;
        }
        let (tell, turn) = oneshot::channel();
        let number = line.next;
        line.next += 1;
        line.first.push_back((number, tell));
        self.waiting.store(line.first.len(), SeqCst);
        // whoever left before the line was seen to grow has called nobody
        self.call(&mut line);
        Some(Waiting { gate: self.clone(), number, turn, done: false })
    }

    /// Most calls in flight now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Calls that wait for a place.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Notes how long an answer took: an automatic limit follows it.
    pub fn answered(&self, took: Duration, now: Instant) {
        if !self.is_auto.load(Relaxed) {
            return;
        }
        let mut auto = lock(&self.auto);
        let limit = auto.as_mut().and_then(|auto| auto.answered(took, self.in_flight(), now));
        if let Some(limit) = limit {
            self.set_limit(limit);
        }
    }

    fn set_limit(&self, limit: u32) {
        self.limit.store(limit, SeqCst);
        self.call_if_any();
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        let take = |taken: u32| (taken < limit).then(|| taken + 1);
        self.in_flight.fetch_update(SeqCst, SeqCst, take).is_ok()
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
        self.call_if_any();
    }

    fn call_if_any(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.call(&mut lock(&self.line));
        }
    }

    /// Gives free places to the first in the line.
    fn call(&self, line: &mut Line) {
        while !line.first.is_empty() && self.take() {
            let called = line.first.pop_front().is_some_and(|(_, tell)| tell.send(()).is_ok());
            if !called {
                // that one is leaving the line just now
                self.in_flight.fetch_sub(1, SeqCst);
            }
        }
        self.waiting.store(line.first.len(), SeqCst);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Place {
    /// What it is a place in.
    pub fn gate(&self) -> &Gate {
        &self.0
    }
}

impl Waiting {
    /// Waits for the turn.
    pub async fn place(mut self) -> Place {
        // the gate is kept here, so that no sender is dropped unheard
        let _ = (&mut self.turn).await;
        self.done = true;
        Place(self.gate.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            // called and gone before it was heard
            return self.gate.leave();
        }
        let mut line = lock(&self.gate.line);
        if let Some(at) = line.first.iter().position(|(number, _)| *number == self.number) {
            line.first.remove(at);
            self.gate.waiting.store(line.first.len(), SeqCst);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn gate(limit: u32) -> Arc<Gate> {
        Gate::new(Concurrency::Fixed(limit), Instant::now())
    }

    fn poll(waiting: &mut Pin<&mut impl Future<Output = Place>>) -> Option<Place> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_place_that_vanishes_is_given_back() {
        let gate = gate(2);
        let (one, two) = (gate.enter().unwrap(), gate.enter().unwrap());
        assert!(gate.enter().is_none());
        drop(one);
        assert_eq!(gate.in_flight(), 1);
        assert!(gate.enter().is_some());
        drop(two);
        assert_eq!(gate.in_flight(), 0);
    }

    #[test]
    fn who_waits_longest_is_next_and_nobody_overtakes() {
        let gate = gate(1);
        let held = gate.enter().unwrap();
        let mut first = pin!(gate.line_up().unwrap().place());
        let mut second = pin!(gate.line_up().unwrap().place());
        assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
        drop(held);
        assert!(gate.enter().is_none(), "others wait");
        assert!(poll(&mut second).is_none());
        let held = poll(&mut first).unwrap();
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 1));
        drop(held);
        assert!(poll(&mut second).is_some());
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }

    #[test]
    fn who_leaves_the_line_gives_up_the_turn_called_or_not() {
        let gate = gate(1);
        let held = gate.enter().unwrap();
        let (first, second) = (gate.line_up().unwrap(), gate.line_up().unwrap());
        let mut third = pin!(gate.line_up().unwrap().place());
        drop(first);
        assert_eq!(gate.waiting(), 2);
        drop(held);
        // called, but never heard it
        drop(second);
        assert!(poll(&mut third).is_some());
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }

    #[test]
    fn the_line_is_bounded() {
        let gate = gate(1);
        let held = gate.enter().unwrap();
        let line: Vec<_> = std::iter::from_fn(|| gate.line_up()).take(1000).collect();
        assert_eq!(line.len(), 16);
        drop(line);
        assert_eq!(gate.waiting(), 0);
        drop(held);
    }

    #[test]
    fn a_place_that_came_free_meanwhile_is_taken_at_once() {
        let gate = gate(1);
        let mut waiting = pin!(gate.line_up().unwrap().place());
        assert!(poll(&mut waiting).is_some());
    }

    #[test]
    fn another_limit_holds_at_once() {
        let (gate, now) = (gate(1), Instant::now());
        let held = gate.enter().unwrap();
        let mut waiting = pin!(gate.line_up().unwrap().place());
        gate.obey(Concurrency::Fixed(2), now);
        let second = poll(&mut waiting).unwrap();
        gate.obey(Concurrency::Fixed(1), now);
        drop(second);
        assert!(gate.enter().is_none());
        drop(held);
        assert!(gate.enter().is_some());
    }

    #[test]
    fn an_automatic_limit_follows_the_answers_and_survives_an_update() {
        let start = Instant::now();
        let gate = Gate::new(Concurrency::Auto, start);
        assert_eq!(gate.limit(), 20);
        let _held: Vec<_> = std::iter::from_fn(|| gate.enter()).collect();
        for ms in 0..=200 {
            gate.answered(Duration::from_millis(5), start + Duration::from_millis(ms));
        }
        let grown = gate.limit();
        assert!(grown > 20, "{grown}");
        gate.obey(Concurrency::Auto, start);
        assert_eq!(gate.limit(), grown);
        gate.obey(Concurrency::Fixed(7), start);
        gate.answered(Duration::from_millis(5), start + Duration::from_secs(9));
        assert_eq!(gate.limit(), 7);
    }

    #[test]
    fn an_answer_noted_while_the_rule_changes_leaves_the_new_limit() {
        let start = Instant::now();
        for round in 0..2000 {
            let gate = Gate::new(Concurrency::Auto, start);
            let barrier = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    for second in 1..20 {
                        gate.answered(Duration::from_millis(5), start + Duration::from_secs(second));
                    }
                });
                barrier.wait();
                gate.obey(Concurrency::Fixed(7), start);
            });
            assert_eq!(gate.limit(), 7, "in round {round}");
        }
    }

    #[test]
    fn threads_at_once_lose_no_wake_up_and_never_go_over_the_limit() {
        const LIMIT: u32 = 3;
        let gate = gate(LIMIT);
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (gate, most) = (&gate, &most);
                scope.spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async {
                        for turn in 0..2000 {
                            let place = match gate.enter() {
                                Some(place) => place,
                                None => {
                                    let Some(waiting) = gate.line_up() else { continue };
                                    if (turn + thread) % 5 == 0 {
                                        // leaves again, at about the time of its turn
                                        std::thread::yield_now();
                                        continue;
                                    }
                                    let turn = waiting.place();
                                    tokio::time::timeout(Duration::from_secs(20), turn).await.unwrap()
                                }
                            };
                            most.fetch_max(gate.in_flight(), SeqCst);
                            std::thread::yield_now();
                            drop(place);
                        }
                    });
                });
            }
        });
        assert!(most.load(SeqCst) <= LIMIT);
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }
}
