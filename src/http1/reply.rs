//! The head of an answer to a caller, and how its body's end is told.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Body;
use hyper::{Method, StatusCode};

use super::answer::Head;
use super::headers::Headers;
use super::request;
use super::writer::{self, Framing};

/// What of a request says how it can be answered.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// It is a `HEAD`, whose answer has no body.
    pub is_head: bool,
    /// Its version is 1.0, which knows no chunks.
    pub is_old: bool,
    /// It wants trailers.
    pub takes_trailers: bool,
}

impl Asked {
    /// By a request's head.
    pub fn by(head: &request::Head, takes_trailers: bool) -> Self {
        Self { is_head: head.method == Method::HEAD, is_old: head.is_old, takes_trailers }
    }
}

/// The head of an answer with this body as it is written, how the body's end is told, and whether the connection stays,
/// as it may where `stays`.
pub fn head<B: Body>(
    Head { status, reason, headers, .. }: &Head,
    body: &B,
    asked: Asked,
    stays: bool,
    now: Instant,
) -> (Vec<u8>, Framing, bool) {
    let (framing, told) = framing(*status, headers, body, asked);
    let stays = stays && !matches!(framing, Framing::ToTheEnd);
    let mut out = Vec::with_capacity(writer::size(headers, body) + 160);
    let reason = reason.as_deref().unwrap_or(status.canonical_reason().unwrap_or(""));
    out.extend_from_slice(if asked.is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    for part in [status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let seen = writer::headers(&mut out, headers);
    match told {
        Told::Length(length) => writer::length(&mut out, length),
        Told::Provided => {
            headers.get("content-length").into_iter().for_each(|length| {
                writer::line(&mut out, "content-length", length);
            });
        }
        Told::Chunks => writer::line(&mut out, "transfer-encoding", b"chunked"),
        Told::Nothing => {}
    }
    if !stays {
        writer::line(&mut out, "connection", b"close");
    } else if asked.is_old {
        writer::line(&mut out, "connection", b"keep-alive");
    }
    if !seen.date {
        date(&mut out, now);
    }
    out.extend_from_slice(b"\r\n");
    (out, framing, stays)
}

/// What a head says of its body's length.
enum Told {
    Length(u64),
    /// What it said before: that of a body that is not there.
    Provided,
    Chunks,
    Nothing,
}

/// By RFC 9112, 6.
fn framing<B: Body>(status: StatusCode, headers: &Headers, body: &B, asked: Asked) -> (Framing, Told) {
    let is_provided = || headers.has("content-length");
    match (status, body.size_hint().exact()) {
        (StatusCode::NO_CONTENT, _) => (Framing::Over, Told::Nothing),
        (StatusCode::NOT_MODIFIED, _) => (Framing::Over, Told::Provided),
        (_, Some(length @ 1..)) if asked.is_head && !is_provided() => (Framing::Over, Told::Length(length)),
        _ if asked.is_head => (Framing::Over, Told::Provided),
        (_, Some(0)) => (Framing::Over, Told::Length(0)),
        (_, Some(length)) => (Framing::Length(length), Told::Length(length)),
        (_, None) if asked.is_old => (Framing::ToTheEnd, Told::Nothing),
        (_, None) if asked.takes_trailers => (Framing::chunks(headers), Told::Chunks),
        (_, None) => (Framing::Chunks(Vec::new()), Told::Chunks),
    }
}

thread_local! {
    /// The header's line, and until when it holds.
    static DATE: RefCell<(Option<Instant>, String)> = const { RefCell::new((None, String::new())) };
}

fn date(out: &mut Vec<u8>, now: Instant) {
    DATE.with_borrow_mut(|(until, text)| {
        if until.is_none_or(|until| now >= until) {
            let time = SystemTime::now();
            let into = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
            *until = Some(now + Duration::from_secs(1) - Duration::from_nanos(into.into()));
            text.clear();
            // writing to text can't fail
            let _ = write!(text, "date: {}\r\n", httpdate::HttpDate::from(time));
        }
        out.extend_from_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests;
