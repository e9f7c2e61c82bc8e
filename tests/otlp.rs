//! What a collector is sent, and that calls don't notice how the collector is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use support::collector::{Collector, config};
use support::peer::answer;
use support::{Peer, Port, Remora, eventually, service};

const GET: (&str, &str) = ("get", "{ path: /get, encoding: json }");
const SOON: Duration = Duration::from_secs(10);

fn remora(otlp: &str, provider: &Peer) -> Remora {
    Remora::embedded(&service("user", &[GET], &[&provider.address])).with(otlp).start()
}

fn spans(remora: &Remora, outcome: &str) -> u64 {
    let text = remora.admin("GET", "/metrics").text();
    let sample = format!("remora_spans_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&sample)).map_or(0, |count| count.parse().unwrap())
}

fn warnings(remora: &Remora) -> usize {
    remora.log().lines().filter(|line| line.contains("the collector of `otlp`")).count()
}

#[test]
fn metrics_are_pushed_as_metrics_shows_them() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let mut remora = remora(&collector.config("interval: 1s, traces: { sample: off }"), &provider);
    (0..3).for_each(|_| assert_eq!(remora.get("/user/get").status, 200));
    assert_eq!(remora.get("/user/none").status, 404);
    let calls = || collector.metric("remora.calls");
    eventually("the calls are counted there", SOON, || {
        calls().get("api=get,outcome=ok,service=user") == Some(&3.0)
    });
    assert_eq!(collector.metric("remora.call.duration").get("api=get,service=user"), Some(&3.0));
    assert_eq!(collector.metric("remora.view.services").values().sum::<f64>(), 1.0);
    assert!(remora.admin("GET", "/metrics").text().contains("outcome=\"ok\",service=\"user\"} 3"));
    // once more, and at once the end: nothing is left out
    assert_eq!(remora.get("/user/get").status, 200);
    assert_eq!(remora.terminate(), 0);
    assert_eq!(calls().get("api=get,outcome=ok,service=user"), Some(&4.0));
}

#[test]
fn spans_of_the_last_calls_arrive_before_the_end() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let mut remora = remora(&collector.config("traces: { sample: \"100%\" }"), &provider);
    (0..300).for_each(|_| assert_eq!(remora.get("/user/get").status, 200));
    assert_eq!(remora.terminate(), 0);
    assert_eq!(collector.spans().len(), 600);
}

#[test]
fn headers_and_path_are_the_configured_ones_and_the_headers_stay_secret() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let endpoint = format!("endpoint: \"http://{}/otel/\"", collector.peer.address);
    let otlp =
        format!("otlp: {{ {endpoint}, headers: {{ Authorization: \"Bearer ${{TOKEN}}\" }}, interval: 1s }}");
    let setup = Remora::embedded(&service("user", &[GET], &[&provider.address]));
    let remora = setup.with(&otlp).env("TOKEN", "s3cret").start();
    eventually("metrics are there", SOON, || collector.peer.calls() > 0);
    let request = &collector.peer.requests()[0];
    assert_eq!(request.target, "/otel/v1/metrics");
    assert_eq!(request.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let shown = remora.page("/config");
    assert_eq!(shown["otlp"]["headers"]["authorization"], "…");
    assert!(!format!("{shown}{}", remora.log()).contains("s3cret"));
}

#[test]
fn calls_do_not_notice_that_there_is_no_collector() {
    let provider = Peer::echo();
    let otlp = config(&Peer::refusing(), "interval: 1s, traces: { sample: \"100%\" }");
    let mut remora = remora(&otlp, &provider);
    eventually("two lines tell it", SOON, || {
        assert_eq!(remora.get("/user/get").status, 200);
        warnings(&remora) == 2
    });
    assert!(remora.log().contains("\"what\":\"spans\"") && remora.log().contains("\"what\":\"metrics\""));
    assert_eq!(remora.get("/user/get").status, 200);
    assert_eq!(remora.terminate(), 0);
    assert_eq!(warnings(&remora), 2, "and no more for a while");
}

