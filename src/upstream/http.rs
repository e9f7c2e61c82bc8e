//! Connections to peers: hyper's HTTP/1, one pool per worker, last used first.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::body::{Broken, Payload};
use super::{Answered, Failure, MAX_BUFFER, Outgoing, yar};
use crate::names::Address;

/// Idle connections kept per peer and worker.
pub(super) const MAX_IDLE: usize = 64;
/// Below what servers close idle connections after (Apache and Node 5 s, nginx 75 s).
pub(super) const IDLE: Duration = Duration::from_secs(4);

/// The peers' connections of one worker.
#[derive(Debug)]
pub struct Upstream {
    idle: Mutex<ahash::HashMap<Address, Vec<Idle>>>,
    connections: Mutex<JoinSet<()>>,
    pub(super) raw: yar::Pool,
    pub(super) myself: Weak<Upstream>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

#[derive(Debug)]
struct Connection {
    send: SendRequest<Payload>,
    /// Bytes received on it so far.
    received: Arc<AtomicU64>,
}

/// A connection while an answer is read from it; dropped before the answer's end, it closes.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Connection,
    peer: Address,
    upstream: Weak<Upstream>,
    /// False where the answer began before the request had left: the peer may never read the rest.
    reusable: bool,
}

/// How long one attempt may take in its parts.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To connect.
    pub connect: Duration,
    /// Between bytes after the answer's head.
    pub idle: Duration,
    /// Whether no kept connection is good enough.
    pub afresh: bool,
}

impl Upstream {
    /// No connections yet.
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            idle: Mutex::default(),
            connections: Mutex::default(),
            raw: yar::Pool::default(),
            myself: myself.clone(),
        })
    }

    /// See [`Upstream::send`].
    pub(super) async fn send_http(
        &self,
        peer: &Address,
        mut request: Box<Request<Payload>>,
        patience: Patience,
    ) -> Result<Answered, Failure> {
        while let Some(connection) = (!patience.afresh).then(|| self.take_idle(peer)).flatten() {
            match self.exchange(peer, connection, request, patience.idle).await {
                Ok(answered) => return Ok(answered),
                Err(Lost { request: Some(unsent), .. }) => request = unsent,
                Err(lost) => {
                    let otherwise = if lost.silent { Failure::Stale } else { Failure::Cut };
                    return Err(lost.failure().unwrap_or(otherwise));
                }
            }
        }
        // boxed: most calls find a connection
        Box::pin(self.send_afresh(peer, request, patience)).await
    }

    async fn send_afresh(
        &self,
        peer: &Address,
        request: Box<Request<Payload>>,
        patience: Patience,
    ) -> Result<Answered, Failure> {
        let connection = match self.connect(peer, patience.connect).await {
            Ok(connection) => connection,
            Err(reason) => return Err(unreached(reason, request)),
        };
        match self.exchange(peer, connection, request, patience.idle).await {
            Ok(answered) => Ok(answered),
            Err(Lost { request: Some(request), .. }) => {
                Err(unreached("the connection closed at once".into(), request))
            }
            Err(lost) => Err(lost.failure().unwrap_or(Failure::Cut)),
        }
    }

    /// Closes connections that were idle for too long; call it every few seconds.
    pub fn sweep(&self, now: Instant) {
        let mut idle = lock(&self.idle);
        idle.retain(|_, kept| {
            kept.retain(|one| one.is_good(now));
            !kept.is_empty()
        });
        drop(idle);
        self.raw.sweep(now);
        let mut connections = lock(&self.connections);
        while connections.try_join_next().is_some() {}
    }

    async fn exchange(
        &self,
        peer: &Address,
        mut connection: Connection,
        request: Box<Request<Payload>>,
        idle: Duration,
    ) -> Result<Answered, Lost> {
        let progress = request.body().progress();
        let received = connection.received.load(Relaxed);
        match connection.send.try_send_request(*request).await {
            Ok(answer) => {
                let reusable = progress.is_none_or(|progress| progress.is_whole());
                let upstream = self.myself.clone();
                let lease = Lease { connection, peer: peer.clone(), upstream, reusable };
                Ok(answer.map(|body: Incoming| Payload::answer(body, idle, lease)))
            }
            Err(mut error) => {
                let request = error.take_message().map(Box::new);
                let not_http = error.error().is_parse().then(|| error.error().to_string());
                let silent = connection.received.load(Relaxed) == received;
                Err(Lost { request, silent, not_http, trouble: progress.and_then(|p| p.trouble()) })
            }
        }
    }

    async fn connect(&self, peer: &Address, patience: Duration) -> Result<Connection, String> {
        let stream = reach(peer, patience).await?;
        let received = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Metered { stream, received: received.clone() });
        let (send, driver) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .writev(false)
            .handshake(io)
            .await
            .map_err(|_| "the connection closed at once".to_owned())?;
        lock(&self.connections).spawn(async {
            // how it ended is told to whoever waits for an answer on it
            let _ = driver.await;
        });
        Ok(Connection { send, received })
    }

    fn take_idle(&self, peer: &Address) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        let kept = idle.get_mut(peer)?;
        // one whose upload still goes on after an early answer is busy, not bad
        while let Some(newest) = kept.iter().rposition(|one| !one.is_busy()) {
            let one = kept.remove(newest);
            if one.is_good(Instant::now()) {
                return Some(one.connection);
            }
        }
        None
    }

    fn keep(&self, peer: Address, connection: Connection) {
        if connection.send.is_closed() {
            return;
        }
        let mut idle = lock(&self.idle);
        let kept = idle.entry(peer).or_default();
        if kept.len() >= MAX_IDLE {
            kept.remove(0);
        }
        kept.push(Idle { connection, since: Instant::now() });
    }
}

