//! What to read and watch next, and what the view holds: events in, actions out.
//!
//! A service goes through three stages. *Probed*: a plain read tells whether it exists; where it
//! doesn't, that is published and nothing is kept. *Uncovered*: its watches are on their way.
//! *Live*: read again, published, and from then on after every event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agenda::Agenda;
use audit::Audit;
use limbo::Limbo;

use super::Node;
use super::watches::{Change, Watches};
use crate::directory::Unavailable;
use crate::model::{Layout, Service};
use crate::names::ServiceName;

/// An event waits this long, in milliseconds, for others of its kind.
const COALESCE_MS: std::ops::RangeInclusive<u64> = 20..=100;
/// After a reconnect, services called lately are re-read within this time.
const BUSY_SPREAD: Duration = Duration::from_millis(300);
/// The others within this time: a few sidecars lost one server,
const QUIET_SPREAD: Duration = Duration::from_secs(2);
/// or all of them lost all servers, or their sessions.
const STORM_SPREAD: Duration = Duration::from_secs(8);
/// What counts as called lately.
const RECENT: Duration = Duration::from_secs(60);
/// A service nobody called for this long is dropped.
const IDLE: Duration = Duration::from_secs(600);
/// How often idle services are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a new service waits for a lost connection to come back.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the driver has to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Read the scopes of these services at once; the outcome goes to [`Mirror::read`].
    Read(Batch),
    /// Change the watches; the outcome goes to [`Mirror::watched`].
    Watch(Change),
    /// What a service's nodes are, for whoever keeps them.
    Keep(ServiceName, Vec<Node>),
    /// Replace the service in the view.
    Publish(ServiceName, Option<Arc<Service>>),
    /// The service was read and is as the view has it.
    Confirm(ServiceName),
    /// The view was not as the registry, though no event was missed: a defect.
    Drift(ServiceName),
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
    begun: Instant,
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
    /// Services that its next read may have: fewer after one that failed, so that it takes no other down.
    company: usize,
    /// Events wait until then, as a read of it costs so much.
    rests: Instant,
    /// What was published last; the inner `None`: that it isn't there.
    view: Option<Option<Arc<Service>>>,
    used: Instant,
    /// Whether it was read since the registry was reached last, its watches standing.
    verified: bool,
}

impl Sub {
    fn new(stage: Stage, view: Option<Option<Arc<Service>>>, now: Instant) -> Self {
        let (ticket, failures, company) = (None, 0, reads::BATCH);
        Self { stage, ticket, failures, company, rests: now, view, used: now, verified: false }
    }
}

