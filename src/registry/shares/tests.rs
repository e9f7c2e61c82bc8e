//! Sidecars that come, go, are cut off and have clocks of their own share out a quota: never more than all of it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::limits::Limiter;
use crate::model::Quota;

const SEEDS: u64 = 1000;
/// What the simulation advances by.
const STEP: Duration = Duration::from_millis(50);
/// How long a session lasts without contact.
const SESSION: Duration = Duration::from_secs(12);
/// How much faster or slower a clock may be.
const DRIFT: f64 = 0.02;
const RATE: u32 = 200;
const BURST: u32 = 40;
const MOST: usize = 6;
/// A session ends, another sidecar holds, and a cut that nobody confirms is over.
const COUNTED: Duration = Duration::from_secs(27);

/// The registry: every write names the version it replaces, and nodes end with their session.
#[derive(Default)]
struct Registry {
    cards: BTreeMap<String, (i32, Card, u64)>,
    holder: Option<u64>,
    /// Writes that were done.
    writes: u64,
}

/// A request and what came of it, if it arrived.
struct Pending {
    what: Ask,
    sent: Instant,
    arrives: Duration,
    answered: Option<(Duration, Reply)>,
}

#[derive(Clone)]
enum Ask {
    Create(Card),
    Write(i32, Card),
    Look,
    /// As the holder: be it, read all, write some.
    Hold,
    List,
    Give(Vec<Gift>),
}

enum Reply {
    Done(i32),
    Open,
    Seen(Option<(i32, Card)>),
    Holds(bool),
    Cards(BTreeMap<String, (i32, Card)>),
    Given,
}

struct Sidecar {
    host: String,
    alive: bool,
    session: u64,
    /// When the registry last heard of the session.
    contact: Duration,
    cut: bool,
    /// Its own clock.
    speed: f64,
    taker: Taker,
    giver: Option<Giver>,
    own: Option<Pending>,
    holds: Option<Pending>,
    listed: bool,
    /// Calls a second that its callers make.
    demand: f64,
    offered: f64,
    passed: u64,
    refused: u64,
    called: Duration,
    meter: Meter,
    limiter: Limiter,
    next_hold: Duration,
}

struct World {
    at: Duration,
    start: Instant,
    registry: Registry,
    sidecars: Vec<Sidecar>,
    sessions: u64,
    rng: fastrand::Rng,
    quota: Quota,
    /// Whether an answer is late now and then.
    lates: bool,
    /// Whether calls come by chance, now more, now less.
    noisy: bool,
    /// Since when nothing happened that changes who is counted.
    calm: Duration,
    /// How long a silent caller still asks.
    patience: Duration,
    admitted: u64,
    /// The least of what was admitted beyond the rate so far.
    low: f64,
}

fn quota(floor: u32) -> Quota {
    Quota::parse(&json!({"rate": RATE, "per": "1s", "burst": BURST, "floor": floor})).unwrap()
}

fn slow(rate: u32, per: &str) -> Quota {
    Quota::parse(&json!({"rate": rate, "per": per})).unwrap()
}

impl Sidecar {
    fn now(&self, world: (Instant, Duration)) -> Instant {
        world.0 + world.1.mul_f64(self.speed)
    }

    /// What it may admit by its own clock, in millionths of the quota.
    fn part(&self, now: Instant) -> u64 {
        self.taker.share("web", now).map_or(0, |lent| lent.share).into()
    }
}

impl World {
    fn new(seed: u64, count: usize, quota: Quota) -> Self {
        let mut world = Self {
            at: Duration::ZERO,
            start: Instant::now(),
            registry: Registry::default(),
            sidecars: Vec::new(),
            sessions: 0,
            rng: fastrand::Rng::with_seed(seed),
            quota,
            lates: false,
            noisy: false,
            calm: Duration::ZERO,
            patience: Duration::MAX,
            admitted: 0,
            low: 0.0,
        };
        (0..count).for_each(|n| world.join(format!("web-{n}")));
        world
    }

