//! A fleet of real sidecar registries in one process, against an ensemble that is killed and restarted.
//!
//! `cargo bench --bench fleet` takes about five minutes; `-- --help` shows the options.
//! `-- quotas` shows instead what quotas that a fleet shares cost the servers, in less than four minutes.
//! Exit code 1 only where a view never became equal to the
//! registry, or an own provider was lost; times are told, not judged.

#![allow(missing_docs, unreachable_pub, dead_code, reason = "a program that shares parts with the tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where it fails")]

mod meter;
#[path = "../../tests/support/nodes.rs"]
mod nodes;
mod options;
#[path = "../../tests/support/outside.rs"]
mod outside;
mod quotas;
mod registry;
mod sidecar;
mod table;
mod wait;
mod world;

use std::time::Duration;

use nodes::NODES;
use options::Options;
use rustix::process::{Resource, Rlimit};
use table::markdown;
use world::World;

/// Descriptors of one sidecar: a socket, and what the runtime of its client needs.
const DESCRIPTORS: u64 = 12;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench").peekable();
    if args.next_if(|arg| arg == "quotas").is_some() {
        return quotas::run(args);
    }
    let options = Options::read(args).unwrap_or_else(|problem| {
        eprintln!("{problem}");
        std::process::exit(if problem == options::HELP { 0 } else { 2 });
    });
    let _log = options.log.as_ref().map(|level| remora::telemetry::start_log(level).unwrap());
    raise_limit(options.sidecars as u64);
    println!("{options:?}");
    let failures = run(&options);
    for failure in &failures {
        println!("FAILED {failure}");
    }
    // a thousand threads of clients are not waited for
    std::process::exit(i32::from(!failures.is_empty()));
}

fn run(options: &Options) -> Vec<String> {
    let mut world = World::new(options);
    world.start();
    world.steady(options.steady);
    world.change();
    world.rest();
    world.kill_one(false);
    world.kill_one(true);
    for outage in &options.outages {
        world.kill_all(*outage);
    }
    // once more quiet: what the faults left behind shows in CPU and memory
    world.steady(options.steady);
    world.leave();
    println!("\n{}", markdown(&world.phases));
    println!("{}", world.sizes());
    println!(
        "{} sidecars, {} services, {NODES} servers, session {:?}: {} phases, {} failures",
        options.sidecars,
        options.services,
        options.session,
        world.phases.len(),
        world.failures.len()
    );
    std::mem::take(&mut world.failures)
}

/// The soft limit is for programs that use select(2).
pub(crate) fn raise_limit(sidecars: u64) {
    let limits = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    let (may, need) = (limits.maximum.unwrap_or(u64::MAX), sidecars * DESCRIPTORS + 200);
    if may < need {
        println!(
            "only {may} files may be open, {need} are wanted: take fewer sidecars, or raise `ulimit -n`"
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}
