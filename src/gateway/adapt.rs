//! A call in the provider's form.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, Uri};
use proto_adapters::yar::{self, Draft, HEAD, Header, Packager};
use proto_adapters::{Fault, Options, Wire, adapt};

use super::attempt::broken_body;
use super::beside::convert;
use super::call::{Body, Message, Read};
use super::headers::{CALLER, DEADLINE, Said, to_provider, without_body_headers};
use super::route::Plan;
use super::{Target, key, millis, params, traced};
use crate::error::{CallError, NoRoom};
use crate::http1::headers::{Headers, is_of_values};
use crate::http1::request::Head;
use crate::model::{Encoding, Transport};
use crate::peer::Peer;
use crate::upstream::budget::Share;
use crate::upstream::{Answered, Inbound, Outgoing, Payload, Request};

const YAR_BODY: &str = "application/octet-stream";
const JSON_BODY: &str = "application/json";

/// An answer in the caller's form.
#[derive(Debug)]
pub enum Answer {
    /// As the provider gave it, its body streamed.
    Http(Answered),
    /// The result of a Yar provider, as JSON.
    Json(Bytes),
    /// A whole Yar message.
    Yar(Vec<u8>),
}

/// What was sent, as far as the answer depends on it.
#[derive(Debug)]
pub(super) enum Sent {
    /// As it came, to a JSON provider: its answer passes too.
    AsItCame,
    /// A Yar caller's, as JSON; `packager` and `id` are the caller's own.
    Json { packager: Packager, id: u32 },
    /// To a Yar provider; `ids`: in the head and in the payload; `caller`: its own packager and id, where it speaks
    /// Yar; `hash`: what the parameters that were made of an HTTP call say of its place on the ring.
    Yar { ids: [u64; 2], caller: Option<(Packager, u32)>, hash: Option<u64> },
}

impl Sent {
    /// The call's place on the ring, where only its parameters say it.
    pub(super) fn hash(&self) -> Option<u64> {
        match self {
            Self::Yar { hash, .. } => *hash,
            Self::AsItCame | Self::Json { .. } => None,
        }
    }
}

/// An HTTP call to a JSON provider, as it came; only its peer is open yet.
pub(super) fn passed_on(
    plan: &Plan,
    (mut head, said, target, body): (Arc<Head>, &Said, &Target, Inbound),
    share: &Share,
) -> Result<(Outgoing, Sent), CallError> {
    let limit = plan.route.policy.max_body;
    let keep = (plan.may_repeat() && !body.is_over()).then(|| kept_in(share, plan));
    let payload = Payload::request(body, limit, keep);
    let size = hyper::body::Body::size_hint(&payload);
    if size.lower() > limit {
        return Err(CallError::TooLarge(limit));
    }
    // nobody else has it yet
    let own = Arc::make_mut(&mut head);
    own.uri = uri(plan, &target.rest, own.uri.query())?;
    to_provider(&mut own.headers, said);
    if let Some(method) = own_method(plan) {
        own.method = method;
    }
    Ok((Outgoing::Http(Request { head, body: payload }), Sent::AsItCame))
}

/// Room for what is kept of a body that is streamed, in the part of its service.
fn kept_in(share: &Share, plan: &Plan) -> Share {
    let mut kept = share.another();
    // nothing is held yet
    let _ = kept.belong(&plan.route.part);
    kept
}

/// The method that the API's node asks for.
fn own_method(plan: &Plan) -> Option<Method> {
    plan.route.api.method.as_deref().map(Method::try_from).and_then(Result::ok)
}

/// The request in the form of the API's encoding, where that is not the caller's; only its peer is open yet.
pub(super) async fn request(
    plan: &Plan,
    call: Read,
    share: &mut Share,
) -> Result<(Outgoing, Sent), CallError> {
    let made = match (share.belong(&plan.route.part), packager(plan)) {
        (Err(broken), _) => Err(broken_body(broken, 0)),
        (Ok(()), Some(packager)) => yar_request(plan, call, packager, share).await,
        (Ok(()), None) => json_request(plan, call, share).await,
    };
    made.map_err(|error| share.tells(error))
}

/// What the API's providers pack with, if they speak Yar.
pub(super) fn packager(plan: &Plan) -> Option<Packager> {
    match plan.route.api.encoding {
        Encoding::Json => None,
        Encoding::YarMsgpack => Some(Packager::Msgpack),
        Encoding::YarJson => Some(Packager::Json),
        Encoding::YarPhp => Some(Packager::Php),
    }
}

/// Names in the request what is left of a deadline the caller set.
pub(super) fn address(request: &mut Outgoing, plan: &Plan, peer: &Peer) {
    let Outgoing::Http(request) = request else { return };
    if plan.has_deadline {
        // 0 would say that there is none left
        let left = millis(std::time::Instant::now(), plan.deadline).max(1);
        Arc::make_mut(&mut request.head).headers.set(DEADLINE, itoa::Buffer::new().format(left));
    }
    if let Some(trace) = plan.trace {
        traced::pass_on(trace, &mut Arc::make_mut(&mut request.head).headers, peer);
    }
}

