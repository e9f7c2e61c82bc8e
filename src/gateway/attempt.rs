//! Attempts: a peer, one try, perhaps another peer, all under the deadline.

use std::time::Instant;

use super::adapt::{self, Answer};
use super::call::Read;
use super::route::Plan;
use super::{Record, Worker, answer, judge};
use crate::balance::Wanted;
use crate::error::CallError;
use crate::health::Fault;
use crate::peer::Outcome;
use crate::upstream::body::Broken;
use crate::upstream::{Answered, Failure, Outgoing, Patience};

/// Carries the call to a provider and its answer back, in the time the plan gives.
pub(super) async fn attempt_all(
    worker: &Worker,
    plan: Plan,
    call: Read,
    record: &mut Record,
) -> Result<Answer, CallError> {
    let until = tokio::time::Instant::from_std(plan.deadline);
    // a timeout that has passed already would still let the attempt begin
    if tokio::time::Instant::now() >= until {
        return Err(CallError::Deadline(plan.patience_ms));
    }
    let in_time = async {
        let (request, sent) = adapt::request(&plan, call, &mut record.share).await?;
        let answered = attempt(worker, &plan, request, record).await?;
        answer::answer(&plan, &sent, answered, &mut record.share).await
    };
    match tokio::time::timeout_at(until, in_time).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            // of an attempt that failed at its head this was said
            if let Some(outcome) = judge::of_answer(&error).filter(|_| record.answered) {
                record.learns(outcome);
            }
            Err(error)
        }
        Err(_) => {
            record.learns(Outcome::bad(Fault::Late));
            Err(CallError::Deadline(plan.patience_ms))
        }
    }
}

/// Tries peers until one is reached; the one that is reached decides.
async fn attempt(
    worker: &Worker,
    plan: &Plan,
    mut request: Outgoing,
    record: &mut Record,
) -> Result<Answered, CallError> {
    let policy = &plan.route.policy;
    let again = policy.retries > 0 || plan.route.api.idempotent;
    let patience = Patience { connect: policy.connect_timeout, idle: policy.idle_timeout, again };
    let mut last = None;
    while record.tried.len() <= usize::from(policy.retries) {
        let wanted = Wanted { tried: &record.tried, now: Instant::now(), hash: plan.hash };
        let place = match plan.route.pool.pick(&wanted) {
            Ok(place) => place,
            Err(passed) if record.tried.is_empty() => return Err(judge::passed(plan, passed)),
            Err(_) => break,
        };
        let peer = record.goes_to(place);
        adapt::address(&mut request, plan, &peer);
        let sent = worker.upstream.send(&peer.address, request, patience).await;
        if let Some(outcome) = judge::outcome(&sent) {
            record.learns(outcome);
        }
        match sent {
            Err(Failure::Unreached { reason, request: unsent }) => {
                last = Some(reason);
                request = *unsent;
            }
            decided => {
                (record.judged, record.answered) = (true, decided.is_ok());
                return judge(plan, decided);
            }
        }
    }
    let (tried, reason) = (record.tried.len(), last.unwrap_or_default());
    Err(CallError::ConnectFailed { tried, reason })
}

fn judge(plan: &Plan, decided: Result<Answered, Failure>) -> Result<Answered, CallError> {
    decided.map_err(|failure| match failure {
        Failure::Body(broken) => broken_body(broken, plan.route.policy.max_body),
        Failure::NotHttp => CallError::BadAnswer("the provider's answer is not HTTP".into()),
        Failure::NotYar(reason) => {
            CallError::BadAnswer(format!("the provider's answer is not Yar: {reason}"))
        }
        Failure::Cut | Failure::Unreached { .. } => CallError::Cut,
    })
}

/// What a body that ended early means for the call.
pub fn broken_body(broken: Broken, limit: u64) -> CallError {
    match broken {
        Broken::TooLarge => CallError::TooLarge(limit),
        Broken::Caller => CallError::MalformedRequest("the request's body ended early".into()),
        Broken::Provider | Broken::Idle => CallError::Cut,
        Broken::NoRoom(most) => CallError::NoRoom(most),
    }
}
