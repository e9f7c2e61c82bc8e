//! PHP callers by Yar, Yar providers, and every crossing between Yar and JSON.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::peer::{answer, ok_json};
use support::php::{self, Php};
use support::{Peer, Remora, assert_problem, assert_thrown, eventually_some, http, service, yar};

const ANY: &str = "{ encoding: yar-msgpack }";

/// Service `calc`: every function of the PHP provider, by Yar in msgpack.
fn calc(provider: &Php) -> Remora {
    let apis = [
        ("*", ANY),
        ("echo", "{ encoding: yar-msgpack, path: / }"),
        ("add", "{ encoding: yar-msgpack, params: [a, b] }"),
        ("echoArg", ANY),
        ("count", ANY),
    ];
    Remora::embedded(&service("calc", &apis, &[&provider.address])).start()
}

/// Service `user`: the PHP provider that speaks JSON.
fn user(provider: &Php) -> Remora {
    let apis = [
        ("getUser", "{ path: /user/get, encoding: json }"),
        ("mirror", "{ path: /mirror, encoding: json }"),
        ("asked", "{ path: /echo, encoding: json }"),
        ("query", "{ path: /echo, encoding: json, method: GET, params: [id, name] }"),
        ("missing", "{ path: /status/404, encoding: json }"),
        ("broken", "{ path: /status/500, encoding: json }"),
        ("empty", "{ path: /empty, encoding: json }"),
    ];
    Remora::embedded(&service("user", &apis, &[&provider.address])).start()
}

/// A Yar provider in msgpack that returns these raw bytes as `r`.
fn returning(result: &'static [u8]) -> Peer {
    Peer::http(move |request| answer(200, &[], &yar::msgpack_answer(&request.body, result)))
}

fn values() -> Value {
    json!([
        i64::MIN,
        i64::MAX,
        -1,
        255,
        65536,
        1.5,
        "",
        "grüße 你好",
        "nul \u{0} inside",
        true,
        false,
        null,
        [],
        [1, [2, [3, []]]],
        {"a": {"b": {"c": [null]}}, "5": "five"},
    ])
}

#[test]
fn a_yar_caller_reaches_a_yar_provider_in_its_own_packager() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let url = remora.url("/calc");
    assert_eq!(php::yar_value("msgpack", &url, "add", json!([1, 2])), 3);
    assert_eq!(php::yar_value("msgpack", &url, "echo", values()), values());
    assert_eq!(php::yar_value("msgpack", &url, "echo", json!([])), json!([]));
}

#[test]
fn a_yar_caller_in_json_or_php_reaches_a_provider_in_msgpack() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let url = remora.url("/calc");
    for packager in ["json", "php"] {
        assert_eq!(php::yar_value(packager, &url, "add", json!([1, 2])), 3);
        assert_eq!(php::yar_value(packager, &url, "echo", values()), values());
        assert_eq!(php::yar_value(packager, &url, "intMin", json!([])), i64::MIN);
        assert_eq!(php::yar_value(packager, &url, "intMax", json!([])), i64::MAX);
    }
}

#[test]
fn a_whole_float_stays_a_float() {
    let provider = Php::yar();
    let remora = calc(&provider);
    for packager in ["msgpack", "json", "php"] {
        let seen = php::yar(packager, &remora.url("/calc"), "float", json!([]), json!({}));
        assert_eq!(seen["type"], "float", "{packager}: {seen}");
    }
    let answer = remora.get("/calc/float");
    assert_eq!(answer.text().trim(), "3.0");
    let answer = remora.post("/calc/echo", "[3.0, 1e2, 3]");
    assert_eq!(answer.text().trim().replace(' ', ""), "[3.0,100.0,3]");
}

