//! A caller's connection: whoever carries a call reads its body here, and whoever serves the connection the rest.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::AsyncWrite;

use super::body::{BadBody, Part};
use super::request::{Head, Reader, Refused};
use super::{MAX_HEAD, read};
use crate::socket::Stream;

/// How often the connection is asked for what is left of a body that nobody reads: small ones come with their heads.
const SKIMMED: usize = 4;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection whose requests are read one after the other.
#[derive(Debug)]
pub struct CallerLine(Mutex<Line>);

#[derive(Debug)]
struct Line {
    /// `None`: it was taken.
    stream: Option<Stream>,
    reader: Reader,
    /// What is still to be said to a caller that sends its body only then.
    interim: &'static [u8],
    /// The answer begins: a socket wakes one task that writes, and from now on that is whoever writes the answer.
    is_answered: bool,
    /// Nobody reads the body, or what is left of it.
    is_left: bool,
    /// Whoever serves the connection, and waits until the body is over, or left.
    waits: Option<Waker>,
}

/// The body of a request, while it is read.
#[derive(Debug)]
pub struct CallerBody {
    /// `None`: it is over.
    line: Option<Arc<CallerLine>>,
}

/// Why a body does not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// Its connection ended first.
    Ended,
    /// It can't be read.
    Bad(BadBody),
}

/// What became of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it was read.
    Over,
    /// Nobody reads the rest.
    Left,
}

impl CallerLine {
    /// A connection from which these bytes were read already.
    pub fn new(stream: Stream, begun: Vec<u8>) -> Arc<Self> {
        let mut reader = Reader::default();
        reader.push(begun.into());
        Arc::new(Self(Mutex::new(Line {
            stream: Some(stream),
            reader,
            interim: b"",
            is_answered: false,
            is_left: false,
            waits: None,
        })))
    }

