//! What ZooKeeper holds is what calls use, through changes, restarts and rubbish.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use support::php;
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Peer, Remora, assert_problem, assert_thrown, eventually};

/// From a write to calls that use it: milliseconds, but the machine may be busy.
const SOON: Duration = Duration::from_secs(5);
/// Where a reconnect lies in between.
const LATER: Duration = Duration::from_secs(20);

/// One service with one api in either layout, at `target` for callers.
struct Layout {
    name: &'static str,
    root: &'static str,
    target: &'static str,
    /// The service, the api, and the parent of its providers.
    service: &'static str,
    api: &'static str,
    providers: &'static str,
}

const FLAT: Layout = Layout {
    name: "flat",
    root: "/",
    target: "/user/get",
    service: "/service/user",
    api: "/api/user/get",
    providers: "/address/user",
};

const FLAT_BELOW: Layout = Layout {
    name: "flat",
    root: "/prod/remora",
    target: "/user/get",
    service: "/prod/remora/service/user",
    api: "/prod/remora/api/user/get",
    providers: "/prod/remora/address/user",
};

const TREE: Layout = Layout {
    name: "tree",
    root: "/dada",
    target: "/user/get",
    service: "/dada/services/user",
    api: "/dada/services/user/get",
    providers: "/dada/services/user/get/providers",
};

const ALL: [&Layout; 3] = [&FLAT, &FLAT_BELOW, &TREE];

