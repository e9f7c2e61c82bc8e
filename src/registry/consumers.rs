//! This sidecar among those that call a service: its node, its shares of their quotas, and the one that gives.

mod group;
mod holder;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Source;
use super::shares::Meter;
use crate::directory::{Directory, Entry};
use crate::limits::Limiter;
use crate::model::Layout;
use crate::names::{ApiName, ServiceName};
use group::Group;

/// How often the view is looked at for services that are no longer called; new ones are told of.
const LOOK: Duration = Duration::from_millis(250);
/// Between two looks, however many services come.
const APART: Duration = Duration::from_millis(50);
/// A sidecar's node in a service without a shared quota is made within so long: nobody waits for it.
const SPREAD: Duration = Duration::from_secs(30);

/// Most places whose nodes are watched: the client library can't reconnect with too many watched paths.
const WATCHED: usize = 150;

/// What sidecars gather around: a service, in layout `tree` one API of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    service: ServiceName,
    api: Option<ApiName>,
}

/// The quotas of one place that a fleet shares, by caller.
type Limiters = BTreeMap<String, Arc<Limiter>>;

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

/// Keeps a node of this host beside every service in the view, and the limiters of shared quotas at what
/// it was given, until `stop` turns true.
pub(super) async fn share(
    source: &Source,
    directory: &Directory,
    host: &str,
    mut stop: watch::Receiver<bool>,
) {
    let mut groups: HashMap<Place, watch::Sender<Limiters>> = HashMap::new();
    // where another sidecar has this one's name
    let second = format!("{host}~{:08x}", fastrand::u32(..));
    let (mut tasks, seats) = (JoinSet::new(), Arc::new(Semaphore::new(WATCHED)));
    loop {
        let mut seen = HashMap::new();
        for entry in directory.list().values() {
            for place in places(source.layout(), entry) {
                let limiters = place.limiters(entry);
                seen.insert(place, limiters);
            }
        }
        // a group ends when its limiters do
        groups.retain(|place, _| seen.contains_key(place));
        for (place, limiters) in seen {
            match groups.get(&place) {
                Some(known) => {
                    known.send_if_modified(|known| {
                        let changed = !same(known, &limiters);
                        *known = limiters;
                        changed
                    });
                }
                None => {
                    let (tell, told) = watch::channel(limiters);
                    let group = Group::new(source, (&place.path(), [host, &second]), seats.clone(), told);
                    groups.insert(place, tell);
                    tasks.spawn(group.run());
                }
            }
        }
        tokio::time::sleep(APART).await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            Some(_) = tasks.join_next() => {}
            () = directory.moved() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
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
