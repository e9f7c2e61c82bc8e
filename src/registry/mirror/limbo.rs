//! Providers that vanished with many others at once: kept for a while, as a last resort.
//!
//! One that leaves alone, is drained first, or loses its service with it is gone at once, the
//! last one of a service too.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{Layout, Provider, Service, State};
use crate::names::{Address, ApiName, ServiceName};
use crate::registry::Node;

/// Losses within this time count as one event.
const WINDOW: Duration = Duration::from_secs(10);
/// As many of one service, or most providers of as many services, are many.
const MANY: usize = 3;
/// How long what vanished is kept.
const KEPT: Duration = Duration::from_secs(120);

#[derive(Default)]
pub(super) struct Limbo {
    services: BTreeMap<ServiceName, Losses>,
}

#[derive(Default)]
struct Losses {
    lost: Vec<Lost>,
    /// Providers the service still has.
    left: usize,
}

struct Lost {
    /// Whose list it stood in; `None`: the service's own.
    api: Option<ApiName>,
    provider: Provider,
    at: Instant,
    held: bool,
}

impl Limbo {
    /// Notes a change of one service of `total`; returns the other services that are served otherwise now.
    pub(super) fn changed(
        &mut self,
        service: &ServiceName,
        before: Option<&Service>,
        after: Option<&Service>,
        total: usize,
        now: Instant,
    ) -> Vec<ServiceName> {
        let Some(after) = after else {
            self.services.remove(service);
            return Vec::new();
        };
        let losses = self.services.entry(service.clone()).or_default();
        let there: HashSet<_> = lists(after).flat_map(|(api, list)| places(api, list)).collect();
        losses.left = there.len();
        losses.lost.retain(|lost| !there.contains(&(lost.api.as_ref(), &lost.provider.address)));
        for (api, list) in before.into_iter().flat_map(lists) {
            let stays = api.is_none_or(|api| after.apis.contains_key(api));
            let gone = |p: &&Provider| stays && p.state == State::On && !there.contains(&(api, &p.address));
            losses.lost.extend(list.iter().filter(gone).map(|provider| Lost {
                api: api.cloned(),
                provider: Provider { held: true, ..provider.clone() },
                at: now,
                held: false,
            }));
        }
        self.forget_old(now);
        self.judge(service, total, now)
    }

    /// The service as it is served: with what is held for it.
    pub(super) fn served(&self, name: &ServiceName, service: &Arc<Service>) -> Arc<Service> {
        let lost = self.services.get(name).into_iter().flat_map(|losses| &losses.lost);
        let mut held = lost.filter(|lost| lost.held).peekable();
        if held.peek().is_none() {
            return service.clone();
        }
        let mut served = Service::clone(service);
        for lost in held {
            match &lost.api {
                None => served.providers.push(lost.provider.clone()),
                Some(api) => {
                    let list = served
                        .apis
                        .get_mut(api)
                        .map(|api| Arc::make_mut(api).providers.get_or_insert_default());
                    list.into_iter().for_each(|list| list.push(lost.provider.clone()));
                }
            }
        }
        served.into()
    }

    /// What is held, as nodes.
    pub(super) fn nodes(&self, layout: Layout) -> BTreeMap<ServiceName, Vec<Node>> {
        let mut nodes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (service, losses) in &self.services {
            for Lost { api, provider, .. } in losses.lost.iter().filter(|lost| lost.held) {
                let node = layout.provider_node(service, api.as_ref(), provider);
                nodes.entry(service.clone()).or_default().extend(node);
            }
        }
        nodes
    }

    /// Services whose held providers have been kept for long enough.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<ServiceName> {
        let mut changed = Vec::new();
        for (service, losses) in &mut self.services {
            let before = losses.lost.len();
            losses.lost.retain(|lost| !lost.held || now < lost.at + KEPT);
            if losses.lost.len() < before {
                changed.push(service.clone());
            }
        }
        self.services.retain(|_, losses| !losses.lost.is_empty());
        changed
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        self.all().filter(|lost| lost.held).map(|lost| lost.at + KEPT).min()
    }

    /// How many providers are held.
    pub(super) fn held(&self) -> usize {
        self.all().filter(|lost| lost.held).count()
    }

    pub(super) fn forget(&mut self, service: &ServiceName) {
        self.services.remove(service);
    }

    fn all(&self) -> impl Iterator<Item = &Lost> {
        self.services.values().flat_map(|losses| &losses.lost)
    }

    fn forget_old(&mut self, now: Instant) {
        for losses in self.services.values_mut() {
            losses.lost.retain(|lost| lost.held || now < lost.at + WINDOW);
        }
        self.services.retain(|_, losses| !losses.lost.is_empty());
    }

    /// Holds what vanished in a mass event.
    fn judge(&mut self, service: &ServiceName, total: usize, now: Instant) -> Vec<ServiceName> {
        if let Some(losses) = self.services.get_mut(service)
            && losses.recent(now) >= MANY
            && losses.is_most(now)
        {
            losses.hold();
        }
        let hit = self.services.values().filter(|losses| losses.is_most(now)).count();
        if hit < MANY || hit * 3 < total {
            return Vec::new();
        }
        let mut others = Vec::new();
        for (name, losses) in self.services.iter_mut().filter(|(_, losses)| losses.is_most(now)) {
            if losses.hold() && name != service {
                others.push(name.clone());
            }
        }
        others
    }
}

