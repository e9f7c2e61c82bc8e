//! HTTP from callers: a request becomes a call, and what becomes of that an answer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode, Uri};
use proto_adapters::yar;

use super::connection::Connection;
use crate::directory::Bounds;
use crate::error::CallError;
use crate::gateway::{self, Answer, Arrival, Call, Ending, Handled, Record, Target, Voice, Worker};
use crate::http1::headers::Headers;
use crate::http1::{answer, request};
use crate::upstream::body::Broken;
use crate::upstream::{Inbound, Payload};

/// For the frames that tell Yar from HTTP, where the body is too short for a whole Yar message, or has no length.
const PEEK_PATIENCE: Duration = Duration::from_secs(1);
/// The same where it is refused for its length: Yar clients, who read an exception, send it with its head.
const REFUSED_PATIENCE: Duration = Duration::from_millis(100);
/// Bytes of an answer that counts as taken when all of it is here; a larger one does when all of it is written.
const SMALL: u64 = 64 << 10;
/// Headers that most answers of our own have at most, and their bytes.
const OF_OURS: (usize, usize) = (6, 320);
/// A caller that takes nothing of its answer for so long is given up, unless the call's policy says otherwise.
const STALL: Duration = Duration::from_secs(30);

/// Carries one call and makes its answer.
pub(super) async fn answer(connection: &Connection, head: Arc<request::Head>) -> Reply {
    let (started, worker) = (Instant::now(), &connection.worker);
    let is_up = || connection.is_up();
    match gateway::unless_up(is_up, pin!(call(connection, head, started))).await {
        Ok(call) => render(gateway::handle_unless(is_up, worker, call).await),
        Err(error) => refuse(worker, &error, started),
    }
}

/// What a caller is told whose request names no call; counted and logged.
pub(super) fn refuse(worker: &Worker, error: &CallError, started: Instant) -> Reply {
    let response = problem(error, None);
    let told = (response.head.status.as_u16(), response.body.size_hint().lower());
    gateway::refuse(worker, error, told, started);
    response
}

/// Splits the URL and looks at the first bytes of the body.
async fn call(
    connection: &Connection,
    head: Arc<request::Head>,
    started: Instant,
) -> Result<Call, CallError> {
    if head.method == Method::CONNECT {
        return Err(CallError::NoTunnel);
    }
    let (worker, here) = (&connection.worker, &connection.here);
    let target = target(&head.uri, |authority| here.is(authority.host(), authority.port_u16(), &worker.host));
    let waits = head.expects;
    let rest = connection.line.body(waits);
    let mut body = Inbound { peeked: VecDeque::new(), trailers: None, rest, upload: None };
    let mut is_yar = false;
    // asking for the first bytes would also say 100 Continue; Yar clients never wait for that
    if head.method == Method::POST && !body.rest.is_over() && (!waits || target.rest.is_empty()) {
        is_yar = begins_as_yar(connection, (&head, &target), &mut body, started).await?;
    }
    let body = if is_yar { Arrival::Yar(body) } else { Arrival::Http(body) };
    let (vouched, alarm) = (here.vouched.clone(), connection.alarm.clone());
    Ok(Call { target, head, body, started, vouched, alarm })
}

/// Whether a body is Yar, by its first bytes.
async fn begins_as_yar(
    connection: &Connection,
    (head, target): (&request::Head, &Target),
    body: &mut Inbound,
    started: Instant,
) -> Result<bool, CallError> {
    let length = body.rest.size_hint().exact();
    let looked = {
        let mut looking = pin!(gateway::peek(body));
        match poll_fn(|cx| Poll::Ready(looking.as_mut().poll(cx))).await {
            Poll::Ready(looked) => Some(looked),
            Poll::Pending => {
                // a deadline that can't be read is refused once the call is
                let asked = gateway::asked_patience(&head.headers).ok().flatten();
                let bounds = connection.worker.bounds(target, asked).await;
                let until = started + peek_patience(bounds, asked, length);
                connection.alarm.within(until.into(), looking).await
            }
        }
    };
    // a body that begins late is nothing to refuse: it may be a stream
    if looked.is_none() {
        body.upload().iter().for_each(|upload| upload.waits());
    }
    looked.unwrap_or(Ok(false)).map_err(|why| gateway::broken_body(why.into(), 0))
}

/// How long the first bytes of a body of this length are waited for: as long as its call may take, if it may be Yar.
fn peek_patience(
    Bounds { max_body, timeout }: Bounds,
    asked: Option<Duration>,
    length: Option<u64>,
) -> Duration {
    let most = match length {
        Some(length) if length > max_body.saturating_add(yar::HEAD as u64) => REFUSED_PATIENCE,
        Some(length) if length >= yar::HEAD as u64 => timeout,
        // Yar clients tell the length; what does not may be a stream that begins slowly, or waits for an answer
        Some(_) | None => PEEK_PATIENCE,
    };
    most.min(timeout).min(asked.unwrap_or(timeout))
}

