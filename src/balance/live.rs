//! Who of a pool takes calls at a moment, and which share of them.

use std::time::{Duration, Instant};

use super::{Member, Pool};
use crate::health::{Cause, State};
use crate::model::Zone;
use crate::peer::Peer;

/// Of a weight, what a provider that has just come or whose queue is not empty is reckoned in.
const WHOLE: u64 = 1000;
/// What a provider gets that came this moment: with nothing it would never become warm.
const LEAST: u64 = 10;
/// The own zone takes all calls while so many of 100 times its healthy share reach the whole (Envoy's 1.4).
const OVERPROVISION: u64 = 140;
/// How often weights of providers that warm up are reckoned again.
const STEPS: u32 = 100;
/// Not more often than this.
const SHORTEST_STEP: Duration = Duration::from_millis(100);
/// When a call should ask again while a probe is under way.
const SOON: Duration = Duration::from_secs(1);
/// Sums of weights are kept below, so that a pick's arithmetic fits.
const MOST: u128 = 1 << 40;

/// Who may be picked; replaced whole.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// What the board said when it was made; `None` is older than anything.
    generation: Option<u64>,
    /// When time alone changes it.
    until: Option<Instant>,
    turns: Turns,
    /// The part of the shares that the own zone has, where zones are told apart.
    pub home: u64,
    /// Near the golden section of the total and coprime to it.
    pub stride: u64,
    /// Members whose probe is due.
    pub due: Vec<usize>,
    /// Of every member, whether calls may go there, in whichever zone.
    pub usable: Vec<bool>,
    /// So few are well that rates and checks are not heeded.
    pub panic: bool,
    /// When the next probe of any member is due.
    probe: Option<Instant>,
}

/// Those in turn.
#[derive(Debug)]
enum Turns {
    /// So many members, which are all, with a share of one each: what most pools have, and for nothing.
    Even(usize),
    Uneven(Box<[Turn]>),
}

#[derive(Debug)]
struct Turn {
    member: usize,
    /// The shares up to and with its own, divided by their common divisor.
    upto: u64,
}

impl Default for Turns {
    fn default() -> Self {
        Self::Even(0)
    }
}

impl Turns {
    fn of(shares: &[u64]) -> Self {
        if shares.iter().all(|share| *share == 1) {
            return Self::Even(shares.len());
        }
        let mut upto = 0;
        let in_turn = shares.iter().enumerate().filter(|(_, share)| **share > 0);
        let turns = in_turn.map(|(member, share)| {
            upto += share;
            Turn { member, upto }
        });
        Self::Uneven(turns.collect())
    }
}

impl Live {
    pub(super) fn new(pool: &Pool, generation: u64, now: Instant) -> Self {
        let states: Vec<_> = pool.members.iter().map(|member| member.peer.state()).collect();
        let closed = states.iter().filter(|state| **state == State::Closed).count();
        let heeded = states.iter().all(|state| is_usable(state, true) == is_usable(state, false));
        let panic = closed * 2 < states.len() && !heeded;
        let usable: Vec<_> = states.iter().map(|state| is_usable(state, panic)).collect();
        let weigh = |(member, usable): (&Member, &bool)| if *usable { weight(pool, member, now) } else { 0 };
        let weights: Vec<_> = pool.members.iter().zip(&usable).map(weigh).collect();
        let shares = reduced(zoned(pool, &usable, &weights));
        let mut live = Self { generation: Some(generation), panic, usable, ..Self::default() };
        if pool.zone == Zone::Prefer {
            let at_home = pool.members.iter().zip(&shares).filter(|(member, _)| member.near);
            live.home = at_home.map(|(_, share)| share).sum();
        }
        live.turns = Turns::of(&shares);
        live.stride = stride(live.total());
        live.expect(&states, now);
        live.warm_up(pool, now);
        live
    }

    /// What is due, and when the next will be.
    fn expect(&mut self, states: &[State], now: Instant) {
        for (index, state) in states.iter().enumerate() {
            let State::Open { until, .. } = state else { continue };
            if *until <= now {
                self.due.push(index);
            } else {
                self.until = earlier(self.until, *until);
            }
            self.probe = earlier(self.probe, *until);
        }
    }

    fn warm_up(&mut self, pool: &Pool, now: Instant) {
        let warms = |member: &Member| is_warming(member.peer.came(), pool.warmup, now);
        if pool.members.iter().any(warms) {
            self.until = earlier(self.until, now + (pool.warmup / STEPS).max(SHORTEST_STEP));
        }
    }

    pub(super) fn is_current(&self, generation: u64, now: Instant) -> bool {
        self.generation == Some(generation) && self.until.is_none_or(|until| now < until)
    }

    /// Whether nobody is in turn.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many are in turn.
    pub(super) fn len(&self) -> usize {
        match &self.turns {
            Turns::Even(members) => *members,
            Turns::Uneven(turns) => turns.len(),
        }
    }

    /// Sum of the shares; positions `0..total` are shared out over those in turn.
    pub(super) fn total(&self) -> u64 {
        match &self.turns {
            Turns::Even(members) => *members as u64,
            Turns::Uneven(turns) => turns.last().map_or(0, |turn| turn.upto),
        }
    }

