//! Chooses a provider: `pick` is one match over the policy.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

use crate::health::{Change, Fault};
use crate::model::{Balance, Circuit, Concurrency, Policy, Provider, Zone};
use crate::names::Address;
use crate::peer::{Board, InFlight, Outcome, Peer, Peers, Tally, Waiting};

mod hash;
mod live;
mod p2c;
mod random;
mod round_robin;
mod told;

use hash::Ring;
pub use hash::key;
use live::Live;

/// So many may wait at least, however few calls are in flight; else as many as these.
const LEAST_LINE: usize = 16;

/// Providers of one API that may take calls, ready to pick from.
#[derive(Debug)]
pub struct Pool {
    members: Box<[Member]>,
    /// Of each member the calls under way that this pool picked it for, where the policy asks.
    calls: Box<[Arc<Tally>]>,
    /// Gone from the registry with many others: for when no member is left. True: given up.
    held: Vec<(Arc<Peer>, AtomicBool)>,
    balance: Balance,
    zone: Zone,
    warmup: Duration,
    /// Each member has a limit that finds itself; one alone has that of its service.
    limited: bool,
    ring: Ring,
    board: Arc<Board>,
    live: ArcSwap<Live>,
    renewing: Mutex<()>,
    turn: AtomicU64,
    /// Providers that take no calls, and why.
    left_out: Vec<(Address, &'static str)>,
    known: usize,
}

/// A provider that takes calls.
#[derive(Debug)]
struct Member {
    peer: Arc<Peer>,
    /// Most calls at once.
    most: u32,
    weight: u16,
    /// In the data centre of this host.
    near: bool,
}

/// What a pool is made by, beside its providers.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Of the API.
    pub policy: &'a Policy,
    /// The data centre of this host.
    pub idc: Option<&'a str>,
    /// Of the service.
    pub board: &'a Arc<Board>,
    /// When.
    pub now: Instant,
}

/// What a pick must heed.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Peers that this call was at already.
    pub tried: &'a [Arc<Peer>],
    /// When.
    pub now: Instant,
    /// The [`key`] of the call, where the policy is [`Balance::Hash`] and the call has one.
    pub hash: Option<u64>,
}

/// Why there is nobody to pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Nobody is left that was not tried.
    Nobody,
    /// Every circuit is open; so long until the next probe.
    Open(Duration),
    /// Everybody has as many calls as it may.
    Full,
}

/// Whether pools of the same providers pick in the same way under both.
pub fn alike(one: &Policy, other: &Policy) -> bool {
    let is_auto = |policy: &Policy| policy.concurrency == Concurrency::Auto;
    let setting = |policy: &Policy| (policy.balance, policy.zone, policy.warmup, is_auto(policy));
    setting(one) == setting(other)
}

impl Pool {
    /// A pool of the providers that are on and have a weight; `known` are the peers of their addresses.
    pub fn new(providers: &[Provider], setting: &Setting<'_>, known: &Peers) -> Self {
        let Setting { policy, idc, board, now } = setting;
        let peer = |provider: &Provider| {
            let new = || Peer::new(provider.address.clone(), (*board).clone(), *now, false);
            known.get(&provider.address).cloned().unwrap_or_else(new)
        };
        let zone = if idc.is_some() { policy.zone } else { Zone::Ignore };
        let is_near = |provider: &Provider| idc.is_some() && provider.idc.as_deref() == *idc;
        let why_not = |p: &Provider| told::left_out(p, zone != Zone::Only || is_near(p));
        let usable = |p: &&Provider| !p.held && why_not(p).is_none();
        let left_out = providers.iter().filter_map(|p| Some((p.address.clone(), why_not(p)?))).collect();
        let is_hash = policy.balance == Balance::Hash;
        let member = |provider: &Provider| Member {
            peer: peer(provider),
            weight: provider.weight,
            near: is_near(provider),
            most: provider.max_connections.unwrap_or(u32::MAX),
        };
        let members: Box<[_]> = providers.iter().filter(usable).map(member).collect();
        let all = Arc::default();
        let limited = policy.concurrency == Concurrency::Auto && members.len() > 1;
        let counted = if is_hash { members.len() } else { 0 };
        let held = providers.iter().filter(|provider| provider.held);
        let held = held.map(|provider| (peer(provider), AtomicBool::new(false))).collect();
        Self {
            live: ArcSwap::from_pointee(Live::default()),
            renewing: Mutex::default(),
            ring: if is_hash { Ring::of(&members) } else { Ring::default() },
            members,
            calls: (0..counted).map(|_| Arc::new(Tally::new(&all))).collect(),
            held,
            balance: policy.balance,
            zone,
            warmup: policy.warmup,
            limited,
            board: (*board).clone(),
            // a random start: sidecars that load the same list must not march in step
            turn: AtomicU64::new(fastrand::u64(..1 << 32)),
            left_out,
            known: providers.len(),
        }
    }

