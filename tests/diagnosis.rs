//! Whoever has to mend something reads what it is: in the refusal, or in the log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::ErrorKind;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use support::http::request;
use support::peer::answer;
use support::php::{self, Php};
use support::{
    Answer, Conn, Peer, Remora, Request, assert_problem, assert_thrown, eventually_some, service,
    service_with, yar,
};

const JSON: &str = "{ path: /x, encoding: json }";
const YAR: &str = "{ encoding: yar-msgpack }";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

/// The first line of the log whose `field` has this text in it.
fn logged(remora: &Remora, field: &str, text: &str) -> Value {
    eventually_some(&format!("a line with {field} {text}"), Duration::from_secs(5), || {
        let log = remora.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line[field].as_str().is_some_and(|said| said.contains(text)))
    })
}

/// Says `bytes` to every request, then nothing, until the sender is dropped.
fn stalling(bytes: &'static str) -> (Peer, mpsc::Sender<()>) {
    let (keep, hold) = mpsc::channel::<()>();
    let hold = Mutex::new(hold);
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = Request::read(&mut conn);
        let _ = conn.send(bytes);
        let _ = hold.lock().unwrap().recv();
    });
    (peer, keep)
}

#[test]
fn a_stalled_stream_is_logged_as_what_it_is() {
    let (peer, keep) = stalling("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab");
    let entries = service_with("user", "policy: { idle_timeout: 300ms }", &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    assert_ne!(conn.answer().unwrap_err().kind(), ErrorKind::WouldBlock, "left hanging");
    let line = logged(&remora, "outcome", "cut");
    assert_eq!(line["detail"], "the provider stopped in the middle of its answer", "{line}");
    drop(keep);
}

#[test]
fn a_caller_whose_answer_was_gathered_reads_that_the_provider_stalled() {
    let (peer, keep) = stalling("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,");
    let entries = service_with("user", "policy: { idle_timeout: 300ms }", &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let seen = php::yar("json", &remora.url("/user"), "x", json!([]), json!({}));
    assert_thrown(&seen, "Cut", 10507);
    assert!(seen["message"].as_str().unwrap().contains("stopped in the middle"), "{seen}");
    drop(keep);
}
