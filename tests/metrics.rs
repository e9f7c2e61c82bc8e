//! What Prometheus is told: enough to page somebody before the callers do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use remora::directory::Directory;
use remora::model::{Layout, Policy};
use remora::names::ServiceName;
use remora::registry::Node;
use remora::telemetry::Telemetry;
use serde_json::Value;
use support::zookeeper::ZooKeeper;
use support::{Peer, Remora, collector, eventually, peer, service};

const GET: (&str, &str) = ("get", "{ path: /user/get, encoding: json }");

fn samples(remora: &Remora) -> String {
    remora.admin("GET", "/metrics").text()
}

/// Whether a sample stands there, with these labels and no others.
fn shows(remora: &Remora, sample: &str) -> bool {
    samples(remora).lines().any(|line| line == sample)
}

#[test]
fn every_way_in_which_a_provider_fails_is_counted_by_provider() {
    let ill = Peer::http(|_| peer::answer(500, &[], b"{}"));
    let cutting = Peer::cutting("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}");
    let dead = Peer::refusing();
    let entries = [("ill", &ill.address), ("cutting", &cutting.address), ("dead", &dead)];
    let entries: Vec<_> = entries.iter().map(|(name, at)| service(name, &[GET], &[at])).collect();
    let remora = Remora::embedded(&entries.concat()).start();
    for _ in 0..3 {
        assert_eq!(remora.get("/ill/get").status, 500, "it passes through");
    }
    assert_eq!(remora.get("/dead/get").status, 502);
    let mut conn = remora.conn();
    conn.send(support::http::request("GET", "/cutting/get", &[], b"")).unwrap();
    let answer = conn.answer();
    assert!(
        answer.map_or(true, |answer| answer.status == 502),
        "a stream that broke is not ended as if whole"
    );
    for (name, at, reason, count) in [
        ("ill", &ill.address, "5xx", 3),
        ("dead", &dead, "unreached", 1),
        ("cutting", &cutting.address, "cut", 1),
    ] {
        let sample = format!(
            "remora_provider_failures_total{{provider=\"{at}\",reason=\"{reason}\",service=\"{name}\"}} {count}"
        );
        eventually(&sample, Duration::from_secs(10), || shows(&remora, &sample));
    }
}

#[test]
fn a_provider_that_left_leaves_no_series() {
    let (ill, well) = (Peer::http(|_| peer::answer(500, &[], b"{}")), Peer::echo());
    let remora = Remora::embedded(&service("user", &[GET], &[&ill.address])).start();
    assert_eq!(remora.get("/user/get").status, 500);
    let failed = format!(
        "remora_provider_failures_total{{provider=\"{}\",reason=\"5xx\",service=\"user\"}} 1",
        ill.address
    );
    eventually(&failed, Duration::from_secs(10), || shows(&remora, &failed));
    remora.edit_registry(&service("user", &[GET], &[&well.address]));
    remora.until_status("/user/get", 200, Duration::from_secs(10));
    eventually("it is gone", Duration::from_secs(10), || !samples(&remora).contains(&ill.address));
    assert!(samples(&remora).contains("remora_calls_total{api=\"get\",outcome=\"ok\",service=\"user\"}"));
}

/// Of calls to `user/get`, as Prometheus and a collector are told at this instant.
fn told(telemetry: &Telemetry, now: Instant) -> [bool; 2] {
    let text = telemetry.prometheus(now);
    assert!(text.contains("outcome=\"ok\",service=\"other\"} 1"), "others stay: {text}");
    let all = collector::values_of(&telemetry.metrics_message(now), "remora.calls");
    assert_eq!(all.get("api=get,outcome=ok,service=other"), Some(&1.0), "{all:?}");
    [text.contains("service=\"user\""), all.keys().any(|labels| labels.contains("service=user"))]
}

