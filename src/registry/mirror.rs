//! What to read and watch next, and what the view holds: events in, actions out.
//!
//! A service goes through three stages. *Probed*: a plain read tells whether it exists; where it
//! doesn't, that is published and nothing is kept. *Uncovered*: its watches are on their way.
//! *Live*: read again, published, and from then on after every event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use agenda::Agenda;

use super::Node;
use super::watches::{Change, Watches, backoff};
use crate::directory::Unavailable;
use crate::model::{Layout, Service};
use crate::names::ServiceName;

/// Reads under way at once.
const MAX_READS: usize = 4;
/// Services of one read.
const BATCH: usize = 50;
/// An event waits this long, in milliseconds, for others of its kind.
const COALESCE_MS: std::ops::RangeInclusive<u64> = 20..=100;
/// After a reconnect, services called lately are re-read within this time.
const BUSY_SPREAD: Duration = Duration::from_millis(500);
/// The others within this time: a few sidecars lost one server,
const QUIET_SPREAD: Duration = Duration::from_secs(2);
/// or all of them lost all servers, or their sessions.
const STORM_SPREAD: Duration = Duration::from_secs(15);
/// What counts as called lately.
const RECENT: Duration = Duration::from_secs(60);
/// A service nobody called for this long is dropped.
const IDLE: Duration = Duration::from_secs(600);
/// How often idle services are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a new service waits for a lost connection to come back.
const PATIENCE: Duration = Duration::from_secs(1);
/// Failed reads in a row after which callers of a new service are told.
const FAILURES_TOLD: u32 = 2;

/// What the driver has to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Read the scopes of these services at once; the outcome goes to [`Mirror::read`].
    Read(Batch),
    /// Change the watches; the outcome goes to [`Mirror::watched`].
    Watch(Change),
    /// Replace the service in the view.
    Publish(ServiceName, Option<Service>),
    /// Drop the service from the view.
    Forget(ServiceName),
    /// Answer whoever waits for the service.
    Settle(ServiceName, Result<(), Unavailable>),
}

/// A read of several services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) services: Vec<ServiceName>,
    ticket: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Probed,
    Uncovered,
    Live,
}

struct Sub {
    stage: Stage,
    /// The read under way.
    ticket: Option<u64>,
    failures: u32,
    /// What was published last; the inner `None`: that it isn't there.
    view: Option<Option<Service>>,
    used: Instant,
}

enum Link {
    Up,
    Down { since: Instant },
}

pub(crate) struct Mirror {
    layout: Layout,
    link: Link,
    subs: BTreeMap<ServiceName, Sub>,
    agenda: Agenda,
    /// Re-reads of quiet services are spread over this time.
    spread: Duration,
    uncovered: BTreeSet<ServiceName>,
    watches: Watches,
    reads: usize,
    tickets: u64,
    sweep_at: Instant,
    rng: fastrand::Rng,
    actions: Vec<Action>,
}

impl Mirror {
    /// Knows nothing yet; `overhead` is the bytes before every path on its way to the registry.
    pub(crate) fn new(layout: Layout, overhead: usize, rng: fastrand::Rng, now: Instant) -> Self {
        Self {
            layout,
            link: Link::Down { since: now },
            subs: BTreeMap::new(),
            agenda: Agenda::default(),
            spread: Duration::ZERO,
            uncovered: BTreeSet::new(),
            watches: Watches::new(layout, overhead),
            reads: 0,
            tickets: 0,
            sweep_at: now + SWEEP,
            rng,
            actions: Vec::new(),
        }
    }

    /// Somebody calls a service that is not in the view.
    pub(crate) fn want(&mut self, service: &ServiceName, now: Instant) {
        if let Some(sub) = self.subs.get_mut(service) {
            sub.used = now;
            if let Some(view) = &sub.view {
                // it fell out of the view, or is remembered there as absent only for a while
                self.actions.push(Action::Publish(service.clone(), view.clone()));
                self.actions.push(Action::Settle(service.clone(), Ok(())));
            }
            return;
        }
        let sub = Sub { stage: Stage::Probed, ticket: None, failures: 0, view: None, used: now };
        self.subs.insert(service.clone(), sub);
        self.agenda.add(service, now);
    }

