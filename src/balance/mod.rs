//! Chooses a provider: `pick` is one match over the policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::model::{Balance, Provider, State};
use crate::peer::Peer;

mod p2c;
mod random;
mod round_robin;

/// Providers of one API that may take calls, ready to pick from.
#[derive(Debug)]
pub struct Pool {
    members: Vec<Arc<Peer>>,
    /// Gone from the registry with many others: for when no member is left. True: given up.
    held: Vec<(Arc<Peer>, AtomicBool)>,
    /// Weights up to and with each member, divided by their common divisor.
    until: Vec<u64>,
    balance: Balance,
    turn: AtomicU64,
    known: usize,
}

impl Pool {
    /// A pool of the providers that are on and have a weight; `known` peers are used again, new ones added to it.
    pub fn new(providers: &[Provider], balance: Balance, known: &mut BTreeMap<String, Arc<Peer>>) -> Self {
        let usable = |p: &&Provider| p.state == State::On && p.weight > 0 && !p.held;
        let divisor = providers.iter().filter(usable).fold(0, |d, p| gcd(d, u64::from(p.weight))).max(1);
        let (mut members, mut until, mut sum) = (Vec::new(), Vec::new(), 0);
        for provider in providers.iter().filter(usable) {
            let peer = peer(known, provider);
            sum += u64::from(provider.weight) / divisor;
            members.push(peer);
            until.push(sum);
        }
        let held = providers.iter().filter(|provider| provider.held);
        let held = held.map(|provider| (peer(known, provider), AtomicBool::new(false))).collect();
        // a random start: sidecars that load the same list must not march in step
        Self {
            members,
            held,
            until,
            balance,
            turn: AtomicU64::new(fastrand::u64(..1 << 32)),
            known: providers.len(),
        }
    }

    /// A peer that isn't among `tried`; `None` when there is none left.
    pub fn pick(&self, tried: &[Arc<Peer>]) -> Option<&Arc<Peer>> {
        if !tried.is_empty() {
            return random::pick_other(self, tried).or_else(|| self.pick_held(tried));
        }
        let member = match self.balance {
            Balance::RoundRobin => round_robin::pick(self),
            Balance::Random => random::pick(self),
            Balance::P2c | Balance::Hash => p2c::pick(self),
        };
        member.or_else(|| self.pick_held(tried))
    }

    /// Any of those that are kept as a last resort.
    fn pick_held(&self, tried: &[Arc<Peer>]) -> Option<&Arc<Peer>> {
        let is_open = |(peer, given_up): &&(Arc<Peer>, AtomicBool)| {
            !given_up.load(Relaxed) && !tried.iter().any(|other| Arc::ptr_eq(other, peer))
        };
        let start = fastrand::usize(..self.held.len().max(1));
        let (before, after) = self.held.split_at_checked(start)?;
        after.iter().chain(before).find(is_open).map(|(peer, _)| peer)
    }

    /// Notes that `peer` was not reached: one that the registry lost is given up.
    pub fn unreached(&self, peer: &Arc<Peer>) {
        let held = self.held.iter().find(|(held, _)| Arc::ptr_eq(held, peer));
        held.into_iter().for_each(|(_, given_up)| given_up.store(true, Relaxed));
    }

    /// Whether nobody may be picked.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.held.iter().all(|(_, given_up)| given_up.load(Relaxed))
    }

    /// Peers that may be picked.
    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.members
    }

    /// Providers it was made of, those that take no calls included.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Sum of the reduced weights; positions `0..total` are shared out over the members.
    fn total(&self) -> u64 {
        self.until.last().copied().unwrap_or(0)
    }

    /// The member that holds `position`.
    fn at(&self, position: u64) -> Option<&Arc<Peer>> {
        self.members.get(self.index_at(position))
    }

    fn index_at(&self, position: u64) -> usize {
        self.until.partition_point(|until| *until <= position)
    }

    /// The share of one member.
    fn weight(&self, index: usize) -> u64 {
        let before = index.checked_sub(1).and_then(|i| self.until.get(i)).copied().unwrap_or(0);
        self.until.get(index).map_or(0, |until| until - before)
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Relaxed)
    }
}

