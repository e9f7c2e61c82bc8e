//! Raw Yar over TCP to peers: connections that stay open, one pool per worker, last used first.

use std::io;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Frame;
use proto_adapters::yar;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::body::{Broken, Payload, Silence};
use super::http::{CLOSED_AT_ONCE, Patience, Upstream, reach};
use super::{Answered, Failure, Outgoing};
use crate::http1::answer::Head;
use crate::http1::headers::Headers;
use crate::names::Address;
use crate::words::beginning;

/// Most bytes of an answer that are read at once.
const AT_ONCE: usize = 64 << 10;
/// Bytes of what is no answer that are shown.
const SHOWN: usize = 40;

/// An answer that is still arriving; dropped before its end, its connection closes.
#[derive(Debug)]
pub(super) struct RawAnswer {
    /// Read with the head and not handed on yet.
    begun: Bytes,
    /// Bytes to be read yet,
    left: usize,
    /// of so many.
    length: usize,
    silence: Silence,
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Lease {
    stream: TcpStream,
    peer: Address,
    upstream: Weak<Upstream>,
    /// False where the two sides may not agree on where the next answer begins.
    reusable: bool,
}

/// How a message got no answer.
enum Lost {
    /// Not one byte of it was taken.
    Unsent,
    /// Not one byte came back.
    Silent,
    /// The peer ended in the middle of its head.
    Cut,
    NotYar(String),
}

impl Upstream {
    /// Sends a message to `peer` and waits for its answer's head, by the rules of HTTP's `send`.
    pub(super) async fn send_raw(
        &self,
        peer: &Address,
        message: Bytes,
        patience: Patience,
    ) -> Result<Answered, Failure> {
        while let Some(stream) = patience.kept.and_then(|now| self.raw.take(peer, now)) {
            match self.exchange_raw(peer, stream, &message, patience.idle).await {
                Ok(answered) => return Ok(answered),
                Err(Lost::Unsent) => {}
                Err(Lost::Silent) => return Err(Failure::Stale),
                Err(lost) => return Err(lost.failure()),
            }
        }
        let unreached = |reason| Failure::Unreached { reason, request: Outgoing::Raw(message.clone()) };
        let stream = reach(peer, patience.connect).await.map_err(unreached)?;
        match self.exchange_raw(peer, stream, &message, patience.idle).await {
            Err(Lost::Unsent) => Err(unreached(CLOSED_AT_ONCE.into())),
            outcome => outcome.map_err(Lost::failure),
        }
    }

    async fn exchange_raw(
        &self,
        peer: &Address,
        mut stream: TcpStream,
        message: &Bytes,
        idle: Duration,
    ) -> Result<Answered, Lost> {
        let is_whole = write(&mut stream, message).await?;
        let (mut answer, length) = head(&mut stream).await?;
        // whose answer it is stands in its payload; another id here says that the two count differently
        let reusable = is_whole && answer.len() <= length && answer.get(..4) == message.get(..4);
        answer.truncate(length);
        let lease = Lease { stream, peer: peer.clone(), upstream: self.myself.clone(), reusable };
        let left = length - answer.len();
        let silence = Silence::new(idle);
        let answer = RawAnswer { begun: answer.into(), left, length, silence, lease: Some(lease) };
        let head = Box::new(Head::new(StatusCode::OK, Headers::default()));
        Ok(Answered { head, body: Payload::raw_answer(answer) })
    }
}

impl Lost {
    fn failure(self) -> Failure {
        match self {
            Self::Unsent | Self::Silent | Self::Cut => Failure::Cut,
            Self::NotYar(reason) => Failure::NotYar(reason),
        }
    }
}

/// Writes a message; `false` where the peer answers, or ends, before it has taken all of it.
async fn write(stream: &mut TcpStream, message: &[u8]) -> Result<bool, Lost> {
    let (reader, mut writer) = stream.split();
    let mut written = 0;
    let all = async {
        while let Some(left) = message.get(written..).filter(|left| !left.is_empty()) {
            written += writer.write(left).await?;
        }
        io::Result::Ok(())
    };
    let done = tokio::select! {
        biased;
        done = all => done.is_ok(),
        _ = reader.readable() => false,
    };
    if written == 0 { Err(Lost::Unsent) } else { Ok(done) }
}

/// Reads until the answer's length is known; gives what was read, at least its head, and that length.
async fn head(stream: &mut TcpStream) -> Result<(Vec<u8>, usize), Lost> {
    let mut answers = yar::Stream::default();
    loop {
        match answers.length() {
            Ok(Some(length)) => return Ok((answers.into_ahead(), length)),
            Ok(None) => {}
            Err(fault) => {
                return Err(Lost::NotYar(format!(
                    "{fault}; it begins \"{}\"",
                    beginning(answers.ahead(), SHOWN)
                )));
            }
        }
        if stream.read_buf(answers.room()).await.unwrap_or(0) == 0 {
            return Err(if answers.ahead().is_empty() { Lost::Silent } else { Lost::Cut });
        }
    }
}

impl RawAnswer {
    /// Bytes that are not handed on yet.
    pub(super) fn remaining(&self) -> u64 {
        (self.begun.len() + self.left) as u64
    }

    fn short(&self) -> Broken {
        Broken::Short((self.length - self.left) as u64, self.length as u64)
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut data = std::mem::take(&mut self.begun);
        if data.is_empty() {
            let Some(lease) = self.lease.as_mut().filter(|_| self.left > 0) else { return Poll::Ready(None) };
            let mut part = vec![0; self.left.min(AT_ONCE)];
            match poll_read(&mut lease.stream, &mut part, cx) {
                Poll::Pending => {
                    ready!(self.silence.poll(cx));
                    return Poll::Ready(Some(Err(Broken::Idle)));
                }
                Poll::Ready(Ok(())) if !part.is_empty() => {}
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(Some(Err(self.short()))),
            }
            self.silence.end();
            self.left -= part.len();
            data = part.into();
        }
        if self.left == 0
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

/// Reads what fits into `part`, and cuts it to that.
fn poll_read(stream: &mut TcpStream, part: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut buffer = ReadBuf::new(part);
    let polled = Pin::new(stream).poll_read(cx, &mut buffer);
    let read = buffer.filled().len();
    part.truncate(read);
    polled
}

impl Lease {
    fn give_back(self) {
        if let Some(upstream) = self.upstream.upgrade().filter(|_| self.reusable) {
            upstream.raw.keep(self.peer, self.stream);
        }
    }
}
