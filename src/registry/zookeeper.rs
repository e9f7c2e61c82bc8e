//! The only file that talks to ZooKeeper: sessions, reads, watches, writes; it decides nothing.
//!
//! The client library loses persistent watches on every reconnect, gives its own reconnects an
//! uncapped back-off and is dead after an expiry. So every (re)connection is a new epoch of the
//! [`Link`], a client that stays away too long is abandoned, and requests fail while there is none.

mod read;
mod security;
mod write;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use zookeeper_client::{
    AddWatchMode, Client, Error, EventType, PersistentWatcher, SessionInfo, SessionState, StateWatcher,
};

use super::status::Status;
use super::{Changes, Link, Reach, Trouble, Watching, lock};
use crate::config;
use security::Security;

pub(super) use security::verify;

/// No request waits longer for its answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Pause after the ensemble refused our credentials.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// How often a quiet session is proved to be alive.
const WATCHDOG: Duration = Duration::from_secs(30);
/// Sessions remembered as our own.
const FORMER_SESSIONS: usize = 64;

/// A watch: its task drains events until the session ends or this is dropped.
pub(super) type Watch = JoinSet<()>;

pub(super) struct ZooKeeper {
    connect: String,
    session_timeout: Duration,
    security: Security,
    root: String,
    /// There while requests can be answered.
    client: Mutex<Option<Client>>,
    /// Since when none is, and the session until then.
    lost: Mutex<Option<(Instant, i64)>>,
    /// Newest last.
    sessions: Mutex<VecDeque<i64>>,
    link: watch::Sender<Link>,
    status: Arc<Status>,
}

/// Why a client is no longer used.
enum Ended {
    Stopped,
    /// The session is over, or the client says so; it may be re-attached once.
    Expired(SessionInfo),
    /// The client is of no use.
    Lost(&'static str),
    Refused,
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
            client: Mutex::new(None),
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
        lock(&self.client).as_ref().map(|client| client.session_id().to_string())
    }

    pub(super) fn path_overhead(&self) -> usize {
        let chroot = self.connect.find('/').map_or(0, |at| self.connect.len() - at);
        chroot + self.root.len()
    }

