//! Every kind of failure, as an HTTP caller and as a Yar caller sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

/// SHA-256 of `sesame`.
const KEY: &str = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";

use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use support::http::request;
use support::peer::answer;
use support::php;
use support::{
    Conn, Peer, Remora, Request, assert_problem, assert_thrown, eventually, service, service_with, yar,
};

const JSON: &str = "{ path: /x, encoding: json }";
const YAR: &str = "{ encoding: yar-msgpack }";

/// Calls `service/api` as every kind of caller and expects this refusal.
fn refused(remora: &Remora, target: (&str, &str), kind: (&str, &str), status: u16, code: i64) {
    let (service, api) = target;
    let path = format!("/{service}/{api}");
    for method in ["GET", "POST"] {
        let body: &[u8] = if method == "POST" { b"[]" } else { b"" };
        let answer = remora.call(method, &path, &[], body);
        assert_problem(&answer, kind.0, status);
        let problem = answer.json();
        assert_eq!(problem["service"], service, "{problem}");
        // An api that the call named is named again where the service was found.
        if problem["api"] != Value::Null {
            assert_eq!(problem["api"], api, "{problem}");
        }
    }
    for packager in ["msgpack", "json", "php"] {
        let url = remora.url(&format!("/{service}"));
        let seen = php::yar(packager, &url, api, json!([]), json!({}));
        assert_thrown(&seen, kind.1, code);
        assert_eq!(seen["packager"], packager.to_uppercase(), "{seen}");
    }
}

#[test]
fn an_unknown_service_is_no_service() {
    let remora = Remora::embedded("").start();
    refused(&remora, ("nobody", "x"), ("no-service", "NoService"), 404, 10404);
}

#[test]
fn a_service_that_is_off_is_service_off() {
    let peer = Peer::echo();
    let entries = service_with("user", "access: open, state: off", &[("x", JSON)], &[&peer.address])
        .replace("state: off", "state: \"off\"");
    let remora = Remora::embedded(&entries).start();
    refused(&remora, ("user", "x"), ("service-off", "ServiceOff"), 503, 10503);
    // Before the api is looked at.
    refused(&remora, ("user", "nope"), ("service-off", "ServiceOff"), 503, 10503);
    assert_eq!(peer.calls(), 0);
}

#[test]
fn an_unknown_api_is_no_api() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("user", &[("x", JSON)], &[&peer.address])).start();
    refused(&remora, ("user", "nope"), ("no-api", "NoApi"), 404, 10405);
}

#[test]
fn an_api_that_is_off_is_api_off() {
    let peer = Peer::echo();
    let apis = [("x", "{ path: /x, encoding: json, state: \"off\" }")];
    let remora = Remora::embedded(&service("user", &apis, &[&peer.address])).start();
    refused(&remora, ("user", "x"), ("api-off", "ApiOff"), 503, 10511);
}

#[test]
fn a_service_without_providers_is_no_provider() {
    let remora = Remora::embedded(&service("user", &[("x", JSON)], &[])).start();
    refused(&remora, ("user", "x"), ("no-provider", "NoProvider"), 503, 10504);
}

#[test]
fn a_service_whose_providers_are_all_off_is_no_provider() {
    let peer = Peer::echo();
    let off = format!("{{ address: \"{}\", state: \"off\" }}", peer.address);
    let remora = Remora::embedded(&service("user", &[("x", JSON)], &[&off])).start();
    refused(&remora, ("user", "x"), ("no-provider", "NoProvider"), 503, 10504);
}

#[test]
fn a_provider_that_refuses_is_connect_failed() {
    let entries = service("user", &[("x", JSON)], &[&Peer::refusing()]);
    let remora = Remora::embedded(&entries).start();
    refused(&remora, ("user", "x"), ("connect-failed", "ConnectFailed"), 502, 10502);
}

