//! What is known of a peer, from its first call or check on.

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::{Duration, Instant};

use super::faults::Faults;
use super::latency::Latency;
use super::{Cost, MOST_LATER};
use crate::health::{Circuit, Fault};
use crate::limits::Auto;

/// Load and health; most of what a peer costs, so that it is made for those that somebody called.
#[derive(Debug)]
pub(super) struct Known {
    base: Instant,
    pub(super) circuit: Circuit,
    pub(super) latency: Latency,
    in_flight: AtomicU32,
    /// Until then it asked to be left alone, in milliseconds since `base`.
    later: AtomicU64,
    /// Most calls at once by its own status page.
    pub(super) room: AtomicU32,
    pub(super) queues: AtomicBool,
    pub(super) answered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) faults: Faults,
    /// Found for calls under `concurrency: auto`, from the first of them on.
    auto: OnceLock<Box<Auto>>,
}

impl Known {
    pub(super) fn new(now: Instant) -> Box<Self> {
        Box::new(Self {
            base: now,
            circuit: Circuit::new(now),
            latency: Latency::new(now),
            in_flight: AtomicU32::new(0),
            later: AtomicU64::new(0),
            room: AtomicU32::new(u32::MAX),
            queues: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            faults: Faults::default(),
            auto: OnceLock::new(),
        })
    }

    pub(super) fn load(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// Whether one more is counted in: not where that would be more than `most`, or than its own page allows.
    pub(super) fn try_enter(&self, most: u32) -> bool {
        let most = most.min(self.room.load(Relaxed));
        let enter = |calls: u32| (calls < most).then_some(calls + 1);
        self.in_flight.fetch_update(Relaxed, Relaxed, enter).is_ok()
    }

    /// Most calls at once by how long its answers take.
    pub(super) fn limit(&self) -> u32 {
        self.auto.get().map_or(Auto::FIRST, |auto| auto.limit())
    }

    /// The same, to be found from now on.
    pub(super) fn find_limit(&self, now: Instant) -> u32 {
        self.auto.get_or_init(|| Box::new(Auto::new(now))).limit()
    }

    /// An attempt under that limit took so long; as for a service's own, what failed before its time says nothing.
    pub(super) fn limited(&self, took: Duration, fault: Option<Fault>, now: Instant) {
        if let (Some(auto), None | Some(Fault::Late | Fault::Silent)) = (self.auto.get(), fault) {
            auto.answered(took, self.load(), now);
        }
    }

    pub(super) fn leave(&self) {
        // before it is looked whether somebody waits: see `Waiting::new`
        self.in_flight.fetch_sub(1, SeqCst);
    }

    pub(super) fn cost(&self, now: Instant) -> Cost {
        let later = self.later.load(Relaxed);
        let asked = if later == 0 { 0 } else { later.saturating_sub(self.clock(now)) };
        let seconds = self.latency.seconds(now) + asked as f32 / 1e3;
        Cost { seconds, is_known: self.latency.is_known(), asks: asked > 0 }
    }

    /// It asks to be left alone.
    pub(super) fn asks(&self, after: Duration, now: Instant) {
        self.later.store(self.clock(now + after.min(MOST_LATER)), Relaxed);
    }

    /// For how long it still asks so.
    pub(super) fn asked(&self, now: Instant) -> Duration {
        Duration::from_millis(self.later.load(Relaxed).saturating_sub(self.clock(now)))
    }

    /// Never 0, which says that it never asked.
    fn clock(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.base).as_millis() as u64 + 1
    }
}
