//! Balancing in virtual time, and what a pick costs.
//!
//! `cargo bench --bench balance`. 100 providers of 4 processes each answer in 10 ms on average; one takes
//! ten times as long, one fails at once, one never answers. 10,000 calls a second for 60 s, one attempt
//! each, given up after 4.5 s. The first row heeds no health, as a plain round robin does; the last bounds the
//! calls that a provider has at once.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a bench stops where it fails")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora::balance::{Pool, Setting, Wanted, key};
use remora::health::Fault;
use remora::model::{Balance, Circuit, Policy, Provider, State};
use remora::names::Address;
use remora::peer::{InFlight, Outcome, Peers};

const PEERS: usize = 100;
const PROCESSES: usize = 4;
/// Calls that a provider has at once, where that is bounded: twice its processes.
const MOST: u32 = 8;
const CALLS_PER_SECOND: u64 = 10_000;
const SECONDS: u64 = 60;
const MEAN: f64 = 0.010;
const TIMEOUT: f64 = 4.5;
/// Who is not as the others.
const SLOW: usize = 0;
const FAILING: usize = 1;
const BLACK_HOLE: usize = 2;

const POLICIES: [(&str, Balance); 4] = [
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("p2c", Balance::P2c),
    ("hash", Balance::Hash),
];

fn main() {
    println!("| policy | p50 | p99 | p99.9 | failed | calls at the slow | failing | black hole |");
    println!("|---|---|---|---|---|---|---|---|");
    let heedless = Circuit { consecutive: u32::MAX, min_calls: u32::MAX, ..Circuit::default() };
    simulate("round_robin, no health", &pool(PEERS, Balance::RoundRobin, None), heedless);
    for (name, balance) in POLICIES {
        simulate(name, &pool(PEERS, balance, None), Circuit::default());
    }
    let bounded = pool(PEERS, Balance::RoundRobin, Some(MOST));
    simulate("round_robin, max_connections", &bounded, Circuit::default());
    println!("\n| ns per pick and record | 10 | 100 | 1000 |\n|---|---|---|---|");
    for (name, balance) in POLICIES {
        let costs = [10, 100, 1000].map(|peers| format!("{:.0}", cost(balance, peers)));
        println!("| {name} | {} |", costs.join(" | "));
    }
}

fn pool(peers: usize, balance: Balance, max_connections: Option<u32>) -> Pool {
    let now = Instant::now();
    let provider = |n: usize| Provider {
        address: Address::new(&format!("10.0.{}.{}:80", n / 250, n % 250)).unwrap(),
        weight: 100,
        idc: None,
        state: State::On,
        tags: None,
        max_connections,
        ephemeral: false,
        listed: false,
        held: false,
    };
    let providers: Vec<_> = (0..peers).map(provider).collect();
    let policy = Policy { balance, ..Policy::default() };
    let setting = Setting { policy: &policy, idc: None, board: &Arc::default(), now };
    Pool::new(&providers, &setting, &Peers::default())
}

/// A call on its way, in order of its end.
struct Running {
    end: Duration,
    began: Duration,
    failed: Option<Fault>,
    place: InFlight,
}

/// Whole virtual run of one policy, printed as a row.
fn simulate(name: &str, pool: &Pool, rules: Circuit) {
    let mut rng = fastrand::Rng::with_seed(42);
    fastrand::seed(42);
    let start = Instant::now();
    let numbers: BTreeMap<_, _> =
        pool.peers().enumerate().map(|(n, peer)| (peer.address.to_string(), n)).collect();
    let mut free = vec![[0.0; PROCESSES]; PEERS];
    let (mut ends, mut running) = (BinaryHeap::new(), BTreeMap::new());
    let (mut took, mut failed, mut at) = (Vec::new(), 0_u64, vec![0_u64; PEERS]);
    for call in 0..CALLS_PER_SECOND * SECONDS {
        let now = Duration::from_nanos(call * 1_000_000_000 / CALLS_PER_SECOND);
        while let Some(Reverse((end, ended))) = ends.peek().copied().filter(|Reverse((end, _))| *end <= now) {
            ends.pop();
            let mut run: Running = running.remove(&ended).unwrap();
            let outcome = run.failed.map_or(Outcome::GOOD, Outcome::bad);
            pool.record(&mut run.place, outcome, &rules, start + end);
            took.push(run.end - run.began);
            failed += u64::from(run.failed.is_some());
        }
        let hash = Some(key(&rng.u32(..100_000).to_be_bytes()));
        let Ok(place) = pool.pick(&Wanted { tried: &[], now: start + now, hash }) else {
            failed += 1;
            continue;
        };
        let peer = numbers[place.peer().address.as_str()];
        at[peer] += 1;
        let (after, fault) = answer(peer, now.as_secs_f64(), &mut free[peer], &mut rng);
        let end = now + Duration::from_secs_f64(after);
        ends.push(Reverse((end, call)));
        running.insert(call, Running { end, began: now, failed: fault, place });
    }
    took.sort_unstable();
    let part = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let share = failed as f64 * 100.0 / (CALLS_PER_SECOND * SECONDS) as f64;
    println!(
        "| {name} | {:.1} ms | {:.1} ms | {:.1} ms | {share:.4}% | {} | {} | {} |",
        part(0.5),
        part(0.99),
        part(0.999),
        at[SLOW],
        at[FAILING],
        at[BLACK_HOLE]
    );
}

/// Seconds until a call to `peer` ends, and how; its processes answer one call after another.
fn answer(peer: usize, now: f64, free: &mut [f64], rng: &mut fastrand::Rng) -> (f64, Option<Fault>) {
    match peer {
        FAILING => return (0.001, Some(Fault::Status)),
        BLACK_HOLE => return (TIMEOUT, Some(Fault::Late)),
        _ => {}
    }
    let mean = if peer == SLOW { 10.0 * MEAN } else { MEAN };
    let work = -mean * (1.0 - rng.f64()).ln();
    let next = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
    *next = next.max(now) + work;
    let after = *next - now;
    if after > TIMEOUT { (TIMEOUT, Some(Fault::Late)) } else { (after, None) }
}

/// Nanoseconds for one call that ends well; it allocates nothing.
fn cost(balance: Balance, peers: usize) -> f64 {
    const TIMES: u32 = 200_000;
    let pool = pool(peers, balance, None);
    let (start, rules) = (Instant::now(), Circuit::default());
    let one = |n: u64, now: Instant| {
        let mut place = pool.pick(&Wanted { tried: &[], now, hash: Some(n) }).unwrap();
        pool.record(black_box(&mut place), Outcome::GOOD, &rules, now);
    };
    one(0, start);
    let counted = allocation_counter::measure(|| (0..100).for_each(|n| one(key(&[n]), start)));
    assert_eq!(counted.count_total, 0, "{balance:?} allocates");
    let began = Instant::now();
    for n in 0..TIMES {
        let now = start + Duration::from_micros(n.into());
        one(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15), now);
    }
    began.elapsed().as_nanos() as f64 / f64::from(TIMES)
}
