//! The own provider where answers are lost and sessions outlive their process: there, once, all the while.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::distant::Distant;
use support::remora::Setup;
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Peer, Remora, eventually, eventually_some};

const SOON: Duration = Duration::from_secs(20);
/// The longest session of ten seconds, a reconnect, and a busy machine.
const LATER: Duration = Duration::from_secs(60);
/// What only a request that writes the own node holds.
const WRITES: &[u8] = br#"{"weight":50}"#;

/// In a session of four seconds.
fn beside(connect: &str, app: &Peer) -> Setup {
    Remora::zookeeper_with(connect, "").with(&providers(app))
}

fn providers(app: &Peer) -> String {
    format!("providers: [ {{ service: user, address: \"{}\", weight: 50 }} ]", app.address)
}

fn path(app: &Peer) -> String {
    format!("/address/user/{}", app.address)
}

/// Which node it is, and whose.
fn node(client: &mut Kazoo, path: &str) -> Option<(Value, String)> {
    let node = client.get(path)?;
    Some((node["czxid"].clone(), node["owner"].as_str()?.to_owned()))
}

fn session(remora: &Remora) -> Option<String> {
    remora.page("/registry")["session"].as_str().map(str::to_owned)
}

/// The provider stands once, remora knows it for its own, and it belongs to the session that lives.
fn until_owned(remora: &Remora, client: &mut Kazoo, path: &str) -> (Value, String) {
    eventually_some("registered by the session that lives", LATER, || {
        let own = remora.page("/registry")["own"][0]["registered"] == true;
        let found = node(client, path).filter(|(_, owner)| session(remora).as_ref() == Some(owner))?;
        own.then_some(found)
    })
}

/// Nobody saw the node missing, with all that was sent before this call.
fn assert_never_missing(observer: &mut Kazoo, takeovers: usize) {
    let deleted = |seen: &Value| {
        let events = seen["events"].as_array().unwrap();
        events.iter().filter(|event| **event == "DELETED").count()
    };
    eventually("the observer heard of it", SOON, || deleted(&observer.observed()) >= takeovers);
    let seen = observer.observed();
    assert!(seen["looks"].as_u64().unwrap() > takeovers as u64, "{seen}");
    assert_eq!(seen["missing"], 0, "{seen}");
}

#[test]
fn a_create_whose_answer_is_lost_registers_once() {
    let zk = Distant::start();
    let (mut client, mut observer) = (zk.client(), zk.client());
    let app = Peer::named("app");
    let path = path(&app);
    // where its parent is missing the first create does nothing
    client.put("/address/user", "");
    zk.network.lose_answers_after(WRITES);
    let remora = Remora::distant(&zk).with(&providers(&app)).unready().start();
    eventually("the server made the node", SOON, || client.get(&path).is_some());
    assert!(zk.network.loses_answers(), "remora heard of it");
    assert_eq!(remora.page("/registry")["own"][0]["registered"], false);
    let first = node(&mut client, &path).unwrap();
    observer.observe(&path);
    // the connection breaks, and the next ones hear nothing
    eventually("remora gives it up", LATER, || session(&remora).is_none());
    zk.network.heal();
    let held = until_owned(&remora, &mut client, &path);
    assert_eq!(held, first, "the session lives on, and its node with it");
    assert_eq!(client.ls("/address/user"), [app.address.as_str()]);
    assert_eq!(observer.observed()["events"], json!([]), "it flapped");
    assert_never_missing(&mut observer, 0);
}

#[test]
fn a_create_whose_answer_and_session_are_lost_is_made_again() {
    let zk = Distant::start();
    let mut client = zk.client();
    let app = Peer::named("app");
    let path = path(&app);
    // where its parent is missing the first create does nothing
    client.put("/address/user", "");
    zk.network.lose_answers_after(WRITES);
    let remora = beside(&zk.connect, &app).unready().start();
    eventually("the server made the node", SOON, || client.get(&path).is_some());
    let old = client.owner(&path).unwrap();
    zk.network.cut();
    eventually("the old session is over", LATER, || !zk.server.knows_session(&old));
    zk.network.heal();
    let (_, new) = until_owned(&remora, &mut client, &path);
    assert_ne!(new, old);
    assert_eq!(client.ls("/address/user"), [app.address.as_str()]);
}

#[test]
fn a_takeover_whose_answer_is_lost_outlives_the_old_session() {
    let zk = Distant::start();
    let (mut client, mut observer) = (zk.client(), zk.client());
    let app = Peer::named("app");
    let path = path(&app);
    let mut first = beside(&zk.connect, &app).start();
    let (_, old) = until_owned(&first, &mut client, &path);
    observer.observe(&path);
    first.kill();
    zk.network.lose_answers_after(WRITES);
    let second = Remora::distant(&zk).with(&providers(&app)).unready().start();
    let taken = eventually_some("the server has it taken over", SOON, || {
        node(&mut client, &path).filter(|(_, owner)| *owner != old)
    });
    assert!(zk.network.loses_answers(), "remora heard of it");
    eventually("remora gives it up", LATER, || session(&second).is_none());
    zk.network.heal();
    assert_eq!(until_owned(&second, &mut client, &path), taken);
    eventually("the old session is over", LATER, || !zk.server.knows_session(&old));
    assert_eq!(node(&mut client, &path), Some(taken), "it went with the old session");
    assert_never_missing(&mut observer, 1);
}

#[test]
fn nobody_sees_a_provider_missing_while_its_stale_node_is_taken_over() {
    const PROCESSES: usize = 4;
    let zk = ZooKeeper::start();
    let (mut client, mut observer) = (zk.client(), zk.client());
    let app = Peer::named("app");
    let path = path(&app);
    let mut running = beside(&zk.connect, &app).start();
    let mut sessions = vec![until_owned(&running, &mut client, &path).1];
    observer.observe(&path);
    for _ in 0..PROCESSES {
        running.kill();
        running = beside(&zk.connect, &app).start();
        sessions.push(until_owned(&running, &mut client, &path).1);
    }
    let last = node(&mut client, &path);
    let (living, old) = sessions.split_last().unwrap();
    eventually("the old sessions are over", LATER, || !old.iter().any(|old| zk.knows_session(old)));
    assert_eq!(node(&mut client, &path), last);
    assert!(last.is_some_and(|(_, owner)| owner == *living));
    assert_never_missing(&mut observer, PROCESSES);
}

#[test]
fn nobody_sees_a_provider_missing_while_a_newer_process_takes_it_and_the_older_leaves() {
    let zk = ZooKeeper::start();
    let (mut client, mut observer) = (zk.client(), zk.client());
    let app = Peer::named("app");
    let path = path(&app);
    let mut first = beside(&zk.connect, &app).start();
    let (_, old) = until_owned(&first, &mut client, &path);
    observer.observe(&path);
    let second = beside(&zk.connect, &app).start();
    let taken = until_owned(&second, &mut client, &path);
    assert_eq!(first.terminate(), 0);
    eventually("the old session is over", LATER, || !zk.knows_session(&old));
    assert_eq!(node(&mut client, &path), Some(taken));
    assert_never_missing(&mut observer, 1);
}
