//! The driver: turns what happens into calls of the mirror, and its actions into deeds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::mirror::{Action, Batch, Mirror};
use super::snapshot::Keeper;
use super::watches::Change;
use super::{Changes, Link, Node, Reach, Source, Trouble, Watching, now};
use crate::directory::{Directory, Unavailable, Want};
use crate::model::{Service, Skipped};
use crate::names::ServiceName;

/// Services that are loaded at once; a caller of one more is refused.
const MAX_WAITING: usize = 1024;

/// Unreadable nodes of one service that are logged at once; the admin port shows all.
const MAX_TOLD: usize = 5;

type Waiting = oneshot::Sender<Result<(), Unavailable>>;

struct ReadDone {
    batch: Batch,
    outcome: Result<Vec<Node>, Trouble>,
}

struct WatchDone {
    change: Change,
    watches: Vec<(String, Watching)>,
    /// Why one was not made.
    trouble: Option<Trouble>,
}

struct Follower<'a> {
    source: &'a Source,
    directory: &'a Directory,
    mirror: Mirror,
    /// Callers of services that are being loaded.
    waiting: HashMap<ServiceName, Vec<Waiting>>,
    watches: BTreeMap<String, Watching>,
    changes: Arc<Changes>,
    link: Link,
    reads: JoinSet<ReadDone>,
    rewatches: JoinSet<WatchDone>,
    /// Keeps the view on disk, where that is wanted.
    keeper: Option<Keeper>,
}

/// Keeps `directory` equal to the source until `stop` turns true.
pub(super) async fn follow(
    source: &Source,
    directory: &Directory,
    mut wants: mpsc::Receiver<Want>,
    mut stop: watch::Receiver<bool>,
) {
    let mut link = source.link();
    let mut follower = Follower::new(source, directory);
    follower.restore();
    let stopping = stop.clone();
    let linked = *link.borrow_and_update();
    follower.linked(linked);
    loop {
        follower.act();
        let wake = tokio::time::sleep_until(follower.wake().into());
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(want) = wants.recv() => follower.want(want),
            () = follower.changes.changed() => follower.changed(),
            Ok(()) = link.changed() => {
                // the connection goes because we stop: what is known stays true
                if *stopping.borrow() {
                    break;
                }
                let linked = *link.borrow_and_update();
                follower.linked(linked);
            }
            Some(Ok(done)) = follower.reads.join_next() => follower.read(done),
            Some(Ok(done)) = follower.rewatches.join_next() => follower.watched(done),
            () = wake => {
                follower.mirror.sweep(now(), |service| directory.take_used(service));
                follower.save(now());
            }
        }
    }
    follower.end().await;
}

impl<'a> Follower<'a> {
    fn new(source: &'a Source, directory: &'a Directory) -> Self {
        let mirror = Mirror::new(source.layout(), source.path_overhead(), fastrand::Rng::new(), now());
        Self {
            source,
            directory,
            mirror,
            waiting: HashMap::new(),
            watches: BTreeMap::new(),
            changes: Arc::default(),
            link: Link::default(),
            reads: JoinSet::new(),
            rewatches: JoinSet::new(),
            keeper: source.snapshot().map(|path| Keeper::new(path.to_owned(), source.status.clone(), now())),
        }
    }

    fn want(&mut self, want: Want) {
        if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(&want.service) {
            // whoever asked may be gone
            let reason = Unavailable("too many services are being loaded at once".into());
            return drop(want.loaded.send(Err(reason)));
        }
        let waiting = self.waiting.entry(want.service.clone()).or_default();
        if waiting.len() >= 64 {
            waiting.retain(|caller| !caller.is_closed());
        }
        waiting.push(want.loaded);
        self.mirror.want(&want.service, now());
    }

    fn changed(&mut self) {
        let now = now();
        self.changes.take().iter().for_each(|path| self.mirror.changed(path, now));
    }

    fn linked(&mut self, link: Link) {
        if !link.up {
            self.directory.doubt();
            self.mirror.detached(now(), link.why_down());
        } else if !self.link.up || self.link.epoch != link.epoch {
            let directory = self.directory;
            directory.doubt();
            // the watches of the connection before are gone, and what sets them asks in vain
            self.rewatches = JoinSet::new();
            self.watches.clear();
            self.source.status.problem("watch", None);
            self.mirror.attached(now(), link.storm, |service| directory.take_used(service));
            // it may be another ensemble, trusted since
            self.keeper.iter_mut().for_each(Keeper::renew);
        }
        self.link = link;
    }

    fn read(&mut self, done: ReadDone) {
        self.mirror.read(&done.batch, done.outcome, now());
    }

    fn watched(&mut self, done: WatchDone) {
        let added: Vec<_> = done.watches.iter().map(|(path, _)| path.clone()).collect();
        let complete = added.len() == done.change.add.len();
        if !self.mirror.watched(done.change.serial, &added, now()) {
            return;
        }
        let problem =
            done.trouble.map(|trouble| format!("changes can't be heard of: {trouble}; tried again"));
        self.source.status.problem("watch", problem);
        // the new watch of a path stands before the old one goes
        self.watches.extend(done.watches);
        if complete {
            done.change.drop.iter().for_each(|path| drop(self.watches.remove(path)));
        }
    }

