//! What an attempt's end says of its provider.

use std::time::{Duration, Instant};

use super::Record;
use super::route::Plan;
use crate::balance::Passed;
use crate::error::CallError;
use crate::health::{Change, Fault};
use crate::http1::headers::Headers;
use crate::model::Statuses;
use crate::peer::{InFlight, Outcome};
use crate::upstream::body::Broken;
use crate::upstream::{Answered, Failure};

/// What it says, where such 5xx are failures; `None`: nothing, the caller's own body failed.
pub(super) fn outcome(sent: &Result<Answered, Failure>, failures: Statuses) -> Option<Outcome> {
    let fault = match sent {
        Ok(answer) => {
            let status = answer.head.status.as_u16();
            let fault = failures.has(status).then_some(Fault::Status);
            let retry_after =
                matches!(status, 429 | 503).then(|| retry_after(&answer.head.headers)).flatten();
            return Some(Outcome { fault, retry_after });
        }
        Err(Failure::Unreached { .. }) => Fault::Unreached,
        Err(
            Failure::Cut
            | Failure::Stale
            | Failure::Body(Broken::Provider | Broken::Short(..) | Broken::Idle),
        ) => Fault::Cut,
        Err(Failure::NotHttp(_) | Failure::NotYar(_) | Failure::Body(Broken::BadAnswer(_))) => {
            Fault::BadAnswer
        }
        Err(Failure::Body(Broken::TooLarge | Broken::Caller | Broken::BadRequest(_) | Broken::NoRoom(_))) => {
            return None;
        }
    };
    Some(Outcome::bad(fault))
}

/// The same of an answer whose body was read to be converted.
pub(super) fn of_answer(error: &CallError) -> Option<Outcome> {
    let cut = matches!(error, CallError::Cut | CallError::CutShort(..) | CallError::Stalled);
    let bad = matches!(error, CallError::BadAnswer(_));
    match (cut, bad) {
        (true, _) => Some(Outcome::bad(Fault::Cut)),
        (_, true) => Some(Outcome::bad(Fault::BadAnswer)),
        (false, false) => None,
    }
}

/// The outcome of a stream to the caller that broke off, and what it says of its provider.
pub(super) fn of_break(why: Broken) -> (&'static str, Option<Fault>) {
    match why {
        // the provider waited for it, and answered before it could know
        Broken::Caller => ("caller-gone", None),
        Broken::BadRequest(_) => ("malformed-request", None),
        Broken::TooLarge => ("too-large", None),
        Broken::BadAnswer(_) => ("bad-answer", Some(Fault::BadAnswer)),
        Broken::Provider | Broken::Short(..) | Broken::Idle | Broken::NoRoom(_) => ("cut", Some(Fault::Cut)),
    }
}

/// Why a call has no provider to go to.
pub(super) fn passed(plan: &Plan, passed: Passed) -> CallError {
    let service = plan.service.to_string();
    match passed {
        Passed::Nobody => CallError::NoProvider { service, known: plan.route.pool.known() },
        Passed::Open(retry_after) => CallError::CircuitOpen { service, retry_after },
        Passed::Full => CallError::Full(service, None),
    }
}

/// Seconds; a date is read over, as clocks differ.
fn retry_after(headers: &Headers) -> Option<Duration> {
    let text = headers.text("retry-after")?.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // what is no u64 is longer than anybody listens to
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

impl Record {
    /// Notes at `place` how its attempt ended: for the next pick, in metrics and, where that opened or closed
    /// its circuit, in the log. One that had less than half of `timeout` is late only where it usually takes
    /// much less.
    pub(super) fn notes(&self, place: &mut InFlight, mut outcome: Outcome, now: Instant) {
        let Some(route) = &self.route else { return };
        // a caller that leaves no time must not make a provider look ill for all others
        let had = now.saturating_duration_since(place.asked());
        if outcome.fault == Some(Fault::Late) && had < route.policy.timeout / 2 {
            if !place.peer().is_silent(had) {
                return place.runs_out(&route.policy.circuit, now);
            }
            outcome = Outcome::bad(Fault::Silent);
        }
        if let Some(fault) = outcome.fault {
            place.peer().fails(fault);
        }
        let change = route.pool.record(place, outcome, &route.policy.circuit, now);
        self.tells(place, change);
    }

    /// A stream to a probe that goes on for as long as an answer's head may take is good enough.
    pub(super) fn goes_on(&mut self) {
        let (Some(route), Some(place)) = (&self.route, &mut self.in_flight) else { return };
        let now = Instant::now();
        if now.saturating_duration_since(place.since()) < route.policy.timeout {
            return;
        }
        let change = place.goes_on(&route.policy.circuit, now);
        self.in_flight.iter().for_each(|place| self.tells(place, change));
    }

    fn tells(&self, place: &InFlight, change: Option<Change>) {
        let (service, provider) = (&*self.service, &place.peer().address);
        match change {
            Some(Change::Opened(cause)) => {
                tracing::warn!(service, %provider, cause = cause.word(), "provider is left alone");
            }
            Some(Change::Closed) => tracing::info!(service, %provider, "provider is well again"),
            Some(Change::HalfOpened | Change::Released | Change::Due) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_seconds_are_read_from_retry_after() {
        let read = |text: &str| {
            let mut headers = Headers::default();
            headers.push("retry-after", text);
            retry_after(&headers)
        };
        assert_eq!(read("2"), Some(Duration::from_secs(2)));
        assert_eq!(read("99999999"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for bad in ["", "-1", "1.5", "soon", "Thu, 26 Nov 2026 02:00:00 GMT"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
