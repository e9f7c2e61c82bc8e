//! A call's place at a peer: what it tells of the peer, and that it is counted out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::known::Known;
use super::{Outcome, Peer, Tally};
use crate::health::{Change, Claim};
use crate::model::Circuit as Rules;

/// One call under way at a peer; counted out when dropped.
#[derive(Debug)]
pub struct InFlight {
    peer: Arc<Peer>,
    since: Instant,
    /// Since when the peer could answer: the caller's body had come.
    asked: Instant,
    /// Its caller kept the peer waiting: how long it took says nothing.
    spared: bool,
    pub(super) claim: Option<Claim>,
    judged: bool,
    /// The head of a good answer came, and its body decides.
    streams: bool,
    /// The limit that is found for the peer follows it.
    pub(super) limited: bool,
    /// Picked while so few were well that rates and checks were not heeded.
    panic: bool,
    /// Counted there too.
    also: Option<Arc<Tally>>,
}

impl InFlight {
    /// The peer the call is at.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// When it was counted in.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Since when the peer could answer.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// The last of the caller's body came only then; what was before is no time of the peer's.
    pub fn asks(&mut self, then: Instant) {
        self.asked = self.asked.max(then);
    }

    /// The caller's body has not come to its end: how long the peer takes says nothing of it.
    pub fn spare(&mut self) {
        self.spared = true;
    }

    /// Whether it is the one call that probes.
    pub fn probes(&self) -> bool {
        self.claim.is_some()
    }

    /// Whether it was picked while so few were well that rates and checks were not heeded.
    pub fn in_panic(&self) -> bool {
        self.panic
    }

    /// The same, picked in a panic.
    pub fn panicked(self, panic: bool) -> Self {
        self.with(|place| place.panic = panic)
    }

    /// The same, counted in `also` too.
    pub fn counted(self, also: Option<&Arc<Tally>>) -> Self {
        also.into_iter().for_each(|tally| tally.add());
        self.with(|place| place.also = also.cloned())
    }

    /// A place that is counted in already.
    pub(super) fn at(peer: &Arc<Peer>, now: Instant) -> Self {
        Self {
            peer: peer.clone(),
            since: now,
            asked: now,
            spared: false,
            claim: None,
            judged: false,
            streams: false,
            limited: false,
            panic: false,
            also: None,
        }
    }

    /// There since it was counted in.
    fn known(&self, now: Instant) -> &Known {
        self.peer.known(now)
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The head of a good answer is there: notes how long that took. How the attempt ended is known with its
    /// body, and recorded then.
    pub fn begins(&mut self, outcome: Outcome, now: Instant) {
        self.hears(outcome, now);
        self.streams = true;
    }

    /// Whether an answer that began well is still to be recorded.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// The answer to a probe has gone on for so long that it is good enough; its end is recorded all the same.
    pub fn goes_on(&mut self, rules: &Rules, now: Instant) -> Option<Change> {
        let claim = self.claim.take()?;
        self.peer.noted(self.known(now).circuit.probed(claim, None, rules, now))
    }

    /// It had too little time to say anything of the peer; where it was to, another probe waits.
    pub fn runs_out(&mut self, rules: &Rules, now: Instant) {
        if let Some(claim) = self.claim.take() {
            self.peer.noted(self.known(now).circuit.postpone(claim, rules, now));
        }
    }

    /// Notes how the attempt ended. `room` says whether one more of the service may be left for its rate.
    pub fn record(
        &mut self,
        outcome: Outcome,
        rules: &Rules,
        now: Instant,
        room: impl FnOnce() -> bool,
    ) -> Option<Change> {
        self.hears(outcome, now);
        self.streams = false;
        let claim = self.claim.take();
        let circuit = &self.known(now).circuit;
        let change = match (claim, outcome.fault) {
            (Some(claim), fault) => circuit.probed(claim, fault, rules, now),
            (None, Some(fault)) => circuit.bad(fault, rules, now, room),
            (None, None) => {
                circuit.good(rules, now);
                None
            }
        };
        self.peer.noted(change)
    }

    /// Notes once how long the answer took, or the failure.
    fn hears(&mut self, outcome: Outcome, now: Instant) {
        let is_first = !std::mem::replace(&mut self.judged, true);
        let known = self.known(now);
        if let Some(after) = outcome.retry_after {
            known.asks(after, now);
        }
        if !is_first {
            return;
        }
        let took = now.saturating_duration_since(self.asked);
        match outcome.fault {
            _ if self.spared => {}
            None => known.latency.note(took, now),
            // who fails fast is not fast
            Some(_) => known.latency.at_least(took, now),
        }
        if self.limited && !self.spared {
            known.limited(took, outcome.fault, now);
        }
        if outcome.fault.is_none() { &known.answered } else { &known.failed }.fetch_add(1, Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let peer = &self.peer;
        let known = peer.known(self.since);
        known.leave();
        self.also.iter().for_each(|tally| tally.sub());
        peer.board().gave_back();
        if let Some(claim) = self.claim.take() {
            peer.noted(known.circuit.release(claim));
        }
        if !self.judged && !self.spared {
            // nobody waited for the end of it: it would have taken longer still
            let now = Instant::now();
            known.latency.at_least(now.saturating_duration_since(self.asked), now);
        }
    }
}
