//! Of which calls the log has a line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::peer::answer;
use support::remora::bounded;
use support::{Peer, Remora, service};

const GET: (&str, &str) = ("get", "{ path: /user/get, encoding: json }");
const CALLS: usize = 200;
/// Less than what may be written of one error in a second.
const ERRORS: usize = 3;

/// The lines on calls that went well and on those that did not.
fn lines(more: &str) -> (usize, usize) {
    let peer = Peer::echo();
    let mut remora = Remora::embedded(&service("user", &[GET], &[&peer.address])).with(more).start();
    (0..CALLS).for_each(|_| assert_eq!(remora.get("/user/get").status, 200));
    (0..ERRORS).for_each(|_| assert_eq!(remora.get("/user/none").status, 404));
    assert_eq!(remora.terminate(), 0);
    let log = remora.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_calls = || lines.iter().filter(|line| line["target"] == "call");
    let good = of_calls().filter(|line| line["outcome"] == "ok").count();
    (good, of_calls().count() - good)
}

#[test]
fn every_call_has_a_line_unless_the_configuration_says_otherwise() {
    assert_eq!(lines(""), (CALLS, ERRORS));
    assert_eq!(lines("access_log: all"), (CALLS, ERRORS));
}

#[test]
fn an_access_log_that_is_off_has_no_line() {
    assert_eq!(lines("access_log: off"), (0, 0));
}

#[test]
fn an_access_log_of_errors_leaves_out_what_went_well() {
    assert_eq!(lines("access_log: errors"), (0, ERRORS));
}

#[test]
fn an_answer_that_is_an_error_is_a_failed_call_also_where_it_passes_through() {
    let ill = Peer::http(|request| answer(if request.target.ends_with("503") { 503 } else { 404 }, &[], b""));
    let entries = service("user", &[("*", "{ path: / }")], &[&ill.address]);
    for (mode, all) in [("errors", 0), ("\"0%\"", 0), ("all", 1)] {
        let mut remora = Remora::embedded(&entries).with(&format!("access_log: {mode}")).start();
        assert_eq!([remora.get("/user/404").status, remora.get("/user/503").status], [404, 503]);
        assert_eq!(remora.terminate(), 0);
        let log = remora.log();
        let lines = |status| log.lines().filter(|line| line.contains(status)).count();
        assert_eq!([lines("\"status\":503"), lines("\"status\":404")], [1, all], "{mode}: {log}");
    }
}

#[test]
fn a_share_is_of_the_calls_that_went_well() {
    let (good, bad) = lines("access_log: \"50%\"");
    assert_eq!(bad, ERRORS);
    assert!((50..150).contains(&good), "{good} of {CALLS}");
}

#[test]
fn what_is_no_mode_is_refused_with_those_there_are() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for mode in ["some", "1", "101%", "[]"] {
        std::fs::write(file.path(), format!("access_log: {mode}")).unwrap();
        let checked = bounded().args(["check", "--config"]).arg(file.path()).output().unwrap();
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(checked.status.code(), Some(1), "{mode}: {text}");
        assert!(text.contains("access_log: "), "{mode}: {text}");
        assert!(
            mode == "[]" || text.contains("is none of off, errors, all, and no share such as 1%"),
            "{text}"
        );
    }
}
