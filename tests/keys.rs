//! Who calls: keys that come and go, keys that are none, and users that the kernel vouches for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::Value;
use support::http::request;
use support::{Answer, Conn, Peer, Remora, assert_problem, at, eventually, service_with};

const JSON: &str = "{ path: /x, encoding: json }";
/// Bad keys until what is kept for a while, as stories of calls, is full.
const WARM: usize = 4_000;
const SOON: Duration = Duration::from_secs(10);
/// SHA-256 of `sesame`, and of `open`.
const SESAME: &str = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";
const OPEN: &str = "2348f998744212575d85959674f9607ab26f67708a917157472832386337c904";

fn guarded(keys: &[&str], peer: &Peer) -> String {
    let keys: Vec<_> = keys.iter().map(|key| format!("{{ sha256: \"{key}\" }}")).collect();
    service_with("user", "access: key", &[("x", JSON)], &[&peer.address])
        + &format!("/access/user/web: {{ keys: [ {} ] }}\n", keys.join(", "))
}

fn call(remora: &Remora, key: &str) -> Answer {
    remora.call("GET", "/user/x", &[("X-Caller", "web"), ("X-Api-Key", key)], b"")
}

fn keys(remora: &Remora) -> Value {
    at(&remora.page("/services/user"), "/callers/web/0/keys").clone()
}

#[test]
fn a_key_is_replaced_without_a_gap_and_its_last_use_tells_when_the_old_one_may_go() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&guarded(&[SESAME], &peer)).start();
    assert_eq!(call(&remora, "sesame").status, 200);
    let shown = keys(&remora);
    assert_eq!(at(&shown, "/0/fingerprint"), &SESAME[..8]);
    assert!(at(&shown, "/0/last_used_s").as_u64().is_some_and(|ago| ago < 10), "{shown}");
    assert!(!shown.to_string().contains(&SESAME[..16]), "{shown}");

    remora.edit_registry(&guarded(&[SESAME, OPEN], &peer));
    eventually("both keys are known", SOON, || keys(&remora).as_array().unwrap().len() == 2);
    let shown = keys(&remora);
    assert!(at(&shown, "/0/last_used_s").is_u64(), "the use of a key survives updates: {shown}");
    assert_eq!(at(&shown, "/1/last_used_s"), &Value::Null);
    for key in ["sesame", "open", "sesame"] {
        assert_eq!(call(&remora, key).status, 200, "{key}");
    }
    assert!(at(&keys(&remora), "/1/last_used_s").is_u64());

    remora.edit_registry(&guarded(&[OPEN], &peer));
    eventually("the old key opens nothing", SOON, || call(&remora, "sesame").status == 401);
    assert_eq!(call(&remora, "open").status, 200);
}

#[test]
fn a_key_of_ten_kilobytes_is_refused_as_any_other() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&guarded(&[SESAME], &peer)).start();
    let refused = call(&remora, &"k".repeat(10 << 10));
    assert_problem(&refused, "unknown-key", 401);
    assert!(refused.header("www-authenticate").is_some());
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with("this one has 10240 bytes, more than the 4096 that any has"), "{detail}");
    assert_eq!(call(&remora, "sesame").status, 200);
}

#[test]
fn bad_keys_without_end_cost_no_memory() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&guarded(&[SESAME], &peer)).start();
    let mut conn = remora.conn();
    bad_keys(&mut conn, 0..WARM);
    let before = remora.peak_memory();
    let many = std::env::var("BAD_KEYS").map_or(12_000, |many| many.parse().unwrap());
    bad_keys(&mut conn, WARM..WARM + many);
    let after = remora.peak_memory();
    eprintln!("{many} bad keys: {} KiB before, {} KiB after", before >> 10, after >> 10);
    assert!(after - before < 2 << 20, "{} bytes for {many} bad keys", after - before);
    let page = remora.page("/services/user");
    assert_eq!(at(&page, "/callers").as_object().unwrap().len(), 1);
}

/// Calls with so many distinct callers and keys, some of them on the wire at once.
fn bad_keys(conn: &mut Conn, numbers: std::ops::Range<usize>) {
    const AT_ONCE: usize = 32;
    for first in numbers.clone().step_by(AT_ONCE) {
        let batch = first..numbers.end.min(first + AT_ONCE);
        let request = |n| {
            let (caller, key) = (format!("caller-{n}"), format!("key-{n}"));
            request("GET", "/user/x", &[("X-Caller", &caller), ("X-Api-Key", &key)], b"")
        };
        conn.send(batch.clone().flat_map(request).collect::<Vec<_>>()).unwrap();
        batch.for_each(|_| assert_eq!(conn.answer().unwrap().status, 401));
    }
}

/// A sidecar whose further listener on a unix socket knows this user as `shop`.
fn vouching(entries: &str) -> (Remora, std::path::PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("shop.sock");
    let uid = std::fs::metadata(dir.path()).unwrap().uid();
    let listen = format!(
        "[{{\"address\":\"unix:{}\",\"callers\":{{\"{uid}\":\"shop\"}}}},\"127.0.0.1:0\"]",
        socket.display()
    );
    let setup = Remora::embedded(entries).env("REMORA_LISTEN", &listen);
    (setup.start(), socket, dir)
}

#[test]
fn a_user_on_a_unix_socket_is_who_the_listener_says_and_needs_no_key() {
    let peer = Peer::echo();
    let entries =
        guarded(&[SESAME], &peer) + &format!("/access/user/shop: {{ keys: [ {{ sha256: {OPEN} }} ] }}\n");
    let (remora, socket, _dir) = vouching(&entries);
    let ask =
        |headers: &[(&str, &str)]| Conn::open_unix(&socket).request("GET", "/user/x", headers, b"").unwrap();
    assert_eq!(ask(&[]).status, 200);
    // who names itself proves it by a key, also there
    assert_problem(&ask(&[("X-Caller", "web")]), "unknown-key", 401);
    assert_problem(&ask(&[("X-Caller", "shop")]), "unknown-key", 401);
    assert_eq!(ask(&[("X-Caller", "web"), ("X-Api-Key", "sesame")]).status, 200);
    assert_eq!(peer.calls(), 2);
    let raw = support::yar::json_request("user.x", "[]");
    let answer = support::yar::call_raw(Conn::open_unix(&socket), &raw);
    assert_eq!(answer["s"], 0, "{answer}");
    assert_eq!(peer.last().header("x-caller"), Some("shop"), "a converted call carries the name over");
    drop(remora);
}

#[test]
fn a_user_without_an_entry_in_the_service_is_refused() {
    let peer = Peer::echo();
    let (_remora, socket, _dir) = vouching(&guarded(&[SESAME], &peer));
    let refused = Conn::open_unix(&socket).request("GET", "/user/x", &[], b"").unwrap();
    assert_problem(&refused, "unknown-key", 401);
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("caller \"shop\""), "{detail}");
    assert_eq!(peer.calls(), 0);
}