    /// Who of those in turn holds `position`.
    pub(super) fn at(&self, position: u64) -> usize {
        match &self.turns {
            Turns::Even(_) => position as usize,
            Turns::Uneven(turns) => turns.partition_point(|turn| turn.upto <= position),
        }
    }

    /// The member that is so far in turn.
    pub(super) fn member(&self, at: usize) -> Option<usize> {
        match &self.turns {
            Turns::Even(members) => (at < *members).then_some(at),
            Turns::Uneven(turns) => turns.get(at).map(|turn| turn.member),
        }
    }

    /// The share of the one that is so far in turn.
    pub(super) fn share(&self, at: usize) -> u64 {
        match &self.turns {
            Turns::Even(members) => (at < *members).into(),
            Turns::Uneven(turns) => {
                let before = at.checked_sub(1).and_then(|at| turns.get(at)).map_or(0, |turn| turn.upto);
                turns.get(at).map_or(0, |turn| turn.upto - before)
            }
        }
    }

    /// The share of a member; 0 where it is not in turn.
    pub(super) fn weight_of(&self, member: usize) -> u64 {
        match &self.turns {
            Turns::Even(_) => self.share(member),
            Turns::Uneven(turns) => {
                turns.binary_search_by_key(&member, |turn| turn.member).map_or(0, |at| self.share(at))
            }
        }
    }

    /// Members in turn, with their shares.
    pub(super) fn candidates(&self) -> impl Iterator<Item = (usize, u64)> {
        (0..self.len()).filter_map(|at| Some((self.member(at)?, self.share(at))))
    }

    /// How long until somebody probes.
    pub(super) fn next_probe(&self, now: Instant) -> Duration {
        self.probe.map_or(SOON, |probe| probe.saturating_duration_since(now))
    }
}

/// Whether a peer is left alone for the rate of its failures.
pub(super) fn is_ejected(peer: &Peer) -> bool {
    match peer.state() {
        State::Open { cause, .. } | State::HalfOpen { cause } => cause == Cause::Rate,
        State::Closed => false,
    }
}

fn is_usable(state: &State, panic: bool) -> bool {
    match state {
        State::Closed => true,
        State::Open { cause: Cause::Rate | Cause::Active, .. }
        | State::HalfOpen { cause: Cause::Rate | Cause::Active } => panic,
        State::Open { cause: Cause::Consecutive, .. } | State::HalfOpen { cause: Cause::Consecutive } => {
            false
        }
    }
}

/// Its weight, less what warm-up and its own queue take.
fn weight(pool: &Pool, member: &Member, now: Instant) -> u64 {
    let mut share = WHOLE;
    if let Some(came) = member.peer.came().filter(|came| is_warming(Some(*came), pool.warmup, now)) {
        let warm = now.saturating_duration_since(came).as_secs_f64() / pool.warmup.as_secs_f64();
        share = ((warm * WHOLE as f64) as u64).clamp(LEAST, WHOLE);
    }
    let share = if member.peer.queues() { share / 2 } else { share };
    member.weight() * share
}

fn is_warming(came: Option<Instant>, warmup: Duration, now: Instant) -> bool {
    came.is_some_and(|came| now.saturating_duration_since(came) < warmup)
}

/// Shares of the calls: those of the own zone first, the others as far as it is not well.
fn zoned(pool: &Pool, usable: &[bool], weights: &[u64]) -> Vec<u128> {
    let plain = || weights.iter().map(|weight| u128::from(*weight)).collect();
    if pool.zone != Zone::Prefer {
        return plain();
    }
    let near = || pool.members.iter().map(|member| member.near);
    let sum = |wanted: bool| -> u64 {
        near().zip(weights).filter(|(near, _)| *near == wanted).map(|(_, weight)| *weight).sum()
    };
    let own = pool.members.iter().zip(usable).filter(|(member, _)| member.near);
    let (mut all, mut well) = (0, 0);
    for (member, usable) in own {
        all += member.weight();
        well += if *usable { member.weight() } else { 0 };
    }
    let (near_sum, far_sum) = (u128::from(sum(true)), u128::from(sum(false)));
    if near_sum == 0 || far_sum == 0 {
        return plain();
    }
    let whole = all * 100;
    let at_home = u128::from((well * OVERPROVISION).min(whole));
    let away = u128::from(whole) - at_home;
    let share = |(near, weight): (bool, &u64)| match near {
        true => u128::from(*weight) * far_sum * at_home,
        false => u128::from(*weight) * near_sum * away,
    };
    near().zip(weights).map(share).collect()
}

/// In the smallest numbers that stand in the same proportion, nearly so where they would be huge.
fn reduced(shares: Vec<u128>) -> Vec<u64> {
    let divisor = shares.iter().fold(0, |divisor, share| gcd(divisor, *share)).max(1);
    let total: u128 = shares.iter().map(|share| share / divisor).sum();
    let scale = divisor * (total / MOST + 1);
    let scaled = |share: &u128| if *share == 0 { 0 } else { (share / scale).max(1) as u64 };
    shares.iter().map(scaled).collect()
}

fn stride(total: u64) -> u64 {
    let near = (total as f64 * 0.618) as u64;
    (near.max(1)..).find(|stride| gcd(u128::from(*stride), u128::from(total)) == 1).unwrap_or(1)
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn earlier(one: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(one.map_or(other, |one| one.min(other)))
}
