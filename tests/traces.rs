//! Traces: which calls are recorded, what a collector hears of them, and what providers are told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::collector::{Collector, Span};
use support::peer::answer;
use support::{Conn, Peer, Remora, http, service, yar};

const GET: (&str, &str) = ("get", "{ path: /get, encoding: json }");
const ALL: &str = "traces: { sample: \"100%\" }";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A sidecar with one service, `user`, that tells this collector.
fn remora(collector: &Collector, otlp: &str, providers: &[&str]) -> Remora {
    Remora::embedded(&service("user", &[GET], providers)).with(&collector.config(otlp)).start()
}

fn call(remora: &Remora, headers: &[(&str, &str)]) -> http::Answer {
    remora.call("GET", "/user/get?id=7", headers, b"")
}

#[test]
fn a_call_that_its_caller_records_goes_on_in_the_same_trace() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let remora = remora(&collector, "traces: { sample: \"0%\" }", &[&provider.address]);
    let headers = [("traceparent", SAMPLED), ("tracestate", "congo=t61rcWkgMzE"), ("x-caller", "web")];
    assert_eq!(call(&remora, &headers).status, 200);
    let spans = collector.trace(2, |span| span.trace == TRACE);
    let (server, client) = (&spans[0], &spans[1]);
    assert_eq!((server.parent.as_str(), server.is_server), ("b7ad6b7169203331", true));
    assert_eq!((client.parent.as_str(), client.is_server), (server.id.as_str(), false));
    assert_eq!(provider.last().header("traceparent"), Some(format!("{}01", client.as_parent()).as_str()));
    assert_eq!(provider.last().header("tracestate"), Some("congo=t61rcWkgMzE"));
    assert!(spans.iter().all(|span| span.state == "congo=t61rcWkgMzE" && span.name == "user/get"));
    assert!(server.start <= client.start && client.end <= server.end && server.start < server.end);
    for (name, value) in [
        ("remora.service", "user"),
        ("remora.api", "get"),
        ("remora.caller", "web"),
        ("remora.outcome", "ok"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/user/get"),
        ("error.type", "-"),
    ] {
        assert_eq!(server.get(name), value, "{name}: {server:?}");
    }
    let (host, port) = provider.address.split_once(':').unwrap();
    for (name, value) in [
        ("server.address", host),
        ("server.port", port),
        ("http.request.method", "GET"),
        ("url.full", &format!("http://{}/get", provider.address)),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(client.get(name), value, "{name}: {client:?}");
    }
    assert_eq!(server.resource["service.name"], "remora");
    let text = format!("{:?}", collector.spans());
    assert!(!text.contains("id=7"), "a query may be personal: {text}");
}

#[test]
fn a_call_nobody_records_is_passed_on_as_it_is() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let mut remora = remora(&collector, "interval: off, traces: { sample: \"0%\" }", &[&provider.address]);
    for headers in [
        &[][..],
        &[("traceparent", UNSAMPLED), ("tracestate", "a=b")],
        &[("traceparent", UNSAMPLED), ("tracestate", "nonsense")],
        &[("traceparent", "nonsense"), ("tracestate", "a=b")],
        // by the standard one of two is none
        &[("traceparent", SAMPLED), ("traceparent", SAMPLED)],
    ] {
        assert_eq!(call(&remora, headers).status, 200);
        let seen = provider.last();
        let of = |all: &mut dyn Iterator<Item = (String, String)>| {
            all.filter(|(name, _)| name.to_lowercase().starts_with("trace")).collect::<Vec<_>>()
        };
        let sent = of(&mut headers.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        assert_eq!(of(&mut seen.headers.into_iter()), sent);
    }
    assert_eq!(remora.terminate(), 0);
    assert_eq!(collector.peer.calls(), 0, "there was nothing to tell");
}

#[test]
fn without_a_collector_headers_pass_untouched() {
    let provider = Peer::echo();
    let remora = Remora::embedded(&service("user", &[GET], &[&provider.address])).start();
    assert_eq!(call(&remora, &[("traceparent", SAMPLED)]).status, 200);
    assert_eq!(provider.last().header("traceparent"), Some(SAMPLED));
}

#[test]
fn a_trace_begins_here_where_the_caller_said_nothing_that_can_be_relied_on() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let remora = remora(&collector, ALL, &[&provider.address]);
    for parent in ["nonsense", &SAMPLED.to_uppercase(), &SAMPLED.replacen("00", "ff", 1)] {
        assert_eq!(call(&remora, &[("traceparent", parent), ("tracestate", "a=b")]).status, 200);
        let seen = provider.last();
        let told = seen.header("traceparent").unwrap();
        let spans = collector.trace(2, |span| told.starts_with(&span.as_parent()));
        assert!(spans[0].trace != TRACE && spans[0].parent.is_empty(), "{spans:?}");
        assert_eq!(seen.header("tracestate"), None, "it belongs to a trace that does not go on");
    }
    assert_eq!(call(&remora, &[("traceparent", UNSAMPLED)]).status, 200);
    assert_eq!(provider.last().header("traceparent"), Some(UNSAMPLED), "its caller decided");
}

