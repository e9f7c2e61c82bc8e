//! How one attempt ended, and what that says of its provider and of the call.

use std::time::{Duration, Instant};

use super::adapt::Answer;
use super::attempt::broken_body;
use super::call::Stall;
use crate::error::CallError;
use crate::peer::{InFlight, Outcome};
use crate::upstream::budget::Share;
use crate::upstream::{Failure, Outgoing};

/// An attempt's place while it runs: where the caller's body is not over at its end, the peer is not to blame
/// for how long that took.
pub(super) struct Running<'a> {
    pub place: &'a mut InFlight,
    pub stall: &'a Stall,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.stall.is_under_way() {
            self.place.spare();
        } else if let Some(came) = self.stall.came() {
            self.place.asks(came);
        }
    }
}

/// One attempt that is over.
#[derive(Debug)]
pub(super) struct Tried {
    /// The place at its peer.
    pub place: InFlight,
    /// What it holds of the answer.
    pub share: Share,
    /// When the answer's head was there, or all of one that is converted, or it was given up.
    pub over: Instant,
    pub ended: Ended,
    /// What it says of its provider; `None`: nothing, the caller's own body failed.
    pub outcome: Option<Outcome>,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The provider answered.
    Answered { status: u16, answer: Answer },
    /// Nothing of the request reached the peer; the request, until it is taken.
    Unreached { reason: String, request: Option<Outgoing> },
    /// There is no answer, or none that the caller can be given; its status, or 0.
    Failed { status: u16, error: CallError },
    /// The call was out of time.
    Late(CallError),
}

impl Ended {
    /// Without an answer; `limit` is the API's `max_body`.
    pub(super) fn failed(failure: Failure, limit: u64) -> Self {
        let error = match failure {
            Failure::Unreached { reason, request } => {
                return Self::Unreached { reason, request: Some(request) };
            }
            Failure::Body(broken) => broken_body(broken, limit),
            Failure::NotHttp(why) => {
                CallError::BadAnswer(format!("the provider's answer is not HTTP: {why}"))
            }
            Failure::NotYar(reason) => {
                CallError::BadAnswer(format!("the provider's answer is not Yar: {reason}"))
            }
            Failure::Cut | Failure::Stale => CallError::Cut,
        };
        Self::Failed { status: 0, error }
    }
}

impl Tried {
    /// How long it took.
    pub(super) fn took(&self) -> Duration {
        self.over.saturating_duration_since(self.place.since())
    }

    /// Whether the provider answered as it should.
    pub(super) fn is_good(&self) -> bool {
        self.outcome.is_some_and(|outcome| outcome.fault.is_none())
    }

    /// Whether it is good so far, and its body passes through.
    pub(super) fn streams(&self) -> bool {
        self.is_good() && matches!(self.ended, Ended::Answered { answer: Answer::Http(_), .. })
    }

    /// Whether another provider may do better with a call that may run twice.
    pub(super) fn may_be_better(&self) -> bool {
        match &self.ended {
            Ended::Unreached { .. } | Ended::Answered { status: 502..=504, .. } => true,
            Ended::Failed { status: 502..=504, .. } => true,
            Ended::Failed { error, .. } => {
                matches!(
                    error,
                    CallError::Cut | CallError::CutShort(..) | CallError::Stalled | CallError::BadAnswer(_)
                )
            }
            Ended::Answered { .. } | Ended::Late(_) => false,
        }
    }

    /// Whether the caller is served: a 5xx does not, whether or not it counts as a failure of its provider.
    pub(super) fn serves(&self) -> bool {
        let errs =
            matches!(self.ended, Ended::Answered { status: 500.., .. } | Ended::Failed { status: 500.., .. });
        self.is_good() && !errs
    }

    /// What it is worth to the caller, beside another of the same call.
    pub(super) fn worth(&self) -> u8 {
        match self.ended {
            _ if self.serves() => 4,
            Ended::Answered { .. } => 3,
            Ended::Failed { .. } => 2,
            Ended::Late(_) => 1,
            Ended::Unreached { .. } => 0,
        }
    }

    /// Whether its peer saw anything of the call.
    pub(super) fn was_reached(&self) -> bool {
        !matches!(self.ended, Ended::Unreached { .. })
    }

    /// The request, where nothing of it was sent.
    pub(super) fn take_unsent(&mut self) -> Option<Outgoing> {
        match &mut self.ended {
            Ended::Unreached { request, .. } => request.take(),
            Ended::Answered { .. } | Ended::Failed { .. } | Ended::Late(_) => None,
        }
    }
}