    /// The node at `path` was made, changed or removed.
    pub(crate) fn changed(&mut self, path: &str, now: Instant) {
        if let Some(service) = self.layout.service_of(path)
            && self.subs.contains_key(&service)
        {
            let delay = Duration::from_millis(self.rng.u64(COALESCE_MS));
            self.agenda.add(&service, now + delay);
        }
    }

    /// The registry can be asked (again): all watches are gone and anything may have changed.
    /// `storm`: many others came back at the same time.
    pub(crate) fn attached(&mut self, now: Instant, storm: bool, used: impl FnMut(&ServiceName) -> bool) {
        self.note_use(now, used);
        self.spread = if storm { STORM_SPREAD } else { QUIET_SPREAD };
        self.link = Link::Up;
        self.watches.lost();
        for (service, sub) in &mut self.subs {
            if sub.stage == Stage::Live {
                sub.stage = Stage::Uncovered;
            }
            if sub.stage == Stage::Uncovered {
                self.uncovered.insert(service.clone());
                self.agenda.remove(service);
            }
        }
    }

    /// The registry can't be asked; what the view holds stays in force.
    pub(crate) fn detached(&mut self, now: Instant) {
        if matches!(self.link, Link::Up) {
            self.link = Link::Down { since: now };
        }
    }

    /// A change of watches ended with these paths added; false if it is out of date.
    pub(crate) fn watched(&mut self, serial: u64, added: &[String], now: Instant) -> bool {
        let in_time = self.watches.done(serial, added, now, &mut self.rng);
        if in_time {
            self.cover(now);
        }
        in_time
    }

    /// A read ended, with every node of its services.
    pub(crate) fn read(&mut self, batch: &Batch, outcome: Result<Vec<Node>, String>, now: Instant) {
        self.reads = self.reads.saturating_sub(1);
        let mut nodes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for node in outcome.iter().flatten() {
            nodes.entry(self.layout.service_of(&node.path)).or_default().push(node);
        }
        for service in &batch.services {
            let Some(sub) = self.subs.get_mut(service) else { continue };
            if sub.ticket.take_if(|known| *known == batch.ticket).is_none() {
                continue;
            }
            match &outcome {
                Ok(_) => {
                    sub.failures = 0;
                    let previous = sub.view.as_ref().and_then(Option::as_ref);
                    let own = nodes.remove(&Some(service.clone())).unwrap_or_default();
                    let found = self.layout.parse(service, own, previous);
                    self.found(service, found, now);
                }
                Err(reason) => self.failed(service, reason.clone(), now),
            }
        }
    }

