//! Providers under php-fpm: its status page sets their share of the calls, and how many go there at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::fpm::{Fpm, PROCESSES};
use support::http::request;
use support::peer::ok_json;
use support::{Answer, Conn, Peer, Remora, at, eventually, service_with};

const APIS: [(&str, &str); 2] =
    [("x", "{ path: /x, encoding: json }"), ("hold", "{ path: /hold, encoding: json }")];
const SOON: Duration = Duration::from_secs(30);

/// A provider that is never busy, by its own status page.
fn idle() -> Peer {
    let page = ok_json(&json!({ "listen queue": 0, "total processes": 1 }));
    let answer = ok_json(&json!({ "peer": "idle" }));
    Peer::http(move |request| if request.target == "/status?json" { page.clone() } else { answer.clone() })
}

/// A sidecar that calls php-fpm and another provider in turn.
fn sidecar(fpm: &Fpm, idle: &Peer) -> Remora {
    let health = "health: { fpm: /status, interval: 200ms, timeout: 10s }";
    let data = format!("access: open, policy: {{ balance: round_robin, timeout: 30s, {health} }}");
    Remora::embedded(&service_with("user", &data, &APIS, &[&fpm.address, &idle.address])).start()
}

/// What `/services/user` shows of php-fpm.
fn shown(remora: &Remora) -> Value {
    at(&remora.page("/services/user"), "/providers/0").clone()
}

/// How many of so many calls php-fpm answered; none failed.
fn by_fpm(conn: &mut Conn, calls: usize) -> usize {
    let answers = (0..calls).map(|_| conn.request("GET", "/user/x", &[], b"").unwrap());
    answers.filter(is_by_fpm).count()
}

fn is_by_fpm(answer: &Answer) -> bool {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["pid"].is_number()
}

#[test]
fn where_calls_wait_at_php_fpm_it_gets_fewer_and_no_more_at_once_than_it_has_processes() {
    let (fpm, idle) = (Fpm::on_tcp(), idle());
    let remora = sidecar(&fpm, &idle);
    assert_eq!(by_fpm(&mut remora.conn(), 10), 5);
    assert_eq!((&shown(&remora)["share"], &shown(&remora)["queues"]), (&"50.0%".into(), &Value::Null));

    let gate = fpm.shut_gate();
    let mut others = fpm.held_by_others(PROCESSES + 3);
    eventually("its queue is seen", SOON, || shown(&remora)["queues"] == true);
    assert_eq!(
        (&shown(&remora)["share"], &shown(&remora)["processes"]),
        (&"33.3%".into(), &PROCESSES.into())
    );
    let asked = || idle.requests().iter().filter(|request| request.target == "/hold").count();
    let mut held: Vec<_> = (0..12).map(|_| remora.conn()).collect();
    held.iter_mut().for_each(|conn| conn.send(request("GET", "/user/hold", &[], b"")).unwrap());
    eventually("the rest went elsewhere", SOON, || asked() == 12 - PROCESSES);
    assert_eq!(shown(&remora)["in_flight"], PROCESSES);

    drop(gate);
    others.iter_mut().for_each(|conn| assert_eq!(conn.answer().unwrap().status, 200));
    let answers = held.iter_mut().map(|conn| conn.answer().unwrap());
    assert_eq!(answers.filter(is_by_fpm).count(), PROCESSES);
    eventually("its queue is gone", SOON, || shown(&remora)["queues"].is_null());
    assert_eq!((&shown(&remora)["share"], &shown(&remora)["processes"]), (&"50.0%".into(), &Value::Null));
    assert_eq!(by_fpm(&mut remora.conn(), 10), 5);
}

#[test]
fn php_fpm_that_dies_behind_its_web_server_is_left_alone_and_comes_back() {
    let (mut fpm, idle) = (Fpm::on_tcp(), idle());
    let remora = sidecar(&fpm, &idle);
    let mut conn = remora.conn();
    assert_eq!(by_fpm(&mut conn, 10), 5);
    fpm.kill();
    assert_eq!(by_fpm(&mut conn, 30), 0);
    assert_eq!(at(&shown(&remora), "/circuit/state"), "open");
    let failures = format!(
        "remora_provider_failures_total{{provider=\"{}\",reason=\"5xx\",service=\"user\"}}",
        fpm.address
    );
    let page = remora.admin("GET", "/metrics").text();
    assert!(page.contains(&failures), "{failures} is missing in\n{page}");
    fpm.come_back();
    eventually("it is called again", SOON, || by_fpm(&mut conn, 1) == 1);
    assert_eq!(by_fpm(&mut conn, 10), 5);
}

#[test]
fn where_php_fpm_sees_no_queue_it_is_busy_when_no_process_of_a_static_pool_is_idle() {
    let (fpm, idle) = (Fpm::on_unix(), idle());
    let remora = sidecar(&fpm, &idle);
    assert_eq!(by_fpm(&mut remora.conn(), 10), 5);
    let gate = fpm.shut_gate();
    let mut others = fpm.held_by_others(PROCESSES);
    eventually("it is seen to be busy", SOON, || shown(&remora)["queues"] == true);
    assert_eq!(
        (&shown(&remora)["share"], &shown(&remora)["processes"]),
        (&"33.3%".into(), &PROCESSES.into())
    );
    drop(gate);
    others.iter_mut().for_each(|conn| assert_eq!(conn.answer().unwrap().status, 200));
    eventually("it is seen to be idle", SOON, || shown(&remora)["queues"].is_null());
    assert_eq!(by_fpm(&mut remora.conn(), 10), 5);
}
