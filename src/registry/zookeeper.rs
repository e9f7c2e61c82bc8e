//! The only file that talks to ZooKeeper: sessions, reads, watches, writes; it decides nothing.
//!
//! Every connection is a new epoch of the [`Link`]: watches of an earlier one are gone. Requests
//! fail while there is none.

mod cluster;
mod oneshot;
mod read;
mod security;
mod servers;
mod session;
mod watchdog;
mod write;

use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use zookeeper_client::{AddWatchMode, Client, Error, EventType, PersistentWatcher};

use super::status::Status;
use super::{Changes, Link, Reach, Trouble, Watching, lock};
use crate::config;
use crate::limits::Pace;
use oneshot::{Cover, OneShot};
use security::Security;

pub(super) use security::verify;

/// Requests a sidecar sends by itself, over time and at once: a storm of thousands must not be one.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(300).unwrap();
const AT_ONCE: NonZeroU32 = NonZeroU32::new(600).unwrap();
/// Watches set at once and with one turn of the pace: together they cost a server no more than a read.
const WATCHES_AT_ONCE: usize = 100;
/// No request waits longer for its answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A watch, until dropped.
pub(super) enum Watch {
    /// Its task drains events until the session ends.
    Persistent {
        _events: JoinSet<()>,
    },
    OneShot {
        _cover: Cover,
    },
}

/// What requests go through while they can be answered.
#[derive(Clone)]
struct Here {
    client: Client,
    /// What the client's tasks run on.
    home: Handle,
    /// Whether the server is older than 3.6.
    old: bool,
    /// Where the server has no persistent watches.
    one_shot: Option<Arc<OneShot>>,
}

/// A connection that is no more.
struct Lost {
    since: Instant,
    session: i64,
    /// How long the ensemble keeps the session.
    timeout: Duration,
}

pub(super) struct ZooKeeper {
    connect: String,
    session_timeout: Duration,
    security: Security,
    root: String,
    here: Mutex<Option<Here>>,
    /// The mark of the ensemble that is ours.
    cluster: Mutex<Option<String>>,
    /// What it was until somebody said that another ensemble is ours, as long as that one has none.
    former_cluster: Mutex<Option<String>>,
    /// Somebody said that the ensemble is ours.
    trust: Notify,
    pace: Pace,
    /// Whether an ensemble without a mark is given one: commands only look.
    marks: AtomicBool,
    /// Whether the session stays when this ends.
    leaves_session: AtomicBool,
    /// While no connection is believed in, the last one.
    lost: Mutex<Option<Lost>>,
    /// Newest last.
    sessions: Mutex<VecDeque<i64>>,
    link: watch::Sender<Link>,
    status: Arc<Status>,
}

impl ZooKeeper {
    pub(super) fn new(
        connect: &str,
        (session_timeout, security): (Duration, &config::Security),
        root: &str,
        status: Arc<Status>,
    ) -> Self {
        Self {
            connect: connect.to_owned(),
            session_timeout,
            security: Security::new(security),
            root: root.to_owned(),
            here: Mutex::default(),
            cluster: Mutex::default(),
            former_cluster: Mutex::default(),
            trust: Notify::new(),
            pace: Pace::new(PER_SECOND, AT_ONCE),
            marks: AtomicBool::new(false),
            leaves_session: AtomicBool::new(false),
            lost: Mutex::default(),
            sessions: Mutex::default(),
            link: watch::Sender::default(),
            status,
        }
    }

    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// The session, `0x…`, while there is one.
    pub(super) fn session(&self) -> Option<String> {
        lock(&self.here).as_ref().map(|here| here.client.session_id().to_string())
    }

    /// How long the session lasts without contact, while there is one.
    pub(super) fn session_lasts(&self) -> Option<Duration> {
        lock(&self.here).as_ref().map(|here| here.client.session_timeout())
    }

    /// Whether each watch fires once.
    pub(super) fn one_shot(&self) -> bool {
        lock(&self.here).as_ref().is_some_and(|here| here.one_shot.is_some())
    }

    pub(super) fn path_overhead(&self) -> usize {
        self.chroot().len() + self.root.len()
    }

    /// The client, for one request of those that the sidecar makes by itself.
    async fn paced(&self) -> Result<Client, Trouble> {
        self.pace.turn().await;
        self.client()
    }

    fn client(&self) -> Result<Client, Trouble> {
        self.here().map(|here| here.client)
    }

    fn here(&self) -> Result<Here, Trouble> {
        let here = lock(&self.here).clone();
        here.ok_or_else(|| Trouble::Unknown(self.link.borrow().why_down().into()))
    }

    fn full(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// The answer to one request, counted and bounded in time.
    async fn answered<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
        self.answered_by(Instant::now() + ANSWER, request).await
    }