    /// Calls a second of the whole quota.
    fn rate(&self) -> f64 {
        f64::from(self.quota.rate) / self.quota.per.as_secs_f64()
    }

    fn join(&mut self, host: String) {
        let speed = 1.0 + DRIFT * (2.0 * self.rng.f64() - 1.0);
        let mut sidecar = Sidecar {
            host,
            alive: true,
            session: self.session(),
            contact: self.at,
            cut: false,
            speed,
            taker: Taker::new(lease(SESSION)),
            giver: None,
            own: None,
            holds: None,
            listed: false,
            demand: self.rng.f64() * 1.5 * self.rate(),
            offered: 0.0,
            passed: 0,
            refused: 0,
            called: self.at,
            meter: Meter::new(self.start),
            limiter: Limiter::shared(self.quota.clone(), None, self.start),
            next_hold: self.at,
        };
        let now = sidecar.now((self.start, self.at));
        sidecar.limiter = Limiter::shared(self.quota.clone(), None, now);
        sidecar.meter = Meter::new(now);
        self.sidecars.push(sidecar);
    }

    fn session(&mut self) -> u64 {
        self.sessions += 1;
        self.sessions
    }

    /// One step of all.
    fn step(&mut self) {
        self.at += STEP;
        self.expire();
        for index in 0..self.sidecars.len() {
            self.arrive(index);
            self.answer(index);
            self.ask(index);
            self.call(index);
        }
    }

    /// Sessions that nobody heard of for too long end, and with them what they made.
    fn expire(&mut self) {
        let mut ended = Vec::new();
        for sidecar in &mut self.sidecars {
            if self.at.saturating_sub(sidecar.contact) > SESSION {
                ended.push(sidecar.session);
                sidecar.session = 0;
                sidecar.contact = self.at;
            }
        }
        for session in ended {
            self.calm = self.at;
            self.end(session);
        }
    }

    fn end(&mut self, session: u64) {
        self.registry.cards.retain(|_, (_, _, owner)| *owner != session);
        self.registry.holder.take_if(|holder| *holder == session);
    }

    /// Requests reach the registry.
    fn arrive(&mut self, index: usize) {
        let late = if self.lates && self.rng.u8(..24) == 0 { 3000 } else { 120 };
        let (at, answer) = (self.at, self.at + Duration::from_millis(self.rng.u64(0..late)));
        let sidecar = &mut self.sidecars[index];
        if sidecar.cut || !sidecar.alive {
            return;
        }
        if sidecar.session == 0 {
            self.sessions += 1;
            (sidecar.session, sidecar.giver) = (self.sessions, None);
            sidecar.taker.noticed();
        }
        // a session is kept by pings
        sidecar.contact = at;
        let (session, host) = (sidecar.session, sidecar.host.clone());
        for pending in [&mut sidecar.own, &mut sidecar.holds].into_iter().flatten() {
            if pending.answered.is_none() && pending.arrives <= at {
                pending.answered = Some((answer, self.registry.apply(&pending.what, session, &host)));
            }
        }
    }

    /// Answers reach the sidecar.
    fn answer(&mut self, index: usize) {
        let world = (self.start, self.at);
        let sidecar = &mut self.sidecars[index];
        let now = sidecar.now(world);
        let has_come =
            |pending: &mut Pending| pending.answered.as_ref().is_some_and(|(at, _)| *at <= world.1);
        if let Some(Pending { what, sent, answered: Some((_, reply)), .. }) = sidecar.own.take_if(has_come) {
            match (what, reply) {
                (Ask::Look, Reply::Seen(seen)) => sidecar.taker.seen(seen),
                (Ask::Write(..), Reply::Done(version)) => sidecar.taker.done(Outcome::Done(version, sent)),
                (Ask::Write(..), _) => sidecar.taker.done(Outcome::Open),
                _ => sidecar.taker.noticed(),
            }
        }
        if let Some(Pending { answered: Some((_, reply)), .. }) = sidecar.holds.take_if(has_come) {
            match reply {
                Reply::Holds(true) => {
                    sidecar.giver = Some(sidecar.giver.take().unwrap_or_default());
                    sidecar.next_hold = world.1;
                }
                Reply::Holds(false) => sidecar.giver = None,
                Reply::Cards(cards) => {
                    if let Some(giver) = &mut sidecar.giver {
                        giver.see(cards, now);
                        sidecar.listed = true;
                    }
                }
                // the cards are read again
                Reply::Done(_) | Reply::Open | Reply::Seen(_) | Reply::Given => {}
            }
        }
    }