#[test]
fn each_attempt_has_a_span_and_says_what_was_wrong() {
    let (collector, provider, dead) = (Collector::start(), Peer::echo(), Peer::refusing());
    let remora = remora(&collector, ALL, &[&provider.address, &dead]);
    // one of a few calls is tried at the dead one first
    let tried = (0..50).find_map(|_| {
        let answer = call(&remora, &[]);
        assert_eq!(answer.status, 200);
        let log = remora.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["attempts"] == 2)
    });
    let trace = tried.expect("a call was tried twice")["trace"].as_str().unwrap().to_owned();
    let spans = collector.trace(3, |span| span.trace == trace);
    let (server, first, second) = (&spans[0], &spans[1], &spans[2]);
    assert!([first, second].iter().all(|span| span.parent == server.id && !span.is_server));
    assert!(dead.ends_with(first.get("server.port")) && first.is_error);
    assert_eq!((first.get("error.type"), first.get("http.request.resend_count")), ("unreached", "-"));
    assert_eq!((second.get("error.type"), second.get("http.request.resend_count")), ("-", "1"));
    assert!(!second.is_error && !server.is_error && first.id != second.id);
}

#[test]
fn the_slower_of_a_hedge_is_told_as_given_up() {
    let (collector, silent, provider) = (Collector::start(), Peer::silent(), Peer::echo());
    let hedged = "{ path: /get, policy: { balance: round_robin, hedge: { after: 20ms, budget: 100% } } }";
    let entries = service("user", &[("get", hedged)], &[&silent.address, &provider.address]);
    let remora = Remora::embedded(&entries).with(&collector.config(ALL)).start();
    (0..4).for_each(|_| assert_eq!(remora.get("/user/get").status, 200));
    let given_up = |span: &Span| span.get("remora.outcome") == "given-up";
    let spans = collector.trace(3, given_up);
    let (server, first, second) = (&spans[0], &spans[1], &spans[2]);
    assert!(silent.address.ends_with(first.get("server.port")) && given_up(first) && !first.is_error);
    assert_eq!((second.get("remora.outcome"), server.get("remora.outcome")), ("ok", "ok"));
    assert!(first.start < second.start && first.end <= server.end, "{spans:?}");
}

#[test]
fn what_is_wrong_with_a_call_is_told_as_far_as_it_is_not_its_callers_fault() {
    let (collector, ill) = (Collector::start(), Peer::http(|_| answer(500, &[], b"{}")));
    let cutting = Peer::cutting("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}");
    let entries = [service("ill", &[GET], &[&ill.address]), service("cut", &[GET], &[&cutting.address])];
    let remora = Remora::embedded(&entries.concat()).with(&collector.config(ALL)).start();
    assert_eq!(remora.get("/ill/get").status, 500);
    let spans = collector.trace(2, |span| span.name == "ill/get");
    assert!(spans.iter().all(|span| span.is_error && span.get("error.type") == "500"), "{spans:?}");
    let absent = remora.get("/ill/none");
    assert_eq!(absent.status, 404);
    let spans = collector.trace(1, |span| span.get("remora.outcome") == "no-api");
    assert_eq!((spans[0].name.as_str(), spans[0].is_error), ("unknown", false));
    assert_eq!(absent.header("x-remora-call"), Some(spans[0].get("remora.call")));
    let mut conn = remora.conn();
    conn.send(http::request("GET", "/cut/get", &[], b"")).unwrap();
    if let Ok(told) = conn.answer() {
        // where the end is there as soon as the head, nothing of it has left
        support::assert_problem(&told, "cut", 502);
    }
    let spans = collector.trace(2, |span| span.name == "cut/get");
    assert!(spans.iter().all(|span| span.is_error && span.get("error.type") == "cut"), "{spans:?}");
}

#[test]
fn yar_is_recorded_whichever_way_it_comes() {
    let collector = Collector::start();
    let provider = Peer::http(|request| {
        let asked: Value = serde_json::from_slice(&request.body[90..]).unwrap();
        let id = u32::from_be_bytes(*request.body.first_chunk().unwrap());
        let result = json!({"i": asked["i"], "s": 0, "r": 3}).to_string();
        answer(200, &[], &yar::with_id(yar::message("JSON", result.as_bytes()), id))
    });
    let entries = service("calc", &[("add", "{ encoding: yar-json }")], &[&provider.address]);
    let remora = Remora::embedded(&entries).with(&collector.config(ALL)).start();
    let message = yar::json_request("add", "[1,2]");
    let headers = [("traceparent", SAMPLED)];
    assert_eq!(remora.call("POST", "/calc", &headers, &message).status, 200);
    let over_http = collector.trace(2, |span| span.trace == TRACE);
    assert_eq!(over_http[0].get("http.request.method"), "POST");
    assert!(provider.last().header("traceparent").unwrap().starts_with(&over_http[1].as_parent()));
    let answered = yar::call_raw(Conn::open(&remora.address), &yar::json_request("calc.add", "[1,2]"));
    assert_eq!(answered["r"], 3, "{answered}");
    let raw = collector.trace(2, |span| span.trace != TRACE);
    assert_eq!((raw[0].get("http.request.method"), raw[1].get("http.request.method")), ("-", "POST"));
    for span in over_http.iter().chain(&raw) {
        assert_eq!(span.name, "calc/add");
        assert_eq!((span.get("rpc.system.name"), span.get("rpc.method")), ("yar", "calc/add"), "{span:?}");
    }
}

