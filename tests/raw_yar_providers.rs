//! Providers called by raw Yar over TCP: connections that stay, and every way they misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::php::{self};
use support::{Conn, Peer, Remora, assert_problem, eventually, service, service_with, yar};
use yar::{assert_refused, call_raw, json_request, json_request_as, read_raw, with_id};

const RAW_JSON: &str = "{ encoding: yar-json, transport: tcp }";
const RAW_MSGPACK: &str = "{ encoding: yar-msgpack, transport: tcp }";

/// A provider of raw Yar and every message it got; `answer` gets the message and how many came before it.
struct RawPeer {
    peer: Peer,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RawPeer {
    /// Nothing as an answer closes the connection.
    fn new(answer: impl Fn(&[u8], usize) -> Vec<u8> + Send + Sync + 'static) -> RawPeer {
        let messages: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let seen = messages.clone();
        let peer = Peer::raw(move |stream, _| {
            let mut conn = Conn::over(stream);
            while let Ok(message) = read_raw(&mut conn) {
                let before = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(message.clone());
                    seen.len() - 1
                };
                let bytes = answer(&message, before);
                if bytes.is_empty() || conn.send(&bytes).is_err() {
                    return;
                }
            }
        });
        RawPeer { peer, messages }
    }

    /// Answers in JSON with the method and the parameters it got.
    fn mirror() -> RawPeer {
        RawPeer::new(|message, _| mirrored(message))
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        self.messages.lock().unwrap().clone()
    }

    fn remora(&self, api: &str) -> Remora {
        Remora::embedded(&service("calc", &[("*", api)], &[&self.peer.address])).start()
    }
}

fn id_of(message: &[u8]) -> u32 {
    u32::from_be_bytes(message[..4].try_into().unwrap())
}

fn mirrored(message: &[u8]) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(&message[90..]).unwrap();
    result(message, &json!({"m": asked["m"], "p": asked["p"]}))
}

fn result(message: &[u8], value: &Value) -> Vec<u8> {
    let id = id_of(message);
    with_id(yar::message("JSON", json!({"i": id, "s": 0, "r": value}).to_string().as_bytes()), id)
}

#[test]
fn every_kind_of_caller_reaches_a_provider_of_raw_yar() {
    let provider = RawPeer::mirror();
    let remora = provider.remora(RAW_JSON);
    let seen = json!({"m": "add", "p": [1, 2]});
    assert_eq!(remora.post("/calc/add", "[1,2]").json(), seen);
    assert_eq!(call_raw(remora.conn(), &json_request("calc.add", "[1,2]"))["r"], seen);
    assert_eq!(yar::json_payload(&yar::send(&remora, "/calc", &json_request("add", "[1,2]")))["r"], seen);
    for url in [remora.url("/calc"), format!("tcp://{}", remora.address)] {
        let method = if url.starts_with("tcp") { "calc.add" } else { "add" };
        for packager in ["json", "msgpack"] {
            assert_eq!(php::yar_value(packager, &url, method, json!([1, 2])), seen, "{url} {packager}");
        }
    }
    for message in provider.messages() {
        assert_eq!(message[10..14], 1_u32.to_be_bytes(), "the connection is to stay");
        assert_eq!(&message[82..90], b"JSON\0\0\0\0");
        assert_eq!(message[46..78], [0; 32], "no token");
    }
    let shown = remora.page("/services/calc");
    assert_eq!(support::at(&shown, "/apis/*/transport"), "tcp", "{shown}");
}

#[test]
fn a_provider_in_msgpack_gets_msgpack() {
    let provider = RawPeer::new(|message, _| yar::msgpack_answer(message, &[0x92, 1, 0xa1, b'x']));
    let remora = provider.remora(RAW_MSGPACK);
    assert_eq!(remora.post("/calc/any", "[1.5]").json(), json!([1, "x"]));
    let params = [0x91, 0xd1, 0, 1];
    call_msgpack(&remora, &params);
    let got = provider.messages().pop().unwrap();
    assert_eq!(
        got[90..],
        yar::msgpack_request("any", &params)[90..],
        "within one packager nothing is packed anew"
    );
}

fn call_msgpack(remora: &Remora, params: &[u8]) {
    let mut conn = remora.conn();
    conn.send(yar::msgpack_request("calc.any", params)).unwrap();
    let answer = read_raw(&mut conn).unwrap();
    assert!(answer.ends_with(&[0x92, 1, 0xa1, b'x']), "{answer:02x?}");
}

#[test]
fn connections_to_a_provider_are_used_again() {
    let provider = RawPeer::mirror();
    let remora = provider.remora(RAW_JSON);
    let mut conn = remora.conn();
    for n in 0..20 {
        assert_eq!(conn.request("POST", "/calc/add", &[], b"[1]").unwrap().status, 200, "{n}");
    }
    assert_eq!(provider.peer.connections(), 1);
}

