//! CPU per call of one worker, calls per second and latency, on loopback with an in-process provider.
//!
//! `cargo bench --bench call_path`; `-- 20000` sets the calls per load; a further word chooses loads by
//! their names. CPU is the worker thread's own run time, so callers and provider do not count. The access log is off, as
//! nothing in this process would take its lines; `guard` has a call with it. Loads take turns; shown is the turn of the
//! least CPU, and its ratio to 1 KB of JSON that passes through.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a bench stops where it fails")]

mod wire;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use remora::app::App;
use remora::config;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 16;
/// Turns of every load.
const TURNS: usize = 5;
/// What the others are compared with.
const PASS_THROUGH: &str = "1 KB JSON → json, echo";

struct Load {
    name: &'static str,
    request: Vec<u8>,
    keep: bool,
}

impl Load {
    fn new(name: &'static str, request: Vec<u8>) -> Load {
        Load { name, request, keep: true }
    }
}

fn main() {
    let calls = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(20_000);
    let provider = wire::provider();
    let dir = tempfile::tempdir().unwrap();
    let registry = dir.path().join("registry.yaml");
    std::fs::write(&registry, registry_yaml(provider)).unwrap();
    let env = [
        ("REMORA_LISTEN", "[\"127.0.0.1:0\"]".to_owned()),
        ("REMORA_ADMIN", "127.0.0.1:0".to_owned()),
        ("REMORA_WORKERS", "1".to_owned()),
        ("REMORA_ACCESS_LOG", "off".to_owned()),
        ("REMORA_REGISTRY__EMBEDDED__FILE", registry.display().to_string()),
    ];
    let config = config::load(None, env.map(|(name, value)| (name.to_owned(), value))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(App::start(config)).unwrap();
    let address = app.listening()[0].parse().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let load = std::thread::spawn(move || {
        measure(address, calls);
        let _ = stop.send(());
    });
    runtime.block_on(async {
        let _ = stopped.await;
        app.shut_down().await;
    });
    load.join().unwrap();
}

fn measure(address: SocketAddr, calls: usize) {
    let words =
        std::env::args().skip(1).filter(|word| !word.starts_with('-') && word.parse::<usize>().is_err());
    let words: Vec<_> = words.collect();
    let mut loads = loads();
    loads.retain(|load| load.name == PASS_THROUGH || words.iter().all(|word| load.name.contains(word)));
    let mut best: Vec<Option<Figures>> = loads.iter().map(|_| None).collect();
    for _ in 0..TURNS {
        for (load, best) in loads.iter().zip(&mut best) {
            let turn = run(load, address, calls / TURNS);
            if best.as_ref().is_none_or(|best| turn.cpu_us < best.cpu_us) {
                *best = Some(turn);
            }
        }
    }
    let base = loads.iter().position(|load| load.name == PASS_THROUGH).unwrap();
    let base = best[base].as_ref().unwrap().cpu_us;
    println!("{:34} {:>8} {:>6} {:>9} {:>8} {:>8}", "load", "cpu µs", "ratio", "calls/s", "p50 µs", "p99 µs");
    for (load, best) in loads.iter().zip(best) {
        best.unwrap().print(load.name, base);
    }
}

fn loads() -> Vec<Load> {
    let post = |path: &str, body: &[u8]| wire::request("POST", path, "", body);
    let (json, yar) = (wire::kilobyte(), wire::kilobyte_of_yar());
    vec![
        Load::new("GET, 200 B answer", wire::request("GET", "/json/get", "", b"")),
        Load::new("POST 300 B, 200 B answer", post("/json/get", &[b'p'; 300])),
        Load::new(PASS_THROUGH, post("/json/echo", json.as_bytes())),
        Load::new("1 KB Yar → yar-msgpack, echo", post("/yar", &yar)),
        Load::new("1 KB JSON → yar-msgpack, echo", post("/yar/echo", json.as_bytes())),
        Load::new("1 KB Yar → json, echo", post("/json", &yar)),
        Load {
            name: "GET, new connection per call",
            request: wire::request("GET", "/json/get", "Connection: close\r\n", b""),
            keep: false,
        },
    ]
}

fn registry_yaml(provider: SocketAddr) -> String {
    format!(
        "/api/json/get: {{ path: /get }}\n/api/json/echo: {{ path: /echo }}\n/address/json/{provider}: {{}}\n\
         /api/yar/echo: {{ encoding: yar-msgpack }}\n/address/yar/{provider}: {{}}\n"
    )
}

struct Figures {
    cpu_us: f64,
    per_second: f64,
    took: Vec<Duration>,
}

impl Figures {
    fn print(mut self, name: &str, base: f64) {
        self.took.sort_unstable();
        let at = |share: f64| self.took[((self.took.len() - 1) as f64 * share) as usize].as_micros();
        println!(
            "{name:34} {:>8.2} {:>6.2} {:>9.0} {:>8} {:>8}",
            self.cpu_us,
            self.cpu_us / base,
            self.per_second,
            at(0.5),
            at(0.99)
        );
    }
}

/// With all callers on one thread.
fn run(load: &Load, address: SocketAddr, calls: usize) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let worker = || wire::run_time(std::process::id(), "worker-");
    let (cpu, start) = (worker(), Instant::now());
    let took = runtime.block_on(async {
        let mut callers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            callers.spawn(caller(load.request.clone(), load.keep, address, calls / CONNECTIONS));
        }
        callers.join_all().await.concat()
    });
    let spent = (worker() - cpu).as_secs_f64();
    let per_second = took.len() as f64 / start.elapsed().as_secs_f64();
    Figures { cpu_us: spent * 1e6 / took.len() as f64, per_second, took }
}

async fn caller(request: Vec<u8>, keep: bool, address: SocketAddr, calls: usize) -> Vec<Duration> {
    let (mut kept, mut bytes) = (None, Vec::new());
    let mut took = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                stream
            }
        };
        bytes.clear();
        stream.write_all(&request).await.unwrap();
        wire::read_message(&mut stream, &mut bytes).await.unwrap().expect("an answer");
        assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
        took.push(start.elapsed());
        kept = Some(stream).filter(|_| keep);
    }
    took
}
