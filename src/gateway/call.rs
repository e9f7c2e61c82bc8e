//! A call as the doors hand it in, and as it is once it was read.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto_adapters::Fault;
use proto_adapters::yar::{self, HEAD, Header, Packager};

use super::Record;
use super::beside::{convert, convert_by};
use super::headers::{Said, asked_patience};
use crate::alarm::Alarm;
use crate::error::CallError;
use crate::http1::caller::Unfinished;
use crate::http1::request::Head;
use crate::limits::Part;
use crate::names::{CallerName, ServiceName};
use crate::upstream::budget::Share;
use crate::upstream::{Inbound, Payload, Upload};

/// Most characters of a name that are logged.
const LOGGED: usize = 128;

/// What the URL names, or the method of a raw Yar message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The service, not yet checked.
    pub service: Arc<str>,
    /// The API; empty where the URL names none.
    pub api: Arc<str>,
    /// All behind the service, without the slash before it: `api`, or `api/more/of/it`.
    pub rest: Arc<str>,
}

/// A call as it came in.
#[derive(Debug)]
pub struct Call {
    /// What it names.
    pub target: Target,
    /// Method, URL, headers; nothing in it where the call did not come by HTTP.
    pub head: Arc<Head>,
    /// The body.
    pub body: Arrival,
    /// When its head was read.
    pub started: Instant,
    /// Who it is by the kernel's word, where the listener knows users.
    pub vouched: Option<CallerName>,
    /// For its deadlines: of the task that carries it.
    pub alarm: Arc<Alarm>,
}

/// How a call's body comes in.
#[derive(Debug)]
pub enum Arrival {
    /// Over HTTP, still on the wire.
    Http(Inbound),
    /// A Yar message over HTTP, still on the wire.
    Yar(Inbound),
    /// A Yar message by itself.
    Raw(Box<Raw>),
}

/// A raw Yar message.
#[derive(Debug)]
pub struct Raw {
    voice: Voice,
    message: Result<Message, CallError>,
    share: Share,
}

/// How a caller is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// By HTTP status and JSON.
    Http,
    /// By a Yar message, over HTTP with status 200.
    Yar {
        /// The caller's own.
        packager: Packager,
        /// The caller's own; 0 where it can't be read.
        id: u32,
    },
}

/// A call once it was read: for Yar, the whole message.
#[derive(Debug)]
pub(super) struct Read {
    pub target: Target,
    pub head: Arc<Head>,
    pub started: Instant,
    /// Who it is by the kernel's word.
    pub vouched: Option<CallerName>,
    pub alarm: Arc<Alarm>,
    /// The time the caller says it has left.
    pub asked: Option<Duration>,
    /// What else its headers tell this sidecar.
    pub said: Said,
    pub body: Body,
}

/// What a caller sent.
#[derive(Debug)]
pub(super) enum Body {
    Http(Inbound),
    Yar(Box<Message>),
}

/// A Yar request.
#[derive(Debug)]
pub(super) struct Message {
    pub header: Header,
    pub payload: Bytes,
    pub request: yar::Request,
}

impl Call {
    /// A raw Yar message, whole or, with the reason, as far as it was read; `share` holds its bytes.
    ///
    /// Its method is `service.api`; where it names no service, `own` is meant. It has `patience` from when it
    /// `started`.
    pub async fn raw(
        bytes: Bytes,
        trouble: Option<CallError>,
        share: Share,
        own: Option<&ServiceName>,
        (started, patience): (Instant, Duration),
    ) -> Self {
        let mut voice = Voice::Yar { packager: Packager::Json, id: 0 };
        let early = trouble.as_ref().and_then(|_| yar::early_method(&bytes));
        hear(&bytes, &mut voice);
        let message = match trouble {
            None => {
                let parsed = convert_by(started + patience, &share, bytes.len(), || parse(bytes)).await;
                parsed.unwrap_or(Err(CallError::Deadline(patience.as_millis() as u64)))
            }
            Some(error) => Err(error),
        };
        let method = message.as_ref().ok().map(|message| message.request.method.as_str());
        let target = Target::of_method(method.or(early.as_deref()).unwrap_or(""), own);
        let body = Arrival::Raw(Box::new(Raw { voice, message, share }));
        Self { target, head: Arc::default(), body, started, vouched: None, alarm: Arc::default() }
    }

    /// The time the caller says it has left; fails where it says something else.
    pub(super) fn asked_patience(&self) -> Result<Option<Duration>, CallError> {
        asked_patience(&self.head.headers)
    }

    /// The call with its body left on the wire; goes on with one that is to be read.
    pub(super) fn unread(self) -> ControlFlow<Result<Read, CallError>, Self> {
        let Self { target, head, body, started, vouched, alarm } = self;
        let body = match body {
            Arrival::Http(body) => Body::Http(body),
            body @ (Arrival::Yar(_) | Arrival::Raw(_)) => {
                return ControlFlow::Continue(Self { target, head, body, started, vouched, alarm });
            }
        };
        let said = Said::by(&head.headers);
        let asked = if said.has_deadline { asked_patience(&head.headers) } else { Ok(None) };
        let read = |asked| Read { target, head, started, vouched, alarm, asked, said, body };
        ControlFlow::Break(asked.map(read))
    }