#[test]
fn calls_at_once_each_have_a_connection_of_their_own() {
    let provider = RawPeer::mirror();
    let remora = provider.remora(RAW_JSON);
    let mut open: Vec<_> = (0..64_u32)
        .map(|n| {
            let mut conn = remora.conn();
            conn.send(json_request_as(n, "calc.add", &format!("[{n}]"))).unwrap();
            conn
        })
        .collect();
    for (n, conn) in open.iter_mut().enumerate() {
        assert_eq!(yar::raw_payload(&read_raw(conn).unwrap())["r"]["p"], json!([n]));
    }
}

#[test]
fn a_kept_connection_that_closes_without_a_word_is_replaced() {
    let provider = RawPeer::new(|message, before| if before == 1 { Vec::new() } else { mirrored(message) });
    let remora = provider.remora(RAW_JSON);
    let mut conn = remora.conn();
    for _ in 0..2 {
        let answer = conn.request("POST", "/calc/add", &[], b"[7]").unwrap();
        assert_eq!((answer.status, &answer.json()["p"]), (200, &json!([7])));
    }
    let messages = provider.messages();
    assert_eq!((messages.len(), provider.peer.connections()), (3, 2));
    assert_eq!(messages[1], messages[2], "the same message, sent again");
}

#[test]
fn a_kept_connection_that_closed_while_idle_is_not_used() {
    let provider = RawPeer::mirror();
    let entries =
        service_with("calc", "policy: { retries: 0 }", &[("*", RAW_JSON)], &[&provider.peer.address]);
    let remora = Remora::embedded(&entries).start();
    let mut conn = remora.conn();
    assert_eq!(conn.request("POST", "/calc/add", &[], b"[1]").unwrap().status, 200);
    provider.peer.cut_connections();
    eventually("a call after the cut", Duration::from_secs(5), || {
        conn.request("POST", "/calc/add", &[], b"[1]").unwrap().status == 200
    });
}

#[test]
fn without_retries_a_message_is_sent_once() {
    let provider = RawPeer::new(|message, before| if before == 1 { Vec::new() } else { mirrored(message) });
    let entries =
        service_with("calc", "policy: { retries: 0 }", &[("*", RAW_JSON)], &[&provider.peer.address]);
    let remora = Remora::embedded(&entries).start();
    let mut conn = remora.conn();
    assert_eq!(conn.request("POST", "/calc/add", &[], b"[1]").unwrap().status, 200);
    let answer = conn.request("POST", "/calc/add", &[], b"[1]").unwrap();
    assert_problem(&answer, "cut", 502);
    assert_eq!(provider.messages().len(), 2);
}

#[test]
fn a_new_connection_that_closes_without_a_word_is_cut() {
    let provider = RawPeer::new(|_, _| Vec::new());
    let remora = provider.remora(RAW_JSON);
    assert_problem(&remora.post("/calc/add", "[1]"), "cut", 502);
    assert_eq!(provider.messages().len(), 1, "it may have run");
    let seen = call_raw(remora.conn(), &json_request("calc.add", "[1]"));
    assert_refused(&seen, "Cut", 10507);
}

#[test]
fn a_provider_that_refuses_is_left_for_another() {
    let provider = RawPeer::mirror();
    let refusing = Peer::refusing();
    let entries = service("calc", &[("*", RAW_JSON)], &[&provider.peer.address, &refusing]);
    let remora = Remora::embedded(&entries).start();
    for _ in 0..20 {
        assert_eq!(remora.post("/calc/add", "[1]").status, 200);
    }
    let entries = service("calc", &[("*", RAW_JSON)], &[&refusing]);
    let remora = Remora::embedded(&entries).start();
    assert_problem(&remora.post("/calc/add", "[1]"), "connect-failed", 502);
}

#[test]
fn an_answer_that_is_cut_or_no_yar_is_told_apart() {
    for (name, change, kind) in [
        ("in its head", (|whole| whole[..40].to_vec()) as fn(Vec<u8>) -> Vec<u8>, "cut"),
        ("in its payload", |whole| whole[..95].to_vec(), "cut"),
        ("no Yar", |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "bad-answer"),
        ("a length below 8", |whole| with_length(whole, 7), "bad-answer"),
        ("a length that cuts its payload", |whole| with_length(whole, 20), "bad-answer"),
        ("a length beyond its end", |whole| with_length(whole, 4000), "cut"),
        ("a length beyond all bounds", |whole| with_length(whole, u32::MAX), "bad-answer"),
        ("another call's id", |whole| other_id(&whole), "bad-answer"),
    ] {
        let provider = Peer::raw(move |stream, _| {
            let mut conn = Conn::over(stream);
            if let Ok(message) = read_raw(&mut conn) {
                let _ = conn.send(change(mirrored(&message)));
            }
        });
        let entries = service("calc", &[("*", RAW_JSON)], &[&provider.address]);
        let remora = Remora::embedded(&entries).start();
        let answer = remora.post("/calc/add", "[1]");
        assert_eq!(answer.kind().as_deref(), Some(kind), "{name}: {}", answer.text());
        assert!(remora.peak_memory() < 120 << 20, "{name}");
    }
}

