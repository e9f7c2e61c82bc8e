//! The holder: reads all cards of a service and decides who gets which part of each quota.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Card, FREED, WHOLE};
use crate::model::Quota;

/// What is kept back for sidecars that come: a fiftieth.
const RESERVE: u64 = 50;
/// A share that is nearer to its target than a twentieth is left as it is,
const NEAR: u64 = 20;
/// and nearer than so much of it while more than a hundredth of the quota is neither lent nor kept back.
const CLOSE: u64 = 200;
const SPARE: u64 = 100;
/// What is more over its target than a fiftieth is cut where somebody lacks something.
const OVER: u64 = 50;

/// What the holder knows of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The quota, in calls per million seconds.
    pub(crate) rate: u64,
    /// What every sidecar keeps for itself, in millionths.
    pub(crate) floor: u32,
}

impl Terms {
    /// Of this quota.
    pub(crate) fn of(quota: &Quota) -> Self {
        let rate = u128::from(quota.rate) * 1_000_000_000 / quota.per.as_millis().max(1);
        let floor = u64::from(quota.floor) * u64::from(WHOLE) / u64::from(quota.rate.max(1));
        Self { rate: rate as u64, floor: floor as u32 }
    }
}

/// A card to be written in place of this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gift {
    /// Whose it is.
    pub(crate) host: String,
    /// The version that it replaces.
    pub(crate) version: i32,
    /// The card.
    pub(crate) card: Card,
}

#[derive(Debug)]
struct Member {
    version: i32,
    card: Card,
    /// When its last gift was first seen.
    since: Instant,
    /// What its shares are to become.
    wanted: BTreeMap<String, u32>,
}

/// See the module. What it knows is in the cards, but for how long each cut is unconfirmed.
#[derive(Debug, Default)]
pub(crate) struct Giver {
    members: BTreeMap<String, Member>,
}

impl Member {
    /// Whether the shares it had before are over.
    fn is_settled(&self, now: Instant) -> bool {
        self.card.is_taken() || now >= self.since + FREED
    }

    /// What it may go by at most.
    fn holds(&self, caller: &str, now: Instant) -> u64 {
        let before = self.card.before.get(caller).copied().filter(|_| !self.is_settled(now));
        self.card.share(caller).max(before.unwrap_or(0)).into()
    }

    fn gift(&self, host: &str, now: Instant) -> Option<Gift> {
        if self.wanted.iter().all(|(caller, share)| self.card.share(caller) == *share) {
            return None;
        }
        let mut card = self.card.clone();
        card.gave += 1;
        card.before.clear();
        for (caller, share) in &self.wanted {
            let held = self.holds(caller, now) as u32;
            if held > *share {
                card.before.insert(caller.clone(), held);
            }
            match share {
                0 => card.shares.remove(caller),
                share => card.shares.insert(caller.clone(), *share),
            };
        }
        // also those whose share stays
        for (caller, held) in self.card.before.iter().filter(|_| !self.is_settled(now)) {
            let kept = card.before.entry(caller.clone()).or_insert(0);
            *kept = (*kept).max(*held);
        }
        Some(Gift { host: host.to_owned(), version: self.version, card })
    }
}

impl Giver {
    /// All cards as they were just read, by host, each with its version.
    pub(crate) fn see(&mut self, cards: BTreeMap<String, (i32, Card)>, now: Instant) {
        let mut before = std::mem::take(&mut self.members);
        for (host, (version, card)) in cards {
            let known = before.remove(&host).filter(|known| known.card.gave == card.gave);
            let since = known.map_or(now, |known| known.since);
            self.members.insert(host, Member { version, card, since, wanted: BTreeMap::new() });
        }
    }

    /// Whether that host had a card.
    pub(crate) fn knows(&self, host: &str) -> bool {
        self.members.contains_key(host)
    }

    /// The cards to be written now, in this order; all cards are to be read again before this is asked again.
    pub(crate) fn gifts(&mut self, quotas: &BTreeMap<String, Terms>, now: Instant) -> Vec<Gift> {
        for (caller, terms) in quotas {
            self.share_out(caller, *terms, now);
        }
        let gifts = self.members.iter().filter_map(|(host, member)| member.gift(host, now));
        let (cuts, rest): (Vec<_>, Vec<_>) = gifts.partition(|gift| !gift.card.before.is_empty());
        // what is taken away is there to be given the sooner
        cuts.into_iter().chain(rest).collect()
    }

