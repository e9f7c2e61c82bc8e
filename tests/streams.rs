//! Bodies that go both ways at once, and what ends them: each side's fault stays its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use support::http::{Conn, request};
use support::peer::Request;
use support::{Peer, Remora, assert_problem, eventually, service_with, yar};

const SOON: Duration = Duration::from_secs(10);
const X: (&str, &str) = ("x", "{ path: /x, encoding: json }");
/// More than kernels hold for a connection whose reader does not read.
const LARGE: usize = 16 << 20;
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

fn upload(size: usize) -> String {
    format!("POST /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")
}

/// Reads a request's head and answers with `bytes`; then reads on until the end.
fn early(bytes: impl Into<Vec<u8>>) -> Peer {
    let bytes = bytes.into();
    Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        while let Ok(Some(_)) = Request::read_head(&mut conn) {
            if conn.send(&bytes).is_err() {
                return;
            }
            let _ = conn.rest();
        }
    })
}

fn sidecar(policy: &str, peer: &Peer) -> Remora {
    Remora::embedded(&service_with("user", policy, &[X], &[&peer.address])).start()
}

fn is_idle(remora: &Remora) -> bool {
    remora.page("/services/user")["in_flight"] == 0
}

/// Calls ended so, and no circuit heard of them.
fn assert_blames_the_caller(remora: &Remora, outcome: &str) {
    let metrics = remora.admin("GET", "/metrics").text();
    assert!(!metrics.contains("remora_provider_failures"), "{metrics}");
    assert!(metrics.contains(&format!("outcome=\"{outcome}\"")), "{metrics}");
}

#[test]
fn a_request_goes_on_while_nobody_reads_its_answer() {
    let (got, all) = channel();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream.try_clone().unwrap());
        if !matches!(Request::read_head(&mut conn), Ok(Some(_))) {
            return;
        }
        let answers = std::thread::spawn(move || {
            let mut stream = stream;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'y'; LARGE]))
        });
        let _ = got.send(conn.exactly(LARGE).map(|body| body.len()));
        let _ = answers.join();
    });
    let remora = sidecar("policy: { max_body: 64MiB, timeout: 60s }", &peer);
    let mut conn = remora.conn();
    conn.send(upload(LARGE)).unwrap();
    conn.send(vec![b'x'; LARGE]).unwrap();
    assert_eq!(all.recv_timeout(SOON).expect("the provider waits for the rest").unwrap(), LARGE);
    let answer = conn.answer().unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    drop(conn);
    eventually("the call is over", SOON, || is_idle(&remora));
}

#[test]
fn a_caller_that_breaks_off_its_request_is_not_its_providers_fault() {
    let peer = early(CHUNKED);
    let remora = sidecar("policy: { circuit: { consecutive: 2 } }", &peer);
    for _ in 0..4 {
        let mut conn = remora.conn();
        conn.send(upload(100)).unwrap();
        conn.send("ten bytes.").unwrap();
        assert_eq!(conn.head().unwrap().status, 200);
        drop(conn);
        eventually("the call is over", SOON, || is_idle(&remora));
    }
    assert_blames_the_caller(&remora, "caller-gone");
}

#[test]
fn a_request_that_grows_too_large_behind_its_answer_is_not_its_providers_fault() {
    let peer = early(CHUNKED);
    let remora = sidecar("policy: { circuit: { consecutive: 2 }, max_body: 1KiB }", &peer);
    for _ in 0..4 {
        let mut conn = remora.conn();
        conn.send(
            "POST /user/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n",
        )
        .unwrap();
        assert_eq!(conn.head().unwrap().status, 200);
        let _ = conn.send(format!("800\r\n{}\r\n", "x".repeat(0x800)));
        assert_eq!(conn.chunk().unwrap(), b"hello");
        conn.chunk().expect_err("an answer whose request was cut looks whole");
        eventually("the call is over", SOON, || is_idle(&remora));
    }
    assert_blames_the_caller(&remora, "too-large");
}

#[test]
fn a_caller_that_falls_silent_in_its_request_is_not_its_providers_fault() {
    let peer = early(CHUNKED);
    let remora = sidecar("policy: { idle_timeout: 200ms, circuit: { consecutive: 2 } }", &peer);
    for _ in 0..4 {
        let mut conn = remora.conn();
        conn.send(upload(100)).unwrap();
        conn.send("ten bytes.").unwrap();
        assert_eq!(conn.head().unwrap().status, 200);
        eventually("the call is over", SOON, || is_idle(&remora));
    }
    assert_blames_the_caller(&remora, "caller-gone");
}

