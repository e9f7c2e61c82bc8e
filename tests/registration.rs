//! Providers of this host in the registry: there while healthy, gone before the drain, never lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use support::distant::Distant;
use support::http::request;
use support::peer::{answer, ok_json};
use support::remora::Setup;
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Conn, Peer, Remora, Request, eventually};

/// Two green checks of half a second, and a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// The session of four seconds, a reconnect, and a busy machine.
const LATER: Duration = Duration::from_secs(25);

/// An app with a health page that a test can turn red.
struct App {
    peer: Peer,
    green: Arc<AtomicBool>,
}

impl App {
    fn new(green: bool) -> App {
        let green = Arc::new(AtomicBool::new(green));
        let state = green.clone();
        let peer = Peer::http(move |request| match (request.target.as_str(), state.load(Ordering::SeqCst)) {
            ("/health", false) => answer(503, &[], b"not yet"),
            ("/health", true) => answer(200, &[], b"ok"),
            _ => ok_json(&json!({"peer": "app"})),
        });
        App { peer, green }
    }

    fn turn(&self, green: bool) {
        self.green.store(green, Ordering::SeqCst);
    }

    fn flat_path(&self) -> String {
        format!("/address/user/{}", self.peer.address)
    }

    /// The sidecar that registers this app as a provider of `user`.
    fn beside(&self, zk: &ZooKeeper) -> Setup {
        self.at(Remora::zookeeper(zk))
    }

    fn at(&self, remora: Setup) -> Setup {
        remora.with(&self.providers("user"))
    }

    fn providers(&self, service: &str) -> String {
        format!(
            "host: {{ name: web-17, idc: bj1 }}\n\
             providers:\n  - {{ service: {service}, address: \"{}\", weight: 50, \
             health: {{ http: /health, interval: 500ms }} }}\n",
            self.peer.address
        )
    }
}

fn there(client: &mut Kazoo, path: &str) {
    eventually(&format!("{path} is there"), SOON, || client.get(path).is_some());
}

fn gone(client: &mut Kazoo, path: &str) {
    eventually(&format!("{path} is gone"), SOON, || client.get(path).is_none());
}

#[test]
fn a_provider_is_registered_once_its_check_is_green_and_leaves_on_red() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(false);
    let path = app.flat_path();
    let _remora = app.beside(&zk).start();
    eventually("the check asks", SOON, || app.peer.calls() >= 3);
    assert!(client.get(&path).is_none(), "registered while red");
    app.turn(true);
    there(&mut client, &path);
    assert!(client.owner(&path).is_some(), "not ephemeral");
    let data = client.data(&path).expect("its data is JSON");
    assert_eq!((&data["weight"], &data["idc"]), (&json!(50), &json!("bj1")), "{data}");
    app.turn(false);
    gone(&mut client, &path);
    app.turn(true);
    there(&mut client, &path);
}

#[test]
fn the_tree_layout_registers_below_the_service_of_the_category() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(true);
    let mut remora =
        Remora::zookeeper(&zk).layout("tree", "/dada").with(&app.providers("category1/helloworld")).start();
    let path = format!("/dada/services/category1/helloworld/providers/{}", app.peer.address);
    there(&mut client, &path);
    assert!(client.owner(&path).is_some());
    assert_eq!(remora.terminate(), 0);
    assert!(client.get(&path).is_none());
    assert!(
        client.get("/dada/services/category1/helloworld").is_some(),
        "what others may have written stays"
    );
}

#[test]
fn another_sidecar_calls_what_this_one_registered() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    client.create("/api/user/get", r#"{"path":"/get","encoding":"json"}"#);
    let caller = Remora::zookeeper(&zk).start();
    assert_ne!(caller.get("/user/get").status, 200);
    let app = App::new(true);
    let mut beside = app.beside(&zk).start();
    caller.until_status("/user/get", 200, SOON);
    assert_eq!(beside.terminate(), 0);
    caller.until_status("/user/get", 503, SOON);
}

#[test]
fn without_a_check_a_provider_is_registered_at_once() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = Peer::named("app");
    let _remora = Remora::zookeeper(&zk)
        .with(&format!("providers: [ {{ service: user, address: \"{}\" }} ]", app.address))
        .start();
    there(&mut client, &format!("/address/user/{}", app.address));
}

#[test]
fn on_sigterm_providers_leave_first_and_calls_in_flight_are_answered() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(true);
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let slow = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = Request::read(&mut conn);
        let _ = wait.lock().unwrap().recv();
        let _ = conn.send(answer(200, &[], b"late but whole"));
    });
    client.create("/api/slow/x", r#"{"path":"/x","encoding":"json"}"#);
    client.create(&format!("/address/slow/{}", slow.address), "{}");
    let mut remora = app.beside(&zk).start();
    there(&mut client, &app.flat_path());
    let mut conn = remora.conn();
    conn.send(request("GET", "/slow/x", &[], b"")).unwrap();
    eventually("the call is in flight", SOON, || slow.connections() == 1);

    remora.signal("TERM");
    // Well before the call's own timeout of 4.5 s.
    eventually("the node leaves", Duration::from_secs(2), || client.get(&app.flat_path()).is_none());
    assert_eq!(remora.wait(Duration::ZERO), None, "ended with a call in flight");
    go.send(()).unwrap();
    assert_eq!(conn.answer().unwrap().text(), "late but whole");
    assert_eq!(remora.wait(Duration::from_secs(10)), Some(0), "{}", remora.log());
}

