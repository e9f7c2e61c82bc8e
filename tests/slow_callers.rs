//! Callers that stay, drip or never read: how many there may be, for how long, and what they cost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use support::http::request;
use support::{Peer, Remora, assert_problem, eventually, service, service_with, yar};

const SOON: Duration = Duration::from_secs(10);
const X: (&str, &str) = ("x", "{ path: /x, encoding: json }");
/// What an idle connection may cost the sidecar, in bytes,
const IDLE_COST: u64 = 24 << 10;
/// and one with a call that waits for its answer, both sides included.
const OPEN_COST: u64 = 64 << 10;
/// Callers connected at once that a sidecar takes where it may open twice as many files, and some.
const ALL: u64 = 10_000;
/// More than enough for them.
const FILES: u64 = 1 << 16;
/// More than the kernel holds for a connection whose reader does not read.
const LARGE: usize = 16 << 20;

/// Lets this process, and the sidecars it starts, open as many files as they may.
fn raise_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // an administrator may have more than it was given
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum: Some(FILES) });
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    setrlimit(Resource::Nofile, limits).unwrap();
    limits.maximum.unwrap_or(FILES)
}

/// Takes connections and keeps them, but reads nothing.
fn mute() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
    address
}

/// Sends a byte now and then, as long as somebody takes it.
fn drip(mut writer: Box<dyn Write + Send>) {
    std::thread::spawn(move || {
        while writer.write_all(b"1").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

fn in_flight(remora: &Remora) -> u64 {
    remora.page("/services/user")["in_flight"].as_u64().unwrap()
}

/// Waits until the sidecar has no more descriptors than it had.
fn all_closed(remora: &Remora, before: usize) {
    eventually("all is closed", SOON, || remora.descriptors() <= before && in_flight(remora) == 0);
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_calls_pass_beside_them() {
    let may_open = raise_limit();
    let peer = Peer::named("one");
    let remora = Remora::embedded(&service("user", &[X], &[&peer.address])).start();
    let seats = remora.page("/config")["connections"].as_u64().unwrap();
    if seats < ALL {
        assert!(may_open < 2 * ALL + 100, "{seats} seats where {may_open} files may be open");
        // past the harness, which keeps what a test that passes says
        let few = format!(
            "{seats} idle connections, not {ALL}: `ulimit -Hn` is {may_open}, a sidecar takes half\n"
        );
        std::io::stderr().write_all(few.as_bytes()).unwrap();
    }
    assert_eq!(remora.get("/user/x").status, 200);
    let (before, files) = (remora.memory(), remora.descriptors());
    let mut idle: Vec<_> = (1..seats).map(|_| remora.conn()).collect();
    for conn in &mut idle {
        // each was used once: what a call needed is given back
        assert_eq!(conn.request("GET", "/user/none", &[], b"").unwrap().status, 404);
    }
    let each = remora.memory().saturating_sub(before) / idle.len() as u64;
    println!("{} idle connections cost {each} B each", idle.len());
    assert!(each <= IDLE_COST, "{each} B for each of {}", idle.len());
    for _ in 0..20 {
        assert_eq!(remora.get("/user/x").status, 200, "the last seat is free again each time");
    }
    drop(idle);
    eventually("all are closed", SOON, || remora.descriptors() <= files + 1);
    assert_eq!(remora.get("/user/x").status, 200);
}

#[test]
fn who_finds_no_seat_is_served_when_one_is_free() {
    let peer = Peer::named("one");
    let remora = Remora::embedded(&service("user", &[X], &[&peer.address])).with("connections: 4").start();
    let mut seated: Vec<_> = (0..4).map(|_| remora.conn()).collect();
    for conn in &mut seated {
        assert_eq!(conn.request("GET", "/user/x", &[], b"").unwrap().status, 200);
    }
    let mut waits = remora.conn();
    waits.send(request("GET", "/user/x?waits", &[], b"")).unwrap();
    for conn in &mut seated {
        assert_eq!(conn.request("GET", "/user/x", &[], b"").unwrap().status, 200);
    }
    assert_ne!(peer.last().target, "/x?waits", "a fifth is served");
    let metrics = remora.admin("GET", "/metrics").text();
    for shown in ["remora_connections 4", "remora_connections_limit 4"] {
        assert!(metrics.contains(shown), "{shown} is missing in\n{metrics}");
    }
    assert!(remora.log().contains("all `connections` are taken"), "{}", remora.log());
    drop(seated.pop());
    assert_eq!(waits.answer().unwrap().status, 200);
}

#[test]
fn a_call_that_waits_for_its_answer_costs_little() {
    let open = (raise_limit().saturating_sub(100) / 2).min(2000);
    // connections that all come at once overflow the provider's queue, and some are taken a second later
    let data = "access: open, policy: { timeout: 600s, connect_timeout: 10s, concurrency: 100000 }";
    let remora = Remora::embedded(&service_with("user", data, &[X], &[&mute()])).start();
    assert_eq!(remora.get("/user/none").status, 404);
    let (before, files) = (remora.memory(), remora.descriptors());
    let mut calls: Vec<_> = (0..open).map(|_| remora.conn()).collect();
    for conn in &mut calls {
        conn.send(request("POST", "/user/x", &[("Content-Type", "application/json")], b"{}")).unwrap();
    }
    eventually("all wait for their answers", SOON, || in_flight(&remora) == open);
    let shown = format!("remora_calls_in_flight{{api=\"\",service=\"user\"}} {open}");
    let metrics = remora.admin("GET", "/metrics").text();
    assert!(metrics.contains(&shown), "{shown} is missing in\n{metrics}");
    let each = remora.memory().saturating_sub(before) / open;
    println!("{open} open calls cost {each} B each");
    assert!(each <= OPEN_COST, "{each} B for each of {open} open calls");
    drop(calls);
    all_closed(&remora, files + 1);
}

#[test]
fn a_body_that_never_ends_or_drips_is_waited_for_no_longer_than_the_call_may_take() {
    let peer = Peer::echo();
    let apis = [X, ("yar", "{ encoding: yar-json }")];
    let data = "access: open, policy: { timeout: 300ms }";
    let remora = Remora::embedded(&service_with("user", data, &apis, &[&peer.address])).start();
    assert_eq!(remora.get("/user/x").status, 200);
    let files = remora.descriptors();
    for target in ["/user/x", "/user/yar"] {
        for (framing, begins) in
            [("Content-Length: 1000000", "[1,"), ("Transfer-Encoding: chunked", "3\r\n[1,\r\n")]
        {
            let mut conn = remora.conn();
            conn.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{begins}")).unwrap();
            if target == "/user/x" && framing.starts_with("Content") {
                // as fast as it can, until nobody takes more: nothing of it puts the end off
                drip(conn.writer());
            }
            let answer = conn.answer().unwrap();
            assert_problem(&answer, "malformed-request", 400);
            assert!(answer.text().contains("within 300ms"), "{}", answer.text());
            conn.half_close();
            assert!(conn.is_closed(), "{target}: what follows is not known");
        }
    }
    all_closed(&remora, files);
}

#[test]
fn a_body_that_hardly_begins_is_waited_for_as_long_as_its_own_call_may_take() {
    let peer = Peer::echo();
    let x = "{ path: /x, encoding: json, policy: { timeout: 300ms } }";
    let data = "access: open, policy: { timeout: 200ms }";
    let entries =
        service_with("user", data, &[("x", x), ("yar", "{ encoding: yar-json }")], &[&peer.address]);
    // longer than this test waits for an answer
    let remora = Remora::embedded(&entries).with("defaults: { timeout: 1h }").start();
    let begins = |target: &str, framing: &str, begins: &[u8]| {
        let mut conn = remora.conn();
        conn.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).unwrap();
        conn.send(begins).unwrap();
        conn.answer().unwrap()
    };
    for (target, told) in [("/user/x", "within 300ms"), ("/user/yar", "within 200ms")] {
        for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
            // too little to tell Yar from HTTP
            let answer = begins(target, framing, b"2\r\n");
            assert_problem(&answer, "malformed-request", 400);
            assert!(answer.text().contains(told), "{}", answer.text());
        }
    }
    // the longest that any of its APIs has
    let seen = yar::json_payload(&begins("/user", "Content-Length: 1000", &yar::json_request("x", "[]")));
    assert!(seen["e"]["message"].as_str().unwrap().contains("within 300ms"), "{seen}");
}

#[test]
fn callers_that_read_nothing_are_given_up_and_hold_up_nobody() {
    let large = support::peer::answer(200, &[], &vec![b'x'; LARGE]);
    let big = Peer::raw(move |mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&large);
    });
    let quick = Peer::named("quick");
    let data = "access: open, policy: { idle_timeout: 500ms, max_body: 64MiB }";
    let entries =
        service_with("user", data, &[X], &[&big.address]) + &service("quick", &[X], &[&quick.address]);
    let remora = Remora::embedded(&entries).start();
    assert_eq!(remora.get("/quick/x").status, 200);
    let (before, files) = (remora.memory(), remora.descriptors());
    let mut deaf: Vec<_> = (0..32).map(|_| remora.conn()).collect();
    for conn in &mut deaf {
        conn.send(request("GET", "/user/x", &[], b"")).unwrap();
    }
    eventually("all are called", SOON, || big.connections() == deaf.len());
    assert_eq!(remora.get("/quick/x").status, 200);
    all_closed(&remora, files + 1);
    let grown = remora.peak_memory().saturating_sub(before);
    assert!(grown < deaf.len() as u64 * (512 << 10), "{} KiB more for 32 callers", grown >> 10);
    let told = "the caller took nothing of its answer for 500ms";
    eventually("it is logged", SOON, || remora.log().contains(told));
    for mut conn in deaf {
        assert!(conn.answer().is_err(), "a broken answer must not look whole");
    }
}