enum Link {
    Up,
    Down { since: Instant, why: &'static str },
}

pub(crate) struct Mirror {
    layout: Layout,
    link: Link,
    subs: BTreeMap<ServiceName, Sub>,
    agenda: Agenda,
    audit: Audit,
    limbo: Limbo,
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
    pub(crate) fn new(layout: Layout, overhead: usize, mut rng: fastrand::Rng, now: Instant) -> Self {
        Self {
            layout,
            link: Link::Down { since: now, why: "the registry was not reached yet" },
            subs: BTreeMap::new(),
            agenda: Agenda::default(),
            audit: Audit::new(now, &mut rng),
            limbo: Limbo::default(),
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

    /// Takes a service as it was known to an earlier run: shown at once, and read as soon as that can be.
    pub(crate) fn restore(&mut self, service: &ServiceName, nodes: &[Node], now: Instant) {
        let Some(found) = self.layout.parse(service, nodes, None) else { return };
        self.subs.insert(service.clone(), Sub::new(Stage::Uncovered, Some(Some(found.into())), now));
        self.uncovered.insert(service.clone());
        self.watches.subscribe(service);
        self.publish(service);
    }

    /// Whether all of the view but for what is held is as the registry has it, as far as events tell.
    pub(crate) fn is_true(&self, now: Instant) -> bool {
        let is_due = |service: &ServiceName| self.agenda.due(service).is_some_and(|due| due <= now);
        let known = |(service, sub): (&ServiceName, &Sub)| {
            sub.stage == Stage::Probed || (sub.verified && sub.failures == 0 && !is_due(service))
        };
        matches!(self.link, Link::Up) && self.subs.iter().all(known)
    }

    /// Somebody calls a service that is not in the view.
    pub(crate) fn want(&mut self, service: &ServiceName, now: Instant) {
        if let Some(sub) = self.subs.get_mut(service) {
            sub.used = now;
            if let Some(view) = &sub.view {
                // it fell out of the view, or is remembered there as absent only for a while
                let served = view.as_ref().map(|view| self.limbo.served(service, view));
                self.actions.push(Action::Publish(service.clone(), served));
                self.actions.push(Action::Settle(service.clone(), Ok(())));
            }
            return;
        }
        self.subs.insert(service.clone(), Sub::new(Stage::Probed, None, now));
        self.agenda.add(service, now);
    }

    /// The node at `path` was made, changed or removed.
    pub(crate) fn changed(&mut self, path: &str, now: Instant) {
        if let Some(service) = self.layout.service_of(path)
            && let Some(sub) = self.subs.get(&service)
        {
            self.audit.heard(&service);
            let now = now.max(sub.rests);
            let latest = now + Duration::from_millis(*COALESCE_MS.end());
            // the first event of many draws the delay: the shortest of many would be the same everywhere
            if self.agenda.due(&service).is_none_or(|due| due > latest) {
                let delay = Duration::from_millis(self.rng.u64(COALESCE_MS));
                self.agenda.add(&service, now + delay);
            }
        }
    }

    /// The registry can be asked (again): all watches are gone and anything may have changed.
    /// `storm`: many others came back at the same time.
    pub(crate) fn attached(&mut self, now: Instant, storm: bool, used: impl FnMut(&ServiceName) -> bool) {
        self.note_use(now, used);
        self.spread = if storm { STORM_SPREAD } else { QUIET_SPREAD };
        self.link = Link::Up;
        let busy = |sub: &Sub| sub.view.is_none() || now < sub.used + RECENT;
        let busy = self.subs.iter().filter(|(_, sub)| busy(sub)).map(|(service, _)| service.clone());
        self.watches.lost(busy.collect());
        self.audit.lost();
        for (service, sub) in &mut self.subs {
            sub.verified = false;
            if sub.stage == Stage::Live {
                sub.stage = Stage::Uncovered;
            }
            if sub.stage == Stage::Uncovered {
                self.uncovered.insert(service.clone());
                self.agenda.remove(service);
            }
        }
    }

    /// The registry can't be asked, for this reason; what the view holds stays in force.
    pub(crate) fn detached(&mut self, now: Instant, why: &'static str) {
        let since = if let Link::Down { since, .. } = self.link { since } else { now };
        self.link = Link::Down { since, why };
    }

    /// A change of watches ended with these paths added; false if it is out of date.
    pub(crate) fn watched(&mut self, serial: u64, added: &[String], now: Instant) -> bool {
        let in_time = self.watches.done(serial, added, now, &mut self.rng);
        if in_time {
            self.cover(now);
        }
        in_time
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
        for service in self.limbo.expired(now) {
            self.publish(&service);
        }
        match self.link {
            Link::Down { since, why } if now >= since + PATIENCE => self.refuse(why),
            Link::Down { .. } => {}
            Link::Up => {
                self.actions.extend(self.watches.next(now).map(Action::Watch));
                self.compare(now);
                self.start_reads(now);
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// When [`Mirror::poll`] has something to do, if nothing else happens before.
    pub(crate) fn wake(&self) -> Instant {
        let next = match self.link {
            Link::Down { since, .. } => {
                self.subs.values().any(|sub| sub.view.is_none()).then(|| since + PATIENCE)
            }
            Link::Up => {
                let read = self.agenda.first().filter(|_| self.reads < reads::MAX);
                read.into_iter().chain(self.watches.again()).chain([self.audit.wake()]).min()
            }
        };
        next.into_iter().chain(self.limbo.wake()).fold(self.sweep_at, Instant::min)
    }

    /// Providers that vanished with many others and are kept as a last resort.
    pub(crate) fn held(&self) -> usize {
        self.limbo.held()
    }

    /// The nodes of these, as they would stand in the registry.
    pub(crate) fn held_nodes(&self) -> BTreeMap<ServiceName, Vec<Node>> {
        self.limbo.nodes(self.layout)
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
                self.actions.push(Action::Publish(service.clone(), None));
                self.actions.push(Action::Settle(service.clone(), Ok(())));
            }
            return;
        }
        match sub.view.replace(found.map(Arc::new)) {
            None => {
                self.publish(service);
                self.actions.push(Action::Settle(service.clone(), Ok(())));
            }
            before if before == sub.view => {
                self.audit.read(service, false, now);
                self.actions.push(Action::Confirm(service.clone()));
            }
            before => {
                self.audit.read(service, true, now);
                let after = sub.view.clone().flatten();
                let total = self.subs.values().filter(|sub| matches!(sub.view, Some(Some(_)))).count();
                let others =
                    self.limbo.changed(service, before.flatten().as_deref(), after.as_deref(), total, now);
                [service].into_iter().chain(&others).for_each(|service| self.publish(service));
            }
        }
    }

    /// Shows the service as it is to be served.
    fn publish(&mut self, service: &ServiceName) {
        let Some(Sub { view: Some(view), .. }) = self.subs.get(service) else { return };
        let served = view.as_ref().map(|view| self.limbo.served(service, view));
        self.actions.push(Action::Publish(service.clone(), served));
    }

    /// Reads everything again, spread over a while, when it is time.
    fn compare(&mut self, now: Instant) {
        self.actions.extend(self.audit.drifted(now).into_iter().map(Action::Drift));
        if !self.audit.is_due(now, &mut self.rng) {
            return;
        }
        // what was not read since a reconnect, or since an event, differs for a reason that is known
        let true_so_far = |(service, sub): &(&ServiceName, &Sub)| {
            let awaited = sub.ticket.is_some() || self.agenda.due(service).is_some();
            sub.stage == Stage::Live && sub.verified && !awaited
        };
        let services = self.subs.iter().filter(true_so_far).map(|(service, _)| service);
        let services: Vec<_> = services.inspect(|service| self.audit.open(service)).collect();
        self.agenda.spread(services, now, audit::SPREAD, &mut self.rng);
    }

    /// Services whose watches stand now are read.
    fn cover(&mut self, now: Instant) {
        let covered: Vec<_> =
            self.uncovered.iter().filter(|service| self.watches.covers(service)).cloned().collect();
        let mut spreads: BTreeMap<Duration, Vec<&ServiceName>> = BTreeMap::new();
        for service in &covered {
            self.uncovered.remove(service);
            let Some(sub) = self.subs.get_mut(service) else { continue };
            sub.stage = Stage::Live;
            let quiet = sub.view.is_some() && now >= sub.used + RECENT;
            let spread = match quiet {
                true => self.spread,
                false if sub.view.is_some() => BUSY_SPREAD,
                // somebody waits for it
                false => Duration::ZERO,
            };
            spreads.entry(spread).or_default().push(service);
        }
        for (spread, services) in spreads {
            self.agenda.spread(services, now, spread, &mut self.rng);
        }
    }

    /// Tells whoever waits for a new service that nobody can be asked.
    fn refuse(&mut self, why: &str) {
        let unknown: Vec<_> =
            self.subs.iter().filter(|(_, sub)| sub.view.is_none()).map(|(name, _)| name.clone()).collect();
        for service in unknown {
            self.remove(&service);
            self.actions.push(Action::Settle(service, Err(Unavailable(why.into()))));
        }
    }

    fn remove(&mut self, service: &ServiceName) {
        self.subs.remove(service);
        self.agenda.remove(service);
        self.limbo.forget(service);
        self.uncovered.remove(service);
        self.watches.unsubscribe(service);
    }

    fn note_use(&mut self, now: Instant, mut used: impl FnMut(&ServiceName) -> bool) {
        self.subs.iter_mut().filter(|(service, _)| used(service)).for_each(|(_, sub)| sub.used = now);
    }
}

mod agenda;
mod audit;
mod limbo;
mod reads;
#[cfg(test)]
mod tests;
