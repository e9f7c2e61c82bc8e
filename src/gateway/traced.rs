//! What a collector hears of one call, where the call is recorded; others have none of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::Method;

use super::adapt::Answer;
use super::tried::{Ended, Tried};
use super::{Arrival, Call, Record};
use crate::http1::headers::Headers;
use crate::http1::request::Head;
use crate::model::{Encoding, Transport};
use crate::peer::{InFlight, Peer};
use crate::telemetry::{AttemptSpan, CallSpan, Parent, Telemetry, Trace, is_tracestate};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Longest `tracestate` and path that are told, in bytes: what waits must not grow with what strangers send.
const MAX_STATE: usize = 512;
const MAX_PATH: usize = 256;

/// A call that is recorded.
#[derive(Debug)]
pub(super) struct Traced {
    trace: Trace,
    state: String,
    request: Option<(String, String)>,
    /// What follows the service in the path.
    rest: Arc<str>,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    peer: Arc<Peer>,
    since: Instant,
    /// `None`: it was given up, or is under way.
    took: Option<Duration>,
    status: u16,
    outcome: &'static str,
    /// Its answer goes on until the call ends.
    streams: bool,
}

impl Traced {
    /// `None`: the call is not recorded, and costs no more than a look at its headers.
    pub(super) fn begin(telemetry: &Telemetry, call: &Call) -> Option<Box<Self>> {
        let spans = telemetry.spans()?;
        let headers = &call.head.headers;
        let trace = spans.begin(parent(headers))?;
        let state = if trace.continues() { state(headers) } else { String::new() };
        let request = match call.body {
            Arrival::Http(_) | Arrival::Yar(_) => Some(request(&call.head)),
            Arrival::Raw(_) => None,
        };
        let rest = call.target.rest.clone();
        Some(Box::new(Self { trace, state, request, rest, attempts: Vec::new() }))
    }

    /// An attempt begins.
    pub(super) fn goes_to(&mut self, place: &InFlight) {
        let (peer, since) = (place.peer().clone(), place.since());
        let (took, outcome) = (None, "given-up");
        self.attempts.push(Attempt { peer, since, took, status: 0, outcome, streams: false });
    }

    /// An attempt is over.
    pub(super) fn settles(&mut self, tried: &Tried) {
        let peer = tried.place.peer();
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| Arc::ptr_eq(&attempt.peer, peer)) else {
            return;
        };
        attempt.took = Some(tried.took());
        let (status, outcome) = match &tried.ended {
            Ended::Answered { status, answer } => {
                attempt.streams = matches!(answer, Answer::Http(_));
                (*status, "ok")
            }
            Ended::Unreached { .. } => (0, "unreached"),
            Ended::Failed { status, error } => (*status, error.outcome()),
            Ended::Late(error) => (0, error.outcome()),
        };
        let fault = tried.outcome.and_then(|outcome| outcome.fault);
        (attempt.status, attempt.outcome) = (status, fault.map_or(outcome, |fault| fault.word()));
    }
}

/// What the caller's one `traceparent` says, if it says anything.
fn parent(headers: &Headers) -> Option<Parent> {
    let mut all = headers.get_all(TRACEPARENT);
    let parent = all.next()?;
    // of two, none can be relied on
    if all.next().is_some() { None } else { Parent::parse(parent) }
}

/// What the caller's tracing systems say to each other; longer than anybody has to keep, it is left out.
fn state(headers: &Headers) -> String {
    if !is_well_formed(headers) {
        return String::new();
    }
    let state = headers.get_all(TRACESTATE).filter_map(|state| std::str::from_utf8(state).ok());
    let state = state.collect::<Vec<_>>().join(",");
    if state.len() > MAX_STATE { String::new() } else { state }
}

/// Whether `tracestate`, where there is one, can be relied on.
fn is_well_formed(headers: &Headers) -> bool {
    is_tracestate(headers.get_all(TRACESTATE))
}

