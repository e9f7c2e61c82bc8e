//! Three times the calls a service can take: what is answered, what is refused and how soon, and what is left behind.
//!
//! `cargo bench --bench overload`; `-- 2` makes each phase 2 s. Providers wait and reckon nothing, so capacity is their
//! `max_connections`, or the service's `concurrency`, and no processor's. Calls come by the clock, whether or not
//! earlier ones were answered. Goals are shares of what the same run reached; a busy machine moves the times.

#![allow(missing_docs, unreachable_pub, dead_code, reason = "a program that shares parts with the tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where it fails")]

mod load;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use load::Phase;
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
    let mut memory = Vec::new();
    let phases = OFFERED.map(|share| {
        let phase = load::run(&remora, capacity * share, lasts);
        memory.push(remora.memory());
        println!("{}", phase.row(share, remora.memory(), remora.descriptors()));
        phase
    });
    eventually("no call is left", Duration::from_secs(10), || {
        remora.page("/services/user")["in_flight"] == 0
    });
    judge(scene, &phases, memory[3].saturating_sub(memory[1]))
}

/// Tells whether each goal was reached; gives how many were not.
fn judge(scene: &Scene, phases: &[Phase; 5], grown: u64) -> usize {
    let [_, _, _, over, after] = phases;
    let peak = phases.iter().map(Phase::goodput).fold(0.0, f64::max);
    let ratio = over.goodput() / peak;
    let refused = over.refused_within(0.99).unwrap_or_default();
    let well = after.well_since().unwrap_or(Duration::MAX);
    let bound = STORIES + over.connections as u64 * OPEN_CALL;
    let goals = [
        (ratio >= GOODPUT, format!("goodput at 3x is {:.1} % of the peak; at least 90", ratio * 100.0)),
        (
            refused < REFUSED_WITHIN + scene.queue,
            format!("99 % of refusals within {refused:.1?}; at most {REFUSED_WITHIN:?} and `queue`"),
        ),
        (
            well < RECOVERED_WITHIN + scene.queue,
            format!(
                "all is well {well:.1?} after the load is gone; at most {RECOVERED_WITHIN:?} and `queue`"
            ),
        ),
        (
            grown <= bound,
            format!(
                "{} KiB more memory than at 1x; at most {}, for {} connections and why calls failed",
                grown >> 10,
                bound >> 10,
                over.connections
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
