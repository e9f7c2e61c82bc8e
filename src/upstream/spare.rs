//! What a request can be made of again.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri};

use super::Outgoing;
use super::body::Payload;
use super::progress::Progress;

/// A copy of a request; of a streamed body, what is kept of it while it streams.
#[derive(Debug)]
pub struct Spare(Kind);

#[derive(Debug)]
enum Kind {
    Http { method: Method, head: Written, body: Body },
    Raw(Bytes),
}

/// A line with the path, and headers, as text: few requests are sent again, and a copy of what is parsed costs more.
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
        let (method, head) = (request.method().clone(), Written::of(request.uri(), request.headers()));
        Self(Kind::Http { method, head, body })
    }

    /// The request once more; `None` where its body was not read to its end, or was too large to be kept.
    pub fn request(&self) -> Option<Outgoing> {
        let (method, head, body) = match &self.0 {
            Kind::Raw(message) => return Some(Outgoing::Raw(message.clone())),
            Kind::Http { method, head, body } => (method, head, body),
        };
        let body = match body {
            Body::Whole(bytes) => Payload::full(bytes.clone()),
            Body::Stream(progress) => Payload::full(progress.replay()?),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        (*request.uri_mut(), *request.headers_mut()) = head.read()?;
        Some(Outgoing::Http(Box::new(request)))
    }
}

impl Written {
    fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        // a name and a value with `:` and a line break, which neither has
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
        let mut text = Vec::with_capacity(path.len() + 1 + size);
        text.extend_from_slice(path.as_bytes());
        text.push(b'\n');
        for (name, value) in headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        Self(text)
    }

    /// Of what this wrote, always something.
    fn read(&self) -> Option<(Uri, HeaderMap)> {
        let mut headers = HeaderMap::new();
        let mut lines = self.0.split(|byte| *byte == b'\n');
        let path = Uri::try_from(lines.next()?).ok()?;
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':');
            let Some((name, value)) = colon.and_then(|at| line.split_at_checked(at)) else { continue };
            let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
                headers.append(name, value);
            }
        }
        Some((path, headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", "10.0.0.5:80"), ("x-a", ""), ("x-b", "a: b;\tc"), ("x-a", "2")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.append("x-raw", HeaderValue::from_bytes(b"\xff\x80:\xe4").unwrap());
        let uri = Uri::from_static("/user/get?a=b:c&d=%0a");
        assert_eq!(Written::of(&uri, &headers).read(), Some((uri.clone(), headers)));
        assert_eq!(Written::of(&uri, &HeaderMap::new()).read(), Some((uri, HeaderMap::new())));
    }
}
