//! HTTP/1 from callers: bytes ↔ call and answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use proto_adapters::yar;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::caller::{CallerStream, Here, Signs, Stage};
use super::{Begun, HEAD_PATIENCE, Known, LAST_LINGER, LAST_REQUESTS, LINGER, TELLING, linger, refusal};
use crate::error::CallError;
use crate::gateway::{self, Answer, Arrival, Call, Ending, Handled, Record, Target, Voice, Worker};
use crate::socket::{Stream, stopped};
use crate::upstream::Inbound;
use crate::upstream::body::Broken;
use crate::upstream::{MAX_BUFFER, Payload};

/// For the frames that tell Yar from HTTP, where the body is too short for a whole Yar message, or has no length.
const PEEK_PATIENCE: Duration = Duration::from_secs(1);
static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const HIDDEN_LENGTH: &str =
    "a header that tells the body's length has a blank before its colon; write it without";

/// Serves one connection until it ends; after `stop`, until the call under way is answered.
pub(super) async fn serve(
    worker: Arc<Worker>,
    stream: Stream,
    begun: Begun,
    known: Known,
    mut stop: watch::Receiver<bool>,
) {
    let first = begun.seen().get(..TELLING).unwrap_or(begun.seen()).to_vec();
    let (signs, here) = (Arc::new(Signs::default()), Here { local: known.local, vouched: known.vouched });
    let stream = CallerStream::new(stream, begun.bytes, signs.clone());
    let refusing = worker.clone();
    // boxed: an idle connection holds no room for a call, and its stream can be taken back for `linger`
    let service =
        service_fn(|request| Box::pin(answer(worker.clone(), request, signs.clone(), here.clone())));
    let mut connection = http1::Builder::new()
        .timer(begun.timer)
        .header_read_timeout(HEAD_PATIENCE)
        .ignore_invalid_headers(true)
        .max_buf_size(MAX_BUFFER)
        // copying a small body behind its head costs less than telling the kernel of two places
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let (mut stopping, mut last_requests, mut is_last) = (false, None, false);
    let mut is_given_up = false;
    let ended = loop {
        let ended = std::future::poll_fn(|cx| match connection.poll_without_shutdown(cx) {
            // what is half said now is no call: nobody waits for it
            Poll::Pending if is_last && signs.is_quiet() => Poll::Ready(Ok(())),
            polled @ (Poll::Ready(_) | Poll::Pending) => polled,
        });
        tokio::select! {
            biased;
            ended = ended => break ended,
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                last_requests = Some(Box::pin(tokio::time::sleep(LAST_REQUESTS)));
            }
            () = async { if let Some(wait) = &mut last_requests { wait.await } }, if last_requests.is_some() => {
                (last_requests, is_last) = (None, true);
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = refusing.end.comes(), if stopping => {
                is_given_up = true;
                break Ok(());
            }
        }
    };
    if let Err(error) = ended.as_ref()
        && error.is_parse()
    {
        refusal::no_head(&refusing, error, &first);
    }
    let stream = connection.into_parts().io.into_inner();
    if ended.is_err_and(|error| error.is_timeout()) && stream.is_in_head() {
        refusal::late_head(&refusing);
    }
    // what is in the middle of an answer can't be told another
    let is_between = !stream.is_held_up();
    let mut stream = stream.into_inner();
    if first.starts_with(refusal::HTTP_2) {
        // the HTTP library closes it without a word
        let _ = stream.write_all(BAD_REQUEST).await;
    }
    if is_given_up && signs.is_open() && is_between {
        // its caller waits for an answer
        let told = tokio::time::timeout(LAST_LINGER, stream.write_all(&refusal::drained())).await;
        if let Ok(Ok(())) = told {
            linger(stream, LAST_LINGER).await;
        }
    } else if signs.broken.load(Relaxed) || is_given_up && (signs.is_leaving() || !is_between) {
        // an answer without a length ends with the connection: this one must not seem whole
        stream.abort();
    } else if signs.unread.load(Relaxed) {
        linger(stream, if stopping { LAST_LINGER } else { LINGER }).await;
    }
}

