//! What the outside tests share: the program under test, and the real parts around it.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, missing_docs, reason = "shared by test crates only")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod ensemble;
pub mod http;
pub mod peer;
pub mod php;
pub mod remora;
pub mod tcp_proxy;
pub mod tls;
pub mod yar;
pub mod zookeeper;

use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test file uses its own part")]
pub use {
    http::{Answer, Conn},
    peer::{Peer, Request},
    remora::Remora,
};

/// Polls something outside this process until it holds; panics with `what` at the deadline.
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    eventually_some(what, within, || holds().then_some(()));
}

/// As `eventually`, for a condition that gives a value.
pub fn eventually_some<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A TCP port that no other test takes while this value lives.
///
/// Listeners with `SO_REUSEPORT` would share a port without an error, so a UDP socket on the
/// same number is the lock. The range lies below the ports which the kernel gives to clients.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: UdpSocket,
}

impl Port {
    pub fn free() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        const FIRST: u16 = 10_000;
        const SPAN: u16 = 20_000;
        let offset = (std::process::id().wrapping_mul(613) % u32::from(SPAN)) as u16;
        for _ in 0..SPAN {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (offset.wrapping_add(step)) % SPAN;
            let Ok(lock) = UdpSocket::bind(("127.0.0.1", number)) else {
                continue;
            };
            // Not by listening on it: a child that another thread starts just then would hold that
            // listener until it executes, and be taken for the program that is waited for.
            if TcpStream::connect(("127.0.0.1", number)).is_err() {
                return Port { number, _lock: lock };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + SPAN);
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

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
