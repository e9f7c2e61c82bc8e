//! Connections to ZooKeeper that break often, servers that stay silent, are slow, or are no ZooKeeper.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::distant::Distant;
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Conn, Remora, eventually};

/// A change on its way into the view.
const SOON: Duration = Duration::from_secs(20);
/// Reconnects, reads spread over a while, and a busy machine.
const LATER: Duration = Duration::from_secs(60);

fn weigh(client: &mut Kazoo, path: &str, weight: usize) {
    client.put(path, &json!({"weight": weight}).to_string());
}

/// The weight of the service's only provider, as the view has it.
fn until_weight(remora: &Remora, service: &str, wanted: usize, within: Duration) {
    let seen = || {
        let page = remora.admin("GET", &format!("/services/{service}?format=json"));
        (page.status == 200).then(|| page.json()["providers"][0]["weight"].as_u64())?
    };
    eventually(&format!("{service} has weight {wanted}"), within, || seen() == Some(wanted as u64));
}

fn session(remora: &Remora) -> Value {
    let page = remora.page("/registry");
    assert!(page["session"].is_string(), "{page}");
    page["session"].clone()
}

/// The session has lived all the while, and nothing else is wrong.
fn assert_same_session(remora: &Remora, session: &Value) {
    let page = remora.page("/registry");
    assert_eq!((&page["session"], &page["sessions"]), (session, &json!(1)), "{page}");
    assert_eq!(page["problems"], json!([]), "{page}");
}

#[test]
fn reconnects_with_many_services_use_up_nothing_that_the_next_one_needs() {
    const MANY: usize = 600;
    let zk = Distant::start();
    let mut client = zk.client();
    let node = |n| format!("/address/user-{n}/10.0.0.1:80");
    client.many(&(0..MANY).map(|n| json!(["put", node(n), r#"{"weight":1}"#])).collect::<Vec<_>>());
    let remora = Remora::distant(&zk).start();
    let mut conn = Conn::open(&remora.admin);
    for n in 0..MANY {
        let target = format!("/services/user-{n}");
        assert_eq!(conn.request("GET", &target, &[("Host", "localhost")], b"").unwrap().status, 200, "{n}");
    }
    let watched = |paths: usize| remora.page("/registry")["watched_paths"] == paths;
    eventually("each service is watched by itself", SOON, || watched(4 * MANY));
    let session = session(&remora);
    for round in 1..=10 {
        zk.network.reset();
        eventually("cut off", LATER, || remora.page("/registry")["connected"] == false);
        weigh(&mut client, &node(MANY - 1), 10 * round);
        zk.network.heal();
        eventually("connected", LATER, || remora.page("/registry")["connected"] == true);
    }
    until_weight(&remora, &format!("user-{}", MANY - 1), 100, SOON);
    eventually("all are watched again", SOON, || watched(4 * MANY));
    weigh(&mut client, &node(0), 7);
    until_weight(&remora, "user-0", 7, SOON);
    assert_same_session(&remora, &session);
}

#[test]
fn a_session_outlasts_servers_that_take_connections_and_stay_silent() {
    let silent: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let zk = Distant::start();
    let mut client = zk.client();
    let node = "/address/user/10.0.0.1:80";
    weigh(&mut client, node, 1);
    let addresses: Vec<_> = silent.iter().map(|server| server.local_addr().unwrap().to_string()).collect();
    let connect = format!("{},{}", addresses.join(","), zk.connect);
    let remora = Remora::through(&connect, "10s").start();
    until_weight(&remora, "user", 1, SOON);
    let session = session(&remora);
    for round in 2..5 {
        zk.network.reset();
        zk.network.heal();
        weigh(&mut client, node, round);
        until_weight(&remora, "user", round, LATER);
        assert_same_session(&remora, &session);
    }
}

/// Answers everybody that their session is over, as ZooKeeper would one that was given to it.
fn impostor() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            // version, timeout and id are 0; a password of 16 bytes
            let mut answer = [0; 40];
            answer[3] = 36;
            answer[23] = 16;
            let _ = stream.read(&mut [0; 256]).and_then(|_| stream.write_all(&answer));
        }
    });
    (address, asked)
}

#[test]
fn a_server_that_gives_no_session_is_told_and_asked_no_more_often_than_one_that_is_down() {
    let (address, asked) = impostor();
    let remora = Remora::through(&address, "10s").unready().start();
    let told = || remora.page("/registry")["problems"].to_string();
    eventually("it is told", SOON, || told().contains("answers a new session with none"));
    let so_far = asked.load(Ordering::Relaxed);
    eventually("it is asked again", SOON, || asked.load(Ordering::Relaxed) > so_far + 2);
    assert!(!remora.log().contains("registry session expired"), "{}", remora.log());

    let zk = ZooKeeper::start();
    weigh(&mut zk.client(), "/address/user/10.0.0.1:80", 5);
    let beside = Remora::through(&format!("{address},{}", zk.connect), "10s").start();
    until_weight(&beside, "user", 5, SOON);
}
