//! What is counted and logged of one call, and its places in the limits; all of it ends by `Drop`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::route::Plan;
use super::{Arrival, Call, Voice, Worker};
use crate::directory::{Entry, Route};
use crate::error::CallError;
use crate::health::Fault;
use crate::model::{Concurrency, Policy};
use crate::peer::{InFlight, Outcome, Peer};
use crate::telemetry::Line;
use crate::upstream::body::Broken;
use crate::upstream::budget::Share;

/// How an answer's way to the caller ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It arrived whole.
    Whole,
    /// The caller went away before it had all of it.
    CallerGone,
    /// The provider broke off.
    Broken,
}

/// One call's record: written once, when dropped.
#[derive(Debug)]
pub struct Record {
    worker: Arc<Worker>,
    started: Instant,
    pub(super) service: String,
    /// The API as called.
    pub(super) api: String,
    /// Who called, if known.
    pub(super) caller: Option<String>,
    /// Whether the last attempt was counted at its peer,
    pub(super) judged: bool,
    /// and whether the peer answered it.
    pub(super) answered: bool,
    /// Whether it was picked while rates and checks were not heeded.
    panic: bool,
    /// Peers tried, the last one answered or failed last.
    pub(super) tried: Vec<Arc<Peer>>,
    /// The place at the peer.
    pub(super) in_flight: Option<InFlight>,
    /// Its bodies held to be converted.
    pub(super) share: Share,
    wire: &'static str,
    /// In the service's limit, and in that of the API where it has one.
    places: [Option<Place>; 2],
    /// The API, once it is known.
    pub(super) route: Option<Arc<Route>>,
    known_service: bool,
    status: u16,
    outcome: &'static str,
    detail: Option<String>,
    bytes: u64,
}

/// A place among the calls in flight.
#[derive(Debug)]
struct Place(Arc<AtomicU32>);

impl Place {
    /// A place, and whether it is within the limit.
    fn take(counter: &Arc<AtomicU32>, limit: u32) -> (Self, bool) {
        let before = counter.fetch_add(1, Relaxed);
        (Self(counter.clone()), before < limit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Record {
    pub(super) fn new(worker: Arc<Worker>, call: &Call) -> Self {
        Self {
            share: worker.buffers.share(),
            worker,
            started: call.started,
            service: call.target.service.chars().take(128).collect(),
            api: call.target.api.chars().take(128).collect(),
            caller: None,
            judged: false,
            answered: false,
            panic: false,
            tried: Vec::new(),
            in_flight: None,
            wire: match call.body {
                Arrival::Http(_) | Arrival::Yar(_) => "http",
                Arrival::Raw(_) => "yar",
            },
            places: [None, None],
            route: None,
            known_service: false,
            status: 0,
            outcome: "caller-gone",
            detail: None,
            bytes: 0,
        }
    }

    /// The service is in the registry.
    pub(super) fn knows_service(&mut self) {
        self.known_service = true;
    }

    /// Takes a place among the calls in flight to the service, and to the API where that has a limit.
    pub(super) fn enter(&mut self, entry: &Entry, plan: &Plan) -> Result<(), CallError> {
        let route = self.route.insert(plan.route.clone());
        let (of_service, of_api) = (most(&entry.policy), most(&route.policy));
        let (service, fits_service) = Place::take(&entry.in_flight, of_service);
        let api = route.in_flight.as_ref().map(|counter| Place::take(counter, of_api));
        let fits_api = api.as_ref().is_none_or(|(_, fits)| *fits);
        self.places = [Some(service), api.map(|(place, _)| place)];
        let target = match (fits_service, fits_api) {
            (true, true) => return Ok(()),
            (true, false) => (format!("api \"{}/{}\"", entry.name, route.name), of_api),
            (false, _) => (format!("service \"{}\"", entry.name), of_service),
        };
        Err(CallError::Overloaded { target: target.0, limit: target.1 })
    }

    /// How the call was decided, before its answer leaves.
    pub(super) fn decided(&mut self, voice: &Voice, error: Option<&CallError>) {
        (self.wire, self.status) = match voice {
            Voice::Http => ("http", error.map_or(200, |e| e.verdict().status)),
            Voice::Yar { .. } => ("yar", 200),
        };
        self.outcome = error.map_or("ok", |e| e.verdict().kind);
        self.detail = error.map(ToString::to_string);
        if error.is_some() {
            // a refusal is small: nothing is held for it
            self.share = self.worker.buffers.share();
        }
    }

    /// A whole answer on its way: what was held for the call is given back when it has left.
    pub fn leaves(&mut self, answer: Bytes) -> Bytes {
        self.share.leave_with(answer)
    }

    /// Service and API as called.
    pub fn names(&self) -> (&str, &str) {
        (&self.service, &self.api)
    }

    /// The HTTP status of an answer that passes through.
    pub fn passes(&mut self, status: u16) {
        self.status = status;
    }

    /// How long either side of a stream may be silent.
    pub fn idle_timeout(&self) -> Duration {
        self.route.as_ref().map_or(Duration::ZERO, |route| route.policy.idle_timeout)
    }

    /// Counts bytes of the answer's body.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Why a stream to the caller broke off.
    pub fn breaks(&mut self, why: Broken) {
        self.detail = Some(why.to_string());
    }

    /// The next attempt begins.
    pub(super) fn goes_to(&mut self, place: InFlight) -> Arc<Peer> {
        let peer = place.peer().clone();
        self.tried.push(peer.clone());
        self.panic = place.in_panic();
        self.judged = false;
        self.in_flight = Some(place);
        peer
    }

    /// Notes how the last attempt ended.
    pub(super) fn learns(&mut self, outcome: Outcome) {
        if let Some(mut place) = self.in_flight.take() {
            self.notes(&mut place, outcome);
            self.in_flight = Some(place);
        }
    }

    /// Counts an attempt that failed at `peer`.
    pub(super) fn fails_at(&self, peer: &Peer, reason: &'static str) {
        self.worker.telemetry.failed(&self.service, peer.address.as_str(), reason);
    }

    /// How the answer's way ended; without it the caller is taken for gone.
    pub fn ended(&mut self, ending: Ending) {
        self.outcome = match ending {
            // an error of our own stays what it is
            _ if self.outcome != "ok" => return,
            Ending::Whole => return,
            Ending::CallerGone => "caller-gone",
            Ending::Broken => {
                self.learns(Outcome::bad(Fault::Cut));
                "cut"
            }
        };
    }
}

/// Most calls in flight.
fn most(policy: &Policy) -> u32 {
    match policy.concurrency {
        Concurrency::Fixed(most) => most,
        Concurrency::Auto => 1024,
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.started);
        let telemetry = &self.worker.telemetry;
        match &self.route {
            Some(route) if self.outcome == "ok" => telemetry.good(&route.instruments, took),
            // names the registry doesn't know would make labels without end
            known => {
                let service = if self.known_service { self.service.as_str() } else { "" };
                let api = known.as_ref().map_or("", |route| route.name.as_str());
                telemetry.bad(service, api, self.outcome, took);
            }
        }
        if self.tried.len() > 1 {
            telemetry.retried(&self.service, self.tried.len() as u64 - 1);
        }
        let line = Line {
            caller: self.caller.as_deref(),
            service: &self.service,
            api: &self.api,
            wire: self.wire,
            provider: self.tried.last().map(|peer| peer.address.as_str()),
            status: self.status,
            outcome: self.outcome,
            detail: self.detail.as_deref(),
            attempts: self.tried.len(),
            panic: self.panic.then_some(true),
            took,
            bytes: self.bytes,
        };
        line.write(&self.worker.repeats, now);
    }
}
