//! Keeps the view equal to the registry, and this host's providers in it.
//!
//! [`open`] chooses the source, [`run`] feeds a [`Directory`] from it, [`announce`] writes the
//! other way. Paths are below the configured root: they start with `/` and never end with it.

mod announce;
mod embedded;
mod file;
mod follow;
pub mod layout;
mod mirror;
mod root;
mod snapshot;
mod status;
pub mod transfer;
mod trouble;
mod watches;
mod zookeeper;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use crate::config;
use crate::directory::{Directory, Want};
use crate::model::Layout;
use layout::Scope;
use snapshot::Snapshot;
use status::Status;

pub use announce::{Own, announce};
pub use embedded::OpenError;
pub use status::{OwnReport, StatusReport};
pub use trouble::Trouble;

/// One node of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it stands.
    pub path: String,
    /// Its bytes, or why they can't be had.
    pub data: Result<Vec<u8>, String>,
    /// Gone when whoever made it is gone.
    pub ephemeral: bool,
}

/// The connection to the registry, as it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Link {
    /// Grows with every (re)connection; watches of an earlier one are lost.
    epoch: u64,
    /// Whether the registry can be asked now.
    up: bool,
    /// Whether it was away for long, or knows us no more: then many others come back too.
    storm: bool,
}

/// Where several writes ended before their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenOff {
    /// The write that failed.
    pub at: usize,
    /// So many were done.
    pub written: usize,
    /// Why.
    pub trouble: Trouble,
}

/// Whose a node is that stands where an own provider belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// This session's.
    Me,
    /// Left over from an earlier session of this process.
    FormerMe,
    /// Another session's, living or not.
    Other,
    /// Nobody's: it is persistent.
    Nobody,
}

/// A node that stands where an own provider belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    owner: Owner,
    /// Differs for every node that ever stood here.
    born: i64,
    version: i32,
    data: Vec<u8>,
}

/// Paths that changed since somebody last looked: bounded by what there is, however often it changes.
#[derive(Default)]
pub(crate) struct Changes {
    paths: Mutex<BTreeSet<String>>,
    notify: Notify,
}

impl Changes {
    fn note(&self, path: String) {
        lock(&self.paths).insert(path);
        self.notify.notify_one();
    }

    async fn changed(&self) {
        self.notify.notified().await;
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.paths))
    }
}

/// What a watch covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The node itself.
    Node,
    /// The node and everything below it.
    Subtree,
}

/// A watch, until dropped.
enum Watching {
    ZooKeeper { _watch: zookeeper::Watch },
    Embedded { _watch: embedded::Watch },
}

/// The registry, cheap to clone.
#[derive(Clone)]
pub struct Source {
    kind: Kind,
    layout: Layout,
    root: Arc<str>,
    snapshot: Option<Arc<Path>>,
    status: Arc<Status>,
}

#[derive(Clone)]
enum Kind {
    Embedded(Arc<embedded::Embedded>),
    ZooKeeper(Arc<zookeeper::ZooKeeper>),
}

/// Opens the registry; ZooKeeper is reached later, by [`run`], whether it is there yet or not.
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

/// Looks into the files that the way to the registry needs; fails with all that is wrong.
pub fn verify(config: &config::Registry) -> Result<(), config::Problems> {
    match &config.source {
        config::Source::Embedded { .. } => Ok(()),
        config::Source::ZooKeeper { connect, security, .. } => zookeeper::verify(connect, security),
    }
}

/// Keeps `directory` equal to the registry; ends soon after `stop` turns true, the session closed.
pub async fn run(
    source: Source,
    directory: Arc<Directory>,
    wants: mpsc::Receiver<Want>,
    stop: watch::Receiver<bool>,
) {
    if let Kind::ZooKeeper(zookeeper) = &source.kind {
        zookeeper.give_mark();
    }
    tokio::join!(source.supervise(stop.clone()), follow::follow(&source, &directory, wants, stop));
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
    fn snapshot(&self) -> Option<&Path> {
        self.snapshot.as_deref()
    }

    /// What an earlier run kept; a file that is of no use is told of and left alone.
    fn load_snapshot(&self) -> Option<Snapshot> {
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

    /// The mark of the registry that is believed.
    fn cluster(&self) -> Option<String> {
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
        let (source, session) = match &self.kind {
            Kind::Embedded(_) => ("embedded", None),
            Kind::ZooKeeper(zookeeper) => ("zookeeper", zookeeper.session()),
        };
        self.status.report(source, self.link().borrow().up, session)
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

    /// Believes the registry that is reached, though it is not the one it was.
    pub fn trust(&self) {
        match &self.kind {
            Kind::Embedded(_) => {}
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

    /// Every node of `scopes` that exists.
    pub async fn read(&self, scopes: &[Scope]) -> Result<Vec<Node>, Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => Ok(embedded.read(scopes)),
            Kind::ZooKeeper(zookeeper) => zookeeper.read(scopes).await,
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

    /// Puts or removes lasting nodes in this order, in the embedded file all at once; what is gone
    /// already needs no removing.
    pub async fn write_all(&self, writes: &[(String, Option<Vec<u8>>)]) -> Result<(), BrokenOff> {
        if let Kind::Embedded(embedded) = &self.kind {
            let written = embedded.write_all(writes);
            return written.map_err(|(at, trouble)| BrokenOff { at, written: 0, trouble });
        }
        for (done, (path, data)) in writes.iter().enumerate() {
            let written = match data {
                Some(data) => self.put(path, data).await,
                None => self.remove(path).await,
            };
            match written {
                Err(Trouble::NoNode) if data.is_none() => {}
                outcome => {
                    outcome.map_err(|trouble| BrokenOff { at: done, written: done, trouble })?;
                }
            }
        }
        Ok(())
    }

    fn link(&self) -> watch::Receiver<Link> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.link(),
            Kind::ZooKeeper(zookeeper) => zookeeper.link(),
        }
    }

    /// Bytes that stand before every path on its way to the registry.
    fn path_overhead(&self) -> usize {
        match &self.kind {
            Kind::Embedded(_) => 0,
            Kind::ZooKeeper(zookeeper) => zookeeper.path_overhead(),
        }
    }

    /// Watches all `paths` as long as the link is in this `epoch`; one outcome per path.
    async fn watch(
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

    async fn held(&self, path: &str) -> Result<Option<Held>, Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => Ok(embedded.held(path)),
            Kind::ZooKeeper(zookeeper) => zookeeper.held(path).await,
        }
    }

    async fn create_ephemeral(&self, path: &str, data: &[u8]) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.create_ephemeral(path, data),
            Kind::ZooKeeper(zookeeper) => zookeeper.create_ephemeral(path, data).await,
        }
    }

    /// In one step: deletes the node if it is still this one, and makes it anew as ours.
    async fn take_over(&self, path: &str, held: &Held, data: &[u8]) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.create_ephemeral(path, data),
            Kind::ZooKeeper(zookeeper) => zookeeper.take_over(path, held, data).await,
        }
    }

    /// Deletes the node if it is still this one.
    async fn release(&self, path: &str, held: &Held) -> Result<(), Trouble> {
        match &self.kind {
            Kind::Embedded(embedded) => embedded.release(path),
            Kind::ZooKeeper(zookeeper) => zookeeper.release(path, held).await,
        }
    }
}

/// The value, also after a panic elsewhere: every writer leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
