//! Why a call went as it did is told: to operators by the id of a failure, to callers that may ask with the answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::peer::{answer, ok_json};
use support::{Peer, Remora, at, eventually, eventually_some, yar};

const SOON: Duration = Duration::from_secs(10);
/// SHA-256 of "sesame".
const SESAME: &str = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";

fn registry(service: &str, apis: &[(&str, &str)], providers: &[(&str, &str)]) -> String {
    let mut text = format!("/service/user: {{ {service} }}\n");
    apis.iter().for_each(|(api, data)| text += &format!("/api/user/{api}: {data}\n"));
    providers.iter().for_each(|(address, data)| text += &format!("/address/user/{address}: {data}\n"));
    text + &format!("/access/user/web: {{ keys: [ {{ sha256: {SESAME} }} ] }}\n")
}

fn story(remora: &Remora, id: &str) -> Value {
    remora.page(&format!("/explain/{id}"))
}

#[test]
fn a_failure_leads_to_its_story() {
    let refusing = Peer::refusing();
    let (off, drained) = ("10.0.0.7:80", "10.0.0.8:80");
    let providers =
        [(refusing.as_str(), "{}"), (off, "{ state: \"off\" }"), (drained, "{ state: drain, weight: 5 }")];
    let policy = "access: open, policy: { retries: 2, circuit: { consecutive: 1, open: 60s } }";
    let apis = [("get", "{ path: /get, policy: { timeout: 1500ms } }")];
    let remora =
        Remora::embedded(&registry(policy, &apis, &providers)).with("defaults: { warmup: 3s }").start();

    let failed = remora.get("/user/get");
    assert_eq!(failed.kind().as_deref(), Some("connect-failed"), "{}", failed.text());
    let id = failed.header("x-remora-call").unwrap().to_owned();
    assert_eq!(failed.json()["instance"], format!("urn:remora:call:{id}"));
    let told = story(&remora, &id);
    assert_eq!(
        (&told["service"], &told["api"], &told["status"]),
        (&json!("user"), &json!("get"), &json!(502))
    );
    assert_eq!(told["outcome"], "connect-failed");
    assert_eq!(told["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(at(&told, "/attempts/0/address"), refusing.as_str());
    assert!(at(&told, "/attempts/0/how").as_str().unwrap().contains("not reached"), "{told}");
    assert!(at(&told, "/attempts/0/took_ms").is_number());
    for (rule, value, from) in [
        ("timeout", json!("1500ms"), "the api's policy"),
        ("retries", json!(2), "the service's policy"),
        ("warmup", json!("3s"), "defaults of the configuration"),
        ("queue", json!("0ms"), "built in"),
    ] {
        assert_eq!(told["rules"][rule], json!({ "value": value, "from": from }), "{rule}");
    }
    let decided = told["decided"].to_string();
    assert!(decided.contains("no further provider was tried: every other one is passed over"), "{decided}");
    let passed_over = |address: &str| {
        let all = told["candidates"].as_array().unwrap();
        let one = all.iter().find(|candidate| candidate["address"] == address).unwrap();
        one["passed_over"].as_str().unwrap().to_owned()
    };
    assert!(passed_over(&refusing).contains("its circuit is open, as it failed again and again; the next"));
    assert_eq!(passed_over(off), "its state is off");
    assert_eq!(passed_over(drained), "its state is drain");

    let open = remora.get("/user/get");
    assert_eq!(open.kind().as_deref(), Some("circuit-open"));
    let listed = remora.page("/explain");
    let outcomes: Vec<_> = listed["calls"].as_array().unwrap().iter().map(|call| &call["outcome"]).collect();
    assert_eq!(outcomes, ["circuit-open", "connect-failed"]);
    eventually("the line in the log names it too", SOON, || {
        remora.log().contains(&format!("\"id\":\"{id}\""))
    });
    let text = remora.admin("GET", &format!("/explain/urn:remora:call:{id}")).text();
    assert!(text.contains("outcome: connect-failed"), "{text}");
}

#[test]
fn a_call_that_goes_to_nobody_is_told_with_the_rules_and_with_everybody_who_was_passed_over() {
    let providers = [("10.0.0.7:80", "{ state: \"off\" }")];
    let apis =
        [("get", "{ path: /get, policy: { zone: ignore } }"), ("off", "{ path: /off, state: \"off\" }")];
    let entries = registry("access: key", &apis, &providers)
        + &format!(
            "/access/user/few: {{ keys: [ {{ sha256: {SESAME} }} ], \
            quota: {{ rate: 1, per: 1h, burst: 1, scope: host }} }}\n"
        )
        + &format!("/access/user/none: {{ apis: [none], keys: [ {{ sha256: {SESAME} }} ] }}\n");
    let remora = Remora::embedded(&entries).start();
    let told = |path: &str, caller: &str, kind: &str| {
        let refused = remora.call("GET", path, &[("X-Caller", caller), ("X-Api-Key", "sesame")], b"");
        assert_eq!(refused.kind().as_deref(), Some(kind), "{}", refused.text());
        let told = story(&remora, refused.header("x-remora-call").unwrap());
        assert_eq!(told["candidates"].as_array().unwrap().len(), 1, "{kind}: {told}");
        told
    };
    let nobody = told("/user/get", "web", "no-provider");
    assert_eq!(at(&nobody, "/candidates/0/passed_over"), "its state is off");
    assert_eq!(nobody["rules"]["zone"], json!({ "value": "ignore", "from": "the api's policy" }));
    told("/user/off", "web", "api-off");
    told("/user/get", "none", "forbidden");
    told("/user/get", "few", "no-provider");
    let beyond = told("/user/get", "few", "quota-exceeded");
    let decided = beyond["decided"].to_string();
    assert!(decided.contains("of its quota, 1 per 3600s, 0 were left"), "{decided}");
    let metrics = remora.admin("GET", "/metrics").text();
    let counted = "remora_calls_total{api=\"get\",outcome=\"quota-exceeded\",service=\"user\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn of_many_like_failures_those_are_kept_that_the_log_tells() {
    let remora = Remora::embedded(&registry("access: open", &[("get", "{ path: /get }")], &[])).start();
    for _ in 0..200 {
        assert_eq!(remora.get("/user/get").kind().as_deref(), Some("no-provider"));
    }
    let listed = remora.page("/explain");
    let kept: Vec<_> = listed["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(!kept.is_empty());
    let log = eventually_some("as many lines", SOON, || {
        let log = remora.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told: Vec<_> = lines.filter_map(|line| Some(line["id"].as_str()?.to_owned())).collect();
        // of a thousand calls one is kept by chance, told or not
        let is_so = told.iter().all(|id| kept.contains(id)) && kept.len() <= told.len() + 6;
        (is_so && !told.is_empty()).then_some(log)
    });
    let first = &kept[0];
    assert_eq!(story(&remora, first)["outcome"], "no-provider", "{log}");
}

#[test]
fn a_retry_is_told_with_both_attempts() {
    let ill = Peer::http(|_| answer(503, &[], b"{}"));
    let providers = [(ill.address.as_str(), "{}")];
    let remora =
        Remora::embedded(&registry("access: open", &[("buy", "{ path: /buy }")], &providers)).start();
    // its 503 passes through: no failure of ours, and no story
    assert_eq!(remora.post("/user/buy", "{}").header("x-remora-call"), None);

    let cut = Peer::cutting("");
    remora.edit_registry(&registry("access: open", &[("buy", "{ path: /buy }")], &[(&cut.address, "{}")]));
    remora.until_status("/user/buy", 502, SOON);
    let failed = remora.post("/user/buy", "{}");
    let told = story(&remora, failed.header("x-remora-call").unwrap());
    let decided = told["decided"].to_string();
    assert!(decided.contains("may not run twice"), "{decided}");
}

#[test]
fn a_caller_that_may_ask_is_told_with_its_answer_and_nobody_else_is() {
    let peer = Peer::http(|request| ok_json(&request.echo()));
    let providers = [(peer.address.as_str(), "{}")];
    let entries = registry("access: key", &[("get", "{ path: /get }")], &providers)
        + &format!("/access/user/app: {{ keys: [ {{ sha256: {SESAME} }} ] }}\n")
        + "/service/free: {}\n/api/free/get: { path: /get }\n"
        + &format!("/address/free/{}: {{}}\n", peer.address);
    let remora = Remora::embedded(&entries).with("explain: { callers: [web] }").start();
    let ask = |path: &str, caller: &str, value: &str| {
        let headers = [("X-Caller", caller), ("X-Api-Key", "sesame"), ("X-Remora-Explain", value)];
        remora.call("GET", path, &headers, b"")
    };

    let told = ask("/user/get", "web", "1");
    assert_eq!(told.status, 200, "{}", told.text());
    let inline: Value = serde_json::from_str(told.header("x-remora-explain").unwrap()).unwrap();
    assert_eq!((&inline["outcome"], &inline["caller"]), (&json!("ok"), &json!("web")));
    assert_eq!(at(&inline, "/attempts/0/address"), peer.address.as_str());
    // it is kept, too
    let id = told.header("x-remora-call").unwrap().to_owned();
    support::eventually("the story is kept", std::time::Duration::from_secs(5), || {
        remora.admin("GET", &format!("/explain/{id}")).status == 200
    });
    // to the provider the question is nothing
    assert!(!peer.last().text().contains("explain") && peer.last().header("x-remora-explain").is_none());

    for (path, caller, value, why) in [
        ("/user/get", "app", "1", "app is not listed"),
        ("/user/get", "web", "0", "web does not ask"),
        ("/free/get", "web", "1", "anybody may say to be web where no key is checked"),
    ] {
        let answer = ask(path, caller, value);
        assert_eq!(answer.status, 200, "{why}: {}", answer.text());
        assert_eq!(answer.header("x-remora-explain"), None, "{why}");
    }
    for (path, status) in [("/explain/xyz", 404), ("/explain/0123456789abcdef", 404), ("/explain", 200)] {
        assert_eq!(remora.admin("GET", path).status, status, "{path}");
    }
}

#[test]
fn a_yar_caller_that_sees_no_header_finds_the_call_in_the_message() {
    let entries = registry("access: open", &[("get", "{ path: /get }")], &[]);
    let remora = Remora::embedded(&entries).start();
    let seen = yar::call_raw(remora.conn(), &yar::json_request("user.get", "[]"));
    yar::assert_refused(&seen, "NoProvider", 10504);
    let over_http = yar::json_payload(&yar::send(&remora, "/user", &yar::json_request("nope", "[]")));
    for (seen, outcome) in [(seen, "no-provider"), (over_http, "no-api")] {
        let page = format!("/explain/{}?format=json", yar::call_named(&seen).unwrap());
        let told = eventually_some("its story is kept", std::time::Duration::from_secs(5), || {
            Some(remora.admin("GET", &page)).filter(|answer| answer.status == 200)
        });
        assert_eq!(told.json()["outcome"], outcome);
    }
}
