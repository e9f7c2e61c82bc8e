//! Bodies on their way through: counted, bounded, never gathered unless they are small.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::budget::Share;
use super::exchange::Exchange;
use super::http::Lease;
use super::inbound::Inbound;
use super::progress::Progress;
use super::yar::RawAnswer;
use crate::http1::body::BadBody;
use crate::http1::caller::Unfinished;

/// A body in either direction.
#[derive(Debug)]
pub struct Payload(Kind);

#[derive(Debug)]
enum Kind {
    Full(Bytes),
    Request(Box<RequestStream>),
    Answer(Box<AnswerStream>),
    Raw(Box<RawAnswer>),
}

/// Why a body ended early; whoever writes it on aborts its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The caller sent more than allowed.
    TooLarge,
    /// The caller went away.
    Caller,
    /// What the caller sent can't be read.
    BadRequest(BadBody),
    /// The provider went away.
    Provider,
    /// What the provider sent can't be read.
    BadAnswer(BadBody),
    /// The provider ended after so many bytes of an answer that it said to have so many.
    Short(u64, u64),
    /// The provider was silent for the idle timeout.
    Idle,
    /// That many bytes, all that may be, are held by other calls.
    NoRoom(u64),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest(why) => return write!(f, "the request's body: {why}"),
            Self::BadAnswer(why) => return write!(f, "the provider's answer: {why}"),
            Self::TooLarge => "the request body is over its limit",
            Self::Caller => "the caller's body ended early",
            Self::Provider | Self::Short(..) => "the provider's answer ended early",
            Self::Idle => "the provider stopped in the middle of its answer",
            Self::NoRoom(_) => "too many bytes are held for other calls",
        })
    }
}

impl std::error::Error for Broken {}

impl From<Unfinished> for Broken {
    fn from(why: Unfinished) -> Self {
        match why {
            Unfinished::Ended => Self::Caller,
            Unfinished::Bad(why) => Self::BadRequest(why),
        }
    }
}

#[derive(Debug)]
struct RequestStream {
    from: Inbound,
    left: u64,
    progress: Arc<Progress>,
}

/// How long a peer has said nothing.
#[derive(Debug)]
pub(super) struct Silence {
    most: Duration,
    since: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
pub(super) struct AnswerStream {
    pub(super) exchange: Exchange,
    silence: Silence,
    /// `None` once it is over: its connection went back, or closed.
    lease: Option<Lease>,
}

impl Payload {
    /// All of it at once.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Full(bytes.into()))
    }

    /// A caller's body, at most `limit` bytes of it; while it is small and fits into `keep`, it is kept there.
    pub fn request(mut from: Inbound, limit: u64, keep: Option<Share>) -> Self {
        if let Some(whole) = from.take_whole() {
            return Self::full(whole);
        }
        let progress = Arc::new(Progress::new(keep));
        Self(Kind::Request(Box::new(RequestStream { from, left: limit, progress })))
    }

    /// A provider's body, its head read.
    pub(super) fn answer(mut stream: Box<AnswerStream>) -> Self {
        stream.give_back_if_over();
        Self(Kind::Answer(stream))
    }

    /// A provider's raw Yar message.
    pub(super) fn raw_answer(answer: RawAnswer) -> Self {
        Self(Kind::Raw(Box::new(answer)))
    }

    /// What becomes of it, where it is a caller's stream.
    pub fn progress(&self) -> Option<Arc<Progress>> {
        match &self.0 {
            Kind::Request(stream) => Some(stream.progress.clone()),
            Kind::Full(_) | Kind::Answer(_) | Kind::Raw(_) => None,
        }
    }

    /// Whether all of it is here already.
    pub fn is_at_hand(&self) -> bool {
        matches!(self.0, Kind::Full(_))
    }

    /// All of it, where that is here already.
    pub(super) fn at_hand(&self) -> Bytes {
        match &self.0 {
            Kind::Full(bytes) => bytes.clone(),
            Kind::Request(_) | Kind::Answer(_) | Kind::Raw(_) => Bytes::new(),
        }
    }