#[test]
fn spans_that_have_no_room_are_dropped_and_counted() {
    let (silent, provider) = (Peer::silent(), Peer::echo());
    let more = "interval: off, timeout: 60s, traces: { sample: \"100%\", queue: 16 }";
    let mut remora = remora(&config(&silent.address, more), &provider);
    (0..40).for_each(|_| assert_eq!(remora.get("/user/get").status, 200));
    // of 80 spans, 16 wait and as many are on their way at most
    eventually("the others are dropped", SOON, || (48..80).contains(&spans(&remora, "dropped")));
    assert_eq!([spans(&remora, "sent"), spans(&remora, "lost")], [0, 0]);
    assert_eq!(remora.terminate(), 0, "whatever the collector does");
    assert!(!remora.log().contains("did not close in time"), "nobody else waits for it");
}

#[test]
fn what_waited_arrives_when_the_collector_is_back() {
    let (port, provider) = (Port::free(), Peer::echo());
    let otlp = config(&port.address(), "interval: off, traces: { sample: \"100%\" }");
    let remora = remora(&otlp, &provider);
    (0..3).for_each(|_| assert_eq!(remora.get("/user/get").status, 200));
    eventually("it was tried in vain", SOON, || warnings(&remora) == 1);
    assert_eq!(remora.get("/user/get").status, 200);
    let collector = Collector::start_at(&port.address());
    eventually("all of it is there", SOON, || collector.spans().len() == 8);
    eventually("and counted", SOON, || spans(&remora, "sent") == 8);
    eventually("and told", SOON, || remora.log().contains("the collector takes them again"));
}

#[test]
fn what_a_collector_refuses_for_good_is_lost_and_counted() {
    let (refusing, provider) = (Peer::http(|_| answer(400, &[], b"")), Peer::echo());
    let otlp = config(&refusing.address, "interval: off, traces: { sample: \"100%\" }");
    let remora = remora(&otlp, &provider);
    assert_eq!(remora.get("/user/get").status, 200);
    eventually("they are lost", SOON, || spans(&remora, "lost") == 2);
    eventually("the log says so", SOON, || warnings(&remora) == 1);
}

#[test]
fn a_histogram_without_measurements_claims_no_extremes() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let entries = service("user", &[GET, ("off", "{ path: /off, state: \"off\" }")], &[&provider.address]);
    let remora = Remora::embedded(&entries).with(&collector.config("interval: 1s")).start();
    assert_eq!([remora.get("/user/get").status, remora.get("/user/off").status], [200, 503]);
    let extremes =
        |api| collector.extremes("remora.call.duration").remove(&format!("api={api},service=user"));
    eventually("both are there", SOON, || extremes("get").is_some() && extremes("off").is_some());
    assert_eq!(extremes("off"), Some((None, None)));
    assert!(matches!(extremes("get"), Some((Some(_), Some(most))) if most < 60.0));
}

/// A collector that takes messages with something to say of them.
fn taking_in_part(rejected_spans: i64, error_message: &str) -> Peer {
    let error_message = error_message.to_owned();
    // that of metrics has the same form
    let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
    let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    Peer::http(move |_| answer(200, &[("Content-Type", "application/x-protobuf")], &body))
}

#[test]
fn what_a_collector_rejects_in_part_is_told_with_its_reason_now_and_then() {
    let (picky, provider) = (taking_in_part(1, &"no room ".repeat(1000)), Peer::echo());
    let remora = remora(&config(&picky.address, "interval: 1s, traces: { sample: \"100%\" }"), &provider);
    let sent = |signal| picky.requests().iter().filter(|request| request.target.ends_with(signal)).count();
    for messages in 1..4 {
        assert_eq!(remora.get("/user/get").status, 200);
        eventually("they are sent", SOON, || sent("/v1/traces") == messages);
    }
    eventually("metrics are sent", SOON, || sent("/v1/metrics") >= 3);
    eventually("the rest is counted", SOON, || (spans(&remora, "sent"), spans(&remora, "lost")) == (3, 3));
    let log = remora.log();
    for what in ["spans", "metrics"] {
        let what = format!("\"what\":\"{what}\"");
        let told: Vec<_> =
            log.lines().filter(|l| l.contains(&what) && l.contains("no room no room")).collect();
        assert_eq!(told.len(), 1, "{log}");
        assert!(told[0].contains("\"rejected\":1") && told[0].len() < 1000, "{}", told[0]);
    }
}