    /// When a cut that nobody confirmed is free; `None`: there is none.
    pub(crate) fn wake(&self, now: Instant) -> Option<Instant> {
        let unsettled = self.members.values().filter(|member| !member.is_settled(now));
        unsettled.map(|member| member.since + FREED).min()
    }

    fn share_out(&mut self, caller: &str, terms: Terms, now: Instant) {
        let count = self.members.len() as u64;
        let whole = u64::from(WHOLE).saturating_sub(u64::from(terms.floor) * count);
        let asks: Vec<_> = self.members.values().map(|member| member.asks(caller, terms)).collect();
        let targets = targets(&asks, whole);
        let held: u64 = self.members.values().map(|member| member.holds(caller, now)).sum();
        let free = whole.saturating_sub(held);
        let is_spare = free > whole / RESERVE + whole / SPARE;
        let near = if is_spare { CLOSE } else { NEAR };
        // who has least of what it should have comes first
        let mut needy: Vec<_> = self
            .members
            .values()
            .zip(targets.iter().zip(&asks))
            .enumerate()
            .filter(|(_, (member, (target, asks)))| member.lacks(caller, **target, **asks, near))
            .map(|(index, (member, (target, _)))| (member.card.share(caller), index, *target))
            .collect();
        needy.sort_unstable();
        let lacking: u64 = needy.iter().map(|(share, _, target)| target - u64::from(*share)).sum();
        let mut shares: Vec<u64> = self.members.values().map(|m| m.card.share(caller).into()).collect();
        // who came has a floor, perhaps all that is left
        let is_over = shares.iter().sum::<u64>() > whole;
        if lacking > free || is_over {
            for (share, target) in shares.iter_mut().zip(&targets) {
                // what is not used is taken back only where somebody lacks it
                if *share > *target + *target / OVER {
                    *share = *target;
                }
            }
        }
        let (mut left, mut waiting) = (free, needy.len() as u64);
        for (share, index, target) in needy {
            let gets = (target - u64::from(share)).min(left / waiting);
            if let Some(share) = shares.get_mut(index) {
                *share += gets;
            }
            (left, waiting) = (left - gets, waiting - 1);
        }
        for (member, share) in self.members.values_mut().zip(shares) {
            member.wanted.insert(caller.to_owned(), share as u32);
        }
    }
}

impl Member {
    /// What its callers ask for, in millionths of the quota.
    fn asks(&self, caller: &str, terms: Terms) -> u64 {
        let asks = self.card.asks.get(caller).copied().unwrap_or(0);
        // rounded up: whoever asks at all is to have something
        let parts = (u128::from(asks) * u128::from(WHOLE)).div_ceil(terms.rate.max(1).into());
        parts.min(u128::from(WHOLE)) as u64
    }

    /// Whether it has too little for a write to be worth it.
    fn lacks(&self, caller: &str, target: u64, asks: u64, near: u64) -> bool {
        let share = u64::from(self.card.share(caller));
        // room for more than is asked for may be smaller than it could be
        let is_content = share >= asks + asks / 8 && share >= target / 2;
        !is_content && share + target / near < target
    }
}

/// What each is to have: what it asks for, as far as it goes, evenly; then a quarter more; then half of
/// what is left, evenly, for those who will ask.
fn targets(asks: &[u64], whole: u64) -> Vec<u64> {
    let mut left = whole - whole / RESERVE;
    let mut targets = level(asks, left);
    left -= targets.iter().sum::<u64>();
    let quarters: Vec<_> = asks.iter().map(|asks| asks / 4).collect();
    let more = level(&quarters, left);
    left -= more.iter().sum::<u64>();
    let even = left / 2 / (asks.len() as u64).max(1);
    targets.iter_mut().zip(more).for_each(|(target, more)| *target += more + even);
    targets
}

/// So much for each of what they want that the least gets most of it.
fn level(wants: &[u64], mut left: u64) -> Vec<u64> {
    let mut order: Vec<_> =
        (0..).zip(wants).map(|(index, want)| (*want, index)).collect::<Vec<(u64, usize)>>();
    order.sort_unstable();
    let mut gets = vec![0; wants.len()];
    let mut count = wants.len() as u64;
    for (want, index) in order {
        let one = want.min(left / count);
        if let Some(gets) = gets.get_mut(index) {
            *gets = one;
        }
        (left, count) = (left - one, count - 1);
    }
    gets
}
