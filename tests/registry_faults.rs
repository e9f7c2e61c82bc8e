//! ZooKeeper wiped, gone at the start, losing most at once: what was known is served, and ends in ZooKeeper's state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Peer, Remora, assert_problem, eventually};

const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(25);

/// Refused only while a connection breaks.
fn trust(remora: &Remora) {
    eventually("it is trusted", LATER, || remora.admin("POST", "/registry/trust").status == 200);
}

fn fill(client: &mut Kazoo, peers: &[&Peer]) {
    client.create("/service/user", "{}");
    client.create("/api/user/get", r#"{"path":"/get"}"#);
    for peer in peers {
        client.create(&format!("/address/user/{}", peer.address), "{}");
    }
}

fn who(remora: &Remora) -> String {
    let answer = remora.get("/user/get");
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), remora.log());
    answer.json()["peer"].as_str().unwrap().to_owned()
}

fn problem(remora: &Remora, part: &str) -> bool {
    remora.page("/registry")["problems"].to_string().contains(part)
}

#[test]
fn a_wiped_ensemble_empties_no_view_until_somebody_says_that_it_is_right() {
    let mut zk = ZooKeeper::start();
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    let mut client = zk.client();
    fill(&mut client, &[&a]);
    let own_path = format!("/address/user/{}", b.address);
    let own = format!("providers: [{{ service: user, address: \"{}\" }}]", b.address);
    let remora = Remora::zookeeper(&zk).with(&own).start();
    who(&remora);
    let mark = "/cluster-id";
    eventually("the ensemble is marked", SOON, || client.get(mark).is_some());
    let known = client.get(mark).unwrap()["data"].as_str().unwrap().to_owned();
    eventually("registered", SOON, || client.get(&own_path).is_some());
    drop(client);

    zk.wipe();
    zk.restart();
    eventually("it is told", LATER, || problem(&remora, "lost its data"));
    assert_eq!(remora.page("/services/user")["providers"].as_array().unwrap().len(), 2);
    assert_eq!(remora.admin("GET", "/readyz").status, 200);
    who(&remora);
    let mut client = zk.client();
    assert_eq!(client.ls("/"), ["zookeeper"], "nothing is written to a stranger");

    // the old data comes back, with its mark
    fill(&mut client, &[&b]);
    client.create(mark, &known);
    eventually("it is believed again", LATER, || !problem(&remora, "cluster-id"));
    eventually("and what it says holds", LATER, || who(&remora) == "b");

    drop(client);
    zk.wipe();
    zk.restart();
    eventually("it is told again", LATER, || problem(&remora, "lost its data"));
    assert_eq!(remora.admin("GET", "/registry/trust").status, 405);
    trust(&remora);
    eventually("the new one holds", LATER, || remora.get("/user/get").status != 200);
    let mut client = zk.client();
    eventually("and is marked anew", LATER, || client.get(mark).is_some_and(|node| node["data"] != known));
    eventually("and has the own provider", LATER, || client.owner(&own_path).is_some());
}

/// It knew `provider` from an ensemble with a mark.
fn sidecar_whose_zookeeper_was_wiped(zk: &mut ZooKeeper, provider: &Peer) -> Remora {
    let mut client = zk.client();
    fill(&mut client, &[provider]);
    let remora = Remora::zookeeper(zk).start();
    who(&remora);
    eventually("the ensemble is marked", SOON, || client.get("/cluster-id").is_some());
    drop(client);
    zk.kill();
    zk.wipe();
    zk.restart();
    remora
}

#[test]
fn another_ensemble_in_its_place_is_not_believed() {
    let mut zk = ZooKeeper::start();
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    let remora = sidecar_whose_zookeeper_was_wiped(&mut zk, &a);
    let mut client = zk.client();
    client.create("/cluster-id", "somebody else's");
    fill(&mut client, &[&b]);
    eventually("it is told", LATER, || problem(&remora, "another one") || problem(&remora, "lost its data"));
    assert_eq!(who(&remora), "a");
}

