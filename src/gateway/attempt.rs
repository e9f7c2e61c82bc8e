//! Attempts: a peer, one try, perhaps another peer, all under the deadline.

use std::sync::Arc;

use super::adapt::{self, Answer};
use super::answer;
use super::call::Read;
use super::route::Plan;
use super::{Record, Worker};
use crate::error::CallError;
use crate::peer::Peer;
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
        Ok(Err(error)) => Err(error),
        Err(_) => {
            if let Some(peer) = record.tried.last().filter(|_| !record.judged) {
                peer.record(false);
                record.fails_at(peer, "deadline");
            }
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
        let Some(peer) = plan.route.pool.pick(&record.tried) else { break };
        record.tried.push(peer.clone());
        record.in_flight = Some(peer.enter());
        adapt::address(&mut request, plan, peer);
        let sent = worker.upstream.send(&peer.address, request, patience).await;
        if let Some(reason) = fault(&sent) {
            record.fails_at(peer, reason);
        }
        match sent {
            Err(Failure::Unreached { reason, request: unsent }) => {
                peer.record(false);
                plan.route.pool.unreached(peer);
                last = Some(reason);
                request = *unsent;
            }
            decided => {
                record.judged = true;
                return judge(plan, peer, decided);
            }
        }
    }
    let (tried, reason) = (record.tried.len(), last.unwrap_or_default());
    Err(CallError::ConnectFailed { tried, reason })
}

/// Why an attempt is a failure of the provider's, if it is one.
fn fault(sent: &Result<Answered, Failure>) -> Option<&'static str> {
    match sent {
        Ok(answer) => answer.status().is_server_error().then_some("5xx"),
        Err(Failure::Unreached { .. }) => Some("unreached"),
        Err(Failure::Cut | Failure::Body(Broken::Provider | Broken::Idle)) => Some("cut"),
        Err(Failure::NotHttp | Failure::NotYar(_)) => Some("bad-answer"),
        Err(Failure::Body(Broken::TooLarge | Broken::Caller | Broken::NoRoom(_))) => None,
    }
}

fn judge(plan: &Plan, peer: &Arc<Peer>, decided: Result<Answered, Failure>) -> Result<Answered, CallError> {
    peer.record(decided.as_ref().is_ok_and(|answer| !answer.status().is_server_error()));
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
