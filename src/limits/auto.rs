//! A limit of calls in flight that finds itself, for whoever counts them himself.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gradient::Gradient;

/// Follows how long answers take, as `concurrency: auto` does.
#[derive(Debug)]
pub struct Auto {
    limit: AtomicU32,
    gradient: Mutex<Gradient>,
}

impl Auto {
    /// What every limit begins at.
    pub const FIRST: u32 = super::gradient::FIRST as u32;

    /// Nothing found yet.
    pub fn new(now: Instant) -> Self {
        Self { limit: AtomicU32::new(Self::FIRST), gradient: Mutex::new(Gradient::new(now)) }
    }

    /// Most calls in flight now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Notes how long an answer took, with so many calls in flight.
    pub fn answered(&self, took: Duration, in_flight: u32, now: Instant) {
        let mut gradient = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limit) = gradient.answered(took, in_flight, now) {
            // still locked: the limit is that of the last window
            self.limit.store(limit, Relaxed);
        }
    }
}
