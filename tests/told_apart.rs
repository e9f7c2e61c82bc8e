//! What goes wrong is told as what it is: by whom, where, and what helps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Answer, Peer, Remora, assert_problem, service, yar};
use yar::{assert_refused, call_raw, json_request};

const YAR_JSON: &str = "{ encoding: yar-json }";

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap_or_default().to_owned()
}

fn thrown(seen: &Value) -> &str {
    seen["e"]["message"].as_str().unwrap_or_default()
}

#[test]
fn a_path_behind_a_function_of_a_yar_provider_is_no_api() {
    let peer = Peer::echo();
    let entries = service("mp", &[("*", YAR_JSON)], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    for rest in ["uri/foo/bar", "uri/"] {
        let answer = remora.get(&format!("/mp/{rest}"));
        assert_problem(&answer, "no-api", 404);
        let said =
            format!("\"{rest}\" is more than the name of a function of a Yar provider; call /mp/uri alone");
        assert_eq!(detail(&answer), said);
    }
    assert_eq!(peer.calls(), 0);
}

#[test]
fn an_unreadable_node_of_all_apis_is_named() {
    let peer = Peer::echo();
    let entries = service("mp", &[("*", "{ encoding: foo }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let answer = remora.get("/mp/x");
    assert_problem(&answer, "no-api", 404);
    let said = detail(&answer);
    assert!(said.contains("its node /api/mp/* can't be read: ") && said.contains("\"foo\""), "{said}");
}

#[test]
fn a_raw_method_that_names_no_api_is_told_how_it_is_called() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("mp", &[("*", YAR_JSON)], &[&peer.address])).start();
    let seen = call_raw(remora.conn(), &json_request("mp.", "[]"));
    assert_refused(&seen, "NoApi", 10405);
    assert!(thrown(&seen).contains("over raw Yar call mp.{api}"), "{seen}");
}
