//! Attempts: a peer, one try, perhaps another peer, all under the deadline.

use std::pin::pin;
use std::time::{Duration, Instant};

use hyper::Method;

use super::adapt::{self, Answer, Sent};
use super::call::{Body, Read, Stall};
use super::route::Plan;
use super::tried::{Ended, Running, Tried};
use super::{Record, Worker, answer, judge};
use crate::alarm::Alarm;
use crate::balance::{Passed, Wanted};
use crate::error::{CallError, NoRoom};
use crate::health::Fault;
use crate::peer::{InFlight, Outcome, Peer};
use crate::upstream::body::Broken;
use crate::upstream::budget::Share;
use crate::upstream::{Answered, Failure, Outgoing, Patience, Spare};

/// Carries the call to a provider and its answer back, in the time the plan gives.
pub(super) async fn attempt_all(
    worker: &Worker,
    plan: &Plan,
    mut call: Read,
    record: &mut Record,
) -> Result<Answer, CallError> {
    let until = tokio::time::Instant::from_std(plan.deadline);
    let stall = call.stall(Duration::from_millis(plan.patience_ms));
    let late = || stall.fault().unwrap_or(CallError::Deadline(plan.patience_ms));
    let now = record.now(plan);
    // a timeout that has passed already would still let the attempt begin
    if now >= plan.deadline {
        return Err(late());
    }
    let alarm = call.alarm.clone();
    let (request, sent) = match call.body {
        Body::Http(body) if adapt::packager(plan).is_none() => {
            adapt::passed_on(plan, (call.head, &call.said, &call.target, body), &record.share)?
        }
        body @ (Body::Http(_) | Body::Yar(_)) => {
            let adapted = adapt::request(plan, Read { body, ..call }, &mut record.share);
            let adapted = Box::pin(alarm.within(until, adapted)).await;
            adapted.unwrap_or_else(|| Err(late()))?
        }
    };
    let attempts = Attempts::new(worker, plan, (&sent, &stall, &alarm), &request);
    record.trail.may_repeat = attempts.is_idempotent;
    attempts.run(request, now, record).await
}

/// What all attempts of a call have in common.
pub(super) struct Attempts<'c> {
    pub(super) worker: &'c Worker,
    pub(super) plan: &'c Plan,
    sent: &'c Sent,
    pub(super) stall: &'c Stall,
    alarm: &'c Alarm,
    /// Whether it may run twice.
    pub(super) is_idempotent: bool,
}

impl<'c> Attempts<'c> {
    fn new(
        worker: &'c Worker,
        plan: &'c Plan,
        (sent, stall, alarm): (&'c Sent, &'c Stall, &'c Alarm),
        request: &Outgoing,
    ) -> Self {
        let api = &plan.route.api;
        let reads = match request {
            Outgoing::Http(request) => [Method::GET, Method::HEAD].contains(&request.head.method),
            Outgoing::Raw(_) => false,
        };
        Self { worker, plan, sent, stall, alarm, is_idempotent: api.idempotent || reads }
    }

    /// Tries peers until one settles the call, or nothing more may be tried.
    async fn run(
        &self,
        mut request: Outgoing,
        now: Instant,
        record: &mut Record,
    ) -> Result<Answer, CallError> {
        let mut left = self.plan.route.policy.retries;
        // what the last peer that was reached made of the call
        let mut best: Option<Tried> = None;
        let mut place = self.first_place(record, now).await?;
        loop {
            record.goes_to(&place);
            let spare = self.may_send_again().then(|| Spare::of(&request));
            let mut tried = self.first_answer(place, request, spare.as_ref(), record).await;
            record.settles(&mut tried);
            let unsent = tried.take_unsent();
            let is_settled = unsent.is_none() && !(self.is_idempotent && tried.may_be_better());
            best = Some(match best {
                Some(before) if unsent.is_some() && before.was_reached() => before,
                _ => tried,
            });
            if let Some(why) = self.is_last(is_settled, left) {
                record.trail.last = why;
                break;
            }
            left -= 1;
            let Ok(next) = self.pick(record, Instant::now()) else {
                record.trail.last = Some("every other one is passed over");
                break;
            };
            let kept = spare.as_ref().and_then(Spare::request);
            record.trail.last = Some(match (&unsent, kept.is_some()) {
                (None, false) => "its body was too large to be kept",
                _ => "the `retry_budget` of its service is used up",
            });
            let Some(again) = unsent.or_else(|| kept.filter(|_| self.can_afford())) else { break };
            record.trail.last = None;
            self.worker.telemetry.retried(self.plan.service.as_str());
            (place, request) = (next, again);
        }
        record.ends(best)
    }

    /// Whether an attempt was the last, and why that is, where somebody may wonder.
    fn is_last(&self, is_settled: bool, left: u8) -> Option<Option<&'static str>> {
        match (is_settled, left) {
            (true, _) if self.is_idempotent => Some(None),
            (true, _) => Some(Some("it may have run, and may not run twice")),
            (false, 0) => Some(Some("its `retries` are used up")),
            (false, _) if Instant::now() >= self.plan.deadline => Some(Some("its time is over")),
            (false, _) => None,
        }
    }

