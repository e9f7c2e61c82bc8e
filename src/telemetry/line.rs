//! What is told of each call that is over: one line of log, and of few like failures in a second their stories.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Telemetry;
use crate::config::AccessLog;

/// Like failures that are told in a second, per worker.
const SAME_ERRORS: u32 = 5;
/// Services whose failures are told apart, per worker.
const MAX_SERVICES: usize = 1024;
/// For how long like failures count as one.
const WINDOW: Duration = Duration::from_secs(1);

/// What is said of one call when it is over.
#[derive(Debug)]
pub struct Line<'a> {
    /// Who called, if known.
    pub caller: Option<&'a str>,
    /// The service as called.
    pub service: &'a str,
    /// The API as called.
    pub api: &'a str,
    /// `http` or `yar`, how the caller spoke.
    pub wire: &'static str,
    /// The provider that answered.
    pub provider: Option<&'a str>,
    /// The HTTP status the caller got.
    pub status: u16,
    /// `ok` or the kind of the error.
    pub outcome: &'static str,
    /// What went wrong.
    pub detail: Option<&'a str>,
    /// Providers tried.
    pub attempts: usize,
    /// True where so few providers are well that rates and health checks were not heeded.
    pub panic: Option<bool>,
    /// From the call's head to the end of the answer.
    pub took: Duration,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// Names the call, where its story is kept.
    pub id: Option<&'a str>,
    /// The trace it is recorded in.
    pub trace: Option<&'a str>,
}

/// What is told of a call that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// A line in the log.
    pub line: bool,
    /// Of a failure: it is one of the few of its kind, and so many were left out since the last that was.
    pub left_out: Option<u64>,
}

/// Keeps repeated failures from filling the log and `/explain`, and from costing much.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    services: ahash::HashMap<String, Vec<Repeat>>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Repeat {
    kind: &'static str,
    since: Instant,
    told: u32,
    left_out: u64,
}

impl Telemetry {
    /// What is told of a call to `service` that ended like this.
    pub fn tells(
        &self,
        repeats: &Repeats,
        service: &str,
        (outcome, status): (&'static str, u16),
        now: Instant,
    ) -> Told {
        let lines = self.inner.lines;
        let kind = match (outcome, status) {
            // an answer that passes through is no failure of ours, but the caller has none it can use
            ("ok", 500..) if matches!(lines, AccessLog::Errors | AccessLog::Share(_)) => "5xx",
            ("ok", _) => return Told { line: draws(lines), left_out: None },
            (kind, _) => kind,
        };
        let left_out = repeats.admit(service, kind, now);
        Told { line: left_out.is_some() && lines != AccessLog::Off, left_out }
    }

    /// Tells how many lines were left out, at the end, when no later line will.
    pub fn tells_rest(&self, repeats: &Repeats) {
        let mut seen = repeats.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (service, kinds) in seen.services.drain().filter(|_| self.inner.lines != AccessLog::Off) {
            for Repeat { kind: outcome, left_out, .. } in kinds.into_iter().filter(|kind| kind.left_out > 0) {
                tracing::warn!(target: "call", service, outcome, left_out, "further calls that failed so");
            }
        }
    }
}

fn draws(lines: AccessLog) -> bool {
    match lines {
        AccessLog::All => true,
        AccessLog::Off | AccessLog::Errors => false,
        AccessLog::Share(share) => share.draw(),
    }
}

impl Line<'_> {
    /// Writes the line, where there is to be one.
    pub fn write(&self, told: Told) {
        if !told.line {
            return;
        }
        let took_ms = self.took.as_micros() as f64 / 1000.0;
        let Self {
            caller,
            service,
            api,
            wire,
            provider,
            status,
            outcome,
            detail,
            attempts,
            panic,
            bytes,
            id,
            trace,
            ..
        } = *self;
        match told.left_out {
            None => tracing::info!(
                target: "call", service, api, caller, wire, provider, status, outcome, attempts, panic, took_ms, bytes,
                trace
            ),
            Some(left_out) => tracing::warn!(
                target: "call",
                service, api, caller, wire, provider, status, outcome, detail, attempts, panic, took_ms, bytes, id, trace,
                left_out
            ),
        }
    }
}