#[test]
fn another_ensemble_that_hides_its_mark_is_not_believed() {
    let mut zk = ZooKeeper::start();
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    let remora = sidecar_whose_zookeeper_was_wiped(&mut zk, &a);
    let mut client = zk.client();
    fill(&mut client, &[&b]);
    client.create("/cluster-id", "somebody else's");
    client.readable("/cluster-id", false);
    eventually("it is told", LATER, || problem(&remora, "hides it"));
    assert_eq!(who(&remora), "a");
    trust(&remora);
    eventually("the new one holds", LATER, || who(&remora) == "b");
    eventually("that it can't be told from others is told", LATER, || problem(&remora, "let us read it"));
}

#[test]
fn without_the_right_to_make_the_mark_that_is_told_with_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("view.snapshot");
    let mut zk = ZooKeeper::start();
    let a = Peer::named("a");
    let mut client = zk.client();
    client.create(&format!("/prod/address/user/{}", a.address), "{}");
    client.create("/prod/api/user/get", "{}");
    client.writable("/prod", false);
    let remora = with_snapshot(&zk, &file).layout("flat", "/prod").start();
    assert_eq!(who(&remora), "a");
    eventually("it is told", LATER, || problem(&remora, "/prod/cluster-id: we may not make it"));
    assert!(problem(&remora, "registry.snapshot is not written"));
    client.writable("/prod", true);
    client.create("/prod/cluster-id", "by hand");
    drop(client);
    zk.restart();
    eventually("it is all right", LATER, || !problem(&remora, "cluster-id"));
    eventually("the snapshot is written", LATER, || file.exists());
}

#[test]
fn nothing_is_written_where_the_root_is_missing() {
    let zk = ZooKeeper::start();
    let remora = Remora::zookeeper(&zk).layout("flat", "/prod").start();
    eventually("it is told", LATER, || problem(&remora, "create it, or mend"));
    let written = || zk.ask("srvr").lines().find(|line| line.starts_with("Zxid")).map(str::to_owned);
    let before = written().unwrap();
    let asked = || remora.page("/registry")["operations"].as_u64().unwrap();
    for looked_for in 1..=2 {
        let so_far = asked();
        eventually(&format!("looked for {looked_for} times"), LATER, || asked() > so_far);
    }
    assert_eq!(written().unwrap(), before);
}

fn with_snapshot(zk: &ZooKeeper, file: &Path) -> support::remora::Setup {
    Remora::zookeeper(zk).env("REMORA_REGISTRY__SNAPSHOT", file.to_str().unwrap())
}

/// Makes a snapshot some seconds older than it is.
fn written_before(file: &Path, seconds: u64) {
    let text = fs::read_to_string(file).unwrap();
    let (head, json) = text.split_once('\n').unwrap();
    let mut snapshot: serde_json::Value = serde_json::from_str(json).unwrap();
    snapshot["written"] = (snapshot["written"].as_u64().unwrap() - seconds).into();
    let json = snapshot.to_string();
    let sum: String = Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect();
    let magic = head.rsplit_once(' ').unwrap().0;
    fs::write(file, format!("{magic} {sum}\n{json}")).unwrap();
}

#[test]
fn a_sidecar_that_starts_without_zookeeper_serves_what_was_known_and_then_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("view.snapshot");
    let mut zk = ZooKeeper::start();
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    let mut client = zk.client();
    fill(&mut client, &[&a]);
    let mut first = with_snapshot(&zk, &file).start();
    assert_eq!(who(&first), "a");
    assert_eq!(first.page("/services/user")["stale"], false);
    assert_eq!(first.terminate(), 0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    drop(client);
    zk.kill();
    written_before(&file, 100_000);

    let second = with_snapshot(&zk, &file).start();
    assert_eq!(who(&second), "a");
    let page = second.page("/services/user");
    assert_eq!(page["stale"], true, "{page}");
    assert!((100_000..200_000).contains(&page["checked_s"].as_u64().unwrap()), "{page}");
    assert!(second.admin("GET", "/readyz").text().contains("degraded"));
    assert_problem(&second.get("/nobody/x"), "registry-unavailable", 503);

    zk.restart();
    let mut client = zk.client();
    client.create(&format!("/address/user/{}", b.address), "{}");
    client.rm(&format!("/address/user/{}", a.address));
    eventually("what is", LATER, || who(&second) == "b");
    assert_eq!(second.page("/services/user")["stale"], false);
}

