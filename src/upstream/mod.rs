//! One attempt at one peer: connections, requests, answers.

use std::sync::Arc;

use bytes::Bytes;

use crate::http1::{answer, request};
use crate::names::Address;

pub mod body;
pub mod budget;
mod exchange;
pub mod http;
mod inbound;
mod progress;
mod spare;
mod yar;

pub use body::Payload;
pub use budget::Budget;
pub use http::{Patience, Upstream};
pub use inbound::{Inbound, Upload};
pub use spare::Spare;

/// A call in the form its provider takes.
#[derive(Debug)]
pub enum Outgoing {
    /// Over HTTP.
    Http(Request),
    /// A whole Yar message, over TCP without HTTP.
    Raw(Bytes),
}

/// A request to a provider.
#[derive(Debug)]
pub struct Request {
    /// Its head, shared with what may be sent once more.
    pub head: Arc<request::Head>,
    /// Its body.
    pub body: Payload,
}

/// An answer, its body still to be read; status 200 where it is a raw Yar message.
#[derive(Debug)]
pub struct Answered {
    /// Its head.
    pub head: Box<answer::Head>,
    /// Its body.
    pub body: Payload,
}

/// How an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// Nothing of the request reached the peer; it can go to another.
    Unreached {
        /// What happened, without addresses.
        reason: String,
        /// The request as it was.
        request: Outgoing,
    },
    /// A kept connection ended without a word: most likely it had been closed before the request came.
    Stale,
    /// The peer ended before its answer did.
    Cut,
    /// What the peer sent is not HTTP; why.
    NotHttp(String),
    /// What the peer sent is not Yar; why.
    NotYar(String),
    /// The caller's own body failed.
    Body(body::Broken),
}

impl Upstream {
    /// Sends `request` to `peer` and waits for the answer's head, however long that takes.
    ///
    /// A kept connection that takes not a byte of the request is replaced by another.
    pub async fn send(
        &self,
        peer: &Address,
        request: Outgoing,
        patience: Patience,
    ) -> Result<Answered, Failure> {
        match request {
            Outgoing::Http(request) => self.send_http(peer, request, patience).await,
            Outgoing::Raw(message) => Box::pin(self.send_raw(peer, message, patience)).await,
        }
    }
}
