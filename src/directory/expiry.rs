//! How long the view remembers what it holds.

use std::time::{Duration, Instant};

use super::{ABSENT_FOR, Slot};
use crate::names::ServiceName;

/// Known services never expire (that would look like deletion), absent ones soon do.
pub(super) struct AbsentExpires;

impl moka::Expiry<ServiceName, Slot> for AbsentExpires {
    fn expire_after_create(&self, _: &ServiceName, slot: &Slot, _: Instant) -> Option<Duration> {
        matches!(slot, Slot::Absent).then_some(ABSENT_FOR)
    }

    fn expire_after_update(
        &self,
        _: &ServiceName,
        slot: &Slot,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        matches!(slot, Slot::Absent).then_some(ABSENT_FOR)
    }
}
