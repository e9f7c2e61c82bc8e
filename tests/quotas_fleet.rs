//! One quota for all hosts, over a real ZooKeeper: shared out, and never more than all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;
use support::distant::Distant;
use support::zookeeper::Kazoo;
use support::{Peer, Remora, at, eventually, eventually_some};

const RATE: u32 = 100;
const BURST: u32 = 20;
/// Makes nodes, elects, gives and confirms, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// A session of ten seconds ends, and its share is given to others.
const LATER: Duration = Duration::from_secs(60);

fn entries(client: &mut Kazoo, peer: &Peer) {
    client.put("/address/user", &format!("{{\"addresses\":[{{\"address\":\"{}\"}}]}}", peer.address));
    client.put("/api/user/x", "{\"path\":\"/x\"}");
    client.put("/access/user/web", &format!("{{\"quota\":{{\"rate\":{RATE},\"burst\":{BURST}}}}}"));
}

fn sidecar(connect: &str, name: &str) -> Remora {
    Remora::through(connect, "10s").with(&format!("host: {{ name: {name} }}")).start()
}

/// The part of the quota that a sidecar has, in percent.
fn lent(remora: &Remora) -> f64 {
    let page = remora.page("/services/user");
    let lent = at(&page, "/callers/web/0/lent").as_str().expect("no text").to_owned();
    lent.trim_end_matches('%').parse().unwrap()
}