#[test]
fn a_snapshot_that_was_cut_is_told_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("view.snapshot");
    let mut zk = ZooKeeper::start();
    let a = Peer::named("a");
    let mut client = zk.client();
    fill(&mut client, &[&a]);
    let mut first = with_snapshot(&zk, &file).start();
    who(&first);
    assert_eq!(first.terminate(), 0);
    drop(client);
    zk.kill();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let second = with_snapshot(&zk, &file).unready().start();
    assert_problem(&second.get("/user/get"), "registry-unavailable", 503);
    assert!(second.log().contains("checksum"), "{}", second.log());
    assert_eq!(second.admin("GET", "/readyz").status, 503);
}

#[test]
fn a_snapshot_of_another_ensemble_is_served_and_the_stranger_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("view.snapshot");
    let mut zk = ZooKeeper::start();
    let a = Peer::named("a");
    let mut client = zk.client();
    fill(&mut client, &[&a]);
    let mut first = with_snapshot(&zk, &file).start();
    who(&first);
    eventually("marked", SOON, || client.get("/cluster-id").is_some());
    assert_eq!(first.terminate(), 0);
    drop(client);
    zk.wipe();
    zk.restart();
    let second = with_snapshot(&zk, &file).start();
    eventually("it is told", LATER, || problem(&second, "lost its data"));
    assert_eq!(who(&second), "a");

    // what an operator trusted once is trusted after a restart too, though it says the same as before
    let mut client = zk.client();
    fill(&mut client, &[&a]);
    trust(&second);
    eventually("it is read", LATER, || second.page("/services/user")["stale"] == false);
    let mark = client.get("/cluster-id").unwrap()["data"].as_str().unwrap().to_owned();
    eventually("it is kept", LATER, || fs::read_to_string(&file).unwrap().contains(&mark));
    second.signal("KILL");
    drop(second);
    let third = with_snapshot(&zk, &file).start();
    eventually("it is read again", LATER, || third.page("/services/user")["stale"] == false);
    assert_eq!(third.page("/registry")["problems"], serde_json::json!([]));
}

#[test]
fn most_providers_gone_at_once_are_a_last_resort_and_one_that_leaves_is_gone() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peers = ["a", "b", "c", "d"].map(Peer::named);
    fill(&mut client, &peers.each_ref());
    let remora = Remora::zookeeper(&zk).start();
    who(&remora);
    let address = |n: usize| format!("/address/user/{}", peers[n].address);
    let shown = |list: &str| remora.page("/services/user")[list].as_array().map_or(0, Vec::len);
    client.rm(&address(0));
    eventually("one is gone", SOON, || shown("providers") == 3);
    assert_eq!(shown("held"), 0);
    // in one step, as sessions that end together do
    for n in 1..4 {
        client.rm(&address(n));
    }
    eventually("all are gone from the registry", SOON, || shown("providers") == 0);
    eventually("and held", SOON, || shown("held") >= 3);
    for _ in 0..10 {
        who(&remora);
    }
    assert!(remora.page("/registry")["held_providers"].as_u64().unwrap() >= 3);
    client.create(&address(2), "{}");
    eventually("one is back", SOON, || shown("providers") == 1);
    for _ in 0..10 {
        assert_eq!(who(&remora), "c", "who lives comes first");
    }
}

