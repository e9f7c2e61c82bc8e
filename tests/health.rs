//! Providers that fail are left alone and come back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::request;
use support::peer::{answer, ok_json};
use support::{Conn, Peer, Port, Remora, Request, assert_problem, at, eventually, service_with, yar};

const APIS: [(&str, &str); 1] = [("x", "{ path: /x, encoding: json, idempotent: true }")];
const SOON: Duration = Duration::from_secs(20);

fn sidecar(policy: &str, providers: &[&str]) -> Remora {
    let data = format!("access: open, policy: {{ {policy} }}");
    Remora::embedded(&service_with("user", &data, &APIS, providers)).start()
}

/// A provider that answers its name with a status that a test sets.
fn moody(name: &str) -> (Peer, Arc<AtomicU16>) {
    let (status, body) = (Arc::new(AtomicU16::new(200)), json!({ "peer": name }).to_string());
    let mood = status.clone();
    let json = [("Content-Type", "application/json")];
    (Peer::http(move |_| answer(mood.load(SeqCst), &json, body.as_bytes())), status)
}

fn calls(conn: &mut Conn, times: usize) -> HashMap<u16, usize> {
    let mut seen = HashMap::new();
    for _ in 0..times {
        *seen.entry(conn.request("GET", "/user/x", &[], b"").unwrap().status).or_default() += 1;
    }
    seen
}

/// What `/services/user` shows of a provider.
fn shown(remora: &Remora, address: &str) -> Value {
    let page = remora.page("/services/user");
    let providers = at(&page, "/providers").as_array().unwrap();
    providers.iter().find(|provider| provider["address"] == address).unwrap().clone()
}

fn circuit(remora: &Remora, address: &str) -> String {
    at(&shown(remora, address), "/circuit/state").as_str().unwrap().to_owned()
}

#[test]
fn a_provider_that_fails_is_left_alone_and_comes_back() {
    let (good, (moody, mood)) = (Peer::named("good"), moody("moody"));
    let policy = "balance: round_robin, circuit: { open: 2s }";
    let remora = sidecar(policy, &[&good.address, &moody.address]);
    mood.store(500, SeqCst);
    let mut conn = remora.conn();
    assert_eq!(calls(&mut conn, 10), HashMap::from([(200, 5), (500, 5)]));
    assert_eq!(circuit(&remora, &good.address), "closed");
    assert_eq!(circuit(&remora, &moody.address), "open");
    mood.store(200, SeqCst);
    let before = moody.calls();
    eventually("it is well again", SOON, || {
        assert_eq!(calls(&mut conn, 1), HashMap::from([(200, 1)]));
        circuit(&remora, &moody.address) == "closed"
    });
    assert_eq!(moody.calls(), before + 1, "one call probed");
    calls(&mut conn, 10);
    assert_eq!(moody.calls(), before + 6);
    let page = remora.admin("GET", "/metrics").text();
    for (to, count) in [("open-consecutive", 1), ("half-open", 1), ("closed", 1)] {
        let line = format!("remora_circuit_transitions_total{{service=\"user\",to=\"{to}\"}} {count}");
        assert!(page.contains(&line), "{line} is missing in\n{page}");
    }
    assert!(remora.log().contains("provider is left alone") && remora.log().contains("well again"));
}

/// A call whose answer may break off, before some of it came or behind it.
fn call_broken(remora: &Remora) -> bool {
    let mut conn = remora.conn();
    conn.send(support::http::request("GET", "/user/x", &[], b"")).unwrap();
    conn.answer().map_or(true, |answer| answer.status == 502)
}

#[test]
fn a_provider_that_breaks_off_every_answer_is_left_alone_and_probed_to_the_end() {
    let cutting = Peer::cutting("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}");
    let remora = sidecar("circuit: { open: 50ms, max_open: 50ms, min_calls: 1000000 }", &[&cutting.address]);
    (0..5).for_each(|_| assert!(call_broken(&remora)));
    eventually("it is left alone", SOON, || circuit(&remora, &cutting.address) == "open");
    let probes = |word: &str| {
        let sample = format!("remora_circuit_transitions_total{{service=\"user\",to=\"{word}\"}} ");
        let text = remora.admin("GET", "/metrics").text();
        text.lines().find_map(|line| line.strip_prefix(&sample).map(str::to_owned))
    };
    eventually("it is probed", SOON, || {
        call_broken(&remora);
        probes("half-open").is_some_and(|count| count.parse::<u32>().unwrap() >= 3)
    });
    assert_eq!(probes("closed"), None);
}