/// In this process, so that time can be made up: it jumps to what is waited for next.
mod made_up_time {
    use std::sync::Arc;
    use std::time::Duration;

    use remora::config::Bind;
    use remora::directory::Directory;
    use remora::gateway::{Means, Worker};
    use remora::listen::{self, Door, Seats, Terms};
    use remora::model::Policy;
    use remora::socket;
    use remora::telemetry::Telemetry;
    use remora::upstream::Budget;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use super::yar;

    /// For a head, and for the next one of a kept connection.
    const PATIENCE: Duration = Duration::from_secs(75);
    /// The first ten bytes, which tell Yar from HTTP, have as much time for themselves.
    const LONGEST: Duration = Duration::from_secs(80);

    /// A listener without a registry behind it: every call is refused at once.
    struct Scene {
        address: String,
        seats: Arc<Seats>,
        telemetry: Telemetry,
        _stop: watch::Sender<bool>,
        _serving: JoinHandle<()>,
    }

    impl Scene {
        fn new() -> Scene {
            let telemetry = Telemetry::new().unwrap();
            let (directory, _) = Directory::new(Policy::default(), None, telemetry.clone());
            let means = Means {
                host: "test".into(),
                host_caller: None,
                defaults: Policy::default(),
                buffers: Budget::new(1 << 20, 1),
                memory: Arc::default(),
                askers: Arc::default(),
                end: Arc::default(),
            };
            let worker = Worker::new(directory, telemetry.clone(), means);
            let bind = Bind::Tcp("127.0.0.1:0".parse().unwrap());
            let bound = socket::bind(&bind, 1).unwrap().pop().unwrap();
            let address = socket::address(&bound, &bind);
            let doors = vec![Door { socket: bound, terms: Arc::new(Terms::default()) }];
            let (stop, stopped) = watch::channel(false);
            let seats = Seats::new(1);
            let serving = tokio::spawn(listen::serve(worker, doors, seats.clone(), stopped));
            Scene { address, seats, telemetry, _stop: stop, _serving: serving }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(&self.address).await.unwrap()
        }

