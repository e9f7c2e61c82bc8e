//! The calls that are counted.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::callgrind::{Counted, Counts, PATIENCE};
use super::wire;

/// Calls that are counted, and those before them.
const CALLS: usize = 500;
const FIRST: usize = 50;
/// What others are compared with, and what is compared with it.
pub(crate) const PLAIN: &str = "get-200";
pub(crate) const UNSAMPLED: &str = "get-200-unsampled";

/// A call.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    request: fn() -> Vec<u8>,
    /// Whether a connection carries all of them.
    keep: bool,
}

/// What a sidecar is set up with, and what is asked of it.
pub(crate) struct Scene {
    more: &'static str,
    rows: &'static [Row],
}

impl Row {
    const fn kept(name: &'static str, request: fn() -> Vec<u8>) -> Row {
        Row { name, request, keep: true }
    }
}

pub(crate) const SCENES: [Scene; 3] = [
    Scene {
        more: "access_log: off",
        rows: &[
            Row::kept(PLAIN, || wire::request("GET", "/open/small", "", b"")),
            Row::kept("get-8k", || wire::request("GET", "/open/large", "", b"")),
            Row::kept("get-200-key-quota", || wire::request("GET", "/locked/small", &wire::keyed(), b"")),
            Row::kept("post-300", || wire::request("POST", "/open/small", "", &[b'1'; 300])),
            Row::kept("json-to-yar-1k", || {
                wire::request("POST", "/yar/echo", "", wire::kilobyte().as_bytes())
            }),
            Row {
                name: "get-200-new-conn",
                request: || wire::request("GET", "/open/small", "Connection: close\r\n", b""),
                keep: false,
            },
        ],
    },
    Scene {
        more: "access_log: all",
        rows: &[Row::kept("get-200-logged", || wire::request("GET", "/open/small", "", b""))],
    },
    Scene {
        // nobody takes what it sends; a worker does not notice
        more: "access_log: off\notlp: { endpoint: \"http://127.0.0.1:9\", traces: { sample: \"0%\" } }",
        rows: &[Row::kept(UNSAMPLED, || wire::request("GET", "/open/small", "", b""))],
    },
];

/// What the worker of one sidecar does for each of them.
pub(crate) fn count(scene: &'static Scene, provider: SocketAddr) -> Vec<(&'static Row, Counts)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let config = configure(&dir, port, scene, provider);
    let mut sidecar = Counted::start(env!("CARGO_BIN_EXE_remora"), &config);
    let patience = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < patience && !sidecar.has_ended(), "remora does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let row = |row: &'static Row| {
        let mut caller = Caller { port, runtime: &runtime, stream: None, row, request: (row.request)() };
        caller.call(FIRST);
        (row, sidecar.during(|| caller.call(CALLS)).per_call(CALLS))
    };
    scene.rows.iter().map(row).collect()
}

fn configure(dir: &TempDir, port: u16, scene: &Scene, provider: SocketAddr) -> std::path::PathBuf {
    let registry = dir.path().join("registry.yaml");
    let mut text = format!(
        "/service/locked: {{ access: key }}\n/access/locked/web: {}\n/api/yar/echo: {{ encoding: yar-msgpack }}\n",
        wire::access()
    );
    for service in ["open", "locked"] {
        text +=
            &format!("/api/{service}/small: {{ path: /small }}\n/api/{service}/large: {{ path: /large }}\n");
    }
    for service in ["open", "locked", "yar"] {
        text += &format!("/address/{service}/{provider}: {{}}\n");
    }
    fs::write(&registry, text).unwrap();
    let config = dir.path().join("remora.yaml");
    let text = format!(
        "registry: {{ embedded: {{ file: {} }} }}\nlisten: [ 127.0.0.1:{port} ]\nadmin: 127.0.0.1:0\nworkers: 1\n{}\n",
        Path::new(&registry).display(),
        scene.more
    );
    fs::write(&config, text).unwrap();
    config
}

struct Caller<'r> {
    port: u16,
    runtime: &'r Runtime,
    stream: Option<TcpStream>,
    row: &'static Row,
    request: Vec<u8>,
}

impl Caller<'_> {
    fn call(&mut self, times: usize) {
        let runtime = self.runtime;
        runtime.block_on(async {
            let mut bytes = Vec::new();
            for _ in 0..times {
                bytes.clear();
                let mut stream = match self.stream.take() {
                    Some(stream) => stream,
                    None => TcpStream::connect(("127.0.0.1", self.port)).await.unwrap(),
                };
                stream.write_all(&self.request).await.unwrap();
                let read = wire::read_message(&mut stream, &mut bytes).await;
                assert!(
                    matches!(read, Ok(Some(_))),
                    "{}: {read:?} behind {} bytes",
                    self.row.name,
                    bytes.len()
                );
                assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
                if self.row.keep {
                    self.stream = Some(stream);
                } else {
                    // to the end: all of the connection's work belongs to the call
                    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
                }
            }
        });
    }
}