#[test]
fn a_payload_in_the_providers_own_packager_is_untouched() {
    // Bytes that no codec would write this way: a long form of 1, an extension type, a bin.
    const PARAMS: &[u8] = &[0x93, 0xd1, 0, 1, 0xd4, 5, 9, 0xc4, 2, 0xff, 0xfe];
    const RESULT: &[u8] = &[0x92, 0xd3, 0, 0, 0, 0, 0, 0, 0, 7, 0xd4, 5, 9];
    let peer = returning(RESULT);
    let entries = service("calc", &[("any", ANY)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let sent = yar::msgpack_request("any", PARAMS);
    let answer = yar::send(&remora, "/calc", &sent);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(peer.last().body[90..], sent[90..]);
    assert!(answer.body.ends_with(RESULT), "{:02x?}", answer.body);
    assert_eq!(answer.body[..4], yar::ID.to_be_bytes());
}

#[test]
fn a_yar_provider_gets_a_request_as_it_needs_it() {
    let peer = returning(&[0xc0]);
    let entries = service("calc", &[("any", "{ encoding: yar-msgpack, path: /rpc }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    for n in 0..2 {
        match n {
            0 => drop(remora.post("/calc/any", "[1]")),
            _ => drop(yar::send(&remora, "/calc", &yar::json_request("any", "[1]"))),
        }
        let request = peer.last();
        assert_eq!(request.method, "POST");
        assert_eq!(request.target, "/rpc");
        // The built-in server of PHP hands a request without one to Yar as empty.
        let content = request.header("content-type").expect("no Content-Type");
        assert!(!content.starts_with("multipart/"), "{content}");
        let body = &request.body;
        assert_eq!(body[6..10], [0x80, 0xdf, 0xec, 0x60]);
        assert_eq!(&body[82..90], b"MSGPACK\0");
        assert_eq!(body[78..82], (body.len() as u32 - 82).to_be_bytes());
    }
}

#[test]
fn parameters_never_reach_a_yar_provider_as_an_empty_map() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = yar::send(&remora, "/calc", &yar::json_request("count", "{}"));
    let seen = yar::json_payload(&answer);
    assert_eq!(seen["r"], 0, "{seen}\n{}", remora.log());
    let answer = remora.post("/calc/count", "{}");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let empty = yar::send(&remora, "/calc", &yar::msgpack_request("count", &[0x90]));
    assert_eq!(empty.status, 200);
    assert_eq!(empty.body.last(), Some(&0), "{:02x?}", empty.body);
}

#[test]
fn an_empty_object_inside_becomes_an_empty_array() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.post("/calc/echo", r#"[{}, {"k": {}}]"#);
    assert_eq!(answer.json(), json!([[], {"k": []}]));
}

#[test]
fn a_json_caller_gives_parameters_by_position() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.post("/calc/add", "[40, 2]");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), 42);
    let content = answer.header("content-type").unwrap_or_default();
    assert!(content.starts_with("application/json"), "{content}");
    let answer = remora.post("/calc/echo", &values().to_string());
    assert_eq!(answer.json(), values());
}