#[test]
fn trust_is_given_to_what_is_not_believed_now_and_to_nothing_later() {
    let mut zk = ZooKeeper::start();
    let a = Peer::named("a");
    let mut client = zk.client();
    fill(&mut client, &[&a]);
    let remora = Remora::zookeeper(&zk).start();
    who(&remora);
    let mark = "/cluster-id";
    eventually("the ensemble is marked", SOON, || client.get(mark).is_some());
    let refused = |what: &str| {
        let answer = remora.admin("POST", "/registry/trust");
        assert_eq!(answer.status, 409, "{what}: {}", answer.text());
        assert!(answer.text().starts_with("nothing to trust: "), "{}", answer.text());
    };
    refused("all is well");
    drop(client);
    zk.kill();
    eventually("it is away", LATER, || remora.page("/registry")["connected"] == false);
    refused("nobody is there to be trusted");
    zk.wipe();
    zk.restart();
    eventually("it is told", LATER, || problem(&remora, "lost its data"));
    let mut client = zk.client();
    fill(&mut client, &[&a]);
    trust(&remora);
    eventually("it is marked anew", LATER, || client.get(mark).is_some());
    eventually("the new one holds", LATER, || remora.page("/services/user")["stale"] == false);
    refused("once more");
    drop(client);
    zk.wipe();
    zk.restart();
    eventually("it is told again", LATER, || problem(&remora, "lost its data"));
    assert_eq!(who(&remora), "a");
}

