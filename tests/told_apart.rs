//! What goes wrong is told as what it is: by whom, where, and what helps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::peer::answer;
use support::remora::remora;
use support::{Answer, Conn, Peer, Remora, assert_problem, eventually, service, yar};
use yar::{assert_refused, call_raw, json_request, raw_payload, read_raw};

const YAR_JSON: &str = "{ encoding: yar-json }";

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap_or_default().to_owned()
}

fn thrown(seen: &Value) -> &str {
    seen["e"]["message"].as_str().unwrap_or_default()
}

#[test]
fn a_path_behind_a_function_of_a_yar_provider_is_no_api() {
    let peer = Peer::echo();
    let entries = service("mp", &[("*", YAR_JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    for rest in ["uri/foo/bar", "uri/"] {
        let answer = remora.get(&format!("/mp/{rest}"));
        assert_problem(&answer, "no-api", 404);
        let said =
            format!("\"{rest}\" is more than the name of a function of a Yar provider; call /mp/uri alone");
        assert_eq!(detail(&answer), said);
    }
    assert_eq!(peer.calls(), 0);
}

#[test]
fn an_unreadable_node_of_all_apis_is_named() {
    let peer = Peer::echo();
    let entries = service("mp", &[("*", "{ encoding: foo }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let answer = remora.get("/mp/x");
    assert_problem(&answer, "no-api", 404);
    let said = detail(&answer);
    assert!(said.contains("its node /api/mp/* can't be read: ") && said.contains("\"foo\""), "{said}");
}

#[test]
fn a_raw_method_that_names_no_api_is_told_how_it_is_called() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("mp", &[("*", YAR_JSON)], &[&peer.address])).start();
    let seen = call_raw(remora.conn(), &json_request("mp.", "[]"));
    assert_refused(&seen, "NoApi", 10405);
    assert!(thrown(&seen).contains("over raw Yar call mp.{api}"), "{seen}");
}

#[test]
fn a_caller_that_stalls_is_not_taken_for_a_slow_provider() {
    let peer = Peer::echo();
    let apis = [("json", "{ path: / }"), ("yar", YAR_JSON)];
    let remora =
        Remora::embedded(&service("mp", &apis, &[&peer.address])).with("defaults: { timeout: 1500ms }");
    let remora = remora.start();
    let chunked = "transfer-encoding: chunked\r\n\r\n4\r\n[1,2\r\n";
    for (api, body, said) in [
        ("json", "content-length: 30\r\n\r\n[1,2", "4 of the body's 30 bytes arrived within 1500ms"),
        ("yar", "content-length: 30\r\n\r\n[1,2", "4 of the body's 30 bytes arrived within 1500ms"),
        ("json", chunked, "4 bytes of the body arrived, and not its end, within 1500ms"),
    ] {
        let mut conn = remora.conn();
        conn.send(format!("POST /mp/{api} HTTP/1.1\r\nhost: a\r\n{body}")).unwrap();
        let answer = conn.answer().unwrap();
        assert_problem(&answer, "malformed-request", 400);
        assert_eq!(detail(&answer), said);
    }
    let metrics = remora.admin("GET", "/metrics").text();
    assert!(!metrics.contains("remora_provider_failures_total{"), "{metrics}");
}

#[test]
fn a_provider_that_does_not_read_a_body_is_not_taken_for_a_caller_that_stalls() {
    let peer = Peer::silent();
    let remora = Remora::embedded(&service("mp", &[("json", "{ path: / }")], &[&peer.address]));
    let remora = remora.with("defaults: { timeout: 400ms }").start();
    let answer = remora.post("/mp/json", "[1]");
    assert_problem(&answer, "deadline", 504);
    let metrics = remora.admin("GET", "/metrics").text();
    assert!(metrics.contains("remora_provider_failures_total{"), "{metrics}");
}

#[test]
fn a_payload_is_told_to_be_missing_or_cut_short_where_it_is() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("mp", &[("x", YAR_JSON)], &[&peer.address])).start();
    let cut = b"\x83\xa1i\x01\xa1m\xa1x\xa1p\x92";
    for (packager, payload, said) in [
        ("JSON", &b""[..], "no payload; perhaps its json_encode failed, as on text that is not UTF-8"),
        ("PHP", b"", "no payload; it ended early, as by exit() or a fatal error"),
        ("MSGPACK", cut, "byte 10 of the MSGPACK payload: a list of 2 entries, cut short after 0 bytes"),
    ] {
        let answer = remora.call("POST", "/mp", &[], &yar::message(packager, payload));
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_raw_message_that_announces_too_much_is_refused_once_its_service_is_known() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("mp", &[("x", YAR_JSON)], &[&peer.address])).start();
    let begun = yar::message_with(b"JSON\0\0\0\0", br#"{"i":1,"m":"mp.x","p":["#, u32::MAX);
    let mut conn = remora.conn();
    conn.send(begun).unwrap();
    assert_refused(&raw_payload(&read_raw(&mut conn).unwrap()), "TooLarge", 10413);
}

#[test]
fn a_raw_answer_that_ends_early_is_told_how_much_of_it_arrived() {
    let mut answer = yar::message_with(b"JSON\0\0\0\0", br#"{"i":1"#, 100);
    answer[..4].fill(0);
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = read_raw(&mut conn);
        let _ = conn.send(&answer);
    });
    let api = "{ encoding: yar-json, transport: tcp }";
    let remora = Remora::embedded(&service("mp", &[("x", api)], &[&peer.address])).start();
    let answer = remora.get("/mp/x");
    assert_problem(&answer, "cut", 502);
    assert!(detail(&answer).ends_with("96 of 182 bytes of the answer arrived"), "{}", answer.text());
}

#[test]
fn a_json_text_announced_as_a_form_is_no_form() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("mp", &[("x", YAR_JSON)], &[&peer.address])).start();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = remora.call("POST", "/mp/x", &form, br#""a=b""#);
    assert_problem(&answer, "malformed-request", 400);
    assert!(detail(&answer).ends_with("say Content-Type: application/json"), "{}", answer.text());
    assert_eq!(peer.calls(), 0);
}

#[test]
fn http_2_is_answered_as_any_head_that_is_none() {
    let remora = Remora::embedded(&service("mp", &[], &[])).start();
    let mut conn = remora.conn();
    conn.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert_eq!(conn.answer().unwrap().status, 400);
    assert!(conn.is_closed());
    eventually("a line in the log", Duration::from_secs(5), || {
        remora.log().contains("HTTP/2, which is not offered")
    });
}

#[test]
fn an_answer_that_is_no_yar_message_is_told_by_what_it_is() {
    let notice = b"\xef\xbb\xbf<br />\nNotice: Undefined index\n";
    let good = yar::message("JSON", br#"{"i":1,"s":0,"r":1}"#);
    let noticed = [&notice[..], &good].concat();
    for (bytes, said) in [
        (
            answer(302, &[("location", "/login")], b"moved"),
            "HTTP 302, a redirect to \"/login\" that is not followed,",
        ),
        (answer(204, &[], b""), "HTTP 204, no content,"),
        (answer(200, &[], &noticed), "HTTP 200 with text before its Yar message: \""),
        (answer(200, &[], &[0; 100]), "without a Yar message: \"\\x00\\x00"),
        (answer(200, &[], &yar::message("JSON", b"")), "perhaps its json_encode failed"),
        (answer(200, &[], &yar::message("PHP", b"")), "it ended early, as by exit() or a fatal error"),
        (
            answer(200, &[], &yar::message("MSGPACK", b"\x83\xa1i")),
            "byte 0 of the MSGPACK payload: a map of 3 entries, cut short",
        ),
    ] {
        let peer = Peer::http(move |_| bytes.clone());
        let remora = Remora::embedded(&service("mp", &[("x", YAR_JSON)], &[&peer.address])).start();
        let answer = remora.get("/mp/x");
        assert_problem(&answer, "bad-answer", 502);
        let told = detail(&answer);
        assert!(told.contains(said), "{told}");
        assert!(told.contains("Undefined index") || !told.contains("before"), "{told}");
        assert!(!told.contains("\u{80}"), "{told}");
    }
}

#[test]
fn a_yar_caller_is_told_of_a_redirect_too() {
    let peer = Peer::http(|_| answer(302, &[("location", "/login")], b""));
    let remora = Remora::embedded(&service("mp", &[("x", "{ path: / }")], &[&peer.address])).start();
    let seen = call_raw(remora.conn(), &json_request("mp.x", "[]"));
    assert_refused(&seen, "BadAnswer", 10508);
    assert!(thrown(&seen).contains("HTTP 302, a redirect to \"/login\""), "{seen}");
}

#[test]
fn yar_call_tells_of_an_empty_answer() {
    let peer = Peer::http(|_| answer(200, &[], b""));
    let output = remora(&["yar", "call", &format!("http://{}/", peer.address), "x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("an empty answer"), "{output:?}");
}
