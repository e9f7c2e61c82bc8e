//! Places where no quota is shared: when their nodes are looked after (pure).

use std::collections::HashMap;
use std::time::Instant;

use super::group::Twin;
use super::{Place, SPREAD};
use crate::registry::Link;

/// All of them, as little as can be of each.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    places: HashMap<Place, Rest>,
    epoch: u64,
}

#[derive(Debug)]
struct Rest {
    due: Instant,
    twin: Twin,
    /// It is looked after now.
    busy: bool,
}

impl Quiet {
    /// One more, where it is none yet: nobody waits for its node.
    pub(super) fn add(&mut self, place: Place, now: Instant) {
        let rest = || Rest { due: within_spread(now), twin: Twin::default(), busy: false };
        self.places.entry(place).or_insert_with(rest);
    }

    /// Takes out one whose quotas are shared from now on; `None`: it is looked after just now.
    pub(super) fn take(&mut self, place: &Place) -> Option<Twin> {
        match self.places.get(place) {
            Some(rest) if rest.busy => None,
            _ => Some(self.places.remove(place).map_or_else(Twin::default, |rest| rest.twin)),
        }
    }

    /// Takes out those that are no more; gives the ones that may have a node.
    pub(super) fn gone(&mut self, is_there: impl Fn(&Place) -> bool) -> Vec<(Place, Twin)> {
        let gone = self.places.extract_if(|place, rest| !rest.busy && !is_there(place));
        gone.filter(|(_, rest)| rest.twin.was_ours).map(|(place, rest)| (place, rest.twin)).collect()
    }

    /// Those to be looked after now; a new connection has all hosts come at once, and these wait longest.
    pub(super) fn due(&mut self, link: Link, now: Instant) -> Vec<(Place, Twin)> {
        if self.epoch != link.epoch {
            self.epoch = link.epoch;
            self.places.values_mut().for_each(|rest| rest.due = within_spread(now));
        }
        let due = |rest: &Rest| link.up && !rest.busy && rest.due <= now;
        let due = self.places.iter_mut().filter(|(_, rest)| due(rest));
        due.map(|(place, rest)| {
            rest.busy = true;
            (place.clone(), rest.twin)
        })
        .collect()
    }

    /// One was looked after until `now`, and is `again` then.
    pub(super) fn done(&mut self, place: &Place, twin: Twin, (now, again): (Instant, Instant)) {
        if let Some(rest) = self.places.get_mut(place) {
            // a new connection may have come meanwhile
            let due = if rest.due > now { again.min(rest.due) } else { again };
            *rest = Rest { due, twin, busy: false };
        }
    }

    /// To look after one came to a bad end: what was known of it holds, and it has another turn later.
    pub(super) fn failed(&mut self, place: &Place, now: Instant) {
        if let Some(rest) = self.places.get_mut(place) {
            (rest.due, rest.busy) = (now + SPREAD, false);
        }
    }
}

fn within_spread(now: Instant) -> Instant {
    now + SPREAD.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ServiceName;
    use std::time::Duration;

    const UP: Link = Link { epoch: 1, up: true, storm: false, doubted: false };

    fn place(name: &str) -> Place {
        Place { service: ServiceName::new(name).unwrap(), api: None }
    }

    #[test]
    fn a_node_is_looked_after_by_one_at_a_time_and_again_with_each_connection() {
        let start = Instant::now();
        let (mut quiet, user) = (Quiet::default(), place("user"));
        quiet.add(user.clone(), start);
        assert!(quiet.due(Link { up: false, ..UP }, start + 2 * SPREAD).is_empty());
        let later = start + 4 * SPREAD;
        assert_eq!(quiet.due(UP, later).len(), 1);
        assert!(quiet.due(UP, later).is_empty() && quiet.take(&user).is_none(), "it is under way");
        assert!(quiet.gone(|_| false).is_empty(), "nor is it left behind");
        let again = later + Duration::from_secs(600);
        quiet.done(&user, Twin { was_ours: true, ..Twin::default() }, (later, again));
        assert!(quiet.due(UP, again - SPREAD).is_empty());
        let next = Link { epoch: 2, ..UP };
        assert!(quiet.due(next, later).is_empty(), "not all at once");
        assert_eq!(quiet.due(next, later + SPREAD).len(), 1);
        let third = Link { epoch: 3, ..UP };
        assert!(quiet.due(third, later + SPREAD).is_empty());
        quiet.done(&user, Twin { was_ours: true, ..Twin::default() }, (later + SPREAD, again));
        assert_eq!(quiet.due(third, later + 2 * SPREAD).len(), 1, "a connection that came meanwhile");
    }

    #[test]
    fn one_that_could_not_be_looked_after_has_another_turn() {
        let (start, user) = (Instant::now(), place("user"));
        let mut quiet = Quiet::default();
        quiet.add(user.clone(), start);
        quiet.done(&user, Twin { was_ours: true, ..Twin::default() }, (start, start));
        let later = start + 2 * SPREAD;
        assert!(quiet.due(UP, start).is_empty());
        assert_eq!(quiet.due(UP, later).len(), 1);
        quiet.failed(&user, later);
        assert!(quiet.due(UP, later).is_empty(), "not at once");
        assert_eq!(quiet.due(UP, later + SPREAD).len(), 1);
        quiet.failed(&user, later + SPREAD);
        assert!(quiet.take(&user).unwrap().was_ours);
    }

    #[test]
    fn who_has_a_node_is_told_of_when_it_goes_and_keeps_what_is_known_of_it() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        let ours = Twin { was_ours: true, ..Twin::default() };
        for name in ["user", "shop", "new"] {
            quiet.add(place(name), start);
        }
        for name in ["user", "shop"] {
            quiet.done(&place(name), ours, (start, start + SPREAD));
        }
        assert!(quiet.take(&place("shop")).unwrap().was_ours);
        let gone: Vec<_> = quiet.gone(|_| false).into_iter().map(|(place, _)| place).collect();
        assert_eq!(gone, [place("user")]);
        assert!(!quiet.take(&place("user")).unwrap().was_ours, "it begins anew");
    }
}
