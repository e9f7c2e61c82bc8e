//! Answers of providers that real clients misread, or end by: what callers get of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use support::peer::answer;
use support::{Answer, Peer, Remora, assert_problem, service, yar};

/// A Yar provider that says this, whatever it is asked.
fn saying(packager: &'static str, payload: &[u8]) -> Peer {
    let message = yar::message(packager, payload);
    Peer::http(move |_| answer(200, &[], &message))
}

fn remora(packager: &str, peer: &Peer) -> Remora {
    let api = format!("{{ encoding: yar-{} }}", packager.to_lowercase());
    Remora::embedded(&service("calc", &[("any", &api)], &[&peer.address])).start()
}

/// The answer of a Yar call without parameters in this packager.
fn call(remora: &Remora, packager: &str) -> Answer {
    let message = match packager {
        "PHP" => yar::php_request("any", "a:0:{}"),
        "JSON" => yar::json_request("any", "[]"),
        _ => yar::msgpack_request("any", &[0x90]),
    };
    let answer = yar::send(remora, "/calc", &message);
    assert_eq!(answer.body[..4], yar::ID.to_be_bytes(), "{packager}");
    assert!(answer.body[82..].starts_with(packager.as_bytes()), "{packager}: {}", answer.text());
    answer
}

/// Every caller is told that this answer is bad, and why.
fn assert_bad(packager: &'static str, payload: &[u8], why: &str) {
    let peer = saying(packager, payload);
    let remora = remora(packager, &peer);
    let problem = remora.get("/calc/any");
    assert_problem(&problem, "bad-answer", 502);
    assert!(problem.text().contains(why), "{packager}: {}", problem.text());
    for caller in ["PHP", "JSON", "MSGPACK"] {
        let told = call(&remora, caller).text();
        assert!(told.contains("BadAnswer") && told.contains(why), "{caller} of {packager}: {told}");
    }
}

