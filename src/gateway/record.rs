//! What is counted and logged of one call, and its places in the limits; all of it ends by `Drop`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::adapt::Answer;
use super::call::shortened;
use super::route::Plan;
use super::story::Trail;
use super::traced::Traced;
use super::tried::{Ended, Tried};
use super::visited::Visited;
use super::{Arrival, Call, Voice, Worker, judge};
use crate::directory::{Entry, Route};
use crate::error::CallError;
use crate::limits::{Beyond, Gate, Limiter, Place, Standing};
use crate::peer::{InFlight, Outcome, Peer};
use crate::telemetry::Line;
use crate::units::show_duration;
use crate::upstream::body::Broken;
use crate::upstream::budget::Share;

/// How an answer's way to the caller ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It arrived whole.
    Whole,
    /// The caller went away before it had all of it.
    CallerGone,
    /// The caller took nothing of it for so long.
    Untaken(Duration),
    /// It broke off.
    Broken(Broken),
}

/// One call's record: written once, when dropped.
#[derive(Debug)]
pub struct Record {
    pub(super) worker: Arc<Worker>,
    pub(super) started: Instant,
    pub(super) service: Arc<str>,
    /// The API as called.
    pub(super) api: Arc<str>,
    /// Who called, if known.
    pub(super) caller: Option<Arc<str>>,
    /// Whether the last attempt was picked while rates and checks were not heeded.
    pub(super) panic: bool,
    /// For its story.
    pub(super) trail: Trail,
    /// For a collector, where the call is recorded.
    pub(super) traced: Option<Box<Traced>>,
    /// Peers tried, in that order.
    pub(super) tried: Visited,
    /// The place at the peer that settled the call.
    pub(super) in_flight: Option<InFlight>,
    /// Its bodies held to be converted.
    pub(super) share: Share,
    /// How the caller stands with its quota.
    standing: Option<(Standing, Bytes)>,
    wire: &'static str,
    /// Until when it waits for its places, once it does.
    waits: Option<Instant>,
    /// When the attempt that settled the call was over.
    settled: Option<Instant>,
    /// In the limit of the API where it has one, and in the service's.
    places: [Option<Place>; 2],
    /// The API, once it is known.
    pub(super) route: Option<Arc<Route>>,
    pub(super) known_service: bool,
    pub(super) status: u16,
    pub(super) outcome: &'static str,
    pub(super) detail: Option<String>,
    /// Of the answer's body so far.
    pub bytes: u64,
    /// The answer has left to its end.
    is_whole: bool,
}

impl Record {
    pub(super) fn new(worker: Arc<Worker>, call: &Call) -> Self {
        let traced = Traced::begin(&worker.telemetry, call);
        Self {
            share: worker.buffers.share(),
            worker,
            started: call.started,
            service: shortened(&call.target.service),
            api: shortened(&call.target.api),
            caller: None,
            panic: false,
            trail: Trail::new(),
            traced,
            tried: Visited::default(),
            in_flight: None,
            standing: None,
            wire: match call.body {
                Arrival::Http(_) | Arrival::Yar(_) => "http",
                Arrival::Raw(_) => "yar",
            },
            waits: None,
            settled: None,
            places: [None, None],
            route: None,
            known_service: false,
            status: 0,
            outcome: "caller-gone",
            detail: None,
            bytes: 0,
            is_whole: false,
        }
    }

    /// The service is in the registry.
    pub(super) fn knows_service(&mut self) {
        self.known_service = true;
    }

    /// Takes a place among the calls in flight, to the API where that has a limit and to the service; waits
    /// for them in the line as long as the policy says.
    pub(super) async fn enter(&mut self, entry: &Entry, plan: &Plan) -> Result<(), CallError> {
        let route = &plan.route;
        // the narrow one first: who waits for it takes no place of the service's other APIs
        if let Some(gate) = &route.gate {
            let target = || format!("api \"{}/{}\"", entry.name, route.name);
            self.places[0] = Some(place(gate, plan, &mut self.waits, target).await?);
        }
        let target = || format!("service \"{}\"", entry.name);
        self.places[1] = Some(place(&entry.gate, plan, &mut self.waits, target).await?);
        route.retries.count(self.started);
        Ok(())
    }

