//! One request and its answer on one connection, in HTTP/1, polled by the call itself.
//!
//! A task of its own for each connection would cost every call three wake-ups and two channels.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::body::{Frame, SizeHint};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::oneshot;

use super::Request;
use super::body::{Broken, Silence};
use super::progress::Progress;
use crate::http1::answer::{Head, NotHttp, Part, Reader};
use crate::http1::read;
use crate::names::Address;

mod request;

use request::{Stuck, Writer};

/// A request and its answer; dropped before the answer's end, its connection closes.
#[derive(Debug)]
pub(super) struct Exchange {
    line: Line,
    /// `None`: all of the request is written, or no more of it can be, or another task writes it.
    writer: Option<Writer>,
    reader: Reader,
    /// What becomes of the request's body, where it is a stream.
    progress: Option<Arc<Progress>>,
    has_answered: bool,
    /// The peer takes or gives no more.
    is_closed: bool,
}

#[derive(Debug)]
enum Line {
    Both(TcpStream),
    /// The rest of the request is written by another task, which is told when the answer is whole, or dropped.
    Reads(OwnedReadHalf, oneshot::Sender<()>),
    /// It went back to its pool.
    Gone,
}

/// A request that got no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nothing of it was taken; as it was.
    Unsent(Request),
    /// Not one byte came back.
    Silent,
    /// The peer ended in the middle of its head.
    Cut,
    /// What came back is not HTTP.
    NotHttp(String),
    /// Its own body failed.
    Body(Broken),
}

/// Whether a connection is open and nothing came on it that nobody asked for.
pub(super) fn is_quiet(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl Exchange {
    /// Nothing is written yet.
    pub(super) fn new(stream: TcpStream, host: &Address, request: Request) -> Self {
        let reader = Reader::new(request.head.method == Method::HEAD);
        let progress = request.body.progress();
        let writer = Some(Writer::new(request, host.as_str()));
        Self { line: Line::Both(stream), writer, reader, progress, has_answered: false, is_closed: false }
    }

    /// Parts from the rest of the request of an early answer, which goes on also while nobody reads that answer, and
    /// behind it as long as it moves within `idle`.
    pub(super) fn take_upload(&mut self, idle: Duration) -> Option<impl Future<Output = ()> + use<>> {
        let mut writer = self.writer.take()?;
        let Line::Both(stream) = mem::replace(&mut self.line, Line::Gone) else { return None };
        let (reads, mut writes) = stream.into_split();
        let (whole, mut over) = oneshot::channel();
        self.line = Line::Reads(reads, whole);
        Some(async move {
            let (mut silence, mut is_whole) = (Silence::new(idle), false);
            let written = poll_fn(|cx| {
                if let Poll::Ready(written) = writer.poll(cx, &mut writes) {
                    return Poll::Ready(written.is_ok());
                }
                if !is_whole {
                    is_whole = ready!(Pin::new(&mut over).poll(cx)).is_ok();
                }
                if !is_whole {
                    return Poll::Ready(false);
                }
                if writer.has_moved() {
                    silence.end();
                }
                silence.poll(cx).map(|()| false)
            });
            // to end this side at once would tell some peers that nobody waits for the answer
            if written.await && !is_whole {
                let _ = over.await;
            }
        })
    }

    /// The answer's head; the request's body may go on behind it.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Head>, Lost>> {
        loop {
            if let Err(lost) = self.write(cx) {
                return Poll::Ready(Err(lost));
            }
            match self.reader.head() {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(NotHttp(why)) => return Poll::Ready(Err(Lost::NotHttp(why))),
            }
            if !matches!(ready!(self.read(cx)), Ok(1..)) {
                return Poll::Ready(Err(self.lost()));
            }
            self.has_answered = true;
        }
    }

    /// What follows of the answer's body.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match self.reader.part() {
                Ok(Part::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Part::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Part::End) => return Poll::Ready(None),
                Ok(Part::More) => {}
                Err(bad) => return Poll::Ready(Some(Err(Broken::BadAnswer(bad)))),
            }
            match ready!(self.read(cx)) {
                Ok(1..) => {}
                Ok(0) if self.reader.may_end() => return Poll::Ready(None),
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(self.broken()))),
            }
        }
    }

    /// Whether all of the answer was handed on.
    pub(super) fn is_over(&self) -> bool {
        self.reader.is_over()
    }

    /// How many bytes of the answer are to come.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.reader.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The connection, where it can carry another request.
    pub(super) fn take_stream(&mut self) -> Option<TcpStream> {
        let is_good = !self.is_closed && self.writer.is_none() && self.reader.keeps_alive();
        match mem::replace(&mut self.line, Line::Gone) {
            Line::Both(stream) if is_good => return Some(stream),
            Line::Reads(_, upload) if self.reader.is_over() => drop(upload.send(())),
            Line::Both(_) | Line::Reads(..) | Line::Gone => {}
        }
        None
    }

    /// Writes what can be written now.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        let (Some(writer), Line::Both(stream)) = (&mut self.writer, &mut self.line) else { return Ok(()) };
        match writer.poll(cx, stream) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => self.writer = None,
            Poll::Ready(Err(Stuck::Body(broken))) => return Err(Lost::Body(broken)),
            // a lie of the caller's
            Poll::Ready(Err(Stuck::Length)) => return Err(Lost::Body(Broken::Caller)),
            Poll::Ready(Err(Stuck::Connection)) => {
                self.is_closed = true;
                if let Some(request) = self.writer.take().and_then(Writer::unsent) {
                    return Err(Lost::Unsent(request));
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let left = self.reader.left();
        let bytes = ready!(match &mut self.line {
            Line::Both(stream) => read(stream, left, cx),
            Line::Reads(stream, _) => read(stream, left, cx),
            Line::Gone => Poll::Ready(Ok(Bytes::new())),
        });
        let bytes = bytes.inspect_err(|_| self.is_closed = true)?;
        let length = bytes.len();
        self.is_closed |= length == 0;
        self.reader.push(bytes);
        Poll::Ready(Ok(length))
    }

    /// Who is to blame where the peer says nothing: it may wait for the rest of the request itself.
    pub(super) fn silent(&self) -> Broken {
        let waits = self.progress.as_ref().is_some_and(|progress| progress.waits());
        if waits { Broken::Caller } else { Broken::Idle }
    }

    /// Why an answer ended early: a peer ends it, too, when it does not get all of the request.
    fn broken(&self) -> Broken {
        self.progress.as_ref().and_then(|progress| progress.trouble()).unwrap_or(Broken::Provider)
    }

    /// The connection ended before the answer's head did.
    fn lost(&self) -> Lost {
        match self.reader.ended_in_head() {
            Err(NotHttp(why)) => Lost::NotHttp(why),
            Ok(()) if self.has_answered => Lost::Cut,
            Ok(()) => Lost::Silent,
        }
    }
}
