//! A provider's answer in HTTP/1: bytes in, head and body out. Nothing here reads, waits or looks at the clock.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes};
use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};

use crate::upstream::MAX_BUFFER;

/// Most headers of an answer, and most trailers.
const MAX_HEADERS: usize = 100;
/// Most bytes of a line that tells a chunk's size, and of all trailers.
const MAX_LINES: usize = 16 << 10;

/// What is read of one answer.
#[derive(Debug)]
pub struct Reader {
    /// Read and not handed on.
    ahead: Bytes,
    /// How much of `ahead` is known to hold no whole head.
    looked: usize,
    /// Whether a `HEAD` is answered, whose answers have no body.
    is_for_head: bool,
    body: Body,
    keeps_alive: bool,
}

/// What of a body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Its head comes first.
    Unknown,
    /// So many bytes.
    Length(u64),
    /// Chunks; the next bytes are a size.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// What follows a chunk's bytes.
    ChunkEnd,
    /// What follows the last chunk.
    Trailers,
    /// All until the connection ends.
    ToTheEnd,
}

/// What follows in a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Some bytes of it.
    Data(Bytes),
    /// What comes behind its last byte.
    Trailers(HeaderMap),
    /// Nothing more.
    End,
    /// More bytes are needed to tell.
    More,
}

/// What came is not HTTP/1; why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotHttp(pub String);

impl Reader {
    /// Nothing is read yet; `is_for_head`: of the answer to a `HEAD`.
    pub fn new(is_for_head: bool) -> Self {
        Self { ahead: Bytes::new(), looked: 0, is_for_head, body: Body::Unknown, keeps_alive: false }
    }

    /// Takes bytes that came.
    pub fn push(&mut self, more: Bytes) {
        // what is left over is the beginning of a head or a line: short, or refused
        self.ahead = match self.ahead.is_empty() {
            true => more,
            false => [&self.ahead[..], &more[..]].concat().into(),
        };
    }

    /// The answer's head, once it is whole; interim ones (100 to 199, but 101) are passed over.
    pub fn head(&mut self) -> Result<Option<Response<()>>, NotHttp> {
        loop {
            // what was looked at before is looked at again only where the head may have come to its end
            let fresh = self.ahead.get(self.looked.saturating_sub(3)..).unwrap_or_default();
            if self.ahead.is_empty() || self.looked > 0 && !has_empty_line(fresh) {
                return self.more_of_head();
            }
            let Some((mut head, used)) = parse(&self.ahead)? else { return self.more_of_head() };
            self.ahead.advance(used);
            self.looked = 0;
            if head.status().is_informational() && head.status() != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            self.keeps_alive = keeps_alive(&head);
            self.body = self.body_of(&mut head)?;
            return Ok(Some(head));
        }
    }

    /// Why bytes that ended before their head did are no HTTP, where that shows.
    pub fn ended_in_head(&self) -> Result<(), NotHttp> {
        if self.ahead.is_empty() { Ok(()) } else { parse(&self.ahead).map(|_| ()) }
    }

    fn more_of_head(&mut self) -> Result<Option<Response<()>>, NotHttp> {
        self.looked = self.ahead.len();
        if self.looked >= MAX_BUFFER {
            return Err(NotHttp(format!("its head has more than {MAX_BUFFER} bytes")));
        }
        Ok(None)
    }

    /// By RFC 9112, 6.3.
    fn body_of(&self, head: &mut Response<()>) -> Result<Body, NotHttp> {
        let has_none = matches!(head.status().as_u16(), 101 | 204 | 304);
        if has_none || self.is_for_head {
            return Ok(Body::Length(0));
        }
        if let Some(last) = head.headers().get_all(header::TRANSFER_ENCODING).iter().next_back() {
            let is_chunked = last_word(last).eq_ignore_ascii_case(b"chunked");
            if head.version() == hyper::Version::HTTP_10 {
                return Err(NotHttp("its version is 1.0, and it has a Transfer-Encoding".into()));
            }
            // whoever reads on must not see two lengths
            head.headers_mut().remove(header::CONTENT_LENGTH);
            return Ok(if is_chunked { Body::Size } else { Body::ToTheEnd });
        }
        let (mut length, mut told) = (None, 0);
        for value in head.headers().get_all(header::CONTENT_LENGTH) {
            for word in value.as_bytes().split(|byte| *byte == b',') {
                told += 1;
                match (number(word.trim_ascii()), length) {
                    (Some(one), None) => length = Some(one),
                    (Some(one), Some(before)) if one == before => {}
                    _ => return Err(NotHttp(format!("its Content-Length is {value:?}"))),
                }
            }
        }
        if let Some(length) = length.filter(|_| told > 1) {
            head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        Ok(length.map_or(Body::ToTheEnd, Body::Length))
    }

    /// What follows in the body.
    pub fn part(&mut self) -> Result<Part, NotHttp> {
        loop {
            match self.body {
                Body::Length(0) => return Ok(Part::End),
                Body::Unknown => return Ok(Part::More),
                Body::Length(_) | Body::Chunk(_) | Body::ToTheEnd if self.ahead.is_empty() => {
                    return Ok(Part::More);
                }
                Body::ToTheEnd => return Ok(Part::Data(std::mem::take(&mut self.ahead))),
                Body::Length(left) => {
                    let data = self.take(left);
                    self.body = Body::Length(left - data.len() as u64);
                    return Ok(Part::Data(data));
                }
                Body::Chunk(left) => {
                    let data = self.take(left);
                    let left = left - data.len() as u64;
                    self.body = if left == 0 { Body::ChunkEnd } else { Body::Chunk(left) };
                    return Ok(Part::Data(data));
                }
                Body::ChunkEnd => match self.ahead.get(..2) {
                    Some(b"\r\n") => {
                        self.ahead.advance(2);
                        self.body = Body::Size;
                    }
                    Some(_) => return Err(NotHttp("a chunk is longer than its size".into())),
                    None => return Ok(Part::More),
                },
                Body::Size => match self.size()? {
                    Some(0) => self.body = Body::Trailers,
                    Some(size) => self.body = Body::Chunk(size),
                    None => return Ok(Part::More),
                },
                Body::Trailers => return self.trailers(),
            }
        }
    }

    /// Whether the body is whole if nothing more comes.
    pub fn may_end(&self) -> bool {
        matches!(self.body, Body::ToTheEnd | Body::Length(0))
    }

    /// Whether all of the answer was handed on.
    pub fn is_over(&self) -> bool {
        self.body == Body::Length(0)
    }

    /// Whether another answer can follow on the connection.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive && self.is_over() && self.ahead.is_empty()
    }

