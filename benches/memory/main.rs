//! What the sidecar holds: idle, with a large view, for each connection and each call, and after many calls.
//!
//! `cargo bench --bench memory`; a word chooses parts: `idle`, `view`, `connections`, `known`. Needs Java and Python for
//! ZooKeeper, as the tests do. PSS is what would be free if it ended; own is what no file has.

#![allow(missing_docs, unreachable_pub, dead_code, reason = "a program that shares parts with the tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where it fails")]

#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../wire/mod.rs"]
mod wire;

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use support::http::request;
use support::zookeeper::ZooKeeper;
use support::{Conn, Peer, Remora, eventually, service_with};

const MIB: u64 = 1 << 20;
/// The goals, in bytes.
const IDLE: u64 = 12 * MIB;
const VIEW: u64 = 40 * MIB;
const OPEN_CALL: u64 = 64 << 10;
/// Services and the providers of each.
const SMALL: (usize, usize) = (50, 4);
const LARGE: (usize, usize) = (2000, 50);
/// Services known beside the one that is called.
const KNOWN: usize = 10_000;
/// Calls of each in turn, and how often.
const CALLS: usize = 3000;
const ROUNDS: usize = 15;

/// In bytes.
#[derive(Clone, Copy)]
struct Memory {
    rss: u64,
    pss: u64,
    own: u64,
}

fn main() {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [(&str, fn()); 4] =
        [("idle", idle), ("view", view), ("connections", connections), ("known", known)];
    for (name, part) in parts {
        if words.is_empty() || words.iter().any(|word| word == name) {
            println!("\n{name}");
            part();
        }
    }
}

/// 50 services, all loaded.
fn idle() {
    let (services, providers) = SMALL;
    let remora = Remora::embedded(&entries(services, providers)).discards_log().start();
    tell("started", of(&remora), None);
    load_all(&remora, services);
    tell(&format!("{services} services × {providers} providers"), of(&remora), Some(IDLE));
}

/// 2,000 services with 50 providers each, from ZooKeeper, all loaded.
fn view() {
    let (services, providers) = LARGE;
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    for service in 0..services {
        let list: Vec<_> =
            addresses(service, providers).map(|at| format!("{{\"address\":\"{at}\"}}")).collect();
        client.put(&format!("/api/{}/get", name(service)), "{\"path\":\"/get\"}");
        client
            .put(&format!("/address/{}", name(service)), &format!("{{\"addresses\":[{}]}}", list.join(",")));
    }
    let remora = Remora::zookeeper(&zk).discards_log().start();
    let before = of(&remora);
    tell("started", before, None);
    let begun = Instant::now();
    load_all(&remora, services);
    println!("  all loaded after {:.1} s", begun.elapsed().as_secs_f64());
    let after = of(&remora);
    tell(&format!("{services} services × {providers} providers"), after, Some(VIEW));
    let each = after.own.saturating_sub(before.own) / (services * providers) as u64;
    println!("  {each} B for each provider, its part of the service included");
}

/// Idle connections, and calls that wait for their answers.
fn connections() {
    let idle = raise_limit();
    let quick = Peer::named("quick");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
    let api = [("get", "{ path: /get }")];
    let data = "policy: { timeout: 600s, concurrency: 100000 }";
    let text =
        service_with("quick", data, &api, &[&quick.address]) + &service_with("mute", data, &api, &[&mute]);
    let remora = Remora::embedded(&text).discards_log().start();
    let seats = remora.page("/config")["connections"].as_u64().unwrap().min(idle) as usize - 1;
    assert_eq!(remora.get("/quick/get").status, 200);

    let before = of(&remora);
    let mut conns: Vec<_> = (0..seats).map(|_| remora.conn()).collect();
    for conn in &mut conns {
        assert_eq!(conn.request("GET", "/quick/get", &[], b"").unwrap().status, 200);
    }
    let idle = (of(&remora).rss - before.rss) / seats as u64;
    println!("  {seats} idle connections: {idle} B each");
    drop(conns);
    eventually("all is closed", Duration::from_secs(10), || remora.descriptors() < 60);

    let before = of(&remora);
    let open = seats / 2;
    let mut conns: Vec<_> = (0..open).map(|_| remora.conn()).collect();
    for conn in &mut conns {
        conn.send(request("POST", "/mute/get", &[("Content-Type", "application/json")], b"{}")).unwrap();
    }
    eventually("all wait", Duration::from_secs(30), || remora.page("/services/mute")["in_flight"] == open);
    // what the idle ones left behind is used again, and would hide what these cost
    let each = (of(&remora).rss.max(before.rss) - before.rss) / open as u64;
    println!("  {open} open calls: {each} B each beside what was free");
    drop(conns);

    let fresh = Remora::embedded(&text).discards_log().start();
    assert_eq!(fresh.get("/quick/get").status, 200);
    let before = of(&fresh);
    let mut conns: Vec<_> = (0..open).map(|_| fresh.conn()).collect();
    for conn in &mut conns {
        conn.send(request("POST", "/mute/get", &[("Content-Type", "application/json")], b"{}")).unwrap();
    }
    eventually("all wait", Duration::from_secs(30), || fresh.page("/services/mute")["in_flight"] == open);
    let each = (of(&fresh).rss - before.rss) / open as u64;
    judge(each <= OPEN_CALL, &format!("{open} open calls: {each} B each; at most {OPEN_CALL}"));
}

