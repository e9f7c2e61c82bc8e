//! Whatever happens to a real ensemble and the network before it: the view ends equal to ZooKeeper,
//! the own provider stays registered, and calls go on meanwhile.
//!
//! `REMORA_CHAOS_ROUNDS` sets how many rounds (8), `REMORA_CHAOS_SEED` the seed of the first one,
//! `REMORA_CHAOS_LONGEST` the longest fault in seconds (2), `REMORA_CHAOS_FAULTS` which ones, with
//! commas; `REMORA_CHAOS_STRICT=1` also fails rounds in which a service that is called needed over two
//! seconds. `.ci/long` runs 500 rounds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};
use support::ensemble::{Ensemble, NODES};
use support::peer::ok_json;
use support::tcp_proxy::Lost;
use support::zookeeper::Kazoo;
use support::{Conn, Peer, Remora, Request, at, eventually};

/// From the heal until everything is equal.
const EQUAL: Duration = Duration::from_secs(15);
/// The same for services that are called.
const USED_EQUAL: Duration = Duration::from_secs(2);
/// As remora's configuration has it.
const SESSION: Duration = Duration::from_secs(6);
/// The client library notices silence after this part of a session; nothing else tells of it.
const NOTICE_SILENCE: Duration = Duration::from_millis(2400);
/// Begins what is said of servers that keep different trees although all of them serve: after kill -9
/// ZooKeeper 3.8.0 comes to that now and then. A view cannot be equal to all of them.
const DISAGREE: &str = "THE SERVERS DISAGREE";

/// The same of servers that take operations and finish none of them, with the connection standing.
const STUCK: &str = "ZOOKEEPER DOES NOT COMMIT";

/// Always on, so that calls to them never fail.
const STEADY: usize = 20;
/// Switched on and off while they are called.
const SWITCHED: usize = 6;
/// Never called.
const QUIET: usize = 4;
/// Made and removed while they are called.
const PASSING: usize = 8;
const OWN: &str = "own";
/// Where the view comes from.
const TREES: [&str; 3] = ["/service", "/api", "/address"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillOne,
    KillLeader,
    KillAll,
    PauseOne,
    PauseLeader,
    PauseAll,
    Cut,
    Reset,
    Stall,
    /// Bytes vanish in both directions, and what lost some is reset after it.
    HalfOpen,
    LoseToServer,
    LoseToClient,
    /// Bytes vanish, and connections that lost some stay silent after it.
    Silence,
    /// Remora's own clock stands still.
    Sleep,
}

/// Seeds in a row give faults in this order.
const FAULTS: [Fault; 14] = [
    Fault::Cut,
    Fault::KillOne,
    Fault::PauseAll,
    Fault::HalfOpen,
    Fault::KillAll,
    Fault::Reset,
    Fault::Stall,
    Fault::KillLeader,
    Fault::Sleep,
    Fault::PauseOne,
    Fault::LoseToClient,
    Fault::PauseLeader,
    Fault::Silence,
    Fault::LoseToServer,
];

/// What a round does; follows from its seed alone.
#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    fault: Fault,
    lasts: Duration,
}

impl Plan {
    fn new(seed: u64, faults: &[Fault], longest: Duration) -> Plan {
        let mut rng = fastrand::Rng::with_seed(seed);
        let fault = faults[(seed % faults.len() as u64) as usize];
        // a blink, within the session, and around or beyond it
        let (from, to) = [(0.1, 1.5), (1.5, 6.0), (5.0, 14.0)][rng.usize(..3)];
        let seconds = from + (to - from) * rng.f64();
        Plan { seed, fault, lasts: Duration::from_secs_f64(seconds).min(longest) }
    }

    fn rng(&self, part: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(31).wrapping_add(part))
    }
}

/// What a round showed.
struct Round {
    plan: Plan,
    /// From the mend until every node served.
    serving: Duration,
    /// From then, or from the last write, until the view was equal: services in use, and all.
    used: Option<Duration>,
    all: Option<Duration>,
    /// From a write to every service until the view had all that are called.
    echo: Option<Duration>,
    own: &'static str,
    /// How long the own provider was missing although it was there after the mend.
    own_missing: Duration,
    sessions: u64,
    calls: usize,
    slowest: Duration,
    failures: Vec<String>,
    /// Of remora, where the round was not as it should be.
    log: String,
}

