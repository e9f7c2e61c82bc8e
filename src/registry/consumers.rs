//! This sidecar among those that call a service: its node, its shares of their quotas, and the one that gives.

mod group;
mod holder;
mod quiet;
mod shown;
mod tasks;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::shares::Meter;
use super::{Link, Source, now};
use crate::directory::{Directory, Entry};
use crate::limits::Limiter;
use crate::model::Layout;
use crate::names::{ApiName, ServiceName};
use group::{Group, Twin};
use quiet::Quiet;
pub use shown::shown;
use tasks::Tasks;

/// How often the view is looked at for services that are no longer called; new ones are told of.
const LOOK: Duration = Duration::from_millis(250);
/// Between two looks, however many services come.
const APART: Duration = Duration::from_millis(50);
/// A sidecar's node in a service without a shared quota is made within so long: nobody waits for it.
const SPREAD: Duration = Duration::from_secs(30);

/// Bytes of the paths that are watched, beside those of the view: the client library can't reconnect with
/// more than 128 KiB of all.
const WATCHED: usize = 16 << 10;
/// What a path takes beside its bytes.
const PER_PATH: usize = 8;
/// How often nodes are looked at where no watch tells of them.
const UNWATCHED: Duration = Duration::from_secs(2);

/// Room for paths to be watched.
#[derive(Debug, Clone)]
struct Seats {
    room: Arc<Semaphore>,
    /// Bytes that stand before every path on its way to the registry.
    overhead: usize,
}

/// The room of one path, until dropped.
type Seat = OwnedSemaphorePermit;

/// What sidecars gather around: a service, in layout `tree` one API of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    service: ServiceName,
    api: Option<ApiName>,
}

/// The quotas of one place that a fleet shares, by caller.
type Limiters = BTreeMap<String, Arc<Limiter>>;

impl Seats {
    fn new(overhead: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(WATCHED)), overhead }
    }

    /// Room for this path, if there is any.
    fn take(&self, path: &str) -> Option<Seat> {
        let size = u32::try_from(path.len() + self.overhead + PER_PATH).ok()?;
        self.room.clone().try_acquire_many_owned(size).ok()
    }
}

impl Place {
    /// Where its sidecars' nodes stand.
    fn path(&self) -> String {
        match &self.api {
            None => format!("/consumers/{}", self.service),
            Some(api) => format!("/services/{}/{api}/consumers", self.service),
        }
    }

    fn limiters(&self, entry: &Entry) -> Limiters {
        let mut found = Limiters::new();
        for (caller, grants) in &entry.service.callers {
            for (grant, account) in grants.iter().zip(entry.accounts.of(caller.as_str())) {
                let is_here = self.api.as_ref().is_none_or(|api| grant.apis.iter().eq([api.as_str()]));
                let limiter = account.limiter.as_ref().filter(|limiter| limiter.asked().is_some());
                found.extend(limiter.filter(|_| is_here).map(|l| (caller.to_string(), l.clone())));
            }
        }
        found
    }
}

fn places(layout: Layout, entry: &Entry) -> Vec<Place> {
    let place = |api| Place { service: entry.name.clone(), api };
    match layout {
        Layout::Flat => vec![place(None)],
        Layout::Tree => entry.service.apis.keys().map(|api| place(Some(api.clone()))).collect(),
    }
}

/// Nodes of this host, and who keeps them.
struct Nodes<'a> {
    source: &'a Source,
    /// The second one is for where another sidecar has this one's name.
    names: [String; 2],
    seats: Seats,
    /// Of places with shared quotas.
    groups: HashMap<Place, watch::Sender<Limiters>>,
    /// Of all others: a view may have thousands.
    quiet: Quiet,
    tasks: Tasks,
}