#[test]
fn a_provider_that_says_nothing_is_deadline() {
    let peer = Peer::silent();
    // it is asked more often than a provider is that fails
    let policy = "policy: { timeout: 300ms, circuit: { consecutive: 100 } }";
    let entries = service_with("user", policy, &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    refused(&remora, ("user", "x"), ("deadline", "Deadline"), 504, 10509);
    let detail = remora.get("/user/x").json()["detail"].to_string();
    assert!(detail.contains("300ms"), "{detail}");
}

#[test]
fn a_provider_that_closes_without_an_answer_is_cut() {
    let peer = Peer::cutting("");
    for encoding in [JSON, YAR] {
        let entries = service("user", &[("x", encoding)], &[&peer.address]);
        let remora = Remora::embedded(&entries).start();
        let answer = remora.post("/user/x", "[]");
        assert_problem(&answer, "cut", 502);
        let seen = php::yar("json", &remora.url("/user"), "x", json!([]), json!({}));
        assert_thrown(&seen, "Cut", 10507);
    }
}

#[test]
fn a_provider_that_closes_in_the_middle_is_cut_for_a_yar_caller() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":";
    let peer = Peer::cutting(half);
    for encoding in [JSON, YAR] {
        let entries = service("user", &[("x", encoding)], &[&peer.address]);
        let remora = Remora::embedded(&entries).start();
        let seen = php::yar("msgpack", &remora.url("/user"), "x", json!([]), json!({}));
        assert_thrown(&seen, "Cut", 10507);
    }
}

#[test]
fn a_stream_that_breaks_is_never_ended_as_if_whole() {
    let known = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n";
    for bytes in [known, chunked] {
        let peer = Peer::cutting(bytes);
        let entries = service("user", &[("x", JSON)], &[&peer.address]);
        let remora = Remora::embedded(&entries).start();
        // towards HTTP/1.0 an answer without a length ends with the connection
        for ask in ["GET /user/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /user/x HTTP/1.0\r\n\r\n"] {
            let mut conn = remora.conn();
            conn.send(ask).unwrap();
            match conn.answer() {
                Ok(answer) => assert_problem(&answer, "cut", 502),
                Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "left hanging"),
            }
        }
    }
}

#[test]
fn a_stream_that_stalls_is_left_after_the_idle_timeout() {
    let (keep, hold) = mpsc::channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = Request::read(&mut conn);
        let _ = conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
        let _ = hold.lock().unwrap().recv();
    });
    let entries = service_with("user", "policy: { idle_timeout: 300ms }", &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    let broken = conn.answer().expect_err("a broken stream looks whole");
    assert_ne!(broken.kind(), std::io::ErrorKind::WouldBlock, "left hanging");
    drop(keep);
}