async fn answer(
    worker: Arc<Worker>,
    request: Request<Incoming>,
    signs: Arc<Signs>,
    here: Here,
) -> Result<Response<Leaving>, Infallible> {
    let started = Instant::now();
    let has_body = !request.body().is_end_stream();
    // set until the body was read to its end: an early answer leaves it set
    signs.unread.store(has_body, Relaxed);
    signs.enter(Stage::Open);
    let leave = |mut response: Response<Leaving>| {
        signs.enter(Stage::Leaving);
        response.body_mut().signs = Some(signs.clone());
        Ok(response)
    };
    let refuse = |error: CallError| {
        gateway::refuse(&worker, &error, started);
        problem(&error, None)
    };
    if signs.was_misread() {
        return leave(closing(refuse(CallError::MalformedRequest(HIDDEN_LENGTH.into()))));
    }
    let call = match call(&worker, request, started, &signs, &here).await {
        Ok(call) => call,
        Err(error) => return leave(refuse(error)),
    };
    leave(render(gateway::handle(&worker, call).await, &signs))
}

/// Splits the URL and looks at the first bytes of the body.
async fn call(
    worker: &Worker,
    request: Request<Incoming>,
    started: Instant,
    signs: &Signs,
    here: &Here,
) -> Result<Call, CallError> {
    if request.method() == Method::CONNECT {
        return Err(CallError::NoTunnel);
    }
    let (head, rest) = request.into_parts();
    let target = target(&head.uri, |authority| here.is(authority.host(), authority.port_u16(), &worker.host));
    // asking for the first bytes would also say 100 Continue; Yar clients never wait for that
    let waits = || head.headers.contains_key(header::EXPECT) && !target.rest.is_empty();
    let unread = signs.unread.clone();
    let mut body = Inbound { peeked: VecDeque::new(), trailers: None, rest, unread, upload: None };
    let mut is_yar = false;
    if head.method == Method::POST && !body.rest.is_end_stream() && !waits() {
        let patience = peek_patience(worker, &head.headers, body.rest.size_hint().exact());
        let until = tokio::time::Instant::from_std(started) + patience;
        let looked = signs.alarm.within(until, gateway::peek(&mut body)).await;
        // a body that begins late is nothing to refuse: it may be a stream
        if looked.is_none() {
            body.upload().iter().for_each(|upload| upload.waits());
        }
        is_yar = looked
            .unwrap_or(Ok(false))
            .map_err(|_| CallError::MalformedRequest("the request's body ended early".into()))?;
    }
    let body = if is_yar { Arrival::Yar(body) } else { Arrival::Http(body) };
    let (vouched, alarm) = (here.vouched.clone(), signs.alarm.clone());
    Ok(Call { target, head: Box::new(head), body, started, vouched, alarm })
}

/// How long the first bytes of a body of this length are waited for: as long as a call may take, if it may be Yar.
fn peek_patience(worker: &Worker, headers: &HeaderMap, length: Option<u64>) -> Duration {
    // Yar clients tell the length; what does not may be a stream that begins slowly, or waits for an answer
    if length.is_none_or(|length| length < yar::HEAD as u64) {
        return PEEK_PATIENCE;
    }
    // a deadline that can't be read is refused once the call is
    let asked = gateway::asked_patience(headers).ok().flatten();
    asked.unwrap_or(Duration::MAX).min(worker.defaults.timeout)
}