/// Keeps a node of this host beside every service in the view, and the limiters of shared quotas at what
/// it was given, until `stop` turns true.
pub(super) async fn share(
    source: &Source,
    directory: &Directory,
    host: &str,
    mut stop: watch::Receiver<bool>,
) {
    let mut nodes = Nodes {
        source,
        names: [host.to_owned(), format!("{host}~{:08x}", fastrand::u32(..))],
        seats: Seats::new(source.path_overhead()),
        groups: HashMap::new(),
        quiet: Quiet::default(),
        tasks: Tasks::default(),
    };
    let link = source.link();
    loop {
        let mut seen = HashMap::new();
        for entry in directory.list().values() {
            for place in places(source.layout(), entry) {
                let limiters = place.limiters(entry);
                seen.insert(place, limiters);
            }
        }
        while let Some((place, seen)) = nodes.tasks.done() {
            match seen {
                Some((twin, again)) => nodes.quiet.done(&place, twin, (now(), again)),
                None => nodes.quiet.failed(&place, now()),
            }
        }
        let linked = *link.borrow();
        nodes.follow(seen, linked, now());
        tokio::time::sleep(APART).await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = directory.moved() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Nodes<'_> {
    fn follow(&mut self, seen: HashMap<Place, Limiters>, link: Link, now: Instant) {
        // a group ends when its limiters do
        self.groups.retain(|place, _| seen.contains_key(place));
        for (place, twin) in self.quiet.gone(|place| seen.contains_key(place)) {
            let group = self.group(&place, twin, watch::channel(Limiters::new()).1);
            self.tasks.spawn(group.leave());
        }
        for (place, limiters) in seen {
            match self.groups.get(&place) {
                Some(known) => {
                    known.send_if_modified(|known| {
                        let changed = !same(known, &limiters);
                        *known = limiters;
                        changed
                    });
                }
                None if limiters.is_empty() => self.quiet.add(place, now),
                None => {
                    // one that is looked after just now is left to that
                    let Some(twin) = self.quiet.take(&place) else { continue };
                    let (tell, told) = watch::channel(limiters);
                    let group = self.group(&place, twin, told);
                    self.groups.insert(place, tell);
                    self.tasks.spawn(group.run());
                }
            }
        }
        for (place, twin) in self.quiet.due(link, now) {
            let group = self.group(&place, twin, watch::channel(Limiters::new()).1);
            self.tasks.look_after(place, group.look_after(link));
        }
    }

    fn group(&self, place: &Place, twin: Twin, limiters: watch::Receiver<Limiters>) -> Box<Group> {
        let names = [self.names[0].as_str(), self.names[1].as_str()];
        Group::new(self.source, (&place.path(), names), twin, self.seats.clone(), limiters)
    }
}

fn same(known: &Limiters, found: &Limiters) -> bool {
    known.len() == found.len()
        && known.iter().zip(found).all(|((a, one), (b, other))| a == b && Arc::ptr_eq(one, other))
}

/// How much callers ask for.
#[derive(Debug, Default)]
struct Asked(BTreeMap<String, Meter>);

impl Asked {
    /// Reads the limiters; gives who asks, in calls per million seconds.
    fn read(&mut self, limiters: &Limiters, now: Instant) -> BTreeMap<String, u64> {
        self.0.retain(|caller, _| limiters.contains_key(caller));
        let mut asks = BTreeMap::new();
        for (caller, limiter) in limiters {
            let meter = self.0.entry(caller.clone()).or_insert_with(|| Meter::new(now));
            asks.extend(meter.read(limiter.asked().unwrap_or(0), now).map(|asks| (caller.clone(), asks)));
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watched_paths_take_no_more_room_than_there_is_and_give_it_back() {
        let seats = Seats::new(20);
        let path = |n: usize| format!("/consumers/service-{n:04}/web-17");
        let taken: Vec<_> = (0..1000).map_while(|n| seats.take(&path(n))).collect();
        let bytes: usize = (0..taken.len()).map(|n| path(n).len() + 20).sum();
        assert!(taken.len() > 200 && bytes <= WATCHED, "{}: {bytes}", taken.len());
        assert!(seats.take(&path(0)).is_none());
        drop(taken);
        assert!(seats.take(&path(0)).is_some());
    }
}
