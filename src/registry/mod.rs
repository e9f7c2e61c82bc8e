//! Keeps the view equal to the registry, and this host's providers in it.
//!
//! [`open`] chooses the source, [`run`] feeds a [`Directory`] from it, [`announce`] writes the
//! other way. Paths are below the configured root: they start with `/` and never end with it.

mod announce;
mod consumers;
mod embedded;
mod file;
mod follow;
pub mod layout;
mod mirror;
mod shares;
pub mod snapshot;
mod source;
mod status;
pub mod transfer;
mod trouble;
mod watches;
mod zookeeper;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, mpsc, watch};

use crate::config;
use crate::directory::{Directory, Want};

pub use announce::{Own, announce};
pub use consumers::shown;
pub use embedded::OpenError;
pub use source::{Source, open};
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
    /// Whether it is reached, and is not the one that is known: nothing of it is believed.
    doubted: bool,
}

impl Link {
    /// Why nobody can be asked while it is not up.
    pub(crate) fn why_down(self) -> &'static str {
        match self.doubted {
            true => "the registry is reached, but not believed",
            false => "the registry can't be reached",
        }
    }
}

/// One of several writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Makes a lasting node, or sets its data.
    Put(String, Vec<u8>),
    /// Removes a node with everything below it.
    Remove(String),
    /// Removes nodes in this order until one is not as it was.
    Prune(Vec<Doomed>),
}

/// A node to remove together with nothing that came after it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// Where it stands.
    pub path: String,
    /// What it held, to be lasting and alone; `None`: it goes with everything below it, whatever that is.
    pub held: Option<Vec<u8>>,
}

/// A node that was to be pruned and stays: it changed, or got something below it, since it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spared {
    /// The write that would have removed it.
    pub at: usize,
    /// The node.
    pub path: String,
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
    /// When it was last written, by the registry's clock, in milliseconds since 1970; 0: not known.
    written: i64,
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

    /// Those that are not taken yet.
    fn seen(&self) -> BTreeSet<String> {
        lock(&self.paths).clone()
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

/// Looks into the files that the way to the registry needs; fails with all that is wrong.
pub fn verify(config: &config::Registry) -> Result<(), config::Problems> {
    match &config.source {
        config::Source::Embedded { .. } => Ok(()),
        config::Source::ZooKeeper { connect, security, .. } => zookeeper::verify(connect, security),
    }
}

/// What hinders this host from keeping the view on disk, with the way out.
pub fn snapshot_trouble(config: &config::Registry) -> Option<String> {
    config.snapshot.as_deref().and_then(|path| snapshot::writable(path).err())
}

/// Keeps `directory` equal to the registry, and this `host` among those that call its services; ends soon
/// after `stop` turns true, the session closed.
pub async fn run(
    source: Source,
    directory: Arc<Directory>,
    host: String,
    wants: mpsc::Receiver<Want>,
    stop: watch::Receiver<bool>,
) {
    source.give_mark();
    let consumers = async {
        if source.is_shared() {
            directory.share_quotas();
            consumers::share(&source, &directory, &host, stop.clone()).await;
        }
    };
    let supervised = source.supervise(stop.clone());
    tokio::join!(consumers, supervised, follow::follow(&source, &directory, wants, stop.clone()));
}

/// The value, also after a panic elsewhere: every writer leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time, which tests may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
