//! The registry as one thing, ZooKeeper or a file, to whoever asks.

mod root;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::layout::Scope;
use super::snapshot::{self, Snapshot};
use super::status::{Status, StatusReport};
use super::{
    BrokenOff, Changes, Doomed, Held, Link, Node, OpenError, Reach, Spared, Trouble, Watching, Write,
};
use super::{embedded, zookeeper};
use crate::config;
use crate::model::Layout;

/// The registry, cheap to clone.
#[derive(Clone)]
pub struct Source {
    kind: Kind,
    layout: Layout,
    root: Arc<str>,
    snapshot: Option<Arc<Path>>,
    pub(super) status: Arc<Status>,
}

#[derive(Clone)]
enum Kind {
    Embedded(Arc<embedded::Embedded>),
    ZooKeeper(Arc<zookeeper::ZooKeeper>),
}

/// Opens the registry; ZooKeeper is reached later, by [`run`](super::run), whether it is there yet or not.
///
/// Fails where the embedded file can't be made or read.
pub fn open(config: &config::Registry) -> Result<Source, OpenError> {
    let status = Arc::new(Status::default());
    let kind = match &config.source {
        config::Source::Embedded { file } => {
            Kind::Embedded(Arc::new(embedded::Embedded::open(file, &config.root, status.clone())?))
        }
        config::Source::ZooKeeper { connect, session_timeout, security } => {
            let session = (*session_timeout, security);
            let zookeeper = zookeeper::ZooKeeper::new(connect, session, &config.root, status.clone());
            Kind::ZooKeeper(Arc::new(zookeeper))
        }
    };
    let snapshot = config.snapshot.as_deref().map(Arc::from);
    Ok(Source { kind, layout: config.layout, root: config.root.as_str().into(), snapshot, status })
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Source {
    /// How the nodes are laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What stands before every path in the registry; empty for `/`.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Where the view is kept on disk.
    pub(super) fn snapshot(&self) -> Option<&Path> {
        self.snapshot.as_deref()
    }

    /// What an earlier run kept; a file that is of no use is told of and left alone.
    pub(super) fn load_snapshot(&self) -> Option<Snapshot> {
        let path = self.snapshot()?;
        match snapshot::load(path, self.layout, &self.root) {
            Ok(found) => {
                let snapshot = found?;
                if let Kind::ZooKeeper(zookeeper) = &self.kind {
                    zookeeper.expect_cluster(snapshot.cluster.clone());
                }
                self.status.reached(None);
                Some(snapshot)
            }
            Err(reason) => {
                tracing::warn!(file = %path.display(), reason, "the view of an earlier run is not used");
                None
            }
        }
    }

    /// From now on a registry without a mark is given one.
    pub(super) fn give_mark(&self) {
        match &self.kind {
            Kind::Embedded(_) => {}
            Kind::ZooKeeper(zookeeper) => zookeeper.give_mark(),
        }
    }

    /// The mark of the registry that is believed.
    pub(super) fn cluster(&self) -> Option<String> {
        match &self.kind {
            Kind::Embedded(_) => None,
            Kind::ZooKeeper(zookeeper) => zookeeper.cluster(),
        }
    }

    /// Whether the registry was reached once, or a snapshot of it is served.
    pub fn ready(&self) -> bool {
        self.status.ready()
    }

    /// How it stands with the registry now.
    pub fn status(&self) -> StatusReport {
        let (source, session, one_shot) = match &self.kind {
            Kind::Embedded(_) => ("embedded", None, false),
            Kind::ZooKeeper(zookeeper) => ("zookeeper", zookeeper.session(), zookeeper.one_shot()),
        };
        self.status.report(source, *self.link().borrow(), session, one_shot)
    }

    /// Keeps the connection, or the file, until `stop` turns true.
    pub async fn supervise(&self, stop: watch::Receiver<bool>) {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.supervise(stop).await,
            Kind::ZooKeeper(zookeeper) => zookeeper.supervise(stop).await,
        }
    }

    /// From now on the session is left to itself when this ends: who takes over finds what it holds.
    pub fn leave_session(&self) {
        match &self.kind {
            Kind::Embedded(_) => {}
            Kind::ZooKeeper(zookeeper) => zookeeper.leave_session(),
        }
    }

    /// Believes the registry that is reached, though it is not the one it was; fails with why it needs no trust.
    pub fn trust(&self) -> Result<(), &'static str> {
        match &self.kind {
            Kind::Embedded(_) => Err("the registry is a file, which is always believed"),
            Kind::ZooKeeper(zookeeper) => zookeeper.trust(),
        }
    }

    /// Waits until the registry can be asked; fails after `patience` with what is wrong.
    pub async fn reached(&self, patience: Duration) -> Result<(), Trouble> {
        let mut link = self.link();
        let reached = tokio::time::timeout(patience, link.wait_for(|link| link.up)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(Trouble::Unknown(self.status.first_problem().unwrap_or_else(|| {
                    format!("the registry did not answer within {}s", patience.as_secs())
                })))
            }
        }
    }

    /// Waits until what is read next holds all that was written before this was asked.
    pub async fn catch_up(&self) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => {
                embedded.follow();
                Ok(())
            }
            Kind::ZooKeeper(zookeeper) => zookeeper.catch_up().await,
        }
    }

    /// Every node of `scopes` that exists.
    pub async fn read(&self, scopes: &[Scope]) -> Result<Vec<Node>, Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => Ok(embedded.read(scopes)),
            Kind::ZooKeeper(zookeeper) => zookeeper.read(scopes).await,
        }
    }

    /// The same for what is watched, which stays so.
    pub(super) async fn read_watched(&self, scopes: &[Scope]) -> Result<Vec<Node>, Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => Ok(embedded.read(scopes)),
            Kind::ZooKeeper(zookeeper) => zookeeper.read_watched(scopes).await,
        }
    }

    /// Writes a lasting node, with its parents where they are missing.
    pub async fn put(&self, path: &str, data: &[u8]) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.put(path, data),
            Kind::ZooKeeper(zookeeper) => zookeeper.put(path, data).await,
        }
    }

    /// Removes a node and everything below it.
    pub async fn remove(&self, path: &str) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.remove(path),
            Kind::ZooKeeper(zookeeper) => zookeeper.remove(path).await,
        }
    }

    /// Writes in this order, to the embedded file all at once; tells what is not pruned.
    pub async fn write_all(&self, writes: &[Write]) -> Result<Vec<Spared>, BrokenOff> {
        if let Kind::Embedded(embedded) = &self.kind {
            let written = embedded.write_all(writes);
            return written.map_err(|(at, trouble)| BrokenOff { at, written: 0, trouble });
        }
        let mut kept = Vec::new();
        for (at, write) in writes.iter().enumerate() {
            let written = match write {
                Write::Put(path, data) => self.put(path, data).await.map(|()| None),
                Write::Remove(path) => gone(self.remove(path).await).map(|()| None),
                Write::Prune(doomed) => self.prune(doomed).await,
            };
            let stays = written.map_err(|trouble| BrokenOff { at, written: at, trouble })?;
            kept.extend(stays.map(|path| Spared { at, path }));
        }
        Ok(kept)
    }

    /// Removes each, up to one that is not as it was: that one is given back.
    async fn prune(&self, doomed: &[Doomed]) -> Result<Option<String>, Trouble> {
        for Doomed { path, held } in doomed {
            let pruned = match (&self.kind, held) {
                (Kind::ZooKeeper(zookeeper), Some(held)) => zookeeper.prune(path, held).await,
                (Kind::ZooKeeper(_) | Kind::Embedded(_), _) => self.remove(path).await,
            };
            match gone(pruned) {
                Err(Trouble::Changed) => return Ok(Some(path.clone())),
                outcome => outcome?,
            }
        }
        Ok(None)
    }

    /// How long a session lasts without contact; `None`: there is none.
    pub(super) fn session_timeout(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Embedded(_) => None,
            Kind::ZooKeeper(zookeeper) => zookeeper.session_lasts(),
        }
    }

    /// Whether other hosts have the same registry.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::ZooKeeper(_))
    }

    /// Replaces the data of a node of this version; gives the new one, and when this was sent.
    pub(super) async fn replace(
        &self,
        path: &str,
        version: i32,
        data: &[u8],
    ) -> Result<(i32, Instant), Trouble> {
        match &self.kind {
            Kind::Embedded(_) => Err(Trouble::Refused("a file has no versions".into())),
            Kind::ZooKeeper(zookeeper) => zookeeper.replace(path, version, data).await,
        }
    }

    /// What stands right below a node, by name.
    pub(super) async fn held_below(&self, parent: &str) -> Result<Vec<(String, Held)>, Trouble> {
        match &self.kind {
            Kind::Embedded(_) => Ok(Vec::new()),
            Kind::ZooKeeper(zookeeper) => zookeeper.held_below(parent).await,
        }
    }

    pub(super) fn link(&self) -> watch::Receiver<Link> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.link(),
            Kind::ZooKeeper(zookeeper) => zookeeper.link(),
        }
    }

    /// Bytes that stand before every path on its way to the registry.
    pub(super) fn path_overhead(&self) -> usize {
        match &self.kind {
            Kind::Embedded(_) => 0,
            Kind::ZooKeeper(zookeeper) => zookeeper.path_overhead(),
        }
    }

    /// Watches `paths` as long as the link is in this `epoch`; their outcomes in order, the last of which
    /// failed where not all were asked for.
    pub(super) async fn watch(
        &self,
        epoch: u64,
        paths: &[String],
        reach: Reach,
        changes: &Arc<Changes>,
    ) -> Vec<Result<Watching, Trouble>> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.watch(paths, reach, changes),
            Kind::ZooKeeper(zookeeper) => zookeeper.watch(epoch, paths, reach, changes).await,
        }
    }

    pub(super) async fn held(&self, path: &str) -> Result<Option<Held>, Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => Ok(embedded.held(path)),
            Kind::ZooKeeper(zookeeper) => zookeeper.held(path).await,
        }
    }

    pub(super) async fn create_ephemeral(&self, path: &str, data: &[u8]) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.create_ephemeral(path, data),
            Kind::ZooKeeper(zookeeper) => zookeeper.create_ephemeral(path, data).await,
        }
    }

    /// In one step: deletes the node if it is still this one, and makes it anew as ours.
    pub(super) async fn take_over(&self, path: &str, held: &Held, data: &[u8]) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.create_ephemeral(path, data),
            Kind::ZooKeeper(zookeeper) => zookeeper.take_over(path, held, data).await,
        }
    }

    /// Deletes the node if it is still this one.
    pub(super) async fn release(&self, path: &str, held: &Held) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.release(path),
            Kind::ZooKeeper(zookeeper) => zookeeper.release(path, held).await,
        }
    }
}

/// What is gone already needs no removing.
fn gone(removed: Result<(), Trouble>) -> Result<(), Trouble> {
    match removed {
        Err(Trouble::NoNode) => Ok(()),
        outcome => outcome,
    }
}
