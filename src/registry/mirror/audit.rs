//! Compares view and registry now and then: a difference that no event explains is drift.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::names::ServiceName;

/// Between two comparisons of everything, in seconds: ten minutes, give or take half.
const BETWEEN_S: Range<u64> = 300..900;
/// The reads of one comparison are spread over this time.
pub(super) const SPREAD: Duration = Duration::from_secs(60);
/// An event may be heard of a little later than the change is read.
const DOUBT: Duration = Duration::from_secs(1);

pub(super) struct Audit {
    at: Instant,
    /// Services whose next read compares.
    open: BTreeSet<ServiceName>,
    /// Services that differed, and when that counts unless an event explains it.
    suspects: Vec<(Instant, ServiceName)>,
}

impl Audit {
    pub(super) fn new(now: Instant, rng: &mut fastrand::Rng) -> Self {
        Self { at: now + next(rng), open: BTreeSet::new(), suspects: Vec::new() }
    }

    /// Whether everything is to be compared now; asked again, not before the next time.
    pub(super) fn is_due(&mut self, now: Instant, rng: &mut fastrand::Rng) -> bool {
        let due = now >= self.at;
        if due {
            self.at = now + next(rng);
        }
        due
    }

    /// The next read of the service compares.
    pub(super) fn open(&mut self, service: &ServiceName) {
        self.open.insert(service.clone());
    }

    /// An event: whatever its next read finds, is news and no drift.
    pub(super) fn heard(&mut self, service: &ServiceName) {
        self.open.remove(service);
        self.suspects.retain(|(_, suspect)| suspect != service);
    }

    pub(super) fn read(&mut self, service: &ServiceName, differs: bool, now: Instant) {
        if self.open.remove(service) && differs {
            self.suspects.push((now + DOUBT, service.clone()));
        }
    }

    /// All watches were lost: differences are expected.
    pub(super) fn lost(&mut self) {
        self.open.clear();
        self.suspects.clear();
    }

    /// Services that drifted.
    pub(super) fn drifted(&mut self, now: Instant) -> Vec<ServiceName> {
        let (over, open) = std::mem::take(&mut self.suspects).into_iter().partition(|(at, _)| *at <= now);
        self.suspects = open;
        over.into_iter().map(|(_, service)| service).collect()
    }

    pub(super) fn wake(&self) -> Instant {
        self.suspects.first().map_or(self.at, |(at, _)| self.at.min(*at))
    }
}

fn next(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_secs(rng.u64(BETWEEN_S))
}