#[test]
fn a_request_goes_on_behind_an_early_whole_answer() {
    let (got, all) = channel();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        if matches!(Request::read_head(&mut conn), Ok(Some(_))) {
            let _ = conn.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
            let _ = got.send(conn.exactly(LARGE).map(|body| body.len()));
        }
    });
    let remora = sidecar("policy: { max_body: 64MiB }", &peer);
    let mut conn = remora.conn();
    conn.send(upload(LARGE)).unwrap();
    conn.send("ten bytes.").unwrap();
    assert_eq!(conn.answer().unwrap().status, 202);
    conn.send(vec![b'x'; LARGE - 10]).unwrap();
    assert_eq!(all.recv_timeout(SOON).expect("the provider waits for the rest").unwrap(), LARGE);
}

#[test]
fn a_request_that_moves_behind_its_answer_is_not_taken_for_silent() {
    const IDLE: Duration = Duration::from_secs(1);
    let (got, parts) = channel();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        if matches!(Request::read_head(&mut conn), Ok(Some(_))) {
            let _ = conn.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
            while got.send(conn.exactly(10)).is_ok() {}
        }
    });
    let remora = sidecar("policy: { idle_timeout: 1s, max_body: 1GiB }", &peer);
    let mut conn = remora.conn();
    // more than comes in that time, however quick both sides are
    conn.send(upload(1 << 30)).unwrap();
    conn.send("ten bytes.").unwrap();
    assert_eq!(conn.answer().unwrap().status, 202);
    let answered = Instant::now();
    while answered.elapsed() < IDLE * 2 {
        conn.send("ten bytes.").unwrap();
        assert_eq!(parts.recv_timeout(SOON).unwrap().expect("it is cut off"), b"ten bytes.");
    }
}

#[test]
fn a_request_that_was_taken_in_part_may_have_run() {
    let peer = Peer::raw(|stream, _| {
        // its end, with the body unread, is a reset
        let _ = Request::read_head(&mut Conn::over(stream));
    });
    let remora = sidecar("policy: { max_body: 64MiB, retries: 1 }", &peer);
    let params = format!("[\"{}\"]", "x".repeat(LARGE));
    let answer = yar::send(&remora, "/user", &yar::json_request("x", &params));
    let seen = yar::json_payload(&answer);
    assert_eq!((&seen["e"]["code"], peer.connections()), (&10507.into(), 1), "{seen}");
}

#[test]
fn an_answer_that_moves_is_not_taken_for_one_that_its_caller_leaves() {
    const IDLE: Duration = Duration::from_secs(1);
    let (say, says) = channel::<()>();
    let says = Mutex::new(says);
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        if matches!(Request::read_head(&mut conn), Ok(Some(_))) {
            let _ = conn.send(CHUNKED);
            while says.lock().unwrap().recv().is_ok() && conn.send("2\r\non\r\n").is_ok() {}
        }
    });
    let remora = sidecar("policy: { idle_timeout: 1s }", &peer);
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    assert_eq!((conn.head().unwrap().status, conn.chunk().unwrap()), (200, b"hello".to_vec()));
    let begun = Instant::now();
    while begun.elapsed() < IDLE * 2 {
        say.send(()).unwrap();
        assert_eq!(conn.chunk().expect("it is broken off"), b"on");
    }
}

#[test]
fn what_a_caller_sends_behind_its_request_is_read_ahead_within_bounds() {
    let peer = Peer::silent();
    let remora = sidecar("policy: { timeout: 60s }", &peer);
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    eventually("it is called", SOON, || peer.calls() == 1);
    let before = remora.memory();
    conn.write_at_most(Duration::from_secs(1));
    // the kernels hold some of it
    conn.send(vec![b'x'; 4 * LARGE]).expect_err("all of it is taken");
    let grown = remora.memory().saturating_sub(before);
    assert!(grown < 1 << 20, "{} KiB more", grown >> 10);
}