fn peer(known: &mut BTreeMap<String, Arc<Peer>>, provider: &Provider) -> Arc<Peer> {
    let new = || Peer::new(provider.address.clone());
    known.entry(provider.address.as_str().to_owned()).or_insert_with(new).clone()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Address;

    fn provider(port: u16, weight: u16, state: State) -> Provider {
        Provider {
            address: Address::new(&format!("10.0.0.1:{port}")).unwrap(),
            weight,
            idc: None,
            state,
            tags: None,
            max_connections: None,
            ephemeral: false,
            listed: false,
            held: false,
        }
    }

    fn count(pool: &Pool, calls: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..calls {
            *counts.entry(pool.pick(&[]).unwrap().address.to_string()).or_insert(0) += 1;
        }
        counts
    }

    #[test]
    fn every_policy_keeps_to_the_weights_and_skips_who_is_off() {
        let providers = [
            provider(1, 100, State::On),
            provider(2, 300, State::On),
            provider(3, 100, State::Off),
            provider(4, 0, State::On),
            provider(5, 100, State::Drain),
        ];
        for balance in [Balance::RoundRobin, Balance::Random, Balance::P2c] {
            let pool = Pool::new(&providers, balance, &mut BTreeMap::new());
            let counts = count(&pool, 40_000);
            assert_eq!(counts.len(), 2, "{balance:?}: {counts:?}");
            let share = counts["10.0.0.1:2"] as f64 / 40_000.0;
            assert!((0.72..0.78).contains(&share), "{balance:?}: {counts:?}");
        }
    }

    #[test]
    fn round_robin_is_exact_over_every_window() {
        let providers = [provider(1, 70, State::On), provider(2, 10, State::On), provider(3, 30, State::On)];
        let pool = Pool::new(&providers, Balance::RoundRobin, &mut BTreeMap::new());
        for _ in 0..50 {
            let counts = count(&pool, 11);
            assert_eq!(counts.values().copied().collect::<Vec<_>>(), [7, 1, 3]);
        }
    }

    #[test]
    fn p2c_leaves_the_busy_one_alone() {
        let providers = [provider(1, 100, State::On), provider(2, 100, State::On)];
        let pool = Pool::new(&providers, Balance::P2c, &mut BTreeMap::new());
        let busy = pool.peers()[0].enter();
        assert_eq!(count(&pool, 100).get(busy.peer().address.as_str()), None);
    }

    #[test]
    fn another_attempt_goes_to_another_peer_or_nowhere() {
        let providers = [provider(1, 100, State::On), provider(2, 1, State::On)];
        let pool = Pool::new(&providers, Balance::P2c, &mut BTreeMap::new());
        let first = pool.peers()[0].clone();
        assert_eq!(pool.pick(std::slice::from_ref(&first)).unwrap().address.as_str(), "10.0.0.1:2");
        assert!(pool.pick(&[first, pool.peers()[1].clone()]).is_none());
        assert!(Pool::new(&[], Balance::P2c, &mut BTreeMap::new()).pick(&[]).is_none());
    }

    #[test]
    fn a_known_peer_keeps_its_load() {
        let mut known = BTreeMap::new();
        let providers = [provider(1, 100, State::On)];
        let before = Pool::new(&providers, Balance::P2c, &mut known);
        let _call = before.peers()[0].enter();
        let after = Pool::new(&providers, Balance::P2c, &mut known);
        assert_eq!(after.peers()[0].load(), 1);
    }

    #[test]
    fn what_the_registry_lost_is_a_last_resort_until_it_is_not_reached() {
        let lost = |port| Provider { held: true, ..provider(port, 100, State::On) };
        let pool = Pool::new(&[provider(1, 1, State::On), lost(2)], Balance::P2c, &mut BTreeMap::new());
        assert_eq!(count(&pool, 50).len(), 1);
        let only = pool.pick(&[]).unwrap().clone();
        let resort = pool.pick(std::slice::from_ref(&only)).unwrap();
        assert_eq!(resort.address.as_str(), "10.0.0.1:2");
        let pool = Pool::new(&[lost(2), lost(3)], Balance::RoundRobin, &mut BTreeMap::new());
        assert_eq!(count(&pool, 200).len(), 2);
        for left in [2, 1] {
            assert!(!pool.is_empty(), "{left} left");
            pool.unreached(&pool.pick(&[]).unwrap().clone());
        }
        assert!(pool.is_empty() && pool.pick(&[]).is_none());
    }
}
