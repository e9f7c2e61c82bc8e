//! Raw Yar over TCP and unix sockets, as PHP's client and as stranger ones send it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use support::peer::{answer, ok_json};
use support::php::{self, Php};
use support::{
    Conn, Peer, Remora, assert_thrown, eventually, eventually_some, http, service, service_with, yar,
};
use yar::{
    assert_refused, call_raw, json_request, json_request_as, persistent, raw_payload, read_raw, with_id,
};

/// Large bodies take their time in a build for tests.
const PATIENT: &str = "defaults: { timeout: 60s }";
const YAR_JSON: &str = "{ encoding: yar-json }";

/// A Yar provider over HTTP that answers with the method and the parameters it got.
fn mirror() -> Peer {
    Peer::http(|request| answer(200, &[], &mirrored(&request.body)))
}

fn mirrored(message: &[u8]) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(&message[90..]).unwrap();
    let result = json!({"i": asked["i"], "s": 0, "r": {"m": asked["m"], "p": asked["p"]}});
    with_id(
        yar::message("JSON", result.to_string().as_bytes()),
        u32::from_be_bytes([message[0], message[1], message[2], message[3]]),
    )
}

fn calc(peer: &Peer) -> String {
    service("calc", &[("add", YAR_JSON), ("*", YAR_JSON)], &[&peer.address])
}

/// A provider whose answers wait for the test's word; the first channel tells of each request.
fn held() -> (Peer, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (came, requests) = mpsc::channel();
    let (release, word) = mpsc::channel();
    let (came, word) = (std::sync::Mutex::new(came), std::sync::Mutex::new(word));
    let peer = Peer::http(move |request| {
        let _ = came.lock().unwrap().send(());
        // the test that never speaks ends the wait by ending
        let _ = word.lock().unwrap().recv();
        answer(200, &[], &mirrored(&request.body))
    });
    (peer, requests, release)
}

fn line_of<'l>(log: &'l str, outcome: &str) -> Option<&'l str> {
    log.lines().find(|line| line.contains(&format!("\"outcome\":\"{outcome}\"")))
}

#[test]
fn php_reaches_every_kind_of_provider_over_tcp_and_unix() {
    let (yar_provider, json_provider) = (Php::yar(), Php::json());
    let mut entries = service("calc", &[("*", "{ encoding: yar-msgpack }")], &[&yar_provider.address]);
    entries += &service("calc2", &[("*", YAR_JSON)], &[&yar_provider.address]);
    entries += &service("user", &[("getUser", "{ path: /user/get }")], &[&json_provider.address]);
    let remora = Remora::embedded(&entries).start();
    let tcp = format!("tcp://{}", remora.address);
    let unix = format!("unix://{}", remora.socket.display());
    for url in [&tcp, &unix] {
        for packager in ["msgpack", "json"] {
            assert_eq!(php::yar_value(packager, url, "calc.add", json!([1, 2])), 3, "{url} {packager}");
            assert_eq!(php::yar_value(packager, url, "calc2.add", json!([1, 2])), 3, "{url} {packager}");
            let user = php::yar_value(packager, url, "user.getUser", json!([{"id": 7}]));
            assert_eq!(user["name"], "user 7", "{url} {packager}");
            let seen = php::yar(packager, url, "calc.throw", json!(["no more", 77]), json!({}));
            assert_eq!((&seen["message"], &seen["code"]), (&json!("no more"), &json!(77)), "{seen}");
            let seen = php::yar(packager, url, "nobody.add", json!([]), json!({}));
            assert_thrown(&seen, "NoService", 10404);
        }
    }
}

#[test]
fn php_keeps_its_connection_where_it_asks_for_it() {
    let provider = Php::yar();
    let entries = service("calc", &[("*", "{ encoding: yar-msgpack }")], &[&provider.address]);
    let remora = Remora::embedded(&entries).start();
    for url in [format!("tcp://{}", remora.address), format!("unix://{}", remora.socket.display())] {
        let kept = json!({"keep_alive": true});
        let calls = php::yar_times(5, "msgpack", &url, "calc.add", json!([1, 2]), kept);
        let connects: i64 = calls.iter().map(|c| c["connects"].as_i64().unwrap()).sum();
        assert!(calls.iter().all(|c| c["value"] == 3), "{calls:?}");
        assert_eq!(connects, 1, "{calls:?}");
    }
}