    /// Sidecars ask for what they want next.
    fn ask(&mut self, index: usize) {
        let world = (self.start, self.at);
        let arrives = self.at + Duration::from_millis(self.rng.u64(0..120));
        let (noticed, mut hold) = (self.rng.u8(..4) == 0, self.at);
        hold += Duration::from_millis(self.rng.u64(200..700));
        let terms = Terms::of(&self.quota);
        let sidecar = &mut self.sidecars[index];
        if !sidecar.alive || sidecar.session == 0 {
            return;
        }
        let now = sidecar.now(world);
        let pending = |what| Some(Pending { what, sent: now, arrives, answered: None });
        // the watch of the own node
        let known = self.registry.cards.get(&sidecar.host).map(|(version, ..)| *version);
        if noticed && sidecar.own.is_none() && !sidecar.cut && sidecar.taker.version() != known {
            sidecar.taker.noticed();
        }
        if sidecar.own.is_none() {
            let asks = sidecar.meter.read(sidecar.limiter.asked().unwrap(), now);
            let asks = asks
                .filter(|_| world.1 - sidecar.called < self.patience)
                .map(|asks| ("web".to_owned(), asks))
                .into_iter()
                .collect();
            sidecar.own = match sidecar.taker.next(&asks, now) {
                Step::Create(card) => pending(Ask::Create(card)),
                Step::Write(version, card) => pending(Ask::Write(version, card)),
                Step::Look => pending(Ask::Look),
                Step::Wait(_) => None,
            };
        }
        if sidecar.holds.is_none() && sidecar.next_hold <= world.1 {
            sidecar.holds = match &mut sidecar.giver {
                None => pending(Ask::Hold),
                Some(_) if !std::mem::take(&mut sidecar.listed) => pending(Ask::List),
                Some(giver) => {
                    sidecar.next_hold = hold;
                    pending(Ask::Give(giver.gifts(&[("web".to_owned(), terms)].into(), now)))
                }
            };
            if sidecar.giver.is_none() {
                sidecar.next_hold = hold;
            }
        }
    }

    /// Callers call.
    fn call(&mut self, index: usize) {
        let world = (self.start, self.at);
        let chance = if self.noisy { 2.0 * self.rng.f64() } else { 1.0 };
        let sidecar = &mut self.sidecars[index];
        if !sidecar.alive {
            return;
        }
        let now = sidecar.now(world);
        sidecar.limiter.lend(sidecar.taker.share("web", now), now);
        sidecar.offered += chance * sidecar.demand * STEP.as_secs_f64();
        while sidecar.offered >= 1.0 {
            (sidecar.offered, sidecar.called) = (sidecar.offered - 1.0, self.at);
            let passed = u64::from(sidecar.limiter.take(now).is_ok());
            sidecar.passed += passed;
            sidecar.refused += 1 - passed;
            self.admitted += passed;
        }
    }

