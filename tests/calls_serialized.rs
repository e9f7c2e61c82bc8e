//! PHP's own packager, which builds without msgpack use by default: as a caller's and as a provider's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::peer::{answer, ok_json};
use support::php::{self, Php};
use support::{Peer, Remora, assert_problem, assert_thrown, service, yar};

const ANY: &str = "{ encoding: yar-php }";

/// Service `calc`: every function of the PHP provider, by Yar in PHP's own packager.
fn calc(provider: &Php) -> Remora {
    let apis = [
        ("*", ANY),
        ("add", "{ encoding: yar-php, params: [a, b] }"),
        ("echo", "{ encoding: yar-php, path: / }"),
    ];
    Remora::embedded(&service("calc", &apis, &[&provider.address])).start()
}

/// Service `calc` with the api `any` in this encoding, at `peer`.
fn any(encoding: &str, peer: &Peer) -> Remora {
    let data = format!("{{ encoding: {encoding}, path: /rpc }}");
    Remora::embedded(&service("calc", &[("any", &data)], &[&peer.address])).start()
}

/// A Yar provider in PHP's own packager that returns this as `r`.
fn returning(result: &'static str) -> Peer {
    Peer::http(move |request| answer(200, &[], &yar::php_answer(&request.body, result)))
}

fn values() -> Value {
    json!([
        i64::MIN,
        i64::MAX,
        -1,
        1.5,
        0.25,
        "",
        "grüße 你好 \"quoted\"; }",
        "nul \u{0} inside",
        true,
        null,
        [],
        [1, [2, [3, []]]],
        {"a": {"b": {"c": [null]}}, "5": "five", "08": "eight"},
        {"1": "one", "0": "zero"},
    ])
}

#[test]
fn callers_of_every_packager_reach_a_provider_in_php() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let url = remora.url("/calc");
    for packager in ["php", "msgpack", "json"] {
        assert_eq!(php::yar_value(packager, &url, "add", json!([1, 2])), 3, "{packager}");
        assert_eq!(php::yar_value(packager, &url, "echo", values()), values(), "{packager}");
        assert_eq!(php::yar_value(packager, &url, "echo", json!([])), json!([]), "{packager}");
        assert_eq!(php::yar_value(packager, &url, "nothing", json!([])), Value::Null, "{packager}");
        let seen = php::yar(packager, &url, "float", json!([]), json!({}));
        assert_eq!(seen["type"], "float", "{packager}: {seen}");
    }
}