#[test]
fn what_is_locked_while_providers_are_held_is_locked_after_a_restart_without_zookeeper() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("view.snapshot");
    let zk = ZooKeeper::start();
    let peers = ["a", "b", "c", "d"].map(Peer::named);
    let mut client = zk.client();
    fill(&mut client, &peers.each_ref());
    client.create("/service/sec", "{}");
    client.create("/api/sec/get", r#"{"path":"/get"}"#);
    client.create(&format!("/address/sec/{}", peers[0].address), "{}");
    let first = with_snapshot(&zk, &file).start();
    who(&first);
    assert_eq!(first.get("/sec/get").status, 200);
    for peer in &peers {
        client.rm(&format!("/address/user/{}", peer.address));
    }
    eventually("they are held", SOON, || {
        first.page("/services/user")["held"].as_array().is_some_and(|h| h.len() == 4)
    });
    client.set("/service/sec", r#"{"access":"key"}"#);
    client.set("/service/user", r#"{"owner":"somebody"}"#);
    eventually("it is locked", SOON, || first.get("/sec/get").status == 401);
    eventually("it is kept", LATER, || {
        let kept = fs::read_to_string(&file).unwrap_or_default();
        kept.contains(r#"\"access\":\"key\""#) && kept.contains("somebody")
    });
    first.signal("KILL");
    drop(first);
    zk.pause();
    let second = with_snapshot(&zk, &file).start();
    assert_problem(&second.get("/sec/get"), "unknown-key", 401);
    who(&second);
    zk.resume();
    eventually("read again", LATER, || second.page("/services/user")["stale"] == false);
    assert_eq!(second.get("/sec/get").status, 401);
}

#[test]
fn every_page_says_that_a_wiped_ensemble_is_reached_and_not_believed() {
    let mut zk = ZooKeeper::start();
    let a = Peer::named("a");
    let mut client = zk.client();
    fill(&mut client, &[&a]);
    let own = "providers: [{ service: user, address: \"127.0.0.1:7\" }]";
    let remora = Remora::zookeeper(&zk).with(own).start();
    who(&remora);
    let believed = |yes: u8| {
        let metrics = remora.admin("GET", "/metrics").text();
        metrics.contains(&format!("remora_registry_believed {yes}\n"))
    };
    let registered = || remora.page("/registry")["own"][0]["registered"] == true;
    eventually("registered", SOON, registered);
    eventually("marked", SOON, || client.get("/cluster-id").is_some());
    assert!(believed(1), "{}", remora.admin("GET", "/metrics").text());
    drop(client);
    zk.kill();
    eventually("it is away", LATER, || problem(&remora, "can't be reached"));
    assert!(believed(1));
    zk.wipe();
    zk.restart();
    eventually("it is told", LATER, || problem(&remora, "lost its data"));
    let page = remora.page("/registry");
    assert_eq!(page["problems"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!((&page["connected"], &page["believed"]), (&false.into(), &false.into()), "{page}");
    assert_eq!(page["own"][0]["registered"], false, "{page}");
    assert!(page["own"][0]["note"].as_str().unwrap().contains("session"), "{page}");
    let ready = remora.admin("GET", "/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("reached, but not believed"), "{}", ready.text());
    assert!(believed(0));
    let answer = remora.get("/nobody/get");
    assert_problem(&answer, "registry-unavailable", 503);
    assert!(answer.text().contains("reached, but not believed"), "{}", answer.text());

    trust(&remora);
    eventually("registered again", LATER, registered);
    assert!(believed(1));
    assert_eq!(remora.admin("GET", "/readyz").text(), "ready\n");
}

#[test]
fn an_own_provider_is_not_shown_as_registered_when_its_session_must_be_over() {
    let mut zk = ZooKeeper::start();
    let own = "providers: [{ service: user, address: \"127.0.0.1:7\" }]";
    let remora = Remora::zookeeper(&zk).with(own).start();
    let own = || remora.page("/registry")["own"][0].clone();
    eventually("registered", SOON, || own()["registered"] == true);
    zk.kill();
    eventually("its session is over", LATER, || own()["registered"] == false);
    assert!(own()["note"].as_str().unwrap().contains("longer than its session lasts"), "{}", own());
    zk.restart();
    eventually("registered again", LATER, || own()["registered"] == true);
    assert!(own()["note"].is_null(), "{}", own());
}

#[test]
fn held_providers_are_told_apart_on_every_page() {
    let layouts = [
        ("flat", "", "/service/user", "/address/user"),
        ("tree", "/dada", "/dada/services/user", "/dada/services/user/get/providers"),
    ];
    for (layout, root, service, providers) in layouts {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        client.create(service, "{}");
        for port in 1..=6 {
            client.create(&format!("{providers}/127.0.0.1:{port}"), "{}");
        }
        let remora = Remora::zookeeper(&zk).layout(layout, &format!("{root}/")).start();
        remora.page("/services/user");
        let counts = || {
            let page = remora.page("/services");
            let user = &page["services"]["user"];
            (user["providers"].as_u64(), user["held"].as_u64())
        };
        assert_eq!(counts(), (Some(6), Some(0)));
        (1..=6).for_each(|port| client.rm(&format!("{providers}/127.0.0.1:{port}")));
        eventually("all are held", SOON, || counts() == (Some(0), Some(6)));
        let note = remora.page("/registry")["held_note"].to_string();
        assert!(note.contains("6 providers vanished at once"), "{note}");
        let diff = remora.page("/cache/diff");
        assert_eq!((&diff["equal"], &diff["differing"]), (&1.into(), &serde_json::json!([])), "{diff}");
        client.create(&format!("{providers}/127.0.0.1:6"), "{}");
        eventually("one is back", SOON, || counts() == (Some(1), Some(5)));
    }
}

#[test]
fn a_zookeeper_that_hangs_is_told_from_one_that_is_not_there() {
    let mut zk = ZooKeeper::start();
    let remora = Remora::zookeeper(&zk).start();
    zk.pause();
    eventually("it hangs", LATER, || problem(&remora, "it hangs, or nothing gets there"));
    zk.kill();
    eventually("it is gone", LATER, || problem(&remora, "refuses connections"));
    assert!(!problem(&remora, "no available hosts"), "{}", remora.page("/registry"));
}