    /// Something happens to somebody.
    fn disturb(&mut self) {
        self.calm = self.at;
        let index = self.rng.usize(..self.sidecars.len());
        let (what, demand) = (self.rng.u8(..9), self.rng.f64() * 1.5 * self.rate());
        let sidecar = &mut self.sidecars[index];
        match what {
            0 | 1 => {
                sidecar.cut = true;
                // what is under way arrived, or never will; its answer is lost
                for pending in [&mut sidecar.own, &mut sidecar.holds].into_iter().flatten() {
                    pending.answered = Some((self.at, Reply::Open));
                }
                sidecar.taker.noticed();
                sidecar.listed = false;
            }
            2..=4 => sidecar.cut = false,
            5 => sidecar.demand = demand,
            6 => sidecar.demand = 0.0,
            7 if sidecar.alive => {
                // killed; the session goes on, and perhaps another process takes its node over
                let (host, session) = (sidecar.host.clone(), sidecar.session);
                sidecar.alive = false;
                match self.rng.u8(..3) {
                    0 => self.end(session),
                    1 => {}
                    _ => {
                        self.registry.cards.remove(&host);
                        self.join(host);
                    }
                }
            }
            _ if self.sidecars.iter().filter(|sidecar| sidecar.alive).count() < MOST => {
                self.join(format!("web-{}", self.sidecars.len()));
            }
            _ => {}
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let world = (self.start, self.at);
        let alive = self.sidecars.iter().filter(|sidecar| sidecar.alive);
        let shares: u64 = alive.clone().map(|s| s.part(s.now(world))).sum();
        if shares > u64::from(WHOLE) {
            return Err(format!("{shares} millionths are lent at {:?}", self.at));
        }
        // who came is counted when shares were made smaller for its floor: until then, its floor is beyond
        let floors = alive.count() as u64 * u64::from(Terms::of(&self.quota).floor);
        if self.at >= self.calm + COUNTED && shares > u64::from(WHOLE).saturating_sub(floors) {
            return Err(format!("{shares} millionths are lent beside floors of {floors} at {:?}", self.at));
        }
        let beyond = self.admitted as f64 - self.rate() * (1.0 + DRIFT) * self.at.as_secs_f64();
        self.low = self.low.min(beyond);
        let most =
            f64::from(self.quota.burst) + self.sidecars.len() as f64 + self.rate() * STEP.as_secs_f64();
        if self.quota.floor == 0 && beyond - self.low > most {
            return Err(format!("{} calls beyond the rate at {:?}", beyond - self.low, self.at));
        }
        Ok(())
    }
}

impl Registry {
    fn apply(&mut self, ask: &Ask, session: u64, host: &str) -> Reply {
        match ask {
            Ask::Create(card) => {
                // what another session left is taken over
                self.cards.retain(|known, (_, _, owner)| known != host || *owner == session);
                self.cards.entry(host.to_owned()).or_insert_with(|| (0, card.clone(), session));
                Reply::Done(0)
            }
            Ask::Write(version, card) => match self.cards.get_mut(host) {
                Some((known, found, owner)) if known == version && *owner == session => {
                    self.writes += 1;
                    (*known, *found) = (*known + 1, card.clone());
                    Reply::Done(*known)
                }
                Some(_) | None => Reply::Open,
            },
            Ask::Look => {
                let own = self.cards.get(host).filter(|(_, _, owner)| *owner == session);
                Reply::Seen(own.map(|(version, card, _)| (*version, card.clone())))
            }
            Ask::Hold => Reply::Holds(*self.holder.get_or_insert(session) == session),
            Ask::List if self.holder != Some(session) => Reply::Holds(false),
            Ask::List => {
                let card = |(host, (version, card, _)): (&String, &(i32, Card, u64))| {
                    (host.clone(), (*version, card.clone()))
                };
                Reply::Cards(self.cards.iter().map(card).collect())
            }
            Ask::Give(gifts) => {
                for gift in gifts {
                    // the writes of a session that is over are refused
                    if let Some((version, card, _)) = self.cards.get_mut(&gift.host)
                        && *version == gift.version
                        && self.holder == Some(session)
                    {
                        self.writes += 1;
                        (*version, *card) = (*version + 1, gift.card.clone());
                    }
                }
                Reply::Given
            }
        }
    }
}

/// The seeds of this run: `SIMULATION_SEED` alone, or as many as `SIMULATION_SEEDS` says.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    }
}

