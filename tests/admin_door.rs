//! The port of operators and probes: whoever holds it keeps nobody else out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::http::request;
use support::{Conn, Remora};

/// More than the door has seats.
const MANY: usize = 70;

#[test]
fn connections_that_the_limit_of_open_files_does_not_allow_are_told() {
    let remora = Remora::embedded("").with("connections: 1048576").start();
    let config = remora.page("/config");
    let seats = config["connections"].as_u64().unwrap();
    let told = config["notes"].to_string();
    assert!(seats < 1_048_576, "{config}");
    for part in [&format!("connections: {seats} instead of 1048576"), "ulimit -n", "LimitNOFILE", "2097216"] {
        assert!(told.contains(part) && remora.log().contains(part), "{part} is missing in {told}");
    }
}

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
