//! What a request can be made of again.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};

use super::Outgoing;
use super::body::{Payload, Progress};

/// A copy of a request; of a streamed body, what is kept of it while it streams.
#[derive(Debug)]
pub struct Spare(Kind);

#[derive(Debug)]
enum Kind {
    Http { method: Method, uri: Uri, headers: Written, body: Body },
    Raw(Bytes),
}

/// Headers as text: few requests are sent again, and a copy of the map costs five times as much.
#[derive(Debug)]
struct Written(Vec<u8>);

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
        Self(Kind::Http { method, uri, headers: Written::of(request.headers()), body })
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
        *request.headers_mut() = headers.read();
        Some(Outgoing::Http(Box::new(request)))
    }
}

impl Written {
    fn of(headers: &HeaderMap) -> Self {
        // a name and a value with `:` and a line break, which neither has
        let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
        let mut text = Vec::with_capacity(size);
        for (name, value) in headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        Self(text)
    }

    fn read(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in self.0.split(|byte| *byte == b'\n') {
            let colon = line.iter().position(|byte| *byte == b':');
            let Some((name, value)) = colon.and_then(|at| line.split_at_checked(at)) else { continue };
            let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
                headers.append(name, value);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", "10.0.0.5:80"), ("x-a", ""), ("x-b", "a: b;\tc"), ("x-a", "2")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.append("x-raw", HeaderValue::from_bytes(b"\xff\x80:\xe4").unwrap());
        assert_eq!(Written::of(&headers).read(), headers);
        assert_eq!(Written::of(&HeaderMap::new()).read(), HeaderMap::new());
    }
}
