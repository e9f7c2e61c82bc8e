//! Doors for callers: the accept loop, what a connection speaks, the drain.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::gateway::Worker;
use crate::names::{CallerName, ServiceName};
use crate::socket::{Bound, Listener, Stream, pause_after, stopped};

mod caller;
mod connection;
pub mod http;
mod refusal;
mod seats;
pub mod yar;

pub use seats::Seats;

/// For a request's head; also how long a kept connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// Bytes that are read at once before it is known what a connection speaks: most whole heads, and no more than the
/// allocator has at hand.
const FIRST_READ: usize = 1024;
/// Bytes that tell Yar from HTTP.
const TELLING: usize = 10;
/// After `stop`, for requests that are on their way on a connection.
const LAST_REQUESTS: Duration = Duration::from_millis(20);

/// How long and how much of a rejected body is read away after the answer, so that the answer arrives.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 << 20;
/// The same while the process ends.
const LAST_LINGER: Duration = Duration::from_millis(100);

/// A socket that callers come in by.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub socket: Bound,
    /// What it knows beside.
    pub terms: Arc<Terms>,
}

/// What a listener knows of the calls that come in by it.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Meant by raw Yar calls whose method names no service.
    pub service: Option<ServiceName>,
    /// Who a user of this host is where a call says nothing itself, by user id.
    pub callers: BTreeMap<u32, CallerName>,
}

/// What is known of the calls of one connection.
#[derive(Debug, Clone)]
struct Known {
    /// Meant where a method names no service.
    service: Option<ServiceName>,
    /// Who it is by the kernel's word.
    vouched: Option<CallerName>,
    /// The address it reached; `None` on a unix socket.
    local: Option<SocketAddr>,
}

impl Terms {
    /// Of a connection to a listener whose connections all reach `local`, or each an address of its own.
    fn of(&self, stream: &Stream, local: Option<SocketAddr>) -> Known {
        let user = if self.callers.is_empty() { None } else { stream.user() };
        let vouched = user.and_then(|user| self.callers.get(&user)).cloned();
        Known { service: self.service.clone(), vouched, local: local.or_else(|| stream.local()) }
    }
}

/// The first bytes of a connection, at least as many as tell Yar from HTTP where so many came.
#[derive(Debug)]
struct Begun {
    bytes: Vec<u8>,
    /// When its first request's head must be there.
    until: Instant,
    /// For all that is waited for on it.
    alarm: Arc<Alarm>,
}

/// Accepts on all of a worker's sockets until `stop`, then ends when the last connection does.
///
/// No more connections than `seats` are open at once, those of other workers included.
pub async fn serve(worker: Arc<Worker>, doors: Vec<Door>, seats: Arc<Seats>, stop: watch::Receiver<bool>) {
    let mut loops = JoinSet::new();
    for Door { socket, terms } in doors {
        match Listener::adopt(socket) {
            Ok(listener) => {
                loops.spawn(accept_loop(worker.clone(), listener, terms, seats.clone(), stop.clone()));
            }
            Err(error) => tracing::error!(%error, "a listener can't be served"),
        }
    }
    while loops.join_next().await.is_some() {}
}

async fn accept_loop(
    worker: Arc<Worker>,
    listener: Listener,
    terms: Arc<Terms>,
    seats: Arc<Seats>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let each_stop = stop.clone();
    let local = listener.local();
    let take = |seat, stream, connections: &mut JoinSet<()>| {
        let known = terms.of(&stream, local);
        let served = serve_one(worker.clone(), (seat, stream), known, each_stop.clone());
        // boxed: a task moves what it runs several times, and this is some KB
        connections.spawn(Box::pin(served));
    };
    // has no seat yet, those behind it wait in the kernel's queue; a seat that was taken before anybody
    // came would be missing at the other sockets
    let mut standing = None;
    let mut stops = pin!(stopped(&mut stop));
    loop {
        tokio::select! {
            biased;
            () = &mut stops => break,
            Some(seat) = seats.take(), if standing.is_some() => if let Some(stream) = standing.take() {
                take(seat, stream, &mut connections);
            },
            accepted = listener.accept(), if standing.is_none() => match accepted {
                Ok(stream) => {
                    seats.come_in();
                    standing = Some(stream);
                }
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // callers that the kernel has let in already are served, not reset
    while let Some(seat) = seats.try_take() {
        let next = match standing.take() {
            Some(stream) => stream,
            None => tokio::select! {
                biased;
                Ok(stream) = listener.accept() => stream,
                () = std::future::ready(()) => break,
            },
        };
        take(seat, next, &mut connections);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection in what its first bytes say it speaks; its `_seat` is free when it is over.
async fn serve_one<S>(
    worker: Arc<Worker>,
    (_seat, mut stream): (S, Stream),
    known: Known,
    mut stop: watch::Receiver<bool>,
) {
    let Some(begun) = begin(&mut stream, &mut stop).await else { return };
    if proto_adapters::yar::is_yar(begun.seen()) {
        // boxed: a connection that speaks HTTP holds no room for it
        let end = worker.end.clone();
        tokio::select! {
            () = Box::pin(yar::serve(worker, stream, begun, known, stop)) => {}
            () = end.comes() => {}
        }
    } else {
        connection::serve(worker, stream, begun, known, stop).await;
    }
}

/// Reads until it is certain what a connection speaks; `None`: nothing came in time.
async fn begin(stream: &mut Stream, stop: &mut watch::Receiver<bool>) -> Option<Begun> {
    let until = Instant::now() + HEAD_PATIENCE;
    let mut begun = Begun { bytes: Vec::with_capacity(FIRST_READ), until, alarm: Arc::default() };
    let (mut until, mut stopping) = (until, false);
    while !begun.is_certain() {
        let read = tokio::select! {
            biased;
            read = begun.alarm.within(until, stream.read_buf(&mut begun.bytes)) => read?.ok()?,
            () = stopped(stop), if !stopping => {
                stopping = true;
                until = until.min(Instant::now() + LAST_REQUESTS);
                continue;
            }
        };
        if read == 0 {
            break;
        }
    }
    Some(begun)
}

impl Begun {
    fn seen(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the bytes say it: the first ten, or one that no Yar message has there.
    fn is_certain(&self) -> bool {
        self.bytes.len() >= TELLING || !proto_adapters::yar::may_become_yar(self.seen())
    }
}

/// Reads away what the caller still sends: closing at once would reset the connection and lose the answer.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin, patience: Duration) {
    let drain = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut buffer = vec![0; 16 << 10];
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // a caller that keeps sending for longer has had its answer by now
    let _ = tokio::time::timeout(patience, drain).await;
}
