//! Which provider gets a call, and what happens when the chosen one fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use support::{Conn, Peer, Remora, assert_problem, eventually, service_with};

const APIS: [(&str, &str); 1] = [("x", "{ path: /x, encoding: json }")];

fn weighted(peer: &Peer, more: &str) -> String {
    format!("{{ address: \"{}\", {more} }}", peer.address)
}

fn sidecar(policy: &str, providers: &[&str]) -> Remora {
    let data = format!("access: open, policy: {{ {policy} }}");
    Remora::embedded(&service_with("user", &data, &APIS, providers)).start()
}

/// Who answered each of `calls` calls over one connection, so that one worker chose.
fn tally(remora: &Remora, calls: usize) -> HashMap<String, usize> {
    let mut conn = remora.conn();
    let mut seen = HashMap::new();
    for _ in 0..calls {
        *seen.entry(who(&mut conn)).or_default() += 1;
    }
    seen
}

fn who(conn: &mut Conn) -> String {
    let answer = conn.request("GET", "/user/x", &[], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["peer"].as_str().unwrap().to_owned()
}

#[test]
fn round_robin_gives_each_its_exact_share() {
    let (a, b, c) = (Peer::named("a"), Peer::named("b"), Peer::named("c"));
    let remora = sidecar(
        "balance: round_robin",
        &[&weighted(&a, "weight: 100"), &weighted(&b, "weight: 200"), &weighted(&c, "weight: 100")],
    );
    let seen = tally(&remora, 40);
    assert_eq!((seen["a"], seen["b"], seen["c"]), (10, 20, 10), "{seen:?}");
}

#[test]
fn round_robin_takes_turns() {
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    let remora = sidecar("balance: round_robin", &[&a.address, &b.address]);
    let mut conn = remora.conn();
    let mut last = who(&mut conn);
    for _ in 0..20 {
        let next = who(&mut conn);
        assert_ne!(next, last);
        last = next;
    }
}

#[test]
fn random_gives_each_about_its_share() {
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    let remora = sidecar("balance: random", &[&weighted(&a, "weight: 100"), &weighted(&b, "weight: 300")]);
    let seen = tally(&remora, 1000);
    // 250 expected; the bounds are six standard deviations away.
    assert!((165..=335).contains(&seen["a"]), "{seen:?}");
}

#[test]
fn p2c_uses_everyone_and_leaves_the_busy_alone() {
    let (a, b, c) = (Peer::named("a"), Peer::named("b"), Peer::named("c"));
    let remora = sidecar("balance: p2c", &[&a.address, &b.address, &c.address]);
    let seen = tally(&remora, 300);
    assert_eq!(seen.len(), 3, "{seen:?}");

    let (quick, stuck) = (Peer::named("quick"), Peer::silent());
    let remora = sidecar("balance: p2c, timeout: 10s", &[&quick.address, &stuck.address]);
    // Each of these calls waits at the silent one or is answered by the quick one.
    let mut waiting = Vec::new();
    while stuck.calls() < 2 && waiting.len() < 60 {
        let mut conn = remora.conn();
        let before = quick.calls() + stuck.calls();
        conn.send(support::http::request("GET", "/user/x", &[], b"")).unwrap();
        eventually("the call arrives somewhere", Duration::from_secs(5), || {
            quick.calls() + stuck.calls() > before
        });
        waiting.push(conn);
    }
    let share = stuck.calls();
    assert!(share <= waiting.len() / 2, "{share} of {} wait at the busy one", waiting.len());
}

#[test]
fn an_unknown_balance_keeps_the_service_up() {
    let a = Peer::named("a");
    let remora = sidecar("balance: by_moon", &[&a.address]);
    assert_eq!(remora.get("/user/x").status, 200);
}

#[test]
fn off_drained_and_weightless_providers_get_no_calls() {
    for balance in ["round_robin", "random", "p2c"] {
        let (on, off) = (Peer::named("on"), Peer::named("off"));
        let (drain, zero) = (Peer::named("drain"), Peer::named("zero"));
        let remora = sidecar(
            &format!("balance: {balance}"),
            &[
                &weighted(&off, "state: \"off\""),
                &weighted(&on, "weight: 1"),
                &weighted(&drain, "state: drain"),
                &weighted(&zero, "weight: 0"),
            ],
        );
        assert_eq!(tally(&remora, 60)["on"], 60, "{balance}");
        assert_eq!(off.calls() + drain.calls() + zero.calls(), 0, "{balance}");
    }
}

#[test]
fn a_refused_connection_is_tried_once_more_elsewhere() {
    let good = Peer::named("good");
    let gone = Peer::refusing();
    for balance in ["round_robin", "random", "p2c"] {
        let remora = sidecar(&format!("balance: {balance}"), &[&gone, &good.address]);
        assert_eq!(tally(&remora, 30)["good"], 30, "{balance}");
    }
}

#[test]
fn a_post_that_was_never_sent_is_tried_elsewhere_with_its_body() {
    let good = Peer::echo();
    let gone = Peer::refusing();
    let remora = sidecar("balance: round_robin", &[&gone, &good.address]);
    for n in 0..10 {
        let body = format!("body {n}");
        let answer = remora.call("POST", "/user/x", &[], body.as_bytes());
        assert_eq!(answer.json()["body"], body);
    }
    assert_eq!(good.calls(), 10);
}

#[test]
fn without_retries_a_refused_connection_is_the_answer() {
    let good = Peer::named("good");
    let gone = Peer::refusing();
    let remora = sidecar("balance: round_robin, retries: 0", &[&gone, &good.address]);
    let mut conn = remora.conn();
    let mut failed = 0;
    for _ in 0..10 {
        let answer = conn.request("GET", "/user/x", &[], b"").unwrap();
        if answer.status != 200 {
            assert_problem(&answer, "connect-failed", 502);
            failed += 1;
        }
    }
    assert!(failed > 0, "round robin never chose the provider that refuses");
}

#[test]
fn a_provider_that_drains_still_shows_its_calls() {
    let peer = Peer::silent();
    let remora = sidecar("timeout: 20s", &[&peer.address]);
    let mut conn = remora.conn();
    conn.send(support::http::request("GET", "/user/x", &[], b"")).unwrap();
    eventually("the call is in flight", Duration::from_secs(5), || peer.calls() == 1);
    let draining = weighted(&peer, "state: drain");
    remora.edit_registry(&service_with("user", "access: open", &APIS, &[&draining]));
    eventually("it drains", Duration::from_secs(5), || {
        let seen = remora.page("/services/user");
        let provider = &seen["providers"][0];
        assert_eq!(provider["in_flight"], 1, "{seen}");
        provider["state"] == "drain"
    });
}

#[test]
fn without_retries_nothing_is_sent_twice() {
    // answers the first request of each connection, and ends without a word at the second
    let peer = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        let _ = support::peer::Request::read(&mut conn);
        let _ = conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        let _ = support::peer::Request::read(&mut conn);
    });
    for (retries, second) in [(0, 502), (1, 200)] {
        let remora = sidecar(&format!("retries: {retries}"), &[&peer.address]);
        let mut conn = remora.conn();
        assert_eq!(conn.request("POST", "/user/x", &[], b"{}").unwrap().status, 200);
        assert_eq!(conn.request("POST", "/user/x", &[], b"{}").unwrap().status, second, "{retries}");
    }
}