impl Layout {
    fn fill(&self, client: &mut Kazoo, peers: &[&Peer]) {
        client.create(self.service, r#"{"access":"open","name":"user"}"#);
        client.create(self.api, r#"{"path":"/user/get","encoding":"json"}"#);
        for peer in peers {
            self.add(client, peer);
        }
    }

    fn add(&self, client: &mut Kazoo, peer: &Peer) {
        client.create(&self.provider(peer), "{}");
    }

    fn provider(&self, peer: &Peer) -> String {
        format!("{}/{}", self.providers, peer.address)
    }

    fn sidecar(&self, zk: &ZooKeeper) -> Remora {
        // in turn: by p2c a provider whose one answer was slow, as on a busy machine, is left out for a minute
        Remora::zookeeper(zk).layout(self.name, self.root).with("defaults: { balance: round_robin }").start()
    }
}

/// The provider that answers now, or the status of a refusal.
fn who(remora: &Remora, layout: &Layout) -> String {
    let answer = remora.get(layout.target);
    match answer.status {
        200 => answer.json()["peer"].as_str().unwrap_or("?").to_owned(),
        status => status.to_string(),
    }
}

fn everyone(remora: &Remora, layout: &Layout) -> HashSet<String> {
    (0..20).map(|_| who(remora, layout)).collect()
}

fn names(list: &[&str]) -> HashSet<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn providers_come_and_go_in_every_layout() {
    for layout in ALL {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let (a, b) = (Peer::named("a"), Peer::named("b"));
        layout.fill(&mut client, &[&a]);
        let remora = layout.sidecar(&zk);
        assert_eq!(who(&remora, layout), "a", "{}", layout.root);
        layout.add(&mut client, &b);
        eventually("the new one is used", SOON, || everyone(&remora, layout) == names(&["a", "b"]));
        client.rm(&layout.provider(&a));
        eventually("the old one is left", SOON, || everyone(&remora, layout) == names(&["b"]));
        client.rm(&layout.provider(&b));
        eventually("the last one is gone at once too", SOON, || who(&remora, layout) == "503");
        layout.add(&mut client, &a);
        eventually("and back", SOON, || who(&remora, layout) == "a");
    }
}

#[test]
fn state_and_weight_of_a_provider_take_effect() {
    for layout in ALL {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let (a, b) = (Peer::named("a"), Peer::named("b"));
        layout.fill(&mut client, &[&a, &b]);
        let remora = layout.sidecar(&zk);
        for data in [r#"{"state":"off"}"#, r#"{"weight":0}"#, r#"{"state":"drain"}"#] {
            client.set(&layout.provider(&a), data);
            eventually(data, SOON, || everyone(&remora, layout) == names(&["b"]));
            client.set(&layout.provider(&a), "{}");
            eventually("on again", SOON, || everyone(&remora, layout) == names(&["a", "b"]));
        }
    }
}

#[test]
fn a_service_or_an_api_switched_off_is_off_soon() {
    for layout in ALL {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let a = Peer::named("a");
        layout.fill(&mut client, &[&a]);
        let remora = layout.sidecar(&zk);
        assert_eq!(who(&remora, layout), "a");
        client.set(layout.service, r#"{"state":"off"}"#);
        eventually("service-off", SOON, || {
            remora.get(layout.target).kind().as_deref() == Some("service-off")
        });
        client.set(layout.service, "{}");
        eventually("on", SOON, || who(&remora, layout) == "a");
        client.set(layout.api, r#"{"path":"/x","encoding":"json","state":"off"}"#);
        eventually("api-off", SOON, || remora.get(layout.target).kind().as_deref() == Some("api-off"));
    }
}

#[test]
fn a_list_of_addresses_is_a_registration_too() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    FLAT.fill(&mut client, &[]);
    let list = json!({"addresses": [{"address": a.address}, {"address": b.address}]});
    client.put(FLAT.providers, &list.to_string());
    let remora = FLAT.sidecar(&zk);
    assert_eq!(everyone(&remora, &FLAT), names(&["a", "b"]));
    // What a person wrote stays in force when the provider registers itself.
    let list = json!({"addresses": [{"address": a.address, "state": "off"}]});
    client.set(FLAT.providers, &list.to_string());
    client.ephemeral(&FLAT.provider(&a), r#"{"weight":500,"state":"on"}"#);
    client.ephemeral(&FLAT.provider(&b), "{}");
    eventually("only the second", SOON, || everyone(&remora, &FLAT) == names(&["b"]));
    // What is written after them is seen with them.
    client.put("/api/user/marker", r#"{"path":"/user/get"}"#);
    eventually("the marker is seen", SOON, || remora.get("/user/marker").status == 200);
    assert_eq!(everyone(&remora, &FLAT), names(&["b"]));
}

#[test]
fn the_context_path_of_a_category_leads_the_path() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let peer = Peer::echo();
    client.create(TREE.service, r#"{"contextPath":"/ctx"}"#);
    client.create(TREE.api, r#"{"path":"/user/get","method":"POST"}"#);
    TREE.add(&mut client, &peer);
    let remora = TREE.sidecar(&zk);
    let seen = remora.get(TREE.target).json();
    assert_eq!((&seen["path"], &seen["method"]), (&json!("/ctx/user/get"), &json!("POST")));
    client.set(TREE.service, r#"{"contextPath":"/new"}"#);
    eventually("the new context path", SOON, || remora.get(TREE.target).json()["path"] == "/new/user/get");
}

#[test]
fn unreadable_nodes_are_skipped_and_shown() {
    for layout in ALL {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let good = Peer::named("good");
        layout.fill(&mut client, &[&good]);
        let bad = [
            (format!("{}/127.0.0.1:1", layout.providers), "{\"weight\":"),
            (format!("{}/127.0.0.1:2", layout.providers), "[1,2]"),
            (format!("{}/127.0.0.1:3", layout.providers), r#"{"weight":"heavy"}"#),
            (format!("{}/no-port-here", layout.providers), "{}"),
        ];
        for (path, data) in &bad {
            client.create(path, data);
        }
        let remora = layout.sidecar(&zk);
        assert_eq!(everyone(&remora, layout), names(&["good"]));
        let page = remora.page("/services/user").to_string();
        for (path, _) in &bad {
            assert!(page.contains(path.as_str()), "no {path} in {page}");
        }
        let text = remora.admin("GET", "/services/user").text();
        assert!(text.contains(&bad[0].0), "{text}");
        // Mended, it counts.
        client.rm(&bad[0].0);
        let second = Peer::named("second");
        client.create(&layout.provider(&second), "{\"weight\":");
        eventually("the broken node is shown", SOON, || {
            remora.page("/services/user").to_string().contains(&layout.provider(&second))
        });
        client.set(&layout.provider(&second), "{}");
        eventually("the mended node is used", SOON, || everyone(&remora, layout).contains("second"));
    }
}

#[test]
fn rubbish_in_the_services_own_node_takes_nothing_down() {
    for layout in [&FLAT, &TREE] {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let (a, b) = (Peer::named("a"), Peer::named("b"));
        layout.fill(&mut client, &[&a]);
        let remora = layout.sidecar(&zk);
        assert_eq!(who(&remora, layout), "a");
        client.set(layout.service, "\u{fffd}{{{");
        eventually("it is shown", SOON, || {
            remora.page("/services/user").to_string().contains(layout.service)
        });
        layout.add(&mut client, &b);
        eventually("and other changes still count", SOON, || everyone(&remora, layout) == names(&["a", "b"]));
    }
}

#[test]
fn a_service_made_after_it_was_asked_for_is_noticed() {
    for layout in ALL {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let a = Peer::named("a");
        let remora = layout.sidecar(&zk);
        assert_problem(&remora.get(layout.target), "no-service", 404);
        layout.fill(&mut client, &[&a]);
        eventually("the new service is called", LATER, || who(&remora, layout) == "a");
    }
}

#[test]
fn providers_made_below_a_path_that_was_not_there_are_noticed() {
    for layout in ALL {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let a = Peer::named("a");
        layout.fill(&mut client, &[]);
        let remora = layout.sidecar(&zk);
        assert_problem(&remora.get(layout.target), "no-provider", 503);
        layout.add(&mut client, &a);
        eventually("the first provider", SOON, || who(&remora, layout) == "a");
    }
}

#[test]
fn the_first_calls_to_a_service_share_one_load_and_all_succeed() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let a = Peer::named("a");
    FLAT.fill(&mut client, &[&a]);
    let remora = FLAT.sidecar(&zk);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| assert_eq!(who(&remora, &FLAT), "a"));
        }
    });
    // a probe, the watches, a read: 32 loads would be hundreds
    let status = remora.page("/registry");
    assert!(status["operations"].as_u64().unwrap() < 40, "{status}");
}

#[test]
fn calls_go_on_without_zookeeper_and_changes_after_it_are_noticed() {
    for layout in [&FLAT, &TREE] {
        let mut zk = ZooKeeper::start();
        let mut client = zk.client();
        let (a, b) = (Peer::named("a"), Peer::named("b"));
        layout.fill(&mut client, &[&a]);
        let remora = layout.sidecar(&zk);
        assert_eq!(who(&remora, layout), "a");
        zk.kill();
        for _ in 0..20 {
            assert_eq!(who(&remora, layout), "a");
        }
        assert_eq!(remora.admin("GET", "/readyz").status, 200, "one outage flips nothing");
        zk.restart();
        layout.add(&mut client, &b);
        eventually("a change after the restart", LATER, || everyone(&remora, layout) == names(&["a", "b"]));
        // The watches live again, not only one read at the reconnect.
        client.rm(&layout.provider(&a));
        eventually("a second change after the restart", SOON, || everyone(&remora, layout) == names(&["b"]));
    }
}

#[test]
fn a_change_during_an_outage_is_seen_after_it() {
    let mut zk = ZooKeeper::start();
    let mut client = zk.client();
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    FLAT.fill(&mut client, &[&a]);
    let remora = FLAT.sidecar(&zk);
    assert_eq!(who(&remora, &FLAT), "a");
    // Cut off from ZooKeeper, as the program itself sees it.
    remora.signal("STOP");
    client.rm(&FLAT.provider(&a));
    FLAT.add(&mut client, &b);
    zk.restart();
    remora.signal("CONT");
    eventually("what was missed", LATER, || everyone(&remora, &FLAT) == names(&["b"]));
}

#[test]
fn without_zookeeper_at_the_start_calls_say_so_and_work_once_it_is_there() {
    let mut zk = ZooKeeper::absent();
    let a = Peer::named("a");
    let remora = Remora::zookeeper(&zk).unready().start();
    assert_ne!(remora.admin("GET", "/readyz").status, 200);
    assert_eq!(remora.admin("GET", "/livez").status, 200);
    assert_problem(&remora.get(FLAT.target), "registry-unavailable", 503);
    let url = remora.url("/user");
    let seen = php::yar("msgpack", &url, "get", json!([]), json!({}));
    assert_thrown(&seen, "RegistryUnavailable", 10510);
    zk.restart();
    let mut client = zk.client();
    FLAT.fill(&mut client, &[&a]);
    eventually("calls work", LATER, || who(&remora, &FLAT) == "a");
    eventually("ready", LATER, || remora.admin("GET", "/readyz").status == 200);
}

#[test]
fn a_missing_chroot_is_shown_and_no_obstacle_once_it_is_there() {
    for layout in [&FLAT, &TREE] {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let a = Peer::named("a");
        let remora = Remora::zookeeper_below(&zk, "/prod").layout(layout.name, layout.root).start();
        eventually("the problem is shown with its way out", SOON, || {
            let page = remora.page("/registry");
            let problem = page["problems"][0].as_str().unwrap_or_default();
            problem.starts_with("/prod") && problem.contains("create it, or mend the chroot")
        });
        let answer = remora.get(layout.target);
        assert_problem(&answer, "no-service", 404);
        assert!(answer.text().contains("\\\"user\\\""), "{}", answer.text());
        // The same paths, below the chroot.
        let mut below = Kazoo::connect(&format!("{}/prod", zk.connect));
        client.create("/prod", "");
        layout.fill(&mut below, &[&a]);
        eventually("calls work without a restart", LATER, || who(&remora, layout) == "a");
    }
}

#[test]
fn a_node_that_its_acl_hides_is_skipped_and_shown() {
    for layout in ALL {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let (hidden, open) = (Peer::named("hidden"), Peer::named("open"));
        layout.fill(&mut client, &[&hidden, &open]);
        let path = layout.provider(&hidden);
        client.readable(&path, false);
        let remora = layout.sidecar(&zk);
        assert_eq!(everyone(&remora, layout), names(&["open"]));
        assert_eq!(remora.page("/services")["services"]["user"]["skipped"], 1);
        let page = remora.page("/services/user");
        assert_eq!(page["skipped"][0]["path"], path.as_str(), "{page}");
        let reason = page["skipped"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("ACL"), "{reason}");
        assert!(remora.admin("GET", "/services/user").text().contains(&path));
        // A new ACL is no event; a write is.
        client.readable(&path, true);
        client.set(&path, "{}");
        eventually("the node is used", SOON, || everyone(&remora, layout) == names(&["hidden", "open"]));
        assert_eq!(remora.page("/services")["services"]["user"]["skipped"], 0);
    }
}

#[test]
fn calls_go_on_while_zookeeper_hangs_and_changes_after_it_are_noticed() {
    for layout in [&FLAT, &TREE] {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let (a, b) = (Peer::named("a"), Peer::named("b"));
        layout.fill(&mut client, &[&a]);
        let remora = layout.sidecar(&zk);
        assert_eq!(who(&remora, layout), "a");
        zk.signal("STOP");
        eventually("the registry is given up", LATER, || {
            assert_eq!(who(&remora, layout), "a");
            remora.page("/registry")["connected"] == false
        });
        assert_eq!(everyone(&remora, layout), names(&["a"]));
        assert_eq!(remora.admin("GET", "/readyz").status, 200);
        zk.signal("CONT");
        layout.add(&mut client, &b);
        eventually("a change after it", LATER, || everyone(&remora, layout) == names(&["a", "b"]));
        client.rm(&layout.provider(&a));
        eventually("a second change after it", SOON, || everyone(&remora, layout) == names(&["b"]));
    }
}

#[test]
fn no_call_fails_while_providers_come_and_go_under_load() {
    for layout in [&FLAT, &TREE] {
        let zk = ZooKeeper::start();
        let mut client = zk.client();
        let peers = [Peer::named("a"), Peer::named("b"), Peer::named("c")];
        layout.fill(&mut client, &[&peers[0], &peers[1], &peers[2]]);
        let remora = layout.sidecar(&zk);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = Stop(&done);
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut conn = remora.conn();
                        let mut calls = 0;
                        while !done.load(Ordering::Relaxed) {
                            let answer = conn.request("GET", layout.target, &[], b"").unwrap();
                            assert_eq!(answer.status, 200, "{}", answer.text());
                            calls += 1;
                        }
                        calls
                    })
                })
                .collect();
            for round in 0..12 {
                let peer = &peers[round % 3];
                let path = layout.provider(peer);
                match round % 2 {
                    0 => client.set(&path, r#"{"state":"drain"}"#),
                    _ => client.set(&path, r#"{"weight":1}"#),
                }
                client.rm(&path);
                let before = peers.iter().map(Peer::calls).sum::<usize>();
                eventually("calls go on", SOON, || {
                    peers.iter().map(Peer::calls).sum::<usize>() > before + 20
                });
                layout.add(&mut client, peer);
            }
            drop(stop);
            for caller in callers {
                assert!(caller.join().unwrap() > 20);
            }
        });
    }
}

/// Ends the callers also where the test fails before it would tell them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