impl Repeats {
    /// Whether this failure is told, and how many were left out since the last that was.
    fn admit(&self, service: &str, kind: &'static str, now: Instant) -> Option<u64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let service = seen.name_for(service, now);
        if let Some(kinds) = seen.services.get_mut(service) {
            return admit(kinds, kind, now);
        }
        let mut kinds = Vec::new();
        let admitted = admit(&mut kinds, kind, now);
        seen.services.insert(service.to_owned(), kinds);
        admitted
    }
}

impl Seen {
    /// Where there is no room for another name: those nobody registered are one and the same.
    fn name_for<'n>(&mut self, service: &'n str, now: Instant) -> &'n str {
        if self.services.len() < MAX_SERVICES || self.services.contains_key(service) {
            return service;
        }
        // a look at all of them for each made-up name would cost more than the call
        if self.swept.is_none_or(|swept| now.duration_since(swept) >= WINDOW) {
            self.swept = Some(now);
            self.services.retain(|_, kinds| kinds.iter().any(|kind| now.duration_since(kind.since) < WINDOW));
        }
        if self.services.len() < MAX_SERVICES { service } else { "" }
    }
}

fn admit(kinds: &mut Vec<Repeat>, kind: &'static str, now: Instant) -> Option<u64> {
    let Some(repeat) = kinds.iter_mut().find(|repeat| repeat.kind == kind) else {
        kinds.push(Repeat { kind, since: now, told: 1, left_out: 0 });
        return Some(0);
    };
    if now.duration_since(repeat.since) >= WINDOW {
        (repeat.since, repeat.told) = (now, 0);
    }
    if repeat.told >= SAME_ERRORS {
        repeat.left_out += 1;
        return None;
    }
    repeat.told += 1;
    Some(std::mem::take(&mut repeat.left_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Share;

    #[test]
    fn a_repeated_error_writes_a_few_lines_a_second_and_says_how_many_it_left_out() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let written = (0..100).filter(|_| repeats.admit("user", "cut", start).is_some()).count();
        assert_eq!(written, 5);
        assert_eq!(repeats.admit("user", "deadline", start), Some(0));
        assert_eq!(repeats.admit("user", "cut", start + WINDOW), Some(95));
    }

    #[test]
    fn errors_on_a_million_names_cost_bounded_memory() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let told = |now| {
            let is_told = |n: &i32| repeats.admit(&n.to_string(), "no-service", now).is_some();
            (0..500_000).filter(is_told).count()
        };
        // those without room for their name are one
        assert_eq!(told(start), MAX_SERVICES + 5);
        assert_eq!(told(start + 2 * WINDOW), MAX_SERVICES + 5, "there is room again");
        assert!(repeats.0.lock().unwrap().services.len() <= MAX_SERVICES + 1);
    }

    #[test]
    fn a_line_is_written_on_what_failed_for_its_caller_and_a_story_told_of_what_failed_here() {
        let now = Instant::now();
        let (none, good) = (Told { line: false, left_out: None }, Told { line: true, left_out: None });
        let [written, unwritten] = [true, false].map(|line| Told { line, left_out: Some(0) });
        let share = AccessLog::Share(Share::new("0%").unwrap());
        for (lines, ok, passed, own) in [
            (AccessLog::All, good, good, written),
            (AccessLog::Errors, none, written, written),
            (share, none, written, written),
            (AccessLog::Off, none, none, unwritten),
        ] {
            let telemetry = Telemetry::of("", lines, None).unwrap();
            let told = |outcome, status| telemetry.tells(&Repeats::default(), "user", (outcome, status), now);
            assert_eq!([told("ok", 200), told("ok", 404)], [ok, ok], "{lines:?}");
            assert_eq!([told("ok", 500), told("ok", 503)], [passed, passed], "{lines:?}");
            assert_eq!([told("cut", 502), told("provider-error", 200)], [own, own], "{lines:?}");
        }
    }
}
