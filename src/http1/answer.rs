//! A provider's answer in HTTP/1: bytes in, head and body out. Nothing here reads, waits or looks at the clock.

use std::mem::MaybeUninit;

use bytes::Bytes;
use httparse::{ParserConfig, Status};
use hyper::StatusCode;

use super::MAX_HEADERS;
pub use super::body::{BadBody, NotHttp, Part};
use super::body::{Body, Hop, Inbox, Parsed, headers, is_chunked, keeps_alive, length};
use super::headers::Headers;

/// Headers that are set on an answer: of a quota, and of a call's story.
const OF_OURS: usize = 2;

/// What an answer says before its body.
#[derive(Debug)]
pub struct Head {
    /// Its status,
    pub status: StatusCode,
    /// and the words behind it, where they are not the usual ones.
    pub reason: Option<Box<str>>,
    /// Its headers.
    pub headers: Headers,
}

impl Head {
    /// Of an answer of this status.
    pub fn new(status: StatusCode, headers: Headers) -> Self {
        Self { status, reason: None, headers }
    }
}

/// What is read of one answer.
#[derive(Debug)]
pub struct Reader {
    inbox: Inbox,
    /// Whether a `HEAD` is answered, whose answers have no body.
    is_for_head: bool,
    keeps_alive: bool,
}

impl Reader {
    /// Nothing is read yet; `is_for_head`: of the answer to a `HEAD`.
    pub fn new(is_for_head: bool) -> Self {
        Self { inbox: Inbox::default(), is_for_head, keeps_alive: false }
    }

    /// Takes bytes that came.
    pub fn push(&mut self, more: Bytes) {
        self.inbox.push(more);
    }

    /// The answer's head, once it is whole; interim ones (100 to 199, but 101) are passed over.
    pub fn head(&mut self) -> Result<Option<Box<Head>>, NotHttp> {
        while let Some(((mut head, hop), bytes)) = self.inbox.head(parse)? {
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            head.headers.stand_in(bytes);
            let goes_on = head.status != StatusCode::SWITCHING_PROTOCOLS;
            self.keeps_alive = goes_on && keeps_alive(&head.headers, hop);
            self.inbox.body = self.body_of(&mut head, hop)?;
            return Ok(Some(head));
        }
        Ok(None)
    }

    /// Why bytes that ended before their head did are no HTTP, where that shows.
    pub fn ended_in_head(&self) -> Result<(), NotHttp> {
        let ahead = self.inbox.ahead();
        if ahead.is_empty() { Ok(()) } else { parse(ahead).map(|_| ()) }
    }

    /// By RFC 9112, 6.3.
    fn body_of(&self, head: &mut Head, hop: Hop) -> Result<Body, NotHttp> {
        let has_none = matches!(head.status.as_u16(), 101 | 204 | 304);
        if has_none || self.is_for_head {
            // nothing is read by it: one that is none is not told on
            if length(&mut head.headers, hop).is_err() {
                head.headers.remove("content-length");
            }
            return Ok(Body::Length(0));
        }
        if is_chunked(&head.headers, hop)? {
            if hop.is_old {
                return Err(NotHttp("its version is 1.0, and it has a Transfer-Encoding".into()));
            }
            // whoever reads on must not see two lengths
            head.headers.remove("content-length");
            return Ok(Body::Size);
        }
        Ok(length(&mut head.headers, hop)?.map_or(Body::ToTheEnd, Body::Length))
    }

    /// What follows in the body.
    pub fn part(&mut self) -> Result<Part, BadBody> {
        self.inbox.part()
    }

    /// Whether the body is whole if nothing more comes.
    pub fn may_end(&self) -> bool {
        matches!(self.inbox.body, Body::ToTheEnd | Body::Length(0))
    }

    /// Whether all of the answer was handed on.
    pub fn is_over(&self) -> bool {
        self.inbox.is_over()
    }

    /// Whether another answer can follow on the connection.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive && self.is_over() && self.inbox.ahead().is_empty()
    }

    /// Bytes of the body that are not handed on yet, where its length was told.
    pub fn left(&self) -> Option<u64> {
        self.inbox.left()
    }
}

/// A head, if that is whole.
fn parse(bytes: &[u8]) -> Result<Parsed<Box<Head>>, NotHttp> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let read = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut room);
    let used = match read.map_err(|why| NotHttp(why.to_string()))? {
        Status::Complete(used) => used,
        Status::Partial => return Ok(None),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| NotHttp("invalid response status".into()))?;
    let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let (headers, hop) = headers(bytes, parsed.headers, OF_OURS);
    let hop = Hop { is_old: parsed.version == Some(0), ..hop };
    let head = Head { status, reason: reason.map(Into::into), headers };
    Ok(Some(((Box::new(head), hop), used)))
}

#[cfg(test)]
mod tests;
