//! Which paths are watched: those of each service while they are few, else the layout's roots.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::limits;
use crate::model::Layout;
use crate::names::ServiceName;

/// Above this many bytes of watched paths the roots are watched instead: the client library
/// can't reconnect with more than 128 KiB.
const MAX_BYTES: usize = 96 << 10;
/// Below this many bytes each service is watched by itself again.
const FEW_BYTES: usize = MAX_BYTES / 2;

/// Paths that one change adds: services whose paths it holds are read while the next one is under way.
const MOST_AT_ONCE: usize = 400;

/// A change of what is watched: first all of `add`, then, if that went well, all of `drop`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) serial: u64,
    pub(crate) add: Vec<String>,
    pub(crate) drop: Vec<String>,
}

pub(crate) struct Watches {
    layout: Layout,
    /// Bytes that stand before every path on its way to the registry.
    overhead: usize,
    services: BTreeSet<ServiceName>,
    /// Those whose paths are added before all others.
    urgent: BTreeSet<ServiceName>,
    /// Of the services' own paths, watched or not.
    bytes: usize,
    wide: bool,
    wanted: BTreeSet<String>,
    held: BTreeSet<String>,
    add: BTreeSet<String>,
    drop: BTreeSet<String>,
    under_way: Option<Change>,
    serial: u64,
    /// After a change that failed, and how many did in a row.
    again: Option<Instant>,
    failures: u32,
}

impl Watches {
    pub(crate) fn new(layout: Layout, overhead: usize) -> Self {
        Self {
            layout,
            overhead,
            services: BTreeSet::new(),
            urgent: BTreeSet::new(),
            bytes: 0,
            wide: false,
            wanted: BTreeSet::new(),
            held: BTreeSet::new(),
            add: BTreeSet::new(),
            drop: BTreeSet::new(),
            under_way: None,
            serial: 0,
            again: None,
            failures: 0,
        }
    }

    pub(crate) fn subscribe(&mut self, service: &ServiceName) {
        if !self.services.insert(service.clone()) {
            return;
        }
        // somebody waits for it
        self.urgent.insert(service.clone());
        let paths = self.paths(service);
        self.bytes += self.size(&paths);
        if !self.wide && self.bytes > MAX_BYTES {
            self.wide = true;
            self.choose_again();
        } else if !self.wide {
            paths.into_iter().for_each(|path| self.want(path));
        }
    }

    pub(crate) fn unsubscribe(&mut self, service: &ServiceName) {
        if !self.services.remove(service) {
            return;
        }
        self.urgent.remove(service);
        let paths = self.paths(service);
        self.bytes -= self.size(&paths);
        if self.wide && self.bytes < FEW_BYTES {
            self.wide = false;
            self.choose_again();
        } else if !self.wide {
            paths.iter().for_each(|path| self.unwant(path));
        }
    }

    /// All watches are gone: every one has to be added again, those of `urgent` services first.
    pub(crate) fn lost(&mut self, urgent: BTreeSet<ServiceName>) {
        self.urgent = urgent;
        self.held.clear();
        self.drop.clear();
        self.add = self.wanted.clone();
        self.under_way = None;
        self.serial += 1;
        (self.again, self.failures) = (None, 0);
    }

    /// What to change next, one change at a time; its outcome goes to [`Watches::done`].
    pub(crate) fn next(&mut self, now: Instant) -> Option<Change> {
        if self.again.is_some_and(|at| now < at) {
            return None;
        }
        // also where nothing is left to change: a time that is past would wake the driver for ever
        self.again = None;
        if self.under_way.is_some() || (self.add.is_empty() && self.drop.is_empty()) {
            return None;
        }
        let add = self.most_urgent();
        let drop = match self.add.is_empty() {
            true => std::mem::take(&mut self.drop).into_iter().collect(),
            // what they hear of may not be heard of otherwise yet
            false => Vec::new(),
        };
        self.serial += 1;
        let change = Change { serial: self.serial, add, drop };
        self.under_way = Some(change.clone());
        Some(change)
    }