async fn json_request(plan: &Plan, call: Read, share: &mut Share) -> Result<(Outgoing, Sent), CallError> {
    let Read { head, body, said, target, .. } = call;
    let message = match body {
        Body::Yar(message) => message,
        Body::Http(body) => return passed_on(plan, (head, &said, &target, body), share),
    };
    let method = own_method(plan).unwrap_or(Method::POST);
    let mut headers = Arc::unwrap_or_clone(head).headers;
    to_provider(&mut headers, &said);
    check_size(plan, message.payload.len())?;
    let sent = Sent::Json { packager: message.header.packager, id: message.header.id };
    let held = HEAD + message.payload.len();
    let o = Options { room: Some(share.room(held)), ..options(plan) };
    let work = move |plan: &Plan| yar_to_json(plan, &message, method, headers, o);
    let request = convert(share, plan, held, work).await?;
    let body = hyper::body::Body::size_hint(&request.body).lower() as usize;
    share.turn(held, body).map_err(|broken| broken_body(broken, 0))?;
    Ok((Outgoing::Http(request), sent))
}

fn yar_to_json(
    plan: &Plan,
    message: &Message,
    method: Method,
    mut headers: Headers,
    o: Options,
) -> Result<Request, CallError> {
    let wire = message.header.packager.wire();
    are_params(wire, message.params())?;
    without_body_headers(&mut headers);
    name_caller(plan, &mut headers);
    let (uri, payload) = if method == Method::GET || method == Method::HEAD {
        let names = &plan.route.api.params;
        let query = adapt::params_to_query(wire, message.params(), names).map_err(callers)?;
        (uri(plan, &plan.api, Some(&query))?, Payload::full(""))
    } else {
        let body = adapt::params_to_body(wire, message.params(), o).map_err(callers)?;
        headers.push("content-type", JSON_BODY);
        (uri(plan, &plan.api, None)?, Payload::full(body))
    };
    headers.push("accept", JSON_BODY);
    Ok(own_request(method, uri, headers, payload))
}

/// A request of our own making.
fn own_request(method: Method, uri: Uri, headers: Headers, body: Payload) -> Request {
    Request { head: Arc::new(Head { method, uri, headers, ..Head::default() }), body }
}

/// A Yar caller's name stands in its message, or came from its listener: JSON has a header for it, unless it is read as
/// another name there.
fn name_caller(plan: &Plan, headers: &mut Headers) {
    let name = plan.caller.as_deref().filter(|name| is_read_as_it_is(name) && !headers.has(CALLER));
    name.into_iter().for_each(|name| headers.push(CALLER, name));
}

fn is_read_as_it_is(name: &str) -> bool {
    name.trim() == name && name.bytes().all(is_of_values)
}

async fn yar_request(
    plan: &Plan,
    call: Read,
    packager: Packager,
    share: &mut Share,
) -> Result<(Outgoing, Sent), CallError> {
    let Read { head, body, said, .. } = call;
    let within = |held, share: &Share| Options { room: Some(share.room(held)), ..toward_yar(plan) };
    let (head, mut message, sent, held) = match body {
        Body::Yar(message) => {
            let (own, id, held) = (message.header.packager, message.header.id, HEAD + message.payload.len());
            check_size(plan, message.payload.len())?;
            let ids = [u64::from(id), message.request.id];
            let o = within(held, share);
            let message = convert(share, plan, held, move |plan| yar_to_yar(plan, &message, packager, o));
            (head, message.await?, Sent::Yar { ids, caller: Some((own, id)), hash: None }, held)
        }
        Body::Http(body) => {
            params::check_head(&head)?;
            let limit = plan.route.policy.max_body;
            let body = Payload::request(body, limit, None).collect(limit, share).await;
            let body = body.map_err(|broken| broken_body(broken, limit))?;
            let (id, held) = (fastrand::u32(..), body.len());
            let o = within(held, share);
            let message = convert(share, plan, held, move |plan| {
                http_to_yar(plan, (&head, &body), packager, id, o).map(|made| (made, head))
            });
            let ((message, hash), head) = message.await?;
            (head, message, Sent::Yar { ids: [u64::from(id); 2], caller: None, hash }, held)
        }
    };
    share.turn(held, message.len()).map_err(|broken| broken_body(broken, 0))?;
    if plan.route.api.transport == Transport::Tcp {
        yar::mark_persistent(&mut message);
        return Ok((Outgoing::Raw(message.into()), sent));
    }
    let mut headers = Arc::unwrap_or_clone(head).headers;
    to_provider(&mut headers, &said);
    without_body_headers(&mut headers);
    headers.push("content-type", YAR_BODY);
    let request = own_request(Method::POST, own_path(plan)?, headers, Payload::full(message));
    Ok((Outgoing::Http(request), sent))
}