        /// How long it takes until the sidecar has closed, and the seat is free again.
        async fn until_closed(&self, mut stream: TcpStream) -> Duration {
            let since = Instant::now();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            drop(self.seats.take().await.unwrap());
            since.elapsed()
        }
    }

    /// Beginnings of heads: none of them is one.
    fn beginnings() -> Vec<Vec<u8>> {
        let text = ["", "G", "GET /user/x HTTP/1.1", "GET /user/x HTTP/1.1\r\nHost: a\r\nX"];
        let raw = yar::json_request("user.x", "[]")[..60].to_vec();
        text.iter().map(|text| text.as_bytes().to_vec()).chain([raw]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_is_given_up() {
        let scene = Scene::new();
        for begins in beginnings() {
            let mut stream = scene.connect().await;
            stream.write_all(&begins).await.unwrap();
            let took = scene.until_closed(stream).await;
            assert!(took >= PATIENCE && took < LONGEST, "{took:?}: {}", begins.escape_ascii());
        }
        let counted = "remora_calls_total{api=\"\",outcome=\"malformed-request\",service=\"\"} 2";
        let metrics = scene.telemetry.prometheus(std::time::Instant::now());
        assert!(metrics.contains(counted), "those that began in HTTP are counted:\n{metrics}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_given_up_as_soon() {
        let scene = Scene::new();
        for begins in beginnings() {
            let mut stream = scene.connect().await;
            stream.write_all(&begins).await.unwrap();
            let (since, mut drop_of) = (Instant::now(), begins);
            drop_of.truncate(1);
            if drop_of.is_empty() {
                drop_of.push(b'G');
            }
            // a minute of silence would be too long for whoever waits from byte to byte
            while since.elapsed() < 2 * LONGEST && stream.write_all(&drop_of).await.is_ok() {
                sleep(Duration::from_secs(10)).await;
            }
            let took = since.elapsed();
            assert!(took < LONGEST + Duration::from_secs(30), "{took:?}");
            scene.until_closed(stream).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_connection_may_be_idle_for_a_while_only() {
        let scene = Scene::new();
        let get = b"GET /user/x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        let mut kept = yar::json_request("user.x", "[]");
        proto_adapters::yar::mark_persistent(&mut kept);
        for request in [get, kept] {
            let mut stream = scene.connect().await;
            for _ in 0..3 {
                stream.write_all(&request).await.unwrap();
                assert!(stream.read(&mut [0; 16 << 10]).await.unwrap() > 0);
                sleep(PATIENCE - Duration::from_secs(5)).await;
            }
            let took = scene.until_closed(stream).await;
            assert!(took <= Duration::from_secs(6), "{took:?}");
        }
        let metrics = scene.telemetry.prometheus(std::time::Instant::now());
        assert!(!metrics.contains("malformed-request"), "who begins no request makes no bad one:\n{metrics}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_body_that_never_comes_holds_its_seat_for_seconds_only() {
        let scene = Scene::new();
        let mut stream = scene.connect().await;
        stream.write_all(b"PUT /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        let took = scene.until_closed(stream).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_seat_gets_the_one_of_a_caller_that_says_nothing() {
        let scene = Scene::new();
        let _silent = scene.connect().await;
        let mut next = scene.connect().await;
        next.write_all(b"GET /user/x HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let since = Instant::now();
        assert!(next.read(&mut [0; 1024]).await.unwrap() > 0);
        assert!(since.elapsed() >= PATIENCE && since.elapsed() < LONGEST, "{:?}", since.elapsed());
    }
}
