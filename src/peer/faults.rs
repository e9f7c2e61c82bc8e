//! How often a provider failed, by what was wrong.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::health::Fault;

/// Nothing until it fails first, as most never do.
#[derive(Debug, Default)]
pub(super) struct Faults(OnceLock<Box<[AtomicU64; Faults::ALL.len()]>>);

impl Faults {
    /// Those that are told apart; `Silent` is told as `Late`.
    const ALL: [Fault; 5] = [Fault::Unreached, Fault::Cut, Fault::Late, Fault::Status, Fault::BadAnswer];

    pub(super) fn note(&self, fault: Fault) {
        let index = match fault {
            Fault::Unreached => 0,
            Fault::Cut => 1,
            Fault::Late | Fault::Silent => 2,
            Fault::Status => 3,
            Fault::BadAnswer => 4,
        };
        let count = self.0.get_or_init(Box::default).get(index);
        count.into_iter().for_each(|count| {
            count.fetch_add(1, Relaxed);
        });
    }

    /// What happened at least once, by the word for it.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<'_> {
        let counts = self.0.get().into_iter().flat_map(|counts| counts.iter());
        let counts = Self::ALL.iter().zip(counts).map(|(fault, count)| (fault.word(), count.load(Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_counted_by_its_word() {
        let faults = Faults::default();
        assert_eq!(faults.counts().count(), 0);
        for fault in Faults::ALL.into_iter().chain([Fault::Silent]) {
            faults.note(fault);
        }
        let counts: Vec<_> = faults.counts().collect();
        assert_eq!(counts, [("unreached", 1), ("cut", 1), ("deadline", 2), ("5xx", 1), ("bad-answer", 1)]);
    }
}