    /// Takes the paths to add next.
    fn most_urgent(&mut self) -> Vec<String> {
        let urgent = |path: &String| self.layout.service_of(path).is_some_and(|s| self.urgent.contains(&s));
        let (mut next, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.add).into_iter().partition(urgent);
        next.extend(later);
        self.add.extend(next.split_off(next.len().min(MOST_AT_ONCE)));
        next
    }

    /// When [`Watches::next`] is to be asked again, where a change failed.
    pub(crate) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Notes how a change ended: the paths that are watched now. False if it is out of date.
    pub(crate) fn done(
        &mut self,
        serial: u64,
        added: &[String],
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> bool {
        let Some(change) = self.under_way.take_if(|change| change.serial == serial) else { return false };
        self.held.extend(added.iter().cloned());
        if added.len() < change.add.len() {
            self.failures += 1;
            self.again = Some(now + backoff(self.failures, rng));
        } else {
            self.failures = 0;
            change.drop.iter().for_each(|path| {
                self.held.remove(path);
            });
        }
        for path in change.add.iter().chain(&change.drop) {
            match (self.wanted.contains(path), self.held.contains(path)) {
                (true, false) => drop(self.add.insert(path.clone())),
                (false, true) => drop(self.drop.insert(path.clone())),
                (true, true) | (false, false) => {}
            }
        }
        true
    }

    /// Whether every change to `service` is heard of.
    pub(crate) fn covers(&self, service: &ServiceName) -> bool {
        // a watch on its way out is heard of no more by the time the service is read
        let leaves = |path: &str| self.under_way.iter().any(|change| change.drop.iter().any(|p| p == path));
        let held = |path: &str| self.held.contains(path) && !leaves(path);
        self.layout.roots().iter().all(|root| held(root)) || self.paths(service).iter().all(|path| held(path))
    }

    /// How many paths are watched, and their bytes.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.held.len(), self.held.iter().map(|path| path.len() + self.overhead).sum())
    }

    fn paths(&self, service: &ServiceName) -> Vec<String> {
        self.layout.scopes(service).into_iter().map(|scope| scope.path).collect()
    }

    fn size(&self, paths: &[String]) -> usize {
        paths.iter().map(|path| path.len() + self.overhead).sum()
    }

    fn choose_again(&mut self) {
        let wanted: BTreeSet<String> = if self.wide {
            self.layout.roots().iter().map(|root| (*root).to_owned()).collect()
        } else {
            self.services.iter().flat_map(|service| self.paths(service)).collect()
        };
        let gone: Vec<_> = self.wanted.difference(&wanted).cloned().collect();
        gone.iter().for_each(|path| self.unwant(path));
        wanted.into_iter().for_each(|path| self.want(path));
    }

    fn want(&mut self, path: String) {
        self.drop.remove(&path);
        if !self.held.contains(&path) && !self.is_being_added(&path) {
            self.add.insert(path.clone());
        }
        self.wanted.insert(path);
    }

    fn unwant(&mut self, path: &str) {
        self.wanted.remove(path);
        self.add.remove(path);
        if self.held.contains(path) {
            self.drop.insert(path.to_owned());
        }
    }

    fn is_being_added(&self, path: &String) -> bool {
        self.under_way.as_ref().is_some_and(|change| change.add.contains(path))
    }
}

