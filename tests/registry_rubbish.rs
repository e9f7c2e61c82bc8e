//! Rubbish and floods in ZooKeeper: the view stays right, memory and work bounded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Peer, Remora, eventually};

const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(60);

fn sidecar(zk: &ZooKeeper, client: &mut Kazoo, peer: &Peer) -> Remora {
    client.create("/service/user", "{}");
    client.create("/api/user/get", r#"{"path":"/get"}"#);
    client.create(&format!("/address/user/{}", peer.address), "{}");
    let remora = Remora::zookeeper(zk).start();
    assert_eq!(remora.get("/user/get").status, 200);
    remora
}

fn providers(remora: &Remora) -> usize {
    remora.page("/services")["services"]["user"]["providers"].as_u64().unwrap_or(0) as usize
}

#[test]
fn nodes_that_make_no_sense_are_skipped_shown_and_take_nobody_down() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peer = Peer::echo();
    let remora = sidecar(&zk, &mut client, &peer);
    let before = remora.peak_memory();
    let big = "20".repeat(1_000_000);
    for (path, data) in [
        ("/address/user/10.0.0.1:80", "ff00fe"),
        ("/address/user/10.0.0.2:80", big.as_str()),
        ("/address/user/10.0.0.3%2F80", "7b7d"),
        ("/address/user/nowhere", "7b7d"),
        ("/api/user/a%2Fb", "7b7d"),
        ("/access/user/web", "ff"),
    ] {
        assert_eq!(client.ask(&json!(["raw", path, data]))["ok"], true, "{path}");
        let shown = || remora.page("/services/user")["skipped"].to_string();
        eventually(path, SOON, || shown().contains(path));
        assert_eq!(remora.get("/user/get").status, 200, "{path}");
    }
    let twice = r#"{"addresses":[{"address":"10.0.0.9:80","state":"off"},{"address":"10.0.0.9:80"}]}"#;
    client.put("/address/user", twice);
    eventually("once", SOON, || providers(&remora) == 2);
    let grown = remora.peak_memory() - before;
    assert!(grown < 32 << 20, "{} KiB", grown >> 10);
}

#[test]
fn a_provider_whose_name_does_not_resolve_is_left_for_the_next() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peer = Peer::echo();
    let remora = sidecar(&zk, &mut client, &peer);
    client.create("/address/user/no-such-host.invalid:80", "{}");
    eventually("both are known", SOON, || providers(&remora) == 2);
    for _ in 0..10 {
        assert_eq!(remora.get("/user/get").status, 200);
    }
}

#[test]
fn thousands_of_providers_are_read_and_one_more_is_noticed() {
    // .ci/long has 60,000
    let many: usize = std::env::var("MANY_PROVIDERS").map_or(10_000, |many| many.parse().unwrap());
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peer = Peer::echo();
    assert_eq!(client.ask(&json!(["children", "/address/user", many]))["ok"], true);
    client.create("/api/user/get", r#"{"path":"/get"}"#);
    client.put("/service/user", r#"{"policy":{"timeout":"60s"}}"#);
    let remora = Remora::zookeeper(&zk).with("defaults: { timeout: 60s }").start();
    remora.get("/user/none");
    eventually("all are read", LATER, || providers(&remora) == many);
    client.create(&format!("/address/user/{}", peer.address), "{}");
    eventually("and one more", LATER, || providers(&remora) == many + 1);
    let used = remora.peak_memory();
    assert!(used < 400 << 20, "{} KiB", used >> 10);
}

#[test]
fn a_node_that_is_written_all_the_time_is_read_now_and_then() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peer = Peer::echo();
    let remora = sidecar(&zk, &mut client, &peer);
    let operations = || remora.page("/registry")["operations"].as_u64().unwrap();
    let path = format!("/address/user/{}", peer.address);
    let before = operations();
    assert_eq!(client.ask(&json!(["rewrite", path, 5000]))["ok"], true);
    client.put(&path, r#"{"weight":777}"#);
    let weight = || remora.page("/services/user")["providers"][0]["weight"].as_u64();
    eventually("the last word holds", SOON, || weight() == Some(777));
    let asked = operations() - before;
    assert!(asked < 1000, "{asked} requests for 5000 writes");
}
