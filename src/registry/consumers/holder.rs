//! The one sidecar of a service that shares out its quotas, while this is it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Limiters, Seat, Seats, UNWATCHED};
use crate::registry::shares::{Card, Gift, Giver, Terms};
use crate::registry::{Changes, Link, Owner, Reach, Source, Trouble, Watching, now};

/// The node of whoever holds: no host is called so.
pub(super) const NAME: &str = "_holder";
/// How often a sidecar looks whether there is a holder, a half more or less.
const LOOK: Duration = Duration::from_secs(2);
/// So many cards are written before all are read again: meanwhile their sidecars write them too.
const GIFTS: usize = 150;
/// How often cards are read where no event tells of them.
const READ: Duration = Duration::from_secs(10);
/// Between two readings for events, which a large fleet sends all the time.
const APART: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Holder {
    source: Source,
    parent: String,
    /// What this sidecar's node is called; the holder's says so to who looks.
    pub(super) host: String,
    /// While this is the holder.
    giver: Option<Giver>,
    /// Whether the node is this session's, as far as it knows: what was sent may have been done.
    perhaps_ours: bool,
    changes: Arc<Changes>,
    watch: Option<(Watching, Seat)>,
    seats: Seats,
    epoch: u64,
    next_look: Instant,
    next_read: Instant,
    last_read: Instant,
    /// Hosts that have not confirmed what they were given.
    awaited: BTreeSet<String>,
}

impl Holder {
    pub(super) fn new(source: &Source, (parent, host): (&str, &str), seats: Seats) -> Self {
        Self {
            source: source.clone(),
            parent: parent.to_owned(),
            host: host.to_owned(),
            giver: None,
            perhaps_ours: false,
            changes: Arc::default(),
            watch: None,
            seats,
            epoch: 0,
            next_look: now(),
            next_read: now(),
            last_read: now(),
            awaited: BTreeSet::new(),
        }
    }

    /// Waits until cards are to be read for events, where this gives: at once for a host that has just come, or
    /// whose share was changed, else when the last reading is over for a while. Whoever waits gives then.
    pub(super) async fn stirred(&self) {
        let Some(giver) = &self.giver else { return std::future::pending().await };
        loop {
            let seen = self.changes.seen();
            let hosts = seen.iter().filter_map(|path| path.strip_prefix(&self.parent)?.strip_prefix('/'));
            let mut hosts = hosts.filter(|host| *host != NAME);
            if hosts.any(|host| !giver.knows(host) || self.awaited.contains(host)) {
                return;
            }
            tokio::select! {
                () = self.changes.changed() => {}
                () = tokio::time::sleep_until((self.last_read + APART).into()), if !seen.is_empty() => return,
            }
        }
    }

    /// Takes the place if it is free and this host's callers ask, and gives as long as it is taken by this one.
    pub(super) async fn turn(&mut self, link: Link, limiters: &Limiters, asks: bool) {
        if self.epoch != link.epoch {
            (self.giver, self.watch, self.epoch) = (None, None, link.epoch);
            self.next_look = now();
        }
        // a place that nobody gives from is worse than none
        if self.giver.is_none() && (asks || self.perhaps_ours) && now() >= self.next_look {
            self.next_look = now() + LOOK.mul_f64(0.5 + fastrand::f64());
            // whoever does not get it tries again
            if self.claim(asks).await.unwrap_or(false) {
                self.giver = Some(Giver::default());
                self.next_read = now();
            }
        }
        if self.giver.is_some() && self.give(limiters).await.is_err() {
            // somebody else may hold by now
            (self.giver, self.watch) = (None, None);
        }
    }

    /// Whether the place is this one's, and takes it where it is free and `wanted`.
    async fn claim(&mut self, wanted: bool) -> Result<bool, Trouble> {
        let path = self.path();
        let mut held = self.source.held(&path).await?;
        if held.is_none() && wanted {
            self.perhaps_ours = true;
            let data = serde_json::json!({ "host": self.host }).to_string();
            self.source.create_ephemeral(&path, data.as_bytes()).await?;
            held = self.source.held(&path).await?;
        }
        self.perhaps_ours = held.is_some_and(|held| held.owner == Owner::Me);
        Ok(self.perhaps_ours)
    }

    /// Gives the place up, so that the next who asks takes it.
    pub(super) async fn leave(self) {
        let path = self.path();
        if self.perhaps_ours
            && let Ok(Some(held)) = self.source.held(&path).await
            && held.owner == Owner::Me
        {
            // it ends with the session otherwise
            let _ = self.source.release(&path, &held).await;
        }
    }

    fn path(&self) -> String {
        format!("{}/{NAME}", self.parent)
    }

    async fn give(&mut self, limiters: &Limiters) -> Result<(), Trouble> {
        if self.watch.is_none()
            && let Some(seat) = self.seats.take(&self.parent)
        {
            let paths = [self.parent.clone()];
            let watch = self.source.watch(self.epoch, &paths, Reach::Subtree, &self.changes).await.pop();
            self.watch = watch.transpose()?.map(|watch| (watch, seat));
            self.next_read = now();
        }
        let changed = !self.changes.take().is_empty();
        let wake = self.giver.as_ref().and_then(|giver| giver.wake(now()));
        let is_due = now() >= self.next_read || wake.is_some_and(|wake| wake <= now());
        let path = self.path();
        let Some(giver) = self.giver.as_mut().filter(|_| changed || is_due) else { return Ok(()) };
        let rest = if self.watch.is_some() { READ } else { UNWATCHED };
        (self.last_read, self.next_read) = (now(), now() + rest);
        if self.source.held(&path).await?.is_none_or(|held| held.owner != Owner::Me) {
            return Err(Trouble::Changed);
        }
        let held = self.source.held_below(&self.parent).await?;
        let cards = held.into_iter().filter(|(name, _)| name != NAME);
        let cards = cards.map(|(name, held)| (name, (held.version, Card::read(&held.data))));
        let cards: BTreeMap<_, _> = cards.collect();
        self.awaited.retain(|host| cards.get(host).is_some_and(|(_, card)| !card.is_taken()));
        giver.see(cards, now());
        let gifts = giver.gifts(&terms(limiters), now());
        if gifts.len() > GIFTS {
            self.next_read = now();
        }
        for Gift { host, version, card } in gifts.into_iter().take(GIFTS) {
            match self.source.replace(&format!("{}/{host}", self.parent), version, &card.data()).await {
                Ok(_) => drop(self.awaited.insert(host)),
                // its sidecar wrote first, or is gone: an event says so
                Err(Trouble::Changed | Trouble::NoNode | Trouble::Exists) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }
}

fn terms(limiters: &Limiters) -> BTreeMap<String, Terms> {
    limiters.iter().map(|(caller, limiter)| (caller.clone(), Terms::of(limiter.quota()))).collect()
}