#[test]
fn a_call_that_reached_a_provider_is_not_repeated() {
    let (a, b) = (Peer::cutting(""), Peer::cutting(""));
    let remora = sidecar("balance: round_robin", &[&a.address, &b.address]);
    assert_problem(&remora.post("/user/x", "{}"), "cut", 502);
    assert_eq!(a.calls() + b.calls(), 1);
}

/// The call was given up, after the time that its policy gives it.
fn out_of_time(answer: &support::Answer, given: &str) {
    assert_problem(answer, "deadline", 504);
    let wanted = format!("no answer within {given},");
    assert!(answer.text().contains(&wanted), "{wanted} {}", answer.text());
}

#[test]
fn a_call_that_timed_out_is_not_repeated() {
    let (a, b) = (Peer::silent(), Peer::silent());
    let remora = sidecar("timeout: 300ms", &[&a.address, &b.address]);
    out_of_time(&remora.post("/user/x", "{}"), "300ms");
    assert_eq!(a.calls() + b.calls(), 1);
}

#[test]
fn a_provider_that_never_takes_the_connection_is_left_after_the_connect_timeout() {
    let deaf = Peer::deaf();
    let remora = sidecar("connect_timeout: 200ms", &[&deaf.address]);
    let answer = remora.get("/user/x");
    assert_problem(&answer, "connect-failed", 502);
    assert!(answer.text().contains("no connection within 200ms"), "{}", answer.text());

    let good = Peer::named("good");
    let remora = sidecar("balance: round_robin, connect_timeout: 200ms", &[&deaf.address, &good.address]);
    for _ in 0..4 {
        assert_eq!(remora.get("/user/x").status, 200);
    }
}

#[test]
fn a_policy_of_the_api_lies_over_that_of_the_service() {
    let peer = Peer::silent();
    let apis = [
        ("x", "{ path: /x, encoding: json, policy: { timeout: 200ms } }"),
        ("y", "{ path: /y, encoding: json }"),
    ];
    let data = "policy: { timeout: 1500ms }";
    let remora = Remora::embedded(&service_with("user", data, &apis, &[&peer.address])).start();
    out_of_time(&remora.get("/user/x"), "200ms");
    out_of_time(&remora.get("/user/y"), "1500ms");
}

#[test]
fn defaults_of_the_configuration_lie_below_the_registry() {
    let peer = Peer::silent();
    let remora = Remora::embedded(&service_with("user", "access: open", &APIS, &[&peer.address]))
        .with("defaults: { timeout: 300ms, balance: round_robin }")
        .start();
    out_of_time(&remora.get("/user/x"), "300ms");
}