    /// Notes what an attempt that is over says of its provider, and how long it took.
    pub(super) fn settles(&mut self, tried: &mut Tried) {
        self.trail.settles(tried, self.started);
        self.traced.iter_mut().for_each(|traced| traced.settles(tried));
        match tried.outcome {
            Some(outcome) if tried.streams() => tried.place.begins(outcome, tried.over),
            Some(outcome) => self.notes(&mut tried.place, outcome, tried.over),
            None => {}
        }
        let is_late = matches!(tried.ended, Ended::Late(_)) && tried.outcome.is_some();
        if tried.is_good() || is_late {
            // a caller's slow body is no time that the service took
            let (took, now) = (tried.over.saturating_duration_since(tried.place.asked()), tried.over);
            self.places.iter().flatten().for_each(|place| place.gate().answered(took, now));
        }
    }

    /// The time when attempts begin: that of the plan, where the call did not wait since.
    pub(super) fn now(&self, plan: &Plan) -> Instant {
        if self.waits.is_none() { plan.decided } else { Instant::now() }
    }

    /// Until when the call waits in line: `queue` from when it began to, in one line or in several.
    pub(super) fn waits_until(&mut self, plan: &Plan) -> Instant {
        *self.waits.get_or_insert_with(|| Instant::now() + plan.route.policy.queue)
    }

    /// What became of the call at the peer that settled it.
    pub(super) fn ends(&mut self, settled: Option<Tried>) -> Result<Answer, CallError> {
        let failed = |tried, reason| Err(CallError::ConnectFailed { tried, reason });
        let Some(Tried { place, share, ended, over, .. }) = settled else { return failed(0, String::new()) };
        self.settled = Some(over);
        self.share.join(share);
        self.in_flight = Some(place);
        match ended {
            Ended::Answered { answer, .. } => Ok(answer),
            Ended::Unreached { reason, .. } => failed(self.tried.len(), reason),
            Ended::Failed { error, .. } | Ended::Late(error) => Err(error),
        }
    }

    /// Counts a call beyond its caller's quota.
    pub(super) fn goes_beyond(&mut self, beyond: &Beyond) {
        let caller = self.caller.as_deref().unwrap_or_default();
        self.worker.telemetry.beyond(&self.service, caller, beyond.mode);
    }

    /// What the caller is told of its quota.
    pub(super) fn stands(&mut self, standing: Standing, quota: &Limiter) {
        self.standing = Some((standing, quota.policy().clone()));
    }

    /// How the caller stands with its quota, where it has one that is in force, and the quota as `RateLimit-Policy`.
    pub fn standing(&self) -> Option<(&Standing, &Bytes)> {
        self.standing.as_ref().map(|(standing, policy)| (standing, policy))
    }

    /// When the attempt that settled the call was over, where one did.
    pub fn settled(&self) -> Option<Instant> {
        self.settled
    }

    /// How the call was decided, before its answer leaves.
    pub(super) fn decided(&mut self, voice: &Voice, error: Option<&CallError>) {
        (self.wire, self.status) = match voice {
            Voice::Http => ("http", error.map_or(200, |e| e.verdict().status)),
            Voice::Yar { .. } => ("yar", 200),
        };
        self.outcome = error.map_or("ok", CallError::outcome);
        self.detail = error.map(ToString::to_string);
        if matches!(error, Some(CallError::Drained)) {
            self.worker.end.takes();
        }
        if error.is_some() {
            // a refusal is small: nothing is held for it
            self.share = self.worker.buffers.share();
        }
    }

    /// A whole answer on its way: what was held for the call is given back when it has left.
    pub fn leaves(&mut self, answer: Bytes) -> Bytes {
        self.share.leave_with(answer)
    }

