//! How many callers may be connected at once, and that it is said when they are too many.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often it is said that all seats are taken.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The seats of all listeners; whoever is connected holds one.
#[derive(Debug)]
pub struct Seats {
    free: Arc<Semaphore>,
    limit: usize,
    told: Mutex<Option<Instant>>,
}

impl Seats {
    /// That many, all of them free.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(limit)), limit, told: Mutex::default() })
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.limit.saturating_sub(self.free.available_permits())
    }

    /// The next one that is free; `None`: never.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_owned().await.ok()
    }

    /// One that is free now.
    pub(super) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// Somebody has come in: says so where there is no seat.
    pub(super) fn come_in(&self) {
        if self.free.available_permits() == 0 && self.may_tell(Instant::now()) {
            tracing::warn!(
                connections = self.limit,
                "all `connections` are taken: callers wait until others leave or are idle for 75s; raise it"
            );
        }
    }

    fn may_tell(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
        if may {
            *told = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_all_are_taken_is_said_now_and_then() {
        let (seats, start) = (Seats::new(1), Instant::now());
        let tells = [0, 1, 9, 10, 11, 20].map(|s| seats.may_tell(start + Duration::from_secs(s)));
        assert_eq!(tells, [true, false, false, true, false, true]);
    }

    #[test]
    fn who_holds_a_seat_is_counted_until_it_leaves() {
        let seats = Seats::new(2);
        let held = seats.try_take();
        assert_eq!((seats.taken(), seats.limit()), (1, 2));
        drop(held);
        assert_eq!(seats.taken(), 0);
    }
}
