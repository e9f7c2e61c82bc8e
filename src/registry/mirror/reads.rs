//! Reads: which services go together, and what becomes of their outcome.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Action, Batch, COALESCE_MS, Mirror, Stage};
use crate::directory::Unavailable;
use crate::names::ServiceName;
use crate::registry::Node;
use crate::registry::watches::backoff;

/// Reads under way at once.
pub(super) const MAX: usize = 4;
/// Services of one read.
const BATCH: usize = 50;
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
                    if sub.stage == Stage::Live {
                        sub.verified = true;
                        let kept = own.iter().map(|node| (*node).clone()).collect();
                        self.actions.push(Action::Keep(service.clone(), kept));
                    }
                    let found = self.layout.parse(service, own, previous);
                    self.found(service, found, now);
                }
                Err(reason) => self.failed(service, reason.clone(), now),
            }
        }
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
}
