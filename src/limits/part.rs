//! What one service holds of the room for bodies that all services share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use crate::names::ServiceName;

/// A service's part, or that of all calls to services that aren't there; whoever holds the whole says how large it may become.
#[derive(Debug)]
pub struct Part {
    service: Option<ServiceName>,
    held: AtomicU64,
    /// The largest body that any of its APIs takes, in bytes.
    largest: AtomicU64,
    /// Its long conversions at once; made for the first of them.
    lanes: OnceLock<Arc<Semaphore>>,
}

impl Part {
    /// An empty one.
    pub fn new(service: &ServiceName) -> Self {
        Self { service: Some(service.clone()), ..Self::of_none() }
    }

    /// An empty one for what is no known service's.
    pub fn of_none() -> Self {
        let (held, largest) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { service: None, held, largest, lanes: OnceLock::new() }
    }

    /// The largest body that any API of the service takes has so many bytes, from now on.
    pub fn takes(&self, largest: u64) {
        self.largest.store(largest, Relaxed);
    }

    /// Whose it is; `None`: no known service's.
    pub fn service(&self) -> Option<&ServiceName> {
        self.service.as_ref()
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// The largest body that any API of the service takes, in bytes.
    pub fn largest(&self) -> u64 {
        self.largest.load(Relaxed)
    }

    /// Counts `bytes` more; gives what was held before.
    pub fn grow(&self, bytes: u64) -> u64 {
        self.held.fetch_add(bytes, Relaxed)
    }

    /// Counts `bytes` less.
    pub fn shrink(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
    }

    /// The places of its long conversions: `most` of them, as the first that asks says.
    pub fn lanes(&self, most: usize) -> Arc<Semaphore> {
        self.lanes.get_or_init(|| Arc::new(Semaphore::new(most))).clone()
    }
}