    /// The head of the next request; `None`: the caller ended. Only asked for once the request before is over.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Arc<Head>>, Refused>> {
        let mut line = self.lock();
        loop {
            if let Some(head) = line.reader.head()? {
                (line.is_left, line.is_answered, line.interim) = (true, false, b"");
                return Poll::Ready(Ok(Some(head)));
            }
            if !matches!(ready!(line.read(cx)), Ok(1..)) {
                return Poll::Ready(line.reader.ended_in_head().map(|()| None));
            }
        }
    }

    /// The body of the request whose head was read; a caller that `waits` is told to send it once it is asked for.
    pub fn body(self: &Arc<Self>, waits: bool) -> CallerBody {
        let mut line = self.lock();
        line.is_left = false;
        let is_over = line.reader.is_over();
        line.interim = if waits && !is_over { CONTINUE } else { b"" };
        drop(line);
        CallerBody { line: (!is_over).then(|| self.clone()) }
    }

    /// Ready when the caller has ended the connection, as far as that shows: not before its body is read.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.lock();
        while line.reader.is_over() && line.reader.ahead().len() < MAX_HEAD {
            if !matches!(ready!(line.read(cx)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        if !line.reader.is_over() {
            // whoever reads the body sees a caller leave, but not behind its end
            line.is_awaited(cx);
        }
        Poll::Pending
    }

    /// What became of the body, once it is over or left.
    pub fn poll_body_end(&self, cx: &mut Context<'_>) -> Poll<BodyEnd> {
        let mut line = self.lock();
        if line.skims(cx) {
            return Poll::Ready(BodyEnd::Over);
        }
        if line.is_left {
            return Poll::Ready(BodyEnd::Left);
        }
        line.is_awaited(cx);
        Poll::Pending
    }

    /// Whether another request may follow the one that was read last.
    pub fn stays(&self, cx: &mut Context<'_>) -> bool {
        let mut line = self.lock();
        line.reader.keeps_alive() && (line.skims(cx) || !line.is_left)
    }

    /// Whether more is here than the request that was read last.
    pub fn says_more(&self, cx: &mut Context<'_>) -> bool {
        let mut line = self.lock();
        !line.reader.ahead().is_empty() || matches!(line.read(cx), Poll::Ready(Ok(1..)))
    }

    /// Whether the one that was read last wants trailers.
    pub fn takes_trailers(&self) -> bool {
        self.lock().reader.takes_trailers()
    }

    /// Whether some of a head was read that is not whole.
    pub fn is_in_head(&self) -> bool {
        self.lock().reader.ahead().iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Writes some of an answer.
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut line = self.lock();
        line.is_answered = true;
        if line.interim.len() < CONTINUE.len() {
            ready!(line.poll_continue(cx))?;
        }
        // whoever is answered is not told to go on any more
        line.interim = b"";
        let Some(stream) = &mut line.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match data {
            [one] => Pin::new(stream).poll_write(cx, one),
            several => Pin::new(stream).poll_write_vectored(cx, several),
        }
    }

    /// Takes the connection away from whoever still reads from it.
    pub fn take(&self) -> Option<Stream> {
        self.lock().stream.take()
    }

    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<(Part, bool), Unfinished>> {
        let mut line = self.lock();
        loop {
            match line.reader.part() {
                Ok(Part::More) => {}
                Ok(part) => {
                    let is_over = line.reader.is_over();
                    if is_over {
                        line.waits.take().into_iter().for_each(Waker::wake);
                    }
                    return Poll::Ready(Ok((part, is_over)));
                }
                Err(bad) => return Poll::Ready(Err(Unfinished::Bad(bad))),
            }
            if !line.is_answered && ready!(line.poll_continue(cx)).is_err() {
                return Poll::Ready(Err(Unfinished::Ended));
            }
            if !matches!(ready!(line.read(cx)), Ok(1..)) {
                return Poll::Ready(Err(Unfinished::Ended));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Whether the body is over, once what is here of one that nobody reads was read over.
    fn skims(&mut self, cx: &mut Context<'_>) -> bool {
        let mut reads = SKIMMED;
        while self.is_left && !self.reader.is_over() {
            match self.reader.part() {
                Ok(Part::Data(_) | Part::Trailers(_)) => {}
                Ok(Part::More) if reads > 0 && matches!(self.read(cx), Poll::Ready(Ok(1..))) => reads -= 1,
                Ok(Part::End | Part::More) | Err(_) => break,
            }
        }
        self.reader.is_over()
    }

    fn is_awaited(&mut self, cx: &mut Context<'_>) {
        if !self.waits.as_ref().is_some_and(|waits| waits.will_wake(cx.waker())) {
            self.waits = Some(cx.waker().clone());
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let left = self.reader.left();
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        let bytes: Bytes = ready!(read(stream, left, cx))?;
        let length = bytes.len();
        self.reader.push(bytes);
        Poll::Ready(Ok(length))
    }

    /// Says what is left to say before the body comes.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let Some(stream) = &mut self.stream else { break };
            match ready!(Pin::new(stream).poll_write(cx, self.interim))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.interim = self.interim.get(written..).unwrap_or_default(),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl CallerBody {
    /// What follows of it.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let Some(line) = &self.line else { return Poll::Ready(None) };
        let (part, is_over) = ready!(line.poll_body(cx))?;
        if is_over {
            self.line = None;
        }
        Poll::Ready(match part {
            Part::Data(data) => Some(Ok(Frame::data(data))),
            Part::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Part::End | Part::More => None,
        })
    }

    /// Whether all of it was read.
    pub fn is_over(&self) -> bool {
        self.line.is_none()
    }

    /// How many bytes are to come.
    pub fn size_hint(&self) -> SizeHint {
        match &self.line {
            None => SizeHint::with_exact(0),
            Some(line) => line.lock().reader.left().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Drop for CallerBody {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        let mut line = line.lock();
        line.is_left = true;
        line.waits.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