/// The pause after so many requests in a row that failed.
pub(crate) fn backoff(failures: u32, rng: &mut fastrand::Rng) -> Duration {
    limits::backoff(failures, Duration::from_secs(2), rng)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> ServiceName {
        ServiceName::new(&format!("service-{n:04}")).unwrap()
    }

    /// One moment for all of a test.
    fn now() -> Instant {
        static NOW: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *NOW.get_or_init(Instant::now)
    }

    fn rng() -> fastrand::Rng {
        fastrand::Rng::with_seed(7)
    }

    fn settle(watches: &mut Watches) {
        while let Some(change) = watches.next(now()) {
            assert!(watches.done(change.serial, &change.add, now(), &mut rng()));
        }
    }

    #[test]
    fn many_services_are_watched_by_the_roots_and_few_again_by_themselves() {
        for layout in [Layout::Flat, Layout::Tree] {
            let mut watches = Watches::new(layout, 10);
            let most = 6000;
            for n in 0..most {
                watches.subscribe(&name(n));
                settle(&mut watches);
                assert!(watches.held().1 <= MAX_BYTES, "{n}: {:?}", watches.held());
                assert!(watches.covers(&name(n)));
            }
            assert_eq!(watches.held().0, layout.roots().len());
            for n in 10..most {
                watches.unsubscribe(&name(n));
                settle(&mut watches);
                assert!(watches.covers(&name(3)));
            }
            assert_eq!(watches.held().0, 10 * layout.scopes(&name(0)).len());
        }
    }

    #[test]
    fn after_a_loss_everything_is_added_again() {
        let mut watches = Watches::new(Layout::Flat, 0);
        watches.subscribe(&name(1));
        let stale = watches.next(now()).unwrap();
        watches.lost(BTreeSet::new());
        assert!(!watches.done(stale.serial, &stale.add, now(), &mut rng()));
        assert!(!watches.covers(&name(1)));
        let change = watches.next(now()).unwrap();
        assert_eq!(change.add, stale.add);
        watches.done(change.serial, &change.add, now(), &mut rng());
        assert!(watches.covers(&name(1)));
    }

    #[test]
    fn after_a_loss_the_paths_of_urgent_services_are_added_first_and_some_at_a_time() {
        let mut watches = Watches::new(Layout::Flat, 0);
        (0..600).for_each(|n| watches.subscribe(&name(n)));
        settle(&mut watches);
        watches.lost([name(599), name(300)].into());
        let first = watches.next(now()).unwrap();
        assert_eq!(first.add.len(), MOST_AT_ONCE);
        watches.done(first.serial, &first.add, now(), &mut rng());
        assert!(watches.covers(&name(599)) && watches.covers(&name(300)) && !watches.covers(&name(500)));
        // who comes now waits for no other
        watches.subscribe(&name(700));
        let second = watches.next(now()).unwrap();
        watches.done(second.serial, &second.add, now(), &mut rng());
        assert!(watches.covers(&name(700)) && !watches.covers(&name(500)));
        settle(&mut watches);
        assert!((0..600).all(|n| watches.covers(&name(n))));
    }

    #[test]
    fn nothing_is_dropped_before_all_is_added() {
        let mut watches = Watches::new(Layout::Flat, 0);
        watches.subscribe(&name(0));
        settle(&mut watches);
        (1..600).for_each(|n| watches.subscribe(&name(n)));
        watches.unsubscribe(&name(0));
        let mut dropped = Vec::new();
        while let Some(change) = watches.next(now()) {
            dropped.push(change.drop.len());
            assert!(watches.done(change.serial, &change.add, now(), &mut rng()));
        }
        let paths = Layout::Flat.scopes(&name(0)).len();
        assert_eq!(dropped.pop(), Some(paths));
        assert!(dropped.len() > 2 && dropped.iter().all(|paths| *paths == 0), "{dropped:?}");
    }

    #[test]
    fn what_could_not_be_added_is_tried_again_and_nothing_is_dropped_for_it() {
        let mut watches = Watches::new(Layout::Tree, 0);
        watches.subscribe(&name(1));
        settle(&mut watches);
        watches.subscribe(&name(2));
        watches.unsubscribe(&name(1));
        let change = watches.next(now()).unwrap();
        assert_eq!((change.add.len(), change.drop.len()), (1, 1));
        watches.done(change.serial, &[], now(), &mut rng());
        assert_eq!(watches.held().0, 1);
        assert!(watches.next(now()).is_none());
        let again = watches.next(watches.again().unwrap()).unwrap();
        assert_eq!((again.add, again.drop), (change.add, change.drop));
    }

    #[test]
    fn a_watch_that_is_being_dropped_covers_nothing() {
        let mut watches = Watches::new(Layout::Tree, 0);
        watches.subscribe(&name(1));
        settle(&mut watches);
        watches.unsubscribe(&name(1));
        watches.subscribe(&name(2));
        let change = watches.next(now()).unwrap();
        assert_eq!((change.add.len(), change.drop.len()), (1, 1));
        // called again while its watch goes: it must wait for a new one
        watches.subscribe(&name(1));
        assert!(!watches.covers(&name(1)));
        watches.done(change.serial, &change.add, now(), &mut rng());
        settle(&mut watches);
        assert!(watches.covers(&name(1)));
    }
}