    /// Room for its answer, where that is converted and so held.
    fn room(&self) -> Share {
        let mut share = self.worker.buffers.share();
        if !matches!(self.sent, Sent::AsItCame) {
            // nothing is held yet
            let _ = share.belong(&self.plan.route.part);
        }
        share
    }

    fn patience(&self, kept: Option<Instant>) -> Patience {
        let policy = &self.plan.route.policy;
        Patience { connect: policy.connect_timeout, idle: policy.idle_timeout, kept }
    }

    /// Whether anything of the call may be sent a second time, after its first attempt or beside it.
    fn may_send_again(&self) -> bool {
        self.plan.may_repeat() || (self.is_idempotent && self.plan.route.hedges.is_some())
    }

    /// A place at a peer that this call was not at yet.
    pub(super) fn pick(&self, record: &Record, now: Instant) -> Result<InFlight, Passed> {
        let wanted = Wanted { tried: &record.tried, now, hash: self.plan.hash.or(self.sent.hash()) };
        self.plan.route.pool.pick(&wanted)
    }

    /// Takes one attempt out of the service's budget, or counts that it could not.
    fn can_afford(&self) -> bool {
        let (route, telemetry) = (&self.plan.route, &self.worker.telemetry);
        let budget = route.policy.retry_budget;
        let can = route.retries.take(budget.share, budget.per_second, Instant::now());
        if !can {
            telemetry.refused_retry(self.plan.service.as_str());
        }
        can
    }

    /// One attempt at a peer, until it is over or the call is out of time.
    pub(super) async fn one(
        &self,
        mut place: InFlight,
        mut request: Outgoing,
        spare: Option<&Spare>,
    ) -> Tried {
        let began = place.since();
        let (mut share, patience) = (self.room(), self.patience(Some(began)));
        let running = Running { place: &mut place, stall: self.stall };
        let peer = running.place.peer();
        adapt::address(&mut request, self.plan, peer);
        let until = tokio::time::Instant::from_std(self.plan.deadline);
        let exchanged = {
            // pinned here: handed on by value, all that the exchange may hold would be copied twice
            let exchange = pin!(async {
                let sent = self.worker.upstream.send(&peer.address, request, patience).await;
                let sent = match sent {
                    Err(Failure::Stale) => Box::pin(self.afresh(peer, spare, began)).await,
                    sent => sent,
                };
                let outcome = judge::outcome(&sent, self.plan.route.policy.circuit.failures);
                let answered = match sent {
                    Ok(answered) => answered,
                    Err(failure) => {
                        return (Ended::failed(failure, self.plan.route.policy.max_body), outcome);
                    }
                };
                let status = answered.head.status.as_u16();
                match answer::answer(self.plan, self.sent, answered, &mut share).await {
                    Ok(answer) => (Ended::Answered { status, answer }, outcome),
                    Err(error) => {
                        let outcome = judge::of_answer(&error).or(outcome);
                        (Ended::Failed { status, error }, outcome)
                    }
                }
            });
            self.alarm.within(until, exchange).await
        };
        let (ended, outcome) = exchanged.unwrap_or_else(|| match self.stall.fault() {
            // its provider waited too
            Some(fault) => (Ended::Late(fault), None),
            None => {
                (Ended::Late(CallError::Deadline(self.plan.patience_ms)), Some(Outcome::bad(Fault::Late)))
            }
        });
        let over = Instant::now();
        drop(running);
        Tried { place, share, over, ended, outcome }
    }

    /// Once more, on a new connection: the one that was kept ended without a word.
    ///
    /// One that had been closed before says so within a round trip; later than that, the call may have run.
    async fn afresh(&self, peer: &Peer, spare: Option<&Spare>, began: Instant) -> Result<Answered, Failure> {
        let patience = self.patience(None);
        let is_soon = began.elapsed() <= patience.connect;
        let spare = spare.filter(|_| self.is_idempotent || is_soon);
        let again = spare.and_then(Spare::request).filter(|_| self.can_afford());
        let Some(mut request) = again else { return Err(Failure::Cut) };
        let telemetry = &self.worker.telemetry;
        telemetry.retried(self.plan.service.as_str());
        adapt::address(&mut request, self.plan, peer);
        match self.worker.upstream.send(&peer.address, request, patience).await {
            // this one was not, but the first may have been
            Err(Failure::Unreached { .. }) => Err(Failure::Cut),
            outcome => outcome,
        }
    }
}

/// What a body that ended early means for the call.
pub fn broken_body(broken: Broken, limit: u64) -> CallError {
    match broken {
        Broken::TooLarge => CallError::TooLarge(limit),
        Broken::Caller => CallError::CallerGone("the request's body ended early".into()),
        Broken::BadRequest(_) => CallError::MalformedRequest(broken.to_string()),
        Broken::BadAnswer(_) => CallError::BadAnswer(broken.to_string()),
        Broken::Short(have, of) => CallError::CutShort(have, of),
        Broken::Provider | Broken::Idle => CallError::Cut,
        // whoever has the call's share says whose room it is
        Broken::NoRoom(_) => CallError::NoRoom(NoRoom::default()),
    }
}