#[test]
fn a_json_caller_gives_parameters_by_name() {
    let provider = Php::yar();
    let remora = calc(&provider);
    assert_eq!(remora.post("/calc/add", r#"{"b": 2, "a": 40}"#).json(), 42);
}

#[test]
fn a_json_object_without_names_in_the_registry_is_one_parameter() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.post("/calc/echo", r#"{"x": 1, "y": [2]}"#);
    assert_eq!(answer.json(), json!([{"x": 1, "y": [2]}]));
}

#[test]
fn a_query_is_one_parameter_and_nothing_is_none() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.get("/calc/echo?a=1&b=%E4%BD%A0+x");
    assert_eq!(answer.json(), json!([{"a": "1", "b": "你 x"}]));
    assert_eq!(remora.get("/calc/count").json(), 0);
    assert_eq!(remora.call("POST", "/calc/count", &[], b"").json(), 0);
}

#[test]
fn a_function_that_returns_nothing_gives_null() {
    let provider = Php::yar();
    let remora = calc(&provider);
    assert_eq!(remora.get("/calc/nothing").json(), Value::Null);
    for packager in ["msgpack", "json", "php"] {
        let value = php::yar_value(packager, &remora.url("/calc"), "nothing", json!([]));
        assert_eq!(value, Value::Null);
    }
}

#[test]
fn empty_list_and_empty_map_of_a_provider_stay_apart_in_json() {
    for (result, text) in [(&[0x80][..], "{}"), (&[0x90][..], "[]")] {
        let peer = returning(result);
        let entries = service("calc", &[("any", ANY)], &[&peer.address]);
        let remora = Remora::embedded(&entries).start();
        assert_eq!(remora.get("/calc/any").text().trim(), text);
    }
}

#[test]
fn an_exception_of_the_provider_reaches_a_json_caller_with_all_its_parts() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.post("/calc/throw", r#"["no more", 77]"#);
    assert_problem(&answer, "provider-exception", 500);
    let text = answer.text();
    for part in ["BizException", "no more", "77"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn an_exception_of_the_provider_reaches_a_yar_caller_as_its_own() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let url = remora.url("/calc");
    for packager in ["msgpack", "json", "php"] {
        let seen = php::yar(packager, &url, "throw", json!(["no more", 77]), json!({}));
        assert_eq!(seen["exception"], "Yar_Server_Exception", "{seen}");
        assert_eq!(seen["message"], "no more", "{seen}");
        assert_eq!(seen["type"], "BizException", "{seen}");
        assert_eq!(seen["code"], 77, "{seen}");
        let seen = php::yar(packager, &url, "typeError", json!([]), json!({}));
        assert_eq!(seen["type"], "TypeError", "{seen}");
    }
}

#[test]
fn a_function_that_does_not_exist_is_a_failure_for_everyone() {
    let provider = Php::yar();
    let remora = calc(&provider);
    for packager in ["msgpack", "json", "php"] {
        let seen = php::yar(packager, &remora.url("/calc"), "nope", json!([]), json!({}));
        assert!(seen["exception"].is_string(), "{seen}");
        assert!(seen["message"].as_str().unwrap().contains("nope"), "{seen}");
    }
    let answer = remora.get("/calc/nope");
    assert!(answer.status >= 500, "{} {}", answer.status, answer.text());
    assert!(answer.kind().is_some(), "{}", answer.text());
}

#[test]
fn what_a_function_printed_passes_within_one_packager() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let seen = php::yar("msgpack", &remora.url("/calc"), "text", json!([]), json!({}));
    assert_eq!((&seen["value"], &seen["output"]), (&json!("returned"), &json!("printed")));
}

#[test]
fn a_yar_caller_reaches_a_json_provider() {
    let provider = Php::json();
    let remora = user(&provider);
    let url = remora.url("/user");
    for packager in ["msgpack", "json", "php"] {
        // One map is the object itself, anything else a list.
        let value = php::yar_value(packager, &url, "getUser", json!([{"id": 7}]));
        assert_eq!(value["name"], "user 7", "{packager}");
        let value = php::yar_value(packager, &url, "getUser", json!([8]));
        assert_eq!(value["name"], "user 8", "{packager}");
        let map = json!([{"a": [1, i64::MIN], "f": 1.5, "s": "你\u{0}"}]);
        assert_eq!(php::yar_value(packager, &url, "mirror", map.clone()), map[0]);
        let list = json!([1, "two", [3]]);
        assert_eq!(php::yar_value(packager, &url, "mirror", list.clone()), list);
    }
}

#[test]
fn a_json_provider_gets_a_post_with_json() {
    let provider = Php::json();
    let remora = user(&provider);
    let seen = php::yar_value("msgpack", &remora.url("/user"), "asked", json!([{"id": 7, "f": 3.0}]));
    assert_eq!(seen["method"], "POST");
    let content = seen.pointer("/headers/content-type").unwrap_or(&Value::Null);
    assert!(content.as_str().unwrap_or_default().starts_with("application/json"), "{seen}");
    assert_eq!(seen["body"].as_str().unwrap().replace(' ', ""), r#"{"id":7,"f":3.0}"#);
}

#[test]
fn toward_get_the_parameters_become_the_query_by_their_names() {
    let provider = Php::json();
    let remora = user(&provider);
    for packager in ["msgpack", "json", "php"] {
        let seen = php::yar_value(packager, &remora.url("/user"), "query", json!([7, "a b"]));
        assert_eq!(seen["method"], "GET", "{seen}");
        let query = seen["query"].as_str().unwrap().replace("%20", "+");
        assert_eq!(query, "id=7&name=a+b");
    }
}

#[test]
fn a_json_provider_that_fails_throws_for_a_yar_caller() {
    let provider = Php::json();
    let remora = user(&provider);
    for packager in ["msgpack", "json", "php"] {
        for (api, status) in [("missing", 404), ("broken", 500)] {
            let seen = php::yar(packager, &remora.url("/user"), api, json!([]), json!({}));
            assert_thrown(&seen, "ProviderError", status);
        }
    }
    let plain = remora.get("/user/missing");
    assert_eq!((plain.status, plain.kind()), (404, None), "an HTTP caller sees the provider's own");
}

#[test]
fn an_answer_without_a_body_is_null_for_a_yar_caller() {
    let provider = Php::json();
    let remora = user(&provider);
    let value = php::yar_value("json", &remora.url("/user"), "empty", json!([]));
    assert_eq!(value, Value::Null);
}

#[test]
fn bytes_that_json_can_not_carry_name_their_place() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.get("/calc/binary");
    assert_problem(&answer, "unadaptable", 502);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(".user.photo"), "{detail}");
    let seen = php::yar("json", &remora.url("/calc"), "binary", json!([]), json!({}));
    assert_thrown(&seen, "Unadaptable", 10422);
    assert!(seen["message"].as_str().unwrap().contains(".user.photo"), "{seen}");
    // Where nothing is transcoded, they pass.
    let seen = php::yar("msgpack", &remora.url("/calc"), "binary", json!([]), json!({}));
    assert_eq!(seen["ok"], true, "{seen}");
}

