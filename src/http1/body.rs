//! Where a message's head ends, and its body: told by a length, by chunks, or by the connection's end.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Header, Status};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::headers::{Headers, Known};
use super::{MAX_HEAD, MAX_HEADERS};

/// Most bytes of a line that tells a chunk's size, and of all trailers.
pub(super) const MAX_LINES: usize = 16 << 10;
/// Bytes that are shown of a body that can't be read.
const SHOWN: usize = 12;

/// What came of messages that follow each other, and is not handed on.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    ahead: Bytes,
    /// How much of `ahead` is known to hold no whole head.
    looked: usize,
    pub(super) body: Body,
}

/// What of a body is still to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Body {
    /// Its head comes first.
    #[default]
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

/// A body can't be read: why, and what stands in that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBody {
    why: &'static str,
    there: [u8; SHOWN],
    shown: usize,
}

impl BadBody {
    fn new(why: &'static str, ahead: &[u8]) -> Self {
        let (mut there, shown) = ([0; SHOWN], ahead.len().min(SHOWN));
        there.iter_mut().zip(ahead).for_each(|(to, from)| *to = *from);
        Self { why, there, shown }
    }

    /// Why, without what stands there: of that more or less may have come.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = self.there.get(..self.shown).unwrap_or_default();
        write!(f, "{}; there stands \"{}\"", self.why, there.escape_ascii())
    }
}

impl Inbox {
    /// What came, and was not read yet.
    pub(super) fn ahead(&self) -> &Bytes {
        &self.ahead
    }

    /// Takes bytes that came.
    pub(super) fn push(&mut self, more: Bytes) {
        // what is left over is the beginning of a head or a line: short, or refused
        self.ahead = match std::mem::take(&mut self.ahead) {
            none if none.is_empty() => more,
            ahead => {
                let mut all = ahead.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                all.extend_from_slice(&more);
                all.freeze()
            }
        };
    }

    /// A head and its bytes, once it is whole; `parse` gives it with its length.
    pub(super) fn head<H, E: From<TooLong>>(
        &mut self,
        parse: impl FnOnce(&[u8]) -> Result<Option<(H, usize)>, E>,
    ) -> Result<Option<(H, Bytes)>, E> {
        // what was looked at before is looked at again only where the head may have come to its end
        let fresh = self.ahead.get(self.looked.saturating_sub(3)..).unwrap_or_default();
        let may_be_whole = !self.ahead.is_empty() && (self.looked == 0 || has_empty_line(fresh));
        let whole = if may_be_whole { parse(&self.ahead)? } else { None };
        self.looked = self.ahead.len();
        if whole.as_ref().map_or(self.looked, |(_, used)| *used) > MAX_HEAD {
            return Err(TooLong.into());
        }
        let Some((head, used)) = whole else { return Ok(None) };
        self.looked = 0;
        Ok(Some((head, self.ahead.split_to(used))))
    }

    /// What follows in the body.
    pub(super) fn part(&mut self) -> Result<Part, BadBody> {
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
                    None if b"\r\n".starts_with(&self.ahead) => return Ok(Part::More),
                    _ => return Err(BadBody::new("a chunk is longer than its size", &self.ahead)),
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

    /// Whether all of the message was handed on.
    pub(super) fn is_over(&self) -> bool {
        self.body == Body::Length(0)
    }

    /// Bytes of the body that are not handed on yet, where its length was told.
    pub(super) fn left(&self) -> Option<u64> {
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

    fn size(&mut self) -> Result<Option<u64>, BadBody> {
        let odd = |ahead: &[u8]| BadBody::new("a chunk's size can't be read", ahead);
        // the parser takes a line without digits for 0, and line feeds in what follows them
        if self.ahead.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
            return Err(odd(&self.ahead));
        }
        if !self.ahead.contains(&b'\n') && self.ahead.len() < MAX_LINES {
            return Ok(None);
        }
        match httparse::parse_chunk_size(&self.ahead) {
            Ok(Status::Complete((used, size))) => {
                if self.ahead.get(..used - 2).is_some_and(|line| line.contains(&b'\n')) {
                    return Err(odd(&self.ahead));
                }
                self.ahead.advance(used);
                Ok(Some(size))
            }
            Ok(Status::Partial) if self.ahead.len() < MAX_LINES => Ok(None),
            Ok(Status::Partial) | Err(_) => Err(odd(&self.ahead)),
        }
    }

    fn trailers(&mut self) -> Result<Part, BadBody> {
        if self.ahead.starts_with(b"\r\n") {
            self.ahead.advance(2);
            self.body = Body::Length(0);
            return Ok(Part::End);
        }
        if matches!(&self.ahead[..], [b'\r', other, ..] if *other != b'\n') {
            return Err(BadBody::new("its last chunk has no end", &self.ahead));
        }
        if self.ahead.starts_with(b"\n") {
            return Err(BadBody::new("its last chunk ends with a line feed alone", &self.ahead));
        }
        if !has_empty_line(&self.ahead) && self.ahead.len() < MAX_LINES {
            return Ok(Part::More);
        }
        let bad = |ahead: &[u8]| BadBody::new("its trailers can't be read", ahead);
        let mut found = [EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(&self.ahead, &mut found) {
            Ok(Status::Complete((used, found))) => {
                let trailers = map(&self.ahead, found).ok_or_else(|| bad(&self.ahead))?;
                self.ahead.advance(used);
                self.body = Body::Length(0);
                Ok(Part::Trailers(trailers))
            }
            Ok(Status::Partial) if self.ahead.len() < MAX_LINES => Ok(Part::More),
            Ok(Status::Partial) => Err(BadBody::new("its trailers have more than 16 KiB", &self.ahead)),
            Err(_) => Err(bad(&self.ahead)),
        }
    }
}

/// A head has more than [`MAX_HEAD`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl From<TooLong> for NotHttp {
    fn from(_: TooLong) -> Self {
        Self(format!("its head has more than {MAX_HEAD} bytes"))
    }
}

/// What a message tells of its own hop: to look for each header in vain costs more than to note those that are there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hop {
    /// Its version is 1.0.
    pub(super) is_old: bool,
    pub(super) length: Told,
    pub(super) coding: bool,
    pub(super) connection: bool,
    pub(super) te: bool,
    pub(super) expects: bool,
    /// How many of `Host` there are.
    pub(super) hosts: u8,
}

