//! Calls that are recorded for a collector: which, and how many wait to be sent.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::trace::{Parent, Trace};
use crate::config::Traces;
use crate::units::Share;

/// Spans that one message has at most.
const MOST_AT_ONCE: usize = 512;

/// A call that is over, and its attempts.
#[derive(Debug, Clone)]
pub struct CallSpan {
    /// Its place in its trace.
    pub trace: Trace,
    /// `tracestate` of a trace that goes on, as it came.
    pub state: String,
    /// Service and API, where the registry knows them.
    pub known: Option<(Arc<str>, String)>,
    /// Who called, if known.
    pub caller: Option<Arc<str>>,
    /// `http` or `yar`, how the caller spoke.
    pub wire: &'static str,
    /// Method and path of an HTTP request, without its query.
    pub request: Option<(String, String)>,
    /// Method and path of what HTTP providers get, without its query; `None`: they are spoken to by raw Yar.
    pub sent: Option<(String, String)>,
    /// The HTTP status the caller got; 0: it got none.
    pub status: u16,
    /// `ok` or the kind of the error.
    pub outcome: &'static str,
    /// Names the call, where its story is kept.
    pub id: Option<String>,
    /// When its head was there.
    pub began: SystemTime,
    /// From then to the end of the answer.
    pub took: Duration,
    /// In their order.
    pub attempts: Vec<AttemptSpan>,
}

/// One attempt at a provider.
#[derive(Debug, Clone)]
pub struct AttemptSpan {
    /// Its address.
    pub provider: String,
    /// `http` or `yar`, how it was spoken to.
    pub wire: &'static str,
    /// From the call's beginning.
    pub after: Duration,
    /// Until its answer's head, its end, or the end of an answer that streams.
    pub took: Duration,
    /// The HTTP status it answered with, or 0.
    pub status: u16,
    /// `ok`, `given-up`, or what was wrong.
    pub outcome: &'static str,
}

/// Calls that wait to be sent.
#[derive(Debug)]
pub struct Spans {
    sample: Share,
    most: usize,
    waiting: Mutex<Waiting>,
    many: Notify,
    dropped: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    /// Random for each process.
    ids: RandomState,
    last: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<CallSpan>,
    spans: usize,
}

impl CallSpan {
    pub(super) fn spans(&self) -> usize {
        1 + self.attempts.len()
    }
}

impl Spans {
    pub(super) fn new(traces: Traces) -> Self {
        Self {
            sample: traces.sample,
            most: traces.queue,
            waiting: Mutex::default(),
            many: Notify::new(),
            dropped: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ids: RandomState::new(),
            last: AtomicU64::new(0),
        }
    }

    /// A call's place in a trace, where it is recorded: its caller decides, or else chance does.
    pub fn begin(&self, parent: Option<Parent>) -> Option<Trace> {
        match parent {
            Some(parent) => parent.is_sampled().then(|| Trace::below(&parent, self.random())),
            None => self.sample.draw().then(|| {
                let (high, low) = (u128::from(self.random()), u128::from(self.random()));
                Trace::new(high << 64 | low, self.random())
            }),
        }
    }

    /// No two hosts draw alike, which seeds by the clock alone would not promise.
    fn random(&self) -> u64 {
        self.ids.hash_one(self.last.fetch_add(1, Relaxed))
    }

    /// Takes a call that is over, unless so many wait that there is no room for it.
    pub fn push(&self, call: CallSpan) {
        let spans = call.spans();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.spans + spans > self.most {
            drop(waiting);
            self.dropped.fetch_add(spans as u64, Relaxed);
            return;
        }
        let before = waiting.spans;
        waiting.spans += spans;
        waiting.calls.push_back(call);
        let are_many = before < self.enough() && waiting.spans >= self.enough();
        drop(waiting);
        if are_many {
            self.many.notify_one();
        }
    }

    /// Waits until so many wait that they should be sent at once.
    pub async fn many(&self) {
        self.many.notified().await;
    }

    fn enough(&self) -> usize {
        MOST_AT_ONCE.min(self.most / 2)
    }

    /// The calls of one message, oldest first; none where none wait.
    pub(super) fn take(&self) -> Vec<CallSpan> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut count, mut spans) = (0, 0);
        for call in &waiting.calls {
            spans += call.spans();
            // a call of more spans than that goes alone
            if spans > MOST_AT_ONCE && count > 0 {
                break;
            }
            count += 1;
        }
        // workers wait for this lock: those that stay are not moved
        let taken: Vec<_> = waiting.calls.drain(..count).collect();
        waiting.spans -= taken.iter().map(CallSpan::spans).sum::<usize>();
        taken
    }

    /// What became of spans that were taken.
    pub fn note(&self, spans: u64, arrived: bool) {
        if arrived { &self.sent } else { &self.lost }.fetch_add(spans, Relaxed);
    }

    /// Spans by what became of them.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        [("sent", &self.sent), ("dropped", &self.dropped), ("lost", &self.lost)]
            .map(|(name, count)| (name, count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(sample: &str, queue: usize) -> Spans {
        Spans::new(Traces { sample: Share::new(sample).unwrap(), queue })
    }

    fn call(spans: &Spans) -> CallSpan {
        CallSpan {
            trace: spans.begin(None).unwrap(),
            state: String::new(),
            known: None,
            caller: None,
            wire: "http",
            request: None,
            sent: None,
            status: 404,
            outcome: "no-service",
            id: None,
            began: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            attempts: Vec::new(),
        }
    }

    #[test]
    fn the_caller_decides_and_chance_only_where_it_did_not() {
        let parse = |flags| Parent::parse(format!("00-{:032x}-{:016x}-{flags}", 5, 6).as_bytes());
        for (sample, alone) in [("0%", false), ("100%", true)] {
            let spans = spans(sample, 16);
            assert_eq!(spans.begin(None).is_some(), alone);
            assert_eq!(spans.begin(parse("00")), None);
            let trace = spans.begin(parse("01")).unwrap();
            assert!(trace.continues() && trace.id() == format!("{:032x}", 5));
        }
        let spans = spans("100%", 16);
        let ids: Vec<_> = (0..100).map(|_| spans.begin(None).unwrap().id()).collect();
        assert_eq!(std::collections::HashSet::<_>::from_iter(&ids).len(), 100);
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let spans = spans("100%", 16);
        (0..20).for_each(|_| spans.push(call(&spans)));
        assert_eq!(spans.counts(), [("sent", 0), ("dropped", 4), ("lost", 0)]);
        assert_eq!((spans.take().len(), spans.take().len()), (16, 0));
        spans.push(call(&spans));
        assert_eq!(spans.take().len(), 1, "there is room again");
    }

    #[test]
    fn a_message_holds_no_more_than_collectors_like() {
        let spans = spans("100%", 4096);
        (0..600).for_each(|_| spans.push(call(&spans)));
        assert_eq!([spans.take().len(), spans.take().len()], [MOST_AT_ONCE, 600 - MOST_AT_ONCE]);
    }

    #[tokio::test]
    async fn whoever_sends_is_woken_before_there_is_no_room() {
        let spans = spans("100%", 16);
        (0..8).for_each(|_| spans.push(call(&spans)));
        spans.many().await;
    }
}
