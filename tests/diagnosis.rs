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

#[test]
fn a_spent_deadline_reaches_no_provider() {
    let peer = Peer::echo();
    let entries = service("user", &[("json", JSON), ("yar", YAR)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    // the service is in the view from now on
    assert_problem(&remora.get("/user/nope"), "no-api", 404);
    for target in ["/user/json", "/user/yar"] {
        let answer = remora.call("POST", target, &[("X-Deadline-Ms", "0")], b"[1]");
        assert_problem(&answer, "deadline", 504);
    }
    // a message whose body is still on its way
    let message = yar::message("JSON", br#"{"i":1,"m":"yar","p":[]}"#);
    for begun in [message.len(), 100] {
        let mut conn = remora.conn();
        let length = message.len().to_string();
        let headers = [("X-Deadline-Ms", "0"), ("Content-Length", length.as_str())];
        conn.send(request("POST", "/user", &headers, &message[..begun])).unwrap();
        let answer = conn.answer().unwrap();
        assert!(answer.text().contains("Remora\\\\Deadline"), "{}", answer.text());
    }
    assert_eq!(peer.connections(), 0);
    assert_eq!(logged(&remora, "outcome", "deadline")["attempts"], 0);
}

#[test]
fn a_deadline_that_is_no_number_is_refused_by_name() {
    let peer = Peer::echo();
    let entries = service("user", &[("json", JSON), ("yar", YAR)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    for bad in ["-5", "abc", "1.5", "+5", "", "5ms"] {
        for target in ["/user/json", "/user/yar"] {
            let answer = remora.call("POST", target, &[("X-Deadline-Ms", bad)], b"[1]");
            assert_problem(&answer, "malformed-request", 400);
            let said = detail(&answer);
            assert!(said.contains("X-Deadline-Ms") && said.contains(&format!("\"{bad}\"")), "{said}");
        }
    }
    for target in ["/user/json", "/user/yar"] {
        let twice = [("X-Deadline-Ms", "5000"), ("X-Deadline-Ms", "50")];
        let answer = remora.call("POST", target, &twice, b"[1]");
        assert_problem(&answer, "malformed-request", 400);
        assert!(detail(&answer).starts_with("X-Deadline-Ms is there twice"), "{}", detail(&answer));
    }
    let message = yar::message("JSON", br#"{"i":1,"m":"json","p":[]}"#);
    let answer = remora.call("POST", "/user", &[("X-Deadline-Ms", "abc")], &message);
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("X-Deadline-Ms"), "{}", answer.text());
    assert_eq!(peer.connections(), 0);
    // more than any clock counts to is no shorter than the timeout
    let long = "9".repeat(30);
    assert_eq!(remora.call("GET", "/user/json", &[("X-Deadline-Ms", &long)], b"").status, 200);
}

#[test]
fn a_yar_function_runs_for_get_and_post_alone() {
    let provider = Php::yar();
    let entries = service("calc", &[("count", YAR)], &[&provider.address]);
    let remora = Remora::embedded(&entries).start();
    for method in ["HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "PURGE"] {
        let mut conn = remora.conn();
        let body: &[u8] = if method == "PUT" { b"[1]" } else { b"" };
        let answer = conn.request(method, "/calc/count", &[], body).unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")), "{method}");
        assert!(answer.header("proxy-status").is_some(), "{method}");
        if method != "HEAD" {
            assert_problem(&answer, "malformed-request", 405);
            assert!(detail(&answer).contains(method), "{}", answer.text());
        }
    }
    let lines = remora.log();
    assert!(!lines.contains("\"attempts\":1"), "{lines}");
    assert_eq!(remora.get("/calc/count").json(), 0);
    assert_eq!(remora.post("/calc/count", "[1]").json(), 1);
}

#[test]
fn every_method_goes_to_a_json_provider() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("user", &[("x", JSON)], &[&peer.address])).start();
    for method in ["OPTIONS", "DELETE", "PUT", "PATCH"] {
        assert_eq!(remora.call(method, "/user/x", &[], b"").json()["method"], method);
    }
}

#[test]
fn a_body_that_is_no_form_and_no_json_is_told_which_it_should_be() {
    let provider = Php::yar();
    let remora = Remora::embedded(&service("calc", &[("echo", YAR)], &[&provider.address])).start();
    for body in ["7", "null", "hello", "\"x\""] {
        let answer = remora.call("POST", "/calc/echo", &[FORM], body.as_bytes());
        assert_problem(&answer, "malformed-request", 400);
        let said = detail(&answer);
        assert!(said.contains("form") && said.contains("no \"=\"") && said.contains("JSON"), "{said}");
    }
    for kind in ["application/json", "text/plain"] {
        let answer = remora.call("POST", "/calc/echo", &[("Content-Type", kind)], b"hello");
        assert_problem(&answer, "malformed-request", 400);
        assert!(detail(&answer).starts_with("the body, read as JSON: byte 0"), "{}", answer.text());
    }
}

#[test]
fn a_byte_order_mark_is_named() {
    let provider = Php::yar();
    let remora = Remora::embedded(&service("calc", &[("echo", YAR)], &[&provider.address])).start();
    let marked: [&[u8]; 3] = [b"\xef\xbb\xbf[1]", b"\xef\xbb\xbfa=1", b"\xff\xfe[\x001\x00]\x00"];
    for body in marked {
        for kind in [FORM, ("Content-Type", "application/json")] {
            let answer = remora.call("POST", "/calc/echo", &[kind], body);
            assert_problem(&answer, "malformed-request", 400);
            assert!(detail(&answer).contains("byte order mark"), "{}", answer.text());
        }
    }
}

#[test]
fn a_compressed_body_is_refused_by_its_header() {
    let provider = Php::yar();
    let entries = service("calc", &[("echo", YAR)], &[&provider.address]);
    let remora = Remora::embedded(&entries).start();
    for kind in [FORM, ("Content-Type", "application/json")] {
        for encoding in ["gzip", "br", "gzip, identity"] {
            let headers = [kind, ("Content-Encoding", encoding)];
            let answer = remora.call("POST", "/calc/echo", &headers, b"\x1f\x8b\x08\x00\x00");
            assert_problem(&answer, "malformed-request", 400);
            let said = detail(&answer);
            assert!(said.contains("Content-Encoding") && said.contains(encoding), "{said}");
        }
    }
    let headers = [("Content-Type", "application/json"), ("Content-Encoding", "Identity")];
    assert_eq!(remora.call("POST", "/calc/echo", &headers, b"[1]").json(), json!([1]));
}

#[test]
fn a_yar_answer_without_a_payload_is_said_to_have_none() {
    let peer = Peer::http(|_| answer(200, &[], &yar::message("JSON", b"")));
    let entries = service("user", &[("x", "{ encoding: yar-json }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let refused = remora.post("/user/x", "[]");
    assert_problem(&refused, "bad-answer", 502);
    assert!(detail(&refused).contains("no payload"), "{}", refused.text());
    assert!(detail(&refused).contains("json_encode"), "{}", refused.text());
}

#[test]
fn an_empty_answer_of_a_yar_provider_points_to_its_error_log() {
    for status in [200, 500] {
        let peer = Peer::http(move |_| answer(status, &[], b""));
        let entries = service("user", &[("x", YAR), ("y", JSON)], &[&peer.address]);
        let remora = Remora::embedded(&entries).start();
        let refused = remora.post("/user/x", "[]");
        assert_problem(&refused, "bad-answer", 502);
        let said = detail(&refused);
        assert!(said.contains(&format!("HTTP {status} with an empty body")), "{said}");
        assert!(said.contains("PHP error log"), "{said}");
        if status == 500 {
            let seen = php::yar("json", &remora.url("/user"), "y", json!([]), json!({}));
            assert_thrown(&seen, "ProviderError", 500);
            assert!(seen["message"].as_str().unwrap().contains("empty body"), "{seen}");
        }
    }
}

#[test]
fn an_api_whose_node_can_not_be_read_is_not_said_to_be_missing() {
    let peer = Peer::echo();
    let bad = "{ encoding: foo }";
    let flat = service("user", &[("x", JSON), ("bin", bad)], &[&peer.address]);
    let tree = format!(
        "/dada/services/user: {{ access: open }}\n/dada/services/user/x: {{ path: /x }}\n\
         /dada/services/user/bin: {bad}\n/dada/services/user/x/providers/{}: {{}}\n",
        peer.address
    );
    let flat = (Remora::embedded(&flat).start(), "/api/user/bin");
    let tree = (Remora::embedded(&tree).layout("tree", "/dada").start(), "/services/user/bin");
    for (remora, node) in [flat, tree] {
        assert_eq!(remora.get("/user/x").status, 200);
        let answer = remora.get("/user/bin");
        assert_problem(&answer, "no-api", 404);
        let said = detail(&answer);
        assert!(said.contains(&format!("its node {node} can't be read: ")), "{said}");
        assert!(said.contains("\"foo\""), "{said}");
        let seen = php::yar("json", &remora.url("/user"), "bin", json!([]), json!({}));
        assert_thrown(&seen, "NoApi", 10405);
        assert!(seen["message"].as_str().unwrap().contains(node), "{seen}");
        assert_eq!(detail(&remora.get("/user/bim")), "service \"user\" has no api \"bim\" in the registry");
    }
    assert_eq!(peer.calls(), 2);
}

#[test]
fn what_is_no_api_name_is_told_the_rule() {
    let peer = Peer::echo();
    let entries = service("user", &[("*", "{ path: /v1 }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    for (target, reason) in [
        ("/user/__construct", "\"__construct\" is not an api name: it starts with `_` or `.`"),
        ("/user/a%20b", "only A-Z a-z 0-9 . _ - are allowed"),
        ("/user/*", "stands for every api"),
        ("/user/a/../b", "segment"),
    ] {
        let answer = remora.get(target);
        assert_problem(&answer, "no-api", 404);
        assert!(detail(&answer).contains(reason), "{}", answer.text());
    }
    let seen = php::yar("json", &remora.url("/user"), "__construct", json!([]), json!({}));
    assert_thrown(&seen, "NoApi", 10405);
    assert!(seen["message"].as_str().unwrap().contains("is not an api name"), "{seen}");
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_connection_that_speaks_neither_http_nor_yar_leaves_a_line_in_the_log() {
    let remora = Remora::embedded(&service("user", &[], &[])).start();
    for (bytes, said) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n"[..], "TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "\"SSH-2.0-Op\""),
        (b"GET /user/x HTTP/9.9\r\n\r\n", "\"GET /user/\""),
    ] {
        let mut conn = remora.conn();
        conn.send(bytes).unwrap();
        // the HTTP library's own answer, without a body
        assert_eq!(conn.answer().unwrap().status, 400);
        let line = logged(&remora, "detail", said);
        assert_eq!(
            (line["level"].as_str(), line["outcome"].as_str()),
            (Some("WARN"), Some("malformed-request"))
        );
        assert!(line["detail"].as_str().unwrap().starts_with("neither HTTP nor Yar"), "{line}");
    }
    // one line each, and none for a connection that says nothing
    let mut conn = remora.conn();
    conn.half_close();
    assert!(conn.is_closed());
    let lines = remora.log().matches("neither HTTP nor Yar").count();
    assert_eq!(lines, 3, "{}", remora.log());
}

#[test]
fn many_connections_of_rubbish_write_few_lines() {
    let remora = Remora::embedded(&service("user", &[], &[])).start();
    for _ in 0..200 {
        let mut conn = remora.conn();
        conn.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n").unwrap();
        assert_eq!(conn.answer().unwrap().status, 400);
    }
    let counted = eventually_some("all are counted", Duration::from_secs(5), || {
        let metrics = remora.admin("GET", "/metrics").text();
        let line = metrics.lines().find(|line| {
            line.starts_with("remora_calls_total") && line.contains("outcome=\"malformed-request\"")
        })?;
        line.ends_with(" 200").then(|| line.to_owned())
    });
    let lines = remora.log().matches("neither HTTP nor Yar").count();
    assert!((1..150).contains(&lines), "{lines} lines, {counted}");
}