impl Round {
    /// What the issue allows for a service that is called.
    fn in_time(&self) -> bool {
        let notice = if self.plan.fault == Fault::Silence { NOTICE_SILENCE } else { Duration::ZERO };
        self.used.is_some_and(|used| used <= USED_EQUAL + notice)
            && self.echo.is_some_and(|echo| echo <= USED_EQUAL)
    }

    /// Whether nothing else went wrong than ZooKeeper itself. Servers that finish nothing leave no provider
    /// registered and no view equal; calls must go on all the same.
    fn is_void(&self) -> bool {
        let mut failures = self.failures.iter();
        if self.failures.iter().any(|failure| failure.contains(STUCK)) {
            return failures.all(|failure| !failure.starts_with("call to"));
        }
        !self.failures.is_empty() && failures.all(|failure| failure.contains(DISAGREE))
    }
}

/// How a round went, before it is judged.
struct Course {
    serving: Duration,
    /// Shortly before the mend, in faults that leave ZooKeeper itself alone.
    own_was_gone: bool,
    own_missing: Duration,
    equal: Result<(Duration, Duration), String>,
    echo: Option<Result<(Duration, Duration), String>>,
}

#[test]
fn the_view_is_equal_after_every_fault() {
    let rounds = number("ROUNDS").unwrap_or(8);
    let longest = Duration::from_secs(number("LONGEST").unwrap_or(2));
    let first = number("SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() % 1_000_000
    });
    println!("REMORA_CHAOS_SEED={first} REMORA_CHAOS_ROUNDS={rounds}");
    let only = std::env::var("REMORA_CHAOS_FAULTS").unwrap_or_default();
    let mut faults = FAULTS.to_vec();
    faults.retain(|fault| only.is_empty() || only.split(',').any(|name| name == format!("{fault:?}")));
    assert!(!faults.is_empty(), "REMORA_CHAOS_FAULTS={only} names none of {FAULTS:?}");
    let mut world = World::new();
    let (mut table, mut drift, mut void) = (Vec::new(), 0, 0);
    for seed in first..first + rounds {
        let round = world.round(Plan::new(seed, &faults, longest));
        println!("{}", line(&round));
        for failure in &round.failures {
            println!("  FAILED {failure}");
        }
        if !round.log.is_empty() {
            println!("{}", round.log);
            println!(
                "  again: REMORA_CHAOS_SEED={seed} REMORA_CHAOS_ROUNDS=1 REMORA_CHAOS_LONGEST={} REMORA_CHAOS_FAULTS={only} cargo test --test chaos -- --nocapture",
                longest.as_secs()
            );
        }
        if round.is_void() {
            println!("  void: goes on with another ensemble");
            void += 1;
            drift += world.drift();
            world = World::new();
        } else {
            table.push(round);
        }
    }
    let outlived = world.outlives_old_sessions();
    drift += world.drift();
    println!("{}", summary(&table, drift));
    println!("{void} rounds void by ZooKeeper itself");
    assert!(void <= 1 + rounds / 100, "{void} of {rounds} rounds void by ZooKeeper itself");
    let failed = table.iter().filter(|round| !round.failures.is_empty()).count();
    assert!(failed == 0, "{failed} of {rounds} rounds failed, see above");
    // the ensemble keeps a session that was away for so long, and so its node
    let short = |round: &&Round| {
        round.plan.fault != Fault::Silence && round.plan.lasts + round.serving < Duration::from_secs(4)
    };
    let gaps = table.iter().filter(short).filter(|round| !round.own_missing.is_zero()).count();
    assert!(gaps == 0, "the own provider was missing for a while in {gaps} rounds");
    assert!(outlived, "the own provider went with a session of before");
    assert_eq!(drift, 0);
    if std::env::var("REMORA_CHAOS_STRICT").is_ok_and(|strict| strict == "1") {
        let late = table.iter().filter(|round| !round.in_time()).count();
        assert!(late == 0, "{late} of {rounds} rounds were over {USED_EQUAL:?}");
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(format!("REMORA_CHAOS_{name}")).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("REMORA_CHAOS_{name}={value} is no number")))
}

/// A service as callers get it, without what a registry does not say.
type Shown = Option<Value>;
type View = BTreeMap<String, Shown>;

struct World {
    remora: Remora,
    reader: Kazoo,
    writer: Kazoo,
    observer: Kazoo,
    services: Vec<String>,
    peers: Vec<Peer>,
    own: Peer,
    sessions: Vec<String>,
    // last: remora ends before what it talks to
    ensemble: Ensemble,
}

