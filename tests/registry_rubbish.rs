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
    remora.until_status("/user/get", 200, LATER);
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
    // all that ZooKeeper takes, and one byte more than a node may hold
    let (big, bigger) = ("20".repeat((64 << 10) + 1), "20".repeat(1_048_000));
    for (path, data) in [
        ("/address/user/10.0.0.1:80", "ff00fe"),
        ("/address/user/10.0.0.2:80", bigger.as_str()),
        ("/address/user/10.0.0.4:80", big.as_str()),
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
    assert_eq!(remora.page("/registry")["reconnects"], 0);
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
fn names_of_thirty_thousand_bytes_cost_no_connection_and_can_be_removed() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peer = Peer::echo();
    let remora = sidecar(&zk, &mut client, &peer);
    assert_eq!(remora.get("/user/get").status, 200);
    for n in 0..60 {
        client.create(&format!("/address/user/{n:0>30000}"), "{}");
    }
    client.create("/address/user/10.0.0.9:80", "{}");
    eventually("the provider behind them is known", LATER, || providers(&remora) == 2);
    let page = remora.page("/registry");
    assert_eq!((&page["reconnects"], &page["problems"]), (&json!(0), &json!([])), "{page}");
    let config = remora.config.display().to_string();
    let args = ["registry", "--config", &config, "rm", "--all", "service", "user"];
    let removed = support::remora::remora(&args);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(client.ls("/address"), Vec::<String>::new());
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

/// What a thousand writes a second to `path`, for some seconds, make of the sidecar: requests a second.
fn under_writes(remora: &Remora, client: &mut Kazoo, path: &str) -> f64 {
    let operations = || remora.page("/registry")["operations"].as_u64().unwrap();
    let (asked, used) = (operations(), remora.processor_time());
    let seconds = client.rewrite(path, 3000, 3);
    let (asked, used) = (operations() - asked, remora.processor_time() - used);
    let processor = 100.0 * used.as_secs_f64() / seconds;
    println!("{path}: {asked} requests in {seconds:.1} s, {processor:.1} % of a processor");
    asked as f64 / seconds
}

#[test]
fn a_node_that_is_written_all_the_time_is_read_now_and_then() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peer = Peer::echo();
    let remora = sidecar(&zk, &mut client, &peer);
    let path = format!("/address/user/{}", peer.address);
    let asked = under_writes(&remora, &mut client, &path);
    assert!(asked < 50.0, "{asked} requests a second");
    client.put(&path, r#"{"weight":777}"#);
    let weight = || remora.page("/services/user")["providers"][0]["weight"].as_u64();
    eventually("the last word holds", SOON, || weight() == Some(777));
}

#[test]
fn an_own_node_that_others_write_all_the_time_is_put_right_now_and_then() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peer = Peer::echo();
    let own = format!("providers: [ {{ service: user, address: \"{}\", weight: 50 }} ]", peer.address);
    let remora = Remora::zookeeper(&zk).with(&own).start();
    let path = format!("/address/user/{}", peer.address);
    eventually("registered", SOON, || client.get(&path).is_some());
    let asked = under_writes(&remora, &mut client, &path);
    assert!(asked < 150.0, "{asked} requests a second");
    eventually("put right", SOON, || client.data(&path).is_some_and(|data| data["weight"] == 50));
    // nor is one that another process has
    let mut other = zk.client();
    other.take(&path, "{}");
    let asked = under_writes(&remora, &mut client, &path);
    assert!(asked < 150.0, "{asked} requests a second");
    drop(other);
    eventually("its own again", SOON, || remora.page("/registry")["own"][0]["registered"] == true);
}
