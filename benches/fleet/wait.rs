//! Waiting, with an end, until every view is as the registry.

use std::time::{Duration, Instant};

use super::registry::Registry;
use super::sidecar::{Sidecar, providers};

/// Between two looks, at least.
const LOOK: Duration = Duration::from_millis(5);

/// A view of one service that one sidecar has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) sidecar: usize,
    pub(crate) service: usize,
    /// Called all the time.
    pub(crate) used: bool,
    /// From when the time counts.
    pub(crate) since: Instant,
}

/// How long it took, for each place that became as it should be.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) used: Vec<Duration>,
    pub(crate) all: Vec<Duration>,
}

pub(crate) fn places<'f>(
    fleet: &'f [Sidecar],
    used: usize,
    since: Instant,
) -> impl Iterator<Item = Place> + 'f {
    fleet.iter().enumerate().flat_map(move |(sidecar, of)| {
        let services = of.services.iter().enumerate();
        services.map(move |(n, service)| Place { sidecar, service: *service, used: n < used, since })
    })
}

impl Times {
    /// Moves what is done out of `pending`.
    pub(crate) fn look(&mut self, pending: &mut Vec<Place>, done: impl Fn(&Place) -> bool) {
        pending.retain(|place| {
            if !done(place) {
                return true;
            }
            let time = place.since.elapsed();
            self.all.push(time);
            if place.used {
                self.used.push(time);
            }
            false
        });
    }
}

/// Whether the view shows what the registry holds.
pub(crate) fn equal(fleet: &[Sidecar], registry: &Registry, place: &Place) -> bool {
    let entry = fleet[place.sidecar].directory.known(&registry.names[place.service]);
    entry.is_some_and(|entry| {
        providers(&entry).into_iter().eq(registry.truth(place.service).iter().map(|(a, w)| (a, *w)))
    })
}

/// Whether the entry was read since the registry was last lost.
pub(crate) fn checked(fleet: &[Sidecar], registry: &Registry, place: &Place) -> bool {
    let directory = &fleet[place.sidecar].directory;
    directory.known(&registry.names[place.service]).is_some_and(|entry| !directory.checked(&entry).1)
}

/// Looks again and again until `look` gives true; false at the end of `within`.
///
/// The pause grows with the cost of a look, so that looking takes a tenth of one core at most.
pub(crate) fn until(within: Duration, mut look: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    loop {
        let begun = Instant::now();
        if look() {
            return true;
        }
        if begun > end {
            return false;
        }
        std::thread::sleep((begun.elapsed() * 10).clamp(LOOK, Duration::from_secs(1)));
    }
}
