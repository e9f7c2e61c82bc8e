//! A caller's request in HTTP/1: bytes in, head and body out. Nothing here reads, waits or looks at the clock.

use std::mem::MaybeUninit;

use bytes::Bytes;
use httparse::{Header, ParserConfig, Status};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri, Version};

use super::body::{Body, Hop, Inbox, NotHttp, Parsed, Part, TooLong, is_chunked, keeps_alive, length, map};
use super::{MAX_HEAD, MAX_HEADERS};

/// Headers by which a body's length is told.
const LENGTHS: [HeaderName; 2] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// What is read of the requests of one connection.
#[derive(Debug, Default)]
pub struct Reader {
    inbox: Inbox,
    keeps_alive: bool,
    takes_trailers: bool,
}

/// Why what came is no request; what follows it can't be read either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Its head is too large; how.
    TooLarge(String),
    /// It is not HTTP/1; why.
    NotHttp(String),
    /// What it says can't be meant; why.
    Malformed(String),
    /// It tells its body's length in a way that only some programs obey.
    HiddenLength,
}

impl From<NotHttp> for Refused {
    fn from(NotHttp(why): NotHttp) -> Self {
        Self::Malformed(why)
    }
}

impl From<TooLong> for Refused {
    fn from(_: TooLong) -> Self {
        Self::TooLarge(format!("the request's head has more than {MAX_HEAD} bytes"))
    }
}

impl Reader {
    /// Takes bytes that came.
    pub fn push(&mut self, more: Bytes) {
        self.inbox.push(more);
    }

    /// The next request's head, once it is whole; ask for it when the one before is over.
    pub fn head(&mut self) -> Result<Option<Box<Parts>>, Refused> {
        let Some((mut head, hop)) = self.inbox.head(parse)? else { return Ok(None) };
        self.keeps_alive = keeps_alive(head.version, &head.headers, hop);
        self.takes_trailers = hop.te && takes_trailers(&head.headers);
        self.inbox.body = self.body_of(&mut head, hop)?;
        Ok(Some(head))
    }

    /// Why bytes that ended before their head did are no request, where that shows.
    pub fn ended_in_head(&self) -> Result<(), Refused> {
        let ahead = self.inbox.ahead();
        if ahead.is_empty() { Ok(()) } else { parse(ahead).map(|_| ()) }
    }

    /// By RFC 9112, 6.3.
    fn body_of(&mut self, head: &mut Parts, hop: Hop) -> Result<Body, Refused> {
        match is_chunked(&head.headers, hop) {
            None => Ok(Body::Length(length(&mut head.headers, hop)?.unwrap_or(0))),
            Some(true) if head.version == Version::HTTP_11 => {
                // whoever reads on must not see two lengths, and whoever wrote both may mean the other
                self.keeps_alive &= head.headers.remove(header::CONTENT_LENGTH).is_none();
                Ok(Body::Size)
            }
            Some(true) => {
                Err(Refused::Malformed("its version is 1.0, and it has a Transfer-Encoding".into()))
            }
            Some(false) => {
                Err(Refused::Malformed("its Transfer-Encoding does not end in \"chunked\"".into()))
            }
        }
    }

    /// What follows in the body.
    pub fn part(&mut self) -> Result<Part, NotHttp> {
        self.inbox.part()
    }

    /// Whether all of the request was handed on.
    pub fn is_over(&self) -> bool {
        self.inbox.is_over()
    }

    /// Whether another request may follow on the connection.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Whether the caller of the request that was read last wants trailers.
    pub fn takes_trailers(&self) -> bool {
        self.takes_trailers
    }

    /// Bytes of the body that are not handed on yet, where its length was told.
    pub fn left(&self) -> Option<u64> {
        self.inbox.left()
    }

    /// Bytes that came and were not handed on.
    pub fn ahead(&self) -> &[u8] {
        self.inbox.ahead()
    }
}

/// A head, if that is whole.
fn parse(bytes: &Bytes) -> Result<Parsed<Box<Parts>>, Refused> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let mut config = ParserConfig::default();
    config.ignore_invalid_headers_in_requests(true);
    let used = match config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut room) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refused::TooLarge(format!("the request has more than {MAX_HEADERS} headers")));
        }
        Err(why) => return Err(Refused::NotHttp(why.to_string())),
    };
    let text = bytes.get(..used).unwrap_or_default();
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    // a line that is no header was left out: other programs may read it
    if lines != parsed.headers.len() + 2 && hides_length(text, parsed.headers) {
        return Err(Refused::HiddenLength);
    }
    let (mut head, ()) = Request::new(()).into_parts();
    let no = |what: &str| Refused::Malformed(format!("its {what} can't be read"));
    head.method =
        Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| no("method"))?;
    let path = bytes.slice_ref(parsed.path.unwrap_or_default().as_bytes());
    head.uri = Uri::from_maybe_shared(path).map_err(|why| Refused::Malformed(format!("its URL: {why}")))?;
    if parsed.version == Some(0) {
        head.version = Version::HTTP_10;
    }
    let (headers, hop) = map(bytes, parsed.headers, 0)?;
    head.headers = headers;
    Ok(Some(((Box::new(head), hop), used)))
}

/// Whether a line that is no header tells a length, as `Content-Length : 7` does.
fn hides_length(head: &[u8], headers: &[Header<'_>]) -> bool {
    let is_of_length =
        |name: &[u8]| LENGTHS.iter().any(|length| name.eq_ignore_ascii_case(length.as_str().as_bytes()));
    let lines = head.split(|byte| *byte == b'\n').filter(|line| line.contains(&b':'));
    let named = lines.filter_map(|line| line.split(|byte| *byte == b':').next());
    let told = named.filter(|name| is_of_length(bare(name))).count();
    told > headers.iter().filter(|header| is_of_length(header.name.as_bytes())).count()
}

/// A name without what other programs may read over.
fn bare(name: &[u8]) -> &[u8] {
    let is_odd = |byte: &u8| !byte.is_ascii_graphic();
    let start = name.iter().take_while(|byte| is_odd(byte)).count();
    let end = name.iter().rev().take_while(|byte| is_odd(byte)).count();
    name.get(start..name.len() - end).unwrap_or_default()
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let words = headers.get_all(header::TE).iter().flat_map(|te| te.as_bytes().split(|byte| *byte == b','));
    words.map(<[u8]>::trim_ascii).any(|word| word.eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests;
