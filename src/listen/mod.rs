//! Doors for callers: the accept loop, what a connection speaks, the drain.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::gateway::Worker;
use crate::names::{CallerName, ServiceName};
use crate::socket::{Bound, Listener, Stream, pause_after, stopped};

mod caller;
mod heads;
pub mod http;
pub mod yar;

/// For a request's head; also how long a kept connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// After `stop`, for requests that are on their way on a connection.
const LAST_REQUESTS: Duration = Duration::from_millis(20);

/// How long and how much of a rejected body is read away after the answer, so that the answer arrives.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 << 20;

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
}

impl Terms {
    fn of(&self, stream: &Stream) -> Known {
        let user = if self.callers.is_empty() { None } else { stream.user() };
        let vouched = user.and_then(|user| self.callers.get(&user)).cloned();
        Known { service: self.service.clone(), vouched }
    }
}

/// The first bytes of a connection, as many as tell Yar from HTTP.
#[derive(Debug, Clone, Default)]
struct Begun {
    bytes: [u8; 10],
    len: usize,
}

/// Accepts on all of a worker's sockets until `stop`, then ends when the last connection does.
///
/// No more connections than `seats` are open at once, those of other workers included.
pub async fn serve(
    worker: Arc<Worker>,
    doors: Vec<Door>,
    seats: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
) {
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
    seats: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let each_stop = stop.clone();
    // a seat comes first: without one the kernel's queue is the better place to wait
    let next = async || {
        let seat = seats.clone().acquire_owned().await;
        listener.accept().await.map(|stream| (seat, stream))
    };
    let take = |(seat, stream), connections: &mut JoinSet<()>| {
        let known = terms.of(&stream);
        let served = serve_one(worker.clone(), stream, known, each_stop.clone());
        connections.spawn(async move {
            served.await;
            drop(seat);
        });
    };
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = next() => match accepted {
                Ok(accepted) => take(accepted, &mut connections),
                Err(error) => pause_after(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // callers that the kernel has let in already are served, not reset
    loop {
        tokio::select! {
            biased;
            Ok(accepted) = next() => take(accepted, &mut connections),
            () = std::future::ready(()) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection in what its first bytes say it speaks.
async fn serve_one(worker: Arc<Worker>, mut stream: Stream, known: Known, mut stop: watch::Receiver<bool>) {
    let Some(begun) = begin(&mut stream, &mut stop).await else { return };
    if proto_adapters::yar::is_yar(begun.seen()) {
        // boxed: a connection that speaks HTTP holds no room for it
        Box::pin(yar::serve(worker, stream, begun, known, stop)).await;
    } else {
        http::serve(worker, stream, begun, known.vouched, stop).await;
    }
}

/// Reads until it is certain what a connection speaks; `None`: nothing came in time.
async fn begin(stream: &mut Stream, stop: &mut watch::Receiver<bool>) -> Option<Begun> {
    let (mut begun, mut stopping) = (Begun::default(), false);
    let mut until = Instant::now() + HEAD_PATIENCE;
    while !begun.is_certain() {
        let read = tokio::select! {
            biased;
            read = stream.read(begun.room()) => read.ok()?,
            () = stopped(stop), if !stopping => {
                stopping = true;
                until = until.min(Instant::now() + LAST_REQUESTS);
                continue;
            }
            () = tokio::time::sleep_until(until) => return None,
        };
        begun.len += read;
        if read == 0 {
            break;
        }
    }
    Some(begun)
}

impl Begun {
    fn seen(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.len..).unwrap_or_default()
    }

    /// Whether the bytes say it: all of them, or one that no Yar message has there.
    fn is_certain(&self) -> bool {
        self.len == self.bytes.len() || !proto_adapters::yar::may_become_yar(self.seen())
    }
}

/// Reads away what the caller still sends: closing at once would reset the connection and lose the answer.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
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
    let _ = tokio::time::timeout(LINGER, drain).await;
}