#[test]
fn an_http_caller_reaches_a_provider_in_php() {
    let provider = Php::yar();
    let remora = calc(&provider);
    assert_eq!(remora.post("/calc/add", "[40, 2]").json(), 42);
    assert_eq!(remora.post("/calc/add", r#"{"b": 2, "a": 40}"#).json(), 42);
    assert_eq!(remora.post("/calc/echo", r#"{"x": 1, "y": {}}"#).json(), json!([{"x": 1, "y": []}]));
    assert_eq!(remora.get("/calc/echo?a=1&b=%E4%BD%A0+x").json(), json!([{"a": "1", "b": "你 x"}]));
    assert_eq!(remora.get("/calc/count").json(), 0);
    assert_eq!(remora.get("/calc/nothing").text().trim(), "null");
    let echoed = remora.post("/calc/echo", "[3.0, 1e2, 3, -0.0]");
    assert_eq!(echoed.text().trim().replace(' ', ""), "[3.0,100.0,3,-0.0]");
    assert_eq!(remora.post("/calc/echo", &values().to_string()).json(), values());
}

#[test]
fn a_caller_in_php_reaches_providers_in_json() {
    let provider = Php::json();
    let apis = [
        ("mirror", "{ path: /mirror, encoding: json }"),
        ("query", "{ path: /echo, encoding: json, method: GET, params: [id, name] }"),
    ];
    let remora = Remora::embedded(&service("user", &apis, &[&provider.address])).start();
    let url = remora.url("/user");
    let map = json!([{"a": [1, i64::MIN], "f": 1.5, "s": "你\u{0}", "7": "seven"}]);
    assert_eq!(php::yar_value("php", &url, "mirror", map.clone()), map[0]);
    let list = json!([1, "two", [3]]);
    assert_eq!(php::yar_value("php", &url, "mirror", list.clone()), list);
    let seen = php::yar_value("php", &url, "query", json!([7, "a b"]));
    assert_eq!(seen["query"].as_str().unwrap().replace("%20", "+"), "id=7&name=a+b");
}

#[test]
fn a_payload_from_php_to_php_is_untouched() {
    // An object, an enum, a reference and bytes that are no text: no other packager could hold them.
    const PARAMS: &str =
        r#"a:4:{i:0;O:5:"Point":1:{s:4:" * x";i:1;}i:1;E:6:"Suit:H";i:2;a:1:{i:0;i:5;}i:3;R:8;}"#;
    const RESULT: &str = r#"a:2:{i:0;O:8:"stdClass":0:{}i:1;r:5;}"#;
    let peer = returning(RESULT);
    let remora = any("yar-php", &peer);
    let sent = yar::php_request("any", PARAMS);
    let answer = yar::send(&remora, "/calc", &sent);
    assert_eq!(peer.last().body[90..], sent[90..]);
    assert!(yar::php_payload(&answer).ends_with(&format!("{RESULT}}}")), "{}", answer.text());
    assert_eq!(answer.body[..4], yar::ID.to_be_bytes());
}

#[test]
fn bytes_that_are_no_text_pass_between_php_and_msgpack() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let seen = php::yar("msgpack", &remora.url("/calc"), "binary", json!([]), json!({}));
    assert_eq!(seen["ok"], true, "{seen}");
    let problem = remora.get("/calc/binary");
    assert_problem(&problem, "unadaptable", 502);
    assert!(problem.text().contains(".user.photo"), "{}", problem.text());
    let seen = php::yar("json", &remora.url("/calc"), "binary", json!([]), json!({}));
    assert_thrown(&seen, "Unadaptable", 10422);
}

#[test]
fn a_provider_in_php_gets_a_request_as_it_needs_it() {
    let peer = returning("N;");
    let remora = any("yar-php", &peer);
    for message in
        [None, Some(yar::json_request("any", "[1]")), Some(yar::msgpack_request("any", &[0x91, 1]))]
    {
        match message {
            None => drop(remora.post("/calc/any", "[1]")),
            Some(message) => drop(yar::send(&remora, "/calc", &message)),
        }
        let request = peer.last();
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/rpc"));
        assert!(request.header("content-type").is_some());
        let body = &request.body;
        assert_eq!(&body[82..90], b"PHP\0\0\0\0\0");
        assert_eq!(body[78..82], (body.len() as u32 - 82).to_be_bytes());
        let id = u32::from_be_bytes(*body.first_chunk().unwrap());
        let payload = format!(r#"a:3:{{s:1:"i";i:{id};s:1:"m";s:3:"any";s:1:"p";a:1:{{i:0;i:1;}}}}"#);
        assert_eq!(String::from_utf8_lossy(&body[90..]), payload);
    }
}

#[test]
fn parameters_that_would_kill_a_php_worker_are_mended_or_refused() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let sum = |message: &[u8]| yar::php_payload(&yar::send(&remora, "/calc", message));
    for none in ["a:0:{}", "N;"] {
        assert!(sum(&yar::php_request("count", none)).ends_with(r#"s:1:"r";i:0;}"#), "{none}");
    }
    for (params, what) in [
        ("i:7;", "a number"),
        (r#"s:1:"x";"#, "a string"),
        (r#"O:8:"stdClass":1:{s:1:"a";i:1;}"#, "a PHP object"),
        ("O:8:\"stdClass\":0:{}", "a PHP object"),
    ] {
        let thrown = sum(&yar::php_request("count", params));
        assert!(thrown.contains(r"Remora\MalformedRequest"), "{thrown}");
        assert!(thrown.contains(&format!("`p` is {what}, not the list")), "{thrown}");
    }
}

#[test]
fn an_object_never_leaves_php_and_names_its_place() {
    let object = r#"a:1:{s:5:"point";O:5:"Point":1:{s:1:"x";i:1;}}"#;
    let (peer, json) = (returning(object), Peer::http(|_| ok_json(&json!(1))));
    let remora = any("yar-php", &peer);
    let told = "point: a PHP object of class Point cannot become";
    let problem = remora.get("/calc/any");
    assert_problem(&problem, "unadaptable", 502);
    assert!(problem.text().contains(told), "{}", problem.text());
    let thrown = yar::send(&remora, "/calc", &yar::msgpack_request("any", &[0x90]));
    assert!(thrown.text().contains(told), "{}", thrown.text());
    for encoding in ["json", "yar-msgpack", "yar-json"] {
        let remora = any(encoding, &json);
        let answer = yar::send(&remora, "/calc", &yar::php_request("any", &format!("a:1:{{i:0;{object}}}")));
        let thrown = yar::php_payload(&answer);
        assert!(thrown.contains(r"Remora\Unadaptable") && thrown.contains(told), "{encoding}: {thrown}");
    }
    assert!(json.requests().is_empty(), "a refused call went out");
}

#[test]
fn an_object_never_comes_to_php_from_another_packager() {
    let peer = returning("N;");
    let remora = any("yar-php", &peer);
    // [{nil: "Point", "x": 1}]
    let message = yar::msgpack_request("any", b"\x91\x82\xc0\xa5Point\xa1x\x01");
    let thrown = yar::send(&remora, "/calc", &message).text();
    assert!(thrown.contains("$.p[0]: a PHP object of class Point cannot become serialized PHP"), "{thrown}");
    assert!(peer.requests().is_empty(), "a refused call went out");
}

#[test]
fn an_exception_of_a_provider_in_php_reaches_everyone_with_its_parts() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let problem = remora.post("/calc/throw", r#"["no more", 77]"#);
    assert_problem(&problem, "provider-exception", 500);
    for part in ["BizException", "no more", "77"] {
        assert!(problem.text().contains(part), "no {part} in {}", problem.text());
    }
    for packager in ["php", "msgpack", "json"] {
        let seen = php::yar(packager, &remora.url("/calc"), "throw", json!(["no more", 77]), json!({}));
        assert_eq!(seen["exception"], "Yar_Server_Exception", "{packager}: {seen}");
        assert_eq!((&seen["message"], &seen["code"]), (&json!("no more"), &json!(77)), "{seen}");
        assert_eq!(seen["type"], "BizException", "{packager}: {seen}");
        assert_eq!(seen["packager"], packager.to_uppercase(), "{seen}");
        let seen = php::yar(packager, &remora.url("/calc"), "nope", json!([]), json!({}));
        assert!(seen["message"].as_str().unwrap().contains("nope"), "{packager}: {seen}");
    }
}

#[test]
fn what_a_function_printed_crosses_between_packagers() {
    let provider = Php::yar();
    let remora = calc(&provider);
    for packager in ["php", "msgpack", "json"] {
        let seen = php::yar(packager, &remora.url("/calc"), "text", json!([]), json!({}));
        assert_eq!((&seen["value"], &seen["output"]), (&json!("returned"), &json!("printed")), "{packager}");
    }
}

#[test]
fn an_answer_in_another_packager_than_asked_for_is_read() {
    // A server that can't read a request answers in its own default.
    for (asked, result) in [("yar-msgpack", r#"a:1:{s:1:"k";d:3;}"#), ("yar-json", r#"a:1:{s:1:"k";d:3;}"#)] {
        let peer = returning(result);
        let remora = any(asked, &peer);
        assert_eq!(remora.get("/calc/any").text().trim(), r#"{"k":3.0}"#, "{asked}");
    }
    let msgpack = Peer::http(|request| answer(200, &[], &yar::msgpack_answer(&request.body, &[0x91, 7])));
    let remora = any("yar-php", &msgpack);
    let answer = yar::send(&remora, "/calc", &yar::php_request("any", "a:0:{}"));
    assert!(yar::php_payload(&answer).ends_with(r#"s:1:"r";a:1:{i:0;i:7;}}"#), "{}", answer.text());
}

#[test]
fn a_broken_payload_in_php_is_a_refusal_in_php() {
    let peer = returning("N;");
    let remora = any("yar-php", &peer);
    for payload in [&b""[..], b"N;", b"a:1:{s:1:\"i\";i:1;}", b"a:9:{}", b"a:1:{s:1:\"m\";s:3:\"any", b"i:0;"]
    {
        let answer = yar::send(&remora, "/calc", &yar::message("PHP", payload));
        let thrown = yar::php_payload(&answer);
        assert!(thrown.contains(r"Remora\MalformedRequest"), "{}: {thrown}", payload.escape_ascii());
        assert_eq!(answer.body[..4], yar::ID.to_be_bytes());
    }
}

#[test]
fn a_broken_answer_in_php_is_a_bad_answer() {
    for result in ["i:99999999999999999999;", "a:3:{i:0;N;}", "s:9:\"short\";", "O:1:\"X\":1:{}"] {
        let peer = returning(result);
        let remora = any("yar-php", &peer);
        assert_problem(&remora.get("/calc/any"), "bad-answer", 502);
        let answer = yar::send(&remora, "/calc", &yar::php_request("any", "a:0:{}"));
        assert!(yar::php_payload(&answer).contains(r"Remora\BadAnswer"), "{result}: {}", answer.text());
    }
}

#[test]
fn what_a_provider_prints_behind_its_answer_in_php_is_left_out() {
    let peer = Peer::http(|request| {
        let mut message = yar::php_answer(&request.body, "i:7;");
        message.extend_from_slice(b"<br>Notice");
        answer(200, &[], &message)
    });
    let remora = any("yar-php", &peer);
    assert_eq!(remora.get("/calc/any").json(), 7);
    let answer = yar::send(&remora, "/calc", &yar::php_request("any", "a:0:{}"));
    assert!(yar::php_payload(&answer).ends_with(r#"s:1:"r";i:7;}"#), "{}", answer.text());
}

#[test]
fn headers_of_old_clients_in_php_are_tolerated() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let message = yar::php_request("add", "a:2:{i:0;i:1;i:1;i:2;}");
    let payload = &message[90..];
    // 2.3.3 leaves its own letters behind the NUL.
    for packager in [*b"PHP\0YAR_", *b"php\0\0\0\0\0"] {
        let message = yar::message_with(&packager, payload, payload.len() as u32);
        let answer = yar::send(&remora, "/calc", &message);
        assert!(answer.text().ends_with(r#"s:1:"r";i:3;}"#), "{}", answer.text());
    }
}

#[test]
fn a_megabyte_and_nesting_to_500_cross() {
    let provider = Php::yar();
    let remora = calc(&provider);
    let text = "é".repeat(500_000);
    for packager in ["php", "msgpack", "json"] {
        let value = php::yar_value(packager, &remora.url("/calc"), "echoArg", json!([text]));
        assert_eq!(value, text, "{packager}");
    }
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let back = remora.post("/calc/echoArg", &deep);
    assert_eq!(back.text().matches('[').count(), 499, "the outermost is the list of parameters");
}