    /// A peer that isn't among those tried, the call counted in there.
    pub fn pick(&self, wanted: &Wanted<'_>) -> Result<InFlight, Passed> {
        let live = self.live(wanted.now);
        let first = if wanted.tried.is_empty() {
            self.probe(&live, wanted).or_else(|| self.choose(&live, wanted))
        } else {
            None
        };
        let place = match first {
            Some(place) => place,
            None => self.rest(&live, wanted)?,
        };
        Ok(place.panicked(live.panic))
    }

    /// Whether calls to the service wait until one of its peers is not full.
    pub fn has_line(&self) -> bool {
        self.board.waiting() > 0
    }

    /// A place in the line before this pool, for a call that found everybody full; `None`: it is full, too.
    pub fn line_up(&self) -> Option<Waiting> {
        let under_way: usize = self.members.iter().map(|member| member.peer.load() as usize).sum();
        let own = std::ptr::from_ref(self) as usize;
        self.board.line_up(own, under_way.max(LEAST_LINE))
    }

    /// Notes how an attempt ended; what that changed of its peer's circuit.
    pub fn record(
        &self,
        place: &mut InFlight,
        outcome: Outcome,
        rules: &Circuit,
        now: Instant,
    ) -> Option<Change> {
        if outcome.fault == Some(Fault::Unreached) {
            self.give_up(place.peer());
        }
        let mut one_at_a_time = None;
        let room = || {
            one_at_a_time = Some(self.board.opening());
            self.may_eject(rules)
        };
        place.record(outcome, rules, now, room)
    }

    /// One that the registry lost and that is not reached is given up.
    fn give_up(&self, peer: &Arc<Peer>) {
        let held = self.held.iter().find(|(held, _)| Arc::ptr_eq(held, peer));
        held.into_iter().for_each(|(_, given_up)| given_up.store(true, Relaxed));
    }

    /// Whether one more member may be left for its rate.
    fn may_eject(&self, rules: &Circuit) -> bool {
        let ejected = self.members.iter().filter(|member| live::is_ejected(&member.peer)).count();
        (ejected + 1) * 100 <= self.members.len() * usize::from(rules.max_ejected)
    }