#[test]
fn a_megabyte_crosses_both_ways() {
    let provider = Php::yar();
    let entries = service("calc", &[("*", "{ encoding: yar-msgpack }")], &[&provider.address]);
    let remora = Remora::embedded(&entries).with(PATIENT).start();
    let text = "é".repeat(500_000);
    let url = format!("tcp://{}", remora.address);
    for packager in ["msgpack", "json"] {
        let seen = php::yar(packager, &url, "calc.echoArg", json!([text]), json!({"timeout_ms": 60_000}));
        assert_eq!(seen["value"], text, "{}", seen["message"]);
    }
}

#[test]
fn one_listener_takes_http_and_raw_yar() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    for _ in 0..2 {
        let seen = call_raw(remora.conn(), &json_request("calc.add", "[1,2]"));
        assert_eq!(seen["r"], json!({"m": "add", "p": [1, 2]}));
        let seen = yar::json_payload(&yar::send(&remora, "/calc", &json_request("add", "[1,2]")));
        assert_eq!(seen["r"], json!({"m": "add", "p": [1, 2]}));
        assert_eq!(remora.post("/calc/add", "[3]").json()["p"], json!([3]));
        let seen = call_raw(Conn::open_unix(&remora.socket), &json_request("calc.add", "[]"));
        assert_eq!(seen["r"]["m"], "add");
    }
}

#[test]
fn bytes_that_arrive_one_by_one_are_told_apart_too() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let mut conn = remora.conn();
    for byte in json_request("calc.add", "[1,2]") {
        conn.send([byte]).unwrap();
    }
    assert_eq!(raw_payload(&read_raw(&mut conn).unwrap())["r"]["p"], json!([1, 2]));
    let mut conn = remora.conn();
    for byte in http::request("POST", "/calc/add", &[], b"[1]") {
        conn.send([byte]).unwrap();
    }
    assert_eq!(conn.answer().unwrap().json()["p"], json!([1]));
    // fewer bytes than tell the two apart
    for few in [&b"G"[..], b"GET /", &json_request("a", "[]")[..9]] {
        let mut conn = remora.conn();
        conn.send(few).unwrap();
        conn.half_close();
        assert!(conn.is_closed() || !conn.rest().unwrap().is_empty());
    }
}

#[test]
fn a_client_that_stays_is_answered_again_and_again_and_in_order() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let mut conn = remora.conn();
    let numbered = |n: u32| persistent(json_request_as(n, "calc.add", &format!("[{n}]")));
    for n in 1..4 {
        conn.send(numbered(n)).unwrap();
        let answer = read_raw(&mut conn).unwrap();
        assert_eq!(answer[..4], n.to_be_bytes());
    }
    let all: Vec<u8> = (10..60).flat_map(numbered).collect();
    conn.send(&all).unwrap();
    for n in 10..60_u32 {
        let answer = read_raw(&mut conn).unwrap();
        assert_eq!((&answer[..4], &raw_payload(&answer)["r"]["p"]), (&n.to_be_bytes()[..], &json!([n])));
    }
    // an end behind several requests is no word to drop them
    let all: Vec<u8> = (10..60).flat_map(|n| json_request_as(n, "calc.add", &format!("[{n}]"))).collect();
    conn.send(&all).unwrap();
    conn.half_close();
    for n in 10..60_u32 {
        assert_eq!(read_raw(&mut conn).unwrap()[..4], n.to_be_bytes());
    }
    assert!(conn.is_closed());
}

