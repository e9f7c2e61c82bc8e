//! What is tried again, where and how often; what never is; and who is told to stop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::request;
use support::peer::{answer, ok_json};
use support::{Conn, Peer, Remora, Request, assert_problem, eventually, service_with, yar};

const APIS: [(&str, &str); 4] = [
    ("get", "{ path: /get, encoding: json }"),
    ("put", "{ path: /put, encoding: json, idempotent: true }"),
    ("sum", "{ encoding: yar-json, idempotent: true }"),
    ("buy", "{ encoding: yar-json }"),
];

/// Providers in turn, however ill they are.
const IN_TURN: &str = "balance: round_robin, circuit: { consecutive: 10000, min_calls: 1000000 }";

/// Service `user` with these providers.
fn sidecar(policy: &str, providers: &[&Peer]) -> Remora {
    let data = format!("access: open, policy: {{ {IN_TURN}, {policy} }}");
    let providers: Vec<_> = providers.iter().map(|peer| peer.address.as_str()).collect();
    Remora::embedded(&service_with("user", &data, &APIS, &providers)).start()
}

/// A sample of a metric with the label of `user`; 0 where there is none yet.
fn counted(remora: &Remora, metric: &str) -> usize {
    let sample = format!("{metric}{{service=\"user\"}} ");
    let text = remora.admin("GET", "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&sample));
    line.map_or(0, |number| number.parse().unwrap())
}

/// A provider that answers as one should, JSON and Yar.
fn good() -> Peer {
    Peer::http(|request| match request.method == "POST" && request.body.get(6..8) == Some(&[0x80, 0xdf]) {
        true => answer(200, &[], &yar_result(&request.body)),
        false => ok_json(&request.echo()),
    })
}

fn yar_result(message: &[u8]) -> Vec<u8> {
    let id = u32::from_be_bytes(message[..4].try_into().unwrap());
    yar::with_id(yar::message("JSON", json!({"i": id, "s": 0, "r": 3}).to_string().as_bytes()), id)
}

#[test]
fn what_may_run_twice_is_tried_again_elsewhere() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nshort";
    for (name, ill, converted_only) in [
        ("502", Peer::http(|_| answer(502, &[], b"{}")), false),
        ("503", Peer::http(|_| answer(503, &[], b"{}")), false),
        ("504", Peer::http(|_| answer(504, &[], b"{}")), false),
        ("cut", Peer::cutting(""), false),
        ("not HTTP", Peer::cutting("SSH-2.0-OpenSSH_9\r\n\r\n"), false),
        ("a lie about its length", Peer::cutting(whole), true),
        ("not Yar", Peer::http(|_| answer(200, &[], b"<html>")), true),
    ] {
        let well = good();
        let remora = sidecar("", &[&ill, &well]);
        for _ in 0..4 {
            let mut answers = vec![remora.post("/user/sum", "[1, 2]")];
            if !converted_only {
                answers.push(remora.get("/user/get"));
                answers.push(remora.post("/user/put", "{}"));
            }
            for answer in answers {
                assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            }
        }
        assert!(ill.calls() >= 2, "{name}: {} calls", ill.calls());
        let again = if converted_only { 2 } else { 6 };
        eventually("they are counted", Duration::from_secs(5), || {
            counted(&remora, "remora_retries_total") >= again
        });
    }
}

#[test]
fn a_yar_caller_of_a_json_provider_is_tried_again_too() {
    let (ill, well) = (Peer::http(|_| answer(503, &[], b"{}")), good());
    let remora = sidecar("", &[&ill, &well]);
    for _ in 0..4 {
        let answer = yar::send(&remora, "/user", &yar::json_request("put", "[{\"a\":1}]"));
        assert_eq!(yar::json_payload(&answer)["s"], 0, "{}", answer.text());
    }
    assert_eq!(ill.calls(), 2);
}

