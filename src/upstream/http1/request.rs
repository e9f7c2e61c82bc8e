//! A request on its way to a provider, in HTTP/1.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request};
use tokio::io::AsyncWrite;

use crate::upstream::Payload;
use crate::upstream::body::Broken;

/// A body's frames up to this size, in bytes, are copied behind what is written before them.
const COPIED: usize = 16 << 10;

/// What of a request is still to be written.
#[derive(Debug)]
pub(super) struct Writer {
    request: Box<Request<Payload>>,
    /// To be written first,
    out: Vec<u8>,
    /// but for so many bytes, which are,
    written: usize,
    /// and this after it.
    large: Bytes,
    framing: Framing,
    /// Nothing of it was taken by the connection yet.
    is_fresh: bool,
    /// Some was, since somebody asked.
    has_moved: bool,
}

/// How the body's end is told.
#[derive(Debug)]
enum Framing {
    /// By its length: so many bytes are to come.
    Length(u64),
    /// By chunks; these trailers may follow.
    Chunks(Vec<HeaderName>),
    /// All of it is in `out`.
    Over,
}

/// How writing failed.
#[derive(Debug)]
pub(super) enum Stuck {
    /// The connection takes no more; an answer may stand on it all the same.
    Connection,
    /// The body did not come to its end.
    Body(Broken),
}

impl Writer {
    /// Nothing is written yet; `host` is whom it goes to.
    pub(super) fn new(request: Box<Request<Payload>>, host: &str) -> Self {
        let framing = Framing::of(&request);
        let out = head(&request, host, &framing);
        Self { request, out, written: 0, large: Bytes::new(), framing, is_fresh: true, has_moved: false }
    }

    /// Writes on; ready when all of it is written.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Stuck>> {
        loop {
            let waits = self.gather(cx)?;
            while let Some(left) = self.left() {
                match ready!(Pin::new(&mut *stream).poll_write(cx, left)) {
                    Ok(bytes @ 1..) => self.wrote(bytes),
                    Ok(0) | Err(_) => return Poll::Ready(Err(Stuck::Connection)),
                }
            }
            if waits {
                return Poll::Pending;
            }
            if matches!(self.framing, Framing::Over) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether some was written since this was asked last.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// The request as it was, where nothing of it was taken and all of its body is at hand.
    pub(super) fn unsent(self) -> Option<Box<Request<Payload>>> {
        (self.is_fresh && self.request.body().is_at_hand()).then_some(self.request)
    }

    /// Takes what is there of the body, until something should be written; whether more is waited for.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, Stuck> {
        while !matches!(self.framing, Framing::Over) && self.large.is_empty() && self.out.len() < COPIED {
            if self.request.body().is_at_hand() {
                // stays there: it can be sent again
                let whole = self.request.body().at_hand();
                self.data(whole)?;
                self.end()?;
                continue;
            }
            match Pin::new(self.request.body_mut()).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Ok(frame))) => self.frame(frame)?,
                Poll::Ready(Some(Err(broken))) => return Err(Stuck::Body(broken)),
                Poll::Ready(None) => self.end()?,
            }
        }
        Ok(false)
    }

    fn frame(&mut self, frame: Frame<Bytes>) -> Result<(), Stuck> {
        match frame.into_data() {
            Ok(data) => self.data(data),
            Err(frame) => frame.into_trailers().map_or(Ok(()), |trailers| self.trailers(&trailers)),
        }
    }

    fn data(&mut self, data: Bytes) -> Result<(), Stuck> {
        match &mut self.framing {
            Framing::Length(left) => {
                // fewer or more bytes than were told is a lie of the caller's
                *left = left.checked_sub(data.len() as u64).ok_or(Stuck::Body(Broken::Caller))?;
                self.put(data);
            }
            Framing::Chunks(_) if data.is_empty() => {}
            Framing::Chunks(_) => {
                // writing to a vector can't fail
                let _ = write!(self.out, "{:x}\r\n", data.len());
                self.put(data);
            }
            Framing::Over => {}
        }
        Ok(())
    }

    fn put(&mut self, data: Bytes) {
        if data.len() <= COPIED {
            self.out.extend_from_slice(&data);
            self.ends_chunk();
        } else {
            self.large = data;
        }
    }

    fn ends_chunk(&mut self) {
        if matches!(self.framing, Framing::Chunks(_)) {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn end(&mut self) -> Result<(), Stuck> {
        match &self.framing {
            Framing::Length(1..) => return Err(Stuck::Body(Broken::Caller)),
            Framing::Chunks(_) => self.trailers(&HeaderMap::new())?,
            Framing::Length(0) | Framing::Over => {}
        }
        self.framing = Framing::Over;
        Ok(())
    }

    /// The end of a body in chunks, with those of its trailers that its head told of.
    fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), Stuck> {
        let Framing::Chunks(told) = &self.framing else { return self.end() };
        self.out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().filter(|(name, _)| told.contains(name) && !is_of_a_head(name)) {
            line(&mut self.out, name.as_str(), value.as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        self.framing = Framing::Over;
        Ok(())
    }

    fn left(&self) -> Option<&[u8]> {
        let out = self.out.get(self.written..).filter(|out| !out.is_empty());
        out.or(Some(&self.large[..])).filter(|left| !left.is_empty())
    }

    fn wrote(&mut self, bytes: usize) {
        self.is_fresh &= bytes == 0;
        self.has_moved = true;
        if self.written < self.out.len() {
            self.written += bytes;
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
            return;
        }
        self.large.advance(bytes);
        if self.large.is_empty() {
            self.ends_chunk();
        }
    }
}

impl Framing {
    /// As the head tells it; a body of which neither is told ends where its bytes do.
    fn of(request: &Request<Payload>) -> Self {
        let headers = request.headers();
        if request.body().is_end_stream() {
            return Self::Over;
        }
        if headers.contains_key(header::TRANSFER_ENCODING) && !request.body().is_at_hand() {
            let told = headers.get_all(header::TRAILER).iter().filter_map(|value| value.to_str().ok());
            let names = told.flat_map(|value| value.split(','));
            return Self::Chunks(names.filter_map(|name| name.trim().parse().ok()).collect());
        }
        match request.body().size_hint().exact() {
            Some(length) => Self::Length(length),
            None => Self::Chunks(Vec::new()),
        }
    }
}

/// The request's line and headers, with those that tell its body's length.
fn head(request: &Request<Payload>, host: &str, framing: &Framing) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let headers = request.headers();
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let body = request.body().size_hint().lower().min(COPIED as u64) as usize;
    let mut out =
        Vec::with_capacity(request.method().as_str().len() + path.len() + host.len() + size + body + 64);
    for part in [request.method().as_str(), " ", path, " HTTP/1.1\r\nhost: ", host, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        if ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
            line(&mut out, name.as_str(), value.as_bytes());
        }
    }
    match framing {
        Framing::Length(length) => {
            line(&mut out, "content-length", itoa::Buffer::new().format(*length).as_bytes())
        }
        Framing::Chunks(_) => line(&mut out, "transfer-encoding", b"chunked"),
        Framing::Over if tells_of_none(request) => line(&mut out, "content-length", b"0"),
        Framing::Over => {}
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Whether a request without a body says so: what its method leads to expect, or its caller said.
fn tells_of_none(request: &Request<Payload>) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(request.method())
        || request.headers().contains_key(header::CONTENT_LENGTH)
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// What a trailer must not tell (RFC 9110, 6.5.1).
fn is_of_a_head(name: &HeaderName) -> bool {
    [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::HOST,
        header::MAX_FORWARDS,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
    ]
    .contains(name)
}
