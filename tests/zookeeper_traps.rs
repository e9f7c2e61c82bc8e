//! What a client of ZooKeeper can step into, by its symptom: deafness, sessions lost for nothing, long silences.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::distant::Distant;
use support::remora;
use support::tcp_proxy::Lost;
use support::zookeeper::Kazoo;
use support::{Conn, Peer, Remora, eventually};

/// A change on its way into the view.
const SOON: Duration = Duration::from_secs(20);
/// A reconnect, reads spread over a while, and a busy machine.
const LATER: Duration = Duration::from_secs(60);
/// With pauses of 1.2 s at most so many attempts take over half of a session of ten seconds; with pauses
/// that double for ever they would take some minutes.
const ATTEMPTS: usize = 14;
/// What only data that is too large holds.
const LARGE: &[u8] = &[b'x'; 1000];
/// A service with one provider, in either layout.
const NODES: [(&str, &str, &str); 2] = [
    ("flat", "/", "/address/user/10.0.0.1:80"),
    ("tree", "/dada", "/dada/services/user/get/providers/10.0.0.1:80"),
];

/// `remora registry …` with the configuration of a running sidecar; what it said when it failed.
fn refused(of: &Remora, args: &[&str], input: &str) -> String {
    let config = of.config.display().to_string();
    let output = remora::remora_with(&[&["registry", "--config", &config], args].concat(), input.as_bytes());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

fn weigh(client: &mut Kazoo, path: &str, weight: usize) {
    client.put(path, &json!({"weight": weight}).to_string());
}

/// The weight of the service's only provider, as the view has it.
fn weight(remora: &Remora, service: &str) -> Option<u64> {
    let page = remora.admin("GET", &format!("/services/{service}?format=json"));
    let page = (page.status == 200).then(|| page.json())?;
    let places = ["/providers/0/weight", "/apis/get/providers/0/weight"];
    places.iter().find_map(|place| page.pointer(place)?.as_u64())
}

fn until_weight(remora: &Remora, service: &str, wanted: usize, within: Duration) {
    let what = format!("{service} has weight {wanted}");
    eventually(&what, within, || weight(remora, service) == Some(wanted as u64));
}

fn until_connected(remora: &Remora, connected: bool) {
    let what = format!("connected is {connected}");
    eventually(&what, LATER, || remora.page("/registry")["connected"] == connected);
}

fn session(remora: &Remora) -> String {
    let page = remora.page("/registry");
    page["session"].as_str().unwrap_or_else(|| panic!("no session: {page}")).to_owned()
}

/// The session has lived all the while, and nothing else went wrong.
fn assert_same_session(remora: &Remora, session: &str) {
    let page = remora.page("/registry");
    assert_eq!(page["session"], session, "{page}");
    assert_eq!((&page["sessions"], &page["drift"]), (&json!(1), &json!(0)), "{page}");
    assert_eq!(page["problems"], json!([]), "{page}");
}

fn assert_no_panic(remora: &Remora) {
    let log = remora.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Waits until this happened so many more times.
fn more(what: &str, times: usize, count: impl Fn() -> usize) {
    let before = count();
    eventually(&format!("{times} {what}"), Duration::from_secs(90), || count() >= before + times);
}

#[test]
fn a_reconnect_in_the_same_session_leaves_no_service_deaf() {
    for (layout, root, node) in NODES {
        let zk = Distant::start();
        let mut client = zk.client();
        weigh(&mut client, node, 1);
        let remora = Remora::distant(&zk).layout(layout, root).start();
        until_weight(&remora, "user", 1, SOON);
        let session = session(&remora);
        for round in 1..=4 {
            match round {
                1 | 3 => zk.network.cut(),
                2 => zk.network.reset(),
                _ => zk.network.lose(true, true, Lost::Reset),
            }
            until_connected(&remora, false);
            weigh(&mut client, node, 10 * round);
            zk.network.heal();
            until_weight(&remora, "user", 10 * round, LATER);
            weigh(&mut client, node, 10 * round + 1);
            until_weight(&remora, "user", 10 * round + 1, SOON);
            assert_same_session(&remora, &session);
        }
    }
}

#[test]
fn reconnects_one_upon_the_other_leave_no_service_deaf() {
    let zk = Distant::start();
    let mut client = zk.client();
    let services: Vec<_> = (0..20).map(|n| format!("user-{n}")).collect();
    let write = |client: &mut Kazoo, weight: usize| {
        let put = |service| {
            json!(["put", format!("/address/{service}/10.0.0.1:80"), json!({"weight": weight}).to_string()])
        };
        client.many(&services.iter().map(put).collect::<Vec<_>>());
    };
    write(&mut client, 1);
    let remora = Remora::distant(&zk).start();
    services.iter().for_each(|service| until_weight(&remora, service, 1, SOON));
    let session = session(&remora);
    for round in 2..8 {
        zk.network.reset();
        until_connected(&remora, false);
        write(&mut client, round);
        zk.network.heal();
        // broken again while it is read for the first time
        until_connected(&remora, true);
    }
    services.iter().for_each(|service| until_weight(&remora, service, 7, LATER));
    write(&mut client, 8);
    services.iter().for_each(|service| until_weight(&remora, service, 8, SOON));
    assert_same_session(&remora, &session);
}

#[test]
fn reconnects_between_two_looks_leave_no_service_deaf() {
    let zk = Distant::start();
    let mut client = zk.client();
    let services: Vec<_> = (0..100).map(|n| format!("user-{n}")).collect();
    let node = |service: &str| format!("/address/{service}/10.0.0.1:80");
    services.iter().for_each(|service| weigh(&mut client, &node(service), 1));
    let remora = Remora::distant(&zk).start();
    services.iter().for_each(|service| until_weight(&remora, service, 1, SOON));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = Done(&done);
        // whoever looks at connections has much else to do
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    remora.admin("GET", "/services?format=json");
                }
            });
        }
        for round in 2..20 {
            let taken = zk.network.taken();
            zk.network.reset();
            zk.network.heal();
            eventually("a connection again", LATER, || zk.network.taken() > taken);
            weigh(&mut client, &node("user-7"), round);
            until_weight(&remora, "user-7", round, LATER);
        }
    });
    assert_no_panic(&remora);
}