    /// Reads a Yar message over HTTP whole, at most `limit` bytes of payload.
    pub(super) async fn read(
        self,
        (limit, part): (u64, &Arc<Part>),
        patience: Duration,
        voice: &mut Voice,
        record: &mut Record,
    ) -> Result<Read, CallError> {
        let asked = self.asked_patience();
        let Self { mut target, head, body, started, vouched, alarm } = self;
        let said = Said::by(&head.headers);
        let body = match body {
            Arrival::Raw(raw) => {
                let raw = *raw;
                (*voice, record.share) = (raw.voice, raw.share);
                let body = Body::Yar(Box::new(raw.message?));
                belong(&mut record.share, part)?;
                return Ok(Read { target, head, started, vouched, alarm, asked: None, said, body });
            }
            Arrival::Http(body) | Arrival::Yar(body) => body,
        };
        let begun = body.peeked.iter().flatten().copied().take(HEAD).collect::<Vec<_>>();
        hear(&begun, voice);
        let asked = asked?;
        let patience = asked.unwrap_or(patience).min(patience);
        belong(&mut record.share, part)?;
        let whole = whole(body, limit, (started, patience, asked), &mut record.share);
        let bytes = whole.await.map_err(|error| record.share.tells(error))?;
        hear(&bytes, voice);
        let parsed = convert(&record.share, &(), bytes.len(), |()| parse(bytes));
        let parsed = alarm.within((started + patience).into(), parsed).await;
        let message = parsed.unwrap_or(Err(CallError::Deadline(patience.as_millis() as u64)))?;
        target.api = merge_api(&target, &message.request.method)?;
        record.api = shortened(&target.api);
        let body = Body::Yar(Box::new(message));
        Ok(Read { target, head, started, vouched, alarm, asked, said, body })
    }
}

/// What is held for a call is its service's, or the strays' where that isn't there.
fn belong(share: &mut Share, part: &Arc<Part>) -> Result<(), CallError> {
    share.belong(part).map_err(|broken| share.tells(super::attempt::broken_body(broken, 0)))
}

/// A body that was announced as Yar, as long as its call may take.
async fn whole(
    mut body: Inbound,
    limit: u64,
    (started, patience, asked): (Instant, Duration, Option<Duration>),
    share: &mut Share,
) -> Result<Bytes, CallError> {
    let upload = body.upload();
    let gathered = gather(body, limit, started + patience, share).await;
    gathered.unwrap_or_else(|| {
        let stalled = upload.and_then(|upload| upload.stalled());
        Err(late(&stalled.unwrap_or_else(|| "the request's body did not arrive".into()), patience, asked))
    })
}

/// Takes from the head of a message how its sender wants to be answered.
fn hear(head: &[u8], voice: &mut Voice) {
    let id = head.first_chunk::<4>().filter(|_| yar::is_yar(head)).map_or(0, |id| u32::from_be_bytes(*id));
    let packager = Header::parse(head).map_or(Packager::Json, |header| header.packager);
    *voice = Voice::Yar { packager, id };
}

/// `None`: not all of it was there at the deadline.
async fn gather(
    body: Inbound,
    limit: u64,
    deadline: Instant,
    share: &mut Share,
) -> Option<Result<Bytes, CallError>> {
    let with_head = limit.saturating_add(HEAD as u64);
    let gathered = Payload::request(body, with_head, None).collect(with_head, share);
    let gathered = tokio::time::timeout_at(deadline.into(), gathered).await.ok()?;
    Some(gathered.map_err(|broken| super::attempt::broken_body(broken, limit)))
}

/// A caller that may not send its body in the time of its call.
#[derive(Debug)]
pub(super) struct Stall {
    upload: Option<Arc<Upload>>,
    patience: Duration,
    asked: Option<Duration>,
}

impl Stall {
    /// When the last of the caller's body came, where that was waited for.
    pub(super) fn came(&self) -> Option<Instant> {
        self.upload.as_ref()?.came()
    }

    /// Whether the caller's body is still on its way.
    pub(super) fn is_under_way(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| !upload.is_over())
    }

    /// What the call is refused with where its body is waited for when the time is over.
    pub(super) fn fault(&self) -> Option<CallError> {
        Some(late(&self.upload.as_ref()?.stalled()?, self.patience, self.asked))
    }
}

/// What a call is refused with whose body was `stalled` when the time was over that the caller has, or any has.
fn late(stalled: &str, patience: Duration, asked: Option<Duration>) -> CallError {
    let ms = patience.as_millis();
    if asked.is_some_and(|asked| asked <= patience) {
        return CallError::Deadline(ms as u64);
    }
    CallError::MalformedRequest(format!("{stalled} within {ms}ms"))
}