#[test]
fn a_probe_whose_answer_never_ends_lets_the_others_pass() {
    let ill = Arc::new(AtomicU16::new(1));
    let mood = ill.clone();
    let endless = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        if Request::read(&mut conn).is_err() {
            return;
        }
        if mood.load(SeqCst) == 1 {
            let _ = conn.send(answer(500, &[], b"{}"));
            return;
        }
        let _ = conn.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while conn.send(b"1\r\n.\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let policy = "timeout: 300ms, circuit: { consecutive: 1, open: 20ms, max_open: 20ms }";
    let remora = sidecar(policy, &[&endless.address]);
    assert_eq!(remora.get("/user/x").status, 500);
    ill.store(0, SeqCst);
    let mut streams = Vec::new();
    eventually("calls pass again", SOON, || {
        let mut conn = remora.conn();
        conn.send(support::http::request("GET", "/user/x", &[], b"")).unwrap();
        streams.push(conn);
        circuit(&remora, &endless.address) == "closed"
    });
}

#[test]
fn a_4xx_is_no_failure() {
    let (moody, mood) = moody("moody");
    let remora = sidecar("circuit: { consecutive: 1 }", &[&moody.address]);
    mood.store(404, SeqCst);
    assert_eq!(calls(&mut remora.conn(), 30), HashMap::from([(404, 30)]));
    assert_eq!(circuit(&remora, &moody.address), "closed");
}

#[test]
fn which_5xx_are_failures_is_for_the_policy_to_say() {
    let (moody, mood) = moody("moody");
    let remora = sidecar("circuit: { consecutive: 1, failures: \"502-504\" }", &[&moody.address]);
    mood.store(500, SeqCst);
    assert_eq!(calls(&mut remora.conn(), 30), HashMap::from([(500, 30)]));
    assert_eq!(circuit(&remora, &moody.address), "closed");
    mood.store(503, SeqCst);
    calls(&mut remora.conn(), 1);
    assert_eq!(circuit(&remora, &moody.address), "open");
}

#[test]
fn a_caller_that_leaves_no_time_makes_nobody_look_ill() {
    let silent = Peer::silent();
    let remora = sidecar("timeout: 30s, circuit: { consecutive: 1 }", &[&silent.address]);
    for _ in 0..5 {
        let answer = remora.call("GET", "/user/x", &[("X-Deadline-Ms", "20")], b"");
        assert_problem(&answer, "deadline", 504);
    }
    assert_eq!(circuit(&remora, &silent.address), "closed");
}

#[test]
fn a_provider_that_hangs_is_left_alone_though_its_callers_are_in_a_hurry() {
    let hangs = Arc::new(AtomicU16::new(0));
    let mood = hangs.clone();
    let moody = Peer::http(move |_| match mood.load(SeqCst) {
        0 => ok_json(&json!({})),
        _ => Vec::new(),
    });
    let remora = sidecar("timeout: 60s, circuit: { open: 50s }", &[&moody.address]);
    let hurry = [("X-Deadline-Ms", "800")];
    assert_eq!(calls(&mut remora.conn(), 20), HashMap::from([(200, 20)]));
    hangs.store(1, SeqCst);
    for _ in 0..5 {
        assert_problem(&remora.call("GET", "/user/x", &hurry, b""), "deadline", 504);
    }
    assert_problem(&remora.call("GET", "/user/x", &hurry, b""), "circuit-open", 503);
}

#[test]
fn with_half_of_them_dead_no_call_fails_once_they_are_left_alone() {
    let good: Vec<_> = (0..3).map(|n| Peer::named(&format!("good {n}"))).collect();
    let dead: Vec<_> = (0..3).map(|_| Peer::refusing()).collect();
    let providers: Vec<_> = good.iter().map(|peer| peer.address.as_str()).collect();
    let providers: Vec<_> = providers.into_iter().chain(dead.iter().map(String::as_str)).collect();
    for balance in ["round_robin", "random", "p2c"] {
        let remora = sidecar(&format!("balance: {balance}, circuit: {{ open: 500ms }}"), &providers);
        let mut conn = remora.conn();
        eventually("they are left alone", SOON, || {
            calls(&mut conn, 20);
            dead.iter().all(|address| circuit(&remora, address) != "closed")
        });
        // some of these probe, and then go elsewhere
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            assert_eq!(calls(&mut conn, 50), HashMap::from([(200, 50)]), "{balance}");
        }
    }
}

