//! HTTP callers that send forms and queries, as PHP's curl and Guzzle do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::php::{self, Php};
use support::{Answer, Peer, Remora, assert_problem, service};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const ENCODINGS: [&str; 3] = ["yar-msgpack", "yar-json", "yar-php"];

/// Service `calc`: functions of the PHP provider, by Yar in this encoding.
fn calc(encoding: &str, address: &str) -> Remora {
    let any = format!("{{ encoding: {encoding} }}");
    let add = format!("{{ encoding: {encoding}, params: [a, b] }}");
    let apis = [("*", any.as_str()), ("add", &add), ("echoArg", &any), ("count", &any)];
    Remora::embedded(&service("calc", &apis, &[address])).start()
}

fn post(remora: &Remora, target: &str, form: &[u8]) -> Answer {
    remora.call("POST", target, &[FORM], form)
}

/// What PHP's curl gets for a form that `http_build_query` makes.
fn by_curl(remora: &Remora, target: &str, form: &Value) -> Value {
    let call = json!({"url": remora.url(target), "method": "POST", "form": form});
    let seen = php::run("curl_call.php", &call).remove(0);
    assert_eq!(seen["status"], 200, "{seen}");
    serde_json::from_str(seen["body"].as_str().unwrap()).unwrap()
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_form_gives_parameters_by_name() {
    let provider = Php::yar();
    for encoding in ENCODINGS {
        let remora = calc(encoding, &provider.address);
        assert_eq!(by_curl(&remora, "/calc/add", &json!({"b": 2, "a": 40})), 42, "{encoding}");
        assert_eq!(remora.get("/calc/add?b=2&a=40").json(), 42, "{encoding}");
        let problem = post(&remora, "/calc/add", b"a=1&c=2");
        assert_problem(&problem, "unadaptable", 422);
        assert!(detail(&problem).starts_with("$.c: no parameter of that name"), "{}", problem.text());
    }
}

#[test]
fn a_form_without_names_in_the_registry_is_one_map_as_php_reads_it() {
    let provider = Php::yar();
    let form = json!({
        "user": {"name": "你 & me", "tags": ["x", "y"], "deep": [{"k": "1"}, {"k": "2"}]},
        "7": "seven",
        "with": {"5": "five", "08": "eight"},
        "blank": "",
    });
    for encoding in ENCODINGS {
        let remora = calc(encoding, &provider.address);
        assert_eq!(by_curl(&remora, "/calc/echoArg", &form), form, "{encoding}");
        for (text, seen) in [
            ("a[]=1&a[k]=2&a[]=3", json!({"a": {"0": "1", "k": "2", "1": "3"}})),
            ("a=1&a=2&b[]=x&b[]=y", json!({"a": "2", "b": ["x", "y"]})),
            ("a%5Bk%5D%5B%5D=%E4%BD%A0+x", json!({"a": {"k": ["你 x"]}})),
        ] {
            assert_eq!(post(&remora, "/calc/echoArg", text.as_bytes()).json(), seen, "{encoding} {text}");
            assert_eq!(remora.get(&format!("/calc/echoArg?{text}")).json(), seen, "{encoding} {text}");
        }
        assert_eq!(post(&remora, "/calc/count", b"").json(), 0, "{encoding}");
    }
}

#[test]
fn a_form_is_known_by_its_type_however_it_is_written() {
    let provider = Php::yar();
    let remora = calc("yar-msgpack", &provider.address);
    for kind in ["Application/X-WWW-Form-Urlencoded", "application/x-www-form-urlencoded ; charset=UTF-8"] {
        let answer = remora.call("POST", "/calc/add", &[("Content-Type", kind)], b"a=1&b=2");
        assert_eq!(answer.json(), 3, "{kind}");
    }
    // `curl -d` announces everything as a form
    assert_eq!(post(&remora, "/calc/add", b"[1, 2]").json(), 3);
    assert_eq!(post(&remora, "/calc/add", b"\n{\"b\": 2, \"a\": 1}").json(), 3);
    let plain = remora.call("POST", "/calc/add", &[("Content-Type", "text/plain")], b"a=1&b=2");
    assert_problem(&plain, "malformed-request", 400);
}

#[test]
fn an_upload_to_a_yar_api_is_told_what_to_send() {
    let peer = Peer::echo();
    let remora = calc("yar-msgpack", &peer.address);
    // it is refused before it is read, and the refusal arrives all the same
    for size in [1, 4 << 20] {
        // an array as CURLOPT_POSTFIELDS
        let fields = json!({"a": "1", "b": "2".repeat(size)});
        let call = json!({"url": remora.url("/calc/add"), "method": "POST", "body": fields});
        let seen = php::run("curl_call.php", &call).remove(0);
        assert_eq!(seen["status"], 400, "{seen}");
        let body = seen["body"].as_str().unwrap();
        assert!(body.contains("urn:remora:malformed-request"), "{body}");
        assert!(body.contains("multipart/form-data") && body.contains("http_build_query"), "{body}");
    }
    assert_eq!(peer.calls(), 0);
}

#[test]
fn more_fields_or_brackets_than_php_takes_are_refused_not_left_out() {
    let provider = Php::yar();
    let remora = calc("yar-php", &provider.address);
    let many = |count| "a[]=1&".repeat(count).into_bytes();
    let deep = |count| format!("a{}=1", "[x]".repeat(count)).into_bytes();
    let most = post(&remora, "/calc/echoArg", &many(1000)).json();
    assert_eq!(most["a"].as_array().unwrap().len(), 1000);
    assert_eq!(post(&remora, "/calc/echoArg", &deep(64)).text().matches("\"x\"").count(), 64);
    for (form, reason) in
        [(many(1001), "byte 6000: more than 1000 fields"), (deep(65), "has more than 64 brackets")]
    {
        let problem = post(&remora, "/calc/echoArg", &form);
        assert_problem(&problem, "malformed-request", 400);
        assert!(detail(&problem).contains(reason), "{}", problem.text());
    }
}

#[test]
fn bytes_in_a_form_reach_php_and_are_refused_by_json_with_the_name_of_the_field() {
    let provider = Php::yar();
    for encoding in ["yar-msgpack", "yar-php"] {
        let any = format!("{{ encoding: {encoding}, policy: {{ bytes: base64 }} }}");
        let entries = service("calc", &[("echoArg", &any)], &[&provider.address]);
        let remora = Remora::embedded(&entries).start();
        let echoed = post(&remora, "/calc/echoArg", b"a[k]=%FF%fe");
        assert_eq!(echoed.json(), json!({"a": {"k": "//4="}}), "{encoding}");
    }
    let remora = calc("yar-json", &provider.address);
    let problem = post(&remora, "/calc/echoArg", b"a[k]=%FF%fe");
    assert_problem(&problem, "unadaptable", 422);
    assert_eq!(detail(&problem), "$.a.k: 2 bytes that are not UTF-8 cannot become JSON");
    let problem = post(&remora, "/calc/echoArg", b"a=1&k%FF=1");
    assert_problem(&problem, "malformed-request", 400);
    assert_eq!(detail(&problem), "byte 4: the name \"k\\xff\" is not UTF-8");
}

#[test]
fn a_form_to_a_json_provider_is_untouched() {
    const BODY: &[u8] = b"a[]=1&a%5Bk%5D=\xff&&=%zz";
    let peer = Peer::echo();
    let remora =
        Remora::embedded(&service("user", &[("x", "{ path: /x, encoding: json }")], &[&peer.address]))
            .start();
    for kind in ["application/x-www-form-urlencoded; charset=GBK", "multipart/form-data; boundary=x"] {
        assert_eq!(remora.call("POST", "/user/x?b[]=1", &[("Content-Type", kind)], BODY).status, 200);
        let seen = peer.last();
        assert_eq!((seen.body.as_slice(), seen.target.as_str()), (BODY, "/x?b[]=1"));
        assert_eq!(seen.header("content-type"), Some(kind));
    }
}
