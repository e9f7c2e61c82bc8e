//! When which service is to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::reads::BATCH;
use crate::names::ServiceName;

/// Every service at most once, the earliest time wins.
#[derive(Default)]
pub(super) struct Agenda {
    by_time: BTreeSet<(Instant, ServiceName)>,
    by_name: BTreeMap<ServiceName, Instant>,
}

impl Agenda {
    pub(super) fn add(&mut self, service: &ServiceName, at: Instant) {
        match self.by_name.get(service) {
            Some(due) if *due <= at => return,
            Some(_) | None => self.remove(service),
        }
        self.by_name.insert(service.clone(), at);
        self.by_time.insert((at, service.clone()));
    }

    /// Spreads the services over a while, as many as one read takes at the same time.
    pub(super) fn spread<'s>(
        &mut self,
        services: impl IntoIterator<Item = &'s ServiceName>,
        now: Instant,
        over: Duration,
        rng: &mut fastrand::Rng,
    ) {
        let mut at = now;
        for (n, service) in services.into_iter().enumerate() {
            if n % BATCH == 0 {
                at = now + over.mul_f64(rng.f64());
            }
            self.add(service, at);
        }
    }

    /// Puts the service off to `at`, if it is to be read before.
    pub(super) fn not_before(&mut self, service: &ServiceName, at: Instant) {
        if self.due(service).is_some_and(|due| due < at) {
            self.remove(service);
            self.add(service, at);
        }
    }

    pub(super) fn remove(&mut self, service: &ServiceName) {
        if let Some(due) = self.by_name.remove(service) {
            self.by_time.remove(&(due, service.clone()));
        }
    }

    /// When the service is to be read.
    pub(super) fn due(&self, service: &ServiceName) -> Option<Instant> {
        self.by_name.get(service).copied()
    }

    /// The earliest time.
    pub(super) fn first(&self) -> Option<Instant> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Takes the earliest service that is due by `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<ServiceName> {
        self.by_time.first().filter(|(due, _)| *due <= now)?;
        let (_, service) = self.by_time.pop_first()?;
        self.by_name.remove(&service);
        Some(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_time_of_a_service_wins() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let [a, b] = ["a", "b"].map(|name| ServiceName::new(name).unwrap());
        let mut agenda = Agenda::default();
        agenda.add(&a, now + 3 * second);
        agenda.add(&b, now + 2 * second);
        agenda.add(&a, now + second);
        agenda.add(&a, now + 2 * second);
        assert_eq!(agenda.first(), Some(now + second));
        assert_eq!(agenda.take(now), None);
        assert_eq!(agenda.take(now + 2 * second), Some(a.clone()));
        agenda.remove(&b);
        assert_eq!((agenda.take(now + 9 * second), agenda.first()), (None, None));
    }
}
