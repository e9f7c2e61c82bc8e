//! A caller's request in HTTP/1: bytes in, head and body out. Nothing here reads, waits or looks at the clock.

use std::mem::MaybeUninit;
use std::sync::Arc;

use bytes::Bytes;
use httparse::{EMPTY_HEADER, ParserConfig, Status};
use hyper::{Method, Uri};

use super::body::{
    BadBody, Body, Hop, Inbox, NotHttp, Parsed, Part, TooLong, headers, is_chunked, keeps_alive, length,
};
use super::headers::{Headers, Known};
use super::{MAX_HEAD, MAX_HEADERS};

/// Headers that change what becomes of a request: one that can't be read is not left out.
const HEEDED: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "x-api-key",
    "x-caller",
    "x-deadline-ms",
    "x-remora-explain",
];
/// Bytes of a name that are shown where it is none.
const SHOWN: usize = 40;
/// Headers that are set on a request: of a deadline, and of a trace.
const OF_OURS: usize = 2;

/// What a request says before its body.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// Its headers.
    pub headers: Headers,
    /// Whether its version is 1.0.
    pub is_old: bool,
    /// Whether it wants to be told to go on before its body is sent.
    pub expects: bool,
}

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
    pub fn head(&mut self) -> Result<Option<Arc<Head>>, Refused> {
        let Some(((mut head, hop), bytes)) = self.inbox.head(parse)? else { return Ok(None) };
        head.headers.stand_in(bytes);
        if hop.hosts > 1 {
            return Err(several_hosts(&head.headers));
        }
        head.expects = hop.expects && !hop.is_old && goes_on_later(&head.headers);
        self.keeps_alive = keeps_alive(&head.headers, hop);
        self.takes_trailers = hop.te && takes_trailers(&head.headers);
        self.inbox.body = self.body_of(&mut head, hop)?;
        Ok(Some(Arc::new(head)))
    }

    /// Why bytes that ended before their head did are no request, where that shows.
    pub fn ended_in_head(&self) -> Result<(), Refused> {
        let ahead = self.inbox.ahead();
        if ahead.is_empty() { Ok(()) } else { parse(ahead).map(|_| ()) }
    }

    /// By RFC 9112, 6.3.
    fn body_of(&mut self, head: &mut Head, hop: Hop) -> Result<Body, Refused> {
        if !is_chunked(&head.headers, hop)? {
            return Ok(Body::Length(length(&mut head.headers, hop)?.unwrap_or(0)));
        }
        if hop.is_old {
            return Err(Refused::Malformed("its version is 1.0, and it has a Transfer-Encoding".into()));
        }
        // whoever reads on must not see two lengths, and whoever wrote both may mean the other
        self.keeps_alive &= !head.headers.remove("content-length");
        Ok(Body::Size)
    }

    /// What follows in the body.
    pub fn part(&mut self) -> Result<Part, BadBody> {
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
fn parse(bytes: &[u8]) -> Result<Parsed<Head>, Refused> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let mut config = ParserConfig::default();
    // old Yar clients print a structure where the host's name belongs
    config.ignore_invalid_headers_in_requests(true);
    let used = match config.parse_request_with_uninit_headers(&mut parsed, bytes, &mut room) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) => return Ok(None),
        // what is wrong with the first line is told once all of it is there
        Err(httparse::Error::Version) if !has_first_line(bytes) => return Ok(None),
        Err(why) => return Err(refused(bytes, why)),
    };
    let text = bytes.get(..used).unwrap_or_default();
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    if lines != parsed.headers.len() + 2 {
        left_out(text)?;
    }
    let no = |what: &str| Refused::Malformed(format!("its {what} can't be read"));
    let method =
        Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| no("method"))?;
    let path = Bytes::copy_from_slice(parsed.path.unwrap_or_default().as_bytes());
    let no_url =
        |why| Refused::Malformed(format!("its URL: {why}; call /{{service}}/{{api}}, by Yar /{{service}}"));
    let uri = Uri::from_maybe_shared(path).map_err(no_url)?;
    let (headers, hop) = headers(bytes, parsed.headers, OF_OURS);
    let hop = Hop { is_old: parsed.version == Some(0), ..hop };
    Ok(Some(((Head { method, uri, headers, is_old: hop.is_old, expects: false }, hop), used)))
}

/// Whether the request's own line is here to its end; empty ones may come before it.
fn has_first_line(bytes: &[u8]) -> bool {
    bytes.iter().skip_while(|byte| matches!(byte, b'\r' | b'\n')).any(|byte| *byte == b'\n')
}

/// The lines of a head, the request's own first.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty())
}

/// Fails where a line was left out that says something of weight, to us or to programs that read it all the same.
fn left_out(head: &[u8]) -> Result<(), Refused> {
    for line in lines(head).skip(1) {
        let whole = [line, b"\r\n\r\n"].concat();
        let Err(why) = httparse::parse_headers(&whole, &mut [EMPTY_HEADER]) else { continue };
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_heeded = |heeded: &&str| bare(name).eq_ignore_ascii_case(heeded.as_bytes());
        let is_folded = line.first().is_some_and(|first| matches!(first, b' ' | b'\t'));
        if is_folded || HEEDED.iter().any(is_heeded) {
            // what stands behind the colon may be a key
            let shown = name.get(..SHOWN).unwrap_or(name).escape_ascii();
            return Err(Refused::Malformed(format!("its line \"{shown}…\" is no header: {why}")));
        }
    }
    Ok(())
}

/// A name without what other programs may read over.
fn bare(name: &[u8]) -> &[u8] {
    let is_odd = |byte: &&u8| !byte.is_ascii_graphic();
    let start = name.iter().take_while(is_odd).count();
    let end = name.iter().rev().take_while(is_odd).count();
    name.get(start..name.len().saturating_sub(end)).unwrap_or_default()
}

/// Why a head is none, in words that help whoever wrote it.
fn refused(head: &[u8], why: httparse::Error) -> Refused {
    let first = lines(head).next().unwrap_or_default();
    let parts: Vec<_> = first.split(|byte| *byte == b' ').collect();
    let is_http = parts.last().is_some_and(|last| last.starts_with(b"HTTP/1."));
    match why {
        httparse::Error::TooManyHeaders => {
            Refused::TooLarge(format!("the request has more than {MAX_HEADERS} headers"))
        }
        httparse::Error::Version if is_http && parts.len() > 3 => Refused::Malformed(
            "its URL has a blank; encode it as %20 (rawurlencode, http_build_query)".into(),
        ),
        httparse::Error::Version
        | httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token => Refused::NotHttp(why.to_string()),
    }
}

/// RFC 9112, 3.2: whoever reads on may take another of them for the one that is meant.
fn several_hosts(headers: &Headers) -> Refused {
    let shown = |host: &[u8]| format!("\"{}\"", host.get(..SHOWN).unwrap_or(host).escape_ascii());
    let hosts: Vec<_> = headers.all(Known::Host).map(shown).take(2).collect();
    Refused::Malformed(format!("its Host is there more than once, {}; send it once", hosts.join(" and ")))
}

fn goes_on_later(headers: &Headers) -> bool {
    headers.all(Known::Expect).next().is_some_and(|wanted| wanted.eq_ignore_ascii_case(b"100-continue"))
}

fn takes_trailers(headers: &Headers) -> bool {
    let words = headers.all(Known::Te).flat_map(|te| te.split(|byte| *byte == b','));
    words.map(<[u8]>::trim_ascii).any(|word| word.eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests;
