//! Promises of every policy, and of each alone.

use super::*;
use crate::health::Cause;
use crate::health::State::{Closed, HalfOpen, Open};
use crate::model::State;
use crate::names::Address;
use std::collections::BTreeMap;

const ALL: [Balance; 4] = [Balance::RoundRobin, Balance::Random, Balance::P2c, Balance::Hash];
const SECOND: Duration = Duration::from_secs(1);

fn provider(port: u16, weight: u16, state: State) -> Provider {
    Provider {
        address: Address::new(&format!("10.0.0.1:{port}")).unwrap(),
        weight,
        idc: None,
        state,
        tags: None,
        max_connections: None,
        ephemeral: false,
        listed: false,
        held: false,
    }
}

fn equals(count: u16) -> Vec<Provider> {
    (1..=count).map(|port| provider(port, 100, State::On)).collect()
}

fn in_zones(near: u16, far: u16) -> Vec<Provider> {
    let idc = |port| Some(if port <= near { "bj1" } else { "sh1" }.into());
    (1..=near + far).map(|port| Provider { idc: idc(port), ..provider(port, 100, State::On) }).collect()
}

/// A pool of a host in `bj1`, at a time of its own.
struct World {
    pool: Pool,
    rules: Circuit,
    now: Instant,
}

impl World {
    fn new(providers: &[Provider], policy: Policy) -> Self {
        let (board, now) = (Arc::default(), Instant::now());
        let setting = Setting { policy: &policy, idc: Some("bj1"), board: &board, now };
        let pool = Pool::new(providers, &setting, &Peers::default());
        Self { pool, rules: policy.circuit, now }
    }

    fn of(providers: &[Provider], balance: Balance) -> Self {
        Self::new(providers, Policy { balance, ..Policy::default() })
    }

    fn wanted<'a>(&self, tried: &'a [Arc<Peer>]) -> Wanted<'a> {
        let hash = (self.pool.balance == Balance::Hash).then(|| fastrand::u64(..));
        Wanted { tried, now: self.now, hash }
    }

    fn pick(&self) -> Result<InFlight, Passed> {
        self.pool.pick(&self.wanted(&[]))
    }

    /// How many of `calls` short calls each port gets.
    fn count(&self, calls: usize) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..calls {
            *counts.entry(port(self.pick().unwrap().peer())).or_insert(0) += 1;
        }
        counts
    }

    fn peer(&self, port: usize) -> &Arc<Peer> {
        &self.pool.members[port - 1].peer
    }

    fn end(&self, mut place: InFlight, outcome: Outcome) -> Option<Change> {
        self.pool.record(&mut place, outcome, &self.rules, self.now)
    }

    /// Five calls to it fail.
    fn kill(&self, port: usize) {
        for _ in 0..5 {
            self.end(self.peer(port).enter(self.now), Outcome::bad(Fault::Unreached));
        }
        assert!(!self.peer(port).is_closed());
    }

    /// A third of its calls is good; whether it is left for that.
    fn spoil(&self, port: usize) -> bool {
        for _ in 0..30 {
            for outcome in [Outcome::GOOD, Outcome::bad(Fault::Status), Outcome::bad(Fault::Status)] {
                self.end(self.peer(port).enter(self.now), outcome);
            }
        }
        !self.peer(port).is_closed()
    }
}

