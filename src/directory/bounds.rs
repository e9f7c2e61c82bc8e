//! How much a call may send, and how long it may take, as far as that is known before it is read.

use std::time::Duration;

use super::Entry;
use crate::model::Policy;

/// What calls may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The largest body, in bytes.
    pub max_body: u64,
    /// The longest time.
    pub timeout: Duration,
}

impl From<&Policy> for Bounds {
    fn from(policy: &Policy) -> Self {
        Self { max_body: policy.max_body, timeout: policy.timeout }
    }
}

impl Bounds {
    /// What holds where any of the two may.
    pub(super) fn or(self, other: Self) -> Self {
        Self { max_body: self.max_body.max(other.max_body), timeout: self.timeout.max(other.timeout) }
    }
}

impl Entry {
    /// Of calls to `api`; where it names none, of all.
    pub fn bounds(&self, api: &str) -> Bounds {
        let named = self.route(api).filter(|_| !api.is_empty());
        named.map_or(self.most, |route| (&*route.policy).into())
    }
}
