//! What a request can be made of again.

use std::sync::Arc;

use bytes::Bytes;

use super::body::Payload;
use super::progress::Progress;
use super::{Outgoing, Request};
use crate::http1::request::Head;

/// A copy of a request; of a streamed body, what is kept of it while it streams.
#[derive(Debug)]
pub struct Spare(Kind);

#[derive(Debug)]
enum Kind {
    Http(Arc<Head>, Body),
    Raw(Bytes),
}

#[derive(Debug)]
enum Body {
    Whole(Bytes),
    Stream(Arc<Progress>),
}

impl Spare {
    /// Of a request that was not sent yet.
    pub fn of(request: &Outgoing) -> Self {
        let Request { head, body } = match request {
            Outgoing::Http(request) => request,
            Outgoing::Raw(message) => return Self(Kind::Raw(message.clone())),
        };
        let body = match body.progress() {
            Some(progress) => Body::Stream(progress),
            None => Body::Whole(body.at_hand()),
        };
        Self(Kind::Http(head.clone(), body))
    }

    /// The request once more; `None` where its body was not read to its end, or was too large to be kept.
    pub fn request(&self) -> Option<Outgoing> {
        let (head, body) = match &self.0 {
            Kind::Raw(message) => return Some(Outgoing::Raw(message.clone())),
            Kind::Http(head, body) => (head.clone(), body),
        };
        let body = match body {
            Body::Whole(bytes) => Payload::full(bytes.clone()),
            Body::Stream(progress) => Payload::full(progress.replay()?),
        };
        Some(Outgoing::Http(Request { head, body }))
    }
}
