//! The same promises where ZooKeeper has no persistent watches, as before 3.6: each fires once.
//!
//! `.ci/run` runs the other tests of the registry against such servers too, `.ci/long` against 3.4.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::distant::Distant;
use support::peer::ok_json;
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Peer, Remora, assert_problem, at, eventually};

const SOON: Duration = Duration::from_secs(10);
/// A real server that refuses persistent watches, as older ones do.
const ONE_SHOT: &str = "watchManagerName=org.apache.zookeeper.server.watch.WatchManagerOptimized\n";

struct World {
    remora: Remora,
    client: Kazoo,
    peers: [Peer; 2],
    zk: ZooKeeper,
}

impl World {
    fn new() -> World {
        let zk = ZooKeeper::with(ONE_SHOT);
        let mut client = zk.client();
        let peers = ["a", "b"].map(Peer::named);
        client.create("/api/user/get", "{}");
        client.create(&format!("/address/user/{}", peers[0].address), "{}");
        let remora = Remora::zookeeper(&zk).start();
        World { remora, client, peers, zk }
    }

    fn who(&self) -> Option<String> {
        let answer = self.remora.get("/user/get");
        (answer.status == 200).then(|| answer.json()["peer"].as_str().unwrap().to_owned())
    }

    fn provider(&self, n: usize) -> String {
        format!("/address/user/{}", self.peers[n].address)
    }

    fn set(&mut self, n: usize, state: &str) {
        let path = self.provider(n);
        self.client.put(&path, &json!({ "state": state }).to_string());
    }
}

#[test]
fn a_server_without_persistent_watches_is_found_out() {
    let world = World::new();
    eventually("the view", SOON, || world.who().as_deref() == Some("a"));
    assert_eq!(at(&world.remora.page("/registry"), "/one_shot"), &json!(true));
}

#[test]
fn the_tenth_change_of_a_node_is_noticed_like_the_first() {
    let mut world = World::new();
    eventually("the view", SOON, || world.who().is_some());
    world.set(1, "off");
    for _ in 0..5 {
        world.set(0, "off");
        world.set(1, "on");
        eventually("b alone", SOON, || world.who().as_deref() == Some("b"));
        world.set(0, "on");
        world.set(1, "off");
        eventually("a alone", SOON, || world.who().as_deref() == Some("a"));
    }
}

#[test]
fn what_was_never_there_is_noticed_when_it_comes_goes_and_comes_again() {
    let mut world = World::new();
    eventually("the view", SOON, || world.who().is_some());
    for _ in 0..3 {
        world.client.create("/service/user", r#"{"state":"off"}"#);
        eventually("off", SOON, || world.remora.get("/user/get").status == 503);
        assert_problem(&world.remora.get("/user/get"), "service-off", 503);
        world.client.rm("/service/user");
        eventually("on", SOON, || world.who().is_some());
    }
}

#[test]
fn the_last_provider_that_leaves_with_its_parent_is_noticed_and_its_return_too() {
    let mut world = World::new();
    for _ in 0..3 {
        eventually("a provider", SOON, || world.who().is_some());
        world.client.rm("/address/user");
        eventually("none", SOON, || world.remora.get("/user/get").status == 503);
        let path = world.provider(0);
        world.client.create(&path, "{}");
    }
}

#[test]
fn changes_during_an_outage_and_after_it_are_noticed() {
    let mut world = World::new();
    eventually("the view", SOON, || world.who().as_deref() == Some("a"));
    for (off, on, name) in [(0, 1, "b"), (1, 0, "a")] {
        world.zk.restart();
        world.client = world.zk.client();
        world.set(on, "on");
        world.set(off, "off");
        eventually("the other", SOON, || world.who().as_deref() == Some(name));
        world.set(on, "off");
        eventually("none", SOON, || world.remora.get("/user/get").status == 503);
        world.set(on, "on");
        eventually("on again", SOON, || world.who().as_deref() == Some(name));
    }
}

#[test]
fn an_own_node_that_somebody_removes_comes_back_every_time() {
    let mut world = World::new();
    let app = Peer::http(|_| ok_json(&json!({})));
    let own = format!("providers: [ {{ service: shop, address: \"{}\" }} ]", app.address);
    let _beside = Remora::zookeeper(&world.zk).with(&own).start();
    let path = format!("/address/shop/{}", app.address);
    for _ in 0..3 {
        eventually("registered", SOON, || world.client.get(&path).is_some());
        world.client.rm(&path);
    }
    eventually("registered", SOON, || world.client.get(&path).is_some());
}

const OWN: &str = "/address/shop/10.0.0.1:80";
/// The end of a read of it that sets a watch, and the request that takes one back.
const WATCHES: &[u8] = b"\0\0\0\x19/address/shop/10.0.0.1:80\x01";
const TAKES_BACK: &[u8] = b"\0\0\0\x12\0\0\0\x19/address/shop/10.0.0.1:80";

#[test]
fn a_watch_whose_answer_comes_late_counts_and_is_not_taken_back() {
    let zk = Distant::with(&format!("{ONE_SHOT}maxSessionTimeout=60000\n"));
    let (mut client, mut former) = (zk.client(), zk.client());
    former.ephemeral(OWN, "{}");
    zk.network.stall_after(WATCHES);
    // the library gives a silent connection up after two fifths of it
    let remora = Remora::through(&zk.connect, "60s")
        .with("providers: [ { service: shop, address: \"10.0.0.1:80\" } ]")
        .start();
    eventually("the answer waits", SOON, || zk.network.stalls());
    let note = || remora.page("/registry")["own"][0]["note"].to_string();
    eventually("it is no longer waited for", SOON, || note().contains("did not answer within"));
    zk.network.heal_until(TAKES_BACK);
    for _ in 0..3 {
        eventually("registered", SOON, || {
            client.owner(OWN).is_some_and(|owner| owner == remora.page("/registry")["session"])
        });
        client.rm(OWN);
    }
    assert!(!zk.network.loses_answers(), "a watch was taken back");
    assert_eq!(remora.page("/registry")["reconnects"], 0);
}
