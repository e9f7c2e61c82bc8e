//! CPU per call of one worker, calls per second and latency, on loopback with an in-process provider.
//!
//! `cargo bench --bench call_path`; `-- 20000` sets the calls per load; a further word chooses loads by
//! their names. CPU is the worker thread's own
//! run time (`/proc/self/task/*/schedstat`), so load generator and provider do not count. Loads take
//! turns; shown is the turn of the least CPU, and its ratio to 1 KB of JSON that passes through.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a bench stops where it fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use proto_adapters::yar::{self, HEAD, Packager};
use proto_adapters::{Options, Wire, transcode};
use remora::app::App;
use remora::config;

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
    let (json, echo, yar) = (provider(json_answer), provider(json_echo), provider(yar_answer));
    let dir = tempfile::tempdir().unwrap();
    let registry = dir.path().join("registry.yaml");
    std::fs::write(&registry, registry_yaml(json, echo, yar)).unwrap();
    let env = [
        ("REMORA_LISTEN", "[\"127.0.0.1:0\"]".to_owned()),
        ("REMORA_ADMIN", "127.0.0.1:0".to_owned()),
        ("REMORA_WORKERS", "1".to_owned()),
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
    let post = |path: &str, body: &str, more: &str| {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        (head + body).into_bytes()
    };
    // what an API answers: some fields and a list of small objects, 1 KB in all
    let item = |n: u32| format!("{{\"id\":{n},\"name\":\"product {n}\",\"price\":{n}.25,\"stock\":null}}");
    let items: Vec<_> = (101..118).map(item).collect();
    let args = format!("[{{\"user\":\"Grüße\",\"ok\":true,\"items\":[{}]}}]", items.join(","));
    let message = |service: &str| {
        let params = transcode(Wire::Json, Wire::Msgpack, args.as_bytes(), "$", Options::default()).unwrap();
        let body = yar::encode_request(Packager::Msgpack, 7, b"", b"", "echo", &params).unwrap();
        let head =
            format!("POST /{service} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.into_bytes(), body].concat()
    };
    vec![
        Load::new("GET, 200 B answer", b"GET /json/get HTTP/1.1\r\nHost: bench\r\n\r\n".to_vec()),
        Load::new("POST 300 B, 200 B answer", post("/json/get", &"p".repeat(300), "")),
        Load::new(PASS_THROUGH, post("/echo/echo", &args, "")),
        Load::new("1 KB Yar → yar-msgpack, echo", message("yar")),
        Load::new("1 KB JSON → yar-msgpack, echo", post("/yar/echo", &args, "")),
        Load::new("1 KB Yar → json, echo", message("echo")),
        Load {
            name: "GET, new connection per call",
            request: b"GET /json/get HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".to_vec(),
            keep: false,
        },
    ]
}

fn registry_yaml(json: SocketAddr, echo: SocketAddr, yar: SocketAddr) -> String {
    format!(
        "/service/json: {{}}\n/api/json/get: {{ path: /get }}\n/address/json/{json}: {{}}\n\
         /service/echo: {{}}\n/api/echo/echo: {{ path: /echo }}\n/address/echo/{echo}: {{}}\n\
         /service/yar: {{}}\n/api/yar/echo: {{ encoding: yar-msgpack }}\n/address/yar/{yar}: {{}}\n"
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

fn run(load: &Load, address: SocketAddr, calls: usize) -> Figures {
    let (cpu, start) = (worker_cpu(), Instant::now());
    let each = calls / CONNECTIONS;
    let took = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| caller(load, address, each))).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
    });
    let spent = (worker_cpu() - cpu).as_secs_f64();
    let per_second = took.len() as f64 / start.elapsed().as_secs_f64();
    Figures { cpu_us: spent * 1e6 / took.len() as f64, per_second, took }
}

fn caller(load: &Load, address: SocketAddr, calls: usize) -> Vec<Duration> {
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    let mut stream = connect();
    let mut took = Vec::with_capacity(calls);
    for call in 0..calls {
        let start = Instant::now();
        if !load.keep && call > 0 {
            stream = connect();
        }
        stream.write_all(&load.request).unwrap();
        let (head, _) = read_message(&mut stream).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        took.push(start.elapsed());
    }
    took
}

/// One HTTP message with a Content-Length: its head and its body.
fn read_message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
    loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while bytes.len() < end + 4 + length {
            let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&chunk[..read]);
        }
        return Some((head.replace("http/1.1", "HTTP/1.1"), bytes.split_off(end + 4)));
    }
}

/// A provider that keeps connections open; a thread per connection.
fn provider(answer: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                stream.set_nodelay(true).unwrap();
                while let Some((_, body)) = read_message(&mut stream) {
                    if stream.write_all(&answer(&body)).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn json_answer(_: &[u8]) -> Vec<u8> {
    let body = format!("{{\"name\":\"{}\"}}", "n".repeat(188));
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn json_echo(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Answers with the first parameter.
fn yar_answer(message: &[u8]) -> Vec<u8> {
    let header = yar::Header::parse(message).unwrap();
    let request = yar::Request::read(Packager::Msgpack, &message[HEAD..]).unwrap();
    let params = &message[HEAD..][request.params];
    let answer = yar::encode_result(Packager::Msgpack, header.id, params, None);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
    [head.into_bytes(), answer].concat()
}

/// Run time of the worker threads so far.
fn worker_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of_worker = |task: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.starts_with("worker-")
    };
    let run_time = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.filter(of_worker).map(run_time).sum())
}