#[test]
fn an_attempt_says_what_its_provider_is_asked_and_only_what_its_wire_has() {
    let (collector, echo) = (Collector::start(), Peer::echo());
    let raw = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        while let Ok(message) = yar::read_raw(&mut conn) {
            let asked: Value = serde_json::from_slice(&message[90..]).unwrap();
            let result = json!({"i": asked["i"], "s": 0, "r": 3}).to_string();
            let id = u32::from_be_bytes(*message.first_chunk().unwrap());
            conn.send(yar::with_id(yar::message("JSON", result.as_bytes()), id)).unwrap();
        }
    });
    let entries = [
        service("any", &[("*", "{ path: \"/v1/?key=1\" }")], &[&echo.address]),
        service("own", &[("get", "{ path: /own, method: PUT }")], &[&echo.address]),
        service("raw", &[("add", "{ encoding: yar-json, transport: tcp }")], &[&raw.address]),
    ];
    let remora = Remora::embedded(&entries.concat()).with(&collector.config(ALL)).start();
    let asked = |span: &Span| {
        let url = span.get("url.full").replace(&echo.address, "echo");
        (span.get("http.request.method").to_owned(), url)
    };
    let to = |name: &str| collector.trace(2, |span| span.name == name).remove(1);
    assert_eq!(remora.call("DELETE", "/any/a/b?id=7", &[], b"").status, 200);
    assert_eq!(asked(&to("any/*")), ("DELETE".into(), "http://echo/v1/a/b".into()));
    yar::send(&remora, "/own", &yar::json_request("get", "[]"));
    assert_eq!(asked(&to("own/get")), ("PUT".into(), "http://echo/own".into()));
    assert_eq!(remora.post("/raw/add", "[1,2]").status, 200);
    let span = to("raw/add");
    assert_eq!(asked(&span), ("-".into(), "-".into()));
    assert_eq!((span.get("http.response.status_code"), span.get("rpc.system.name")), ("-", "yar"));
}

#[test]
fn a_trace_goes_through_two_sidecars() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let near_provider = remora(&collector, "traces: { sample: \"0%\" }", &[&provider.address]);
    // what the other sidecar calls has the path that this one wants
    let through = ("get", "{ path: /user/get, encoding: json }");
    let entries = service("user", &[through], &[&near_provider.address]);
    let near_caller = Remora::embedded(&entries).with(&collector.config(ALL)).start();
    assert_eq!(near_caller.get("/user/get").status, 200);
    let spans = collector.trace(4, |_| true);
    let mut at = spans.iter().find(|span| span.parent.is_empty()).unwrap();
    for is_server in [false, true, false] {
        at = spans.iter().find(|span| span.parent == at.id).expect("each span has a child");
        assert_eq!(at.is_server, is_server);
    }
    let told = provider.last().header("traceparent").unwrap().to_owned();
    assert!(told.starts_with(&at.as_parent()), "{told}, {at:?}");
}

#[test]
fn a_tracestate_that_breaks_the_standard_is_left_out_and_the_trace_goes_on() {
    let (collector, provider) = (Collector::start(), Peer::echo());
    let remora = remora(&collector, "traces: { sample: \"0%\" }", &[&provider.address]);
    let too_many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    let cases = [
        (&["foo=1", " ,\tbar=2 , "][..], true),
        (&["0tenant@vendor=a b"], true),
        (&["no member at all"], false),
        (&["foo=1", "Foo=2"], false),
        (&["foo="], false),
        (&[&too_many], false),
        (&["foo=caf\u{e9}"], false),
    ];
    for (n, (states, is_good)) in cases.into_iter().enumerate() {
        let trace = format!("{n}{}", &TRACE[1..]);
        let parent = SAMPLED.replace(TRACE, &trace);
        let mut headers = vec![("traceparent", parent.as_str())];
        headers.extend(states.iter().map(|state| ("tracestate", *state)));
        assert_eq!(call(&remora, &headers).status, 200);
        let seen = provider.last();
        let told = seen.header("traceparent").unwrap();
        let spans = collector.trace(2, |span| told.starts_with(&span.as_parent()));
        assert_eq!(spans[0].trace, trace);
        assert_eq!(seen.header("tracestate").is_some(), is_good, "{states:?}");
        assert!(spans.iter().all(|span| span.state.is_empty() != is_good), "{states:?}: {spans:?}");
    }
}
