//! What the outside tests share: the program under test, and the real parts around it.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, missing_docs, reason = "shared by test crates only")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod collector;
pub mod distant;
pub mod ensemble;
pub mod fpm;
pub mod http;
pub mod nodes;
pub mod outside;
pub mod peer;
pub mod php;
pub mod remora;
pub mod tcp_proxy;
pub mod tls;
pub mod yar;
pub mod zookeeper;

#[allow(unused_imports, reason = "each test file uses its own part")]
pub use {
    http::{Answer, Conn},
    outside::{Port, eventually, eventually_some},
    peer::{Peer, Request},
    remora::Remora,
};

/// The middle of a JSON value, by pointer, or a message that shows the whole.
pub fn at<'v>(value: &'v serde_json::Value, pointer: &str) -> &'v serde_json::Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// Entries of an open service in layout `flat`: `apis` are `(name, data)`, data as YAML.
pub fn service(name: &str, apis: &[(&str, &str)], providers: &[&str]) -> String {
    service_with(name, "access: open", apis, providers)
}

/// As `service`, with the service's own data as the inside of a YAML map.
pub fn service_with(name: &str, data: &str, apis: &[(&str, &str)], providers: &[&str]) -> String {
    let mut entries = format!("/service/{name}: {{ {data} }}\n");
    for (api, data) in apis {
        entries += &format!("\"/api/{name}/{api}\": {data}\n");
    }
    let list: Vec<_> = providers
        .iter()
        .map(|p| match p.starts_with('{') {
            true => (*p).to_owned(),
            false => format!("{{ address: \"{p}\" }}"),
        })
        .collect();
    entries += &format!("/address/{name}: {{ addresses: [ {} ] }}\n", list.join(", "));
    entries
}

/// An answer that remora made itself, in the form the contract gives it.
pub fn assert_problem(answer: &Answer, kind: &str, status: u16) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.kind().as_deref(), Some(kind), "{text}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{text}");
    assert!(problem["title"].as_str().is_some_and(|t| !t.is_empty()), "{text}");
    assert!(problem["detail"].as_str().is_some_and(|t| !t.is_empty()), "{text}");
    let proxy = answer.header("proxy-status").unwrap_or_default();
    assert!(proxy.starts_with("remora; error="), "Proxy-Status: {proxy}");
}

/// What a Yar caller must see of the same: an exception that names the kind.
pub fn assert_thrown(seen: &serde_json::Value, kind: &str, code: i64) {
    assert_eq!(seen["exception"], "Yar_Server_Exception", "{seen}");
    assert_eq!(seen["type"], format!("Remora\\{kind}"), "{seen}");
    assert_eq!(seen["code"], code, "{seen}");
    assert!(seen["message"].as_str().is_some_and(|m| !m.is_empty()), "{seen}");
    assert_eq!(seen["status"], 64, "{seen}");
    assert_eq!(seen["sound"], true, "{seen}");
    assert_eq!(seen["header_id_matches"], true, "{seen}");
    assert_eq!(seen["error"]["file"], "", "{seen}");
    assert_eq!(seen["error"]["line"], 0, "{seen}");
}