impl World {
    fn new() -> World {
        let ensemble = Ensemble::start();
        let peers: Vec<_> = (0..6).map(|_| living()).collect();
        let own = living();
        let mut writer = ensemble.client(3);
        let named = |kind: &str, n: usize| (0..n).map(|n| format!("{kind}-{n}")).collect::<Vec<_>>();
        let mut services = named("steady", STEADY);
        services.push(OWN.to_owned());
        services.extend(named("switched", SWITCHED));
        services.extend(named("quiet", QUIET));
        for (n, service) in services.iter().enumerate() {
            writer.create(&format!("/service/{service}"), r#"{"access":"open"}"#);
            writer.create(&format!("/api/{service}/get"), r#"{"path":"/get"}"#);
            writer.put(&format!("/address/{service}"), &list(&peers[n % peers.len()], 10));
        }
        services.extend(named("passing", PASSING));
        let own_provider =
            format!("providers: [ {{ service: {OWN}, address: \"{}\", weight: 50 }} ]", own.address);
        // no call runs out of time while remora itself is stopped
        let remora =
            Remora::ensemble(&ensemble).with(&own_provider).with("defaults: { timeout: 20s }").start();
        let levels = std::env::var("REMORA_CHAOS_LOG").unwrap_or_else(|_| "info,call=off".to_owned());
        let level = support::http::call(
            &remora.admin,
            "POST",
            "/log-level",
            &[("Host", &remora.admin)],
            levels.as_bytes(),
        );
        assert_eq!(level.status, 200, "{}", level.text());
        // in use, and in the view, before anything happens
        let mut conn = Conn::open(&remora.admin);
        for service in &services {
            page(&mut conn, service);
        }
        let (reader, observer) = (ensemble.client(3), ensemble.client(3));
        World { remora, reader, writer, observer, services, peers, own, sessions: Vec::new(), ensemble }
    }

    fn drift(&self) -> u64 {
        at(&self.remora.page("/registry"), "/drift").as_u64().unwrap()
    }

    fn own_path(&self) -> String {
        format!("/address/{OWN}/{}", self.own.address)
    }

    fn session(&self) -> (Option<String>, u64) {
        let page = self.remora.page("/registry");
        (page["session"].as_str().map(str::to_owned), page["sessions"].as_u64().unwrap())
    }

    /// The node of the own provider: which one it is, and whose.
    fn own_node(&mut self) -> Option<(Value, Value)> {
        let path = self.own_path();
        self.reader.get(&path).map(|node| (node["czxid"].clone(), node["owner"].clone()))
    }

    fn round(&mut self, plan: Plan) -> Round {
        eventually("the own provider is registered", EQUAL, || {
            self.own_node().is_some() || self.reader.is_stuck()
        });
        let own_before = self.own_node().unwrap_or_default();
        let (session, sessions) = self.session();
        self.sessions.extend(session.clone().filter(|s| !self.sessions.contains(s)));
        let mut marks = vec![("before", self.remora.log().len())];
        let calls = Mutex::new(Calls::default());
        let course = self.run(plan, session.as_deref(), &calls, &mut marks);
        marks.push(("equal, or given up", self.remora.log().len()));
        let calls = calls.into_inner().unwrap();
        let mut failures = calls.failures;
        failures.extend(course.equal.as_ref().err().map(|why| format!("DIVERGED after {EQUAL:?}: {why}")));
        if let Some(Err(why)) = &course.echo {
            failures.push(format!("DEAF: a write after the heal was not seen within {EQUAL:?}: {why}"));
        }
        let own = match self.own_node() {
            None => "lost",
            Some(after) if after == own_before => "kept",
            Some(_) if course.own_was_gone => "gone, back",
            Some(_) => "renewed",
        };
        if own == "lost" {
            failures.push("the own provider is LOST".to_owned());
        }
        if [&self.reader, &self.writer, &self.observer].iter().any(|client| client.is_stuck()) {
            failures.push(format!("{STUCK}: a client of the test was connected and never answered"));
        }
        let quorum = [Fault::KillOne, Fault::KillLeader, Fault::PauseOne, Fault::PauseLeader];
        if own == "renewed" && quorum.contains(&plan.fault) {
            failures.push("the session was lost though most servers were there".to_owned());
        }
        if course.own_was_gone && plan.lasts + Duration::from_secs(1) < SESSION {
            failures.push("the own provider was gone within the session".to_owned());
        }
        let equal = course.equal.ok();
        let mut round = Round {
            plan,
            serving: course.serving,
            used: equal.map(|(used, _)| used),
            all: equal.map(|(_, all)| all),
            echo: course.echo.and_then(Result::ok).map(|(used, _)| used),
            own,
            own_missing: course.own_missing,
            sessions: self.session().1 - sessions,
            calls: calls.made,
            slowest: calls.slowest,
            failures,
            log: String::new(),
        };
        if !round.failures.is_empty() || !round.in_time() || !round.own_missing.is_zero() {
            round.log = self.log_since(&marks);
        }
        round
    }

    /// Breaks and mends, with calls and writes all the while, and waits for the end.
    fn run(
        &mut self,
        plan: Plan,
        session: Option<&str>,
        calls: &Mutex<Calls>,
        marks: &mut Vec<(&'static str, usize)>,
    ) -> Course {
        let own = self.own_path();
        let World { remora, reader, writer, observer, services, peers, ensemble, .. } = self;
        let (remora, peers, services) = (&*remora, &*peers, services.as_slice());
        let (done, written, log) = (AtomicBool::new(false), AtomicBool::new(false), Log::default());
        std::thread::scope(|scope| {
            let (_stop, stop_writing, finished) = (Stop(&done), Stop(&written), &written);
            for n in 0..3 {
                let (done, rng) = (&done, plan.rng(n));
                scope.spawn(move || keep_calling(remora, n == 2, rng, calls, done));
            }
            let writes = scope.spawn(move || {
                keep_writing(writer, peers, plan.rng(9), finished);
                (writer, Instant::now())
            });
            inflict(plan.fault, &mut plan.rng(8), session, ensemble, remora);
            marks.push(("the fault is there", remora.log().len()));
            std::thread::sleep(plan.lasts);
            let readable = matches!(plan.fault, Fault::Cut | Fault::Reset | Fault::Stall | Fault::Sleep);
            let own_was_gone = readable && reader.get(&own).is_none();
            drop(stop_writing);
            marks.push(("mended", remora.log().len()));
            let mended = Instant::now();
            mend(plan.fault, ensemble, remora);
            // what is not there is asked for anew and may wait: it must not hold up the others
            let (lasting, passing) = services.split_at(services.len() - PASSING);
            for part in [lasting, passing] {
                let (log, done) = (&log, &done);
                scope.spawn(move || keep_looking(remora, part, log, done));
            }
            let observed = scope.spawn(|| missing_again(observer, &own, &done));
            ensemble.nodes.until_served();
            let serving = Instant::now();
            let (writer, last_write) = writes.join().unwrap();
            let equal = converge(reader, ensemble, services, &own, &log, serving.max(last_write));
            let echo = equal.is_ok().then(|| {
                touch_all(writer, reader, &peers[0]);
                converge(reader, ensemble, services, &own, &log, Instant::now())
            });
            done.store(true, Ordering::Relaxed);
            let own_missing = observed.join().unwrap();
            Course { serving: serving - mended, own_was_gone, own_missing, equal, echo }
        })
    }

    fn log_since(&self, marks: &[(&str, usize)]) -> String {
        let log = self.remora.log();
        let ends = marks.iter().skip(1).map(|(_, at)| *at).chain([log.len()]);
        marks.iter().zip(ends).map(|((name, from), to)| format!("--- {name}\n{}", &log[*from..to])).collect()
    }

    /// Whether the own provider is there once every session of before is over.
    fn outlives_old_sessions(&mut self) -> bool {
        let now = self.session().0;
        self.sessions.retain(|session| Some(session) != now.as_ref());
        eventually("sessions of before are over", Duration::from_secs(30), || {
            self.sessions.iter().all(|session| !self.ensemble.nodes.knows_session(session))
        });
        self.own_node().is_some()
    }
}

/// A provider that answers everything and remembers nothing.
fn living() -> Peer {
    Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        while let Ok(Some(_)) = Request::read(&mut conn) {
            if conn.send(ok_json(&json!({"ok": true}))).is_err() {
                return;
            }
        }
    })
}

/// The list of addresses of a service: one that stays on, whatever its own node says.
fn list(peer: &Peer, weight: u64) -> String {
    json!({"addresses": [{"address": peer.address, "weight": weight, "state": "on"}]}).to_string()
}

/// Turns true when dropped, also where the test fails before.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn inflict(
    fault: Fault,
    rng: &mut fastrand::Rng,
    session: Option<&str>,
    ensemble: &mut Ensemble,
    remora: &Remora,
) {
    let mut any = || {
        // that of remora as often as any
        let serving = session.and_then(|session| ensemble.nodes.serving(session));
        serving.filter(|_| rng.bool()).unwrap_or_else(|| rng.usize(..NODES))
    };
    match fault {
        Fault::KillOne => {
            let n = any();
            ensemble.nodes.kill(n);
        }
        Fault::PauseOne => {
            let n = any();
            ensemble.nodes.pause(n);
        }
        Fault::KillLeader => ensemble.nodes.kill(ensemble.nodes.leader().expect("no leader")),
        Fault::PauseLeader => ensemble.nodes.pause(ensemble.nodes.leader().expect("no leader")),
        Fault::KillAll => (0..NODES).for_each(|n| ensemble.nodes.kill(n)),
        Fault::PauseAll => (0..NODES).for_each(|n| ensemble.nodes.pause(n)),
        Fault::Cut => ensemble.network.cut(),
        Fault::Reset => ensemble.network.reset(),
        Fault::Stall => ensemble.network.stall(),
        Fault::HalfOpen => ensemble.network.lose(true, true, Lost::Reset),
        Fault::LoseToServer => ensemble.network.lose(true, false, Lost::Reset),
        Fault::LoseToClient => ensemble.network.lose(false, true, Lost::Reset),
        Fault::Silence => ensemble.network.lose(true, true, Lost::Silent),
        Fault::Sleep => remora.signal("STOP"),
    }
}