    /// Whether nobody may be picked, however well.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.held.iter().all(|(_, given_up)| given_up.load(Relaxed))
    }

    /// How long until somebody may be picked, where every circuit is open and nobody's probe is due.
    pub fn all_open(&self, now: Instant) -> Option<Duration> {
        let live = self.live(now);
        let is_left = !live.is_empty() || !live.due.is_empty() || live.usable.contains(&true);
        let is_held = || self.held.iter().any(|(_, given_up)| !given_up.load(Relaxed));
        (!is_left && !is_held()).then(|| live.next_probe(now))
    }

    /// Providers it was made of, those that take no calls included.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Peers that may be picked, the ill ones included.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.members.iter().map(|member| &member.peer)
    }

    /// The share of the calls that `peer` gets now, of 1; whether rates and checks are not heeded.
    pub fn share(&self, peer: &Arc<Peer>, now: Instant) -> (f64, bool) {
        let live = self.live(now);
        let index = self.members.iter().position(|member| Arc::ptr_eq(&member.peer, peer));
        let weight = index.map_or(0, |index| live.weight_of(index));
        (weight as f64 / live.total().max(1) as f64, live.panic)
    }

    /// Whether so few are well now that rates and checks are not heeded.
    pub fn panics(&self, now: Instant) -> bool {
        self.live(now).panic
    }

    /// The part of the calls that leaves the data centre of this host now, in percent; `None`: it has no
    /// providers there, or that means nothing.
    pub fn away(&self, now: Instant) -> Option<u64> {
        let is_home = self.zone == Zone::Prefer && self.members.iter().any(|member| member.near);
        let live = self.live(now);
        is_home.then(|| ((live.total() - live.home) * 100).checked_div(live.total()).unwrap_or(0))
    }

    /// Who may be picked now; made again when a circuit or the time moved on.
    fn live(&self, now: Instant) -> Guard<Arc<Live>> {
        let live = self.live.load();
        if live.is_current(self.board.generation(), now) {
            return live;
        }
        let _one = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.board.generation();
        if !self.live.load().is_current(generation, now) {
            self.live.store(Arc::new(Live::new(self, generation, now)));
        }
        self.live.load()
    }

    /// The one call that a peer gets whose circuit was open for long enough.
    fn probe(&self, live: &Live, wanted: &Wanted<'_>) -> Option<InFlight> {
        // a key stays where it belongs while somebody is well
        let own = wanted.hash.filter(|_| !live.is_empty()).and_then(|key| self.ring.first(key));
        let due = live.due.iter().filter(|index| own.is_none_or(|own| own == **index));
        due.into_iter().find_map(|index| self.probe_at(*index, wanted.now))
    }

    /// By the policy, where that one has room.
    fn choose(&self, live: &Live, wanted: &Wanted<'_>) -> Option<InFlight> {
        let index = match (self.balance, wanted.hash) {
            (Balance::RoundRobin, _) => round_robin::pick(live, self.turn.fetch_add(1, Relaxed)),
            (Balance::Random, _) => random::pick(live),
            (Balance::Hash, Some(key)) => hash::pick(self, live, key),
            (Balance::P2c, _) | (Balance::Hash, None) => p2c::pick(self, live, wanted.now),
        };
        self.enter(index?, wanted.now)
    }

    /// Anybody who is left: the rare path of a second attempt, or of a first where the chosen one is full.
    fn rest(&self, live: &Live, wanted: &Wanted<'_>) -> Result<InFlight, Passed> {
        let fresh = |peer: &Arc<Peer>| !wanted.tried.iter().any(|tried| tried.address == peer.address);
        let enter = |index: usize| self.enter(index, wanted.now);
        let is_fresh = |index: &usize| self.members.get(*index).is_some_and(|member| fresh(&member.peer));
        // looked at first: where all are full, each would be drawn by lot
        let mut full = false;
        let mut has_room = |index: usize| {
            full = true;
            self.members.get(index).is_some_and(|member| member.peer.load() < self.most(member))
        };
        // those in turn now, then those of another zone, then one that may be well again
        let fresh_ones = live.candidates().filter(|(index, _)| is_fresh(index));
        let mut left: Vec<_> = fresh_ones.filter(|(index, _)| has_room(*index)).collect();
        if let Some(place) = random::first_of(&mut left, enter) {
            return Ok(place);
        }
        let usable = |index: &usize| live.usable.get(*index).copied().unwrap_or(false);
        let others = (0..self.members.len()).filter(|index| usable(index) && is_fresh(index));
        let others = others.filter(|index| has_room(*index));
        let mut others: Vec<_> = others.map(|index| (index, self.weight(index))).collect();
        if let Some(place) = random::first_of(&mut others, enter) {
            return Ok(place);
        }
        let mut due = live.due.iter().filter(|index| is_fresh(index));
        let probe = |index: &usize| self.probe_at(*index, wanted.now);
        if let Some(place) = due.find_map(probe).or_else(|| self.pick_held(&fresh, wanted.now)) {
            return Ok(place);
        }
        let open = self.members.iter().any(|member| fresh(&member.peer)) && !full;
        Err(match (full, open) {
            (true, _) => Passed::Full,
            (false, true) => Passed::Open(live.next_probe(wanted.now)),
            (false, false) => Passed::Nobody,
        })
    }

    /// Any of those that are kept as a last resort.
    fn pick_held(&self, fresh: &impl Fn(&Arc<Peer>) -> bool, now: Instant) -> Option<InFlight> {
        let is_left = |(peer, given_up): &&(Arc<Peer>, AtomicBool)| !given_up.load(Relaxed) && fresh(peer);
        let start = fastrand::usize(..self.held.len().max(1));
        let (before, after) = self.held.split_at_checked(start)?;
        after.iter().chain(before).find(is_left).map(|(peer, _)| peer.enter(now))
    }

    /// Most calls at once at a member.
    fn most(&self, member: &Member) -> u32 {
        member.most().min(self.limit(&member.peer).unwrap_or(u32::MAX))
    }

    /// Most calls at once at `peer` by how long its answers take; `None`: nobody asks for that.
    pub fn limit(&self, peer: &Peer) -> Option<u32> {
        self.limited.then(|| peer.limit())
    }

    /// Counts a call in at a member, where there is room.
    fn enter(&self, index: usize, now: Instant) -> Option<InFlight> {
        let member = self.members.get(index)?;
        let place = match self.limited {
            true => member.peer.try_enter_limited(member.most, now),
            false => member.peer.try_enter(member.most, now),
        };
        Some(place?.counted(self.calls.get(index)))
    }

    /// Counts in the one call that probes, where one is due.
    fn probe_at(&self, index: usize, now: Instant) -> Option<InFlight> {
        Some(self.members.get(index)?.peer.probe(now)?.counted(self.calls.get(index)))
    }

    fn weight(&self, index: usize) -> u64 {
        self.members.get(index).map_or(0, Member::weight)
    }
}

impl Member {
    fn weight(&self) -> u64 {
        self.weight.into()
    }

    /// Most calls at once, by the registry and by its own status page.
    fn most(&self) -> u32 {
        self.most.min(self.peer.room().unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests;
