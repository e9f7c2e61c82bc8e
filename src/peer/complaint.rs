//! Why the last check of a provider failed, for who looks at it; only of those whose check fails.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Peer;
use crate::names::Address;
use crate::words;

/// The reasons, by provider: most have none, so a peer has no place for one.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<BTreeMap<Address, String>>);

impl Complaints {
    fn held(&self) -> MutexGuard<'_, BTreeMap<Address, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// Its check failed for this reason; `None`: no check of it fails, or is made any more.
    pub fn complain(&self, reason: Option<&str>) {
        let mut held = self.board().complaints.held();
        match reason {
            Some(reason) => drop(held.insert(self.address.clone(), words::line(reason))),
            None => drop(held.remove(&self.address)),
        }
    }

    /// Why its last check failed.
    pub fn complaint(&self) -> Option<String> {
        self.board().complaints.held().get(&self.address).cloned()
    }
}