#[test]
fn a_listeners_service_is_meant_where_the_method_names_none() {
    let peer = mirror();
    let mut entries = calc(&peer);
    entries += &service("a.b-c", &[("get", YAR_JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).for_service("calc").start();
    let own = || [Conn::open(&remora.service_address), Conn::open_unix(&remora.service_socket)];
    for conn in own() {
        assert_eq!(call_raw(conn, &json_request("add", "[1]"))["r"]["m"], "add");
    }
    for conn in own() {
        assert_eq!(call_raw(conn, &json_request("a.b-c.get", "[1]"))["r"]["m"], "get");
    }
    assert_refused(&call_raw(remora.conn(), &json_request("add", "[1]")), "NoService", 10404);
    for (method, kind, code) in [
        ("calc.", "NoApi", 10405),
        ("", "NoApi", 10405),
        (".add", "NoService", 10404),
        ("..add", "NoService", 10404),
        ("_x.add", "NoService", 10404),
        ("no-such.add", "NoService", 10404),
        ("calc.a/b", "NoApi", 10405),
        ("calc.*", "NoApi", 10405),
    ] {
        let [conn, _] = own();
        assert_refused(&call_raw(conn, &json_request(method, "[1]")), kind, code);
    }
}

#[test]
fn only_the_method_is_rewritten_for_a_provider_that_packs_alike() {
    // bytes that no codec would write this way: a long form of 1, an extension type, a bin
    const PARAMS: &[u8] = &[0x93, 0xd1, 0, 1, 0xd4, 5, 9, 0xc4, 2, 0xff, 0xfe];
    let peer = Peer::http(|request| answer(200, &[], &yar::msgpack_answer(&request.body, &[0xc0])));
    let entries = service("calc", &[("any", "{ encoding: yar-msgpack }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let mut conn = remora.conn();
    conn.send(persistent(yar::msgpack_request("calc.any", PARAMS))).unwrap();
    let answer = read_raw(&mut conn).unwrap();
    assert_eq!(answer.last(), Some(&0xc0));
    assert_eq!(peer.last().body, yar::msgpack_request("any", PARAMS));
}

#[test]
fn a_length_that_cannot_be_is_told_and_ends_the_connection() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let payload = br#"{"i":1,"m":"calc.add","p":[1]}"#;
    for length in [0, 7] {
        let mut conn = remora.conn();
        conn.send(yar::message_with(b"JSON\0\0\0\0", payload, length)).unwrap();
        let seen = raw_payload(&read_raw(&mut conn).unwrap());
        assert_refused(&seen, "MalformedRequest", 10400);
        assert!(conn.is_closed());
    }
    // too short: the payload is cut, and what is left is no message
    let mut conn = remora.conn();
    conn.send(yar::message_with(b"JSON\0\0\0\0", payload, 20)).unwrap();
    for _ in 0..2 {
        let seen = raw_payload(&read_raw(&mut conn).unwrap());
        assert_refused(&seen, "MalformedRequest", 10400);
    }
    assert!(conn.is_closed());
    // too long: the rest never comes
    let seen = call_raw(remora.conn(), &yar::message_with(b"JSON\0\0\0\0", payload, 5000));
    assert_refused(&seen, "MalformedRequest", 10400);
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_huge_length_costs_no_memory() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let mut conn = remora.conn();
        conn.send(yar::message_with(b"JSON\0\0\0\0", br#"{"i":1,"m":"calc.add","p":["#, 10 << 20)).unwrap();
        waiting.push(conn);
        let mut conn = remora.conn();
        conn.send(yar::message_with(b"JSON\0\0\0\0", br#"{"i":1,"m":"calc.add","p":["#, u32::MAX)).unwrap();
        conn.half_close();
        let seen = raw_payload(&read_raw(&mut conn).unwrap());
        assert_eq!(seen["s"], 64);
    }
    assert!(remora.peak_memory() < 120 << 20, "{}", remora.peak_memory());
    drop(waiting);
    let seen = call_raw(remora.conn(), &json_request("calc.add", "[1]"));
    assert_eq!(seen["s"], 0, "{seen}");
}

#[test]
fn a_body_over_the_limit_is_refused_and_the_caller_reads_why() {
    let peer = mirror();
    let mut entries =
        service_with("calc", "policy: { max_body: 100KiB }", &[("add", YAR_JSON)], &[&peer.address]);
    entries += &service_with("wide", "policy: { max_body: 20MiB }", &[("add", YAR_JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).with(PATIENT).start();
    let sized = |service: &str, bytes: usize| {
        json_request(&format!("{service}.add"), &format!("[\"{}\"]", "x".repeat(bytes)))
    };
    let far_too_large = sized("calc", 15 << 20);
    // one that reads nothing before it has sent all
    let mut conn = remora.conn();
    conn.send(&far_too_large).unwrap();
    conn.half_close();
    assert_refused(&raw_payload(&read_raw(&mut conn).unwrap()), "TooLarge", 10413);
    assert!(conn.is_closed());
    // one that never ends
    let mut conn = remora.conn();
    conn.send(&far_too_large[..1 << 20]).unwrap();
    assert_refused(&raw_payload(&read_raw(&mut conn).unwrap()), "TooLarge", 10413);
    assert!(conn.is_closed());
    // over the service's own limit, within the usual one
    assert_refused(&call_raw(remora.conn(), &sized("calc", 200 << 10)), "TooLarge", 10413);
    assert_eq!(peer.calls(), 0);
    let seen = call_raw(remora.conn(), &sized("wide", 15 << 20));
    assert_eq!(seen["r"]["m"], "add");
    let log = eventually_some("the line", Duration::from_secs(5), || {
        line_of(&remora.log(), "too-large").map(str::to_owned)
    });
    assert!(log.contains("\"service\":\"calc\"") && log.contains("\"wire\":\"yar\""), "{log}");
}

#[test]
fn garbage_is_answered_in_json_and_ends_the_connection() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let mut random = json_request("calc.add", "[1]")[..10].to_vec();
    random.extend((0..200_u8).map(|n| n.wrapping_mul(37) | 1));
    let mut conn = remora.conn();
    conn.send(&random).unwrap();
    conn.half_close();
    let answer = read_raw(&mut conn).unwrap();
    assert_eq!(answer[..4], yar::ID.to_be_bytes());
    assert_eq!(raw_payload(&answer)["s"], 64);
    assert!(conn.is_closed());
    // an unknown packager, one that ends within its head, and no Yar behind a good call
    for (bytes, id) in [
        (yar::message("FOO", b"{}"), yar::ID),
        (json_request("calc.add", "[1]")[..50].to_vec(), yar::ID),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 0),
    ] {
        let mut conn = remora.conn();
        conn.send(json_request("calc.add", "[1]")).unwrap();
        conn.send(bytes).unwrap();
        conn.half_close();
        assert_eq!(raw_payload(&read_raw(&mut conn).unwrap())["s"], 0);
        let answer = read_raw(&mut conn).unwrap();
        let seen = raw_payload(&answer);
        assert_refused(&seen, "MalformedRequest", 10400);
        assert_eq!((seen["i"].as_u64(), &answer[..4]), (Some(id.into()), &id.to_be_bytes()[..]));
        assert!(conn.is_closed());
    }
    for broken in [&b"{\"i\":1,\"m\":\"calc.add\""[..], b"", b"[]", b"{\"i\":1,\"p\":[]}", b"{\"m\":7}"] {
        let seen = call_raw(remora.conn(), &yar::message("JSON", broken));
        assert_refused(&seen, "MalformedRequest", 10400);
    }
}

#[test]
fn a_caller_that_leaves_in_the_middle_costs_nothing() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let message = json_request("calc.add", "[1,2,3]");
    for cut in [0, 1, 9, 10, 50, 82, 89, 90, 100, message.len() - 1] {
        let mut conn = remora.conn();
        conn.send(&message[..cut]).unwrap();
        drop(conn);
    }
    assert_eq!(call_raw(remora.conn(), &message)["s"], 0);
    assert_eq!(peer.calls(), 1);
}

#[test]
fn a_client_that_stays_and_closes_during_its_call_is_gone() {
    let (peer, came, release) = held();
    let remora = Remora::embedded(&calc(&peer)).start();
    let mut conn = remora.conn();
    conn.send(persistent(json_request("calc.add", "[1]"))).unwrap();
    came.recv_timeout(Duration::from_secs(10)).unwrap();
    drop(conn);
    eventually("the call is given up", Duration::from_secs(4), || {
        line_of(&remora.log(), "caller-gone").is_some()
    });
    let line = line_of(&remora.log(), "caller-gone").unwrap().to_owned();
    assert!(line.contains("\"wire\":\"yar\"") && line.contains("\"api\":\"add\""), "{line}");
    drop(release);
}

#[test]
fn a_half_closed_caller_whose_connection_breaks_is_gone() {
    let (peer, came, release) = held();
    let remora = Remora::embedded(&calc(&peer)).start();
    let stream = std::net::TcpStream::connect(&remora.address).unwrap();
    (&stream).write_all(&json_request("calc.add", "[1]")).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    came.recv_timeout(Duration::from_secs(10)).unwrap();
    // closes with a reset
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    eventually("the call is given up", Duration::from_secs(4), || {
        line_of(&remora.log(), "caller-gone").is_some()
    });
    drop(release);
}

#[test]
fn a_hundred_and_twenty_eight_at_once_are_all_answered() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let mut open: Vec<_> = (0..128_u32)
        .map(|n| {
            let mut conn = if n % 2 == 0 { remora.conn() } else { Conn::open_unix(&remora.socket) };
            conn.send(json_request_as(n, "calc.add", &format!("[{n}]"))).unwrap();
            conn.half_close();
            conn
        })
        .collect();
    for (n, conn) in open.iter_mut().enumerate() {
        let answer = read_raw(conn).unwrap();
        assert_eq!(raw_payload(&answer)["r"]["p"], json!([n]));
        assert!(conn.is_closed());
    }
}

#[test]
fn at_the_end_calls_in_flight_are_answered_and_idle_callers_let_go() {
    let (peer, came, release) = held();
    let mut remora = Remora::embedded(&calc(&peer)).start();
    let (mut idle, mut silent) = (remora.conn(), remora.conn());
    idle.send(persistent(json_request("calc.add", "[0]"))).unwrap();
    came.recv_timeout(Duration::from_secs(10)).unwrap();
    release.send(()).unwrap();
    read_raw(&mut idle).unwrap();
    silent.send(&json_request("calc.add", "[0]")[..30]).unwrap();
    let mut busy = remora.conn();
    busy.send(json_request("calc.add", "[1]")).unwrap();
    busy.half_close();
    came.recv_timeout(Duration::from_secs(10)).unwrap();
    remora.signal("TERM");
    assert!(idle.is_closed() && silent.is_closed(), "idle ones are let go while a call is in flight");
    release.send(()).unwrap();
    assert_eq!(raw_payload(&read_raw(&mut busy).unwrap())["r"]["p"], json!([1]));
    assert!(busy.is_closed());
    assert_eq!(remora.wait(Duration::from_secs(8)), Some(0));
}

#[test]
fn a_caller_that_sends_its_body_too_slowly_is_told_so() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).with("defaults: { timeout: 300ms }").start();
    let message = json_request("calc.add", "[1]");
    let mut conn = remora.conn();
    conn.send(&message[..95]).unwrap();
    let seen = raw_payload(&read_raw(&mut conn).unwrap());
    assert_refused(&seen, "MalformedRequest", 10400);
    assert!(seen["e"]["message"].as_str().unwrap().contains("300ms"), "{seen}");
    assert!(conn.is_closed());
}

#[test]
fn a_caller_that_reads_nothing_is_given_up() {
    let big = "x".repeat(24 << 20);
    let peer = Peer::http(move |_| ok_json(&json!(big)));
    let policy = "policy: { idle_timeout: 300ms }";
    let entries = service_with("user", policy, &[("big", "{ path: /big }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).with(PATIENT).start();
    let mut conn = remora.conn();
    conn.send(json_request("user.big", "[]")).unwrap();
    eventually("it is given up", Duration::from_secs(60), || line_of(&remora.log(), "caller-gone").is_some());
    assert!(read_raw(&mut conn).is_err(), "its answer was not whole");
}

#[test]
fn a_deadline_is_told_within_the_time_and_the_connection_goes_on() {
    let peer = Peer::silent();
    let entries = service_with("calc", "policy: { timeout: 200ms }", &[("add", YAR_JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let mut conn = remora.conn();
    for _ in 0..2 {
        conn.send(persistent(json_request("calc.add", "[1]"))).unwrap();
        assert_refused(&raw_payload(&read_raw(&mut conn).unwrap()), "Deadline", 10509);
    }
}

#[test]
fn provider_and_token_say_who_calls() {
    let peer = mirror();
    let grant = format!("{{ apis: [add], keys: [ {{ sha256: {SESAME} }} ] }}");
    let mut entries =
        service_with("calc", "access: key", &[("add", YAR_JSON), ("sub", YAR_JSON)], &[&peer.address]);
    entries += &format!("/access/calc/web: {grant}\n");
    let remora = Remora::embedded(&entries).start();
    let url = format!("tcp://{}", remora.address);
    let web = json!({"provider": "web", "token": "sesame"});
    assert_eq!(php::yar("json", &url, "calc.add", json!([1]), web.clone())["ok"], true);
    assert_eq!(peer.last().body[46..78], [0; 32], "the token is consumed");
    assert_thrown(&php::yar("json", &url, "calc.sub", json!([1]), web), "Forbidden", 10403);
    let wrong = json!({"provider": "web", "token": "wrong"});
    assert_thrown(&php::yar("json", &url, "calc.add", json!([1]), wrong), "UnknownKey", 10401);
    // the client's own default names nobody
    let seen = php::yar("json", &url, "calc.add", json!([1]), json!({}));
    assert_thrown(&seen, "UnknownKey", 10401);
    assert!(seen["message"].as_str().unwrap().contains("say who calls"), "{seen}");
}

/// SHA-256 of `sesame`.
const SESAME: &str = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";

#[test]
fn the_host_stands_in_for_a_caller_that_says_nothing() {
    let peer = mirror();
    let grant = format!("{{ keys: [ {{ sha256: {SESAME} }} ] }}");
    let mut entries = service_with("calc", "access: key", &[("add", YAR_JSON)], &[&peer.address]);
    entries += &format!("/access/calc/host: {grant}\n");
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "sesame").unwrap();
    let caller = format!("caller: {{ name: host, key_file: {} }}", key.display());
    let remora = Remora::embedded(&entries).with(&caller).start();
    let seen = php::yar("json", &format!("tcp://{}", remora.address), "calc.add", json!([1]), json!({}));
    assert_eq!(seen["ok"], true, "{seen}");
}

#[test]
fn a_raw_call_is_counted_and_logged_as_any_other() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let message = json_request("calc.add", "[1]");
    call_raw(remora.conn(), &message);
    call_raw(remora.conn(), &json_request("calc.add", "7"));
    call_raw(remora.conn(), &yar::message("JSON", b"no"));
    let line = eventually_some("the line", Duration::from_secs(5), || {
        line_of(&remora.log(), "ok").map(str::to_owned)
    });
    for part in
        ["\"service\":\"calc\"", "\"api\":\"add\"", "\"wire\":\"yar\"", "\"status\":200", &peer.address]
    {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    let metrics = remora.admin("GET", "/metrics").text();
    for counted in [
        "remora_calls_total{api=\"add\",outcome=\"ok\",service=\"calc\"} 1",
        "remora_calls_total{api=\"add\",outcome=\"malformed-request\",service=\"calc\"} 1",
        "remora_calls_total{api=\"\",outcome=\"malformed-request\",service=\"\"} 1",
    ] {
        assert!(metrics.contains(counted), "{counted} is missing in\n{metrics}");
    }
}

#[test]
fn a_connection_that_says_nothing_blocks_nobody() {
    let peer = mirror();
    let remora = Remora::embedded(&calc(&peer)).start();
    let silent: Vec<_> = (0..50).map(|_| remora.conn()).collect();
    assert_eq!(call_raw(remora.conn(), &json_request("calc.add", "[1]"))["s"], 0);
    drop(silent);
}
