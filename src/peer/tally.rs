//! Calls under way, of one and of all that are counted together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many calls one pool has under way at one of its peers, and at all of them.
#[derive(Debug)]
pub struct Tally {
    own: AtomicU32,
    all: Arc<AtomicU32>,
}

impl Tally {
    /// Nothing under way; `all` is what those of one pool share.
    pub fn new(all: &Arc<AtomicU32>) -> Self {
        Self { own: AtomicU32::new(0), all: all.clone() }
    }

    /// At this peer.
    pub fn own(&self) -> u32 {
        self.own.load(Relaxed)
    }

    /// At all peers of the pool.
    pub fn all(&self) -> u32 {
        self.all.load(Relaxed)
    }

    pub(super) fn add(&self) {
        self.own.fetch_add(1, Relaxed);
        self.all.fetch_add(1, Relaxed);
    }

    pub(super) fn sub(&self) {
        self.own.fetch_sub(1, Relaxed);
        self.all.fetch_sub(1, Relaxed);
    }
}