#[test]
fn what_may_not_run_twice_is_not_tried_again() {
    for (status, ill) in [(503, Peer::http(|_| answer(503, &[], b"{}"))), (502, Peer::cutting(""))] {
        let well = good();
        let remora = sidecar("", &[&ill, &well]);
        let mut seen = [0, 0];
        for _ in 0..4 {
            let answer = remora.post("/user/get", "{}");
            assert!([200, status].contains(&answer.status), "{}", answer.text());
            seen[usize::from(answer.status == status)] += 1;
        }
        assert_eq!((seen, ill.calls(), well.calls()), ([2, 2], 2, 2));
        assert_eq!(counted(&remora, "remora_retries_total"), 0);
    }
}

#[test]
fn an_error_that_is_no_outage_is_not_tried_again() {
    for status in [400, 404, 429, 500, 501] {
        let (one, other) = (Peer::http(move |_| answer(status, &[], b"{}")), Peer::echo());
        let remora = sidecar("", &[&one, &other]);
        let seen: Vec<_> = (0..2).map(|_| remora.get("/user/get").status).collect();
        assert!(seen.contains(&status) && seen.contains(&200), "{seen:?}");
    }
}

#[test]
fn the_last_answer_passes_where_nobody_does_better() {
    let bodies = [&b"first"[..], b"second"];
    let ill = bodies.map(|body| Peer::http(move |_| answer(503, &[("Retry-After", "7")], body)));
    let remora = sidecar("", &[&ill[0], &ill[1]]);
    let answer = remora.get("/user/get");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    assert!(["first", "second"].contains(&&*answer.text()), "{}", answer.text());
    assert_eq!(ill[0].calls() + ill[1].calls(), 2);
    // and where the second can't be reached at all, what the first said
    let gone = Peer::refusing();
    let data = "access: open, policy: { balance: round_robin }";
    let entries = service_with("user", data, &APIS, &[&ill[0].address, &gone]);
    let remora = Remora::embedded(&entries).start();
    for _ in 0..4 {
        let answer = remora.get("/user/get");
        assert_eq!((answer.status, &*answer.text()), (503, "first"));
    }
}

#[test]
fn as_many_attempts_are_made_as_the_policy_says() {
    for retries in 0..=3 {
        let ill: Vec<_> = (0..5).map(|_| Peer::http(|_| answer(503, &[], b"{}"))).collect();
        let remora = sidecar(&format!("retries: {retries}"), &ill.iter().collect::<Vec<_>>());
        assert_eq!(remora.get("/user/get").status, 503);
        let calls: Vec<_> = ill.iter().map(Peer::calls).collect();
        assert_eq!(calls.iter().sum::<usize>(), retries + 1, "{calls:?}");
        assert!(calls.iter().all(|calls| *calls <= 1), "{calls:?}");
    }
}

#[test]
fn a_kept_connection_that_is_cut_after_a_while_is_not_taken_for_a_stale_one() {
    // answers the first request of each connection; works on the second, and dies of it
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = Request::read(&mut conn);
        let _ = conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        if let Ok(Some(_)) = Request::read(&mut conn) {
            count.fetch_add(1, Ordering::SeqCst);
            // longer than a round trip may take
            conn.wait_at_most(Duration::from_millis(400));
            let _ = conn.rest();
        }
    });
    let remora = sidecar("connect_timeout: 50ms", &[&peer]);
    let mut conn = remora.conn();
    assert_eq!(conn.request("POST", "/user/get", &[], b"{}").unwrap().status, 200);
    assert_problem(&conn.request("POST", "/user/get", &[], b"{}").unwrap(), "cut", 502);
    assert_eq!((peer.connections(), seen.load(Ordering::SeqCst)), (1, 1));
}

/// A body in chunks, so that it is streamed and its length is not known.
fn chunked(target: &str, bytes: usize) -> Vec<u8> {
    let mut whole = format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut left = bytes;
    while left > 0 {
        let size = left.min(5000);
        whole += &format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        left -= size;
    }
    (whole + "0\r\n\r\n").into_bytes()
}