fn mend(fault: Fault, ensemble: &mut Ensemble, remora: &Remora) {
    ensemble.nodes.restore();
    ensemble.network.heal();
    if fault == Fault::Sleep {
        remora.signal("CONT");
    }
}

#[derive(Default)]
struct Calls {
    made: usize,
    slowest: Duration,
    failures: Vec<String>,
}

/// Calls until `done`; services that always have a living provider, or those that change.
fn keep_calling(
    remora: &Remora,
    changing: bool,
    mut rng: fastrand::Rng,
    calls: &Mutex<Calls>,
    done: &AtomicBool,
) {
    let mut conn = None;
    let start = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let service = match (changing, rng.bool()) {
            (false, _) => match rng.usize(..=STEADY) {
                STEADY => OWN.to_owned(),
                n => format!("steady-{n}"),
            },
            (true, true) => format!("switched-{}", rng.usize(..SWITCHED)),
            (true, false) => format!("passing-{}", rng.usize(..PASSING)),
        };
        let from = Instant::now();
        let answer = conn
            .get_or_insert_with(|| Conn::over(TcpStream::connect(&remora.address).unwrap()))
            .request("GET", &format!("/{service}/get"), &[], b"");
        let (status, kind) = match &answer {
            Ok(answer) => (answer.status, answer.kind().unwrap_or_default()),
            Err(error) => (0, error.to_string()),
        };
        let refused = ["service-off", "no-service", "no-api", "no-provider", "registry-unavailable"];
        let fine = status == 200 || (changing && refused.contains(&kind.as_str()));
        if answer.is_err() {
            conn = None;
        }
        let mut calls = calls.lock().unwrap();
        calls.made += 1;
        if !changing {
            calls.slowest = calls.slowest.max(from.elapsed());
        }
        if !fine && calls.failures.len() < 20 {
            let at = from.duration_since(start);
            calls.failures.push(format!("call to {service} at {at:?} of the round: {status} {kind}"));
        }
        drop(calls);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Random writes until `done`; none takes the last living provider of a steady service.
fn keep_writing(writer: &mut Kazoo, peers: &[Peer], mut rng: fastrand::Rng, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let fixed = |rng: &mut fastrand::Rng| match rng.usize(..STEADY + SWITCHED + QUIET) {
            n if n < STEADY => format!("steady-{n}"),
            n if n < STEADY + SWITCHED => format!("switched-{}", n - STEADY),
            n => format!("quiet-{}", n - STEADY - SWITCHED),
        };
        let peer = &peers[rng.usize(..peers.len())].address;
        let service = fixed(&mut rng);
        let node = format!("/address/{service}/{peer}");
        let passing = format!("passing-{}", rng.usize(..PASSING));
        let commands = match rng.usize(..10) {
            0..=4 => vec![json!(["put", node, json!({"weight": rng.u32(..1000)}).to_string()])],
            5 => vec![json!(["put", node, r#"{"weight":7,"state":"drain"}"#])],
            6..=7 => vec![json!(["rm", node])],
            8 => {
                let state = if rng.bool() { "on" } else { "off" };
                let node = format!("/service/switched-{}", rng.usize(..SWITCHED));
                vec![json!(["put", node, json!({"access": "open", "state": state}).to_string()])]
            }
            _ if rng.bool() => vec![
                json!(["put", format!("/service/{passing}"), r#"{"access":"open"}"#]),
                json!(["put", format!("/api/{passing}/get"), r#"{"path":"/get"}"#]),
                json!(["put", format!("/address/{passing}/{peer}"), r#"{"weight":9}"#]),
            ],
            _ => ["service", "api", "address"].map(|tree| json!(["rm", format!("/{tree}/{passing}")])).into(),
        };
        // what becomes of them is read in the end
        for command in commands {
            writer.ask(&command);
        }
    }
}

/// How long the node was missing after it had been seen: a take-over in one step leaves no gap.
fn missing_again(observer: &mut Kazoo, path: &str, done: &AtomicBool) -> Duration {
    let (mut missing, mut since, mut seen) = (Duration::ZERO, None, false);
    while !done.load(Ordering::Relaxed) {
        match observer.ask(&json!(["get", path]))["error"].as_str() {
            None => {
                seen = true;
                missing += since.take().map_or(Duration::ZERO, |since: Instant| since.elapsed());
            }
            Some("NoNodeError") if seen => drop(since.get_or_insert_with(Instant::now)),
            Some(_) => {}
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    missing
}

/// One write to every service that is there.
fn touch_all(writer: &mut Kazoo, reader: &mut Kazoo, peer: &Peer) {
    let Some(nodes) = reader.tree(&["/service"]) else { return };
    let services = nodes.keys().filter_map(|path| path.strip_prefix("/service/"));
    let weight = fastrand::u32(1..1000);
    let put = |service| {
        json!(["put", format!("/address/{service}/{}", peer.address), json!({"weight": weight}).to_string()])
    };
    // whether they were done is seen in the end
    writer.ask(&json!(["many", services.map(put).collect::<Vec<_>>()]));
}

/// What the view held of a service.
#[derive(Default)]
struct Seen {
    /// When it was last asked for.
    asked: Option<Instant>,
    /// Each time that it was another.
    changes: Vec<(Instant, Shown)>,
}

type Log = Mutex<BTreeMap<String, Seen>>;

fn keep_looking(remora: &Remora, services: &[String], log: &Log, done: &AtomicBool) {
    let mut conn = Conn::open(&remora.admin);
    while !done.load(Ordering::Relaxed) {
        for service in services {
            let asked = Instant::now();
            let shown = page(&mut conn, service);
            let mut log = log.lock().unwrap();
            let seen = log.entry(service.clone()).or_default();
            seen.asked = Some(asked);
            if seen.changes.last().is_none_or(|(_, last)| *last != shown) {
                seen.changes.push((Instant::now(), shown));
            }
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

fn page(conn: &mut Conn, service: &str) -> Shown {
    let target = format!("/services/{service}?format=json");
    let answer = conn.request("GET", &target, &[("Host", "localhost")], b"").unwrap();
    match answer.status {
        200 => {
            let page = answer.json();
            let mut providers: Vec<_> =
                at(&page, "/providers").as_array().unwrap().iter().map(shown).collect();
            providers.sort();
            let apis: Vec<_> = at(&page, "/apis").as_object().unwrap().keys().cloned().collect();
            Some(json!({"state": page["state"], "apis": apis, "providers": providers}))
        }
        404 => None,
        _ => Some(json!(answer.text())),
    }
}

fn shown(provider: &Value) -> String {
    let part = |name: &str| provider[name].to_string();
    format!("{} weight {} {} ephemeral {}", part("address"), part("weight"), part("state"), part("ephemeral"))
}

/// What callers are to get of what stands in ZooKeeper.
fn expected(nodes: &Map<String, Value>, services: &[String]) -> View {
    let data = |path: &str| -> Option<Value> {
        let text = nodes.get(path)?["data"].as_str()?;
        Some(serde_json::from_str(text).unwrap_or_else(|_| json!({})))
    };
    let below = |parent: String| {
        let parent = parent + "/";
        nodes.keys().filter_map(move |path| path.strip_prefix(&parent).map(str::to_owned))
    };
    let view = |service: &String| {
        let places = ["service", "api", "address"].map(|tree| format!("/{tree}/{service}"));
        if places.iter().all(|place| !nodes.contains_key(place)) {
            return None;
        }
        let own = state(&data(&places[0]).unwrap_or_default());
        let mut providers = BTreeMap::new();
        for address in below(places[2].clone()) {
            let path = format!("{}/{address}", places[2]);
            let ephemeral = !nodes[&path]["owner"].is_null();
            providers.insert(address, (data(&path).unwrap(), ephemeral));
        }
        let list = data(&places[2]).unwrap_or_default();
        for item in list["addresses"].as_array().into_iter().flatten() {
            // weight and state stand in the list, and hold
            let address = item["address"].as_str().unwrap().to_owned();
            providers.entry(address).or_insert((Value::Null, false)).0 = item.clone();
        }
        let mut providers: Vec<_> = providers
            .into_iter()
            .map(|(address, (fields, ephemeral))| {
                let weight = fields["weight"].as_u64().unwrap_or(100);
                let state = state(&fields);
                shown(&json!({"address": address, "weight": weight, "state": state, "ephemeral": ephemeral}))
            })
            .collect();
        providers.sort();
        let apis: Vec<_> = below(places[1].clone()).collect();
        Some(json!({"state": own, "apis": apis, "providers": providers}))
    };
    services.iter().map(|service| (service.clone(), view(service))).collect()
}

/// The state that a node's data says, or the one that goes without saying.
fn state(data: &Value) -> Value {
    if data["state"].is_null() { json!("on") } else { data["state"].clone() }
}

/// Waits until the view is what ZooKeeper holds, the own provider included. Gives the times that this
/// took from `from` on: for services that are called, and for all.
fn converge(
    reader: &mut Kazoo,
    ensemble: &Ensemble,
    services: &[String],
    own: &str,
    log: &Log,
    mut from: Instant,
) -> Result<(Duration, Duration), String> {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let nodes = reader.tree(&TREES);
        if reader.is_stuck() {
            return Err(STUCK.to_owned());
        }
        let why = match &nodes {
            None => "ZooKeeper can't be read".to_owned(),
            Some(nodes) if !nodes.contains_key(own) => format!("{own} is missing in ZooKeeper"),
            Some(nodes) => match compare(&expected(nodes, services), &log.lock().unwrap(), asked) {
                Ok(since) => return Ok(since.took(from)),
                Err(difference) => difference,
            },
        };
        if nodes.is_none() || !ensemble.nodes.all_serve() {
            // an election after the nodes ran again: not mended yet
            assert!(begun.elapsed() < Duration::from_secs(60), "the ensemble does not come back: {why}");
            from = Instant::now();
        } else if from.elapsed() > EQUAL {
            return Err(format!("{why}; {}", agreement(ensemble)));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the servers hold the same: where they don't, a view can't be equal to all of them.
fn agreement(ensemble: &Ensemble) -> String {
    let trees: Vec<_> =
        ensemble.nodes.ports().map(|port| Kazoo::connect(&port.address()).tree(&TREES)).collect();
    let Some(trees) = trees.into_iter().collect::<Option<Vec<_>>>() else {
        return "a server can't be read".to_owned();
    };
    let paths: BTreeSet<_> = trees.iter().flat_map(Map::keys).collect();
    let data = |path: &str| trees.iter().map(|tree| tree.get(path)).collect::<Vec<_>>();
    let differ: Vec<_> = paths
        .into_iter()
        .map(|path| (path, data(path)))
        .filter(|(_, data)| data.iter().any(|one| *one != data[0]))
        .collect();
    match differ.as_slice() {
        [] => "the servers agree".to_owned(),
        differ => format!("{DISAGREE}: {differ:?}"),
    }
}

/// When the last service became equal.
#[derive(Default)]
struct Since {
    used: Option<Instant>,
    all: Option<Instant>,
}

impl Since {
    fn took(&self, from: Instant) -> (Duration, Duration) {
        let took = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at.saturating_duration_since(from));
        (took(self.used), took(self.all))
    }
}

/// Whether all that was looked at after `asked` is as wanted, and since when; or what is not.
fn compare(wanted: &View, log: &BTreeMap<String, Seen>, asked: Instant) -> Result<Since, String> {
    let mut since = Since::default();
    let mut differ = Vec::new();
    for (service, shown) in wanted {
        let seen = log.get(service).filter(|seen| seen.asked > Some(asked));
        let last = seen.and_then(|seen| seen.changes.last());
        match last {
            Some((at, last)) if last == shown => {
                since.all = since.all.max(Some(*at));
                if !service.starts_with("quiet") {
                    since.used = since.used.max(Some(*at));
                }
            }
            Some((_, last)) => differ.push(format!("{service}: ZooKeeper {shown:?}, view {last:?}")),
            None => differ.push(format!("{service}: not looked at yet")),
        }
    }
    if differ.is_empty() { Ok(since) } else { Err(differ[..differ.len().min(3)].join("\n    ")) }
}

fn line(round: &Round) -> String {
    let time =
        |time: Option<Duration>| time.map_or("never".to_owned(), |t| format!("{:.2}", t.as_secs_f64()));
    let late = if round.in_time() { "" } else { "  over the limit" };
    format!(
        "{:>8} {:<12} {:>5.1}s  serving {:>5}  equal {:>5} (all {:>5})  echo {:>5}  own {:<17} sessions +{}  calls {:>4} slowest {:>5} failed {}{late}",
        round.plan.seed,
        format!("{:?}", round.plan.fault),
        round.plan.lasts.as_secs_f64(),
        time(Some(round.serving)),
        time(round.used),
        time(round.all),
        time(round.echo),
        match round.own_missing {
            Duration::ZERO => round.own.to_owned(),
            gap => format!("{}, gap {:.2}", round.own, gap.as_secs_f64()),
        },
        round.sessions,
        round.calls,
        time(Some(round.slowest)),
        round.failures.len(),
    )
}

fn summary(table: &[Round], drift: u64) -> String {
    let mut text = format!(
        "\n{:<14} {:>6} {:>8} {:>8} {:>8} {:>8}\n",
        "fault", "rounds", "median", "worst", "all", "echo"
    );
    let mut row = |name: &str, rounds: Vec<&Round>| {
        if rounds.is_empty() {
            return;
        }
        let mut used: Vec<_> = rounds.iter().map(|round| round.used.unwrap_or(Duration::MAX)).collect();
        used.sort();
        let worst = |time: fn(&Round) -> Option<Duration>| {
            rounds.iter().map(|round| time(round).unwrap_or(Duration::MAX)).max().unwrap()
        };
        let shown = |time: Duration| match time {
            Duration::MAX => "never".to_owned(),
            time => format!("{:.2}s", time.as_secs_f64()),
        };
        let (median, last) = (shown(used[used.len() / 2]), shown(used[used.len() - 1]));
        let (all, echo) = (shown(worst(|round| round.all)), shown(worst(|round| round.echo)));
        writeln!(text, "{name:<14} {:>6} {median:>8} {last:>8} {all:>8} {echo:>8}", rounds.len()).unwrap();
    };
    for fault in FAULTS {
        row(&format!("{fault:?}"), table.iter().filter(|round| round.plan.fault == fault).collect());
    }
    row("all", table.iter().collect());
    let count =
        |says: &str| table.iter().flat_map(|round| &round.failures).filter(|f| f.contains(says)).count();
    let calls: usize = table.iter().map(|round| round.calls).sum();
    let late = table.iter().filter(|round| !round.in_time()).count();
    let gaps = table.iter().filter(|round| round.own_missing > Duration::ZERO);
    let (gaps, longest) = gaps.fold((0, Duration::ZERO), |(n, most), r| (n + 1, most.max(r.own_missing)));
    writeln!(
        text,
        "own provider missing for a while after it was there: {gaps} rounds, at most {:.2}s",
        longest.as_secs_f64()
    )
    .unwrap();
    writeln!(
        text,
        "{} rounds: {} diverged, {} deaf, {} own providers lost, {} of {calls} calls failed, drift {drift}, {late} over {USED_EQUAL:?}",
        table.len(),
        count("DIVERGED"),
        count("DEAF"),
        count("LOST"),
        count("call to"),
    )
    .unwrap();
    text
}
