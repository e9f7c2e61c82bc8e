//! Reads: which services go together, and what becomes of their outcome.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Action, Batch, COALESCE_MS, Mirror, Stage};
use crate::directory::Unavailable;
use crate::names::ServiceName;
use crate::registry::watches::backoff;
use crate::registry::{Node, Trouble};

/// Reads under way at once.
pub(super) const MAX: usize = 4;
/// Services of one read, at most.
pub(super) const BATCH: usize = 50;
/// After a read, further ones wait for so many times what it took: one that is written all the time
/// must not take the requests of all others,
const REST: u32 = 10;
/// but not longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Failed reads in a row after which callers of a new service are told.
const FAILURES_TOLD: u32 = 2;

impl Mirror {
    pub(super) fn start_reads(&mut self, now: Instant) {
        while self.reads < MAX {
            let services = self.next_batch(now);
            if services.is_empty() {
                return;
            }
            self.reads += 1;
            self.actions.push(Action::Read(Batch { services, ticket: self.tickets, begun: now }));
        }
    }

    /// What is due.
    fn next_batch(&mut self, now: Instant) -> Vec<ServiceName> {
        self.tickets += 1;
        let (mut services, mut most) = (Vec::new(), BATCH);
        while services.len() < most {
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
            if sub.company <= services.len() {
                self.agenda.add(&service, now);
                break;
            }
            sub.ticket = Some(self.tickets);
            most = most.min(sub.company);
            services.push(service);
        }
        services
    }

    /// A read ended, with every node of its services.
    pub(crate) fn read(&mut self, batch: &Batch, outcome: Result<Vec<Node>, Trouble>, now: Instant) {
        self.reads = self.reads.saturating_sub(1);
        let took = now.saturating_duration_since(batch.begun) / batch.services.len().max(1) as u32;
        let pause = self.pause(batch);
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
                    (sub.failures, sub.company) = (0, BATCH);
                    sub.rests = now + (took * REST).min(LONGEST_REST);
                    self.agenda.not_before(service, sub.rests);
                    let previous = sub.view.as_ref().and_then(Option::as_deref);
                    let own = nodes.remove(&Some(service.clone())).unwrap_or_default();
                    if sub.stage == Stage::Live {
                        sub.verified = true;
                        let kept = own.iter().map(|node| (*node).clone()).collect();
                        self.actions.push(Action::Keep(service.clone(), kept));
                    }
                    let found = self.layout.parse(service, own, previous);
                    self.found(service, found, now);
                }
                Err(trouble) => {
                    sub.failures += 1;
                    sub.company = match trouble {
                        Trouble::Unknown(_) => (batch.services.len() / 2).max(1),
                        // by one of them, and again: which one?
                        Trouble::NoNode | Trouble::Exists | Trouble::Changed | Trouble::Refused(_) => 1,
                    };
                    self.failed(service, trouble, now + pause);
                }
            }
        }
    }

    fn failed(&mut self, service: &ServiceName, trouble: &Trouble, again: Instant) {
        let Some(sub) = self.subs.get(service) else { return };
        let stage = sub.stage;
        if sub.view.is_none() && sub.failures >= FAILURES_TOLD {
            self.actions.push(Action::Settle(service.clone(), Err(Unavailable(trouble.to_string()))));
            if stage == Stage::Probed {
                return self.remove(service);
            }
        }
        if stage != Stage::Uncovered {
            self.agenda.add(service, again);
        }
    }

    /// How long all of a read wait if it failed: they stay together.
    fn pause(&mut self, batch: &Batch) -> Duration {
        let failures = batch.services.iter().filter_map(|service| self.subs.get(service));
        let failures = failures.map(|sub| sub.failures + 1).max().unwrap_or(1);
        backoff(failures, &mut self.rng)
    }
}
