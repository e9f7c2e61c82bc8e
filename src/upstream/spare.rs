//! What a request can be made of again.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method, Request, Uri};

use super::Outgoing;
use super::body::{Payload, Progress};

/// A copy of a request; of a streamed body, what is kept of it while it streams.
#[derive(Debug)]
pub struct Spare(Kind);

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives as long as a call, which a box would cost an allocation"
)]
enum Kind {
    Http { method: Method, uri: Uri, headers: HeaderMap, body: Body },
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
        let request = match request {
            Outgoing::Http(request) => request,
            Outgoing::Raw(message) => return Self(Kind::Raw(message.clone())),
        };
        let body = match request.body().progress() {
            Some(progress) => Body::Stream(progress),
            None => Body::Whole(request.body().at_hand()),
        };
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self(Kind::Http { method, uri, headers: request.headers().clone(), body })
    }

    /// The request once more; `None` where its body was not read to its end, or was too large to be kept.
    pub fn request(&self) -> Option<Outgoing> {
        let (method, uri, headers, body) = match &self.0 {
            Kind::Raw(message) => return Some(Outgoing::Raw(message.clone())),
            Kind::Http { method, uri, headers, body } => (method, uri, headers, body),
        };
        let body = match body {
            Body::Whole(bytes) => Payload::full(bytes.clone()),
            Body::Stream(progress) => Payload::full(progress.replay()?),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        Some(Outgoing::Http(request))
    }
}