/// `/{service}/{rest}`; in absolute form of another host, that host is the service. Either may be empty.
fn target(uri: &Uri, is_own: impl Fn(&Authority) -> bool) -> Target {
    let path = uri.path().trim_start_matches('/');
    let foreign = uri.authority().filter(|authority| !is_own(authority));
    let (service, rest) = match foreign {
        Some(authority) => (authority.host(), path),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    let api = rest.split('/').next().unwrap_or("");
    let rest: Arc<str> = rest.into();
    let api = if api.len() == rest.len() { rest.clone() } else { api.into() };
    Target { service: service.into(), api, rest }
}

/// What follows on a connection whose bytes were misread would be misread too.
fn closing(mut response: Response<Leaving>) -> Response<Leaving> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Turns what became of a call into the caller's own form.
fn render(handled: Handled, signs: &Signs) -> Response<Leaving> {
    let Handled { voice, result, mut record } = handled;
    signs.patience(record.idle_timeout());
    match (voice, result) {
        (_, Ok(Answer::Http(mut response))) => {
            record.passes(response.status().as_u16());
            tell_quota(response.headers_mut(), &record);
            explain(&mut record, response.headers_mut());
            let broken = Some(signs.broken.clone());
            response.map(|body| Leaving { body, record: Some(record), broken, signs: None })
        }
        (_, Ok(Answer::Json(json))) => leave(StatusCode::OK, "application/json", json, Some(record)),
        (_, Ok(Answer::Yar(message))) => yar(message, Some(record)),
        (Voice::Yar { packager, id }, Err(error)) => {
            yar(yar::encode_exception(packager, id, &error.exception_of(record.id())), Some(record))
        }
        (Voice::Http, Err(error)) => problem(&error, Some(record)),
    }
}

fn yar(message: Vec<u8>, record: Option<Box<Record>>) -> Response<Leaving> {
    leave(StatusCode::OK, "application/octet-stream", message.into(), record)
}

/// RFC 9457, and RFC 9209 in the head.
fn problem(error: &CallError, mut record: Option<Box<Record>>) -> Response<Leaving> {
    let verdict = error.verdict();
    let id = record.as_mut().and_then(|record| record.id());
    let (service, api) = record.as_ref().map_or(("", ""), |record| record.names());
    let mut problem = error.problem(service, api);
    if let (Some(id), Some(fields)) = (id, problem.as_object_mut()) {
        fields.insert("instance".into(), format!("urn:remora:call:{id}").into());
    }
    let status = StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = leave(status, "application/problem+json", problem.to_string().into(), record);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(format!("remora; error={}", verdict.proxy_status)) {
        headers.insert("proxy-status", value);
    }
    if verdict.status == 405 {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
    }
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(error, CallError::UnknownKey { .. }) {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("X-Api-Key realm=\"remora\""));
    }
    response
}

/// `RateLimit` of the caller's quota, unless the provider tells of one of its own.
fn tell_quota(headers: &mut HeaderMap, record: &Record) {
    let Some(standing) = record.standing().filter(|_| !headers.contains_key(&RATE_LIMIT)) else { return };
    for (name, value) in [(&RATE_LIMIT, standing.limit()), (&RATE_LIMIT_POLICY, standing.policy())] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

fn leave(
    status: StatusCode,
    kind: &'static str,
    mut body: Bytes,
    mut record: Option<Box<Record>>,
) -> Response<Leaving> {
    if let Some(record) = &mut record {
        body = record.leaves(body);
    }
    let mut headers = HeaderMap::new();
    record.iter().for_each(|record| tell_quota(&mut headers, record));
    record.iter_mut().for_each(|record| explain(record, &mut headers));
    let mut response =
        Response::new(Leaving { body: Payload::full(body), record, broken: None, signs: None });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Names the call, where its story is kept, and tells it to a caller that may ask.
fn explain(record: &mut Record, headers: &mut HeaderMap) {
    let Some(id) = record.id() else { return };
    let story = record.asked_story();
    let values = [("x-remora-call", Some(id.to_string())), ("x-remora-explain", story)];
    for (name, value) in values {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// An answer on its way out; its call's record is written when it has left, or was dropped.
#[derive(Debug)]
struct Leaving {
    body: Payload,
    record: Option<Box<Record>>,
    /// Set when a streamed body breaks off.
    broken: Option<Arc<AtomicBool>>,
    /// Of its connection.
    signs: Option<Arc<Signs>>,
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let (Some(record), Some(Ok(frame))) = (&mut this.record, &frame) {
            record.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        match &frame {
            Some(Err(why)) => {
                this.broken.iter().for_each(|broken| broken.store(true, Relaxed));
                this.finish(Ending::Broken(*why));
            }
            // a chunked body is known to be over when nothing more comes
            None => this.finish(Ending::Whole),
            Some(Ok(_)) if this.body.is_end_stream() => this.finish(Ending::Whole),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Leaving {
    fn finish(&mut self, ending: Ending) {
        if let Some(mut record) = self.record.take() {
            record.ended(ending);
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // a body that is over before it is asked for, or that a HEAD doesn't want, is never polled
        let whole = self.body.is_end_stream() || self.body.is_at_hand();
        let is_over = whole || self.record.is_none();
        let untaken = self.signs.as_ref().and_then(|signs| signs.untaken());
        self.finish(match untaken {
            _ if whole => Ending::Whole,
            Some(patience) => Ending::Untaken(patience),
            None => Ending::CallerGone,
        });
        if is_over {
            self.signs.iter().for_each(|signs| signs.enter(Stage::None));
        }
    }
}