#[test]
fn a_warning_of_a_collector_that_takes_all_is_told() {
    let (wordy, provider) = (taking_in_part(0, "this endpoint moves soon"), Peer::echo());
    let remora = remora(&config(&wordy.address, "interval: off, traces: { sample: \"100%\" }"), &provider);
    assert_eq!(remora.get("/user/get").status, 200);
    eventually("the log says so", SOON, || remora.log().contains("this endpoint moves soon"));
    eventually("all of it is sent", SOON, || spans(&remora, "sent") == 2);
}

#[test]
fn an_answer_that_is_no_otlp_is_no_success_whatever_its_status() {
    let page = format!("<!DOCTYPE html><html>{}</html>", "Welcome to nginx! ".repeat(10_000));
    for (kind, body, told) in [
        ("text/html; charset=utf-8", &page[..100], "Welcome to nginx"),
        ("text/html", &page, "longer than"),
        ("text/plain", "OK", "OK"),
        ("application/json", "{\"error\":\"no such page\"}", "no such page"),
        ("application/x-protobuf", "so they say", "so they say"),
    ] {
        let (kind, body, provider) = (kind.to_owned(), body.to_owned(), Peer::echo());
        let web = Peer::http({
            let kind = kind.clone();
            move |_| answer(200, &[("Content-Type", &kind)], body.as_bytes())
        });
        let otlp = config(&web.address, "interval: off, traces: { sample: \"100%\" }");
        let mut remora = remora(&otlp, &provider);
        assert_eq!(remora.get("/user/get").status, 200);
        eventually(&format!("{kind}: they are lost"), SOON, || spans(&remora, "lost") == 2);
        assert_eq!((spans(&remora, "sent"), warnings(&remora)), (0, 1), "{kind}");
        let log = remora.log();
        assert!(log.contains(told) && log.contains(&kind), "{kind}: {log}");
        assert_eq!((remora.terminate(), web.calls()), (0, 1), "{kind}: it would not get better");
    }
}

#[test]
fn collectors_that_write_little_or_json_are_understood() {
    for (status, kind, body, rejected) in [
        (200, None, "", 0),
        (202, Some("application/json"), "{}", 0),
        (204, None, "", 0),
        (200, Some("application/json"), "{\"partialSuccess\":{\"rejectedSpans\":\"1\"}}", 1),
    ] {
        let (body, provider) = (body.to_owned(), Peer::echo());
        let headers: Vec<_> = kind.iter().map(|kind| ("Content-Type", *kind)).collect();
        let collector = Peer::http(move |_| answer(status, &headers, body.as_bytes()));
        let otlp = config(&collector.address, "interval: off, traces: { sample: \"100%\" }");
        let remora = remora(&otlp, &provider);
        assert_eq!(remora.get("/user/get").status, 200);
        let counts = || (spans(&remora, "sent"), spans(&remora, "lost"));
        eventually(&format!("{status} {kind:?}"), SOON, || counts() == (2 - rejected, rejected));
        assert_eq!(warnings(&remora), 0);
    }
}

#[test]
fn metrics_are_kept_back_as_long_as_the_collector_asks() {
    let busy = Peer::http(|request| {
        let is_for_spans = request.target.ends_with("/v1/traces");
        answer(if is_for_spans { 200 } else { 429 }, &[("Retry-After", "60")], b"")
    });
    let provider = Peer::echo();
    let remora = remora(&config(&busy.address, "interval: 1s, traces: { sample: \"100%\" }"), &provider);
    let sent = |signal| busy.requests().iter().filter(|request| request.target.ends_with(signal)).count();
    eventually("metrics were sent once", SOON, || sent("/v1/metrics") == 1);
    // what is gathered for a second each time tells that the interval has passed
    for messages in 1..5 {
        assert_eq!(remora.get("/user/get").status, 200);
        eventually("spans are sent", SOON, || sent("/v1/traces") == messages);
    }
    assert_eq!(sent("/v1/metrics"), 1);
}