fn with_length(mut message: Vec<u8>, length: u32) -> Vec<u8> {
    message[78..82].copy_from_slice(&length.to_be_bytes());
    message
}

fn other_id(message: &[u8]) -> Vec<u8> {
    let id = id_of(message);
    let payload = String::from_utf8_lossy(&message[90..]).replace(&id.to_string(), &(id / 2 + 1).to_string());
    with_id(yar::message("JSON", payload.as_bytes()), id / 2 + 1)
}

#[test]
fn a_connection_that_holds_more_than_its_answer_is_not_used_again() {
    // the second answer lies in wait for somebody else's call
    let provider = RawPeer::new(|message, _| [mirrored(message), result(message, &json!("stale"))].concat());
    let remora = provider.remora(RAW_JSON);
    let mut conn = remora.conn();
    for n in 0..10 {
        let answer = conn.request("POST", "/calc/add", &[], format!("[{n}]").as_bytes()).unwrap();
        assert_eq!(answer.json()["p"], json!([n]), "{}", answer.text());
    }
}

#[test]
fn a_silent_provider_is_left_at_the_deadline_and_its_connection_closed() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = closed.clone();
    let provider = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = read_raw(&mut conn);
        if conn.is_closed() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let policy = "policy: { timeout: 300ms }";
    let entries = service_with("calc", policy, &[("*", RAW_JSON)], &[&provider.address]);
    let remora = Remora::embedded(&entries).start();
    assert_problem(&remora.post("/calc/add", "[1]"), "deadline", 504);
    eventually("it is closed", Duration::from_secs(4), || closed.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_caller_that_leaves_takes_its_call_along() {
    let (closed, came) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (left, arrived) = (closed.clone(), came.clone());
    let provider = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = read_raw(&mut conn);
        arrived.fetch_add(1, Ordering::SeqCst);
        if conn.is_closed() {
            left.fetch_add(1, Ordering::SeqCst);
        }
    });
    let remora = Remora::embedded(&service("calc", &[("*", RAW_JSON)], &[&provider.address])).start();
    let mut http = remora.conn();
    http.send(support::http::request("POST", "/calc/add", &[], b"[1]")).unwrap();
    eventually("the call", Duration::from_secs(5), || came.load(Ordering::SeqCst) == 1);
    drop(http);
    eventually("its connection closes", Duration::from_secs(4), || closed.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_megabyte_crosses_both_ways() {
    let provider = RawPeer::mirror();
    let remora = provider.remora(RAW_JSON);
    let text = "x".repeat(3 << 20);
    let mut conn = remora.conn();
    for _ in 0..3 {
        let answer = conn.request("POST", "/calc/add", &[], json!([text]).to_string().as_bytes()).unwrap();
        assert_eq!(answer.json()["p"][0], text);
    }
    assert_eq!(provider.peer.connections(), 1);
}

#[test]
fn an_exception_of_the_provider_reaches_every_caller() {
    let provider = RawPeer::new(|message, _| {
        let id = id_of(message);
        let thrown = json!({"message": "no more", "code": 7, "file": "", "line": 0, "_type": "BizException"});
        let payload = json!({"i": id, "s": 64, "e": thrown}).to_string();
        with_id(yar::message("JSON", payload.as_bytes()), id)
    });
    let remora = provider.remora(RAW_JSON);
    let seen = call_raw(remora.conn(), &json_request("calc.add", "[1]"));
    assert_eq!((&seen["s"], &seen["e"]["_type"]), (&json!(64), &json!("BizException")), "{seen}");
    assert_problem(&remora.post("/calc/add", "[1]"), "provider-exception", 500);
}

#[test]
fn an_api_in_json_over_tcp_is_told_as_wrong() {
    let provider = RawPeer::mirror();
    let apis =
        [("add", "{ transport: tcp }"), ("sub", "{ encoding: yar-json, transport: udp }"), ("*", RAW_JSON)];
    let remora = Remora::embedded(&service("calc", &apis, &[&provider.peer.address])).start();
    remora.post("/calc/any", "[1]");
    let shown = remora.page("/services/calc").to_string();
    for told in [
        "transport: \\\"tcp\\\" carries Yar; give the encoding too, such as yar-msgpack",
        "transport: \\\"udp\\\" is none of http, tcp",
    ] {
        assert!(shown.contains(told), "{told} is missing in {shown}");
    }
}
