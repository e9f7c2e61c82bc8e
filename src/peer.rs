//! A provider with its load; it survives updates of the view.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::names::Address;

/// Load of one address, shared by all workers and by every version of the view.
#[derive(Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: Address,
    in_flight: AtomicU32,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// One call under way at a peer; counted out when dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Peer>);

impl Peer {
    /// A peer without load.
    pub fn new(address: Address) -> Arc<Self> {
        Arc::new(Self {
            address,
            in_flight: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Counts a call in.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }

    /// Calls under way.
    pub fn load(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Notes how an attempt ended.
    pub fn record(&self, good: bool) {
        if good { &self.answered } else { &self.failed }.fetch_add(1, Relaxed);
    }

    /// Attempts that were answered and attempts that failed, since the peer is known.
    pub fn attempts(&self) -> (u64, u64) {
        (self.answered.load(Relaxed), self.failed.load(Relaxed))
    }
}

impl InFlight {
    /// The peer the call is at.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_vanishes_is_counted_out() {
        let peer = Peer::new(Address::new("10.0.0.5:80").unwrap());
        let (one, two) = (peer.enter(), peer.enter());
        assert_eq!(peer.load(), 2);
        drop(one);
        drop(two);
        assert_eq!(peer.load(), 0);
    }
}