#[test]
fn a_streamed_body_is_sent_again_up_to_64_kib() {
    let (ill, well) = (Peer::http(|_| answer(503, &[], b"{}")), Peer::echo());
    let remora = sidecar("", &[&ill, &well]);
    let mut conn = remora.conn();
    for _ in 0..4 {
        conn.send(chunked("/user/put", 60_000)).unwrap();
        let answer = conn.answer().unwrap();
        assert_eq!(answer.json()["body"].as_str().map(str::len), Some(60_000), "{}", answer.status);
    }
    assert_eq!((ill.calls(), well.calls()), (2, 4));
    let mut seen = Vec::new();
    for _ in 0..2 {
        conn.send(chunked("/user/put", 70_000)).unwrap();
        seen.push(conn.answer().unwrap().status);
    }
    seen.sort_unstable();
    assert_eq!(seen, [200, 503], "too large to be kept");
    eventually("nothing is held any more", Duration::from_secs(5), || {
        remora.admin("GET", "/metrics").text().contains("remora_buffers_bytes 0")
    });
}

#[test]
fn what_is_kept_of_a_streamed_body_counts_among_the_buffers() {
    let (ill, well) = (Peer::http(|_| answer(503, &[], b"{}")), Peer::echo());
    let data = "access: open, policy: { balance: round_robin }";
    let entries = service_with("user", data, &APIS, &[&ill.address, &well.address]);
    let remora = Remora::embedded(&entries).with("buffers: 16KiB").start();
    let mut conn = remora.conn();
    let mut seen = Vec::new();
    for bytes in [10_000, 10_000, 30_000, 30_000] {
        conn.send(chunked("/user/put", bytes)).unwrap();
        seen.push(conn.answer().unwrap().status);
    }
    assert_eq!(seen[..2], [200, 200]);
    seen[2..].sort_unstable();
    assert_eq!(seen[2..], [200, 503], "there was no room to keep it, but it passed");
}

#[test]
fn a_storm_of_failures_costs_no_more_attempts_than_the_budget() {
    const CALLERS: usize = 8;
    let ill: Vec<_> = (0..3).map(|_| Peer::http(|_| answer(503, &[], b"{}"))).collect();
    let remora = sidecar("retries: 3", &ill.iter().collect::<Vec<_>>());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut conn = remora.conn();
                for _ in 0..150 {
                    assert_eq!(conn.request("GET", "/user/get", &[], b"").unwrap().status, 503);
                }
            });
        }
    });
    let (calls, took) = (CALLERS * 150, start.elapsed().as_secs_f64());
    let attempts: usize = ill.iter().map(Peer::calls).sum();
    let most = calls as f64 * 1.2 + 10.0 * (took + 1.0);
    assert!(attempts as f64 <= most, "{attempts} attempts for {calls} calls in {took} s");
    assert!(attempts as f64 >= calls as f64 * 1.15, "{attempts} attempts for {calls} calls");
    let (again, refused) =
        (counted(&remora, "remora_retries_total"), counted(&remora, "remora_retries_refused_total"));
    assert_eq!(again, attempts - calls);
    assert!(refused >= calls / 2, "{refused}");
}

#[test]
fn without_a_budget_only_what_was_never_sent_is_tried_again() {
    let (ill, well) = (Peer::http(|_| answer(503, &[], b"{}")), Peer::echo());
    let remora = sidecar("retry_budget: \"0%+0\"", &[&ill, &well]);
    let mut seen: Vec<_> = (0..2).map(|_| remora.get("/user/get").status).collect();
    seen.sort_unstable();
    assert_eq!(seen, [200, 503]);
    assert_eq!(counted(&remora, "remora_retries_refused_total"), 1);
    let gone = Peer::refusing();
    let data = "access: open, policy: { balance: round_robin, retry_budget: \"0%+0\" }";
    let remora = Remora::embedded(&service_with("user", data, &APIS, &[&gone, &well.address])).start();
    for _ in 0..4 {
        assert_eq!(remora.get("/user/get").status, 200);
    }
}

