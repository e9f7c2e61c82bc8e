//! Instructions and allocations per call, counted by valgrind: the same on every machine, however busy.
//!
//! `cargo bench --bench guard` fails where a call costs more than `benches/guard/bounds` says; those bounds only
//! go down. A run of many calls less a run of few leaves the calls alone. `benches/guard/setup` installs valgrind.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench stops where it fails"
)]

#[path = "../wire/mod.rs"]
mod wire;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Calls of the short run, and those that the long one has beside.
const FEW: u64 = 50;
const MORE: u64 = 500;

/// What is counted.
#[derive(Debug, Clone, Copy)]
enum Tool {
    Instructions,
    Allocations,
}

fn main() {
    let provider = wire::provider();
    let bounds = fs::read_to_string("benches/guard/bounds").unwrap();
    let mut over = 0;
    println!("{:28} {:>14} {:>8} {:>14} {:>8}", "call", "instructions", "bound", "allocations", "bound");
    for line in bounds.lines().filter(|line| !line.starts_with('#')) {
        let [path, instructions, allocations] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("\"{line}\" is not: path instructions allocations");
        };
        let bound = [instructions, allocations].map(|bound| bound.parse::<f64>().unwrap());
        let counted = [Tool::Instructions, Tool::Allocations].map(|tool| per_call(tool, path, provider));
        println!("{path:28} {:>14.0} {:>8} {:>14.1} {:>8}", counted[0], bound[0], counted[1], bound[1]);
        over += usize::from(counted[0] > bound[0]) + usize::from(counted[1] > bound[1]);
    }
    assert!(over == 0, "{over} counts are over their bounds in benches/guard/bounds");
}

fn per_call(tool: Tool, path: &str, provider: SocketAddr) -> f64 {
    let [few, many] = [FEW, FEW + MORE].map(|calls| count(tool, path, provider, calls));
    (many - few) as f64 / MORE as f64
}

/// What a sidecar's whole life costs in which it carries so many calls.
fn count(tool: Tool, path: &str, provider: SocketAddr, calls: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let registry = dir.path().join("registry.yaml");
    fs::write(
        &registry,
        format!(
            "/service/bench: {{}}\n/api/bench/small: {{ path: /small }}\n/api/bench/large: {{ path: /large }}\n\
             /address/bench/{provider}: {{}}\n"
        ),
    )
    .unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = dir.path().join("remora.yaml");
    fs::write(
        &config,
        format!(
            "registry: {{ embedded: {{ file: {} }} }}\nlisten: [ 127.0.0.1:{port} ]\nadmin: 127.0.0.1:0\nworkers: 1\n",
            registry.display()
        ),
    )
    .unwrap();
    let (log, out) = (dir.path().join("log"), dir.path().join("out"));
    let mut command = Command::new("valgrind");
    command.arg(format!("--log-file={}", log.display()));
    match tool {
        Tool::Instructions => {
            command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display()))
        }
        Tool::Allocations => {
            command.arg("--tool=memcheck").arg("--leak-check=no").arg("--undef-value-errors=no")
        }
    };
    command.arg(env!("CARGO_BIN_EXE_remora")).args(["run", "--config"]).arg(&config);
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("valgrind: apt install valgrind");
    call(port, path, calls, &mut child);
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success(), "remora did not end well");
    read(tool, &log, &out)
}

fn call(port: u16, path: &str, calls: u64, child: &mut Child) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = Instant::now() + Duration::from_secs(120);
    runtime.block_on(async {
        let mut stream = loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                break stream;
            }
            assert!(
                Instant::now() < patience && child.try_wait().unwrap().is_none(),
                "remora does not listen"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let mut bytes = Vec::new();
        for _ in 0..calls {
            bytes.clear();
            stream.write_all(request.as_bytes()).await.unwrap();
            assert!(wire::read_message(&mut stream, &mut bytes).await.unwrap().is_some());
            assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
        }
    });
}

fn read(tool: Tool, log: &Path, out: &Path) -> u64 {
    let (file, before, after) = match tool {
        Tool::Instructions => (out, "totals: ", "\n"),
        Tool::Allocations => (log, "total heap usage: ", " allocs"),
    };
    let text = fs::read_to_string(file).unwrap();
    let found = text.split_once(before).and_then(|(_, rest)| rest.split(after).next());
    found.unwrap_or_else(|| panic!("no \"{before}\" in {text}")).trim().replace(',', "").parse().unwrap()
}