/// One world of many.
fn play(seed: u64) -> Result<(), String> {
    let quota = match seed % 8 {
        3 | 7 => quota(5),
        1 | 4 => slow(200, "10s"),
        5 => slow(1000, "1h"),
        6 => slow(10, "24h"),
        _ => quota(0),
    };
    let mut world = World::new(seed, 1 + (seed % 5) as usize, quota);
    world.lates = true;
    // most leases are lapsed then when their share changes
    world.patience = if seed.is_multiple_of(3) { Duration::from_secs(1) } else { Duration::MAX };
    let calm = world.rng.u32(8..200);
    for _ in 0..800 {
        world.step();
        if world.rng.u32(..calm) == 0 {
            world.disturb();
        }
        world.check()?;
    }
    Ok(())
}

#[test]
fn whatever_happens_no_more_than_the_quota_is_lent_or_admitted() {
    let failed: Vec<_> = seeds().filter_map(|seed| play(seed).err().map(|why| (seed, why))).take(5).collect();
    assert!(failed.is_empty(), "SIMULATION_SEED replays one: {failed:?}");
}

#[test]
fn with_steady_demand_nearly_all_of_the_quota_is_used() {
    for seed in 0..200 {
        let count = 1 + (seed % 6) as usize;
        let mut world = World::new(seed, count, quota(0));
        let total: f64 = world.sidecars.iter().map(|sidecar| sidecar.demand).sum();
        let scale = f64::from(RATE) * (1.0 + world.rng.f64()) / total;
        world.sidecars.iter_mut().for_each(|sidecar| sidecar.demand *= scale);
        (0..300).for_each(|_| world.step());
        let before = world.admitted;
        (0..600).for_each(|_| world.step());
        let used = (world.admitted - before) as f64 / (30.0 * f64::from(RATE));
        assert!(used >= 0.95, "seed {seed}, {count} sidecars: {used}");
    }
}

/// Sidecars of which this one asks for nine tenths of the quota, and the others for the rest.
fn skew(world: &mut World, busy: usize) {
    let (rate, rest) = (world.rate(), (world.sidecars.len() - 1) as f64);
    for (n, sidecar) in world.sidecars.iter_mut().enumerate() {
        sidecar.demand = rate * if n == busy { 0.9 } else { 0.1 / rest };
    }
}

#[test]
fn shares_follow_a_demand_that_shifts_within_seconds() {
    for seed in 0..100 {
        let mut world = World::new(seed, 3 + (seed % 4) as usize, quota(0));
        world.noisy = true;
        skew(&mut world, 0);
        (0..600).for_each(|_| world.step());
        skew(&mut world, 1);
        // three for the demand to be known, and then some fifteen requests of 0.2 s, one after the other
        let took = (1..60).find(|_| {
            let before = world.admitted;
            (0..20).for_each(|_| world.step());
            (world.admitted - before) as f64 >= 0.85 * f64::from(RATE)
        });
        assert!(took.is_some_and(|seconds| seconds <= 10), "seed {seed}: {took:?} s");
    }
}

#[test]
fn a_steady_demand_costs_hardly_more_than_renewals() {
    // of the quota; where it is about all of it, shares are least at ease
    for asked in [0.5, 0.95, 1.2, 3.0] {
        let (mut writes, mut renewals) = (0, 0.0);
        for seed in 0..15 {
            let count = 2 + (seed % 5) as usize;
            let mut world = World::new(seed, count, quota(0));
            world.noisy = true;
            let total: f64 = world.sidecars.iter().map(|sidecar| sidecar.demand).sum();
            let scale = f64::from(RATE) * asked / total;
            world.sidecars.iter_mut().for_each(|sidecar| sidecar.demand *= scale);
            (0..400).for_each(|_| world.step());
            let before = world.registry.writes;
            (0..1200).for_each(|_| world.step());
            writes += world.registry.writes - before;
            renewals += 60.0 / (0.4 * lease(SESSION).as_secs_f64()) * count as f64;
        }
        assert!(writes as f64 <= 1.3 * renewals, "{asked}: {writes} writes, {renewals} renewals");
    }
}

