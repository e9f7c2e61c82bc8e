//! How often a caller may call, and what it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::php;
use support::{Answer, Peer, Remora, assert_problem, assert_thrown, at, eventually, service, service_with};

const JSON: &str = "{ path: /x, encoding: json }";
const SOON: Duration = Duration::from_secs(10);
/// SHA-256 of `sesame`.
const KEY: &str = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";

/// An open service whose caller `web` has this quota.
fn limited(quota: &str, peer: &Peer) -> String {
    service("user", &[("x", JSON), ("y", JSON)], &[&peer.address])
        + &format!("/access/user/web: {{ quota: {quota} }}\n")
}

fn call(remora: &Remora, target: &str, caller: &str) -> Answer {
    remora.call("GET", target, &[("X-Caller", caller)], b"")
}

/// `left` and the seconds to wait of a `RateLimit` header.
fn rate_limit(answer: &Answer) -> (u32, u64) {
    let header = answer.header("ratelimit").unwrap_or_else(|| panic!("no RateLimit: {:?}", answer.headers));
    let fields = header.strip_prefix("\"quota\";r=").and_then(|rest| rest.split_once(";t="));
    let (left, reset) = fields.unwrap_or_else(|| panic!("RateLimit: {header}"));
    (left.parse().unwrap(), reset.parse().unwrap())
}

#[test]
fn beyond_its_quota_a_caller_is_refused_and_told_when_to_come_back() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&limited("{ rate: 2, per: 60s, scope: host }", &peer)).start();
    for left in [1, 0] {
        let answer = call(&remora, "/user/x", "web");
        assert_eq!((answer.status, rate_limit(&answer).0), (200, left));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"quota\";q=2;w=60"));
    }
    // one api as the other: the quota is of the caller and the service
    let refused = call(&remora, "/user/y", "web");
    assert_problem(&refused, "quota-exceeded", 429);
    let wait: u64 = refused.header("retry-after").expect("no Retry-After").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(rate_limit(&refused), (0, wait));
    let detail = at(&refused.json(), "/detail").as_str().unwrap().to_owned();
    assert!(detail.starts_with("caller \"web\" calls service \"user\" more often than its quota, 2 per 60s"));
    assert_eq!(peer.calls(), 2);
    let url = remora.url("/user");
    let thrown = php::yar("json", &url, "x", json!([]), json!({"provider": "web", "token": ""}));
    assert_thrown(&thrown, "QuotaExceeded", 10429);
}

#[test]
fn a_caller_without_a_quota_is_not_limited_and_told_nothing() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&limited("{ rate: 1, per: 60s }", &peer)).start();
    assert_eq!(call(&remora, "/user/x", "web").status, 200);
    assert_eq!(call(&remora, "/user/x", "web").status, 429, "the host is the whole fleet of a file");
    for caller in ["shop", "shop", "WEB"] {
        let answer = call(&remora, "/user/x", caller);
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None), "{caller}");
    }
    assert_eq!(remora.get("/user/x").status, 200);
}

#[test]
fn in_shadow_mode_calls_pass_and_are_counted() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&limited("{ rate: 1, per: 60s, mode: shadow }", &peer)).start();
    for _ in 0..3 {
        let answer = call(&remora, "/user/x", "web");
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
    }
    let metrics = remora.admin("GET", "/metrics").text();
    let sample = "remora_quota_exceeded_total{caller=\"web\",mode=\"shadow\",service=\"user\"} 2";
    assert!(metrics.lines().any(|line| line == sample), "{metrics}");
}

#[test]
fn a_quota_comes_after_forbidden_and_before_no_provider() {
    let entries = service_with("user", "access: key", &[("x", JSON), ("y", JSON)], &[])
        + &format!(
            "/access/user/web: {{ keys: [ {{ sha256: {KEY} }} ], apis: [x], quota: {{ rate: 1, per: 60s }} }}\n"
        );
    let remora = Remora::embedded(&entries).start();
    let call = |target| remora.call("GET", target, &[("X-Caller", "web"), ("X-Api-Key", "sesame")], b"");
    assert_problem(&call("/user/y"), "forbidden", 403);
    assert_problem(&call("/user/x"), "no-provider", 503);
    assert_problem(&call("/user/x"), "quota-exceeded", 429);
    assert_problem(&call("/user/y"), "forbidden", 403);
    assert_problem(&call("/user/z"), "no-api", 404);
}

