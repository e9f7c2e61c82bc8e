//! HTTP connections to peers that stay open, one pool per worker, last used first.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::body::{AnswerStream, Payload};
use super::exchange::{Exchange, Lost, is_quiet};
use super::{Answered, Failure, Outgoing, Request};
use crate::names::Address;

/// Idle connections kept per peer and worker.
const MAX_IDLE: usize = 64;
/// Bytes that are shown of what a peer says unasked.
const SHOWN: usize = 40;
/// What became of a new connection that was not even written to.
pub(super) const CLOSED_AT_ONCE: &str = "the connection closed at once";
/// Below what servers close idle connections after (Apache and Node 5 s, nginx 75 s).
const IDLE: Duration = Duration::from_secs(4);

/// The peers' connections of one worker.
#[derive(Debug)]
pub struct Upstream {
    idle: Pool,
    /// What is left of the requests of early answers.
    uploads: Mutex<JoinSet<()>>,
    /// Requests whose answers are waited for.
    asked: AtomicUsize,
    pub(super) raw: Pool,
    pub(super) myself: Weak<Upstream>,
}

/// Connections that no call is on.
#[derive(Debug)]
pub(super) struct Pool(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    peers: ahash::HashMap<Address, Vec<Idle>>,
    /// When somebody came last who knew the time: to look at the clock for each that is kept would cost its call more.
    seen: Instant,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    /// It was in use at this time, perhaps later.
    since: Instant,
}

/// Where a connection goes back to.
#[derive(Debug)]
pub(super) struct Lease {
    peer: Address,
    upstream: Weak<Upstream>,
}

/// How long one attempt may take in its parts.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To connect.
    pub connect: Duration,
    /// Between bytes after the answer's head.
    pub idle: Duration,
    /// When the attempt began, where a kept connection is good enough.
    pub kept: Option<Instant>,
}

impl Upstream {
    /// No connections yet.
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            idle: Pool::new(),
            uploads: Mutex::default(),
            asked: AtomicUsize::new(0),
            raw: Pool::new(),
            myself: myself.clone(),
        })
    }

    /// See [`Upstream::send`].
    pub(super) async fn send_http(
        &self,
        peer: &Address,
        mut request: Request,
        patience: Patience,
    ) -> Result<Answered, Failure> {
        let _asking = turn(&self.asked).await;
        while let Some(stream) = patience.kept.and_then(|now| self.idle.take(peer, now)) {
            match self.exchange(peer, stream, request, patience.idle).await {
                Ok(answered) => return Ok(answered),
                Err(Lost::Unsent(unsent)) => request = unsent,
                Err(Lost::Silent) => {
                    self.idle.forget(peer);
                    return Err(Failure::Stale);
                }
                Err(lost) => return Err(lost.failure()),
            }
        }
        // boxed: most calls find a connection
        Box::pin(self.send_afresh(peer, request, patience)).await
    }

    async fn send_afresh(
        &self,
        peer: &Address,
        request: Request,
        patience: Patience,
    ) -> Result<Answered, Failure> {
        let stream = match reach(peer, patience.connect).await {
            Ok(stream) => stream,
            Err(reason) => return Err(unreached(reason, request)),
        };
        let mut first = [0; SHOWN];
        match stream.try_read(&mut first) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(read @ 1..) => {
                let first = first.get(..read).unwrap_or_default().escape_ascii();
                return Err(Failure::NotHttp(format!(
                    "it speaks before it is asked, and begins \"{first}\""
                )));
            }
            Ok(_) | Err(_) => return Err(unreached(CLOSED_AT_ONCE.into(), request)),
        }
        match self.exchange(peer, stream, request, patience.idle).await {
            Err(Lost::Unsent(request)) => Err(unreached(CLOSED_AT_ONCE.into(), request)),
            outcome => outcome.map_err(Lost::failure),
        }
    }

    async fn exchange(
        &self,
        peer: &Address,
        stream: TcpStream,
        request: Request,
        idle: Duration,
    ) -> Result<Answered, Lost> {
        let lease = Lease { peer: peer.clone(), upstream: self.myself.clone() };
        let mut answer = Box::new(AnswerStream::new(Exchange::new(stream, peer, request), idle, lease));
        let head = poll_fn(|cx| answer.exchange.poll_head(cx)).await?;
        answer.exchange.take_upload(idle).map(|upload| lock(&self.uploads).spawn(upload));
        Ok(Answered { head, body: Payload::answer(answer) })
    }

    /// Closes connections that were idle for too long, or were closed by their peers; call it every second.
    pub fn sweep(&self, now: Instant) {
        self.idle.sweep(now);
        self.raw.sweep(now);
        let mut uploads = lock(&self.uploads);
        while uploads.try_join_next().is_some() {}
    }
}