#[test]
fn an_answer_that_is_not_http_is_bad_answer() {
    let peer = Peer::cutting("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    let entries = service("user", &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let answer = remora.post("/user/x", "[]");
    assert_eq!(answer.status, 502, "{}", answer.text());
    let kind = answer.kind().unwrap_or_default();
    assert!(kind == "bad-answer" || kind == "cut", "{}", answer.text());
}

#[test]
fn a_yar_provider_that_answers_html_is_bad_answer() {
    let html = answer(200, &[("Content-Type", "text/html")], &[b'<'; 200]);
    let short = answer(200, &[], b"oops");
    let wrong = answer(200, &[], &yar::message("MSGPACK", b"\x93\x01"));
    for bytes in [html, short, wrong] {
        let peer = Peer::cutting(bytes);
        let entries = service("user", &[("x", YAR)], &[&peer.address]);
        let remora = Remora::embedded(&entries).start();
        assert_problem(&remora.post("/user/x", "[]"), "bad-answer", 502);
        let seen = php::yar("json", &remora.url("/user"), "x", json!([]), json!({}));
        assert_thrown(&seen, "BadAnswer", 10508);
    }
}

#[test]
fn a_json_provider_that_answers_rubbish_is_bad_answer_for_a_yar_caller() {
    let peer = Peer::cutting(answer(200, &[("Content-Type", "application/json")], b"{\"half\":"));
    let entries = service("user", &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    for packager in ["msgpack", "json", "php"] {
        let seen = php::yar(packager, &remora.url("/user"), "x", json!([]), json!({}));
        assert_thrown(&seen, "BadAnswer", 10508);
    }
}

#[test]
fn a_body_that_is_not_json_is_malformed_where_it_must_be_read() {
    let peer = Peer::echo();
    let entries = service("calc", &[("x", YAR)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    for body in ["{\"a\":", "[1,]", "nope", "[1] [2]", "\u{feff}[1]"] {
        let answer = remora.post("/calc/x", body);
        assert_problem(&answer, "malformed-request", 400);
    }
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_yar_payload_that_can_not_be_read_is_malformed() {
    let peer = Peer::echo();
    let entries = service("user", &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    for payload in [&b"{\"i\":1"[..], b"[]", b"\xff\xff\xff", b""] {
        let answer = yar::send(&remora, "/user", &yar::message("JSON", payload));
        let seen = yar::json_payload(&answer);
        assert_eq!(seen["s"], 64, "{seen}");
        assert_eq!(seen["e"]["code"], 10400, "{seen}");
        assert_eq!(seen["e"]["_type"], "Remora\\MalformedRequest", "{seen}");
    }
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_yar_call_that_names_no_service_is_answered_in_yar() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("calc", &[("x", YAR)], &[&peer.address])).start();
    for path in ["/", "//x"] {
        let seen = php::yar("msgpack", &remora.url(path), "x", json!([]), json!({}));
        assert_thrown(&seen, "NoService", 10404);
    }
}

#[test]
fn an_unknown_packager_is_malformed_and_answered_in_json() {
    let remora = Remora::embedded(&service("user", &[("x", JSON)], &[])).start();
    let answer = yar::send(&remora, "/user", &yar::message("FOO", b"{}"));
    let seen = yar::json_payload(&answer);
    assert_eq!((&seen["s"], &seen["e"]["code"]), (&json!(64), &json!(10400)), "{seen}");
}

#[test]
fn a_body_over_the_limit_is_too_large() {
    let peer = Peer::echo();
    let policy = "policy: { max_body: 64KiB }";
    let entries = service_with("user", policy, &[("x", JSON)], &[&peer.address])
        + &service_with("calc", policy, &[("x", YAR)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let big = json!(["x".repeat(100_000)]);
    for path in ["/user/x", "/calc/x"] {
        assert_problem(&remora.post(path, &big.to_string()), "too-large", 413);
        let mut conn = remora.conn();
        let mut bytes =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n")
                .into_bytes();
        bytes.resize(bytes.len() + 100_000, b'x');
        bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        let _ = conn.send(bytes);
        assert_problem(&conn.answer().unwrap(), "too-large", 413);
    }
    for service in ["user", "calc"] {
        let url = remora.url(&format!("/{service}"));
        let seen = php::yar("msgpack", &url, "x", big.clone(), json!({}));
        assert_thrown(&seen, "TooLarge", 10413);
    }
    let small = remora.post("/user/x", "[\"x\"]");
    assert_eq!(small.status, 200, "{}", small.text());
}

#[test]
fn the_limit_of_an_api_holds_for_yar_callers_too() {
    let peer = Peer::echo();
    let apis = [("x", "{ path: /x, encoding: json, policy: { max_body: 1KiB } }"), ("y", JSON)];
    let remora = Remora::embedded(&service("user", &apis, &[&peer.address])).start();
    let big = json!(["x".repeat(2000)]);
    let call = |api: &str| php::yar("msgpack", &remora.url("/user"), api, big.clone(), json!({}));
    assert_thrown(&call("x"), "TooLarge", 10413);
    assert_eq!(peer.calls(), 0);
    call("y");
    assert_eq!(peer.calls(), 1);
}

#[test]
fn an_api_with_a_concurrency_of_its_own_counts_its_own_calls() {
    let slow = Peer::silent();
    let entries = service_with(
        "user",
        "policy: { timeout: 3s }",
        &[("slow", JSON), ("one", "{ path: /x, encoding: json, policy: { concurrency: 1 } }")],
        &[&slow.address],
    );
    let remora = Remora::embedded(&entries).start();
    let [mut first, mut second, mut third] = [remora.conn(), remora.conn(), remora.conn()];
    for conn in [&mut first, &mut second] {
        conn.send(request("GET", "/user/slow", &[], b"")).unwrap();
    }
    eventually("two calls wait", Duration::from_secs(5), || slow.calls() == 2);
    third.send(request("GET", "/user/one", &[], b"")).unwrap();
    eventually("the api's first call waits too", Duration::from_secs(5), || slow.calls() == 3);
    let refused = remora.get("/user/one");
    assert_problem(&refused, "overloaded", 503);
    assert!(refused.text().contains("api \\\"user/one\\\""), "{}", refused.text());
}

#[test]
fn over_the_limit_of_concurrency_is_overloaded() {
    let peer = Peer::silent();
    let policy = "policy: { concurrency: 1, timeout: 3s }";
    let entries = service_with("user", policy, &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let mut first = remora.conn();
    first.send(request("GET", "/user/x", &[], b"")).unwrap();
    eventually("the first call waits", Duration::from_secs(5), || peer.calls() == 1);
    refused(&remora, ("user", "x"), ("overloaded", "Overloaded"), 503, 10506);
    assert_problem(&first.answer().unwrap(), "deadline", 504);
}

fn guarded(peer: &Peer) -> Remora {
    let entries = service_with("user", "access: key", &[("x", JSON), ("y", JSON)], &[&peer.address])
        + &format!("/access/user/web: {{ keys: [ {{ sha256: \"{KEY}\" }} ], apis: [x] }}\n")
        + &format!(
            "/access/user/gone: {{ state: \"off\", keys: [ {{ sha256: \"{KEY}\" }} ], apis: [\"*\"] }}\n"
        );
    Remora::embedded(&entries).start()
}

#[test]
fn a_wrong_key_is_unknown_key() {
    let peer = Peer::echo();
    let remora = guarded(&peer);
    for headers in [
        &[][..],
        &[("X-Caller", "web")][..],
        &[("X-Caller", "web"), ("X-Api-Key", "wrong")][..],
        &[("X-Caller", "stranger"), ("X-Api-Key", "sesame")][..],
    ] {
        let answer = remora.call("GET", "/user/x", headers, b"");
        assert_problem(&answer, "unknown-key", 401);
        assert!(answer.header("www-authenticate").is_some(), "{headers:?}");
        assert!(!answer.text().contains("sesame"), "{}", answer.text());
    }
    let more = json!({"provider": "web", "token": "wrong"});
    let seen = php::yar("msgpack", &remora.url("/user"), "x", json!([]), more);
    assert_thrown(&seen, "UnknownKey", 10401);
    // Before the api is looked for: strangers learn nothing.
    assert_problem(&remora.get("/user/nope"), "unknown-key", 401);
    assert_eq!(peer.calls(), 0);
}

#[test]
fn the_right_key_opens_its_apis_and_no_others() {
    let peer = Peer::echo();
    let remora = guarded(&peer);
    let key = [("X-Caller", "web"), ("X-Api-Key", "sesame")];
    let answer = remora.call("GET", "/user/x", &key, b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_problem(&remora.call("GET", "/user/y", &key, b""), "forbidden", 403);
    let more = json!({"provider": "web", "token": "sesame"});
    let url = remora.url("/user");
    let seen = php::yar("json", &url, "x", json!([]), more.clone());
    assert_eq!(seen["ok"], true, "{seen}");
    let seen = php::yar("json", &url, "y", json!([]), more);
    assert_thrown(&seen, "Forbidden", 10403);
}

#[test]
fn a_key_opens_until_it_expires() {
    let peer = Peer::echo();
    let key = |expires: &str| format!("{{ sha256: \"{KEY}\", expires: \"{expires}\" }}");
    let (past, future) = (key("2001-02-03T04:05:06Z"), key("2999-02-03T04:05:06+08:00"));
    let entries = service_with("user", "access: key", &[("x", JSON)], &[&peer.address])
        + &format!("/access/user/former: {{ keys: [ {past} ], apis: [\"*\"] }}\n")
        + &format!("/access/user/present: {{ keys: [ {future} ], apis: [\"*\"] }}\n")
        + &format!("/access/user/renewed: {{ keys: [ {past}, {future} ], apis: [\"*\"] }}\n");
    let remora = Remora::embedded(&entries).start();
    let by_yar = |caller: &str| {
        let more = json!({"provider": caller, "token": "sesame"});
        php::yar("msgpack", &remora.url("/user"), "x", json!([]), more)
    };
    let answer = remora.call("GET", "/user/x", &[("X-Caller", "former"), ("X-Api-Key", "sesame")], b"");
    assert_problem(&answer, "unknown-key", 401);
    assert_thrown(&by_yar("former"), "UnknownKey", 10401);
    assert_eq!(peer.calls(), 0);
    for caller in ["present", "renewed"] {
        let answer = remora.call("GET", "/user/x", &[("X-Caller", caller), ("X-Api-Key", "sesame")], b"");
        assert_eq!(answer.status, 200, "{caller}: {}", answer.text());
        let seen = by_yar(caller);
        assert_eq!(seen["ok"], true, "{caller}: {seen}");
    }
}

/// A sidecar whose host is the caller `web`, with the key that the service wants.
fn with_own_key(peer: &Peer) -> Remora {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sesame\n").unwrap();
    let entries = service_with("user", "access: key", &[("x", JSON)], &[&peer.address])
        + &format!("/access/user/web: {{ keys: [ {{ sha256: \"{KEY}\" }} ], apis: [\"*\"] }}\n");
    Remora::embedded(&entries)
        .with(&format!("caller: {{ name: web, key_file: {} }}", key.path().display()))
        .start()
}

#[test]
fn the_hosts_own_caller_stands_in_where_a_call_names_none() {
    let peer = Peer::echo();
    let remora = with_own_key(&peer);
    let answer = remora.get("/user/x");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["headers"]["x-api-key"], Value::Null);
}

#[test]
fn who_names_a_caller_that_is_no_plain_name_is_never_taken_for_the_hosts_own() {
    let peer = Peer::echo();
    let remora = with_own_key(&peer);
    for header in ["X-Caller", "X-Api-Key"] {
        for (value, kind, status) in
            [("用户".as_bytes(), "unknown-key", 401), (b"\xd3\xc3\xbb\xa7", "malformed-request", 400)]
        {
            let head = format!("GET /user/x HTTP/1.1\r\nHost: a\r\n{header}: ");
            let mut conn = remora.conn();
            conn.send([head.as_bytes(), value, b"\r\n\r\n"].concat()).unwrap();
            assert_problem(&conn.answer().unwrap(), kind, status);
        }
    }
    let mut message = yar::json_request("user.x", "[]");
    // the provider field of its header
    message[14..18].copy_from_slice(b"\xd3\xc3\xbb\xa7");
    let answer = remora.call("POST", "/user", &[], &message);
    assert!(answer.text().contains("MalformedRequest"), "{}", answer.text());
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_head_with_too_many_headers_is_logged_as_its_caller_was_answered() {
    let remora = Remora::embedded("").start();
    let headers = |count: usize| format!("GET /user/x HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    for (count, status) in [(100, 404), (101, 431)] {
        let mut conn = remora.conn();
        conn.send(headers(count)).unwrap();
        assert_eq!(conn.answer().unwrap().status, status, "{count} headers");
    }
    eventually("it is logged", Duration::from_secs(5), || remora.log().contains("100 headers"));
    let log = remora.log();
    let line = log.lines().find(|line| line.contains("100 headers")).unwrap();
    assert!(line.contains("\"status\":431"), "{line}");
}

#[test]
fn refusals_touch_no_network() {
    let peer = Peer::echo();
    let entries = service("user", &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let mut conn = remora.conn();
    for _ in 0..200 {
        let answer = conn.request("GET", "/user/nope", &[], b"").unwrap();
        assert_eq!(answer.status, 404);
    }
    assert_eq!(peer.connections(), 0);
}

#[test]
fn addresses_of_the_inside_stay_in_the_log() {
    let gone = Peer::refusing();
    let entries = service("user", &[("x", JSON)], &[&gone]);
    let remora = Remora::embedded(&entries).start();
    let answer = remora.post("/user/x", "[]");
    assert!(!answer.text().contains(&gone), "{}", answer.text());
    eventually("the log names the peer", Duration::from_secs(5), || remora.log().contains(&gone));
}

#[test]
fn a_wildcard_api_lets_nobody_climb_out_of_its_path() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("user", &[("*", "{ path: /v1 }")], &[&peer.address])).start();
    for path in ["/user/a/../../admin", "/user/a/%2e%2e/%2e%2e/admin", "/user/a%2f..%2f../admin", "/user/*"] {
        assert_problem(&remora.get(path), "no-api", 404);
    }
    for method in ["../../admin?x=1", "a/b", "*", ""] {
        let seen = php::yar("json", &remora.url("/user"), method, json!([]), json!({}));
        assert_thrown(&seen, "NoApi", 10405);
    }
    assert_eq!(peer.calls(), 0);
    assert_eq!(remora.get("/user/a/b.c").status, 200);
}
