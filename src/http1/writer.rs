//! A message on its way out: a head that was made, and a body as it comes.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderMap, HeaderName};
use tokio::io::AsyncWrite;

use super::headers::{Headers, Known};

/// A body's frames up to this size, in bytes, are copied behind what is written before them.
const COPIED: usize = 4 << 10;
/// Bytes that are gathered before they are written.
const GATHERED: usize = 16 << 10;

/// What of a message is still to be written.
#[derive(Debug)]
pub struct Writer {
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
pub enum Framing {
    /// By its length: so many bytes are to come.
    Length(u64),
    /// By chunks; these trailers may follow.
    Chunks(Vec<HeaderName>),
    /// By the connection's end.
    ToTheEnd,
    /// There is none, or all of it is written.
    Over,
}

/// How writing failed.
#[derive(Debug)]
pub enum Stuck<E> {
    /// The connection takes no more; an answer may stand on it all the same.
    Connection,
    /// The body did not come to its end.
    Body(E),
    /// The body has fewer or more bytes than its head told.
    Length,
}

impl Writer {
    /// Nothing is written yet.
    pub fn new(head: Vec<u8>, framing: Framing) -> Self {
        Self { out: head, written: 0, large: Bytes::new(), framing, is_fresh: true, has_moved: false }
    }

    /// The same of a body that is there as a whole.
    pub fn whole(head: Vec<u8>, body: Bytes) -> Self {
        let mut all = Self::new(head, Framing::Over);
        all.put(body);
        all
    }

    /// Writes on; ready when all of it is written.
    pub fn poll<B>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut B,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Stuck<B::Error>>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        loop {
            let waits = self.gather(cx, body)?;
            while self.has_more() {
                match ready!(self.write(cx, stream)) {
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
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Whether the connection took nothing of it.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Takes what is there of the body, until something should be written; whether more is waited for.
    fn gather<B>(&mut self, cx: &mut Context<'_>, body: &mut B) -> Result<bool, Stuck<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        while !matches!(self.framing, Framing::Over) && self.large.is_empty() && self.out.len() < GATHERED {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Ok(frame))) => {
                    self.frame(frame)?;
                    if matches!(self.framing, Framing::Length(0)) && body.is_end_stream() {
                        self.framing = Framing::Over;
                    }
                }
                Poll::Ready(Some(Err(broken))) => return Err(Stuck::Body(broken)),
                Poll::Ready(None) => self.end()?,
            }
        }
        Ok(false)
    }

    fn frame<E>(&mut self, frame: Frame<Bytes>) -> Result<(), Stuck<E>> {
        match frame.into_data() {
            Ok(data) => self.data(data),
            Err(frame) => frame.into_trailers().map_or(Ok(()), |trailers| self.trailers(&trailers)),
        }
    }

    fn data<E>(&mut self, data: Bytes) -> Result<(), Stuck<E>> {
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Stuck::Length)?;
                self.put(data);
            }
            Framing::Chunks(_) if data.is_empty() => {}
            Framing::Chunks(_) => {
                // writing to a vector can't fail
                let _ = write!(self.out, "{:x}\r\n", data.len());
                self.put(data);
            }
            Framing::ToTheEnd => self.put(data),
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

    fn end<E>(&mut self) -> Result<(), Stuck<E>> {
        match &self.framing {
            Framing::Length(1..) => return Err(Stuck::Length),
            Framing::Chunks(_) => return self.trailers(&HeaderMap::new()),
            Framing::Length(0) | Framing::ToTheEnd | Framing::Over => {}
        }
        self.framing = Framing::Over;
        Ok(())
    }

    /// The end of a body in chunks, with those of its trailers that its head told of.
    fn trailers<E>(&mut self, trailers: &HeaderMap) -> Result<(), Stuck<E>> {
        let Framing::Chunks(told) = &self.framing else { return self.end() };
        self.out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().filter(|(name, _)| told.contains(name) && !is_of_a_head(name)) {
            line(&mut self.out, name.as_str(), value.as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        self.framing = Framing::Over;
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.written < self.out.len() || !self.large.is_empty()
    }

    fn write(&self, cx: &mut Context<'_>, stream: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<usize>> {
        let (stream, out) = (Pin::new(stream), self.out.get(self.written..).unwrap_or_default());
        match (out, &self.large[..]) {
            (out, []) => stream.poll_write(cx, out),
            ([], large) => stream.poll_write(cx, large),
            (out, large) => stream.poll_write_vectored(cx, &[IoSlice::new(out), IoSlice::new(large)]),
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.is_fresh &= bytes == 0;
        self.has_moved = true;
        let of_out = bytes.min(self.out.len() - self.written);
        self.written += of_out;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        if !self.large.is_empty() {
            self.large.advance(bytes - of_out);
            if self.large.is_empty() {
                // what was written is held no longer
                self.large = Bytes::new();
                self.ends_chunk();
            }
        }
    }
}

impl Framing {
    /// Chunks, behind which the trailers may come that these headers name.
    pub fn chunks(headers: &Headers) -> Self {
        let told = headers.get_all("trailer").filter_map(|value| std::str::from_utf8(value).ok());
        let names = told.flat_map(|value| value.split(','));
        Self::Chunks(names.filter_map(|name| name.trim().parse().ok()).collect())
    }
}

/// What [`headers`] came across.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// A length of the body.
    pub length: bool,
    /// When it was made.
    pub date: bool,
}

/// Writes headers, without those of this hop: whom it goes to, how its body ends, whether it stays.
pub fn headers(out: &mut Vec<u8>, headers: &Headers) -> Seen {
    let mut seen = Seen::default();
    headers.write(out, |known| {
        seen.length |= known == Known::ContentLength;
        seen.date |= known == Known::Date;
        !matches!(known, Known::ContentLength | Known::Host | Known::TransferEncoding | Known::Connection)
    });
    seen
}

/// About how many bytes [`headers`] writes, and what is copied behind them of a body that is told of.
pub fn size(headers: &Headers, body: &impl Body) -> usize {
    let body = usize::try_from(body.size_hint().lower()).ok().filter(|body| *body <= COPIED);
    headers.size() + body.unwrap_or(0)
}

/// Writes one header.
pub fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    super::headers::line(out, name.as_bytes(), value);
}

/// Writes a body's length.
pub fn length(out: &mut Vec<u8>, length: u64) {
    line(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
}

/// What a trailer must not tell (RFC 9110, 6.5.1): who adds trailers to a head would heed it.
fn is_of_a_head(name: &HeaderName) -> bool {
    let of_all = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::HOST,
        header::MAX_FORWARDS,
        header::SET_COOKIE,
        header::TRAILER,
    ];
    let name_is = |ours| name.as_str() == ours;
    of_all.contains(name)
        || Known::of(name.as_str().as_bytes()).is_one_hop()
        || ["x-caller", "x-deadline-ms"].into_iter().any(name_is)
}

#[cfg(test)]
mod tests;
