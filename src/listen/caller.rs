//! A caller's connection, as far as hyper doesn't watch it: stalls, and lengths hidden in bad headers.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Timer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::heads::Heads;
use crate::alarm::Alarm;
use crate::names::CallerName;
use crate::socket::Stream;

/// A caller that takes nothing of its answer for so long is given up, unless the call's policy says otherwise.
const STALL: Duration = Duration::from_secs(30);

/// What the connection and the calls on it tell each other.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// A request's body was not read to its end.
    pub(super) unread: Arc<AtomicBool>,
    /// An answer broke off: its end must not look like one.
    pub(super) broken: Arc<AtomicBool>,
    /// The first head with a length that hyper reads over, counted from 1; 0: none.
    hidden_length: AtomicU64,
    /// Heads that became calls.
    calls: AtomicU64,
    /// How long a caller may take nothing of its answer, in milliseconds; 0: as long as usual.
    stall_ms: AtomicU64,
    /// How far the call under way is.
    stage: AtomicU8,
    /// Bytes of an answer wait for the caller to take some.
    waits: AtomicBool,
    /// It took none for too long.
    untaken: AtomicBool,
    /// For the deadlines of its calls.
    pub(super) alarm: Arc<Alarm>,
}

/// How far a connection's call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// There is none.
    None,
    /// It has no answer yet.
    Open,
    /// Its answer leaves.
    Leaving,
}

/// Times the heads of requests.
#[derive(Debug, Default)]
pub(super) struct HeadTimer(pub(super) Arc<Alarm>);

/// Until a head must be there.
struct HeadSleep {
    alarm: Arc<Alarm>,
    until: Instant,
}

impl Timer for HeadTimer {
    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HeadSleep { alarm: self.0.clone(), until: Instant::now() + duration })
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HeadSleep { alarm: self.0.clone(), until: deadline.into() })
    }
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(cx, self.until)
    }
}

impl hyper::rt::Sleep for HeadSleep {}

impl Signs {
    /// From now on a caller that takes nothing for so long is given up.
    pub(super) fn patience(&self, patience: Duration) {
        self.stall_ms.store(patience.as_millis() as u64, Relaxed);
    }

    /// Counts a call in; whether its head, or one before it, has a length that hyper read over.
    pub(super) fn was_misread(&self) -> bool {
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        let hidden = self.hidden_length.load(Relaxed);
        hidden > 0 && call >= hidden
    }

    /// Notes how far the call under way is.
    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    /// Whether the call under way has no answer yet.
    pub(super) fn is_open(&self) -> bool {
        self.stage.load(Relaxed) == Stage::Open as u8
    }

    /// Whether an answer is under way.
    pub(super) fn is_leaving(&self) -> bool {
        self.stage.load(Relaxed) == Stage::Leaving as u8
    }

    /// Whether there is no call, and nothing of an answer waits for the caller.
    pub(super) fn is_quiet(&self) -> bool {
        self.stage.load(Relaxed) == Stage::None as u8 && !self.waits.load(Relaxed)
    }

    /// For how long the caller took nothing of its answer, where that was too long.
    pub(super) fn untaken(&self) -> Option<Duration> {
        self.untaken.load(Relaxed).then(|| self.stall())
    }

    fn stall(&self) -> Duration {
        match self.stall_ms.load(Relaxed) {
            0 => STALL,
            ms => Duration::from_millis(ms),
        }
    }
}

/// The caller's side of a call.
#[derive(Debug)]
pub(super) struct CallerStream {
    stream: Stream,
    /// Read already, and not yet handed on.
    begun: Vec<u8>,
    signs: Arc<Signs>,
    stall: Option<Pin<Box<Sleep>>>,
    heads: Heads,
}

impl CallerStream {
    pub(super) fn new(stream: Stream, begun: Vec<u8>, signs: Arc<Signs>) -> Self {
        Self { stream, begun, signs, stall: None, heads: Heads::default() }
    }

    /// Whether the head of a request has begun, and is not over.
    pub(super) fn is_in_head(&self) -> bool {
        self.heads.is_in_head()
    }

    /// Whether bytes wait for the caller to take them.
    pub(super) fn is_held_up(&self) -> bool {
        self.stall.is_some()
    }

    pub(super) fn into_inner(self) -> Stream {
        self.stream
    }

    /// Notes a header that hyper leaves out, but that other programs may obey: `Content-Length : 7`.
    fn look(&mut self, read: &[u8]) {
        self.heads.look(read);
        self.signs.hidden_length.store(self.heads.hidden(), Relaxed);
    }

    fn goes_on(&mut self) {
        if self.stall.take().is_some() {
            self.signs.waits.store(false, Relaxed);
        }
    }

    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.signs.waits.store(true, Relaxed);
        let until = Instant::now() + self.signs.stall();
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(stall.as_mut().poll(cx));
        self.signs.broken.store(true, Relaxed);
        self.signs.untaken.store(true, Relaxed);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

/// Where the listener is, for URLs that name it, and who calls there.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// Of this connection; `None` on a unix socket.
    pub(super) local: Option<SocketAddr>,
    /// Who it is by the kernel's word.
    pub(super) vouched: Option<CallerName>,
}

impl Here {
    /// Whether a URL's authority is this listener and no service.
    pub(super) fn is(&self, host: &str, port: Option<u16>, own_name: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ip = bare.parse::<std::net::IpAddr>().map(|ip| ip.to_canonical());
        let is_loopback = host.eq_ignore_ascii_case("localhost") || matches!(&ip, Ok(ip) if ip.is_loopback());
        let Some(local) = self.local else { return is_loopback };
        let own = local.ip().to_canonical();
        port.unwrap_or(80) == local.port()
            && (ip == Ok(own) || (is_loopback && own.is_loopback()) || host.eq_ignore_ascii_case(own_name))
    }
}

impl AsyncRead for CallerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = if self.begun.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        } else {
            let fits = self.begun.len().min(buffer.remaining());
            let rest = self.begun.split_off(fits);
            buffer.put_slice(&std::mem::replace(&mut self.begun, rest));
            Poll::Ready(Ok(()))
        };
        if let Some(read) = buffer.filled().get(before..).filter(|read| !read.is_empty()) {
            self.look(read);
        }
        polled
    }
}

impl AsyncWrite for CallerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, data) {
            Poll::Pending => self.stalled(cx).map(Err),
            ready => {
                self.goes_on();
                ready
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Pending => self.stalled(cx).map(Err),
            ready => {
                self.goes_on();
                ready
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listeners_own_address_is_the_listener() {
        let at = |local: &str| Here { local: Some(local.parse().unwrap()), vouched: None };
        let here = at("127.0.0.1:9501");
        for (host, port) in [("127.0.0.1", 9501), ("localhost", 9501), ("web-17", 9501), ("[::1]", 9501)] {
            assert!(here.is(host, Some(port), "web-17"), "{host}:{port}");
        }
        for (host, port) in [("127.0.0.1", 8080), ("10.0.0.9", 9501), ("user", 9501), ("localhost", 80)] {
            assert!(!here.is(host, Some(port), "web-17"), "{host}:{port}");
        }
        let wide = at("10.0.0.7:80");
        assert!(wide.is("10.0.0.7", None, "") && !wide.is("10.0.0.8", None, ""));
    }
}