/// A sidecar that registered this app through a network that is cut now, told to end.
fn told_to_end_while_cut_off(zk: &Distant, app: &Peer, more: &str) -> Remora {
    let providers = format!("providers: [ {{ service: user, address: \"{}\" }} ]\n{more}", app.address);
    let remora = Remora::distant(zk).with(&providers).start();
    there(&mut zk.client(), &format!("/address/user/{}", app.address));
    zk.network.cut();
    eventually("the cut is noticed", SOON, || remora.page("/registry")["connected"] == false);
    remora.signal("TERM");
    remora
}

#[test]
fn a_provider_that_could_not_leave_leaves_once_zookeeper_is_back() {
    let (zk, app) = (Distant::start(), Peer::named("app"));
    let mut remora = told_to_end_while_cut_off(&zk, &app, "drain: 60s");
    eventually("it tries", SOON, || remora.log().contains("can't leave the registry yet"));
    zk.network.heal();
    let (mut client, path) = (zk.client(), format!("/address/user/{}", app.address));
    gone(&mut client, &path);
    assert_eq!(remora.wait(SOON), Some(0), "{}", remora.log());
    assert!(!remora.log().contains("did not leave"), "{}", remora.log());
}

#[test]
fn a_provider_that_stays_behind_is_named_and_holds_the_end_for_half_the_drain() {
    let (zk, app) = (Distant::start(), Peer::named("app"));
    let mut remora = told_to_end_while_cut_off(&zk, &app, "drain: 2s");
    assert_eq!(remora.wait(SOON), Some(0), "{}", remora.log());
    let log = remora.log();
    let told = log.lines().find(|line| line.contains("did not leave the registry")).expect(&log);
    assert!(told.contains(&format!("/address/user/{}", app.address)), "{told}");
}

#[test]
fn what_was_never_registered_holds_no_end() {
    let (zk, app) = (Distant::absent(), Peer::named("app"));
    let providers = format!("providers: [ {{ service: user, address: \"{}\" }} ]\ndrain: 60s", app.address);
    let mut remora = Remora::distant(&zk).with(&providers).unready().start();
    assert_eq!(remora.terminate(), 0);
    assert!(!remora.log().contains("leave the registry yet"), "{}", remora.log());
}

#[test]
fn the_drain_has_an_end() {
    let stuck = Peer::silent();
    let entries = support::service_with(
        "user",
        "policy: { timeout: 60s }",
        &[("x", "{ path: /x, encoding: json }")],
        &[&stuck.address],
    );
    let mut remora = Remora::embedded(&entries).with("drain: 1s").start();
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    eventually("the call is in flight", SOON, || stuck.calls() == 1);
    remora.signal("TERM");
    assert_eq!(remora.wait(Duration::from_secs(6)), Some(0), "drains for ever: {}", remora.log());
}

#[test]
fn calls_that_were_sent_before_sigterm_are_answered() {
    let peer = Peer::echo();
    let entries = support::service("user", &[("x", "{ path: /x, encoding: json }")], &[&peer.address]);
    let mut remora = Remora::embedded(&entries).start();
    let mut calls: Vec<_> = (0..20).map(|_| remora.conn()).collect();
    for call in &mut calls {
        call.send(request("GET", "/user/x", &[], b"")).unwrap();
    }
    remora.signal("TERM");
    for call in &mut calls {
        assert_eq!(call.answer().unwrap().status, 200);
    }
    assert_eq!(remora.wait(Duration::from_secs(6)), Some(0), "{}", remora.log());
}

#[test]
fn an_idle_connection_does_not_hold_the_drain() {
    let peer = Peer::echo();
    let entries = support::service("user", &[("x", "{ path: /x, encoding: json }")], &[&peer.address]);
    let mut remora = Remora::embedded(&entries).start();
    let mut idle = remora.conn();
    assert_eq!(idle.request("GET", "/user/x", &[], b"").unwrap().status, 200);
    remora.signal("TERM");
    assert_eq!(remora.wait(Duration::from_secs(5)), Some(0), "{}", remora.log());
    assert!(idle.is_closed());
}

#[test]
fn a_node_that_somebody_removed_comes_back() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(true);
    let path = app.flat_path();
    let _remora = app.beside(&zk).start();
    there(&mut client, &path);
    client.rm(&path);
    there(&mut client, &path);
    assert!(client.owner(&path).is_some());
}

#[test]
fn a_lost_session_loses_the_node_only_until_the_program_runs_again() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(true);
    let path = app.flat_path();
    let remora = app.beside(&zk).start();
    there(&mut client, &path);
    let old = client.owner(&path).unwrap();
    remora.signal("STOP");
    eventually("the session expires", LATER, || client.get(&path).is_none());
    remora.signal("CONT");
    eventually("the node is back", LATER, || client.get(&path).is_some());
    assert_ne!(client.owner(&path).unwrap(), old);
}