#[test]
fn an_update_keeps_what_is_used_and_a_new_quota_holds_on_the_next_call() {
    let peer = Peer::echo();
    let quota = "{ rate: 1, per: 60s }";
    let remora = Remora::embedded(&limited(quota, &peer)).start();
    assert_eq!(call(&remora, "/user/x", "web").status, 200);
    let version = |remora: &Remora| at(&remora.page("/services/user"), "/owner").clone();
    remora.edit_registry(&limited(quota, &peer).replace("access: open", "access: open, owner: us"));
    eventually("the update is in force", SOON, || version(&remora) == json!("us"));
    assert_eq!(call(&remora, "/user/x", "web").status, 429, "the same quota, and it is used up");
    remora.edit_registry(&limited("{ rate: 1000, per: 60s }", &peer));
    eventually("the raised quota is in force", SOON, || call(&remora, "/user/x", "web").status == 200);
}

#[test]
fn a_bad_quota_leaves_the_last_good_one_in_force_and_is_shown() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&limited("{ rate: 1, per: 60s }", &peer)).start();
    assert_eq!(call(&remora, "/user/x", "web").status, 200);
    remora.edit_registry(&limited("{ rate: -5 }", &peer));
    let reason = || at(&remora.page("/services/user"), "/skipped").clone();
    eventually("it is shown", SOON, || reason() != json!([]));
    let shown = reason();
    assert_eq!(at(&shown, "/0/path"), "/access/user/web");
    let wanted =
        "quota.rate: -5 is not a whole number from 1 to 1000000000; the last good quota stays in force";
    assert_eq!(at(&shown, "/0/reason"), wanted);
    assert_eq!(call(&remora, "/user/x", "web").status, 429);
}

#[test]
fn where_only_a_bad_quota_was_ever_read_the_caller_is_refused() {
    let peer = Peer::echo();
    for quota in [
        "{ rate: 0 }",
        "7",
        "{ rate: \"NaN\" }",
        "{ rate: 5, scope: galaxy }",
        "{ per: 1s }",
        "{ rate: 5, pers: 1s }",
    ] {
        let remora = Remora::embedded(&limited(quota, &peer)).start();
        let refused = call(&remora, "/user/x", "web");
        assert_problem(&refused, "quota-exceeded", 429);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("can't be read"), "{quota}: {detail}");
        assert_eq!(call(&remora, "/user/x", "shop").status, 200, "{quota}");
        let shown = at(&remora.page("/services/user"), "/skipped/0/reason").to_string();
        assert!(
            shown.contains("nothing of this caller is admitted") && !shown.contains("last good"),
            "{shown}"
        );
    }
    assert_eq!(peer.calls(), 6);
}

#[test]
fn in_tree_a_quota_is_of_one_api() {
    let peer = Peer::echo();
    let mut entries = String::from("/services/user: {}\n");
    for api in ["x", "y"] {
        entries += &format!(
            "/services/user/{api}: {{ path: /{api} }}\n\
             /services/user/{api}/providers/{}: {{}}\n\
             /services/user/{api}/access/web: {{ quota: {{ rate: 1, per: 60s }} }}\n",
            peer.address
        );
    }
    let remora = Remora::embedded(&entries).layout("tree", "/").start();
    let statuses = |api: &str| [1, 2].map(|_| call(&remora, &format!("/user/{api}"), "web").status);
    assert_eq!((statuses("x"), statuses("y")), ([200, 429], [200, 429]));
}

#[test]
fn a_converted_answer_tells_the_quota_too_and_a_provider_that_has_its_own_is_left_alone() {
    let own = Peer::http(|_| support::peer::answer(200, &[("RateLimit", "\"theirs\";r=9;t=1")], b"{}"));
    let remora = Remora::embedded(&limited("{ rate: 5 }", &own)).start();
    let answer = call(&remora, "/user/x", "web");
    assert_eq!(answer.header("ratelimit"), Some("\"theirs\";r=9;t=1"));
    let page: Value = remora.page("/services/user");
    assert_eq!(at(&page, "/callers/web/0/quota/rate"), 5);
}

#[test]
fn put_refuses_a_quota_that_can_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let put = |quota: &str| {
        let data = format!("{{\"quota\":{quota}}}");
        let args = ["registry", "put", "access", "user/web", &data];
        let file = format!("{{ file: {}/registry.yaml }}", dir.path().display());
        support::remora::bounded().args(args).env("REMORA_REGISTRY__EMBEDDED", file).output().unwrap()
    };
    assert_eq!(put("{\"rate\":100,\"per\":\"1s\"}").status.code(), Some(0));
    let refused = put("{\"rate\":0}");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("quota.rate: 0 is not a whole number from 1 to"), "{told}");
}
