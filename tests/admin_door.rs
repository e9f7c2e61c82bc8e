//! The port of operators and probes: whoever holds it keeps nobody else out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::http::request;
use support::{Conn, Remora};

/// More than the door has seats.
const MANY: usize = 70;

#[test]
fn probes_are_answered_while_many_ask_and_read_nothing() {
    let remora = Remora::embedded("").start();
    let ask = request("GET", "/metrics", &[("Host", remora.admin.as_str())], b"").repeat(50);
    let mut deaf: Vec<_> = (0..MANY).map(|_| Conn::open(&remora.admin)).collect();
    for conn in &mut deaf {
        conn.write_at_most(Duration::from_millis(200));
        // those that the door has closed meanwhile take nothing more
        let _ = conn.send(&ask);
    }
    for _ in 0..3 {
        assert_eq!(remora.admin("GET", "/livez").status, 200);
    }
}