impl Losses {
    fn recent(&self, now: Instant) -> usize {
        self.lost.iter().filter(|lost| now < lost.at + WINDOW).count()
    }

    /// Whether it lost more than half of what it had.
    fn is_most(&self, now: Instant) -> bool {
        self.recent(now) > self.left
    }

    /// True if that is news.
    fn hold(&mut self) -> bool {
        let news = self.lost.iter().any(|lost| !lost.held);
        self.lost.iter_mut().for_each(|lost| lost.held = true);
        news
    }
}

/// Each list of providers, and whose it is.
fn lists(service: &Service) -> impl Iterator<Item = (Option<&ApiName>, &Vec<Provider>)> {
    let own = service.apis.iter().filter_map(|(name, api)| Some((Some(name), api.providers.as_ref()?)));
    own.chain([(None, &service.providers)])
}

fn places<'a>(
    api: Option<&'a ApiName>,
    list: &'a [Provider],
) -> impl Iterator<Item = (Option<&'a ApiName>, &'a Address)> {
    list.iter().map(move |provider| (api, &provider.address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Address;

    fn name(service: &str) -> ServiceName {
        ServiceName::new(service).unwrap()
    }

    fn with(ports: std::ops::Range<u16>) -> Service {
        let provider = |port| Provider {
            address: Address::new(&format!("10.0.0.1:{}", 8000 + port)).unwrap(),
            weight: 100,
            idc: None,
            state: State::On,
            tags: None,
            max_connections: None,
            ephemeral: true,
            listed: false,
            held: false,
        };
        Service { providers: ports.map(provider).collect(), ..Service::default() }
    }

    fn held(limbo: &Limbo, service: &str, truth: &Service) -> usize {
        limbo
            .served(&name(service), &Arc::new(truth.clone()))
            .providers
            .iter()
            .filter(|provider| provider.held)
            .count()
    }

    #[test]
    fn leaving_one_by_one_or_drained_is_leaving() {
        let (mut limbo, mut now) = (Limbo::default(), Instant::now());
        for left in (0..5).rev() {
            let (before, after) = (with(0..left + 1), with(0..left));
            limbo.changed(&name("user"), Some(&before), Some(&after), 1, now);
            assert_eq!(held(&limbo, "user", &after), 0, "{left} left");
            now += Duration::from_secs(6);
        }
        let mut drained = with(0..5);
        drained.providers.iter_mut().for_each(|provider| provider.state = State::Drain);
        limbo.changed(&name("user"), Some(&drained), Some(&with(0..0)), 1, now);
        assert_eq!(limbo.held(), 0);
    }

    #[test]
    fn most_of_many_at_once_are_kept_until_they_are_back_or_the_time_is_over() {
        let (mut limbo, now) = (Limbo::default(), Instant::now());
        let (before, after) = (with(0..5), with(0..1));
        limbo.changed(&name("user"), Some(&before), Some(&after), 9, now);
        assert_eq!(held(&limbo, "user", &after), 4);
        let later = now + Duration::from_secs(60);
        let some = with(0..3);
        limbo.changed(&name("user"), Some(&after), Some(&some), 9, later);
        assert_eq!(held(&limbo, "user", &some), 2);
        assert_eq!(limbo.wake(), Some(now + KEPT));
        assert_eq!(limbo.expired(now + KEPT), [name("user")]);
        assert_eq!((held(&limbo, "user", &some), limbo.wake()), (0, None));
    }

    #[test]
    fn the_only_providers_of_a_third_of_all_services_are_kept() {
        let (mut limbo, now) = (Limbo::default(), Instant::now());
        let (before, after) = (with(0..1), with(0..0));
        assert!(limbo.changed(&name("a"), Some(&before), Some(&after), 9, now).is_empty());
        assert!(limbo.changed(&name("b"), Some(&before), Some(&after), 9, now).is_empty());
        assert_eq!(limbo.held(), 0);
        let others = limbo.changed(&name("c"), Some(&before), Some(&after), 9, now);
        assert_eq!(others, [name("a"), name("b")]);
        assert_eq!(limbo.held(), 3);
    }

    #[test]
    fn a_service_that_is_removed_takes_its_providers_along() {
        let (mut limbo, now) = (Limbo::default(), Instant::now());
        limbo.changed(&name("user"), Some(&with(0..5)), None, 1, now);
        assert_eq!(limbo.held(), 0);
    }
}