/// Tells the others to end, also where this one fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn services_with_over_128_kib_of_paths_reconnect_and_stay_right() {
    const MANY: usize = 260;
    let zk = Distant::start();
    let mut client = zk.client();
    let service = |n: usize| format!("{n:0>128}");
    let node = |n| format!("/address/{}/10.0.0.1:80", service(n));
    let paths: usize = (0..MANY).map(|n| 4 * format!("/api/{}", service(n)).len()).sum();
    assert!(paths > 128 << 10, "{paths} bytes of paths");
    client.many(&(0..MANY).map(|n| json!(["put", node(n), r#"{"weight":1}"#])).collect::<Vec<_>>());
    let remora = Remora::distant(&zk).start();
    let mut conn = Conn::open(&remora.admin);
    for n in 0..MANY {
        let target = format!("/services/{}", service(n));
        assert_eq!(conn.request("GET", &target, &[("Host", "localhost")], b"").unwrap().status, 200, "{n}");
    }
    let session = session(&remora);
    let page = remora.page("/registry");
    assert_eq!(page["services"], json!(MANY), "{page}");
    assert!(page["watched_bytes"].as_u64().unwrap() < 128 << 10, "{page}");
    let some = [0, MANY / 2, MANY - 1];
    for round in 1..=2 {
        zk.network.reset();
        until_connected(&remora, false);
        some.iter().for_each(|n| weigh(&mut client, &node(*n), 10 * round));
        zk.network.heal();
        some.iter().for_each(|n| until_weight(&remora, &service(*n), 10 * round, LATER));
        some.iter().for_each(|n| weigh(&mut client, &node(*n), 10 * round + 1));
        some.iter().for_each(|n| until_weight(&remora, &service(*n), 10 * round + 1, SOON));
        assert_same_session(&remora, &session);
    }
}

#[test]
fn a_session_that_the_server_ended_ends_no_part_of_the_sidecar() {
    let stop = |_: &Distant, remora: &Remora, stopped: bool| match stopped {
        true => remora.signal("STOP"),
        false => remora.signal("CONT"),
    };
    let stall = |zk: &Distant, _: &Remora, stalled: bool| match stalled {
        true => zk.network.stall(),
        false => zk.network.heal(),
    };
    type Break<'a> = &'a dyn Fn(&Distant, &Remora, bool);
    let faults: [Break<'_>; 2] = [&stop, &stall];
    for fault in faults {
        let zk = Distant::start();
        let mut client = zk.client();
        let (_, _, node) = NODES[0];
        let app = Peer::named("app");
        let own = format!("/address/app/{}", app.address);
        weigh(&mut client, node, 1);
        let mut remora = Remora::zookeeper_with(&zk.connect, "")
            .with(&format!("providers: [ {{ service: app, address: \"{}\" }} ]", app.address))
            .start();
        until_weight(&remora, "user", 1, SOON);
        eventually("registered", SOON, || client.get(&own).is_some());
        let old = session(&remora);
        fault(&zk, &remora, true);
        eventually("the session is over", LATER, || !zk.server.knows_session(&old));
        weigh(&mut client, node, 2);
        fault(&zk, &remora, false);
        until_weight(&remora, "user", 2, LATER);
        weigh(&mut client, node, 3);
        until_weight(&remora, "user", 3, SOON);
        eventually("registered again", LATER, || client.owner(&own).is_some());
        assert_eq!(client.owner(&own), Some(session(&remora)));
        assert_ne!(client.owner(&own), Some(old));
        assert_no_panic(&remora);
        assert_eq!(remora.terminate(), 0);
        assert_no_panic(&remora);
    }
}

#[test]
fn a_network_that_heals_after_long_is_noticed_soon() {
    let mut zk = Distant::start();
    let mut client = zk.client();
    let (_, _, node) = NODES[0];
    weigh(&mut client, node, 1);
    let remora = Remora::distant(&zk).start();
    until_weight(&remora, "user", 1, SOON);
    let session = session(&remora);
    drop(client);
    zk.server.kill();
    until_connected(&remora, false);
    more("attempts to connect", ATTEMPTS, || zk.network.taken());
    assert_eq!(weight(&remora, "user"), Some(1));
    zk.server.restart();
    let mut client = zk.client();
    weigh(&mut client, node, 2);
    until_weight(&remora, "user", 2, LATER);
    weigh(&mut client, node, 3);
    until_weight(&remora, "user", 3, SOON);
    assert_same_session(&remora, &session);
}

#[test]
fn a_sidecar_that_runs_long_before_zookeeper_finds_it() {
    let mut zk = Distant::absent();
    let app = Peer::named("app");
    let remora = Remora::distant(&zk)
        .with(&format!("providers: [ {{ service: user, address: \"{}\", weight: 7 }} ]", app.address))
        .unready()
        .start();
    more("attempts to connect", ATTEMPTS, || zk.network.taken());
    assert_ne!(remora.admin("GET", "/readyz").status, 200);
    zk.server.restart();
    let mut client = zk.client();
    client.put("/api/user/get", r#"{"path":"/get"}"#);
    let path = format!("/address/user/{}", app.address);
    eventually("the own provider is registered", LATER, || client.get(&path).is_some());
    remora.until_status("/user/get", 200, LATER);
    assert_eq!(remora.admin("GET", "/readyz").status, 200);
    assert_same_session(&remora, &session(&remora));
    weigh(&mut client, "/address/user/10.0.0.1:80", 1);
    let listed = |page: &Value| page["providers"].as_array().map(Vec::len);
    eventually("what comes later is seen", SOON, || listed(&remora.page("/services/user")) == Some(2));
}

#[test]
fn a_value_too_large_is_refused_before_it_costs_a_connection() {
    let zk = Distant::start();
    let mut client = zk.client();
    let (_, _, node) = NODES[0];
    weigh(&mut client, node, 1);
    let remora = Remora::distant(&zk).start();
    until_weight(&remora, "user", 1, SOON);
    let session = session(&remora);
    // an argument can't be much longer, a document can
    let large = |bytes| format!("{{\"owner\":\"{}\"}}", "x".repeat(bytes));
    let document = format!(
        "version: 1\nlayout: flat\nservices:\n  a: {{ data: {{}} }}\n  b: {{ data: {} }}\n  c: {{ data: {{}} }}\n",
        large(2_000_000)
    );
    zk.network.lose_answers_after(LARGE);
    for (args, bytes) in [
        (&["put", "service", "a", &large(100_000)][..], "100012 bytes"),
        (&["import", "-"], "service b: 2000012 bytes"),
        (&["import", "-", "--as-is"], "service b: 2000012 bytes"),
    ] {
        let told = refused(&remora, args, &document);
        assert!(
            told.contains(&format!("{bytes} are more than the 65536 a node may hold; shorten it")),
            "{told}"
        );
    }
    assert!(!zk.network.loses_answers(), "it was sent");
    assert_eq!(client.ls("/service"), Vec::<String>::new(), "something was written");
    weigh(&mut client, node, 2);
    until_weight(&remora, "user", 2, SOON);
    assert_same_session(&remora, &session);
    assert_eq!(remora.page("/registry")["reconnects"], 0);
}
