//! How deep values may go toward PHP and back, what are no parameters, how late a message may begin, and what is held of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::peer::answer;
use support::php::Php;
use support::{Answer, Peer, Remora, assert_problem, service, yar};

/// Empty lists in each other, so many.
fn lists(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

/// The same in msgpack.
fn packed(levels: usize) -> Vec<u8> {
    let mut lists = vec![0x91; levels];
    lists[levels - 1] = 0x90;
    lists
}

/// Services `msgpack`, `json` and `php`: functions of the PHP provider, by Yar.
fn provided(provider: &Php) -> Remora {
    let mut entries = String::new();
    for packager in ["msgpack", "json", "php"] {
        let api = format!("{{ encoding: yar-{packager} }}");
        entries += &service(packager, &[("echoArg", &api), ("count", &api)], &[&provider.address]);
    }
    Remora::embedded(&entries).start()
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

/// Whether a Yar answer ends with what these bytes are, or throws what holds the text.
fn ends(answer: &Answer, expected: &[u8]) -> bool {
    assert_eq!(answer.status, 200);
    answer.body.ends_with(expected)
}

fn throws(answer: &Answer, kind: &str, reason: &str) {
    let text = answer.text();
    // JSON doubles the backslash
    let named = text.contains(&format!("Remora\\{kind}")) || text.contains(&format!("Remora\\\\{kind}"));
    assert!(named && text.contains(reason), "{text}");
}

const MESSAGE: &str = "nested deeper than 511, the message's map included: PHP reads no such JSON";

#[test]
fn an_http_caller_goes_as_deep_as_php_reads() {
    let provider = Php::yar();
    let remora = provided(&provider);
    for service in ["msgpack", "php"] {
        let target = format!("/{service}/echoArg");
        assert_eq!(remora.post(&target, &lists(512)).text(), lists(511), "{service}");
        let problem = remora.post(&target, &lists(513));
        assert_problem(&problem, "malformed-request", 400);
        assert!(detail(&problem).contains("byte 512: nested deeper than 512"), "{}", problem.text());
    }
    assert_eq!(remora.post("/json/echoArg", &lists(510)).text(), lists(509));
    let problem = remora.post("/json/echoArg", &lists(511));
    assert_problem(&problem, "unadaptable", 422);
    let place = "[0]".repeat(16);
    assert_eq!(detail(&problem), format!("${place}…{place}: {MESSAGE}"));
    let map = |levels: usize| format!("{{\"a\":{}}}", lists(levels - 1));
    assert_eq!(remora.post("/json/echoArg", &map(509)).text(), map(509));
    let problem = remora.post("/json/echoArg", &map(510));
    assert!(detail(&problem).starts_with("$.a[0]"), "{}", problem.text());
    assert_problem(&problem, "unadaptable", 422);
}

#[test]
fn a_yar_caller_goes_as_deep_as_php_reads() {
    let provider = Php::yar();
    let remora = provided(&provider);
    let by_json = |service: &str, levels| {
        yar::send(&remora, &format!("/{service}"), &yar::json_request("echoArg", &lists(levels)))
    };
    let by_msgpack = |service: &str, levels| {
        yar::send(&remora, &format!("/{service}"), &yar::msgpack_request("echoArg", &packed(levels)))
    };
    for service in ["msgpack", "json", "php"] {
        let back = format!("\"r\":{}}}", lists(509));
        assert!(ends(&by_json(service, 510), back.as_bytes()), "{service}");
        throws(&by_json(service, 511), "MalformedRequest", "nested deeper than 511");
        throws(&by_msgpack(service, 512), "MalformedRequest", "nested deeper than 512");
    }
    for (service, most) in [("msgpack", 511), ("php", 511), ("json", 510)] {
        assert!(ends(&by_msgpack(service, most), &packed(most - 1)), "{service}");
    }
    throws(&by_msgpack("json", 511), "Unadaptable", MESSAGE);
}

#[test]
fn an_answer_comes_back_as_deep_as_php_reads() {
    let answering = |levels| Peer::http(move |_| answer(200, &[], lists(levels).as_bytes()));
    let peers: Vec<_> = [510, 511, 512, 513].map(answering).into_iter().collect();
    let entries = [510, 511, 512, 513].iter().zip(&peers);
    let api = [("x", "{ path: /x, encoding: json }")];
    let entries = entries.map(|(levels, peer)| service(&format!("of{levels}"), &api, &[&peer.address]));
    let remora = Remora::embedded(&entries.collect::<String>()).start();
    let by_json = |service| yar::send(&remora, service, &yar::json_request("x", "[]"));
    let by_msgpack = |service| yar::send(&remora, service, &yar::msgpack_request("x", &[0x90]));
    assert!(ends(&by_json("/of510"), format!("\"r\":{}}}", lists(510)).as_bytes()));
    throws(&by_json("/of511"), "Unadaptable", MESSAGE);
    assert!(ends(&by_msgpack("/of512"), &packed(512)));
    throws(&by_msgpack("/of513"), "BadAnswer", "nested deeper than 512");
}

#[test]
fn what_is_no_list_of_parameters_is_malformed_whatever_the_provider_speaks() {
    let (php, json) = (Php::yar(), Peer::echo());
    let mut entries = service("user", &[("count", "{ path: /x, encoding: json }")], &[&json.address]);
    entries += &service("query", &[("count", "{ path: /x, encoding: json, method: GET }")], &[&json.address]);
    for packager in ["msgpack", "json", "php"] {
        let api = format!("{{ encoding: yar-{packager} }}");
        entries += &service(packager, &[("count", &api)], &[&php.address]);
    }
    let remora = Remora::embedded(&entries).start();
    for service in ["/user", "/query", "/msgpack", "/json", "/php"] {
        let object = [0x82, 0xc0, 0xa1, b'X', 0xa1, b'a', 0x01];
        for (message, what) in [
            (yar::json_request("count", "7"), "a number"),
            (yar::json_request("count", "\"x\""), "a string"),
            (yar::msgpack_request("count", &object), "a PHP object"),
            (yar::php_request("count", "O:8:\"stdClass\":0:{}"), "a PHP object"),
        ] {
            throws(
                &yar::send(&remora, service, &message),
                "MalformedRequest",
                &format!("`p` is {what}, not the list"),
            );
        }
    }
    assert_eq!(json.calls(), 0);
}

#[test]
fn a_yar_message_may_begin_long_after_its_head() {
    let calc = Peer::http(|request| answer(200, &[], &yar::msgpack_answer(&request.body, &[0xc3])));
    let api = [("x", "{ encoding: yar-msgpack }")];
    let more = "defaults: { timeout: 30s }";
    let remora = Remora::embedded(&service("calc", &api, &[&calc.address])).with(more).start();
    let message = yar::msgpack_request("x", &[0x90]);
    let mut conn = remora.conn();
    let length = message.len();
    conn.send(format!("POST /calc HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).unwrap();
    for part in [&message[..7], &message[7..]] {
        // what is measured is that this much time may pass
        std::thread::sleep(std::time::Duration::from_millis(1200));
        conn.send(part).unwrap();
    }
    assert!(ends(&conn.answer().unwrap(), &[0xc3]));
}

#[test]
fn a_body_that_never_begins_is_waited_for_no_longer_than_the_caller_waits() {
    // longer than this test waits for any answer
    let patient = "defaults: { timeout: 600s }";
    let calc = service("calc", &[("x", "{ encoding: yar-msgpack }")], &[]);
    let remora = Remora::embedded(&calc).with(patient).start();
    let mut conn = remora.conn();
    let head = "POST /calc/x HTTP/1.1\r\nHost: a\r\nContent-Length: 200\r\nX-Deadline-Ms: 50\r\n\r\n";
    conn.send(head).unwrap();
    assert_problem(&conn.answer().unwrap(), "no-provider", 503);
}

#[test]
fn what_a_body_becomes_is_held_within_buffers_too() {
    let php = Peer::http(|request| answer(200, &[], &yar::php_answer(&request.body, "i:1;")));
    let wordy = format!("[{}1]", "[],".repeat(100_000));
    let grown = wordy.clone();
    let json = Peer::http(move |_| answer(200, &[], grown.as_bytes()));
    let mut entries = service("calc", &[("x", "{ encoding: yar-php }")], &[&php.address]);
    entries += &service("user", &[("x", "{ path: /x, encoding: json }")], &[&json.address]);
    // 300 KB of JSON are 1.7 MB in PHP's own format
    let tight = Remora::embedded(&entries).with("buffers: 1MiB").start();
    let problem = tight.post("/calc/x", &wordy);
    assert_problem(&problem, "overloaded", 503);
    assert!(detail(&problem).contains("holds 1MiB of bodies"), "{}", problem.text());
    let message = yar::php_request("x", "a:0:{}");
    throws(
        &yar::send(&tight, "/user", &message),
        "BadAnswer",
        "no room for its answer: this sidecar holds 1MiB",
    );
    let asked = yar::msgpack_request("x", &[&[0xdd, 0, 1, 0x86, 0xa0][..], &[0x90; 100_000]].concat());
    throws(&yar::send(&tight, "/calc", &asked), "Overloaded", "holds 1MiB of bodies");
    assert_eq!(php.calls(), 0, "what has no room is not sent");
    let held = |remora: &Remora| {
        let metrics = remora.admin("GET", "/metrics").text();
        metrics.lines().find_map(|line| line.strip_prefix("remora_buffers_bytes ")).map(str::to_owned)
    };
    let wide = Remora::embedded(&entries).with("buffers: 4MiB").start();
    for _ in 0..4 {
        assert_eq!(wide.post("/calc/x", &wordy).text(), "1");
        assert!(ends(&yar::send(&wide, "/calc", &asked), &[0xa1, b'r', 1]));
        assert!(yar::send(&wide, "/user", &message).body.len() > 1 << 20);
    }
    for remora in [&tight, &wide] {
        support::eventually("all is given back", std::time::Duration::from_secs(5), || {
            held(remora).as_deref() == Some("0")
        });
    }
}
