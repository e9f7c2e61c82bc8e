//! Tells why a call went as it did, for `/explain` and for callers that may ask.

use std::time::{Duration, Instant, SystemTime};

use super::Record;
use super::tried::{Ended, Tried};
use crate::explain::{Attempt, Candidate, Id, Story};
use crate::health::Fault;
use crate::model::Policy;
use crate::peer::InFlight;
use crate::telemetry::Told;
use crate::units::show_duration;

/// Of the calls that went well, one in so many is told.
const ONE_IN: u32 = 1000;
/// Candidates that are listed.
const MAX_CANDIDATES: usize = 50;

/// What is noted on the way for a story.
#[derive(Debug)]
pub(super) struct Trail {
    /// The caller may ask, and does.
    pub asked: bool,
    /// Told also where all went well.
    sampled: bool,
    id: Option<Id>,
    attempts: Vec<Attempt>,
    /// It may run twice.
    pub may_repeat: bool,
    /// Why no further provider was tried.
    pub last: Option<&'static str>,
}

impl Trail {
    pub(super) fn new() -> Self {
        Self {
            asked: false,
            sampled: fastrand::u32(..ONE_IN) == 0,
            id: None,
            attempts: Vec::new(),
            may_repeat: false,
            last: None,
        }
    }

    /// An attempt is over.
    pub(super) fn settles(&mut self, tried: &Tried, started: Instant) {
        let failed = tried.outcome.is_none_or(|outcome| outcome.fault.is_some());
        if failed || self.asked || self.sampled {
            self.attempts.push(Attempt {
                address: tried.place.peer().address.to_string(),
                after: tried.place.since().saturating_duration_since(started),
                took: Some(tried.took()),
                how: how(tried),
            });
        }
    }
}

fn how(tried: &Tried) -> String {
    let fault = tried.outcome.and_then(|outcome| outcome.fault);
    match (&tried.ended, fault) {
        (Ended::Answered { status: 0, .. }, None) => "it answered".into(),
        (Ended::Answered { status, .. }, _) => format!("it answered {status}"),
        (Ended::Unreached { reason, .. }, _) => format!("it was not reached: {reason}"),
        (Ended::Failed { error, .. }, Some(Fault::Cut)) => format!("it ended early: {error}"),
        (Ended::Failed { error, .. } | Ended::Late(error), _) => error.to_string(),
    }
}

impl Record {
    /// Names a call that failed, or whose story is told.
    pub fn id(&mut self) -> Option<Id> {
        let told = self.outcome != "ok" || self.trail.asked || self.trail.sampled;
        told.then(|| *self.trail.id.get_or_insert_with(Id::any))
    }

    /// What a caller that may ask is told with its answer.
    pub fn asked_story(&mut self) -> Option<String> {
        let id = self.id().filter(|_| self.trail.asked)?;
        Some(self.story(Instant::now()).to_value(id).to_string())
    }

    /// Keeps the story of a call that is over: of like failures in one second those that are told.
    pub(super) fn tell(&mut self, told: Told, now: Instant) {
        let is_one_of_many = self.outcome != "ok" && told.left_out.is_none();
        if is_one_of_many && !self.trail.asked && !self.trail.sampled {
            return;
        }
        if let Some(id) = self.id() {
            self.worker.memory.keep(id, self.story(now));
        }
    }

    fn story(&self, now: Instant) -> Story {
        let (mut candidates, mut more_candidates) = (Vec::new(), 0);
        if let Some(route) = &self.route {
            let listed = route.pool.candidates(now).take(MAX_CANDIDATES);
            let told =
                |(address, passed_over): (&str, _)| Candidate { address: address.to_owned(), passed_over };
            candidates.extend(listed.map(told));
            // not told one by one: a service may have thousands
            more_candidates = route.pool.known().saturating_sub(candidates.len());
        }
        Story {
            at: Some(SystemTime::now()),
            caller: self.caller.as_deref().map(str::to_owned),
            service: self.service.to_string(),
            is_unknown: !self.known_service,
            api: self.api.to_string(),
            outcome: self.outcome,
            status: self.status,
            detail: self.detail.clone(),
            took: now.saturating_duration_since(self.started),
            decided: self.decided_on_the_way(),
            rules: self.route.as_ref().map(|route| (Policy::clone(&route.policy), route.origins)),
            candidates,
            more_candidates,
            attempts: self.attempts(now),
        }
    }

    fn decided_on_the_way(&self) -> Vec<String> {
        let mut decided = vec![match &self.caller {
            Some(caller) => format!("the caller is \"{caller}\""),
            None => "the call names no caller, and `caller` of the configuration is not set".into(),
        }];
        if let Some(route) = &self.route {
            let through = if route.name.as_str() == &*self.api { "" } else { ", through the api `*`" };
            decided.push(format!("it is an api of the service{through}"));
        }
        if !self.tried.is_empty() {
            decided.push(match self.trail.may_repeat {
                true => "it may run twice: it only reads, or its api is `idempotent`".into(),
                false => "it may not run twice: its api is not `idempotent`".into(),
            });
        }
        if let Some((standing, _)) = self.standing() {
            let (rate, per) = (standing.rate, show_duration(standing.per));
            decided.push(format!("of its quota, {rate} per {per}, {} were left", standing.left));
        }
        if self.panic {
            decided.push("too few providers are well: rates and health checks were not heeded".into());
        }
        decided.extend(self.trail.last.map(|why| format!("no further provider was tried: {why}")));
        decided
    }

    /// Those that are over, and those that were given up.
    fn attempts(&self, now: Instant) -> Vec<Attempt> {
        let mut attempts = self.trail.attempts.clone();
        let told: Vec<_> = attempts.iter().map(|attempt| attempt.address.clone()).collect();
        let settled = self.in_flight.as_ref().map(InFlight::peer);
        for peer in self.tried.iter().filter(|peer| !told.iter().any(|told| told == peer.address.as_str())) {
            let answered = settled.is_some_and(|settled| settled.address == peer.address);
            attempts.push(Attempt {
                address: peer.address.to_string(),
                after: Duration::ZERO,
                took: answered.then(|| now.saturating_duration_since(self.started)),
                how: if answered { "it answered".into() } else { "it was given up".into() },
            });
        }
        attempts
    }
}