#[test]
fn where_all_are_dead_callers_are_told_at_once_when_to_come_again() {
    let (port, other) = (Port::free(), Peer::refusing());
    let address = port.address();
    let remora = sidecar("retries: 0, circuit: { open: 30s }", &[&address, &other]);
    let mut conn = remora.conn();
    eventually("all are left alone", SOON, || {
        let answer = conn.request("GET", "/user/x", &[], b"").unwrap();
        answer.kind().as_deref() == Some("circuit-open")
    });
    let attempts = |remora: &Remora| {
        let of = |address: &str| at(&shown(remora, address), "/failed").as_u64().unwrap();
        of(&address) + of(&other)
    };
    let before = attempts(&remora);
    for _ in 0..50 {
        let answer = conn.request("GET", "/user/x", &[], b"").unwrap();
        assert_problem(&answer, "circuit-open", 503);
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=30).contains(&after), "{after}");
    }
    assert_eq!(attempts(&remora), before, "nobody was asked");
    let thrown = yar::send(&remora, "/user", &yar::json_request("x", "[]"));
    yar::assert_refused(&yar::json_payload(&thrown), "CircuitOpen", 10505);

    // it takes connections again: the sidecar finds that out by itself, long before a call would
    let _back = Peer::http_at(&address, |request| ok_json(&request.echo()));
    remora.until_status("/user/x", 200, SOON);
    assert_eq!((&*circuit(&remora, &address), &*circuit(&remora, &other)), ("closed", "open"));
}

#[test]
fn a_provider_whose_check_fails_gets_no_calls_until_it_succeeds() {
    let status = Arc::new(AtomicU16::new(200));
    let health = status.clone();
    let named = ok_json(&json!({ "peer": "checked" }));
    let checked = Peer::http(move |request| match request.target.as_str() {
        "/health" => answer(health.load(SeqCst), &[], b""),
        _ => named.clone(),
    });
    let good = Peer::named("good");
    let health = "health: { http: /health, interval: 100ms, timeout: 1s, rise: 2, fall: 2 }";
    let remora = sidecar(&format!("balance: round_robin, {health}"), &[&checked.address, &good.address]);
    let mut conn = remora.conn();
    calls(&mut conn, 2);
    status.store(500, SeqCst);
    eventually("it is found ill", SOON, || circuit(&remora, &checked.address) == "open");
    assert_eq!(at(&shown(&remora, &checked.address), "/circuit/cause"), "active");
    let check = || shown(&remora, &checked.address)["check"].clone();
    assert_eq!(
        (check(), &shown(&remora, &good.address)["check"]),
        (json!("GET /health answered 500"), &json!(null))
    );
    let asked = |peer: &Peer| peer.requests().iter().filter(|request| request.target == "/x").count();
    let before = asked(&checked);
    assert_eq!(calls(&mut conn, 20), HashMap::from([(200, 20)]));
    assert_eq!(asked(&checked), before);
    status.store(204, SeqCst);
    eventually("it is found well", SOON, || circuit(&remora, &checked.address) == "closed");
    calls(&mut conn, 10);
    assert_eq!((asked(&checked), check()), (before + 5, json!(null)));
}