/// A request whose answer is waited for.
struct Asking<'u>(&'u AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A request's turn: where others are under way, behind what else is ready now. Requests that came together then leave
/// together, and who takes them at the other end is woken once for all of them: to wake a sleeper costs more than all
/// else that is done for a call here.
async fn turn(asked: &AtomicUsize) -> Asking<'_> {
    let is_alone = asked.fetch_add(1, Relaxed) == 0;
    let (asking, mut has_waited) = (Asking(asked), is_alone);
    poll_fn(|cx| {
        if mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    asking
}

impl Pool {
    fn new() -> Self {
        Self(Mutex::new(Kept { peers: ahash::HashMap::default(), seen: Instant::now() }))
    }

    /// The connection used last, if its peer left it open and said nothing on it since.
    pub(super) fn take(&self, peer: &Address, now: Instant) -> Option<TcpStream> {
        let mut idle = lock(&self.0);
        idle.seen = now;
        let kept = idle.peers.get_mut(peer)?;
        std::iter::from_fn(|| kept.pop()).find(|one| one.is_good(now)).map(|one| one.stream)
    }

    /// Closes all to a peer of which one ended without a word: the others most likely did, too.
    fn forget(&self, peer: &Address) {
        lock(&self.0).peers.remove(peer);
    }

    pub(super) fn keep(&self, peer: Address, stream: TcpStream) {
        let mut idle = lock(&self.0);
        let since = idle.seen;
        let kept = idle.peers.entry(peer).or_default();
        if kept.len() >= MAX_IDLE {
            kept.remove(0);
        }
        kept.push(Idle { stream, since });
    }

    fn sweep(&self, now: Instant) {
        let mut idle = lock(&self.0);
        idle.seen = now;
        idle.peers.retain(|_, kept| {
            kept.retain(|one| one.is_good(now));
            !kept.is_empty()
        });
    }
}

impl Idle {
    /// Whether a request may be sent on it.
    fn is_good(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < IDLE && is_quiet(&self.stream)
    }
}

impl Lease {
    /// The answer was read to its end: its connection may carry another.
    pub(super) fn give_back(self, stream: TcpStream) {
        if let Some(upstream) = self.upstream.upgrade() {
            upstream.idle.keep(self.peer, stream);
        }
    }
}

impl Lost {
    fn failure(self) -> Failure {
        match self {
            Self::NotHttp(why) => Failure::NotHttp(why),
            Self::Body(broken) => Failure::Body(broken),
            Self::Unsent(_) | Self::Silent | Self::Cut => Failure::Cut,
        }
    }
}

fn unreached(reason: String, request: Request) -> Failure {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_that_came_together_leave_together_and_a_lonely_one_at_once() {
        let (asked, seen) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let one = async |name: &'static str| {
            lock(&seen).push(("came", name));
            let _asking = turn(&asked).await;
            lock(&seen).push(("left", name));
            // its answer is not there yet
            tokio::task::yield_now().await;
        };
        tokio::join!(one("a"), one("b"), one("c"));
        let order =
            [("came", "a"), ("left", "a"), ("came", "b"), ("came", "c"), ("left", "b"), ("left", "c")];
        assert_eq!(*lock(&seen), order);
        let first = turn(&asked).await;
        // given up before its turn comes
        tokio::select! {
            biased;
            _ = turn(&asked) => unreachable!("it waits for others"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        assert_eq!(asked.into_inner(), 0);
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_less_time_than_servers_do_also_where_nobody_swept() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Address::new(&listener.local_addr().unwrap().to_string()).unwrap();
        let (pool, start) = (Pool::new(), Instant::now());
        let mut others = Vec::new();
        let mut keep = async |at: Duration| {
            let stream = TcpStream::connect(peer.as_str()).await.unwrap();
            others.push(listener.accept().await.unwrap());
            pool.sweep(start + at);
            pool.keep(peer.clone(), stream);
        };
        keep(Duration::ZERO).await;
        assert!(pool.take(&peer, start + IDLE - Duration::from_millis(1)).is_some(), "the one that is there");
        keep(Duration::ZERO).await;
        assert!(pool.take(&peer, start + IDLE).is_none(), "nobody swept meanwhile");
        keep(IDLE).await;
        for second in 1..IDLE.as_secs() {
            pool.sweep(start + IDLE + Duration::from_secs(second));
        }
        assert_eq!(lock(&pool.0).peers.len(), 1);
        pool.sweep(start + IDLE * 2);
        assert_eq!(lock(&pool.0).peers.len(), 0, "its descriptor is given back");
    }
}
