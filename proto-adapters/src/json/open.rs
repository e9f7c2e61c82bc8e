//! The lists and maps that are open.

use crate::MAX_DEPTH;

/// Of each open container whether it is a map: a bit.
#[derive(Debug, Default)]
pub(super) struct Open {
    maps: [u64; MAX_DEPTH.div_ceil(64)],
    pub(super) depth: usize,
    /// Whether the innermost one is a map.
    pub(super) in_map: bool,
}

impl Open {
    pub(super) fn push(&mut self, map: bool) {
        let bit = 1 << (self.depth % 64);
        if let Some(word) = self.maps.get_mut(self.depth / 64) {
            *word = if map { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
        self.in_map = map;
    }

    pub(super) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        let top = self.depth.wrapping_sub(1);
        self.in_map = self.maps.get(top / 64).is_some_and(|word| word >> (top % 64) & 1 == 1);
    }
}