fn port(peer: &Peer) -> u16 {
    peer.address.as_str().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn every_policy_keeps_to_the_weights_and_skips_who_is_off() {
    let providers = [
        provider(1, 100, State::On),
        provider(2, 300, State::On),
        provider(3, 100, State::Off),
        provider(4, 0, State::On),
        provider(5, 100, State::Drain),
    ];
    for balance in ALL {
        let world = World::of(&providers, balance);
        let counts = world.count(40_000);
        assert_eq!(counts.len(), 2, "{balance:?}: {counts:?}");
        let share = counts[&2] as f64 / 40_000.0;
        // how even a ring is depends on its points
        let off = if balance == Balance::Hash { 0.1 } else { 0.03 };
        assert!((share - 0.75).abs() < off, "{balance:?}: {counts:?}");
    }
}

#[test]
fn no_policy_picks_an_open_one_while_another_is_closed_nor_one_twice() {
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..400 {
        let balance = ALL[round % 4];
        let zone = [Zone::Prefer, Zone::Ignore][round / 4 % 2];
        let providers = in_zones(rng.u16(0..4), rng.u16(1..5));
        let policy = Policy { balance, zone, ..Policy::default() };
        let mut world = World::new(&providers, policy);
        let mut under_way = Vec::new();
        for _ in 0..200 {
            let picked = world.pick();
            let closed = world.pool.members.iter().filter(|member| member.peer.is_closed()).count();
            match picked {
                Ok(place) => {
                    let state = place.peer().state();
                    let spared = place.in_panic()
                        && matches!(state, Open { cause: Cause::Rate, .. } | HalfOpen { cause: Cause::Rate });
                    assert!(place.probes() || state == Closed || spared, "{balance:?} {zone:?} {state:?}");
                    under_way.push(place);
                }
                Err(passed) => assert!(closed == 0 && matches!(passed, Passed::Open(_)), "{passed:?}"),
            }
            if rng.u8(..) < 200 && !under_way.is_empty() {
                let place = under_way.swap_remove(rng.usize(..under_way.len()));
                let tried = [place.peer().clone()];
                match world.pool.pick(&world.wanted(&tried)) {
                    Ok(other) => assert!(!Arc::ptr_eq(other.peer(), &tried[0]), "{balance:?}"),
                    Err(_) => assert!(closed <= 1, "{balance:?}: a closed one is left"),
                }
                let dead = port(&tried[0]).is_multiple_of(2) || rng.u8(..) < 30;
                world.end(place, if dead { Outcome::bad(Fault::Cut) } else { Outcome::GOOD });
            }
            let probing: Vec<_> =
                under_way.iter().filter(|place| place.probes()).map(InFlight::peer).collect();
            for (n, peer) in probing.iter().enumerate() {
                assert!(!probing[..n].iter().any(|other| Arc::ptr_eq(other, peer)), "two calls probe");
            }
            world.now += rng.u32(..500) * Duration::from_millis(1);
        }
    }
}

#[test]
fn a_call_that_probes_is_one_and_its_end_decides() {
    for balance in ALL {
        let mut world = World::of(&equals(1), balance);
        world.kill(1);
        let Err(Passed::Open(wait)) = world.pick() else { panic!("{balance:?}") };
        assert!(wait <= SECOND, "{wait:?}");
        world.now += wait;
        let probe = world.pick().unwrap();
        assert!(probe.probes() && matches!(world.pick(), Err(Passed::Open(_))), "{balance:?}");
        drop(probe);
        let probe = world.pick().unwrap();
        assert_eq!(world.end(probe, Outcome::GOOD), Some(Change::Closed));
        assert!(!world.pick().unwrap().probes());
    }
}

#[test]
fn round_robin_is_exact_over_every_window() {
    let providers = [provider(1, 70, State::On), provider(2, 10, State::On), provider(3, 30, State::On)];
    let world = World::of(&providers, Balance::RoundRobin);
    for _ in 0..50 {
        assert_eq!(world.count(11).into_values().collect::<Vec<_>>(), [7, 1, 3]);
    }
}

#[test]
fn p2c_leaves_the_busy_and_the_slow_and_those_who_asked_for_it() {
    let world = World::of(&equals(2), Balance::P2c);
    let busy = world.peer(1).enter(world.now);
    assert_eq!(world.count(100).get(&1), None);
    drop(busy);

    let mut world = World::of(&equals(2), Balance::P2c);
    let calls = [world.peer(1).enter(world.now), world.peer(2).enter(world.now)];
    world.now += SECOND / 100;
    let [slow, quick] = calls;
    world.end(quick, Outcome::GOOD);
    world.now += SECOND;
    world.end(slow, Outcome::GOOD);
    assert_eq!(world.count(100).get(&1), None);

    let world = World::of(&equals(2), Balance::P2c);
    let asks = Outcome { fault: None, retry_after: Some(SECOND * 5) };
    world.end(world.peer(2).enter(world.now), asks);
    assert_eq!(world.count(100).get(&2), None);
}

#[test]
fn p2c_asks_one_that_came_just_now_although_the_others_are_fast() {
    let mut world = World::of(&equals(3), Balance::P2c);
    world.now += SECOND;
    for port in 1..=2 {
        let place = world.peer(port).enter(world.now - SECOND / 1000);
        world.end(place, Outcome::GOOD);
    }
    let share = world.count(3000)[&3];
    assert!((800..1200).contains(&share), "{share} of 3000");
}

#[test]
fn a_key_meets_the_same_provider_until_that_is_ill_and_nobody_elses_moves() {
    let world = World::of(&equals(10), Balance::Hash);
    let at = |world: &World, key: u64| {
        let hash = Some(super::key(&key.to_be_bytes()));
        port(world.pool.pick(&Wanted { tried: &[], now: world.now, hash }).unwrap().peer())
    };
    let before: Vec<_> = (0..1000).map(|key| at(&world, key)).collect();
    assert_eq!(before, (0..1000).map(|key| at(&world, key)).collect::<Vec<_>>());
    world.kill(3);
    let moved: Vec<_> = (0..1000).filter(|key| at(&world, *key) != before[*key as usize]).collect();
    assert!(moved.iter().all(|key| before[*key as usize] == 3) && moved.len() > 50);
    let fewer = World::of(&equals(9), Balance::Hash);
    for key in 0..1000 {
        let now = at(&fewer, key);
        assert!(now == before[key as usize] || before[key as usize] == 10, "key {key} moved to {now}");
    }
}

#[test]
fn one_key_that_everybody_asks_for_does_not_overload_its_provider() {
    let world = World::of(&equals(10), Balance::Hash);
    let wanted = Wanted { tried: &[], now: world.now, hash: Some(7) };
    let places: Vec<_> = (0..100).map(|_| world.pool.pick(&wanted).unwrap()).collect();
    let most = places.iter().map(|place| place.peer().load()).max().unwrap();
    assert!(most <= 13, "{most} calls of 100 at one of 10");
}

#[test]
fn calls_that_other_apis_have_at_a_provider_move_no_key() {
    let world = World::of(&equals(10), Balance::Hash);
    let wanted = Wanted { tried: &[], now: world.now, hash: Some(7) };
    let home = world.pool.pick(&wanted).unwrap().peer().clone();
    let _others: Vec<_> = (0..50).map(|_| home.enter(world.now)).collect();
    assert!(Arc::ptr_eq(world.pool.pick(&wanted).unwrap().peer(), &home));
}

#[test]
fn a_hash_without_a_key_is_p2c() {
    let world = World::of(&equals(2), Balance::Hash);
    let _busy = world.peer(1).enter(world.now);
    for _ in 0..100 {
        let wanted = Wanted { tried: &[], now: world.now, hash: None };
        assert_eq!(port(world.pool.pick(&wanted).unwrap().peer()), 2);
    }
}

#[test]
fn the_own_zone_comes_first_and_the_others_as_far_as_it_is_ill() {
    for balance in ALL {
        // of ten near ones `dead` are ill: the healthy share × 1.4 stays at home
        for (dead, at_home) in [(0, 1.0), (2, 1.0), (5, 0.7), (8, 0.28), (10, 0.0)] {
            let world = World::of(&in_zones(10, 10), balance);
            (1..=dead).for_each(|port| world.kill(port));
            let counts = world.count(20_000);
            let near: usize = counts.range(..=10).map(|(_, count)| count).sum();
            let share = near as f64 / 20_000.0;
            let off = if balance == Balance::Hash { 0.08 } else { 0.02 };
            assert!((share - at_home).abs() < off, "{balance:?} {dead}: {share}");
            assert!(at_home < 1.0 || near == 20_000, "{balance:?}: a call left the zone");
            let away = world.pool.away(world.now).unwrap() as f64 / 100.0;
            assert!((1.0 - away - at_home).abs() < 0.011, "{dead}: {away}");
        }
    }
}

#[test]
fn zones_are_heeded_as_the_policy_says() {
    let of = |zone, providers: &[Provider]| {
        World::new(providers, Policy { zone, balance: Balance::RoundRobin, ..Policy::default() })
    };
    assert_eq!(of(Zone::Ignore, &in_zones(2, 2)).count(100).len(), 4);
    assert_eq!(of(Zone::Only, &in_zones(2, 2)).count(100).len(), 2);
    assert!(of(Zone::Only, &in_zones(0, 2)).pool.is_empty());
    assert_eq!(of(Zone::Prefer, &in_zones(0, 2)).pool.away(Instant::now()), None);
    assert_eq!(of(Zone::Prefer, &in_zones(0, 2)).count(100).len(), 2);
    // a second attempt leaves the zone before it gives up
    let world = of(Zone::Prefer, &in_zones(1, 1));
    let tried = [world.peer(1).clone()];
    assert_eq!(port(world.pool.pick(&world.wanted(&tried)).unwrap().peer()), 2);
}

#[test]
fn at_most_half_are_left_for_their_rate_and_in_a_panic_rates_are_not_heeded() {
    let world = World::of(&equals(4), Balance::RoundRobin);
    let left: Vec<_> = (1..=4).map(|port| world.spoil(port)).collect();
    assert_eq!(left, [true, true, false, false]);
    assert_eq!(world.count(40).len(), 2);
    assert!(!world.pick().unwrap().in_panic());
    world.kill(3);
    // one of four is well: those with a poor rate are better than nobody, the dead one is not
    assert_eq!(world.count(60).keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
    assert!(world.pick().unwrap().in_panic() && world.pool.panics(world.now));
}

#[test]
fn one_that_came_takes_its_weight_step_by_step() {
    let (board, start) = (Arc::default(), Instant::now());
    let came = Peer::new(Address::new("10.0.0.1:2").unwrap(), Arc::clone(&board), start, true);
    let known = [came].into_iter().collect();
    let policy = Policy { warmup: 100 * SECOND, balance: Balance::RoundRobin, ..Policy::default() };
    let setting = Setting { policy: &policy, idc: None, board: &board, now: start };
    let pool = Pool::new(&equals(2), &setting, &known);
    let mut world = World { pool, rules: policy.circuit, now: start };
    for (after, share) in [(0, 0.0099), (10, 0.0909), (50, 0.3333), (100, 0.5), (1000, 0.5)] {
        world.now = start + after * SECOND;
        let count = world.count(11_110)[&2] as f64 / 11_110.0;
        assert!((count - share).abs() < 0.002, "{after}: {count}");
    }
}

#[test]
fn a_full_one_is_passed_over_and_where_all_are_full_that_is_said() {
    for balance in ALL {
        let few = |provider| Provider { max_connections: Some(2), ..provider };
        let providers: Vec<_> = equals(3).into_iter().map(few).collect();
        let world = World::of(&providers, balance);
        let places: Vec<_> = (0..6).map(|_| world.pick().unwrap()).collect();
        assert_eq!(world.pick().unwrap_err(), Passed::Full, "{balance:?}");
        drop(places);
        assert!(world.pick().is_ok());
    }
}

#[test]
fn a_queue_at_a_provider_halves_its_weight() {
    let world = World::of(&equals(2), Balance::RoundRobin);
    world.peer(1).queue(Some(50), Instant::now());
    assert_eq!(world.count(30).into_values().collect::<Vec<_>>(), [10, 20]);
    world.peer(1).queue(None, Instant::now());
    assert_eq!(world.count(30).into_values().collect::<Vec<_>>(), [15, 15]);
}

#[test]
fn what_a_health_check_found_ill_gets_no_calls() {
    let world = World::of(&equals(3), Balance::P2c);
    world.peer(2).eject(&world.rules, world.now);
    assert_eq!(world.count(100).get(&2), None);
    world.peer(2).restore(world.now);
    assert!(world.count(100).contains_key(&2));
}

#[test]
fn another_attempt_goes_to_another_peer_or_nowhere() {
    for balance in ALL {
        let world = World::of(&[provider(1, 100, State::On), provider(2, 1, State::On)], balance);
        let both = [world.peer(1).clone(), world.peer(2).clone()];
        assert_eq!(port(world.pool.pick(&world.wanted(&both[..1])).unwrap().peer()), 2);
        assert_eq!(world.pool.pick(&world.wanted(&both)).unwrap_err(), Passed::Nobody);
        assert_eq!(World::of(&[], balance).pick().unwrap_err(), Passed::Nobody);
    }
}

#[test]
fn what_the_registry_lost_is_a_last_resort_until_it_is_not_reached() {
    let lost = |port| Provider { held: true, ..provider(port, 100, State::On) };
    let world = World::of(&[provider(1, 1, State::On), lost(2)], Balance::P2c);
    assert_eq!(world.count(50).len(), 1);
    let only = world.pick().unwrap().peer().clone();
    let resort = world.pool.pick(&world.wanted(std::slice::from_ref(&only))).unwrap();
    assert_eq!(port(resort.peer()), 2);
    let world = World::of(&[lost(2), lost(3)], Balance::RoundRobin);
    assert_eq!(world.count(200).len(), 2);
    for left in [2, 1] {
        assert!(!world.pool.is_empty(), "{left} left");
        world.end(world.pick().unwrap(), Outcome::bad(Fault::Unreached));
    }
    assert!(world.pool.is_empty() && world.pick().is_err());
    let pool = World::of(&[provider(1, 0, State::On), provider(2, 1, State::On), lost(3)], Balance::P2c).pool;
    assert_eq!((pool.candidates(Instant::now()).count(), pool.known()), (3, 3));
}

#[test]
fn proportions_of_any_size_are_kept() {
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..50 {
        let count = rng.u16(1..300);
        let providers: Vec<_> = (1..=count)
            .map(|port| {
                let idc = Some(if rng.bool() { "bj1" } else { "sh1" }.into());
                Provider { idc, ..provider(port, rng.u16(1..=1000), State::On) }
            })
            .collect();
        let world = World::of(&providers, Balance::RoundRobin);
        (1..=count / 2).for_each(|_| world.kill(rng.usize(1..=usize::from(count))));
        let live = world.pool.live(world.now);
        assert!(live.total() < 1 << 42);
        let sum: f64 = world.pool.members.iter().map(|m| world.pool.share(&m.peer, world.now).0).sum();
        assert!((sum - 1.0).abs() < 1e-9 || live.is_empty(), "{sum}");
    }
}

#[test]
fn a_slow_one_gets_few_calls_at_a_time_under_an_automatic_limit_and_the_others_go_on() {
    let policy = Policy {
        balance: Balance::RoundRobin,
        concurrency: crate::model::Concurrency::Auto,
        ..Policy::default()
    };
    let mut world = World::new(&equals(3), policy);
    let (slow, ms) = (world.peer(1).clone(), SECOND / 1000);
    let mut places: Vec<InFlight> = Vec::new();
    let (mut most, start) = (0, world.now);
    for step in 0..60_000 {
        world.now = start + step * ms;
        // one after another at the slow one, 20 ms each; 10 ms at the others however many there are
        let mut takes = step % 20 == 0;
        let is_over = |place: &mut InFlight| match Arc::ptr_eq(place.peer(), &slow) {
            true => std::mem::take(&mut takes),
            false => place.since() + 10 * ms <= world.now,
        };
        for mut place in places.extract_if(.., is_over) {
            world.pool.record(&mut place, Outcome::GOOD, &world.rules, world.now);
        }
        while places.len() < 30 {
            places.push(world.pick().unwrap());
        }
        most = if step < 40_000 { 0 } else { most.max(slow.load()) };
    }
    let limit = world.pool.limit(&slow).unwrap();
    assert!(limit <= 10 && most <= 12, "{limit} and {most} of 30");
    assert!(world.pool.limit(world.peer(2)).unwrap() >= 20);
    while slow.load() < limit {
        places.push(world.pick().unwrap());
    }
    let found =
        format!("it has {} calls in flight, and the limit that was found for it is {limit}", slow.load());
    assert_eq!(world.pool.candidates(world.now).next().unwrap().1, Some(found));
    let others = std::iter::from_fn(|| world.pick().ok()).take(5000).inspect(|place| {
        assert!(!Arc::ptr_eq(place.peer(), &slow));
    });
    let others: Vec<_> = others.collect();
    assert_eq!(world.pick().unwrap_err(), Passed::Full, "as where all have max_connections");
    drop(others);
    assert!(world.pick().is_ok());
}

#[test]
fn one_alone_has_no_limit_beside_that_of_its_service() {
    let policy = Policy { concurrency: crate::model::Concurrency::Auto, ..Policy::default() };
    let world = World::new(&equals(1), policy);
    let places: Vec<_> = (0..100).map(|_| world.pick().unwrap()).collect();
    assert_eq!((places.len(), world.pool.limit(world.peer(1))), (100, None));
}