#[test]
fn a_restart_of_zookeeper_keeps_the_provider() {
    let mut zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(true);
    let path = app.flat_path();
    let remora = app.beside(&zk).start();
    there(&mut client, &path);
    zk.restart();
    eventually("remora is connected again", LATER, || {
        client.owner(&path).is_some_and(|owner| zk.ask("cons").contains(&owner))
    });
    assert!(client.get(&path).is_some(), "gone although the session was kept");
    drop(remora);
}

#[test]
fn on_sigusr2_the_node_stays_until_the_next_process_has_it() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(true);
    let path = app.flat_path();
    let mut first = app.beside(&zk).start();
    there(&mut client, &path);
    let old = client.owner(&path).unwrap();
    first.signal("USR2");
    assert_eq!(first.wait(SOON), Some(0), "{}", first.log());
    assert_eq!(client.owner(&path), Some(old.clone()), "left with the process: {}", first.log());
    let _second = app.beside(&zk).start();
    eventually("a new owner", SOON, || {
        let owner = client.owner(&path);
        assert!(owner.is_some(), "nobody had it in between");
        owner != Some(old.clone())
    });
}

/// The node of a process that left it to the next, and its session.
fn left_behind(zk: &Distant, app: &App, health: &str) -> (Setup, String, String) {
    let providers = format!(
        "providers: [ {{ service: user, address: \"{}\", health: {{ http: /health, {health} }} }} ]",
        app.peer.address
    );
    let mut client = zk.client();
    let path = app.flat_path();
    let mut first = app.at(Remora::distant(zk)).start();
    there(&mut client, &path);
    let old = client.owner(&path).unwrap();
    first.signal("USR2");
    assert_eq!(first.wait(SOON), Some(0), "{}", first.log());
    (Remora::distant(zk).with(&providers), path, old)
}

#[test]
fn the_node_outlives_the_session_of_the_former_process_however_long_the_first_checks_take() {
    let (zk, app) = (Distant::start(), App::new(true));
    let (next, path, old) = left_behind(&zk, &app, "rise: 100");
    let mut client = zk.client();
    client.observe(&path);
    let second = next.start();
    eventually("the former session ends", LATER, || !zk.server.knows_session(&old));
    assert_eq!(client.observed()["missing"], 0, "{}", second.log());
    assert!(client.owner(&path).is_some_and(|owner| owner != old));
    assert!(!second.log().contains("provider is healthy"), "{}", second.log());
}

#[test]
fn what_a_former_process_left_goes_with_the_first_red_checks() {
    let (zk, app) = (Distant::start(), App::new(true));
    let (next, path, old) = left_behind(&zk, &app, "fall: 2");
    app.turn(false);
    let second = next.start();
    gone(&mut zk.client(), &path);
    assert!(zk.server.knows_session(&old), "only with the former session: {}", second.log());
}

#[test]
fn a_node_that_a_living_session_took_stays_its_until_it_ends() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(true);
    let path = app.flat_path();
    let remora = app.beside(&zk).start();
    there(&mut client, &path);
    let mut other = zk.client();
    other.take(&path, "{}");
    let session = other.session();
    let noted = |page: &Value| {
        let own = &page["own"][0];
        own["path"] == path.as_str()
            && own["registered"] == false
            && own["note"].as_str().is_some_and(|note| note.contains("another process registered"))
    };
    eventually("the note is shown", SOON, || noted(&remora.page("/registry")));
    // Every write wakes remora; it looks, and leaves the node alone.
    for n in 0..5 {
        let before = remora.page("/registry")["operations"].as_u64();
        other.set(&path, &format!("{{\"weight\":{n}}}"));
        eventually("remora looks again", SOON, || remora.page("/registry")["operations"].as_u64() > before);
        assert_eq!(client.owner(&path).as_ref(), Some(&session));
    }
    assert!(noted(&remora.page("/registry")), "{}", remora.page("/registry"));
    drop(other);
    eventually("remora's node is back", SOON, || client.owner(&path).is_some_and(|owner| owner != session));
    assert_eq!(client.data(&path).unwrap()["weight"], 50);
    eventually("the note is gone", SOON, || {
        let page = remora.page("/registry");
        page["own"][0]["registered"] == true && page["own"][0]["note"].is_null()
    });
}

#[test]
fn a_provider_whose_sidecar_was_killed_is_gone_after_the_session() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let app = App::new(true);
    let path = app.flat_path();
    let mut remora = app.beside(&zk).start();
    there(&mut client, &path);
    remora.kill();
    eventually("the node expires", LATER, || client.get(&path).is_none());
}

#[test]
fn a_registration_waits_for_zookeeper() {
    let mut zk = ZooKeeper::absent();
    let app = App::new(true);
    let _remora = app.beside(&zk).unready().start();
    zk.restart();
    let mut client = zk.client();
    eventually("registered", LATER, || client.get(&app.flat_path()).is_some());
}