#[test]
fn bytes_of_a_caller_that_json_can_not_carry_name_their_place() {
    let provider = Php::json();
    let remora = user(&provider);
    // [{"photo": "\xff\xfe"}]
    let params = b"\x91\x81\xa5photo\xa2\xff\xfe";
    let answer = yar::send(&remora, "/user", &yar::msgpack_request("mirror", params));
    let text = answer.text();
    assert_eq!(answer.status, 200);
    assert!(text.contains("Unadaptable") && text.contains("photo"), "{text}");
}

#[test]
fn a_number_that_no_php_can_hold_is_refused_not_rounded() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.post("/calc/echo", "[1, 99999999999999999999999]");
    assert_problem(&answer, "unadaptable", 422);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("[1]"), "{detail}");
}

#[test]
fn the_connection_ends_where_the_caller_asked_and_stays_where_not() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let url = remora.url("/calc");
    // The default client would wait for its whole timeout.
    let seen = php::yar("msgpack", &url, "add", json!([1, 2]), json!({"timeout_ms": 4000}));
    assert_eq!(seen["value"], 3, "{seen}");
    let kept = json!({"keep_alive": true});
    let calls = php::yar_times(3, "msgpack", &url, "add", json!([1, 2]), kept);
    let connects: i64 = calls.iter().map(|c| c["connects"].as_i64().unwrap()).sum();
    assert!(calls.iter().all(|c| c["value"] == 3), "{calls:?}");
    assert_eq!(connects, 1, "{calls:?}");
}

#[test]
fn a_refusal_closes_too_where_the_caller_asked() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let more = json!({"timeout_ms": 4000});
    let seen = php::yar("json", &remora.url("/nobody"), "add", json!([1, 2]), more);
    assert_thrown(&seen, "NoService", 10404);
}

#[test]
fn a_yar_caller_comes_by_proxy_and_by_socket() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let proxy = json!({"proxy": remora.address});
    let seen = php::yar("msgpack", "http://calc/", "add", json!([1, 2]), proxy);
    assert_eq!(seen["value"], 3, "{seen}");
    let socket = json!({"unix": remora.socket});
    let seen = php::yar("json", "http://localhost/calc", "add", json!([1, 2]), socket);
    assert_eq!(seen["value"], 3, "{seen}");
}

#[test]
fn the_key_of_a_yar_caller_is_consumed() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let more = json!({"provider": "web", "token": "sesame"});
    for packager in ["msgpack", "json", "php"] {
        let seen = php::yar(packager, &remora.url("/calc"), "who", json!([]), more.clone());
        assert_eq!(seen["value"][1], "", "the token reached the provider: {seen}");
    }
}

#[test]
fn headers_of_old_clients_are_tolerated() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let payload = format!(r#"{{"i":{},"m":"add","p":[1,2]}}"#, yar::ID);
    let payload = payload.as_bytes();
    for (packager, length) in [
        // 2.3.3 leaves its own letters behind the NUL.
        (*b"JSON\0YAR", 8 + payload.len() as u32),
        (*b"json\0\0\0\0", 8 + payload.len() as u32),
        // Others count the payload only, or nothing.
        (*b"JSON\0\0\0\0", payload.len() as u32),
        (*b"JSON\0\0\0\0", 0),
        (*b"JSON\0\0\0\0", u32::MAX),
    ] {
        let message = yar::message_with(&packager, payload, length);
        let answer = yar::send(&remora, "/calc", &message);
        assert_eq!(yar::json_payload(&answer)["r"], 3, "{packager:?} {length}");
    }
}

