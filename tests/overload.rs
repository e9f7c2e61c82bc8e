//! More calls than a service can take: lines, refusals, and everybody else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::request;
use support::peer::ok_json;
use support::{Conn, Peer, Remora, assert_problem, eventually, service_with, yar};

const SOON: Duration = Duration::from_secs(10);
const X: (&str, &str) = ("x", "{ path: /x, encoding: json }");

/// A provider whose answers wait until they are let go, one by one.
struct Held {
    peer: Peer,
    free: Arc<(Mutex<usize>, Condvar)>,
}

impl Held {
    fn new() -> Held {
        let free = Arc::new((Mutex::new(0), Condvar::new()));
        let (lock, told) = (free.clone(), "let go");
        let peer = Peer::http(move |request| {
            let (free, turn) = &*lock;
            let mut free = turn.wait_while(free.lock().unwrap(), |free| *free == 0).unwrap();
            *free -= 1;
            ok_json(&json!({ told: request.target }))
        });
        Held { peer, free }
    }

    fn let_go(&self, answers: usize) {
        *self.free.0.lock().unwrap() += answers;
        self.free.1.notify_all();
    }

    fn sidecar(&self, policy: &str) -> Remora {
        let data = format!("access: open, policy: {{ timeout: 60s, {policy} }}");
        Remora::embedded(&service_with("user", &data, &[X], &[&self.peer.address])).start()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.let_go(1000);
    }
}

fn user(remora: &Remora) -> Value {
    remora.page("/services/user")
}

/// Sends a call and waits until that many stand in line.
fn line_up(remora: &Remora, target: &str, waiting: usize) -> Conn {
    let mut conn = remora.conn();
    conn.send(request("GET", target, &[], b"")).unwrap();
    eventually("it waits", SOON, || user(remora)["waiting"] == waiting);
    conn
}

#[test]
fn over_the_limit_calls_wait_in_line_and_the_first_is_the_first() {
    let held = Held::new();
    let remora = held.sidecar("concurrency: 1, queue: 50s");
    let mut conns = vec![line_up(&remora, "/user/x?0", 0)];
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    conns.extend((1..5).map(|n| line_up(&remora, &format!("/user/x?{n}"), n)));
    assert_eq!(user(&remora)["in_flight"], 1);
    let metrics = remora.admin("GET", "/metrics").text();
    for (what, count) in [("calls_waiting", 4), ("concurrency_limit", 1)] {
        assert!(
            metrics.contains(&format!("remora_{what}{{api=\"\",service=\"user\"}} {count}\n")),
            "{metrics}"
        );
    }
    for (n, conn) in conns.iter_mut().enumerate() {
        held.let_go(1);
        assert_eq!(conn.answer().unwrap().status, 200);
        if n < 4 {
            eventually("the next one arrives", SOON, || held.peer.calls() == n + 2);
        }
    }
    let order: Vec<_> = held.peer.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(order, ["/x?0", "/x?1", "/x?2", "/x?3", "/x?4"]);
    eventually("all is over", SOON, || user(&remora)["in_flight"] == 0);
}

