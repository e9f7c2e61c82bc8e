//! What callers are told where no call is: a head that is none, or never ends.

use std::time::Instant;

use super::http::{self, Reply};
use crate::error::CallError;
use crate::gateway::{self, Worker};
use crate::http1::request::Refused;

/// How a client begins that knows, or so it thinks, that HTTP/2 is spoken here.
const HTTP_2: &[u8] = b"PRI * HTTP";
const LATE_HEAD: &str = "the head of a request began, and was not there within 75s";

/// What a caller is told whose request can't be read; counted and logged. `first`: how its connection begins, unless
/// there were requests before.
pub(super) fn no_request(worker: &Worker, refused: &Refused, first: Option<&[u8]>) -> Reply {
    let error = match (refused, first) {
        (Refused::TooLarge(what), _) => CallError::HeadTooLarge(what.clone()),
        (Refused::Malformed(why), _) => CallError::MalformedRequest(format!("the request: {why}")),
        (Refused::NotHttp(why), None) => {
            CallError::MalformedRequest(format!("what follows on the connection is no request: {why}"))
        }
        (Refused::NotHttp(why), Some(first)) => {
            let what = match first {
                HTTP_2 => "HTTP/2, which is not offered",
                [0x16, ..] => "neither HTTP nor Yar (TLS?)",
                _ => "neither HTTP nor Yar",
            };
            let first = first.escape_ascii();
            CallError::MalformedRequest(format!("{what}: {why}; the connection begins \"{first}\""))
        }
    };
    let mut response = http::refuse(worker, &error, Instant::now());
    response.body.closes = true;
    response
}

/// A head began, and its time was over; its caller is told nothing.
pub(super) fn late_head(worker: &Worker) {
    gateway::refuse(worker, &CallError::MalformedRequest(LATE_HEAD.into()), (0, 0), Instant::now());
}