fn http_to_yar(
    plan: &Plan,
    (head, body): (&Head, &[u8]),
    packager: Packager,
    id: u32,
    o: Options,
) -> Result<(Vec<u8>, Option<u64>), CallError> {
    let provider = plan.caller.as_deref().filter(|name| name.len() <= yar::NAME).unwrap_or("");
    let names = [provider.as_bytes(), b""];
    let draft = Draft::new(packager, id, names, &plan.api, body.len(), o).map_err(callers)?;
    let (message, params) = draft.finish(|writer| params::of_request(plan, head, body, writer, o))?;
    let params = message.get(params).unwrap_or_default();
    let hash = key::of_params(&plan.route.policy, packager.wire(), params);
    Ok((message, hash))
}

fn check_size(plan: &Plan, bytes: usize) -> Result<(), CallError> {
    let limit = plan.route.policy.max_body;
    if bytes as u64 > limit { Err(CallError::TooLarge(limit)) } else { Ok(()) }
}

/// The payload as it is where both sides pack alike; what would crash a PHP worker as `p` is mended or refused.
fn yar_to_yar(plan: &Plan, message: &Message, to: Packager, o: Options) -> Result<Vec<u8>, CallError> {
    let from = message.header.packager;
    let provider = message.header.provider.clone();
    let sound = are_params(from.wire(), message.params())?;
    if from == to && sound {
        let header = Header { provider, token: Vec::new(), reserved: 0, ..message.header.clone() };
        let payload = &*called(message, &plan.api)?;
        let mut whole = Vec::with_capacity(HEAD + payload.len());
        whole.extend_from_slice(&header.encode(payload.len()));
        whole.extend_from_slice(payload);
        return Ok(whole);
    }
    let params = if sound {
        adapt::transcode(from.wire(), to.wire(), message.params(), "$.p", o).map_err(callers)?
    } else {
        // absent, null and empty all mean: no parameters
        adapt::body_to_params(b"", to.wire(), &[], o).map_err(callers)?
    };
    let encoded = yar::encode_request(to, message.header.id, &provider, b"", &plan.api, &params);
    encoded.map_err(callers)
}

/// The payload; where its method carried the service too, with the API alone.
fn called<'m>(message: &'m Message, api: &str) -> Result<Cow<'m, [u8]>, CallError> {
    if message.request.method == api {
        return Ok(Cow::Borrowed(&message.payload));
    }
    let renamed = yar::rename(message.header.packager, &message.payload, &message.request, api);
    renamed.map(Cow::Owned).map_err(callers)
}

/// Whether `p` can go to a PHP worker; `false`: there are none.
fn are_params(wire: Wire, p: &[u8]) -> Result<bool, CallError> {
    yar::has_params(wire, p).map_err(callers)
}

pub(super) fn options(plan: &Plan) -> Options {
    let policy = &plan.route.policy;
    Options { empty: policy.empty, bytes: policy.bytes, ..Options::default() }
}

fn toward_yar(plan: &Plan) -> Options {
    Options { to: plan.route.policy.charset, in_message: true, ..options(plan) }
}

pub(super) fn callers(fault: Fault) -> CallError {
    match fault {
        Fault::Malformed { .. } => CallError::MalformedRequest(fault.to_string()),
        Fault::Unadaptable { .. } => CallError::UnadaptableCall(fault.to_string()),
        Fault::TooLong { .. } => CallError::NoRoom(NoRoom::default()),
    }
}

fn bad_path(plan: &Plan) -> CallError {
    CallError::MalformedRequest(format!("path \"{}\" of the api is no URL path", plan.route.api.path))
}

fn own_path(plan: &Plan) -> Result<Uri, CallError> {
    let read = || Uri::try_from(plan.route.api.path.as_str()).ok().map(Box::new);
    plan.route.path.get_or_init(read).as_deref().cloned().ok_or_else(|| bad_path(plan))
}

/// The provider's path: the API's own, for `*` with what the caller wrote behind the service, and the query.
fn uri(plan: &Plan, rest: &str, query: Option<&str>) -> Result<Uri, CallError> {
    let query = query.filter(|query| !query.is_empty());
    let takes_rest = plan.route.name.as_str() == "*";
    if query.is_none() && !takes_rest {
        return own_path(plan);
    }
    let base = plan.route.api.path.as_str();
    let mut path = base.to_owned();
    if takes_rest {
        path.truncate(base.trim_end_matches('/').len());
        path.push('/');
        path.push_str(rest);
    }
    if let Some(query) = query {
        let joint = if path.contains('?') { '&' } else { '?' };
        // writing to a string can't fail
        let _ = write!(path, "{joint}{query}");
    }
    Uri::try_from(path).map_err(|_| bad_path(plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_header_would_change_is_none_for_it() {
        assert!(["web", "orders-17", "用户", "a b"].into_iter().all(is_read_as_it_is));
        for name in
            ["\r\nroot", "root\n", "a\r\nX-Admin: 1", "a\u{1}b", "\u{7f}\u{1b}[31m", " root", "root\t"]
        {
            assert!(!is_read_as_it_is(name), "{name:?}");
        }
    }
}