#[test]
fn a_status_that_php_cuts_to_success_is_no_success() {
    let why = "`s` is 4294967296, beyond the 32 bits that PHP reads";
    assert_bad("JSON", br#"{"i":0,"s":4294967296,"r":1}"#, why);
    assert_bad("MSGPACK", b"\x83\xa1i\0\xa1s\xcf\0\0\0\x01\0\0\0\0\xa1r\x01", why);
    assert_bad("PHP", br#"a:3:{s:1:"i";i:0;s:1:"s";i:4294967296;s:1:"r";i:1;}"#, why);
}

#[test]
fn an_answer_that_is_a_php_object_is_none() {
    let why = "the payload is a PHP object, not a map";
    assert_bad("MSGPACK", b"\x84\xc0\xa8stdClass\xa1i\0\xa1s\0\xa1r\x01", why);
    assert_bad("PHP", br#"O:8:"stdClass":3:{s:1:"i";i:0;s:1:"s";i:0;s:1:"r";i:1;}"#, why);
}

/// What a caller in JSON sees of a failure with this `s` and `e`.
fn failed(s: i64, e: &str) -> serde_json::Value {
    let peer = saying("JSON", format!(r#"{{"i":0,"s":{s},"e":{e}}}"#).as_bytes());
    yar::json_payload(&call(&remora("JSON", &peer), "JSON"))
}

#[test]
fn a_failure_that_every_client_reads_passes_as_it_is() {
    let whole = r#"{"message":"no","code":"HY000","file":"a","line":1,"_type":"T","more":[1]}"#;
    for (s, e) in [(64, whole), (64, r#"{"message":"no"}"#), (64, r#""no""#), (16, r#""no""#)] {
        let e_value: serde_json::Value = serde_json::from_str(e).unwrap();
        assert_eq!(failed(s, e), json!({"i": 0, "s": s, "e": e_value}), "{s} {e}");
    }
    for s in [1, 2, 4, 8, 32, 128, 429, -1] {
        assert_eq!(failed(s, r#""no""#)["s"], s);
    }
}

#[test]
fn a_failure_that_ends_old_clients_becomes_an_exception() {
    for (s, e, message, code) in [
        (16, r#"{"message":"no","code":7}"#, "no", json!(7)),
        (4, r#"{"message":"no","code":7}"#, "no", json!(7)),
        (64, "{}", "", json!(0)),
        (64, "[]", "unknown error, status 64", json!(64)),
        (64, "null", "unknown error, status 64", json!(64)),
        (4, "7", "unknown error, status 4", json!(4)),
    ] {
        let seen = failed(s, e);
        assert_eq!((&seen["s"], &seen["i"]), (&json!(64), &json!(yar::ID)), "{seen}");
        assert_eq!((&seen["e"]["message"], &seen["e"]["code"]), (&json!(message), &code), "{s} {e}: {seen}");
        for key in ["file", "line", "_type"] {
            assert!(!seen["e"][key].is_null(), "no {key}: {seen}");
        }
    }
}

#[test]
fn an_exception_that_is_an_object_keeps_its_message() {
    let msgpack = saying("MSGPACK", b"\x83\xa1i\0\xa1s\x40\xa1e\x83\xc0\xa1E\xa7message\xa2no\xa4code\x07");
    let answer = call(&remora("MSGPACK", &msgpack), "MSGPACK");
    assert!(!answer.body.contains(&0xc0) && answer.text().contains("_type"), "{}", answer.text());
    assert!(answer.text().contains("message\u{fffd}no"), "{}", answer.text());
    let php = br#"a:3:{s:1:"i";i:0;s:1:"s";i:64;s:1:"e";O:1:"E":2:{s:7:"message";s:2:"no";s:4:"code";i:7;}}"#;
    let told = yar::php_payload(&call(&remora("PHP", &saying("PHP", php)), "PHP"));
    assert!(told.contains(r#"s:1:"e";a:5:{s:7:"message";s:2:"no";s:4:"code";i:7;"#), "{told}");
}

#[test]
fn an_answer_may_repeat_the_id_of_the_payload() {
    const I: u64 = (1 << 40) + 5;
    for (given, passes) in [(I, true), (5, true), (0, true), (6, false), (I + 1, false)] {
        let message = yar::message("JSON", format!(r#"{{"i":{given},"s":0,"r":7}}"#).as_bytes());
        let peer = Peer::http(move |_| answer(200, &[], &message));
        let remora = remora("JSON", &peer);
        let request = yar::message("JSON", format!(r#"{{"i":{I},"m":"any","p":[]}}"#).as_bytes());
        let answer = yar::send(&remora, "/calc", &yar::with_id(request, 5));
        assert_eq!(answer.body[..4], [0, 0, 0, 5]);
        let seen = yar::json_payload(&answer);
        if passes {
            assert_eq!(seen, json!({"i": given, "s": 0, "r": 7}));
        } else {
            yar::assert_refused(&seen, "BadAnswer", 10508);
        }
    }
}

#[test]
fn printed_output_that_is_no_text_is_left_out() {
    for o in ["7", "null", "true", "1.5"] {
        let peer = saying("JSON", format!(r#"{{"i":0,"s":0,"o":{o},"r":{{"a": 1}}}}"#).as_bytes());
        let remora = remora("JSON", &peer);
        assert_eq!(remora.get("/calc/any").json(), json!({"a": 1}), "{o}");
        // nothing is printed, and nothing else is touched
        let own = call(&remora, "JSON").text();
        assert!(own.ends_with(r#"{"i":0,"s":0,"o":"","r":{"a": 1}}"#), "{o}: {own}");
        let other = yar::php_payload(&call(&remora, "PHP"));
        assert!(other.ends_with(r#"s:1:"s";i:0;s:1:"r";a:1:{s:1:"a";i:1;}}"#), "{o}: {other}");
    }
    let php = saying("PHP", br#"a:4:{s:1:"i";i:0;s:1:"s";i:0;s:1:"o";N;s:1:"r";a:2:{i:0;i:5;i:1;R:6;}}"#);
    let own = yar::php_payload(&call(&remora("PHP", &php), "PHP"));
    assert!(own.contains(r#"s:1:"o";s:0:"";s:1:"r";a:2:{i:0;i:5;i:1;R:6;}"#), "{own}");
    let msgpack = saying("MSGPACK", b"\x84\xa1i\0\xa1s\0\xa1o\x07\xa1r\xa2hi");
    let own = call(&remora("MSGPACK", &msgpack), "MSGPACK");
    assert!(own.body.ends_with(b"\xa1o\xa0\xa1r\xa2hi"), "{}", own.text());
    assert_bad("JSON", br#"{"i":0,"s":0,"o":[1],"r":1}"#, "`o` is a list, not a string");
}

#[test]
fn an_empty_answer_in_json_is_null_only_where_its_status_says_so() {
    for (status, body, is_null) in [
        (200, "", false),
        (200, " \n", false),
        (201, "", false),
        (204, "", true),
        (205, "", true),
        (200, "null", true),
    ] {
        let peer = Peer::http(move |_| answer(status, &[], body.as_bytes()));
        let apis = [("any", "{ path: /any, encoding: json }")];
        let remora = Remora::embedded(&service("calc", &apis, &[&peer.address])).start();
        let seen = yar::json_payload(&call(&remora, "JSON"));
        if is_null {
            assert_eq!((&seen["s"], seen.get("r")), (&json!(0), Some(&json!(null))), "{status}: {seen}");
        } else {
            yar::assert_refused(&seen, "BadAnswer", 10508);
            let told = seen["e"]["message"].as_str().unwrap();
            assert!(told.contains("ended without a result, as by exit()"), "{status}: {told}");
        }
    }
}

#[test]
fn an_answer_to_head_has_no_body_and_is_null() {
    let peer = Peer::http(|_| answer(200, &[], b""));
    let apis = [("any", "{ path: /any, encoding: json, method: HEAD }")];
    let remora = Remora::embedded(&service("calc", &apis, &[&peer.address])).start();
    let seen = yar::json_payload(&call(&remora, "JSON"));
    assert_eq!((&seen["s"], seen.get("r")), (&json!(0), Some(&json!(null))), "{seen}");
}
