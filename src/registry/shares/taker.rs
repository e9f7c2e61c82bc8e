//! A sidecar's own card: when it is written, and how long its shares are good.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Card;
use crate::limits::Lent;

/// A lease is used for so much of its time only: clocks may differ by 2.5 % each.
const USED: f64 = 0.95;
/// After so much of it, it is renewed.
const RENEWED: f64 = 0.4;
/// Between two writes that only say what is asked for.
const APART: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the node, with this card.
    Create(Card),
    /// Replace this version of it.
    Write(i32, Card),
    /// Read it.
    Look,
    /// Nothing, until then at the latest.
    Wait(Instant),
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is the node's new version; then it was sent.
    Done(i32, Instant),
    /// It was not done, or nobody knows.
    Open,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Taker {
    /// How long a share is good.
    lease: Duration,
    /// The node as it was last known, with its version.
    own: Option<(i32, Card)>,
    leases: BTreeMap<String, Lent>,
    /// The node is to be read before anything else.
    look: bool,
    /// When the last write that was done was sent.
    confirmed: Option<Instant>,
    /// The card of that write, if all that became of it since is known.
    kept: Option<Card>,
    /// The card under way.
    writing: Option<Card>,
}

impl Taker {
    /// Of a sidecar that has no node yet, as far as it knows.
    pub(crate) fn new(lease: Duration) -> Self {
        let leases = BTreeMap::new();
        Self { lease, own: None, leases, look: true, confirmed: None, kept: None, writing: None }
    }

    /// From now on leases are so long: the session may be another.
    pub(crate) fn last(&mut self, lease: Duration) {
        self.lease = lease;
    }

    /// Something happened to the node, or to the connection.
    pub(crate) fn noticed(&mut self) {
        self.look = true;
    }

    /// The node as it was just read: ours, or none.
    pub(crate) fn seen(&mut self, own: Option<(i32, Card)>) {
        self.look = false;
        // another node, or an outcome that was lost
        self.kept.take_if(|kept| own.as_ref().is_none_or(|(_, card)| card.took != kept.gave));
        self.own = own;
        self.obey();
    }

    /// The version of the node as it was last known.
    #[cfg(test)]
    pub(crate) fn version(&self) -> Option<i32> {
        self.own.as_ref().map(|(version, _)| *version)
    }

    /// What a caller may have of its quota, and until when.
    pub(crate) fn share(&self, caller: &str, now: Instant) -> Option<Lent> {
        self.leases.get(caller).filter(|lease| now < lease.until).copied()
    }

    /// What to do next, where callers ask for so much.
    pub(crate) fn next(&mut self, asks: &BTreeMap<String, u64>, now: Instant) -> Step {
        if self.look {
            return Step::Look;
        }
        let Some((version, card)) = &self.own else {
            let card = Card { asks: asks.clone(), ..Card::default() };
            return Step::Create(card);
        };
        let due = self.due(card, asks, now);
        if due.is_none_or(|due| now < due) {
            return Step::Wait(due.unwrap_or(now + self.lease));
        }
        let (version, shares, asks) = (*version, card.shares.clone(), told(&card.asks, asks));
        let card = Card { asks, took: card.gave, gave: card.gave, shares, before: BTreeMap::new() };
        self.writing = Some(card.clone());
        Step::Write(version, card)
    }

    /// When the card is to be written; `None`: not before something changes.
    fn due(&self, card: &Card, asks: &BTreeMap<String, u64>, now: Instant) -> Option<Instant> {
        if !card.is_taken() {
            return Some(now);
        }
        let renewed = |confirmed| confirmed + self.lease.mul_f64(RENEWED);
        // what nobody asks for, or was not given, needs no lease
        let is_used = !asks.is_empty() && !card.shares.is_empty();
        let renewal = is_used.then(|| self.confirmed.map_or(now, renewed));
        let told = differ(&card.asks, asks).then(|| self.confirmed.map_or(now, |at| at + APART));
        renewal.into_iter().chain(told).min()
    }

    /// The node as it stands is obeyed in what it takes away, before that is confirmed.
    fn obey(&mut self) {
        for (caller, lease) in &mut self.leases {
            // with a node goes what stood in it: others may have that from now on
            let share = self.own.as_ref().map_or(0, |(_, card)| card.share(caller));
            lease.share = lease.share.min(share);
        }
    }

    /// How a write ended.
    pub(crate) fn done(&mut self, outcome: Outcome) {
        let (Outcome::Done(version, sent), Some(card)) = (outcome, self.writing.take()) else {
            self.look = true;
            return;
        };
        let until = sent + self.lease.mul_f64(USED);
        // after more than one gift it may have been less in between
        let kept = self.kept.take().filter(|kept| card.gave == kept.gave || card.gave == kept.gave + 1);
        let lease = |(caller, share): (&String, &u32)| {
            let kept = kept.as_ref().map_or(0, |kept| kept.share(caller).min(*share));
            (caller.clone(), Lent { share: *share, until, kept })
        };
        self.leases = card.shares.iter().map(lease).collect();
        self.kept = Some(card.clone());
        self.own = Some((version, card));
        self.confirmed = Some(sent);
    }
}

/// What is told of what callers ask for: as before where they may well ask for the same. Whatever is told
/// anew may change the shares of all.
fn told(before: &BTreeMap<String, u64>, asks: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let is_chance = |a: u64, b: u64| {
        let (most, apart) = (a.max(b), a.abs_diff(b));
        // a standard deviation of an average over five seconds
        apart <= most / 8 && u128::from(apart).pow(2) <= 100_000 * u128::from(most)
    };
    let tell = |(caller, asks): (&String, &u64)| {
        let before = before.get(caller).filter(|before| is_chance(**before, *asks));
        (caller.clone(), *before.unwrap_or(asks))
    };
    asks.iter().map(tell).collect()
}

/// Whether callers ask for twice what is told, or half, or others do; a renewal tells the rest.
fn differ(told: &BTreeMap<String, u64>, asks: &BTreeMap<String, u64>) -> bool {
    let near = |(a, b): (&u64, &u64)| a.abs_diff(*b) <= a.max(b) / 2;
    !told.keys().eq(asks.keys()) || !told.values().zip(asks.values()).all(near)
}
