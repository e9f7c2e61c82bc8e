//! What one worker has of the view.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::{Directory, Entry};
use crate::names::ServiceName;

/// One worker's own map of entries.
#[derive(Debug, Default)]
pub struct View {
    generation: u64,
    entries: ahash::HashMap<ServiceName, Arc<Entry>>,
}

impl View {
    /// The entry of `name` if this worker has it and it is current.
    pub fn get(&mut self, directory: &Directory, name: &str) -> Option<Arc<Entry>> {
        let current = directory.generation.load(Acquire);
        if self.generation != current {
            self.entries.clear();
            self.generation = current;
        }
        let entry = self.entries.get(name)?;
        entry.touch();
        Some(entry.clone())
    }

    /// Keeps an entry that was loaded for as long as no other comes into force.
    pub fn keep(&mut self, directory: &Directory, entry: &Arc<Entry>) {
        entry.touch();
        // an entry loaded before the last change may already be out of date: then it is not kept
        if self.generation == directory.generation.load(Acquire) {
            self.entries.insert(entry.name.clone(), entry.clone());
        }
    }
}

impl Entry {
    fn touch(&self) {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }
}