    /// `http` or `yar`, how the caller spoke.
    pub(super) fn wire(&self) -> &'static str {
        self.wire
    }

    /// Service and API as called.
    pub fn names(&self) -> (&str, &str) {
        (&self.service, &self.api)
    }

    /// The HTTP status of an answer that passes through.
    pub fn passes(&mut self, status: u16) {
        self.status = status;
    }

    /// Nothing of an answer has left, and another of this status does in its place.
    pub fn replaces(&mut self, status: u16) {
        (self.status, self.bytes) = (status, 0);
    }

    /// How long either side of a stream may be silent.
    pub fn idle_timeout(&self) -> Duration {
        self.route.as_ref().map_or(Duration::ZERO, |route| route.policy.idle_timeout)
    }

    /// Counts bytes of the answer's body.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.in_flight.as_ref().is_some_and(InFlight::probes) {
            self.goes_on();
        }
    }

    /// The next attempt begins.
    pub(super) fn goes_to(&mut self, place: &InFlight) {
        self.traced.iter_mut().for_each(|traced| traced.goes_to(place));
        self.tried.push(place.peer().clone());
        self.panic = place.in_panic();
    }

    /// How the streamed answer that settled the call ended.
    fn learns(&mut self, outcome: Outcome, now: Instant) {
        if let Some(mut place) = self.in_flight.take() {
            if place.streams() {
                self.notes(&mut place, outcome, now);
            }
            self.in_flight = Some(place);
        }
    }

    /// The peer that settled the call, or that was tried last.
    fn provider(&self) -> Option<&Arc<Peer>> {
        self.in_flight.as_ref().map(InFlight::peer).or(self.tried.last())
    }

    /// Counts the call, and how long it took where it went to a provider.
    fn counts(&self, took: Duration) {
        let telemetry = &self.worker.telemetry;
        match &self.route {
            Some(route) if self.outcome == "ok" => telemetry.good(&route.instruments, self.status, took),
            Some(route) => {
                let took = Some(took).filter(|_| !self.tried.is_empty());
                let names = (&*self.service, route.name.as_str());
                telemetry.bad_at(&route.instruments, names, self.outcome, took);
            }
            // names the registry doesn't know would make labels without end
            None => {
                let service = if self.known_service { &*self.service } else { "" };
                telemetry.bad(service, "", self.outcome);
            }
        }
    }

    /// The process ends before the call did, and its caller can't be told: it has the beginning of an answer, or waits
    /// for a raw one.
    fn is_given_up(&mut self) {
        let error = CallError::Drained;
        (self.outcome, self.detail) = (error.verdict().kind, Some(error.to_string()));
    }

    /// How the answer's way ended; without it the caller is taken for gone.
    pub fn ended(&mut self, ending: Ending) {
        self.outcome = match ending {
            // an error of our own stays what it is
            _ if self.outcome != "ok" => return,
            Ending::Whole => {
                self.is_whole = true;
                return;
            }
            Ending::CallerGone => "caller-gone",
            Ending::Untaken(patience) => {
                let patience = show_duration(patience);
                self.detail =
                    Some(format!("the caller took nothing of its answer for {patience}, its `idle_timeout`"));
                "caller-gone"
            }
            Ending::Broken(why) => {
                self.detail = Some(why.to_string());
                let (outcome, fault) = judge::of_break(why);
                fault.into_iter().for_each(|fault| self.learns(Outcome::bad(fault), Instant::now()));
                outcome
            }
        };
    }
}

/// A place in `gate`, waited for where the call's policy has a `queue`.
async fn place(
    gate: &Arc<Gate>,
    plan: &Plan,
    waits: &mut Option<Instant>,
    target: impl Fn() -> String,
) -> Result<Place, CallError> {
    match gate.enter() {
        Some(place) => Ok(place),
        None => Box::pin(wait(gate, plan, waits, target)).await,
    }
}

/// The next place that is given back, in the order of the line.
async fn wait(
    gate: &Arc<Gate>,
    plan: &Plan,
    waits: &mut Option<Instant>,
    target: impl Fn() -> String,
) -> Result<Place, CallError> {
    let queue = plan.route.policy.queue;
    let over = |line| CallError::Overloaded { target: target(), limit: gate.limit(), line };
    if queue.is_zero() {
        return Err(over(None));
    }
    let Some(waiting) = gate.line_up() else { return Err(over(Some("the line before it is full"))) };
    let given_up = *waits.get_or_insert_with(|| Instant::now() + queue);
    match tokio::time::timeout_at(given_up.min(plan.deadline).into(), waiting.place()).await {
        Ok(place) => Ok(place),
        Err(_) if plan.deadline <= given_up => Err(CallError::Deadline(plan.patience_ms)),
        Err(_) => Err(over(Some("none of them ended within its `queue`"))),
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.is_whole {
            self.learns(Outcome::GOOD, now);
        }
        if self.outcome == "caller-gone" && self.worker.end.takes() {
            self.is_given_up();
        }
        let end = (self.outcome, self.status);
        let told = self.worker.telemetry.tells(&self.worker.repeats, &self.service, end, now);
        self.tell(told, now);
        let took = now.saturating_duration_since(self.started);
        self.counts(took);
        let trace = self.trace().map(|trace| trace.id());
        let id = (told.line || trace.is_some()).then(|| self.id()).flatten().map(|id| id.to_string());
        self.hand_over(id.as_deref(), took);
        if !told.line {
            return;
        }
        let line = Line {
            caller: self.caller.as_deref(),
            service: &self.service,
            api: &self.api,
            wire: self.wire,
            provider: self.provider().map(|peer| peer.address.as_str()),
            status: self.status,
            outcome: self.outcome,
            detail: self.detail.as_deref(),
            attempts: self.tried.len(),
            panic: self.panic.then_some(true),
            took,
            bytes: self.bytes,
            id: id.as_deref(),
            trace: trace.as_deref(),
        };
        line.write(told);
    }
}