/// Whether a call costs more where many services are known: run time of the workers, two sidecars in turn.
fn known() {
    let quick = Peer::named("quick");
    let called = service_with("called", "", &[("get", "{ path: /get }")], &[&quick.address]);
    let mut sidecars = [0, KNOWN].map(|services| {
        let remora = Remora::embedded(&(entries(services, 1) + &called)).discards_log().start();
        load_all(&remora, services);
        let conn = remora.conn();
        (remora, conn)
    });
    let mut cost = |of: usize| {
        let (remora, conn) = &mut sidecars[of];
        let before = wire::run_time(remora.pid(), "worker");
        for _ in 0..CALLS {
            assert_eq!(conn.request("GET", "/called/get", &[], b"").unwrap().status, 200);
        }
        (wire::run_time(remora.pid(), "worker") - before).as_secs_f64() / CALLS as f64 * 1e6
    };
    // the first round opens connections and fills caches
    let mut costs: Vec<_> = (0..=ROUNDS).map(|_| [cost(0), cost(1)]).skip(1).collect();
    let median = |of: &dyn Fn(&[f64; 2]) -> f64, costs: &mut Vec<[f64; 2]>| {
        costs.sort_by(|a, b| of(a).total_cmp(&of(b)));
        of(&costs[ROUNDS / 2])
    };
    for (of, services) in [0, KNOWN].into_iter().enumerate() {
        let each = median(&|round| round[of], &mut costs);
        println!("  {} services known: {each:.2} µs of CPU for a call", services + 1);
    }
    let ratio = median(&|round| round[1] / round[0], &mut costs);
    judge(ratio <= 1.02, &format!("a call costs {ratio:.3} times as much; at most 1.02"));
}

fn name(service: usize) -> String {
    format!("service-{service:05}")
}

fn addresses(service: usize, providers: usize) -> impl Iterator<Item = String> {
    (1..=providers).map(move |n| format!("10.{}.{}.{n}:8080", service >> 8, service & 255))
}

/// As nodes of an embedded registry.
fn entries(services: usize, providers: usize) -> String {
    let mut text = String::new();
    for service in 0..services {
        let name = name(service);
        text += &format!("/api/{name}/get: {{ path: /get }}\n");
        addresses(service, providers).for_each(|at| text += &format!("/address/{name}/{at}: {{}}\n"));
    }
    text
}

/// As their first calls would.
fn load_all(remora: &Remora, services: usize) {
    load(&remora.admin, services);
}

fn load(admin: &str, services: usize) {
    let (mut conn, host) = (Conn::open(admin), [("Host", admin)]);
    for service in 0..services {
        let target = format!("/services/{}", name(service));
        assert_eq!(conn.request("GET", &target, &host, b"").unwrap().status, 200, "{target}");
    }
}

/// Lets this process open as many files as it may, but for some.
fn raise_limit() -> u64 {
    let mut limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limits.current = limits.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limits).unwrap();
    limits.maximum.unwrap_or(1 << 20).saturating_sub(100)
}

fn of(remora: &Remora) -> Memory {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", remora.pid())).unwrap();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    Memory { rss: value("Rss:"), pss: value("Pss:"), own: value("Anonymous:") }
}

/// Goals are for the PSS.
fn tell(what: &str, memory: Memory, most: Option<u64>) {
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let Memory { rss, pss, own } = memory;
    let text = format!("{what}: {:.1} MiB RSS, {:.1} PSS, {:.1} own", mib(rss), mib(pss), mib(own));
    match most {
        None => println!("  {text}"),
        Some(most) => judge(pss <= most, &format!("{text}; at most {:.0}", mib(most))),
    }
}

fn judge(is_met: bool, text: &str) {
    println!("  {} {text}", if is_met { "PASS" } else { "FAIL" });
}