    fn act(&mut self) {
        for action in self.mirror.poll(now()) {
            match action {
                Action::Read(batch) => self.start_read(batch),
                Action::Watch(change) => self.start_watch(change),
                Action::Publish(service, found) => {
                    self.tell_skipped(&service, found.as_deref());
                    self.directory.publish(&service, found);
                }
                Action::Keep(service, nodes) => {
                    self.keeper.iter_mut().for_each(|keeper| keeper.keep(&service, &nodes));
                }
                Action::Confirm(service) => self.directory.confirm(&service),
                Action::Drift(service) => {
                    self.source.status.drift.fetch_add(1, Relaxed);
                    tracing::error!(%service, "the view was not as the registry, though no event was missed");
                }
                Action::Forget(service) => {
                    self.keeper.iter_mut().for_each(|keeper| keeper.forget(&service));
                    self.directory.forget(&service);
                }
                Action::Settle(service, outcome) => {
                    for caller in self.waiting.remove(&service).unwrap_or_default() {
                        // a caller that gave up needs no answer
                        let _ = caller.send(outcome.clone());
                    }
                }
            }
        }
        let (services, watched) = self.mirror.size();
        self.source.status.watched(services, watched);
        let held = self.mirror.held();
        let before = self.source.status.held(held);
        if held != before {
            self.keeper.iter_mut().for_each(Keeper::renew);
        }
        if held > before {
            tracing::warn!(
                providers = held,
                "many providers vanished at once: they are kept for 120 s, for calls that no other can take"
            );
        }
    }

    /// Shows what an earlier run knew, until the registry says otherwise.
    fn restore(&mut self) {
        let Some(snapshot) = self.source.load_snapshot() else { return };
        let age = snapshot.age();
        let kept = snapshot.into_services();
        let services = kept.len();
        for (service, nodes) in kept {
            self.mirror.restore(&service, &nodes, now());
        }
        self.act();
        self.directory.doubt();
        self.directory.checked_before(age);
        let age_s = age.as_secs();
        tracing::info!(services, age_s, "the view of an earlier run is served until the registry is reached");
    }

    fn wake(&self) -> Instant {
        let save = self.keeper.as_ref().map(Keeper::wake);
        save.into_iter().fold(self.mirror.wake(), Instant::min)
    }

    /// Writes the view to disk where it is known to be true.
    fn save(&mut self, now: Instant) {
        let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.wake() <= now) else { return };
        match self.source.cluster().filter(|_| self.mirror.is_true(now)) {
            Some(cluster) => {
                keeper.hold(self.mirror.held_nodes());
                keeper.write(&cluster, self.source.layout(), self.source.root(), now);
            }
            None => keeper.wait(now),
        }
    }

    /// The last word on disk.
    async fn end(mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.finish().await;
            if let Some(cluster) = self.source.cluster().filter(|_| self.mirror.is_true(now())) {
                keeper.hold(self.mirror.held_nodes());
                keeper.write(&cluster, self.source.layout(), self.source.root(), now());
                keeper.finish().await;
            }
        }
    }

    /// A node that can't be read is told once for every way it is wrong.
    fn tell_skipped(&self, service: &ServiceName, found: Option<&Service>) {
        let before = self.directory.known(service);
        let before: HashSet<_> = before.iter().flat_map(|entry| &entry.service.skipped).collect();
        let news = found.into_iter().flat_map(|found| &found.skipped).filter(|node| !before.contains(node));
        for Skipped { path, reason } in news.take(MAX_TOLD) {
            tracing::warn!(
                node = format!("{}{path}", self.source.root()),
                reason,
                "a registry node is left out"
            );
        }
    }

    fn start_read(&mut self, batch: Batch) {
        let source = self.source.clone();
        self.reads.spawn(async move {
            let scopes: Vec<_> =
                batch.services.iter().flat_map(|service| source.layout().scopes(service)).collect();
            let read = apart(async move { source.read_watched(&scopes).await }).await;
            ReadDone { batch, outcome: read.and_then(|read| read) }
        });
    }

    fn start_watch(&mut self, change: Change) {
        let (source, changes, epoch) = (self.source.clone(), self.changes.clone(), self.link.epoch);
        self.rewatches.spawn(async move {
            let paths = change.add.clone();
            let outcomes =
                apart(async move { source.watch(epoch, &paths, Reach::Subtree, &changes).await }).await;
            let (mut watches, mut trouble) = (Vec::new(), None);
            for (path, outcome) in change.add.iter().zip(outcomes.into_iter().flatten()) {
                match outcome {
                    Ok(watching) => watches.push((path.clone(), watching)),
                    Err(reason) => trouble = Some(reason),
                }
            }
            WatchDone { change, watches, trouble }
        });
    }
}

/// Does `work` in a task of its own: a panic there fails this one piece, and its place is given back.
async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Trouble> {
    let mut task = JoinSet::new();
    task.spawn(work);
    match task.join_next().await {
        Some(Ok(done)) => Ok(done),
        Some(Err(_)) | None => Err(Trouble::Unknown("a defect of remora ended the request".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::{Layout, Policy};
    use crate::registry::open;
    use crate::telemetry::Telemetry;

    #[tokio::test]
    async fn no_watch_of_an_earlier_connection_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = config::Registry {
            source: config::Source::Embedded { file: dir.path().join("registry.yaml") },
            layout: Layout::Flat,
            root: String::new(),
            snapshot: None,
        };
        let source = open(&config).unwrap();
        let (directory, _wants) = Directory::new(Policy::default(), None, Telemetry::new().unwrap());
        let mut follower = Follower::new(&source, &directory);
        follower.linked(Link { epoch: 1, up: true, storm: false, doubted: false });
        let paths = ["/service/user".to_owned()];
        let watches = source.watch(1, &paths, Reach::Subtree, &follower.changes).await;
        follower.watches.extend(paths.into_iter().zip(watches.into_iter().flatten()));
        assert_eq!(follower.watches.len(), 1);
        // the service went while the connection was away: nobody will ask for its watch again
        follower.linked(Link { epoch: 1, up: false, storm: false, doubted: false });
        follower.linked(Link { epoch: 2, up: true, storm: false, doubted: false });
        assert!(follower.watches.is_empty());
    }
}