fn parse(mut bytes: Bytes) -> Result<Message, CallError> {
    let header = Header::parse(&bytes).map_err(|fault| CallError::MalformedRequest(fault.to_string()))?;
    let payload = bytes.split_off(HEAD.min(bytes.len()));
    if payload.is_empty() {
        let reason = format!("the Yar message has no payload; {}", why_empty(header.packager));
        return Err(CallError::MalformedRequest(reason));
    }
    let request = yar::Request::read(header.packager, &payload);
    let request = request.map_err(|fault| CallError::MalformedRequest(in_payload(fault, header.packager)))?;
    Ok(Message { header, payload, request })
}

/// What leaves a message without a payload.
pub(super) fn why_empty(packager: Packager) -> &'static str {
    match packager {
        Packager::Json => "perhaps its json_encode failed, as on text that is not UTF-8",
        Packager::Msgpack | Packager::Php => "it ended early, as by exit() or a fatal error",
    }
}

/// A fault of a payload's bytes, which are not counted from the message's beginning.
pub(super) fn in_payload(fault: Fault, packager: Packager) -> String {
    match fault {
        Fault::Malformed { at, reason } => format!("byte {at} of the {} payload: {reason}", packager.name()),
        Fault::Unadaptable { .. } | Fault::TooLong { .. } => fault.to_string(),
    }
}

impl Target {
    /// What a raw message's method names: a service before its last `.`, else `own`, and an API.
    pub fn of_method(method: &str, own: Option<&ServiceName>) -> Self {
        let own = own.map_or("", ServiceName::as_str);
        let (service, api) = method.rsplit_once('.').unwrap_or((own, method));
        Self { service: service.into(), api: api.into(), rest: "".into() }
    }
}

/// A name as it is logged: callers may write what they like.
pub(super) fn shortened(name: &Arc<str>) -> Arc<str> {
    if name.len() <= LOGGED { name.clone() } else { name.chars().take(LOGGED).collect::<String>().into() }
}

/// The message says the API; a URL that names one too must agree.
fn merge_api(target: &Target, method: &str) -> Result<Arc<str>, CallError> {
    if *target.rest == *method {
        return Ok(target.rest.clone());
    }
    if target.rest.is_empty() {
        return Ok(method.into());
    }
    Err(CallError::MalformedRequest(format!(
        "the URL names api \"{}\" and the Yar message \"{method}\"; call /{} alone",
        target.rest.chars().take(128).collect::<String>(),
        target.service
    )))
}

impl Message {
    /// The value of `p`; empty where it is absent or null.
    pub(super) fn params(&self) -> &[u8] {
        self.payload.get(self.request.params.clone()).unwrap_or_default()
    }
}

impl Read {
    /// What says who calls: the header of this name, or else a field of the Yar header, where empty and PHP's own
    /// default say nothing.
    pub(super) fn tells<F>(&self, header: &str, field: F) -> Option<&[u8]>
    where
        F: Fn(&Header) -> &[u8],
    {
        if let Some(value) = self.head.headers.get(header) {
            return Some(value);
        }
        let Body::Yar(message) = &self.body else { return None };
        Some(field(&message.header)).filter(|text| !text.is_empty() && *text != b"Yar TCP Client")
    }

    /// Looks on while its body comes, where it is still on the wire.
    pub(super) fn stall(&mut self, patience: Duration) -> Stall {
        let upload = match &mut self.body {
            Body::Http(body) => body.upload(),
            Body::Yar(_) => None,
        };
        Stall { upload, patience, asked: self.asked }
    }
}

/// Reads frames until they show whether the body is Yar; what was read so far stays in it.
pub async fn peek(body: &mut Inbound) -> Result<bool, Unfinished> {
    let mut seen = Vec::new();
    while seen.len() < 10 && yar::may_become_yar(&seen) {
        let next = std::future::poll_fn(|cx| body.rest.poll_frame(cx)).await;
        let Some(frame) = next.transpose()? else { break };
        match frame.into_data() {
            Ok(data) => {
                seen.extend_from_slice(data.get(..10).unwrap_or(&data));
                body.peeked.push_back(data);
            }
            Err(frame) => {
                body.trailers = frame.into_trailers().ok().map(Box::new);
                break;
            }
        }
    }
    Ok(yar::is_yar(&seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Budget;

    #[tokio::test]
    async fn a_long_raw_message_waits_for_a_lane_no_longer_than_its_call_may_take() {
        let budget = Budget::new(1 << 20, 1);
        let _busy = budget.share().lane().await;
        let payload = [&b"{\"i\":1,\"m\":\"a.b\",\"p\":[\""[..], &[b' '; 200 << 10], b"\"]}"].concat();
        let header = Header {
            id: 1,
            packager: Packager::Json,
            ..Header::parse(&yar::encode_request(Packager::Json, 1, b"", b"", "a.b", b"[]").unwrap()).unwrap()
        };
        let message = [&header.encode(payload.len())[..], &payload].concat();
        let time = (Instant::now(), Duration::from_millis(1));
        let call = Call::raw(message.into(), None, budget.share(), None, time).await;
        let Arrival::Raw(raw) = call.body else { unreachable!("a raw call") };
        assert_eq!(raw.message.unwrap_err(), CallError::Deadline(1));
    }
}