    /// Gathers it into `share`; fails when it is over `limit` bytes, finds no room, or breaks.
    pub async fn collect(mut self, limit: u64, share: &mut Share) -> Result<Bytes, Broken> {
        if self.size_hint().lower() > limit {
            return Err(Broken::TooLarge);
        }
        if let Kind::Full(bytes) = self.0 {
            share.grow(bytes.len())?;
            return Ok(bytes);
        }
        let mut first = Bytes::new();
        let mut gathered = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else { continue };
            share.grow(data.len())?;
            if first.is_empty() && gathered.is_empty() {
                first = data;
                continue;
            }
            if gathered.is_empty() {
                gathered.extend_from_slice(&std::mem::take(&mut first));
            }
            gathered.extend_from_slice(&data);
            if gathered.len() as u64 > limit {
                return Err(Broken::TooLarge);
            }
        }
        match gathered.is_empty() {
            true if first.len() as u64 > limit => Err(Broken::TooLarge),
            true => Ok(first),
            false => Ok(gathered.into()),
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.get_mut().0 {
            Kind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Request(stream) => stream.poll_frame(cx),
            Kind::Answer(stream) => stream.poll_frame(cx),
            Kind::Raw(answer) => answer.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Request(stream) => stream.from.is_over(),
            Kind::Answer(stream) => stream.lease.is_none(),
            Kind::Raw(answer) => answer.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Answer(stream) => stream.exchange.size_hint(),
            Kind::Raw(answer) => SizeHint::with_exact(answer.remaining()),
            Kind::Request(stream) => {
                let peeked: u64 = stream.from.peeked.iter().map(|frame| frame.len() as u64).sum();
                let rest = stream.from.rest.size_hint();
                // trailers come behind chunks only
                match rest.exact().filter(|_| stream.from.trailers.is_none()) {
                    Some(rest) => SizeHint::with_exact(rest + peeked),
                    None => SizeHint::default(),
                }
            }
        }
    }
}

impl RequestStream {
    fn end(&self, with_trailers: bool) {
        self.from.upload.iter().for_each(|upload| upload.ends());
        self.progress.end(with_trailers);
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let polled = self.from.poll_rest(cx);
        self.progress.wait(polled.is_pending());
        polled
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = match self.from.peeked.pop_front() {
            Some(data) => Frame::data(data),
            None if self.from.trailers.is_some() => {
                Frame::trailers(*self.from.trailers.take().unwrap_or_default())
            }
            None => match ready!(self.poll_rest(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(why)) => {
                    self.progress.breaks(why.into());
                    return Poll::Ready(Some(Err(why.into())));
                }
                None => {
                    self.end(false);
                    return Poll::Ready(None);
                }
            },
        };
        let Some(data) = frame.data_ref() else {
            self.end(true);
            return Poll::Ready(Some(Ok(frame)));
        };
        let Some(left) = self.left.checked_sub(data.len() as u64) else {
            self.progress.breaks(Broken::TooLarge);
            return Poll::Ready(Some(Err(Broken::TooLarge)));
        };
        self.left = left;
        self.progress.keep(data);
        if self.from.is_over() {
            // the reader may see the end without asking again
            self.end(false);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl AnswerStream {
    /// An answer given up when it is silent for `idle`; its connection goes back when it ends well.
    pub(super) fn new(exchange: Exchange, idle: Duration, lease: Lease) -> Self {
        Self { exchange, silence: Silence::new(idle), lease: Some(lease) }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.lease.is_none() {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = self.exchange.poll_frame(cx) else {
            ready!(self.silence.poll(cx));
            return Poll::Ready(Some(Err(self.exchange.silent())));
        };
        self.silence.end();
        match &frame {
            None => self.give_back(),
            Some(Ok(_)) => self.give_back_if_over(),
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn give_back_if_over(&mut self) {
        if self.exchange.is_over() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        let (lease, stream) = (self.lease.take(), self.exchange.take_stream());
        if let (Some(lease), Some(stream)) = (lease, stream) {
            lease.give_back(stream);
        }
    }
}

impl Silence {
    /// None yet; `most` is how long it may last.
    pub(super) fn new(most: Duration) -> Self {
        Self { most, since: None }
    }

    /// Ready once it has lasted too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = Instant::now() + self.most;
        let since = self.since.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        since.as_mut().poll(cx)
    }

    /// The peer said something.
    pub(super) fn end(&mut self) {
        self.since = None;
    }
}