#[test]
fn series_of_a_service_end_some_minutes_after_it_left_and_go_on_where_it_comes_back() {
    let telemetry = Telemetry::new().unwrap();
    let (directory, _wants) = Directory::new(Policy::default(), None, telemetry.clone());
    let name = |name: &str| ServiceName::new(name).unwrap();
    let node = |path: &str| Node { path: path.into(), data: Ok(b"{}".into()), ephemeral: false };
    let comes = |service: &str| {
        let parsed = Layout::Flat.parse(&name(service), &[node(&format!("/api/{service}/get"))], None);
        directory.publish(&name(service), Some(parsed.unwrap().into()));
    };
    let called = |service: &str| {
        let entry = directory.known(&name(service)).unwrap();
        telemetry.good(&entry.route("get").unwrap().instruments, 200, Duration::from_millis(3));
        telemetry.retried(service);
    };
    ["user", "other"].iter().for_each(|service| comes(service));
    ["user", "other"].iter().for_each(|service| called(service));
    let minutes = |minutes: u64| Instant::now() + Duration::from_secs(60 * minutes);
    assert_eq!(told(&telemetry, minutes(60 * 24 * 30)), [true; 2], "while it is there");
    directory.publish(&name("user"), None);
    assert_eq!(told(&telemetry, minutes(4)), [true; 2], "it may come back");
    assert_eq!(told(&telemetry, minutes(6)), [false; 2]);
    comes("user");
    called("user");
    assert_eq!(told(&telemetry, minutes(6)), [true; 2]);
    let text = telemetry.prometheus(Instant::now());
    assert!(text.contains("outcome=\"ok\",service=\"user\"} 2"), "no reset: {text}");
    directory.forget(&name("user"));
    assert_eq!(told(&telemetry, minutes(24 * 60)), [true; 2], "a call a day is enough");
    assert_eq!(told(&telemetry, minutes(26 * 60)), [false; 2]);
}

#[test]
fn a_call_that_goes_to_nobody_does_not_make_answers_look_quick() {
    let (echo, dead) = (Peer::echo(), Peer::refusing());
    let off = ("off", "{ path: /off, state: \"off\" }");
    let entries = [service("user", &[GET, off], &[&echo.address]), service("dead", &[GET], &[&dead])];
    let remora = Remora::embedded(&entries.concat()).start();
    let calls =
        [("/user/get", 200), ("/user/off", 503), ("/user/none", 404), ("/none/get", 404), ("/dead/get", 502)];
    calls.iter().for_each(|(path, status)| assert_eq!(remora.get(path).status, *status, "{path}"));
    for (service, api, count) in [("user", "get", 1), ("user", "off", 0), ("dead", "get", 1)] {
        let line =
            format!("remora_call_duration_seconds_count{{api=\"{api}\",service=\"{service}\"}} {count}");
        eventually(&line, Duration::from_secs(10), || shows(&remora, &line));
    }
    let text = samples(&remora);
    assert_eq!(text.matches("remora_call_duration_seconds_count{").count(), 3, "{text}");
    assert!(
        text.contains("remora_calls_total{api=\"off\",outcome=\"api-off\",service=\"user\"} 1"),
        "{text}"
    );
}

#[test]
fn own_providers_a_view_that_ages_and_problems_of_the_registry_are_metrics() {
    let mut zk = ZooKeeper::start();
    let (well, ill) = (Peer::echo(), Peer::refusing());
    let mut client = zk.client();
    client.put("/address/user", &format!("{{\"addresses\":[{{\"address\":\"{}\"}}]}}", well.address));
    client.put("/api/user/get", "{\"path\":\"/user/get\"}");
    let own = format!(
        "providers: [{{ service: user, address: \"{}\" }}, {{ service: user, address: \"{ill}\", health: {{ tcp: true }} }}]",
        well.address
    );
    let remora = Remora::zookeeper(&zk).with(&own).start();
    assert_eq!(remora.get("/user/get").status, 200);
    let shown = |sample: &str| eventually(sample, Duration::from_secs(20), || shows(&remora, sample));
    shown(&format!("remora_own_registered{{node=\"/address/user/{}\"}} 1", well.address));
    shown(&format!("remora_own_registered{{node=\"/address/user/{ill}\"}} 0"));
    shown("remora_view_stale 0");
    assert!(!samples(&remora).contains("remora_registry_problems{"), "{}", samples(&remora));
    zk.kill();
    shown("remora_view_stale 1");
    shown("remora_registry_problems{topic=\"connect\"} 1");
}

#[test]
fn the_table_of_metrics_names_every_one_there_is() {
    let setup = Remora::embedded(&service("user", &[GET], &[&Peer::refusing()]));
    let remora = setup.with(&collector::config(&Peer::refusing(), "")).start();
    assert_eq!(remora.get("/user/get").status, 502);
    let table = std::fs::read_to_string("docs/admin.md").unwrap();
    let known = |name: &str| table.contains(&format!("`{name}`"));
    for line in samples(&remora).lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next()) {
            assert!(known(name), "docs/admin.md has no row for {name}");
        }
    }
}

/// Prints each sample as name, labels, value.
const PARSE: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families as parse
print(json.dumps([[s.name, s.labels, s.value] for f in parse(sys.stdin.read()) for s in f.samples]))";

