//! What the peers and pools of one service share.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::complaint::Complaints;
use super::line::{Lines, Waiting};
use crate::health::{Cause, Change};

/// Tells pools when the health of one of their peers changed, and counts how.
#[derive(Debug, Default)]
pub struct Board {
    generation: AtomicU64,
    changes: [AtomicU64; Self::WORDS.len()],
    opening: Mutex<()>,
    pub(super) lines: Lines,
    pub(super) complaints: Complaints,
}

impl Board {
    /// What is counted, as metrics call it.
    pub const WORDS: [&str; 5] = ["open-consecutive", "open-rate", "open-active", "half-open", "closed"];

    /// Grows with every change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// How often each of [`Board::WORDS`] happened.
    pub fn counts(&self) -> [(&'static str, u64); Self::WORDS.len()] {
        let mut counts = Self::WORDS.map(|word| (word, 0));
        for ((_, count), changes) in counts.iter_mut().zip(&self.changes) {
            *count = changes.load(Relaxed);
        }
        counts
    }

    /// Something that pools look at is not as it was.
    pub(super) fn moved(&self) {
        self.generation.fetch_add(1, Release);
        self.lines.call();
    }

    /// A place at a peer came free.
    pub(super) fn gave_back(&self) {
        self.lines.call();
    }

    /// Calls that wait until one of their peers is not full.
    pub fn waiting(&self) -> usize {
        self.lines.waiting()
    }

    /// A place at the end of the line of `pool`, where fewer than `most` stand in it.
    pub fn line_up(self: &Arc<Self>, pool: usize, most: usize) -> Option<Waiting> {
        Waiting::new(self, pool, most)
    }

    /// Counts a change of a circuit.
    pub(super) fn note(&self, change: Change) {
        let index = match change {
            Change::Opened(Cause::Consecutive) => Some(0),
            Change::Opened(Cause::Rate) => Some(1),
            Change::Opened(Cause::Active) => Some(2),
            Change::HalfOpened => Some(3),
            Change::Closed => Some(4),
            Change::Released | Change::Due => None,
        };
        index.and_then(|index| self.changes.get(index)).into_iter().for_each(|count| {
            count.fetch_add(1, Relaxed);
        });
        self.moved();
    }

    /// Held while it is decided whether one more peer may be left for its rate.
    pub fn opening(&self) -> MutexGuard<'_, ()> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