impl Idle {
    fn is_good(&self, now: Instant) -> bool {
        !self.connection.send.is_closed() && now.duration_since(self.since) < IDLE
    }

    fn is_busy(&self) -> bool {
        !self.connection.send.is_ready() && !self.connection.send.is_closed()
    }
}

impl Lease {
    /// The answer was read to its end: the connection can carry another.
    pub(super) fn give_back(self) {
        if let Some(upstream) = self.upstream.upgrade().filter(|_| self.reusable) {
            upstream.keep(self.peer, self.connection);
        }
    }
}

/// A request that got no answer.
struct Lost {
    /// The request, where nothing of it was sent.
    request: Option<Box<Request<Payload>>>,
    /// Not one byte came back.
    silent: bool,
    /// Why what came back is not HTTP, where it is not.
    not_http: Option<String>,
    trouble: Option<Broken>,
}

impl Lost {
    /// A failure that is nobody's but the caller's or the peer's own; `None` where the connection just ended.
    fn failure(self) -> Option<Failure> {
        match self.trouble {
            Some(broken) => Some(Failure::Body(broken)),
            None => self.not_http.map(Failure::NotHttp),
        }
    }
}

fn unreached(reason: String, request: Box<Request<Payload>>) -> Failure {
    Failure::Unreached { reason, request: Outgoing::Http(request) }
}

/// Connects; fails with what happened, without addresses.
pub(super) async fn reach(peer: &Address, patience: Duration) -> Result<TcpStream, String> {
    let stream = match tokio::time::timeout(patience, TcpStream::connect(peer.as_str())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(plain(&error)),
        Err(_) => return Err(format!("no connection within {}ms", patience.as_millis())),
    };
    // a refused option costs latency, not the call
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn plain(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::ConnectionRefused {
        "connection refused".into()
    } else if matches!(kind, io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) {
        "no route to it".into()
    } else {
        error.to_string()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that counts what it receives: a connection that answered a byte was not just stale.
struct Metered {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.received.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
