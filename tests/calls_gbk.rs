//! Providers whose strings are in GBK, and callers who need not know it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::peer::answer;
use support::php::{self, Php};
use support::{Answer, Peer, Remora, assert_problem, assert_thrown, service, yar};

/// 你 in GBK.
const NI: &str = "\\xc4\\xe3";

/// Service `calc`: every function of the provider, by Yar in this encoding, with this policy.
fn calc(encoding: &str, policy: &str, address: &str) -> Remora {
    let any = format!("{{ encoding: {encoding}, path: /, policy: {{ {policy} }} }}");
    Remora::embedded(&service("calc", &[("*", &any), ("echoArg", &any)], &[address])).start()
}

fn gbk(encoding: &str, address: &str) -> Remora {
    calc(encoding, "charset: gbk", address)
}

fn greeting() -> Value {
    json!({"姓名": "张三 €", "问候": ["你好，张三 €", 3.0], "hex": "d5c5c8fd2080"})
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[test]
fn an_http_caller_and_a_provider_in_gbk_understand_each_other() {
    let provider = Php::yar();
    for encoding in ["yar-msgpack", "yar-php"] {
        let remora = gbk(encoding, &provider.address);
        assert_eq!(remora.post("/calc/gbkGreet", r#"["张三 €"]"#).json(), greeting(), "{encoding}");
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let echoed = remora.call("POST", "/calc/echoArg", &form, "名[键]=张三+€".as_bytes());
        assert_eq!(echoed.json(), json!({"名": {"键": "张三 €"}}), "{encoding}");
        assert_eq!(remora.get("/calc/echoArg?%E5%90%8D=%E5%BC%A0").json(), json!({"名": "张"}), "{encoding}");
        let plain = json!(["plain", {"k": [1, -1, 3.5, true, null, "", "nul \u{0}"]}]);
        assert_eq!(remora.post("/calc/echo", &plain.to_string()).json(), plain, "{encoding}");
    }
}

#[test]
fn yar_callers_of_other_packagers_speak_utf_8() {
    let provider = Php::yar();
    for (encoding, packagers) in [("yar-msgpack", ["php", "json"]), ("yar-php", ["msgpack", "json"])] {
        let remora = gbk(encoding, &provider.address);
        let url = remora.url("/calc");
        for packager in packagers {
            assert_eq!(php::yar_value(packager, &url, "gbkGreet", json!(["张三 €"])), greeting());
            let seen = php::yar(packager, &url, "gbkText", json!([]), json!({}));
            assert_eq!((&seen["value"], &seen["output"]), (&json!("返回"), &json!("打印")), "{seen}");
        }
    }
}

#[test]
fn json_is_utf_8_whatever_the_charset() {
    let provider = Php::yar();
    let remora = gbk("yar-json", &provider.address);
    assert_eq!(remora.post("/calc/hex", r#"["张"]"#).json(), "e5bca0");
    assert_eq!(php::yar_value("msgpack", &remora.url("/calc"), "hex", json!(["张"])), "e5bca0");
    assert_eq!(php::yar_value("php", &remora.url("/calc"), "echoArg", json!(["张"])), "张");
}

#[test]
fn a_caller_in_the_providers_packager_speaks_its_charset_too() {
    let provider = Php::yar();
    for (encoding, packager) in [("yar-msgpack", "msgpack"), ("yar-php", "php")] {
        let remora = gbk(encoding, &provider.address);
        let charset = json!({"charset": "GBK"});
        let url = remora.url("/calc");
        let seen = php::yar(packager, &url, "gbkGreet", json!(["张三 €"]), charset.clone());
        assert_eq!(seen["value"], greeting(), "{seen}");
        let seen = php::yar(packager, &url, "gbkThrow", json!([]), charset);
        assert_eq!((&seen["message"], &seen["type"]), (&json!("库存不足"), &json!("缺货异常")), "{seen}");
    }
    let peer =
        Peer::http(|request| answer(200, &[], &yar::msgpack_answer(&request.body, b"\xa3\xff\xc4\xe3")));
    let remora = gbk("yar-msgpack", &peer.address);
    let sent = yar::msgpack_request("any", b"\x92\xa3\xc4\xe3\xff\xd4\x05\x09");
    let got = yar::send(&remora, "/calc", &sent);
    assert_eq!(peer.last().body[90..], sent[90..]);
    assert!(got.body.ends_with(b"\xa3\xff\xc4\xe3"), "{}", got.body.escape_ascii());
}

#[test]
fn an_exception_of_a_provider_in_gbk_is_readable() {
    let provider = Php::yar();
    for (encoding, packagers) in [("yar-msgpack", ["php", "json"]), ("yar-php", ["msgpack", "json"])] {
        let remora = gbk(encoding, &provider.address);
        let problem = remora.get("/calc/gbkThrow");
        assert_problem(&problem, "provider-exception", 500);
        assert_eq!(detail(&problem), "缺货异常: 库存不足");
        for packager in packagers {
            let seen = php::yar(packager, &remora.url("/calc"), "gbkThrow", json!([]), json!({}));
            assert_eq!((&seen["message"], &seen["type"]), (&json!("库存不足"), &json!("缺货异常")), "{seen}");
            assert_eq!(seen["code"], 77, "{seen}");
        }
    }
}

#[test]
fn what_gbk_does_not_have_is_refused_with_its_place_and_never_replaced() {
    let peer = Peer::echo();
    for encoding in ["yar-msgpack", "yar-php"] {
        let remora = gbk(encoding, &peer.address);
        for (body, place) in [
            (r#"["好", {"名字": ["x😀"]}]"#, "$[1].名字[0]"),
            (r#"[{"x😀": 1}]"#, "$[0]"),
            ("[\"😀\"]", "$[0]"),
        ] {
            let problem = remora.post("/calc/echo", body);
            assert_problem(&problem, "unadaptable", 422);
            assert_eq!(detail(&problem), format!("{place}: the character 😀 (U+1F600) cannot become GBK"));
        }
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        let problem = remora.call("POST", "/calc/echo", &form, b"a[k]=%c4%e3");
        assert_problem(&problem, "unadaptable", 422);
        assert_eq!(detail(&problem), "$.a.k: 2 bytes that are not UTF-8 cannot become GBK");
    }
    let remora = gbk("yar-php", &peer.address);
    // ["\xc4\xe3"]: GBK already, but not what this caller is taken to speak
    let thrown = yar::send(&remora, "/calc", &yar::msgpack_request("echo", b"\x91\xa2\xc4\xe3")).text();
    assert!(thrown.contains("$.p[0]: 2 bytes that are not UTF-8 cannot become GBK"), "{thrown}");
    assert_eq!(peer.calls(), 0, "a refused call went out");
}

#[test]
fn bytes_of_a_provider_that_are_not_gbk_are_refused_or_base64() {
    let provider = Php::yar();
    for (encoding, packager) in [("yar-msgpack", "php"), ("yar-php", "msgpack")] {
        let remora = gbk(encoding, &provider.address);
        let problem = remora.get("/calc/binary");
        assert_problem(&problem, "unadaptable", 502);
        let told = "user.photo: 12 bytes that are not GBK cannot become";
        assert_eq!(detail(&problem), format!("$.{told} JSON"));
        let seen = php::yar(packager, &remora.url("/calc"), "binary", json!([]), json!({}));
        assert_thrown(&seen, "Unadaptable", 10422);
        let said = seen["message"].as_str().unwrap();
        assert!(said.starts_with(&format!("$.r.{told} UTF-8 (call ")), "{seen}");
        let remora = calc(encoding, "charset: gbk, bytes: base64", &provider.address);
        let photo = remora.get("/calc/binary").json()["user"]["photo"].clone();
        assert_eq!(photo, "//4AIG5vdCB0ZXh0", "{encoding}");
    }
}

#[test]
fn an_answer_in_another_packager_than_asked_for_is_converted_all_the_same() {
    let peer = Peer::http(|request| answer(200, &[], &yar::msgpack_answer(&request.body, b"\xa2\xc4\xe3")));
    let remora = gbk("yar-php", &peer.address);
    assert_eq!(remora.get("/calc/any").json(), "你");
    let converted = yar::send(&remora, "/calc", &yar::msgpack_request("any", b"\x90"));
    assert!(converted.body.ends_with(b"\xa3\xe4\xbd\xa0"), "{}", converted.text());
    let untouched = yar::send(&remora, "/calc", &yar::php_request("any", "a:0:{}"));
    let shown = untouched.body.escape_ascii().to_string();
    assert!(shown.ends_with(&format!("s:2:\\\"{NI}\\\";}}")), "{shown}");
}