/// `/{service}/{rest}`; in absolute form of another host, that host is the service. Either may be empty; both are
/// where all of a server is meant (`OPTIONS *`).
fn target(uri: &Uri, is_own: impl Fn(&Authority) -> bool) -> Target {
    let path = if uri.path() == "*" { "" } else { uri.path().trim_start_matches('/') };
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

/// Turns what became of a call into the caller's own form.
fn render(handled: Handled) -> Reply {
    let Handled { voice, result, mut record } = handled;
    match (voice, result) {
        (_, Ok(Answer::Http(mut response))) => {
            record.passes(response.head.status.as_u16());
            tell_quota(&mut response.head.headers, &record);
            explain(&mut record, &mut response.head.headers);
            let made = record.settled().unwrap_or_else(Instant::now);
            Reply { head: response.head, body: Leaving::new(response.body, Some(record)), made }
        }
        (_, Ok(Answer::Json(json))) => leave(StatusCode::OK, "application/json", json, Some(record)),
        (_, Ok(Answer::Yar(message))) => yar(message, Some(record)),
        (Voice::Yar { packager, id }, Err(error)) => {
            yar(yar::encode_exception(packager, id, &error.exception_of(record.id())), Some(record))
        }
        (Voice::Http, Err(error)) => problem(&error, Some(record)),
    }
}

fn yar(message: Vec<u8>, record: Option<Box<Record>>) -> Reply {
    leave(StatusCode::OK, "application/octet-stream", message.into(), record)
}

/// RFC 9457, and RFC 9209 in the head.
fn problem(error: &CallError, mut record: Option<Box<Record>>) -> Reply {
    let verdict = error.verdict();
    let id = record.as_mut().and_then(|record| record.id());
    let (service, api) = record.as_ref().map_or(("", ""), |record| record.names());
    let mut problem = error.problem(service, api);
    if let (Some(id), Some(fields)) = (id, problem.as_object_mut()) {
        fields.insert("instance".into(), format!("urn:remora:call:{id}").into());
    }
    let status = StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = leave(status, "application/problem+json", problem.to_string().into(), record);
    let headers = &mut response.head.headers;
    headers.push("proxy-status", format!("remora; error={}", verdict.proxy_status));
    if verdict.status == 405 {
        headers.push("allow", "GET, POST");
    }
    if let Some(seconds) = error.retry_after() {
        headers.push("retry-after", itoa::Buffer::new().format(seconds));
    }
    if matches!(error, CallError::UnknownKey { .. }) {
        headers.push("www-authenticate", "X-Api-Key realm=\"remora\"");
    }
    response
}

/// `RateLimit` of the caller's quota, unless the provider tells of one of its own.
fn tell_quota(headers: &mut Headers, record: &Record) {
    let Some((standing, policy)) = record.standing() else { return };
    if !headers.has("ratelimit") {
        headers.push("ratelimit", standing.limit());
        headers.set("ratelimit-policy", policy);
    }
}

fn leave(status: StatusCode, kind: &'static str, mut body: Bytes, mut record: Option<Box<Record>>) -> Reply {
    if let Some(record) = &mut record {
        body = record.leaves(body);
    }
    let mut headers = Headers::with_room(OF_OURS.0, OF_OURS.1);
    record.iter().for_each(|record| tell_quota(&mut headers, record));
    record.iter_mut().for_each(|record| explain(record, &mut headers));
    headers.push("content-type", kind);
    let head = Box::new(answer::Head::new(status, headers));
    Reply { head, body: Leaving::new(Payload::full(body), record), made: Instant::now() }
}

/// Names the call, where its story is kept, and tells it to a caller that may ask.
fn explain(record: &mut Record, headers: &mut Headers) {
    let Some(id) = record.id() else { return };
    let story = record.asked_story();
    headers.set("x-remora-call", id.to_string());
    story.iter().for_each(|story| headers.set("x-remora-explain", story));
}

/// What a caller is told of an answer that broke off before any of it has left; `None`: nothing, it is cut.
pub(super) fn broken(answer: &mut Leaving, why: Broken) -> Option<Reply> {
    if matches!(why, Broken::Caller | Broken::TooLarge | Broken::NoRoom(_)) {
        return None;
    }
    let (mut record, error) = (answer.record.take()?, gateway::broken_body(why, 0));
    record.ended(Ending::Broken(why));
    record.replaces(error.verdict().status);
    Some(problem(&error, Some(record)))
}

/// An answer to a caller.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: Box<answer::Head>,
    pub(super) body: Leaving,
    /// When it was made.
    pub(super) made: Instant,
}

/// The body of an answer on its way out; its call's record is written when it has left, or all of a small one is here.
/// One that is dropped before has lost its caller.
#[derive(Debug)]
pub(super) struct Leaving {
    body: Payload,
    record: Option<Box<Record>>,
    /// How long its caller may take nothing of it.
    pub(super) patience: Duration,
    /// No request follows it.
    pub(super) closes: bool,
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
        let is_over = frame.as_ref().is_none_or(|frame| frame.is_ok() && this.body.is_end_stream());
        // the kernel takes it at once, and who has the answer may ask for its story
        if is_over && this.record.as_ref().is_some_and(|record| record.bytes <= SMALL) {
            this.finish(Ending::Whole);
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
    fn new(body: Payload, record: Option<Box<Record>>) -> Self {
        let patience = record.as_ref().map(|record| record.idle_timeout()).filter(|own| !own.is_zero());
        Self { body, record, patience: patience.unwrap_or(STALL), closes: false }
    }

    /// Notes how its way ended.
    pub(super) fn finish(&mut self, ending: Ending) {
        if let Some(mut record) = self.record.take() {
            record.ended(ending);
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.finish(Ending::CallerGone);
    }
}
