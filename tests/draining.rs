//! The end of the process: what holds it up, for how long, and what becomes of calls that take longer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;
use support::http::request;
use support::{Conn, Peer, Remora, assert_problem, eventually, service_with, yar};

const SOON: Duration = Duration::from_secs(10);
const X: (&str, &str) = ("x", "{ path: /x, encoding: json }");
const PATIENT: &str = "access: open, policy: { timeout: 600s, idle_timeout: 600s }";

/// The lines on calls that were given up.
fn given_up(remora: &Remora) -> Vec<Value> {
    let lines = remora.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    lines.into_iter().filter(|line| line["outcome"] == "drained").collect()
}

#[test]
fn who_has_no_call_under_way_holds_nothing_up() {
    let peer = Peer::named("one");
    let mut remora =
        Remora::embedded(&service_with("user", PATIENT, &[X], &[&peer.address])).with("drain: 600s").start();
    let mut mute = remora.conn();
    let mut half = remora.conn();
    half.send("GET /user/x HTTP/1.1\r\nHost: a\r\nX-Ha").unwrap();
    let mut kept = remora.conn();
    assert_eq!(kept.request("GET", "/user/x", &[], b"").unwrap().status, 200);
    kept.send("GET /user/x HT").unwrap();
    let mut endless = remora.conn();
    endless.send("POST /nobody/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{\"a").unwrap();
    assert_eq!(endless.answer().unwrap().status, 404);
    assert_eq!(remora.terminate(), 0);
    assert!(mute.is_closed() && half.is_closed() && kept.is_closed());
    assert!(!remora.log().contains("in flight were given up"), "{}", remora.log());
}

#[test]
fn a_call_under_way_is_answered_and_its_connection_closed() {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let peer = Peer::http(move |_| {
        wait.lock().unwrap().recv().unwrap();
        support::peer::ok_json(&Value::from(7))
    });
    let mut remora =
        Remora::embedded(&service_with("user", PATIENT, &[X], &[&peer.address])).with("drain: 600s").start();
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    eventually("it is called", SOON, || peer.calls() == 1);
    remora.signal("TERM");
    eventually("it takes no more", SOON, || std::net::TcpStream::connect(&remora.address).is_err());
    go.send(()).unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("7", Some("close")));
    assert_eq!(remora.wait(SOON), Some(0), "{}", remora.log());
    assert!(given_up(&remora).is_empty());
}

#[test]
fn calls_that_outlast_the_drain_are_told_so_logged_and_counted() {
    let silent = Peer::silent();
    let streams = Peer::raw(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        // until the other side ends it
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let entries = service_with("user", PATIENT, &[X], &[&silent.address])
        + &service_with("streams", PATIENT, &[X], &[&streams.address]);
    let mut remora = Remora::embedded(&entries).with("drain: 3s").start();
    let (mut waits, mut reads, mut raw) = (remora.conn(), remora.conn(), Conn::open(&remora.address));
    waits.send(request("GET", "/user/x", &[], b"")).unwrap();
    raw.send(yar::json_request("user.x", "[]")).unwrap();
    reads.send(request("GET", "/streams/x", &[], b"")).unwrap();
    assert_eq!(reads.head().unwrap().status, 200);
    eventually("they are called", SOON, || silent.calls() == 2);
    assert_eq!(remora.terminate(), 0);

    assert_problem(&waits.answer().unwrap(), "drained", 503);
    assert_eq!(reads.chunk().unwrap(), b"abc");
    assert!(reads.chunk().is_err(), "a broken answer must not look whole");
    assert!(raw.is_closed());
    let lines = given_up(&remora);
    let mut told: Vec<_> = lines
        .iter()
        .map(|line| (line["service"].as_str().unwrap(), line["status"].as_u64().unwrap()))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("streams", 200), ("user", 0), ("user", 503)], "{}", remora.log());
    let log = remora.log();
    let warning = log.lines().find(|line| line.contains("in flight were given up")).unwrap();
    let warning: Value = serde_json::from_str(warning).unwrap();
    assert_eq!(warning["calls"], 3, "{warning}");
}

#[test]
fn who_is_given_up_reads_what_any_other_failure_says() {
    let silent = Peer::silent();
    let apis = [X, ("yar", "{ encoding: yar-json }")];
    let entries = service_with("user", PATIENT, &apis, &[&silent.address]);
    let mut remora = Remora::embedded(&entries).with("drain: 2s\ndefaults: { timeout: 600s }").start();
    let (mut get, mut head, mut yar, mut late) = (remora.conn(), remora.conn(), remora.conn(), remora.conn());
    get.send(request("GET", "/user/x", &[], b"")).unwrap();
    head.send(request("HEAD", "/user/x", &[], b"")).unwrap();
    yar.send(request("POST", "/user", &yar::HEADERS, &yar::json_request("yar", "[]"))).unwrap();
    eventually("they are called", SOON, || silent.calls() == 3);
    // it is not known yet whether this one is Yar
    late.send("POST /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").unwrap();
    assert_eq!(remora.terminate(), 0);

    let answer = get.answer().unwrap();
    assert_problem(&answer, "drained", 503);
    let (told, id) = (answer.json(), answer.header("x-remora-call").unwrap());
    assert_eq!((&told["service"], &told["api"]), (&"user".into(), &"x".into()), "{told}");
    assert_eq!(told["instance"], format!("urn:remora:call:{id}"));
    assert!(answer.header("date").is_some() && answer.header("connection") == Some("close"));
    assert!(given_up(&remora).iter().any(|line| line["id"] == id), "{}", remora.log());
    let rest = String::from_utf8(head.rest().unwrap()).unwrap();
    assert!(rest.starts_with("HTTP/1.1 503 ") && rest.ends_with("\r\n\r\n"), "a body for HEAD: {rest}");
    let seen = yar::json_payload(&yar.answer().unwrap());
    assert_eq!(seen["e"]["code"], 10512, "{seen}");
    assert_problem(&late.answer().unwrap(), "drained", 503);
    assert_eq!(given_up(&remora).len(), 4, "{}", remora.log());
}

#[test]
fn lines_that_were_left_out_are_told_at_the_end() {
    const CALLS: u64 = 40;
    let mut remora = Remora::embedded("").start();
    for _ in 0..CALLS {
        assert_eq!(remora.get("/nobody/x").status, 404);
    }
    assert_eq!(remora.terminate(), 0);
    let log = remora.log();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    let of_calls = lines.iter().filter(|line| line["outcome"] == "no-service");
    let told: u64 = of_calls
        .map(|line| u64::from(line["status"] == 404) + line["left_out"].as_u64().unwrap_or_default())
        .sum();
    assert_eq!(told, CALLS, "{log}");
}
