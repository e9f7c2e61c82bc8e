//! What is done for places, and for which.

use std::collections::HashMap;
use std::future::Future;
use std::time::Instant;

use tokio::task::{Id, JoinSet};

use super::Place;
use super::group::Twin;

/// What is known of a node that was looked after, and when that is to be done again.
type Seen = (Twin, Instant);

/// All that is under way; over when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<Option<Seen>>,
    /// Those that are looked after.
    places: HashMap<Id, Place>,
}

impl Tasks {
    /// Does what nobody waits for.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            task.await;
            None
        });
    }

    /// Looks after a place.
    pub(super) fn look_after(&mut self, place: Place, task: impl Future<Output = Seen> + Send + 'static) {
        let id = self.running.spawn(async move { Some(task.await) }).id();
        self.places.insert(id, place);
    }

    /// The next place that is looked after no longer; without what was seen where that came to a bad end.
    pub(super) fn done(&mut self) -> Option<(Place, Option<Seen>)> {
        loop {
            let (id, seen) = match self.running.try_join_next_with_id()? {
                Ok((id, seen)) => (id, seen),
                Err(bad) => (bad.id(), None),
            };
            if let Some(place) = self.places.remove(&id) {
                return Some((place, seen));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ServiceName;

    #[tokio::test]
    async fn a_place_whose_task_panics_is_given_back_as_any_other() {
        let place = |name: &str| Place { service: ServiceName::new(name).unwrap(), api: None };
        let (mut tasks, again) = (Tasks::default(), Instant::now());
        tasks.spawn(async { panic!("of no place") });
        tasks.look_after(place("bad"), async { panic!("a fault") });
        tasks.look_after(place("good"), async move { (Twin::default(), again) });
        let mut done = HashMap::new();
        while done.len() < 2 {
            tokio::task::yield_now().await;
            done.extend(std::iter::from_fn(|| tasks.done()));
        }
        assert!(done[&place("bad")].is_none() && done[&place("good")].is_some());
        assert!(tasks.done().is_none() && tasks.places.is_empty());
    }
}
