//! How a fleet shares out a quota: what stands in the registry, and who decides what (pure).
//!
//! Every sidecar that calls a service has a node of its own there, its card: it says how much its callers
//! ask for, and which part of their quotas it was given. One sidecar, the holder, gives. All writes name
//! the version that they replace.
//!
//! A share is good for a lease from the moment when its sidecar *sent* a write that succeeded on the very
//! card with that share. So the lease of a share that was cut ends no later than a lease after the cut was
//! written, by any clock; and since a lease is shorter than a session, it ends before the card of a sidecar
//! that was cut off vanishes. What a holder needs to know stands in the cards; a new one begins with them.

mod giver;
mod meter;
mod taker;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use giver::{Gift, Giver, Terms};
pub(super) use meter::Meter;
pub(super) use taker::{Outcome, Step, Taker};

/// Parts of a quota.
pub(super) const WHOLE: u32 = 1_000_000;
/// Longest lease, by the clock of the sidecar that has it.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// A cut share that its sidecar did not confirm is free after so long, by the holder's clock: clocks may
/// differ by 2.5 % each.
pub(super) const FREED: Duration = Duration::from_millis(10_500);

/// What a sidecar's node below `consumers` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Card {
    /// What each caller asks for, in calls per million seconds.
    pub(super) asks: BTreeMap<String, u64>,
    /// The last gift that its sidecar goes by.
    pub(super) took: u64,
    /// The last gift.
    pub(super) gave: u64,
    /// Millionths of each caller's quota.
    pub(super) shares: BTreeMap<String, u32>,
    /// Greater ones, by which it may go until it took the last gift.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) before: BTreeMap<String, u32>,
}

impl Card {
    /// Reads a node's data; what is no card asks for nothing and has nothing.
    pub(super) fn read(data: &[u8]) -> Self {
        serde_json::from_slice(data).unwrap_or_default()
    }

    /// As it is written.
    pub(super) fn data(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether its sidecar goes by the last gift.
    pub(super) fn is_taken(&self) -> bool {
        self.took >= self.gave
    }

    fn share(&self, caller: &str) -> u32 {
        self.shares.get(caller).copied().unwrap_or(0)
    }
}

/// How long a lease is in a session that lasts so long without contact: it is over well before the session.
pub(super) fn lease(session: Duration) -> Duration {
    LEASE.min(session.mul_f64(0.6))
}
