//! Loads, and what a slice of one costs a contender.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::contender::Contender;
use super::wire::read_message;

/// What callers do.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    request: Vec<u8>,
    connections: usize,
    /// Whether a connection carries more than one call.
    keep: bool,
    unix: bool,
}

/// One load at one contender, once.
pub(crate) struct Slice {
    /// Of the contender, in µs per call.
    pub(crate) cpu: f64,
    pub(crate) per_second: f64,
    pub(crate) took: Vec<Duration>,
    pub(crate) failed: usize,
}

pub(crate) fn all() -> Vec<Load> {
    let get = |path: &str, more: &str| {
        let who = "X-Caller: web\r\nX-Api-Key: a-key-of-the-bench\r\n";
        let agent = "User-Agent: GuzzleHttp/7\r\nAccept: application/json\r\n";
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{agent}{who}{more}\r\n").into_bytes()
    };
    let mut post = get("/bench/small", "Content-Type: application/json\r\nContent-Length: 300\r\n");
    post.splice(..3, *b"POST");
    post.extend(std::iter::repeat_n(b'1', 300));
    let (small, large) = (get("/bench/small", ""), get("/bench/large", ""));
    let load = |name, request: &Vec<u8>, connections| Load {
        name,
        request: request.clone(),
        connections,
        keep: true,
        unix: false,
    };
    let once = get("/bench/small", "Connection: close\r\n");
    vec![
        load("keep-alive 16, GET 200 B", &small, 16),
        load("keep-alive 64, GET 200 B", &small, 64),
        load("keep-alive 16, POST 300 B", &post, 16),
        load("keep-alive 16, GET 8 KB", &large, 16),
        Load { keep: false, ..load("new connection per call", &once, 16) },
        Load { unix: true, keep: false, ..load("new unix connection per call", &once, 16) },
    ]
}

/// Makes `calls` calls and looks what they cost.
pub(crate) fn run(load: &Load, contender: &Contender, calls: usize) -> Slice {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cpu, start) = (contender.cpu(), Instant::now());
    let each = (calls / load.connections).max(1);
    let (took, failed) = runtime.block_on(async {
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
    });
    let per_second = took.len() as f64 / start.elapsed().as_secs_f64();
    let cpu = (contender.cpu() - cpu).as_secs_f64() * 1e6 / took.len().max(1) as f64;
    Slice { cpu, per_second, took, failed }
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