#[test]
fn the_first_share_comes_soon() {
    for seed in 0..200 {
        let mut world = World::new(seed, 1 + (seed % 6) as usize, quota(0));
        // ten requests of 0.2 s at most, one after the other, and three waits for a watch and for turns
        (0..80).for_each(|_| world.step());
        let world = &world;
        for sidecar in world.sidecars.iter().filter(|sidecar| sidecar.demand > 20.0) {
            let share = sidecar.taker.share("web", sidecar.now((world.start, world.at)));
            assert!(
                share.is_some_and(|lent| lent.share > 0),
                "seed {seed}: {} has none after 4 s",
                sidecar.host
            );
        }
    }
}

#[test]
fn who_calls_now_and_then_is_not_refused() {
    for seed in 0..8 {
        let mut world = World::new(seed, 2 + (seed % 3) as usize, quota(0));
        let (slow, busy) = world.sidecars.split_at_mut(1);
        let apart = [20, 60, 120, 300][seed as usize / 2 % 4];
        slow[0].demand = 1.0 / f64::from(apart);
        // half of the worlds have nothing to spare
        let demand = f64::from(RATE) * if seed % 2 == 0 { 3.0 } else { 0.2 };
        busy.iter_mut().for_each(|sidecar| sidecar.demand = demand);
        (0..60 * 20 * 20).for_each(|_| world.step());
        let slow = &world.sidecars[0];
        assert!(
            slow.passed > 1 && slow.refused <= 1,
            "seed {seed}: {} passed, {} not",
            slow.passed,
            slow.refused
        );
    }
}

#[test]
fn nearly_all_of_a_slow_quota_is_used_too() {
    for (seed, quota, hours) in [(0, slow(100, "1h"), 2), (1, slow(3000, "24h"), 1)] {
        let mut world = World::new(seed, 3, quota);
        let (rate, demand) = (world.rate(), 1.2 * world.rate() / 6.0);
        (1..).zip(&mut world.sidecars).for_each(|(n, sidecar)| sidecar.demand = demand * f64::from(n));
        (0..600 * 20).for_each(|_| world.step());
        let before = world.admitted;
        (0..hours * 3600 * 20).for_each(|_| world.step());
        let (used, due) = ((world.admitted - before) as f64, rate * f64::from(hours * 3600));
        // calls are whole
        assert!(used >= 0.95 * due - 3.0, "seed {seed}: {used} of {due}");
    }
}

#[test]
fn what_was_saved_up_is_used_once_when_its_share_went_to_another() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2, slow(200, "10s"));
        let play = |world: &mut World, demands: [f64; 2], seconds: u32| {
            world.sidecars.iter_mut().zip(demands).for_each(|(sidecar, demand)| sidecar.demand = demand);
            for _ in 0..seconds * 20 {
                world.step();
                world.check().unwrap();
            }
        };
        play(&mut world, [19.0, 0.0], 20);
        play(&mut world, [0.0, 0.0], 15);
        world.sidecars[0].cut = true;
        // its session ends, and nearly all of the quota and its burst belong to the other
        play(&mut world, [0.0, 19.0], 60);
        play(&mut world, [0.0, 0.0], 15);
        play(&mut world, [0.0, 400.0], 1);
        world.sidecars[0].cut = false;
        world.sidecars[1].alive = false;
        world.end(world.sidecars[1].session);
        play(&mut world, [400.0, 0.0], 10);
    }
}

#[test]
fn floors_of_those_who_are_counted_are_set_aside() {
    for seed in 0..60 {
        // a tenth, a fifth or half of the quota for each of up to six
        let floor = [20, 40, 100][seed as usize % 3];
        let mut world = World::new(seed, 1, quota(floor));
        for n in 1..MOST {
            (0..200).for_each(|_| world.step());
            world.calm = world.at;
            world.join(format!("web-{n}"));
            world.sidecars.iter_mut().for_each(|sidecar| sidecar.demand = f64::from(RATE) / 20.0);
            for _ in 0..600 {
                world.step();
                world.check().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            }
        }
    }
}