/// What a head tells of its body's length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Told {
    #[default]
    Nothing,
    Plain(u64),
    /// More than once, or something else.
    Otherwise,
}

/// A head with what was noted of it, and its length in bytes; `None`: it is not whole.
pub(super) type Parsed<H> = Option<((H, Hop), usize)>;

/// The headers of a head that begins so, and what was noted of them; room is left for `more`.
pub(super) fn headers(bytes: &[u8], found: &[Header<'_>], more: usize) -> (Headers, Hop) {
    let mut hop = Hop::default();
    let headers = Headers::found(bytes, found, more, |known, value| hop.sees(known, value));
    (headers, hop)
}

/// Trailers, as slices of the bytes they were read from.
fn map(bytes: &Bytes, found: &[Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(found.len());
    for one in found {
        let name = HeaderName::from_bytes(one.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_maybe_shared(bytes.slice_ref(one.value)).ok()?);
    }
    Some(headers)
}

impl Hop {
    fn sees(&mut self, known: Known, value: &[u8]) {
        match known {
            Known::ContentLength => {
                let plain = number(value).filter(|_| self.length == Told::Nothing);
                self.length = plain.map_or(Told::Otherwise, Told::Plain);
            }
            Known::Connection => self.connection = true,
            Known::Expect => self.expects = true,
            Known::Host => self.hosts += 1,
            Known::Te => self.te = true,
            Known::TransferEncoding => self.coding = true,
            Known::Caller | Known::Date | Known::Deadline | Known::Explain => {}
            Known::OneHop | Known::Other => {}
        }
    }
}

/// The length that a head tells, made one where it is told more than once; `None`: it tells none.
pub(super) fn length(headers: &mut Headers, hop: Hop) -> Result<Option<u64>, NotHttp> {
    match hop.length {
        Told::Nothing => return Ok(None),
        Told::Plain(length) => return Ok(Some(length)),
        Told::Otherwise => {}
    }
    let (mut length, mut told) = (None, 0);
    for value in headers.all(Known::ContentLength) {
        for word in value.split(|byte| *byte == b',') {
            told += 1;
            match (number(word.trim_ascii()), length) {
                (Some(one), None) => length = Some(one),
                (Some(one), Some(before)) if one == before => {}
                _ => {
                    let shown = value.escape_ascii();
                    return Err(NotHttp(format!("its Content-Length is \"{shown}\"")));
                }
            }
        }
    }
    if let Some(length) = length.filter(|_| told > 1) {
        headers.set("content-length", itoa::Buffer::new().format(length));
    }
    Ok(length)
}

/// Whether a message comes in chunks; fails where it is coded otherwise, which would be lost on its way.
pub(super) fn is_chunked(headers: &Headers, hop: Hop) -> Result<bool, NotHttp> {
    if !hop.coding {
        return Ok(false);
    }
    let mut told = headers.all(Known::TransferEncoding);
    match (told.next(), told.next()) {
        (Some(coding), None) if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(true),
        (_, Some(_)) => Err(NotHttp("its Transfer-Encoding is there more than once".into())),
        (coding, None) => {
            let coding = coding.unwrap_or_default();
            let shown = coding.get(..40).unwrap_or(coding).escape_ascii();
            Err(NotHttp(format!("its Transfer-Encoding is not \"chunked\" alone, but begins \"{shown}\"")))
        }
    }
}

/// RFC 9112, 9.3: any `close` ends the connection; version 1.0 must ask that it stays.
pub(super) fn keeps_alive(headers: &Headers, hop: Hop) -> bool {
    let mut stays = !hop.is_old;
    if !hop.connection {
        return stays;
    }
    for value in headers.all(Known::Connection) {
        for word in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if word.eq_ignore_ascii_case(b"close") {
                return false;
            }
            stays |= word.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    stays
}

fn has_empty_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|two| two == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// Digits alone: no sign, no blank.
fn number(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    digits.first()?;
    digits.iter().try_fold(0, add)
}