#[test]
fn a_provider_that_fails_the_check_of_one_of_its_apis_is_left_alone() {
    let named = |name: &str, health: u16| {
        let body = ok_json(&json!({ "peer": name }));
        Peer::http(move |request| match request.target.as_str() {
            "/health" => answer(health, &[], b""),
            "/alive" => answer(200, &[], b""),
            _ => body.clone(),
        })
    };
    let (good, ill) = (named("good", 200), named("ill", 503));
    let own = "{ path: /y, policy: { health: { http: /health, interval: 100ms, fall: 1 } } }";
    let apis = [APIS[0], ("y", own)];
    for policy in ["", "policy: { health: { http: /alive, interval: 100ms } }"] {
        let remora =
            Remora::embedded(&service_with("user", policy, &apis, &[&good.address, &ill.address])).start();
        calls(&mut remora.conn(), 1);
        eventually("it is found ill", SOON, || circuit(&remora, &ill.address) == "open");
        assert_eq!(circuit(&remora, &good.address), "closed");
        // another check of it succeeds, and says nothing against this one
        eventually("why is told", SOON, || {
            shown(&remora, &ill.address)["check"] == "GET /health answered 503"
        });
    }
}

#[test]
fn a_check_that_finds_everybody_ill_takes_no_service_down() {
    let named = |name: &str| {
        let body = ok_json(&json!({ "peer": name }));
        Peer::http(move |request| if request.target == "/x" { body.clone() } else { answer(404, &[], b"") })
    };
    let (one, two) = (named("one"), named("two"));
    let health = "health: { http: /wrong, interval: 100ms, fall: 2 }";
    let remora = sidecar(health, &[&one.address, &two.address]);
    let mut conn = remora.conn();
    calls(&mut conn, 1);
    let both = [&one.address, &two.address];
    eventually("they are found ill", SOON, || both.iter().all(|address| circuit(&remora, address) == "open"));
    assert_eq!(calls(&mut conn, 20), HashMap::from([(200, 20)]));
    assert_eq!(shown(&remora, &one.address)["panic"], true);
    assert!(remora.admin("GET", "/metrics").text().contains("remora_panic{service=\"user\"} 1\n"));
    eventually("the log says so", SOON, || remora.log().contains("\"panic\":true"));
}

#[test]
fn the_own_zone_is_called_first_and_left_where_it_is_dead() {
    let (far, gone) = (Peer::named("far"), Peer::refusing());
    let near = Peer::named("near");
    let of = |address: &str, idc: &str| format!("{{ address: \"{address}\", idc: {idc} }}");
    let start = |near: &str| {
        let providers = [of(near, "bj1"), of(&far.address, "sh1")];
        let providers: Vec<_> = providers.iter().map(String::as_str).collect();
        let entries = service_with("user", "policy: { retries: 1 }", &APIS, &providers);
        Remora::embedded(&entries).with("host: { idc: bj1 }").start()
    };
    assert_eq!(calls(&mut start(&near.address).conn(), 50), HashMap::from([(200, 50)]));
    assert_eq!((near.calls(), far.calls()), (50, 0));
    let remora = start(&gone);
    assert_eq!(calls(&mut remora.conn(), 50), HashMap::from([(200, 50)]));
    assert_eq!(far.calls(), 50);
    assert!(remora.admin("GET", "/metrics").text().contains("remora_zone_away{service=\"user\"} 100\n"));
}