#[test]
fn a_provider_that_is_killed_under_load_costs_no_idempotent_call() {
    let (stays, dies) = (good(), good());
    let remora = sidecar("", &[&stays, &dies]);
    let stop = AtomicBool::new(false);
    let (calls, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (remora, stop, calls, failed) = (&remora, &stop, &calls, &failed);
            scope.spawn(move || {
                let mut conn = remora.conn();
                while !stop.load(Ordering::SeqCst) {
                    let answer = match caller % 2 {
                        0 => conn.request("GET", "/user/get", &[], b"").unwrap(),
                        _ => conn.request("POST", "/user/sum", &[], b"[1, 2]").unwrap(),
                    };
                    if answer.status != 200 {
                        eprintln!("{}", answer.text());
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let more = |than: usize| {
            eventually("more calls", Duration::from_secs(60), || calls.load(Ordering::SeqCst) >= than);
        };
        more(500);
        drop(dies);
        let after = calls.load(Ordering::SeqCst) + 500;
        more(after);
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(failed.load(Ordering::SeqCst), 0, "of {}", calls.load(Ordering::SeqCst));
}

#[test]
fn every_attempt_is_told_what_is_left_of_the_callers_deadline() {
    let slow = || {
        Peer::http(|_| {
            std::thread::sleep(Duration::from_millis(60));
            answer(503, &[], b"{}")
        })
    };
    for (target, method) in [("/user/get", "GET"), ("/user/sum", "POST")] {
        let peers = [slow(), slow()];
        let remora = sidecar("", &[&peers[0], &peers[1]]);
        remora.call(method, target, &[("X-Deadline-Ms", "2000")], b"");
        let left = |peer: &Peer| -> u64 { peer.last().header("x-deadline-ms").unwrap().parse().unwrap() };
        let mut left = [left(&peers[0]), left(&peers[1])];
        left.sort_unstable();
        assert!(left[1] <= 2000 && left[0] + 60 <= left[1], "{target}: {left:?}");
    }
}

#[test]
fn a_deadline_that_has_passed_reaches_nobody() {
    let peer = Peer::echo();
    let remora = sidecar("", &[&peer]);
    assert_eq!(remora.get("/user/get").status, 200);
    assert_problem(&remora.call("GET", "/user/get", &[("X-Deadline-Ms", "0")], b""), "deadline", 504);
    assert_eq!(peer.calls(), 1);
}

#[test]
fn out_of_time_nothing_is_tried_again() {
    let peers = [Peer::silent(), Peer::silent()];
    let remora = sidecar("timeout: 300ms, retries: 3", &[&peers[0], &peers[1]]);
    for target in ["/user/get", "/user/sum"] {
        assert_problem(&remora.call("GET", target, &[], b""), "deadline", 504);
    }
    assert_eq!(peers[0].calls() + peers[1].calls(), 2);
}

/// A provider that reads a request and waits; tells when its connection is closed.
fn waiting(read: fn(&mut Conn)) -> (Peer, mpsc::Receiver<()>) {
    let (tell, closed) = mpsc::channel();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        read(&mut conn);
        let _ = tell.send(());
        let _ = conn.rest();
        let _ = tell.send(());
    });
    (peer, closed)
}

#[test]
fn a_caller_that_hangs_up_cancels_its_call_all_the_way() {
    let read_http: fn(&mut Conn) = |conn| drop(Request::read(conn));
    let read_yar: fn(&mut Conn) = |conn| drop(yar::read_raw(conn));
    let apis = [
        ("get", "{ path: /get, encoding: json }"),
        ("sum", "{ encoding: yar-json }"),
        ("raw", "{ encoding: yar-json, transport: tcp }"),
    ];
    let message = |api: &str| yar::json_request(api, "[{\"a\":1}]");
    let over_http = |api: &str| request("POST", "/user", &yar::HEADERS, &message(api));
    for (name, bytes, read) in [
        ("HTTP → JSON", request("POST", "/user/get", &[], b"{}"), read_http),
        ("HTTP → Yar", request("POST", "/user/sum", &[], b"[1]"), read_http),
        ("HTTP → raw Yar", request("POST", "/user/raw", &[], b"[1]"), read_yar),
        ("Yar → JSON", over_http("get"), read_http),
        ("Yar → Yar", over_http("sum"), read_http),
        ("raw Yar → JSON", yar::persistent(message("user.get")), read_http),
        ("raw Yar → raw Yar", yar::persistent(message("user.raw")), read_yar),
    ] {
        let (peer, told) = waiting(read);
        let data = "access: open, policy: { timeout: 60s }";
        let remora = Remora::embedded(&service_with("user", data, &apis, &[&peer.address])).start();
        let mut conn = remora.conn();
        conn.send(bytes).unwrap();
        assert!(told.recv_timeout(Duration::from_secs(10)).is_ok(), "{name}: the call arrives");
        drop(conn);
        assert!(told.recv_timeout(Duration::from_secs(5)).is_ok(), "{name}: it goes on for nobody");
        eventually("nothing is in flight", Duration::from_secs(5), || {
            remora.page("/services/user")["in_flight"] == 0
        });
    }
}

#[test]
fn a_hedge_answers_for_a_provider_that_hangs() {
    let (hangs, closed) = waiting(|conn| drop(Request::read(conn)));
    let well = good();
    let policy = "timeout: 60s, hedge: { after: 50ms, budget: \"100%\" }";
    let remora = sidecar(policy, &[&hangs, &well]);
    let mut hung = 0;
    for target in ["/user/get", "/user/sum", "/user/get", "/user/sum"] {
        let answer = remora.call(if target == "/user/get" { "GET" } else { "POST" }, target, &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        if hangs.connections() > hung {
            hung = hangs.connections();
            for what in ["arrives", "is cancelled"] {
                assert!(closed.recv_timeout(Duration::from_secs(5)).is_ok(), "the first attempt {what}");
            }
        }
    }
    assert_eq!((hung, well.calls()), (2, 4));
    assert_eq!(counted(&remora, "remora_hedges_total"), 2);
    assert_eq!(counted(&remora, "remora_hedges_won_total"), 2);
    assert_eq!(counted(&remora, "remora_retries_total"), 0);
}

#[test]
fn a_get_is_hedged_where_nothing_is_tried_again() {
    let (hangs, well) = (Peer::silent(), good());
    let policy = "timeout: 60s, retries: 0, hedge: { after: 50ms, budget: \"100%\" }";
    let remora = sidecar(policy, &[&hangs, &well]);
    for _ in 0..2 {
        assert_eq!(remora.get("/user/get").status, 200);
    }
    assert_eq!((hangs.calls(), well.calls()), (1, 2));
    assert_eq!(
        (counted(&remora, "remora_hedges_won_total"), counted(&remora, "remora_retries_total")),
        (1, 0)
    );
    // what may not run twice has neither
    let hasty = sidecar(&policy.replace("60s", "300ms"), &[&hangs, &well]);
    let mut seen = [hasty.post("/user/get", "{}").status, hasty.post("/user/get", "{}").status];
    seen.sort_unstable();
    assert_eq!((seen, hangs.calls(), well.calls()), ([200, 504], 2, 3));
}

#[test]
fn what_may_not_run_twice_is_not_hedged() {
    let peers = [Peer::silent(), Peer::silent()];
    let policy = "timeout: 300ms, hedge: { after: 20ms, budget: \"100%\" }";
    let remora = sidecar(policy, &[&peers[0], &peers[1]]);
    assert_problem(&remora.post("/user/get", "{}"), "deadline", 504);
    assert_problem(&remora.post("/user/buy", "[1]"), "deadline", 504);
    assert_eq!(peers[0].calls() + peers[1].calls(), 2);
}

#[test]
fn the_first_answer_wins_where_the_hedge_fails() {
    for (status, failures) in [(500, "5xx"), (503, "5xx"), (500, "none")] {
        // the slow one answers once the ill one had the hedge of its call
        let at_ill = Arc::new(AtomicUsize::new(0));
        let seen = at_ill.clone();
        let slow = Peer::http(move |_| {
            let before = seen.load(Ordering::SeqCst);
            eventually("the hedge is at the ill one", Duration::from_secs(30), || {
                seen.load(Ordering::SeqCst) > before
            });
            ok_json(&json!({"peer": "slow"}))
        });
        let ill = Peer::http(move |_| {
            at_ill.fetch_add(1, Ordering::SeqCst);
            answer(status, &[], b"{}")
        });
        let in_turn = IN_TURN.replace(" }", &format!(", failures: {failures} }}"));
        let hedge = "timeout: 40s, retries: 0, hedge: { after: 50ms, budget: \"100%\" }";
        let data = format!("access: open, policy: {{ {in_turn}, {hedge} }}");
        let remora =
            Remora::embedded(&service_with("user", &data, &APIS, &[&slow.address, &ill.address])).start();
        let mut seen: Vec<_> = (0..2).map(|_| remora.call("POST", "/user/put", &[], b"{}").status).collect();
        seen.sort_unstable();
        assert_eq!(seen, [200, status], "one begins at the slow one, one at the ill one");
        assert_eq!((slow.calls(), ill.calls()), (1, 2));
        assert_eq!(counted(&remora, "remora_hedges_won_total"), 0);
    }
}

#[test]
fn where_neither_attempt_is_good_the_caller_gets_what_a_provider_said() {
    let (hangs, ill) = (Peer::silent(), Peer::http(|_| answer(500, &[], b"{}")));
    let policy = "timeout: 400ms, retries: 0, hedge: { after: 20ms, budget: \"100%\" }";
    let remora = sidecar(policy, &[&hangs, &ill]);
    let seen: Vec<_> = (0..2).map(|_| remora.call("POST", "/user/put", &[], b"{}").status).collect();
    assert_eq!((seen, hangs.calls(), ill.calls()), (vec![500, 500], 1, 2));
}

#[test]
fn hedges_stay_within_their_budget() {
    let slow = || {
        Peer::http(|_| {
            std::thread::sleep(Duration::from_millis(20));
            ok_json(&json!({}))
        })
    };
    let peers = [slow(), slow()];
    let remora = sidecar("hedge: { after: 1ms, budget: \"10%\" }", &[&peers[0], &peers[1]]);
    let mut conn = remora.conn();
    for _ in 0..50 {
        assert_eq!(conn.request("GET", "/user/get", &[], b"").unwrap().status, 200);
    }
    let hedges = counted(&remora, "remora_hedges_total");
    assert!((1..=5).contains(&hedges), "{hedges}");
    assert!(peers[0].calls() + peers[1].calls() <= 50 + hedges);
}

#[test]
fn a_hedge_at_p95_begins_when_an_answer_takes_unusually_long() {
    let hangs = Arc::new(AtomicBool::new(false));
    let switch = hangs.clone();
    let moody = Peer::http(move |request| match switch.load(Ordering::SeqCst) {
        true => Vec::new(),
        false => ok_json(&request.echo()),
    });
    let well = Peer::echo();
    let remora = sidecar("timeout: 60s, hedge: { after: p95, budget: \"50%\" }", &[&moody, &well]);
    let mut conn = remora.conn();
    let mut get = || conn.request("GET", "/user/get", &[], b"").unwrap().status;
    for _ in 0..40 {
        assert_eq!(get(), 200);
    }
    hangs.store(true, Ordering::SeqCst);
    for _ in 0..6 {
        assert_eq!(get(), 200);
    }
    assert!(counted(&remora, "remora_hedges_won_total") >= 3);
}

#[test]
fn a_bad_rule_keeps_the_last_good_one_and_says_so() {
    let peer = Peer::echo();
    let remora = sidecar("retry_budget: \"5%+1\", queue: 20ms", &[&peer]);
    let policy = || -> Value { remora.page("/services/user")["policy"].clone() };
    assert_eq!((&policy()["retry_budget"], &policy()["queue"]), (&json!("5%+1"), &json!("20ms")));
    let bad = "access: open, policy: { retry_budget: \"-5%+1\" }";
    remora.edit_registry(&service_with("user", bad, &APIS, &[&peer.address]));
    eventually("it is told", Duration::from_secs(5), || {
        remora.page("/services/user")["skipped"].to_string().contains("retry_budget")
    });
    assert_eq!(policy()["retry_budget"], "5%+1");
    assert_eq!(remora.get("/user/get").status, 200);
}