/// Method and path.
fn request(head: &Head) -> (String, String) {
    (known(&head.method).to_owned(), shortened(head.uri.path()))
}

/// One that HTTP doesn't have is `_OTHER` by the conventions.
fn known(method: &Method) -> &str {
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::PATCH,
        Method::OPTIONS,
    ];
    if known.contains(method) { method.as_str() } else { "_OTHER" }
}

fn shortened(path: &str) -> String {
    path.chars().take(MAX_PATH).collect()
}

/// Tells a provider whose child its own span is.
pub(super) fn pass_on(trace: Trace, headers: &mut Headers, peer: &Peer) {
    headers.set(TRACEPARENT, trace.toward(peer.address.as_str()).to_string());
    // of a trace that is none, or one that nobody could read
    if !trace.continues() || !is_well_formed(headers) {
        headers.remove(TRACESTATE);
    }
}

impl Record {
    /// The call's place in its trace, where it is recorded.
    pub(super) fn trace(&self) -> Option<Trace> {
        self.traced.as_ref().map(|traced| traced.trace)
    }

    /// Hands a recorded call that is over to whoever tells the collector.
    pub(super) fn hand_over(&mut self, id: Option<&str>, took: Duration) {
        let Some(traced) = self.traced.take() else { return };
        let Some(spans) = self.worker.telemetry.spans() else { return };
        let sent = self.goes_as(&traced);
        let Traced { trace, state, request, attempts, .. } = *traced;
        let attempts = attempts.into_iter().map(|attempt| self.attempt(attempt, took)).collect();
        let known = self.route.as_ref().map(|route| (self.service.clone(), route.name.to_string()));
        spans.push(CallSpan {
            trace,
            state,
            known,
            caller: self.caller.clone(),
            wire: self.wire(),
            request,
            sent,
            status: self.status,
            outcome: self.outcome,
            id: id.map(str::to_owned),
            began: SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH),
            took,
            attempts,
        });
    }

    /// Method and path of what the API's providers get, where they speak HTTP.
    fn goes_as(&self, traced: &Traced) -> Option<(String, String)> {
        let route = self.route.as_ref()?;
        let (api, is_json) = (&route.api, route.api.encoding == Encoding::Json);
        if !is_json && api.transport == Transport::Tcp {
            return None;
        }
        let as_it_came = traced.request.as_ref().filter(|_| is_json && self.wire() == "http");
        let own = api.method.as_deref().filter(|_| is_json).and_then(|method| Method::try_from(method).ok());
        let method = match (&own, as_it_came) {
            (Some(own), _) => known(own),
            (None, Some((method, _))) => method,
            (None, None) => "POST",
        };
        let path = api.path.split('?').next().unwrap_or_default();
        let path = if is_json && route.name.as_str() == "*" {
            let rest = as_it_came.map_or(&*self.api, |_| &*traced.rest);
            Cow::Owned(format!("{}/{rest}", path.trim_end_matches('/')))
        } else {
            Cow::Borrowed(path)
        };
        Some((method.to_owned(), shortened(&path)))
    }

    fn attempt(&self, attempt: Attempt, call_took: Duration) -> AttemptSpan {
        let Attempt { peer, since, took, status, outcome, streams } = attempt;
        let after = since.saturating_duration_since(self.started);
        let settled = self.in_flight.as_ref().is_some_and(|place| Arc::ptr_eq(place.peer(), &peer));
        let lasts = took.is_none() || streams && settled;
        let is_yar = self.route.as_ref().is_some_and(|route| route.api.encoding != Encoding::Json);
        AttemptSpan {
            provider: peer.address.to_string(),
            wire: if is_yar { "yar" } else { "http" },
            after,
            took: took.filter(|_| !lasts).unwrap_or(call_took.saturating_sub(after)),
            status,
            outcome: if lasts && settled && self.outcome == "cut" { "cut" } else { outcome },
        }
    }
}
