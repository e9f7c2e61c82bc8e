//! Three times the calls a service can take: what is answered, what is refused and how soon, and what is left behind.
//!
//! `cargo bench --bench overload`; `-- 2` makes each phase 2 s. Providers wait and reckon nothing, so capacity is their
//! `max_connections`, or the service's `concurrency`, and no processor's. Calls come by the clock, whether or not
//! earlier ones were answered, and one phase follows the other without a pause: what 3x left in line meets the calls after
//! it. An answer counts for the phase in which it comes. Goals are shares of what the same run reached; a busy machine
//! moves the times.

#![allow(missing_docs, unreachable_pub, dead_code, reason = "a program that shares parts with the tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where it fails")]

mod load;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use load::{Phase, Step};
use support::{Peer, Remora, eventually, service_with};

/// Calls that all providers together take at once, and for how long each.
const PLACES: u32 = 20;
const SERVICE_TIME: Duration = Duration::from_millis(50);
/// Of the capacity, phase by phase; the last one shows whether all is well again.
const OFFERED: [f64; 5] = [0.5, 1.0, 1.5, 3.0, 0.8];
/// The goals.
const GOODPUT: f64 = 0.9;
const REFUSED_WITHIN: Duration = Duration::from_millis(5);
const RECOVERED_WITHIN: Duration = Duration::from_millis(100);
/// Of a call that is open, in bytes,
const OPEN_CALL: u64 = 64 << 10;
/// and of the calls whose stories are kept for `/explain`.
const STORIES: u64 = 4 << 20;

/// Whose limit it is.
struct Scene {
    name: &'static str,
    policy: &'static str,
    most: u32,
    /// Refusals wait for so long in line first.
    queue: Duration,
}

const SCENES: [Scene; 3] = [
    Scene { name: "max_connections of two providers", policy: "", most: PLACES / 2, queue: Duration::ZERO },
    Scene {
        name: "concurrency of the service",
        policy: "concurrency: 20",
        most: 1000,
        queue: Duration::ZERO,
    },
    Scene {
        name: "concurrency, queue of 100 ms",
        policy: "concurrency: 20, queue: 100ms",
        most: 1000,
        queue: Duration::from_millis(100),
    },
];

fn main() {
    let seconds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(4.0);
    let failed: usize = SCENES.iter().map(|scene| run(scene, Duration::from_secs_f64(seconds))).sum();
    println!("\n{failed} goals missed");
}

fn run(scene: &Scene, lasts: Duration) -> usize {
    let answer = support::peer::answer(200, &[("Content-Type", "application/json")], &[b'1'; 200]);
    let providers = [0, 1].map(|_| {
        let answer = answer.clone();
        Peer::http(move |_| {
            std::thread::sleep(SERVICE_TIME);
            answer.clone()
        })
    });
    let most = scene.most;
    let listed = providers.each_ref().map(|peer| {
        let address = &peer.address;
        format!("{{ address: \"{address}\", max_connections: {most} }}")
    });
    let data = format!("access: open, policy: {{ {} }}", scene.policy);
    let apis = [("x", "{ path: /x, encoding: json }")];
    let remora = Remora::embedded(&service_with("user", &data, &apis, &[&listed[0], &listed[1]]))
        .discards_log()
        .start();
    let capacity = f64::from(PLACES) / SERVICE_TIME.as_secs_f64();
    println!("\n{}: {PLACES} calls at once of {SERVICE_TIME:?}, {capacity:.0} calls/s\n", scene.name);
    println!("{}", Phase::HEAD);
    let phases = load::run(&remora, OFFERED.map(|share| Step { rate: capacity * share, lasts }));
    for (phase, share) in phases.iter().zip(OFFERED) {
        println!("{}", phase.row(share));
    }
    eventually("no call is left", Duration::from_secs(10), || {
        remora.page("/services/user")["in_flight"] == 0
    });
    judge(scene, &phases)
}

/// Tells whether each goal was reached; gives how many were not.
fn judge(scene: &Scene, phases: &[Phase; 5]) -> usize {
    let [_, at_capacity, _, over, after] = phases;
    let peak = phases.iter().map(Phase::goodput).fold(0.0, f64::max);
    let ratio = over.goodput() / peak;
    let refused = over.refused_within(0.99);
    let well = after.well_since();
    let told = |time: Option<Duration>| time.map_or("never".to_owned(), |time| format!("{time:.1?}"));
    let grown = over.held.memory.saturating_sub(at_capacity.held.memory);
    let connections = over.held.connections;
    let bound = STORIES + connections as u64 * OPEN_CALL;
    let goals = [
        (ratio >= GOODPUT, format!("goodput at 3x is {:.1} % of the peak; at least 90", ratio * 100.0)),
        (
            refused.is_some_and(|refused| refused < REFUSED_WITHIN + scene.queue),
            format!("99 % of refusals within: {}; at most {REFUSED_WITHIN:?} and `queue`", told(refused)),
        ),
        (
            well.is_some_and(|well| well < RECOVERED_WITHIN + scene.queue),
            format!(
                "all is well after the rate fell from 3x to 0.8x: {}; at most {RECOVERED_WITHIN:?} and `queue`",
                told(well)
            ),
        ),
        (
            grown <= bound,
            format!(
                "{} KiB more memory than at 1x; at most {}, for {connections} connections and why calls failed",
                grown >> 10,
                bound >> 10,
            ),
        ),
        (phases.iter().all(|phase| phase.other == 0), "every call was answered or refused".to_owned()),
    ];
    println!();
    for (is_met, text) in &goals {
        println!("{} {text}", if *is_met { "PASS" } else { "FAIL" });
    }
    goals.iter().filter(|(is_met, _)| !is_met).count()
}