    /// Keeps a session until `stop` turns true, then closes it.
    pub(super) async fn supervise(&self, mut stop: watch::Receiver<bool>) {
        let (mut session, mut failures) = (None, 0);
        loop {
            let client = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                client = self.open(session.take()) => client,
            };
            let ended = match client {
                Some(client) => {
                    failures = 0;
                    self.serve(client, &mut stop).await
                }
                None => Ended::Lost("no server answered"),
            };
            let pause = match ended {
                Ended::Stopped => return,
                Ended::Expired(info) => {
                    session = Some(info);
                    Duration::ZERO
                }
                Ended::Lost(_) => {
                    failures += 1;
                    pause(failures)
                }
                Ended::Refused => REFUSED_PAUSE,
            };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One attempt to connect, in the former session where there is one.
    async fn open(&self, session: Option<SessionInfo>) -> Option<Client> {
        // every server is tried once: the pauses between rounds are ours
        let mut connector =
            Client::connector().with_session_timeout(self.session_timeout).with_fail_eagerly();
        if let Some(session) = session {
            connector = connector.with_session(session);
        }
        let client = match self.connect(connector).await {
            Ok(client) => client,
            Err(problem) => return self.no_session(problem),
        };
        // a new session may be at a server that lags behind
        if let Err(trouble) = self.answered(client.sync("/")).await {
            return self.no_session(self.unreached(&trouble.to_string()));
        }
        Some(client)
    }

    fn unreached(&self, reason: &str) -> String {
        let servers = self.connect.split('/').next().unwrap_or_default();
        self.security.silent(servers, reason)
    }

    fn no_session(&self, problem: String) -> Option<Client> {
        if self.status.problem("connect", Some(problem.clone())) {
            tracing::warn!(%problem, "registry unreachable");
        }
        None
    }

    /// Serves with this client until it ends; nobody else holds it then but requests under way.
    async fn serve(&self, client: Client, stop: &mut watch::Receiver<bool>) -> Ended {
        let mut states = client.state_watcher();
        let session = client.session_id();
        self.remember(session.0);
        tracing::info!(%session, "registry session");
        let ended = self.follow_states(&client, &mut states, stop).await;
        self.detach();
        *lock(&self.client) = None;
        drop(client);
        match &ended {
            // the session is closed once the server was told: then ephemeral nodes are gone
            Ended::Stopped => drop(tokio::time::timeout(Duration::from_millis(500), closed(states)).await),
            Ended::Expired(_) => tracing::warn!(%session, "registry session expired"),
            Ended::Lost(reason) => tracing::warn!(%session, reason, "registry session abandoned"),
            Ended::Refused => {
                let problem = "ZooKeeper refused our credentials; asked again in 60s";
                self.status.problem("connect", Some(problem.into()));
            }
        }
        ended
    }

    async fn follow_states(
        &self,
        client: &Client,
        states: &mut StateWatcher,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let mut state = states.peek_state();
        loop {
            match state {
                SessionState::SyncConnected | SessionState::ConnectedReadOnly => {
                    self.attach(client);
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return Ended::Stopped,
                        next = states.changed() => state = next,
                        () = self.guard(client) => return Ended::Lost("it no longer answers"),
                    }
                }
                SessionState::Disconnected => {
                    self.detach();
                    // the library's own back-off has no cap: half a session away is enough
                    let half = client.session_timeout() / 2;
                    let grace = half + half.mul_f64(fastrand::f64() / 4.0);
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return Ended::Stopped,
                        next = states.changed() => state = next,
                        () = tokio::time::sleep(grace) => return Ended::Lost("it was away for too long"),
                    }
                }
                SessionState::Expired => return Ended::Expired(client.session().clone()),
                SessionState::AuthFailed => return Ended::Refused,
                SessionState::Closed => return Ended::Lost("it was closed"),
            }
        }
    }

    /// Ends when the session doesn't answer although it seems connected.
    async fn guard(&self, client: &Client) {
        // an unknown answer shows up elsewhere
        let _ = self.check_root(client).await;
        loop {
            tokio::time::sleep(WATCHDOG).await;
            if self.check_root(client).await.is_err() {
                return;
            }
        }
    }

    fn attach(&self, client: &Client) {
        let session = client.session_id().0;
        let away = lock(&self.lost).take().map(|(since, former)| (since.elapsed(), former));
        let storm =
            away.is_some_and(|(away, former)| former != session || away > client.session_timeout() / 2);
        *lock(&self.client) = Some(client.clone());
        self.status.problem("connect", None);
        self.status.reached(Instant::now());
        self.link.send_modify(|link| {
            if link.epoch > 0 {
                self.status.reconnects.fetch_add(1, Relaxed);
            }
            *link = Link { epoch: link.epoch + 1, up: true, storm };
        });
    }

    fn detach(&self) {
        if let Some(client) = lock(&self.client).take() {
            *lock(&self.lost) = Some((Instant::now(), client.session_id().0));
        }
        self.link.send_if_modified(|link| std::mem::replace(&mut link.up, false));
    }

    /// Proves that the session answers; notes when the tree we look at isn't there at all.
    async fn check_root(&self, client: &Client) -> Result<(), Trouble> {
        let root = if self.root.is_empty() { "/" } else { &self.root };
        let there = self.answered(client.check_stat(root)).await?.is_some();
        let chroot = self.connect.find('/').and_then(|at| self.connect.get(at..)).unwrap_or_default();
        let problem = (!there).then(|| {
            format!("{chroot}{root} does not exist in ZooKeeper: every service reads as absent; create it, or mend the chroot of registry.zookeeper.connect or registry.root")
        });
        self.status.problem("root", problem);
        Ok(())
    }

    fn remember(&self, session: i64) {
        let mut sessions = lock(&self.sessions);
        if sessions.back() != Some(&session) {
            self.status.sessions.fetch_add(1, Relaxed);
            sessions.push_back(session);
        }
        if sessions.len() > FORMER_SESSIONS {
            sessions.pop_front();
        }
    }

    fn client(&self) -> Result<Client, Trouble> {
        let client = lock(&self.client).clone();
        client.ok_or_else(|| Trouble::Unknown("the registry can't be reached".into()))
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
        match tokio::time::timeout_at(deadline.into(), request).await {
            Ok(Ok(answer)) => {
                self.status.contact(Instant::now());
                Ok(answer)
            }
            Ok(Err(error)) => Err(trouble(error)),
            Err(_) => Err(Trouble::Unknown(format!("ZooKeeper did not answer within {}s", ANSWER.as_secs()))),
        }
    }

    /// Watches all `paths`; the requests leave at once.
    pub(super) async fn watch(
        &self,
        paths: &[String],
        reach: Reach,
        changes: &Arc<Changes>,
    ) -> Vec<Result<Watching, Trouble>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(trouble) => return paths.iter().map(|_| Err(trouble.clone())).collect(),
        };
        let mode = match reach {
            Reach::Node => AddWatchMode::Persistent,
            Reach::Subtree => AddWatchMode::PersistentRecursive,
        };
        let requests: Vec<_> = paths.iter().map(|path| client.watch(&self.full(path), mode)).collect();
        // all were sent at once: none has longer than the first
        let deadline = Instant::now() + ANSWER;
        let mut watches = Vec::new();
        for request in requests {
            let watcher = self.answered_by(deadline, request).await;
            watches.push(watcher.map(|watcher| {
                let mut task = JoinSet::new();
                task.spawn(drain(watcher, self.root.clone(), changes.clone(), self.status.clone()));
                Watching::ZooKeeper { _watch: task }
            }));
        }
        watches
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

async fn closed(mut states: StateWatcher) {
    while !states.changed().await.is_terminated() {}
}

/// Full jitter up to 0.1 s, doubling with every failure to 2 s.
fn pause(failures: u32) -> Duration {
    let most = Duration::from_millis(100 << failures.saturating_sub(1).min(8)).min(MAX_PAUSE);
    most.mul_f64(fastrand::f64())
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