    /// Drops services nobody called for long; `used` tells whether one was called since it was last asked.
    pub(crate) fn sweep(&mut self, now: Instant, used: impl FnMut(&ServiceName) -> bool) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP;
        self.note_use(now, used);
        let idle = |sub: &Sub| sub.view.is_some() && now >= sub.used + IDLE;
        let idle: Vec<_> =
            self.subs.iter().filter(|(_, sub)| idle(sub)).map(|(service, _)| service.clone()).collect();
        for service in idle {
            self.remove(&service);
            self.actions.push(Action::Forget(service));
        }
    }

    /// What to do now.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Action> {
        match self.link {
            Link::Down { since } if now >= since + PATIENCE => self.refuse(),
            Link::Down { .. } => {}
            Link::Up => {
                self.actions.extend(self.watches.next(now).map(Action::Watch));
                self.start_reads(now);
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// When [`Mirror::poll`] has something to do, if nothing else happens before.
    pub(crate) fn wake(&self) -> Instant {
        let next = match self.link {
            Link::Down { since } => {
                self.subs.values().any(|sub| sub.view.is_none()).then(|| since + PATIENCE)
            }
            Link::Up => {
                let read = self.agenda.first().filter(|_| self.reads < MAX_READS);
                read.into_iter().chain(self.watches.again()).min()
            }
        };
        next.map_or(self.sweep_at, |next| next.min(self.sweep_at))
    }

    /// Services kept up to date, watched paths and their bytes.
    pub(crate) fn size(&self) -> (usize, (usize, usize)) {
        (self.subs.len(), self.watches.held())
    }

    fn found(&mut self, service: &ServiceName, found: Option<Service>, now: Instant) {
        let Some(sub) = self.subs.get_mut(service) else { return };
        if sub.stage == Stage::Probed {
            if found.is_some() {
                sub.stage = Stage::Uncovered;
                self.uncovered.insert(service.clone());
                self.watches.subscribe(service);
                // a wide watch may cover it already
                self.cover(now);
            } else {
                self.remove(service);
                self.publish_first(service, None);
            }
            return;
        }
        match &sub.view {
            Some(view) if *view == found => {}
            Some(_) => {
                sub.view = Some(found.clone());
                self.actions.push(Action::Publish(service.clone(), found));
            }
            None => {
                sub.view = Some(found.clone());
                self.publish_first(service, found);
            }
        }
    }

    fn publish_first(&mut self, service: &ServiceName, found: Option<Service>) {
        self.actions.push(Action::Publish(service.clone(), found));
        self.actions.push(Action::Settle(service.clone(), Ok(())));
    }

    fn failed(&mut self, service: &ServiceName, reason: String, now: Instant) {
        let Some(sub) = self.subs.get_mut(service) else { return };
        sub.failures += 1;
        let (failures, stage) = (sub.failures, sub.stage);
        if sub.view.is_none() && failures >= FAILURES_TOLD {
            self.actions.push(Action::Settle(service.clone(), Err(Unavailable(reason))));
            if stage == Stage::Probed {
                return self.remove(service);
            }
        }
        if stage != Stage::Uncovered {
            let pause = backoff(failures, &mut self.rng);
            self.agenda.add(service, now + pause);
        }
    }

    /// Services whose watches stand now are read.
    fn cover(&mut self, now: Instant) {
        let covered: Vec<_> =
            self.uncovered.iter().filter(|service| self.watches.covers(service)).cloned().collect();
        for service in covered {
            self.uncovered.remove(&service);
            let Some(sub) = self.subs.get_mut(&service) else { continue };
            sub.stage = Stage::Live;
            let quiet = sub.view.is_some() && now >= sub.used + RECENT;
            let spread = match quiet {
                true => self.spread,
                false if sub.view.is_some() => BUSY_SPREAD,
                // somebody waits for it
                false => Duration::ZERO,
            };
            self.agenda.add(&service, now + spread.mul_f64(self.rng.f64()));
        }
    }

    fn start_reads(&mut self, now: Instant) {
        while self.reads < MAX_READS {
            let services = self.next_batch(now);
            if services.is_empty() {
                return;
            }
            self.reads += 1;
            self.actions.push(Action::Read(Batch { services, ticket: self.tickets }));
        }
    }

    /// What is due; a service whose last read failed goes alone, so that it takes no other down.
    fn next_batch(&mut self, now: Instant) -> Vec<ServiceName> {
        self.tickets += 1;
        let mut services = Vec::new();
        while services.len() < BATCH {
            // no longer due before it is read: an event during the read makes it due again
            let Some(service) = self.agenda.take(now) else { break };
            let Some(sub) = self.subs.get_mut(&service) else { continue };
            if sub.stage == Stage::Uncovered {
                continue;
            }
            if sub.ticket.is_some() {
                self.agenda.add(&service, now + Duration::from_millis(*COALESCE_MS.start()));
                continue;
            }
            let alone = sub.failures > 0;
            if alone && !services.is_empty() {
                self.agenda.add(&service, now);
                break;
            }
            sub.ticket = Some(self.tickets);
            services.push(service);
            if alone {
                break;
            }
        }
        services
    }

    /// Tells whoever waits for a new service that nobody can be asked.
    fn refuse(&mut self) {
        let unknown: Vec<_> =
            self.subs.iter().filter(|(_, sub)| sub.view.is_none()).map(|(name, _)| name.clone()).collect();
        for service in unknown {
            self.remove(&service);
            let reason = Unavailable("the registry can't be reached".into());
            self.actions.push(Action::Settle(service, Err(reason)));
        }
    }

    fn remove(&mut self, service: &ServiceName) {
        self.subs.remove(service);
        self.agenda.remove(service);
        self.uncovered.remove(service);
        self.watches.unsubscribe(service);
    }

    fn note_use(&mut self, now: Instant, mut used: impl FnMut(&ServiceName) -> bool) {
        self.subs.iter_mut().filter(|(service, _)| used(service)).for_each(|(_, sub)| sub.used = now);
    }
}

mod agenda;
#[cfg(test)]
mod tests;