#[test]
fn a_provider_that_reads_nothing_is_to_blame_and_not_the_caller_that_waits_for_it() {
    let (keep, hold) = channel::<()>();
    let hold = Mutex::new(hold);
    let peer = Peer::raw(move |_unread, _| {
        let _ = hold.lock().unwrap().recv();
    });
    let remora = sidecar("policy: { max_body: 64MiB, timeout: 1s }", &peer);
    let mut conn = remora.conn();
    let mut writer = conn.writer();
    conn.send("POST /user/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let body = format!("4000\r\n{}\r\n", "x".repeat(0x4000)).repeat(LARGE / 0x4000);
    // remora may have answered and closed before it has all
    let sends = std::thread::spawn(move || drop(writer.write_all(body.as_bytes())));
    support::assert_problem(&conn.answer().unwrap(), "deadline", 504);
    drop((conn, keep));
    sends.join().unwrap();
}

#[test]
fn a_peer_that_speaks_first_is_told_as_such() {
    let peer = Peer::raw(|mut stream, _| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let remora = sidecar("", &peer);
    let answer = remora.get("/user/x");
    support::assert_problem(&answer, "bad-answer", 502);
    assert!(
        answer.text().contains("SSH-2.0") || answer.text().contains("invalid HTTP version"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_request_in_tiny_parts_is_kept_for_another_attempt_in_little_memory() {
    const PARTS: usize = 30_000;
    let (got, all) = channel();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        if let Ok(Some(mut request)) = Request::read_head(&mut conn) {
            let _ = got.send(request.read_body(&mut conn).map(|()| request.body.len()));
            let _ = conn.rest();
        }
    });
    let remora = sidecar("policy: { retries: 1, timeout: 60s }", &peer);
    let before = remora.memory();
    let conns: Vec<_> = (0..8).map(|_| remora.conn()).collect();
    for conn in &conns {
        let mut writer = conn.writer();
        writer.write_all(b"POST /user/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        writer.write_all("1\r\nx\r\n".repeat(PARTS).as_bytes()).unwrap();
        writer.write_all(b"0\r\n\r\n").unwrap();
    }
    for _ in &conns {
        assert_eq!(all.recv_timeout(SOON * 3).unwrap().unwrap(), PARTS);
    }
    let grown = remora.peak_memory().saturating_sub(before);
    assert!(grown < conns.len() as u64 * (1 << 20), "{} KiB more for {} callers", grown >> 10, conns.len());
}

#[test]
fn an_early_whole_answer_leaves_no_connection_behind_whose_caller_is_silent() {
    let peer = early("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    let remora = sidecar("policy: { idle_timeout: 200ms }", &peer);
    let before = remora.descriptors();
    let mut conns: Vec<_> = (0..8).map(|_| remora.conn()).collect();
    for conn in &mut conns {
        conn.send(upload(100)).unwrap();
        conn.send("ten bytes.").unwrap();
        assert_eq!(conn.answer().unwrap().status, 401);
    }
    // the callers still hold theirs
    eventually("none is open to the provider", SOON, || remora.descriptors() <= before + conns.len());
    eventually("no call is open", SOON, || is_idle(&remora));
}

#[test]
fn an_old_caller_that_reads_too_slowly_is_not_told_a_whole_answer() {
    let large = CHUNKED.replace("5\r\nhello", &format!("{LARGE:x}\r\n{}", "x".repeat(LARGE))) + "0\r\n\r\n";
    let peer = early(large);
    let remora = sidecar("policy: { idle_timeout: 200ms }", &peer);
    let mut stream = TcpStream::connect(remora.url("").trim_start_matches("http://")).unwrap();
    stream.write_all(b"GET /user/x HTTP/1.0\r\n\r\n").unwrap();
    eventually("it is given up", SOON, || peer.connections() == 1 && is_idle(&remora));
    Conn::over(stream).rest().expect_err("what ends with the connection ends as if whole");
}

#[test]
fn patience_with_a_slow_reader_is_that_of_its_own_call() {
    let big = Peer::http(|_| support::peer::ok_json(&serde_json::json!("x".repeat(LARGE))));
    let quick = Peer::named("quick");
    let hasty = "access: open, policy: { idle_timeout: 100ms }";
    let entries = service_with("user", hasty, &[X], &[&quick.address])
        + &service_with("big", "access: open, policy: { max_body: 64MiB }", &[X], &[&big.address]);
    let remora = Remora::embedded(&entries).start();
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    assert_eq!(conn.answer().unwrap().status, 200);
    // a Yar caller's answer is converted, and written all at once
    conn.send(request("POST", "/big", &[], &yar::json_request("x", "[]"))).unwrap();
    let mut answer = conn.head().unwrap();
    // some times the patience of the call before: what must not happen can't be waited for
    std::thread::sleep(Duration::from_millis(500));
    conn.body(&mut answer, false).expect("given up by another call's rule");
    assert!(answer.body.len() > LARGE, "{}", answer.text());
}

#[test]
fn of_an_answer_with_two_lengths_the_chunks_hold() {
    for told in [2, 5, 50] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {told}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let peer = Peer::http(move |_| format!("{head}5\r\nhello\r\n0\r\n\r\n").into_bytes());
        let remora = sidecar("", &peer);
        for _ in 0..2 {
            let answer = remora.get("/user/x");
            assert_eq!((answer.text().as_str(), answer.header("content-length")), ("hello", None), "{told}");
        }
    }
}

#[test]
fn an_answer_that_breaks_before_any_of_it_has_left_is_an_error_with_a_reason() {
    for (chunk, why) in [
        ("no chunk\r\n", "a chunk's size can't be read"),
        ("3\r\nabcdef\r\n", "a chunk is longer than its size"),
    ] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let peer = Peer::http(move |_| [head, chunk].concat().into_bytes());
        let remora = sidecar("policy: { retries: 0, circuit: { consecutive: 1000 } }", &peer);
        let mut conn = remora.conn();
        for _ in 0..2 {
            let answer = conn.request("GET", "/user/x", &[], b"").unwrap();
            assert_problem(&answer, "bad-answer", 502);
            assert!(answer.text().contains(why), "{}", answer.text());
        }
        let seen = yar::json_payload(&yar::send(&remora, "/user", &yar::json_request("x", "[]")));
        assert_eq!(seen["e"]["code"], 10508, "{seen}");
        assert!(seen["e"]["message"].as_str().unwrap().contains(why), "{seen}");
        let counted = "remora_calls_total{api=\"x\",outcome=\"bad-answer\",service=\"user\"} 3";
        let blamed = "reason=\"bad-answer\",service=\"user\"} 3";
        eventually("all are counted", Duration::from_secs(5), || {
            let metrics = remora.admin("GET", "/metrics").text();
            metrics.contains(counted) && metrics.contains(blamed)
        });
    }
}

#[test]
fn a_caller_that_leaves_behind_its_request_takes_an_early_answer_with_it() {
    let peer = early(CHUNKED);
    let remora = sidecar("policy: { timeout: 1h, idle_timeout: 1h }", &peer);
    let mut conn = remora.conn();
    conn.send(upload(10)).unwrap();
    conn.send("begun").unwrap();
    // the answer has begun, and the rest of the request is read by whoever sends it on
    assert_eq!(conn.head().unwrap().status, 200);
    conn.send("ended").unwrap();
    assert!(!is_idle(&remora));
    drop(conn);
    eventually("its call is over", SOON, || is_idle(&remora));
    assert_blames_the_caller(&remora, "caller-gone");
}

#[test]
fn an_answer_without_a_length_breaks_off_where_its_caller_half_closes() {
    let peer = early(CHUNKED);
    let remora = sidecar("policy: { timeout: 1h, idle_timeout: 1h }", &peer);
    let mut stream = TcpStream::connect(&remora.address).unwrap();
    stream.write_all(b"GET /user/x HTTP/1.0\r\n\r\n").unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"hello") {
        let mut some = [0; 1000];
        let read = stream.read(&mut some).unwrap();
        seen.extend_from_slice(&some[..read]);
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let end = stream.read(&mut [0; 10]);
    assert!(end.is_err(), "it looks whole: {end:?}");
}

#[test]
fn a_caller_that_sends_more_than_is_answered_gets_all_of_its_answer() {
    const SIZE: usize = 300 << 10;
    let peer = Peer::http(|_| support::peer::answer(200, &[], &vec![b'x'; SIZE]));
    let remora = sidecar("", &peer);
    let narrow = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    narrow.set_recv_buffer_size(4096).unwrap();
    narrow.connect(&remora.address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let mut conn = Conn::over(narrow.into());
    let more = "GET /user/x HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5000);
    conn.send(format!("GET /user/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{more}")).unwrap();
    // then the kernel has what the caller has not read yet
    eventually("it is written", SOON, || peer.calls() == 1 && is_idle(&remora));
    assert_eq!(conn.answer().expect("it is reset").body.len(), SIZE);
    assert_eq!(conn.rest().unwrap(), b"");
}

#[test]
fn a_converted_answer_that_its_caller_does_not_take_is_not_told_as_taken() {
    let result = [&b"\xdb\x01\x00\x00\x00"[..], &vec![b'x'; LARGE]].concat();
    let peer = Peer::http(move |request| {
        support::peer::answer(200, &[], &yar::msgpack_answer(&request.body, &result))
    });
    let api = ("x", "{ encoding: yar-msgpack }");
    let remora =
        Remora::embedded(&service_with("calc", "policy: { idle_timeout: 1s }", &[api], &[&peer.address]))
            .start();
    let mut conn = remora.conn();
    conn.send("POST /calc/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n[]").unwrap();
    eventually("it is given up", SOON, || {
        remora.admin("GET", "/metrics").text().contains("outcome=\"caller-gone\"")
    });
}
