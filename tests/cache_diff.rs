//! `/cache/diff`: what the view holds beside what the registry holds now.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::distant::Distant;
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Peer, Remora, eventually, service};

const PAGE: &str = "/cache/diff";

/// `count` services in layout `flat`, each called once.
fn filled(zk: &ZooKeeper, peer: &Peer, count: usize) -> (Remora, Kazoo) {
    let mut client = zk.client();
    for n in 0..count {
        client.create(&format!("/api/s{n}/get"), r#"{"path":"/user/get"}"#);
        client.create(&format!("/address/s{n}/{}", peer.address), "{}");
    }
    let remora = Remora::zookeeper(zk).start();
    for n in 0..count {
        assert_eq!(remora.get(&format!("/s{n}/get")).status, 200);
    }
    (remora, client)
}

fn ask(remora: &Remora) -> (u16, Value, Duration) {
    let start = Instant::now();
    let answer = remora.admin("GET", &format!("{PAGE}?format=json"));
    (answer.status, answer.json(), start.elapsed())
}

#[test]
fn the_view_of_many_services_equals_the_registry_also_right_after_a_change() {
    let zk = ZooKeeper::start();
    let peer = Peer::echo();
    let (remora, mut client) = filled(&zk, &peer, 45);
    client.put("/service/s7", "{broken");
    for n in 0..10 {
        client.set("/api/s3/get", &format!(r#"{{"path":"/user/get","description":"{n}"}}"#));
        client.rm("/address/s4");
        client.create(&format!("/address/s4/{}", peer.address), "{}");
        let (status, page, _) = ask(&remora);
        assert_eq!(status, 200, "{page}");
        let equal = json!({ "services": 45, "equal": 45, "differing": [], "unreadable": [] });
        assert_eq!(page, equal, "round {n}");
    }
    let text = remora.admin("GET", PAGE).text();
    assert!(text.contains("equal: 45\n") && text.contains("differing: none\n"), "{text}");
    assert_eq!(remora.admin("POST", PAGE).status, 405);
}

#[test]
fn where_nobody_can_be_asked_it_says_so_in_time() {
    let mut zk = ZooKeeper::start();
    let peer = Peer::echo();
    let (remora, _client) = filled(&zk, &peer, 2);
    zk.kill();
    let (status, page, took) = ask(&remora);
    assert_eq!(status, 503, "{page}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(page["problem"].as_str().unwrap().contains("can't be asked"), "{page}");
    assert_eq!((&page["services"], &page["equal"], &page["differing"]), (&json!(2), &json!(0), &json!([])));
    assert_eq!(page["unreadable"][0]["service"], "s0", "{page}");
    assert!(remora.admin("GET", PAGE).text().contains("problem: the registry can't be asked"));
    assert_eq!(remora.get("/s0/get").status, 200, "calls go on");
    zk.restart();
    eventually("equal again", Duration::from_secs(20), || ask(&remora).1["equal"] == json!(2));
}

#[test]
fn a_registry_that_hangs_does_not_hang_the_page() {
    let zk = ZooKeeper::start();
    let peer = Peer::echo();
    let (remora, _client) = filled(&zk, &peer, 2);
    zk.pause();
    let (status, page, took) = ask(&remora);
    zk.resume();
    assert_eq!(status, 503, "{page}");
    assert_eq!(page["unreadable"].as_array().unwrap().len(), 2, "{page}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

/// The request by which a server is asked to know all that was written before: its number, and `/`.
const CATCH_UP: &[u8] = b"\0\0\0\x09\0\0\0\x01/";

#[test]
fn a_server_that_lags_must_catch_up_before_anything_is_called_equal() {
    let zk = Distant::start();
    let mut client = zk.client();
    client.create("/api/user/get", "{}");
    let remora = Remora::distant(&zk).start();
    remora.get("/user/get");
    assert_eq!(ask(&remora).1["equal"], 1);
    zk.network.lose_answers_after(CATCH_UP);
    let (status, page, took) = ask(&remora);
    assert!(zk.network.loses_answers(), "it was not asked to: {page}");
    assert_eq!((status, &page["equal"]), (503, &json!(0)), "{page}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn the_embedded_registry_is_compared_too() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("user", &[("get", "{}")], &[&peer.address])).start();
    assert_eq!(ask(&remora).1["services"], 0, "nothing was called yet");
    remora.get("/user/get");
    let (status, page, _) = ask(&remora);
    assert_eq!((status, &page["equal"]), (200, &json!(1)), "{page}");
}