#[test]
fn a_header_line_with_raw_bytes_does_not_cost_the_call() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let mut conn = remora.conn();
    let body = yar::json_request("add", "[1,2]");
    // 2.0.x prints a struct where the host's name belongs.
    let mut bytes = b"POST /calc HTTP/1.1\r\nHost: a\r\nHostname: \x01\x02\r\n".to_vec();
    bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
    bytes.extend(body);
    conn.send(bytes).unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!(yar::json_payload(&answer)["r"], 3);
}

#[test]
fn a_megabyte_crosses_both_ways() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let text = "é".repeat(500_000);
    for packager in ["msgpack", "json", "php"] {
        let value = php::yar_value(packager, &remora.url("/calc"), "echoArg", json!([text]));
        assert_eq!(value, text, "{packager}");
    }
    assert_eq!(remora.post("/calc/echoArg", &json!([text]).to_string()).json(), text);
}

#[test]
fn nesting_to_500_crosses() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let answer = remora.post("/calc/echoArg", &deep);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let back = answer.text();
    assert_eq!(back.matches('[').count(), 499, "the outermost is the list of parameters");
}

#[test]
fn an_answer_of_a_yar_provider_without_a_status_is_no_success() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.get("/calc/noStatus");
    assert_problem(&answer, "bad-answer", 502);
    let seen = php::yar("json", &remora.url("/calc"), "noStatus", json!([]), json!({}));
    assert_thrown(&seen, "BadAnswer", 10508);
}

#[test]
fn a_function_that_ended_by_exit_is_no_success() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let answer = remora.get("/calc/die");
    assert_problem(&answer, "bad-answer", 502);
    assert!(answer.text().contains("exit()"), "{}", answer.text());
    for packager in ["msgpack", "json"] {
        let seen = php::yar(packager, &remora.url("/calc"), "die", json!([]), json!({}));
        assert_thrown(&seen, "BadAnswer", 10508);
    }
}

#[test]
fn what_is_yar_is_told_by_its_bytes_not_by_its_content_type() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let body = yar::json_request("add", "[1,2]");
    for content in ["application/json", "text/plain", "application/x-www-form-urlencoded"] {
        let headers = [("Content-Type", content)];
        let answer = remora.call("POST", "/calc", &headers, &body);
        assert_eq!(yar::json_payload(&answer)["r"], 3, "{content}");
    }
    let lying = [("Content-Type", "application/octet-stream")];
    assert_eq!(remora.call("POST", "/calc/add", &lying, b"[1,2]").json(), 3);
}

#[test]
fn a_yar_message_sent_in_pieces_is_one_call() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let bytes = http::request("POST", "/calc", &yar::HEADERS, &yar::json_request("add", "[1,2]"));
    let mut conn = remora.conn();
    for piece in bytes.chunks(7) {
        conn.send(piece).unwrap();
    }
    assert_eq!(yar::json_payload(&conn.answer().unwrap())["r"], 3);
    let mut chunked = b"POST /calc HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in yar::json_request("add", "[1,2]").chunks(5) {
        chunked.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let mut conn = remora.conn();
    conn.send(chunked).unwrap();
    assert_eq!(yar::json_payload(&conn.answer().unwrap())["r"], 3);
}

#[test]
fn a_json_api_takes_a_yar_call_at_a_scripted_provider() {
    // As with a real one, but the request's bytes can be seen.
    let peer = Peer::http(|_| ok_json(&json!({"f": 3.0, "big": i64::MAX})));
    let entries = service("user", &[("any", "{ path: /any, encoding: json }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let answer = yar::send(&remora, "/user", &yar::json_request("any", r#"[{"f":3.0}]"#));
    let text = answer.text().replace(' ', "");
    assert!(text.contains(r#""f":3.0"#), "{text}");
    assert!(text.contains("9223372036854775807"), "{text}");
    let seen = eventually_some("the request", std::time::Duration::from_secs(1), || peer.requests().pop());
    assert_eq!(seen.text().replace(' ', ""), r#"{"f":3.0}"#);
}