#[test]
fn who_waited_long_enough_is_overloaded() {
    let held = Held::new();
    let remora = held.sidecar("concurrency: 1, queue: 200ms");
    let _first = line_up(&remora, "/user/x", 0);
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    let start = Instant::now();
    let refused = remora.get("/user/x");
    assert_problem(&refused, "overloaded", 503);
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    assert!(refused.text().contains("within its `queue`"), "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    let thrown = yar::json_payload(&yar::send(&remora, "/user", &yar::json_request("x", "[]")));
    assert_eq!(thrown["e"]["code"], 10506, "{thrown}");
    assert_eq!((held.peer.calls(), &user(&remora)["waiting"]), (1, &json!(0)));
}

#[test]
fn a_deadline_ends_the_wait_in_line() {
    let held = Held::new();
    let remora = held.sidecar("concurrency: 1, queue: 50s");
    let _first = line_up(&remora, "/user/x", 0);
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    assert_problem(&remora.call("GET", "/user/x", &[("X-Deadline-Ms", "100")], b""), "deadline", 504);
}

#[test]
fn who_leaves_the_line_gives_up_the_turn() {
    let held = Held::new();
    let remora = held.sidecar("concurrency: 1, queue: 50s");
    let mut first = line_up(&remora, "/user/x?first", 0);
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    let leaves = line_up(&remora, "/user/x?leaves", 1);
    let mut stays = line_up(&remora, "/user/x?stays", 2);
    drop(leaves);
    eventually("the line is shorter", SOON, || user(&remora)["waiting"] == 1);
    held.let_go(2);
    for conn in [&mut first, &mut stays] {
        assert_eq!(conn.answer().unwrap().status, 200);
    }
    assert_eq!(held.peer.last().target, "/x?stays");
    assert_eq!(held.peer.calls(), 2);
}

#[test]
fn a_full_line_refuses_at_once() {
    let held = Held::new();
    let remora = held.sidecar("concurrency: 1, queue: 50s");
    let _first = line_up(&remora, "/user/x", 0);
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    let _line: Vec<_> = (1..=16).map(|n| line_up(&remora, "/user/x", n)).collect();
    let refused = remora.get("/user/x");
    assert_problem(&refused, "overloaded", 503);
    assert!(refused.text().contains("the line before it is full"), "{}", refused.text());
}

#[test]
fn a_line_before_one_api_takes_no_places_of_the_others() {
    let held = Held::new();
    let quick = Peer::echo();
    let apis = [
        ("slow", "{ path: /slow, encoding: json, policy: { concurrency: 1 } }"),
        ("other", "{ path: /other, encoding: json }"),
    ];
    let data = "access: open, policy: { timeout: 60s, concurrency: 3, queue: 50s }";
    let tree = format!(
        "/dada/services/user: {{ {data} }}\n\
         /dada/services/user/slow: {}\n/dada/services/user/other: {}\n\
         \"/dada/services/user/slow/providers/{}\": {{}}\n\"/dada/services/user/other/providers/{}\": {{}}\n",
        apis[0].1, apis[1].1, held.peer.address, quick.address
    );
    let remora = Remora::embedded(&tree).layout("tree", "/dada").start();
    let mut first = remora.conn();
    first.send(request("GET", "/user/slow", &[], b"")).unwrap();
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    let mut line = Vec::new();
    for n in 1..=5 {
        let mut conn = remora.conn();
        conn.send(request("GET", "/user/slow", &[], b"")).unwrap();
        line.push(conn);
        eventually("it waits", SOON, || user(&remora)["apis"]["slow"]["waiting"] == n);
    }
    let answer = remora.get("/user/other");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// One provider that takes one call at a time, with a line before it.
fn narrow(held: &Held, policy: &str, apis: &[(&str, &str)]) -> Remora {
    let data = format!("access: open, policy: {{ timeout: 60s, {policy} }}");
    let provider = format!("{{ address: \"{}\", max_connections: 1 }}", held.peer.address);
    Remora::embedded(&service_with("user", &data, apis, &[&provider])).start()
}

#[test]
fn where_every_provider_is_full_calls_wait_in_line_and_the_first_is_the_first() {
    let held = Held::new();
    let remora = narrow(&held, "queue: 50s", &[X]);
    let mut conns = vec![line_up(&remora, "/user/x?0", 0)];
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    conns.extend((1..5).map(|n| line_up(&remora, &format!("/user/x?{n}"), n)));
    drop(conns.remove(2));
    eventually("the line is shorter", SOON, || user(&remora)["waiting"] == 3);
    let metrics = remora.admin("GET", "/metrics").text();
    assert!(metrics.contains("remora_calls_waiting{api=\"\",service=\"user\"} 3\n"), "{metrics}");
    for (n, conn) in conns.iter_mut().enumerate() {
        held.let_go(1);
        assert_eq!(conn.answer().unwrap().status, 200);
        if n < 3 {
            eventually("the next one arrives", SOON, || held.peer.calls() == n + 2);
        }
    }
    let order: Vec<_> = held.peer.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(order, ["/x?0", "/x?1", "/x?3", "/x?4"]);
    eventually("all is over", SOON, || user(&remora)["in_flight"] == 0);
}

#[test]
fn a_line_before_full_providers_ends_and_is_bounded() {
    let held = Held::new();
    let remora = narrow(&held, "queue: 100ms", &[X]);
    let _first = line_up(&remora, "/user/x", 0);
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    let refused = remora.get("/user/x");
    assert_problem(&refused, "overloaded", 503);
    assert!(refused.text().contains("`max_connections`, and none of them ended"), "{}", refused.text());
    assert_problem(&remora.call("GET", "/user/x", &[("X-Deadline-Ms", "50")], b""), "deadline", 504);
    remora.edit_registry(&service_with(
        "user",
        "access: open, policy: { timeout: 60s, queue: 50s }",
        &[X],
        &[&format!("{{ address: \"{}\", max_connections: 1 }}", held.peer.address)],
    ));
    eventually("the rule is another", SOON, || user(&remora)["policy"]["queue"] == "50s");
    let _line: Vec<_> = (1..=16).map(|n| line_up(&remora, "/user/x", n)).collect();
    let refused = remora.get("/user/x");
    assert_problem(&refused, "overloaded", 503);
    assert!(refused.text().contains("the line before them is full"), "{}", refused.text());
}

#[test]
fn all_lines_of_a_call_together_take_its_queue_and_no_more() {
    let held = Held::new();
    let narrow_api = "{ path: /y, encoding: json, policy: { concurrency: 1 } }";
    let remora = narrow(&held, "queue: 1s", &[X, ("y", narrow_api)]);
    let _first = line_up(&remora, "/user/x", 0);
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    // this one has the API's place, and waits for the provider
    let _second = line_up(&remora, "/user/y", 1);
    // this one gets that place when the other is overloaded, with next to nothing left of its own second
    let third = remora.call("GET", "/user/y", &[("X-Deadline-Ms", "1700")], b"");
    assert_problem(&third, "overloaded", 503);
}

#[test]
fn a_noisy_service_costs_a_quiet_one_nothing() {
    const PLACES: usize = 16;
    let (held, quick) = (Held::new(), Peer::named("quick"));
    let noisy = format!("access: open, policy: {{ timeout: 600s, concurrency: {PLACES}, queue: 500s }}");
    let entries = service_with("noisy", &noisy, &[X], &[&held.peer.address])
        + &service_with("quiet", "access: open", &[X], &[&quick.address]);
    let remora = Remora::embedded(&entries).start();
    // all places are taken, and as many wait in line: each call further is refused
    let mut noise: Vec<_> = (0..2 * PLACES).map(|_| remora.conn()).collect();
    for conn in &mut noise {
        conn.send(request("GET", "/noisy/x", &[], b"")).unwrap();
    }
    let is_loud = || {
        let page = remora.page("/services/noisy");
        page["in_flight"] == PLACES && page["waiting"] == PLACES && held.peer.calls() == PLACES
    };
    eventually("the noise is loud", SOON, is_loud);
    let mut kept = remora.conn();
    for _ in 0..100 {
        assert_problem(&remora.get("/noisy/x"), "overloaded", 503);
        let quiet = [kept.request("GET", "/quiet/x", &[], b"").unwrap(), remora.get("/quiet/x")];
        for answer in quiet {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    assert!(is_loud(), "a quiet call waited for a noisy one: {}", remora.page("/services/noisy"));
    assert_eq!(quick.calls(), 200, "each reached its provider once");
    held.let_go(noise.len());
    for conn in &mut noise {
        assert_eq!(conn.answer().unwrap().status, 200, "what was held is answered all the same");
    }
}

#[test]
fn an_automatic_limit_begins_at_20_and_grows_while_answers_stay_quick() {
    let held = Held::new();
    let remora = held.sidecar("concurrency: auto");
    let mut conns: Vec<_> = (0..20).map(|_| remora.conn()).collect();
    for conn in &mut conns {
        conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    }
    eventually("all arrive", SOON, || held.peer.calls() == 20);
    let refused = remora.get("/user/x");
    assert_problem(&refused, "overloaded", 503);
    assert!(refused.text().contains("20 calls"), "{}", refused.text());
    held.let_go(1_000_000);
    for conn in &mut conns {
        assert_eq!(conn.answer().unwrap().status, 200);
    }
    std::thread::scope(|scope| {
        let grown = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for _ in 0..16 {
            let (grown, remora) = (grown.clone(), &remora);
            scope.spawn(move || {
                let mut conn = remora.conn();
                while !grown.load(std::sync::atomic::Ordering::SeqCst) {
                    conn.request("GET", "/user/x", &[], b"").unwrap();
                }
            });
        }
        let limit = || user(&remora)["limit"].as_u64().unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while limit() <= 20 && Instant::now() < until {
            std::thread::yield_now();
        }
        grown.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(limit() > 20, "{}", limit());
    });
}

#[test]
fn a_slow_provider_of_three_has_a_lower_limit_than_the_others() {
    let lock = Mutex::new(());
    let slow = Peer::http(move |_| {
        // one after another
        let _turn = lock.lock().unwrap();
        std::thread::sleep(Duration::from_millis(10));
        ok_json(&json!({}))
    });
    let (a, b) = (Peer::named("a"), Peer::named("b"));
    let data = "policy: { timeout: 60s, balance: round_robin, concurrency: auto }";
    let entries = service_with("user", data, &[X], &[&slow.address, &a.address, &b.address]);
    let remora = Remora::embedded(&entries).start();
    let limits = || {
        let page = user(&remora);
        let providers = page["providers"].as_array().unwrap();
        let of = |peer: &Peer| providers.iter().find(|one| one["address"] == peer.address.as_str()).unwrap();
        [&slow, &a, &b].map(|peer| of(peer)["limit"].as_u64().unwrap())
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..18 {
            scope.spawn(|| {
                let mut conn = remora.conn();
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let status = conn.request("GET", "/user/x", &[], b"").unwrap().status;
                    // the service's own limit moves, too
                    assert!([200, 503].contains(&status), "{status}");
                }
            });
        }
        let until = Instant::now() + 6 * SOON;
        let is_lower = || {
            let [slow, a, b] = limits();
            slow < 20 && slow < a.min(b)
        };
        let mut lower = false;
        while !lower && Instant::now() < until {
            lower = is_lower();
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(lower, "{:?}", limits());
    });
}

#[test]
fn another_limit_in_the_registry_holds_for_those_in_line() {
    let held = Held::new();
    let remora = held.sidecar("concurrency: 1, queue: 50s");
    let _first = line_up(&remora, "/user/x", 0);
    eventually("one call arrives", SOON, || held.peer.calls() == 1);
    let _second = line_up(&remora, "/user/x", 1);
    let wider = "access: open, policy: { timeout: 60s, concurrency: 2, queue: 50s }";
    remora.edit_registry(&service_with("user", wider, &[X], &[&held.peer.address]));
    eventually("the second arrives", SOON, || held.peer.calls() == 2);
}

#[test]
fn memory_stays_within_what_the_configuration_says_whatever_callers_do() {
    // takes connections, and reads nothing after a request's head
    let over = Arc::new((Mutex::new(false), Condvar::new()));
    let waits = over.clone();
    let deaf = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = support::Request::read_head(&mut conn);
        let (lock, end) = &*waits;
        drop(end.wait_while(lock.lock().unwrap(), |over| !*over).unwrap());
    });
    let data = "access: open, policy: { timeout: 60s, max_body: 1GiB }";
    let apis = [X, ("yar", "{ encoding: yar-json }")];
    let remora = Remora::embedded(&service_with("user", data, &apis, &[&deaf.address]))
        .with("connections: 64\nbuffers: 8MiB")
        .start();
    let config = remora.page("/config");
    assert_eq!(config["memory"]["most"], "106MiB", "{config}");
    let most = 106 << 20;
    std::thread::scope(|scope| {
        for caller in 0..80 {
            let remora = &remora;
            scope.spawn(move || {
                let conn = remora.conn();
                let mut writer = conn.writer();
                conn.write_at_most(Duration::from_secs(3));
                let target = if caller % 2 == 0 { "/user/x" } else { "/user/yar" };
                let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
                let _ = writer.write_all(head.as_bytes());
                // until nobody takes more
                while writer.write_all(&[b'1'; 100_000]).is_ok() {}
            });
        }
    });
    let peak = remora.peak_memory();
    assert!(peak <= most, "{} MiB", peak >> 20);
    assert_eq!(remora.page("/config")["connections"], 64);
    *over.0.lock().unwrap() = true;
    over.1.notify_all();
}

/// A call of `method` by Yar with about a MiB of parameters.
fn large(method: &str) -> Vec<u8> {
    yar::json_request(method, &format!("[\"{}\"]", "x".repeat(1 << 20)))
}

/// What `/services/slow` says of its bodies.
fn held_by_slow(remora: &Remora) -> u64 {
    remora.page("/services/slow")["buffers"]["held"].as_u64().unwrap()
}

#[test]
fn a_hung_service_fills_its_part_of_the_buffers_and_leaves_the_rest_to_others() {
    let (held, echo) = (Held::new(), Peer::echo());
    let data = "access: open, policy: { timeout: 60s, max_body: 2MiB }";
    let more = "buffers: 8MiB\ndefaults: { timeout: 60s }";
    let slow = |api| service_with("slow", data, &[api], &[&held.peer.address]);
    let entries = slow(X) + &service_with("quick", data, &[X], &[&echo.address]);
    let remora = Remora::embedded(&entries).with(more).start();
    let config = remora.page("/config");
    assert_eq!(config["memory"]["buffers_of_one_service"], "6MiB", "{config}");

    let over_http = request("POST", "/slow", &[], &large("x"));
    let hung: Vec<_> = (0..5)
        .map(|n| {
            let mut conn = remora.conn();
            conn.send(if n % 2 == 0 { over_http.clone() } else { large("slow.x") }).unwrap();
            eventually("it hangs", SOON, || held.peer.calls() == n + 1);
            conn
        })
        .collect();
    assert!((5 << 20..6 << 20).contains(&held_by_slow(&remora)), "{}", held_by_slow(&remora));
    let refused = yar::json_payload(&yar::send(&remora, "/slow", &large("x")));
    let raw = yar::call_raw(remora.conn(), &large("slow.x"));
    for refused in [refused, raw] {
        assert_eq!(refused["e"]["code"], 10506, "{refused}");
        let told = refused["e"]["message"].as_str().unwrap();
        assert!(told.contains("other calls to service \"slow\" hold 5MiB"), "{told}");
        assert!(told.contains("would be over 6MiB") && told.contains("raise `buffers`"), "{told}");
    }
    let served = yar::json_payload(&yar::send(&remora, "/quick", &large("x")));
    assert_eq!(served["r"]["body"].as_str().map(str::len), Some((1 << 20) + 4), "{}", served["e"]);
    let metrics = remora.admin("GET", "/metrics").text();
    assert!(metrics.contains("remora_service_buffers_bytes{service=\"slow\"} 52"), "{metrics}");

    // an edit of the registry forgets nothing
    remora
        .edit_registry(&(slow(("y", "{ path: /y }")) + &service_with("quick", data, &[X], &[&echo.address])));
    eventually("the edit is seen", SOON, || remora.page("/services/slow")["apis"]["y"].is_object());
    assert!(held_by_slow(&remora) > 5 << 20);
    held.let_go(5);
    for (n, mut conn) in hung.into_iter().enumerate() {
        let answered =
            if n % 2 == 0 { conn.answer().map(|answer| answer.body) } else { yar::read_raw(&mut conn) };
        assert!(answered.unwrap().len() > 90);
    }
    eventually("all is given back", SOON, || held_by_slow(&remora) == 0);
}

#[test]
fn calls_to_no_service_fill_a_part_of_the_buffers_and_leave_the_rest_to_services() {
    let echo = Peer::echo();
    let entries = service_with("user", "access: open", &[X], &[&echo.address]);
    let remora = Remora::embedded(&entries).with("buffers: 8MiB\ndefaults: { timeout: 60s }").start();
    let held = || {
        let metrics = remora.admin("GET", "/metrics").text();
        let sample = metrics.lines().find_map(|line| line.strip_prefix("remora_buffers_bytes "));
        sample.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{metrics}")) as usize
    };
    // all but the last byte, by HTTP and raw
    let uploads: Vec<_> = (0..5)
        .map(|n| {
            let (http, raw) = (request("POST", "/nope", &[], &large("x")), large("nope.x"));
            let bytes = if n % 2 == 0 { http } else { raw };
            let mut conn = remora.conn();
            conn.send(&bytes[..bytes.len() - 1]).unwrap();
            eventually("it is held", SOON, || held() >= (n + 1) << 20);
            conn
        })
        .collect();
    let over_http = yar::json_payload(&yar::send(&remora, "/nowhere", &large("x")));
    let raw = yar::call_raw(remora.conn(), &large("nowhere.x"));
    for refused in [over_http, raw] {
        assert_eq!(refused["e"]["code"], 10506, "{refused}");
        let told = refused["e"]["message"].as_str().unwrap();
        assert!(told.contains("no such service is known") && told.contains("over 6MiB"), "{told}");
    }
    // neither is known to a worker before
    let served = [
        yar::json_payload(&yar::send(&remora, "/user", &large("x"))),
        yar::call_raw(remora.conn(), &large("user.x")),
    ];
    for served in served {
        assert_eq!(served["r"]["body"].as_str().map(str::len), Some((1 << 20) + 4), "{}", served["e"]);
    }
    drop(uploads);
    eventually("all is given back", SOON, || held() == 0);
    let missed = yar::call_raw(remora.conn(), &large("nowhere.x"));
    assert_eq!(missed["e"]["code"], 10404, "{missed}");
}

#[test]
fn a_message_whose_last_method_is_another_services_is_held_for_that_one() {
    let (held, echo) = (Held::new(), Peer::echo());
    let data = "access: open, policy: { timeout: 60s }";
    let entries = service_with("slow", data, &[X], &[&held.peer.address])
        + &service_with("quiet", data, &[X], &[&echo.address]);
    let remora = Remora::embedded(&entries).start();
    // every worker knows what the first bytes name
    (0..16).for_each(|_| assert_eq!(remora.get("/quiet/x").status, 200));
    let filler = "x".repeat(80 << 10);
    let payload = format!(r#"{{"i":1,"m":"quiet.x","p":["{filler}"],"m":"slow.x"}}"#);
    let mut conn = remora.conn();
    conn.send(yar::message("JSON", payload.as_bytes())).unwrap();
    eventually("it hangs", SOON, || held.peer.calls() == 1);
    let by_quiet = || remora.page("/services/quiet")["buffers"]["held"].as_u64().unwrap();
    assert!((80 << 10..200 << 10).contains(&held_by_slow(&remora)), "{}", held_by_slow(&remora));
    assert_eq!(by_quiet(), 0);
    held.let_go(1);
    yar::read_raw(&mut conn).unwrap();
    eventually("all is given back", SOON, || held_by_slow(&remora) == 0);
    assert_eq!(by_quiet(), 0);
    let served = yar::call_raw(remora.conn(), &large("quiet.x"));
    assert!(served["r"]["body"].is_string(), "{}", served["e"]);
}

#[test]
fn where_every_circuit_is_open_that_is_said_at_once_and_not_after_a_wait_in_line() {
    let (held, refusing) = (Held::new(), Peer::refusing());
    let data = "access: open, policy: { timeout: 60s, retries: 0, circuit: { consecutive: 1, open: 60s } }";
    let apis = [("x", "{ path: /x, policy: { concurrency: 1, queue: 50s } }"), ("y", "{ path: /y }")];
    let with = |provider: &str| service_with("user", data, &apis, &[provider]);
    let remora = Remora::embedded(&with(&held.peer.address)).start();
    let _first = line_up(&remora, "/user/x", 0);
    eventually("one call arrives", SOON, || held.peer.calls() == 1);

    remora.edit_registry(&with(&refusing));
    eventually("the other provider is known", SOON, || user(&remora).to_string().contains(&refusing));
    assert_problem(&remora.get("/user/y"), "connect-failed", 502);
    assert_problem(&remora.get("/user/x"), "circuit-open", 503);
}