#[test]
fn the_same_value_of_a_header_meets_the_same_provider() {
    let peers: Vec<_> = (0..4).map(|n| Peer::named(&n.to_string())).collect();
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address.as_str()).collect();
    let remora = sidecar("balance: hash, hash_on: \"header:X-User\"", &addresses);
    let mut conn = remora.conn();
    let mut who = |user: &str| {
        let answer = conn.request("GET", "/user/x", &[("X-User", user)], b"").unwrap();
        answer.json()["peer"].as_str().unwrap().to_owned()
    };
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..40 {
        let user = user.to_string();
        let first = who(&user);
        assert!((0..5).all(|_| who(&user) == first), "{user}");
        seen.insert(first);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn the_same_parameter_meets_the_same_provider_however_it_is_called() {
    let peers: Vec<_> = (0..4)
        .map(|n| {
            Peer::http(move |request| answer(200, &[], &yar::php_answer(&request.body, &format!("i:{n};"))))
        })
        .collect();
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address.as_str()).collect();
    let data = "access: open, policy: { balance: hash, hash_on: \"param:1\" }";
    let api = ("x", "{ encoding: yar-php, params: [lang, id] }");
    let remora = Remora::embedded(&service_with("user", data, &[api], &addresses)).start();
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..40 {
        let by_yar = yar::send(&remora, "/user", &yar::json_request("x", &format!("[\"en\",{user}]")));
        let first = yar::json_payload(&by_yar)["r"].clone();
        let listed = remora.post("/user/x", &format!("[\"en\",\"{user}\"]"));
        let named = remora.post("/user/x", &format!("{{\"id\":{user},\"lang\":\"zh\"}}"));
        let asked = remora.get(&format!("/user/x?lang=en&id={user}"));
        assert_eq!(
            [listed, named, asked].map(|answer| answer.json()),
            [(); 3].map(|()| first.clone()),
            "{user}"
        );
        seen.insert(first.to_string());
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_full_provider_gets_no_more_and_where_all_are_the_call_is_refused() {
    let silent = Peer::silent();
    let provider = format!("{{ address: \"{}\", max_connections: 2 }}", silent.address);
    let remora = sidecar("timeout: 30s", &[&provider]);
    let mut waiting: Vec<_> = (0..2).map(|_| remora.conn()).collect();
    for conn in &mut waiting {
        conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    }
    eventually("both are there", SOON, || silent.calls() == 2);
    let refused = remora.get("/user/x");
    assert_problem(&refused, "overloaded", 503);
    assert!(refused.text().contains("max_connections"), "{}", refused.text());
    drop(waiting);
    eventually("there is room", SOON, || at(&remora.page("/services/user"), "/providers/0/in_flight") == 0);
}

#[test]
fn a_black_hole_takes_no_more_calls_in_turn_than_its_max_connections() {
    let (hole, good) = (Peer::silent(), Peer::named("good"));
    let of = |address: &str| format!("{{ address: \"{address}\", max_connections: 2 }}");
    let remora = sidecar("balance: round_robin, timeout: 30s", &[&of(&hole.address), &good.address]);
    let mut conns: Vec<_> = (0..12).map(|_| remora.conn()).collect();
    conns.iter_mut().for_each(|conn| conn.send(request("GET", "/user/x", &[], b"")).unwrap());
    eventually("all others are answered", SOON, || good.calls() == 10);
    assert_eq!(calls(&mut remora.conn(), 10), HashMap::from([(200, 10)]));
    assert_eq!(hole.calls(), 2);
}

#[test]
fn a_caller_that_sends_its_body_slowly_makes_no_provider_look_slow() {
    let peer = Peer::echo();
    let remora = sidecar("timeout: 30s", &[&peer.address]);
    let latency = || at(&shown(&remora, &peer.address), "/latency_ms").as_f64().unwrap();
    let in_part = || {
        let mut conn = remora.conn();
        conn.send("POST /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: 39\r\n\r\n{\"twenty\": \"bytes of")
            .unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        conn
    };
    let mut slow = in_part();
    slow.send(" it and then more\"}").unwrap();
    assert_eq!(slow.answer().unwrap().status, 200);
    assert!(latency() < 1000.0, "{}", latency());
    drop(in_part());
    eventually("it is given up", SOON, || at(&remora.page("/services/user"), "/in_flight") == 0);
    assert!(latency() < 1000.0, "{}", latency());
}

#[test]
fn retry_after_in_any_form_does_no_harm() {
    for after in ["99999999", "-1", "Thu, 26 Nov 2099 00:00:00 GMT", "99999999999999999999999999"] {
        let asks = Peer::http(move |_| answer(429, &[("Retry-After", after)], b"{}"));
        let remora = sidecar("", &[&asks.address]);
        let mut conn = remora.conn();
        assert_eq!(calls(&mut conn, 10), HashMap::from([(429, 10)]), "{after}");
        assert_eq!(circuit(&remora, &asks.address), "closed");
    }
    // another is asked instead, as long as the provider wants
    let (asks, good) = (Peer::http(|_| answer(429, &[("Retry-After", "60")], b"{}")), Peer::named("good"));
    let remora = sidecar("", &[&asks.address, &good.address]);
    calls(&mut remora.conn(), 100);
    // each of two workers may have begun before the other knew
    assert!(asks.calls() <= 3, "{}", asks.calls());
}