    async fn answered_by<T>(
        &self,
        deadline: Instant,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Trouble> {
        self.status.operations.fetch_add(1, Relaxed);
        let answer = in_time(deadline, request).await?;
        self.status.contact(Instant::now());
        Ok(answer)
    }

    /// Watches `paths` on the connection of this `epoch`, no later one; their outcomes in order, the last
    /// of which failed where not all were asked for.
    pub(super) async fn watch(
        &self,
        epoch: u64,
        paths: &[String],
        reach: Reach,
        changes: &Arc<Changes>,
    ) -> Vec<Result<Watching, Trouble>> {
        if let Ok(Here { one_shot: Some(one_shot), .. }) = self.here_in(epoch) {
            // nothing is sent: the reads that follow arm it
            let cover = |path: &String| one_shot.cover(self.full(path), reach, changes);
            let watch = |path| Watching::ZooKeeper { _watch: Watch::OneShot { _cover: cover(path) } };
            return paths.iter().map(|path| Ok(watch(path))).collect();
        }
        let mut watches = Vec::new();
        for some in paths.chunks(WATCHES_AT_ONCE) {
            match self.turn_in(epoch).await {
                Ok(here) => watches.extend(self.watch_lasting(&here, some, reach, changes).await),
                Err(trouble) => watches.push(Err(trouble)),
            }
            if matches!(watches.last(), Some(Err(Trouble::Unknown(_)))) {
                break;
            }
        }
        watches
    }

    /// The connection of this epoch, for one request; none is waited for in vain.
    async fn turn_in(&self, epoch: u64) -> Result<Here, Trouble> {
        self.here_in(epoch)?;
        self.pace.turn().await;
        self.here_in(epoch)
    }

    async fn watch_lasting(
        &self,
        here: &Here,
        paths: &[String],
        reach: Reach,
        changes: &Arc<Changes>,
    ) -> Vec<Result<Watching, Trouble>> {
        let mode = match reach {
            Reach::Node => AddWatchMode::Persistent,
            Reach::Subtree => AddWatchMode::PersistentRecursive,
        };
        let requests: Vec<_> = paths.iter().map(|path| here.client.watch(&self.full(path), mode)).collect();
        // all were sent at once: none has longer than the first
        let deadline = Instant::now() + ANSWER;
        let mut watches = Vec::new();
        for request in requests {
            let watcher = self.answered_by(deadline, request).await;
            watches.push(watcher.map(|watcher| {
                let mut task = JoinSet::new();
                // where the client's own tasks run, so that it ends with them
                let events = drain(watcher, self.root.clone(), changes.clone(), self.status.clone());
                task.spawn_on(events, &here.home);
                Watching::ZooKeeper { _watch: Watch::Persistent { _events: task } }
            }));
        }
        watches
    }

    /// The connection of this epoch.
    fn here_in(&self, epoch: u64) -> Result<Here, Trouble> {
        let here = self.here()?;
        match self.link.borrow().epoch == epoch {
            true => Ok(here),
            // whoever asked will ask again for the new one, and must not find this one's watches there
            false => Err(Trouble::Unknown("the connection was replaced".into())),
        }
    }
}

/// The answer to a request, unless it is late.
async fn in_time<T>(
    deadline: Instant,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout_at(deadline.into(), request).await {
        Ok(answer) => answer.map_err(trouble),
        Err(_) => Err(Trouble::Unknown(format!("ZooKeeper did not answer within {}s", ANSWER.as_secs()))),
    }
}

/// Notes every change until the session ends; asking a watcher again after that would panic.
async fn drain(mut watcher: PersistentWatcher, root: String, changes: Arc<Changes>, status: Arc<Status>) {
    loop {
        let event = watcher.changed().await;
        match event.event_type {
            EventType::Session if event.session_state.is_terminated() => return,
            EventType::Session => {}
            EventType::NodeCreated
            | EventType::NodeDeleted
            | EventType::NodeDataChanged
            | EventType::NodeChildrenChanged => {
                status.events.fetch_add(1, Relaxed);
                changes.note(event.path.strip_prefix(&root).unwrap_or(&event.path).to_owned());
            }
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add errors; all others are final")]
fn trouble(error: Error) -> Trouble {
    match error {
        Error::NoNode => Trouble::NoNode,
        Error::NodeExists => Trouble::Exists,
        Error::BadVersion | Error::NotEmpty => Trouble::Changed,
        // the connection broke, the session ended or the answer made no sense: it may have been done
        Error::ConnectionLoss
        | Error::Custom(_)
        | Error::Timeout
        | Error::UnexpectedError(_)
        | Error::UnmarshalError { .. }
        | Error::SessionExpired
        | Error::SessionMoved
        | Error::ClientClosed
        | Error::Throttled
        | Error::NoHosts => Trouble::Unknown(format!("ZooKeeper: {error}")),
        Error::NoAuth => Trouble::Refused("ZooKeeper: not authorized; its ACL does not let us".into()),
        other => Trouble::Refused(format!("ZooKeeper: {other}")),
    }
}
