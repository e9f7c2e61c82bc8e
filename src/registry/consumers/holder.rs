//! The one sidecar of a service that shares out its quotas, while this is it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Limiters;
use crate::registry::shares::{Card, Gift, Giver, Terms, WHOLE};
use crate::registry::{Changes, Link, Owner, Reach, Source, Trouble, Watching, now};

/// The node of whoever holds: no host is called so.
const NAME: &str = "_holder";
/// How often a sidecar looks whether there is a holder, a half more or less.
const LOOK: Duration = Duration::from_secs(2);
/// How often cards are read where no event tells of them.
const READ: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Holder {
    source: Source,
    parent: String,
    /// While this is the holder.
    giver: Option<Giver>,
    changes: Arc<Changes>,
    watch: Option<Watching>,
    epoch: u64,
    next_look: Instant,
    next_read: Instant,
}

impl Holder {
    pub(super) fn new(source: &Source, parent: &str) -> Self {
        Self {
            source: source.clone(),
            parent: parent.to_owned(),
            giver: None,
            changes: Arc::default(),
            watch: None,
            epoch: 0,
            next_look: now(),
            next_read: now(),
        }
    }

    /// Takes the place if it is free and this host's callers ask, and gives where it is taken by this one.
    pub(super) async fn turn(&mut self, link: Link, limiters: &Limiters, asks: bool) {
        if self.epoch != link.epoch {
            (self.giver, self.watch, self.epoch) = (None, None, link.epoch);
            self.next_look = now();
        }
        if self.giver.is_none() && asks && now() >= self.next_look {
            self.next_look = now() + LOOK.mul_f64(0.5 + fastrand::f64());
            // whoever does not get it tries again
            if self.claim().await.unwrap_or(false) {
                self.giver = Some(Giver::default());
                self.next_read = now();
            }
        }
        if self.giver.is_some() && self.give(limiters).await.is_err() {
            // somebody else may hold by now
            (self.giver, self.watch) = (None, None);
        }
    }

    async fn claim(&mut self) -> Result<bool, Trouble> {
        let path = format!("{}/{NAME}", self.parent);
        match self.source.held(&path).await? {
            Some(held) => return Ok(held.owner == Owner::Me),
            None => self.source.create_ephemeral(&path, b"{}").await?,
        }
        let held = self.source.held(&path).await?;
        Ok(held.is_some_and(|held| held.owner == Owner::Me))
    }

    async fn give(&mut self, limiters: &Limiters) -> Result<(), Trouble> {
        if self.watch.is_none() {
            let paths = [self.parent.clone()];
            let watch = self.source.watch(self.epoch, &paths, Reach::Subtree, &self.changes).await.pop();
            self.watch = watch.transpose()?;
            self.next_read = now();
        }
        let changed = !self.changes.take().is_empty();
        let wake = self.giver.as_ref().and_then(|giver| giver.wake(now()));
        let is_due = now() >= self.next_read || wake.is_some_and(|wake| wake <= now());
        let Some(giver) = self.giver.as_mut().filter(|_| changed || is_due) else { return Ok(()) };
        self.next_read = now() + READ;
        let path = format!("{}/{NAME}", self.parent);
        if self.source.held(&path).await?.is_none_or(|held| held.owner != Owner::Me) {
            return Err(Trouble::Changed);
        }
        let held = self.source.held_below(&self.parent).await?;
        let cards = held.into_iter().filter(|(name, _)| name != NAME);
        let cards = cards.map(|(name, held)| (name, (held.version, Card::read(&held.data))));
        giver.see(cards.collect(), now());
        for Gift { host, version, card } in giver.gifts(&terms(limiters), now()) {
            match self.source.replace(&format!("{}/{host}", self.parent), version, &card.data()).await {
                // its sidecar wrote first, or is gone: an event says so
                Ok(_) | Err(Trouble::Changed | Trouble::NoNode | Trouble::Exists) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }
}

fn terms(limiters: &Limiters) -> BTreeMap<String, Terms> {
    let terms = |(caller, limiter): (&String, &Arc<crate::limits::Limiter>)| {
        let quota = limiter.quota();
        let rate = u128::from(quota.rate) * 1_000_000 / quota.per.as_millis().max(1);
        let floor = u64::from(quota.floor) * u64::from(WHOLE) / u64::from(quota.rate.max(1));
        (caller.clone(), Terms { rate: rate as u64, floor: floor as u32 })
    };
    limiters.iter().map(terms).collect()
}
