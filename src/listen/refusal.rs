//! What callers are told where no call is: a head that is none, one that never ends, and the end of the process.

use std::time::Instant;

use crate::error::CallError;
use crate::gateway::{self, Worker};

/// How a client begins that knows, or so it thinks, that HTTP/2 is spoken here.
pub(super) const HTTP_2: &[u8] = b"PRI * HTTP";
const LATE_HEAD: &str = "the head of a request began, and was not there within 75s";

/// The HTTP library has answered a head that is none by itself, and says so to nobody else.
pub(super) fn no_head(worker: &Worker, error: &hyper::Error, first: &[u8]) {
    let what = match first {
        _ if error.is_parse_too_large() => "a head of more than 64KiB or 100 headers",
        HTTP_2 => "HTTP/2, which is not offered",
        [0x16, ..] => "neither HTTP nor Yar (TLS?)",
        _ => "neither HTTP nor Yar",
    };
    let first = first.escape_ascii();
    let reason = format!("{what}: {error}; the connection begins \"{first}\"");
    let status = if error.is_parse_too_large() { 431 } else { 400 };
    gateway::refuse_as(worker, &CallError::MalformedRequest(reason), status, Instant::now());
}

/// A head began, and its time was over; its caller is told nothing.
pub(super) fn late_head(worker: &Worker) {
    gateway::refuse_as(worker, &CallError::MalformedRequest(LATE_HEAD.into()), 0, Instant::now());
}

/// What a caller is told whose call has no answer when the process ends.
pub(super) fn drained() -> Vec<u8> {
    let (error, body) = (CallError::Drained, CallError::Drained.problem("", "").to_string());
    let (verdict, length) = (error.verdict(), body.len());
    let head = format!(
        "HTTP/1.1 {} Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         proxy-status: remora; error={}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n",
        verdict.status, verdict.proxy_status
    );
    (head + &body).into_bytes()
}
