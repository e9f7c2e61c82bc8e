//! Loads, and what a slice of one costs a contender.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::contender::{Contender, Kind};
use super::wire::{self, read_message};

/// What callers do.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    request: Vec<u8>,
    connections: usize,
    /// Whether a connection carries more than one call.
    keep: bool,
    unix: bool,
    /// Whether the provider speaks otherwise than the caller, which nobody else does: measured beside [`PASSED_ON`].
    pub(crate) is_adapted: bool,
    /// CPU per call of Pingora 0.9 and of linkerd2-proxy ÷ HAProxy's, as measured on another machine, plain proxying.
    pub(crate) by_figure: Option<[f64; 2]>,
}

/// The same kilobyte of JSON, to a provider that speaks as its caller does.
pub(crate) const PASSED_ON: &str = "keep-alive 16, POST 1 KB JSON, echo";

/// In the order of [`Load::by_figure`].
pub(crate) const BY_FIGURE: [&str; 2] = ["Pingora 0.9", "linkerd2-proxy"];

/// One load at one contender, once.
pub(crate) struct Slice {
    /// Of the contender, in µs per call.
    pub(crate) cpu: f64,
    pub(crate) per_second: f64,
    pub(crate) took: Vec<Duration>,
    pub(crate) failed: usize,
}

pub(crate) fn all() -> Vec<Load> {
    let get = |path: &str, more: &str| wire::request("GET", path, &(wire::keyed() + more), b"");
    let post = wire::request("POST", "/bench/small", &wire::keyed(), &[b'1'; 300]);
    let (small, large) = (get("/bench/small", ""), get("/bench/large", ""));
    let once = get("/bench/small", "Connection: close\r\n");
    let load = |name, request: &Vec<u8>, connections, by_figure| Load {
        name,
        request: request.clone(),
        connections,
        keep: true,
        unix: false,
        is_adapted: false,
        by_figure,
    };
    let json = wire::kilobyte();
    let echo = |path| wire::request("POST", path, &wire::keyed(), json.as_bytes());
    vec![
        load("keep-alive 16, GET 200 B", &small, 16, Some([1.79, 2.17])),
        load("keep-alive 16, POST 300 B", &post, 16, Some([2.01, 2.22])),
        load("keep-alive 16, GET 8 KB", &large, 16, Some([1.92, 2.09])),
        load("keep-alive 64, GET 200 B", &small, 64, Some([2.10, 2.62])),
        load("keep-alive 64, POST 300 B", &post, 64, None),
        load("keep-alive 64, GET 8 KB", &large, 64, None),
        Load { keep: false, ..load("new connection per call", &once, 16, Some([1.67, 2.11])) },
        Load { unix: true, keep: false, ..load("new unix connection per call", &once, 16, None) },
        load(PASSED_ON, &echo("/bench/echo"), 16, None),
        Load {
            is_adapted: true,
            ..load("keep-alive 16, POST 1 KB JSON to Yar-msgpack, echo", &echo("/yar/echo"), 16, None)
        },
    ]
}

/// Makes `calls` calls and looks what they cost; `None`: there is no such way to it.
pub(crate) fn run(load: &Load, contender: &Contender, calls: usize) -> Option<Slice> {
    // the provider has no unix socket
    if load.unix && contender.kind == Kind::Direct || load.is_adapted && contender.kind != Kind::Remora {
        return None;
    }
    let (cpu, start) = (contender.cpu(), Instant::now());
    let (took, failed) = make(load, contender, calls);
    Some(Slice::of(took, failed, start.elapsed(), contender.cpu() - cpu))
}

impl Slice {
    pub(crate) fn of(took: Vec<Duration>, failed: usize, elapsed: Duration, cpu: Duration) -> Slice {
        let per_second = took.len() as f64 / elapsed.as_secs_f64();
        let cpu = cpu.as_secs_f64() * 1e6 / took.len().max(1) as f64;
        Slice { cpu, per_second, took, failed }
    }
}

/// Makes `calls` calls on this thread: how long each took, and how many failed.
pub(crate) fn make(load: &Load, contender: &Contender, calls: usize) -> (Vec<Duration>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let each = (calls / load.connections).max(1);
    runtime.block_on(async {
        let callers = (0..load.connections).map(|_| async {
            if load.unix {
                caller(load, each, || UnixStream::connect(Path::new(&contender.unix))).await
            } else {
                caller(load, each, || connect(contender.port)).await
            }
        });
        let (mut took, mut failed) = (Vec::with_capacity(calls), 0);
        for (times, bad) in join_all(callers).await {
            took.extend(times);
            failed += bad;
        }
        (took, failed)
    })
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn caller<S: AsyncRead + AsyncWrite + Unpin>(
    load: &Load,
    calls: usize,
    connect: impl AsyncFn() -> io::Result<S>,
) -> (Vec<Duration>, usize) {
    let (mut took, mut failed, mut stream) = (Vec::with_capacity(calls), 0, None);
    let mut bytes = Vec::with_capacity(16 << 10);
    for _ in 0..calls {
        let start = Instant::now();
        let mut open = match stream.take().filter(|_| load.keep) {
            Some(open) => open,
            None => match connect().await {
                Ok(open) => open,
                Err(_) => {
                    failed += 1;
                    continue;
                }
            },
        };
        bytes.clear();
        let sent = open.write_all(&load.request).await;
        let read = read_message(&mut open, &mut bytes).await;
        if sent.is_ok() && matches!(read, Ok(Some(_))) && bytes.starts_with(b"HTTP/1.1 200") {
            took.push(start.elapsed());
            stream = Some(open);
        } else {
            failed += 1;
        }
    }
    (took, failed)
}

async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(done) = future.as_mut().poll(context) {
                *output = Some(done);
            }
        }
        match running.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}