/// The samples as the parser of Prometheus's own library for Python reads them.
fn parsed(text: &str) -> Vec<(String, Value, f64)> {
    let venv = Path::new("target/test-venv/bin/python3");
    let python = if venv.exists() { venv } else { Path::new("python3") };
    let mut command = Command::new(python);
    command.args(["-c", PARSE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "is prometheus_client there? run tests/setup");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_stranger_reads_the_same_numbers() {
    let provider = Peer::echo();
    let remora = Remora::embedded(&service("user", &[GET], &[&provider.address])).start();
    (0..3).for_each(|_| assert_eq!(remora.get("/user/get").status, 200));
    assert_eq!(remora.get("/\"a\\/b").status, 404);
    let line = "remora_calls_total{api=\"get\",outcome=\"ok\",service=\"user\"} 3";
    eventually(line, Duration::from_secs(10), || shows(&remora, line));
    let samples = parsed(&samples(&remora));
    let of = |name: &str, label: &str, value: &str| {
        let mut found = samples.iter().filter(|(own, labels, _)| own == name && labels[label] == value);
        found.next().unwrap_or_else(|| panic!("no {name} with {label} {value} in {samples:?}")).2
    };
    assert_eq!(of("remora_calls_total", "outcome", "ok"), 3.0);
    assert_eq!(of("remora_calls_total", "outcome", "no-service"), 1.0);
    assert_eq!(of("remora_call_duration_seconds_count", "api", "get"), 3.0);
    let buckets = samples
        .iter()
        .filter(|(name, labels, _)| name == "remora_call_duration_seconds_bucket" && labels["api"] == "get");
    let counts: Vec<_> = buckets.map(|(_, _, count)| *count).collect();
    assert!(counts.is_sorted() && counts.last() == Some(&3.0), "{counts:?}");
    let mut series: Vec<_> = samples.iter().map(|(name, labels, _)| format!("{name}{labels}")).collect();
    series.sort();
    let all = series.len();
    series.dedup();
    assert_eq!(series.len(), all, "each series is there once");
}

#[test]
fn answers_of_4xx_and_5xx_are_counted_by_api() {
    let provider = Peer::http(|request| match request.target.as_str() {
        "/fine" => peer::answer(200, &[], b"{}"),
        "/moved" => peer::answer(304, &[], b""),
        "/absent" => peer::answer(404, &[], b"{}"),
        _ => peer::answer(503, &[], b"{}"),
    });
    let apis = ["fine", "moved", "absent", "ill"].map(|api| (api, format!("{{ path: /{api} }}")));
    let apis: Vec<_> = apis.iter().map(|(api, data)| (*api, data.as_str())).collect();
    let remora = Remora::embedded(&service("user", &apis, &[&provider.address])).start();
    for (api, status) in [("fine", 200), ("moved", 304), ("absent", 404), ("absent", 404), ("ill", 503)] {
        assert_eq!(remora.call("POST", &format!("/user/{api}"), &[], b"{}").status, status);
    }
    assert_eq!(remora.get("/user/none").status, 404, "no answer of a provider");
    for (api, class, count) in [("absent", "4xx", 2), ("ill", "5xx", 1)] {
        let sample = format!(
            "remora_error_answers_total{{api=\"{api}\",service=\"user\",status=\"{class}\"}} {count}"
        );
        eventually(&sample, Duration::from_secs(10), || shows(&remora, &sample));
        let calls = format!("remora_calls_total{{api=\"{api}\",outcome=\"ok\",service=\"user\"}} {count}");
        assert!(shows(&remora, &calls), "it is a part of these");
    }
    assert_eq!(samples(&remora).matches("remora_error_answers_total{").count(), 2, "{}", samples(&remora));
}

#[test]
fn what_only_grows_is_a_counter_and_all_else_a_gauge() {
    let (collector, provider) = (collector::Collector::start(), Peer::echo());
    let setup = Remora::embedded(&service("user", &[GET], &[&provider.address]));
    let remora = setup.with(&collector.config("interval: 1s")).start();
    assert_eq!(remora.get("/user/get").status, 200);
    eventually("metrics are there", Duration::from_secs(10), || collector.is_monotonic("remora.calls"));
    let text = samples(&remora);
    for name in ["reconnects", "sessions", "operations", "events", "drift"].map(|of| format!("registry.{of}"))
    {
        let under = name.replace('.', "_");
        assert!(text.contains(&format!("# TYPE remora_{under}_total counter")), "{name}: {text}");
        assert!(collector.is_monotonic(&format!("remora.{name}")), "{name}");
    }
    assert!(text.contains("# TYPE remora_log_lines_dropped_total counter"), "{text}");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
    }
}
