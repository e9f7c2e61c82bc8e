//! A request on its way to a provider, in HTTP/1.

use std::task::{Context, Poll};

use hyper::Method;
use hyper::body::Body;
use hyper::http::uri::PathAndQuery;
use tokio::io::AsyncWrite;

use crate::http1::writer::{self, Framing};
use crate::upstream::Request;
use crate::upstream::body::Broken;

pub(super) type Stuck = writer::Stuck<Broken>;

/// What of a request is still to be written.
#[derive(Debug)]
pub(super) struct Writer {
    request: Request,
    writer: writer::Writer,
}

impl Writer {
    /// Nothing is written yet; `host` is whom it goes to.
    pub(super) fn new(request: Request, host: &str) -> Self {
        let framing = framing(&request);
        let head = head(&request, host, &framing);
        // a body at hand stays in its request: it can be sent again
        let writer = match request.body.is_at_hand() {
            true => writer::Writer::whole(head, request.body.at_hand()),
            false => writer::Writer::new(head, framing),
        };
        Self { request, writer }
    }

    /// Writes on; ready when all of it is written.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Stuck>> {
        self.writer.poll(cx, &mut self.request.body, stream)
    }

    /// Whether some was written since this was asked last.
    pub(super) fn has_moved(&mut self) -> bool {
        self.writer.has_moved()
    }

    /// The request as it was, where nothing of it was taken and all of its body is at hand.
    pub(super) fn unsent(self) -> Option<Request> {
        (self.writer.is_fresh() && self.request.body.is_at_hand()).then_some(self.request)
    }
}

fn framing(request: &Request) -> Framing {
    if request.body.is_end_stream() {
        return Framing::Over;
    }
    request.body.size_hint().exact().map_or_else(|| Framing::chunks(&request.head.headers), Framing::Length)
}

/// The request's line and headers, with those that tell its body's length.
fn head(request: &Request, host: &str, framing: &Framing) -> Vec<u8> {
    let path = request.head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let headers = &request.head.headers;
    let size = writer::size(headers, &request.body);
    let mut out =
        Vec::with_capacity(request.head.method.as_str().len() + path.len() + host.len() + size + 64);
    for part in [request.head.method.as_str(), " ", path, " HTTP/1.1\r\nhost: ", host, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let seen = writer::headers(&mut out, headers);
    match framing {
        Framing::Length(length) => writer::length(&mut out, *length),
        Framing::Chunks(_) => writer::line(&mut out, "transfer-encoding", b"chunked"),
        Framing::Over | Framing::ToTheEnd if seen.length || may_have_one(&request.head.method) => {
            writer::length(&mut out, 0)
        }
        Framing::Over | Framing::ToTheEnd => {}
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Whether a request of this method says so where it has no body; others do where their caller did.
fn may_have_one(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}
