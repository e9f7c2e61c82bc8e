//! How many bytes of bodies are held at once because they have to be converted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::Broken;

/// The bytes all workers together may hold.
#[derive(Debug)]
pub struct Budget {
    most: u64,
    held: AtomicU64,
    /// Long conversions at once.
    lanes: Arc<Semaphore>,
}

/// What one call holds of it; given back on drop.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// Room for `most` bytes, and for `lanes` long conversions at once.
    pub fn new(most: u64, lanes: usize) -> Arc<Self> {
        Arc::new(Self { most, held: AtomicU64::new(0), lanes: Arc::new(Semaphore::new(lanes)) })
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Nothing yet, for one call.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Takes room for `bytes` more; fails with the whole budget where that is used up.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Broken> {
        let (bytes, most) = (bytes as u64, self.budget.most);
        let before = self.budget.held.fetch_add(bytes, Relaxed);
        // counted in either case: what is dropped is counted out
        self.bytes += bytes;
        if before + bytes > most { Err(Broken::NoRoom(most)) } else { Ok(()) }
    }

    /// Most bytes that `held` ones of it may become.
    pub fn room(&self, held: usize) -> usize {
        let free = self.budget.most.saturating_sub(self.budget.held());
        usize::try_from(free).unwrap_or(usize::MAX).saturating_add(held)
    }

    /// Holds `into` bytes in place of `from`; fails as [`Self::grow`] does.
    pub fn turn(&mut self, from: usize, into: usize) -> Result<(), Broken> {
        if let Some(more) = into.checked_sub(from) {
            return self.grow(more);
        }
        let less = self.bytes.min((from - into) as u64);
        self.bytes -= less;
        self.budget.held.fetch_sub(less, Relaxed);
        Ok(())
    }

    /// All that may be held, by this call and others.
    pub fn most(&self) -> u64 {
        self.budget.most
    }
}

impl Share {
    /// Nothing yet, of the same budget.
    pub fn another(&self) -> Self {
        self.budget.share()
    }

    /// Holds what `other` holds, too.
    pub fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Waits until a long conversion may begin; it is over when what this gives is dropped.
    pub async fn lane(&self) -> Option<OwnedSemaphorePermit> {
        // nobody closes it
        self.budget.lanes.clone().acquire_owned().await.ok()
    }

    /// The bytes, with all that is held so far given back when the last of them is dropped.
    pub fn leave_with(&mut self, bytes: Bytes) -> Bytes {
        if self.bytes == 0 {
            return bytes;
        }
        let share = std::mem::replace(self, self.budget.share());
        Bytes::from_owner(Held { bytes, _share: share })
    }
}

/// Bytes on their way out, and the room they take.
struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.held.fetch_sub(self.bytes, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let budget = Budget::new(10, 1);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert_eq!(one.grow(6), Ok(()));
        assert_eq!(other.grow(4), Ok(()));
        assert_eq!(one.grow(1), Err(Broken::NoRoom(10)));
        drop(one);
        assert_eq!(budget.held(), 4);
        assert_eq!(other.grow(6), Ok(()));
        assert_eq!((other.room(6), other.turn(6, 2)), (6, Ok(())));
        assert_eq!((other.room(2), budget.held()), (6, 6));
        assert_eq!((other.turn(2, 6), other.turn(6, 7)), (Ok(()), Err(Broken::NoRoom(10))));
        assert_eq!((other.turn(7, 6), budget.held()), (Ok(()), 10));
        let leaving = other.leave_with(Bytes::from_static(b"answer"));
        drop(other);
        assert_eq!((budget.held(), &leaving[..]), (10, &b"answer"[..]));
        drop(leaving);
        assert_eq!(budget.held(), 0);
    }
}