    /// Bytes of the body that are not handed on yet, where its length was told.
    pub fn left(&self) -> Option<u64> {
        match self.body {
            Body::Length(left) => Some(left),
            Body::Unknown
            | Body::Size
            | Body::Chunk(_)
            | Body::ChunkEnd
            | Body::Trailers
            | Body::ToTheEnd => None,
        }
    }

    fn take(&mut self, most: u64) -> Bytes {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.ahead.split_to(self.ahead.len().min(most))
    }

    fn size(&mut self) -> Result<Option<u64>, NotHttp> {
        let odd = || NotHttp("a chunk's size can't be read".into());
        // the parser takes a line without digits for 0, and line feeds in what follows them
        if self.ahead.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
            return Err(odd());
        }
        match httparse::parse_chunk_size(&self.ahead) {
            Ok(Status::Complete((used, size))) => {
                if self.ahead.get(..used - 2).is_some_and(|line| line.contains(&b'\n')) {
                    return Err(odd());
                }
                self.ahead.advance(used);
                Ok(Some(size))
            }
            Ok(Status::Partial) if self.ahead.len() < MAX_LINES => Ok(None),
            Ok(Status::Partial) | Err(_) => Err(odd()),
        }
    }

    fn trailers(&mut self) -> Result<Part, NotHttp> {
        if self.ahead.starts_with(b"\r\n") {
            self.ahead.advance(2);
            self.body = Body::Length(0);
            return Ok(Part::End);
        }
        let mut found = [EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(&self.ahead, &mut found) {
            Ok(Status::Complete((used, found))) => {
                let trailers = map(&self.ahead, found)?;
                self.ahead.advance(used);
                self.body = Body::Length(0);
                Ok(Part::Trailers(trailers))
            }
            Ok(Status::Partial) if self.ahead.len() < MAX_LINES => Ok(Part::More),
            Ok(Status::Partial) => Err(NotHttp(format!("its trailers have more than {MAX_LINES} bytes"))),
            Err(why) => Err(NotHttp(why.to_string())),
        }
    }
}

/// A head and its length in bytes; `None`: it is not whole.
fn parse(bytes: &Bytes) -> Result<Option<(Response<()>, usize)>, NotHttp> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let read = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut room);
    let used = match read.map_err(|why| NotHttp(why.to_string()))? {
        Status::Complete(used) => used,
        Status::Partial => return Ok(None),
    };
    let mut head = Response::new(());
    *head.status_mut() = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| NotHttp("invalid response status".into()))?;
    if parsed.version == Some(0) {
        *head.version_mut() = hyper::Version::HTTP_10;
    }
    if parsed.reason != head.status().canonical_reason()
        && let Some(Ok(reason)) = parsed.reason.map(|reason| ReasonPhrase::try_from(reason.as_bytes()))
    {
        head.extensions_mut().insert(reason);
    }
    *head.headers_mut() = map(bytes, parsed.headers)?;
    Ok(Some((head, used)))
}

/// Headers as slices of the bytes they were read from.
fn map(bytes: &Bytes, found: &[Header<'_>]) -> Result<HeaderMap, NotHttp> {
    let mut headers = HeaderMap::with_capacity(found.len());
    for one in found {
        let name = HeaderName::from_bytes(one.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(one.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(NotHttp(format!("its header {:?} can't be read", one.name)));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// RFC 9112, 9.3: any `close` ends the connection; version 1.0 must ask that it stays.
fn keeps_alive(head: &Response<()>) -> bool {
    let has = |wanted: &[u8]| {
        let values = head.headers().get_all(header::CONNECTION).iter();
        let mut words = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        words.any(|word| word.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    let by_version = head.version() == hyper::Version::HTTP_11;
    head.status() != StatusCode::SWITCHING_PROTOCOLS && !has(b"close") && (by_version || has(b"keep-alive"))
}

fn has_empty_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|two| two == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

fn last_word(value: &HeaderValue) -> &[u8] {
    value.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}

/// Digits alone: no sign, no blank.
fn number(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