/// Calls all of them at once, as fast as they answer, and gives how many calls passed at each.
fn hammer(remoras: &[&Remora], span: Duration) -> Vec<u32> {
    let start = Barrier::new(remoras.len());
    let call = |remora: &Remora| {
        let mut conn = remora.conn();
        start.wait();
        let (end, mut passed) = (Instant::now() + span, 0);
        while Instant::now() < end {
            let answer = conn.request("GET", "/user/x", &[("X-Caller", "web")], b"").unwrap();
            assert!(matches!(answer.status, 200 | 429), "{}", answer.text());
            passed += u32::from(answer.status == 200);
        }
        passed
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = remoras.iter().map(|remora| scope.spawn(|| call(remora))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Hammers until each has a share that it got by asking.
fn until_shared(remoras: &[&Remora]) {
    eventually("everyone has about its part", SOON, || {
        hammer(remoras, Duration::from_millis(300));
        remoras.iter().all(|remora| lent(remora) > 80.0 / remoras.len() as f64)
    });
}

/// Hammers one until it has some share.
fn until_shared_at(remora: &Remora) {
    eventually("it has a share", SOON, || {
        hammer(&[remora], Duration::from_millis(300));
        lent(remora) > 1.0
    });
}

fn assert_sum(passed: &[u32], took: Duration) {
    let (sum, due) = (f64::from(passed.iter().sum::<u32>()), f64::from(RATE) * took.as_secs_f64());
    let most = due + f64::from(BURST) + passed.len() as f64;
    assert!(sum <= most, "{passed:?} in {took:?}: over {most}");
    assert!(sum >= 0.75 * due, "{passed:?} in {took:?}: not most of {due}");
}

#[test]
fn three_sidecars_admit_one_quota_together_also_when_one_is_cut_off() {
    let zk = Distant::start();
    let (mut client, peer) = (zk.client(), Peer::echo());
    entries(&mut client, &peer);
    let remoras = [
        sidecar(&zk.server.connect, "web-1"),
        sidecar(&zk.server.connect, "web-2"),
        sidecar(&zk.connect, "web-3"),
    ];
    let [one, two, three] = &remoras;
    until_shared(&[one, two, three]);
    let start = Instant::now();
    let passed = hammer(&[one, two, three], Duration::from_secs(5));
    assert_sum(&passed, start.elapsed());
    assert!(passed.iter().all(|passed| *passed > 50), "everyone has its part: {passed:?}");
    let mut names = client.ls("/consumers/user");
    names.sort();
    assert_eq!(names, ["_holder", "web-1", "web-2", "web-3"]);
    assert!(client.owner("/consumers/user/web-3").is_some(), "it goes with its sidecar");
    let pages =
        [one, two, three].map(|remora| remora.page("/quotas/user")["quotas"]["/consumers/user"].clone());
    let holder = at(&pages[0], "/holder/host").as_str().unwrap().to_owned();
    for (page, name) in pages.iter().zip(["web-1", "web-2", "web-3"]) {
        assert_eq!(at(page, "/holder/host"), &json!(holder), "all name the same one");
        assert_eq!(at(page, "/holder")["this"] == true, holder == name, "{page}");
        let rows = at(page, "/sidecars").as_object().unwrap();
        assert!(rows.keys().eq(["web-1", "web-2", "web-3"]) && rows[name]["this"] == true, "{page}");
        assert!(
            rows.values()
                .all(|row| row["age_s"].as_u64() < Some(15) && row["callers"]["web"]["share"].is_string())
        );
        assert!(at(page, "/in_use_here/web").as_str().unwrap().ends_with('%'), "{page}");
    }

    zk.network.cut();
    eventually("the lease of who is cut off ends", SOON, || lent(three) == 0.0);
    let passed = hammer(&[one, two, three], Duration::from_secs(3));
    assert_eq!(passed[2], 0, "{passed:?}");
    let told = |remora: &Remora| {
        let refused = || Some(remora.call("GET", "/user/x", &[("X-Caller", "web")], b""));
        eventually_some("a call is refused", SOON, || refused().filter(|answer| answer.status == 429))
    };
    let alone = three.page("/quotas/user")["quotas"]["/consumers/user"].clone();
    assert_eq!(at(&alone, "/in_use_here/web"), "0.0%");
    assert!(at(&alone, "/problem").as_str().unwrap().starts_with("the shares of the others can't be read"));
    let (cut_off, busy) = (told(three), told(one));
    assert_eq!(cut_off.header("retry-after"), Some("1"));
    assert_eq!(cut_off.json()["title"], "No part of the caller's quota is lent to this host");
    let wanted = "caller \"web\" has a quota of 100 per 1s for service \"user\" that all hosts share, and no part of it \
                  is lent to this host now; try again in 1s";
    assert!(cut_off.text().replace("\\\"", "\"").contains(wanted), "{}", cut_off.text());
    assert!(busy.text().contains("% that this host has of its quota, 100 per 1s"), "{}", busy.text());
    let shown = |remora: &Remora, metric: &str| {
        let line = format!("{metric}{{caller=\"web\",service=\"user\"}} ");
        let metrics = remora.admin("GET", "/metrics").text();
        metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse::<f64>().ok())
    };
    assert_eq!(shown(three, "remora_quota_lent_millionths"), Some(0.0));
    assert_eq!(shown(three, "remora_quota_lapses_total"), Some(1.0));
    assert!(shown(one, "remora_quota_lent_millionths") > Some(100_000.0));
    eventually("the others have all of it", LATER, || {
        hammer(&[one, two], Duration::from_millis(300));
        lent(one) + lent(two) > 95.0
    });
    let start = Instant::now();
    let passed = hammer(&[one, two, three], Duration::from_secs(5));
    assert_sum(&passed, start.elapsed());
    assert_eq!(passed[2], 0);

    zk.network.heal();
    eventually("who is back has its part again", LATER, || {
        hammer(&[one, two, three], Duration::from_millis(300));
        lent(three) > 20.0
    });
}

#[test]
fn a_sidecar_is_seen_beside_what_it_calls_until_it_ends() {
    let zk = Distant::start();
    let (mut client, peer) = (zk.client(), Peer::echo());
    client.put("/address/user", &format!("{{\"addresses\":[{{\"address\":\"{}\"}}]}}", peer.address));
    client.put("/api/user/x", "{\"path\":\"/x\"}");
    client.put("/services/shop/x", "{\"path\":\"/x\"}");
    client.put(&format!("/services/shop/x/providers/{}", peer.address), "{}");
    let setup = Remora::zookeeper(&zk.server).layout("tree", "/").with("host: { name: web-9 }");
    let (mut flat, mut tree) = (sidecar(&zk.server.connect, "web-8"), setup.start());
    assert_eq!((flat.get("/user/x").status, tree.get("/shop/x").status), (200, 200));
    for (remora, parent, name) in
        [(&mut flat, "/consumers/user", "web-8"), (&mut tree, "/services/shop/x/consumers", "web-9")]
    {
        eventually("its node is there", LATER, || client.ls(parent) == [name]);
        let before = client.get(&format!("{parent}/{name}")).unwrap();
        assert!(before["owner"].is_string(), "{before}");
        assert_eq!(remora.terminate(), 0);
        eventually("its node is gone", SOON, || client.ls(parent).is_empty());
    }
}

#[test]
fn a_lone_sidecar_has_its_share_soon_and_another_takes_over_when_the_holder_is_killed() {
    let zk = Distant::start();
    let (mut client, peer) = (zk.client(), Peer::echo());
    entries(&mut client, &peer);
    let mut one = sidecar(&zk.connect, "web-1");
    eventually("the first call that passes", SOON, || hammer(&[&one], Duration::from_millis(100))[0] > 0);
    until_shared(&[&one]);
    let two = sidecar(&zk.connect, "web-2");
    until_shared(&[&one, &two]);
    one.kill();
    eventually("all of it goes to who is left", LATER, || {
        hammer(&[&two], Duration::from_millis(300));
        lent(&two) > 95.0
    });
}

#[test]
fn the_first_call_of_a_sidecar_waits_for_its_share_instead_of_being_refused() {
    let zk = Distant::start();
    let (mut client, peer) = (zk.client(), Peer::echo());
    entries(&mut client, &peer);
    let call = |remora: &Remora| remora.call("GET", "/user/x", &[("X-Caller", "web")], b"").status;
    // on a busy machine a share may take longer than anybody waits
    for others in [0, 1] {
        let holders: Vec<_> = (0..others).map(|n| sidecar(&zk.server.connect, &format!("old-{n}"))).collect();
        holders.iter().for_each(|holder| until_shared(&[holder]));
        let mut names = (0..).map(|n| format!("new-{others}-{n}"));
        eventually("a first call that passes", LATER, || {
            call(&sidecar(&zk.server.connect, &names.next().unwrap())) == 200
        });
    }
}

#[test]
fn who_shares_out_gives_the_place_up_with_the_service_and_goes_on_after_a_cut() {
    let zk = Distant::start();
    let (mut client, peer) = (zk.client(), Peer::echo());
    entries(&mut client, &peer);
    let one = sidecar(&zk.connect, "web-1");
    until_shared(&[&one]);
    let holder = client.owner("/consumers/user/_holder").expect("nobody shares out");

    // the same session on another connection, and nobody who calls there
    zk.network.cut();
    eventually("it notices", SOON, || at(&one.page("/registry"), "/connected") == false);
    zk.network.heal();
    let two = sidecar(&zk.server.connect, "web-2");
    until_shared_at(&two);
    assert_eq!(client.owner("/consumers/user/_holder"), Some(holder));

    // a service that is forgotten has nobody who shares out
    drop(two);
    for path in ["/access/user/web", "/access/user", "/api/user/x", "/api/user", "/address/user"] {
        client.rm(path);
    }
    eventually("its nodes are gone", LATER, || client.ls("/consumers/user").is_empty());
    assert_eq!(at(&one.page("/registry"), "/sessions"), 1);
}

#[test]
fn two_living_sidecars_of_one_name_share_the_quota_and_say_so() {
    let zk = Distant::start();
    let (mut client, peer) = (zk.client(), Peer::echo());
    entries(&mut client, &peer);
    let one = sidecar(&zk.server.connect, "web-1");
    until_shared(&[&one]);
    let two = sidecar(&zk.server.connect, "web-1");
    until_shared(&[&one, &two]);
    let start = Instant::now();
    let passed = hammer(&[&one, &two], Duration::from_secs(5));
    assert_sum(&passed, start.elapsed());
    assert!(passed.iter().all(|passed| *passed > 100), "each has its part: {passed:?}");
    let names = client.ls("/consumers/user");
    assert_eq!(names.len(), 3, "{names:?}");
    let problems = |remora: &Remora| at(&remora.page("/registry"), "/problems").clone();
    let told = problems(&one).to_string();
    assert!(told.contains("host.name: web-1 is another living sidecar's too"), "{told}");
    assert!(names.iter().any(|name| name.starts_with("web-1~") && told.contains(name)), "{names:?}: {told}");
    assert_eq!(problems(&two).as_array().map(Vec::len), Some(0));
}
