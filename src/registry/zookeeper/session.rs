//! Sessions: one connection after the other, in the same session as long as the ensemble keeps it.
//!
//! The library's own reconnects lose persistent watches, have a back-off without a cap, and close
//! the session if their client is dropped meanwhile. So a client lives as long as its one
//! connection: when that breaks, the client is ended without a word, and a new one takes the
//! session over.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zookeeper_client::{Client, SessionInfo, SessionState, StateWatcher};

use super::super::{Link, Trouble, lock};
use super::oneshot::{self, Ability, OneShot};
use super::security::servers;
use super::servers::Servers;
use super::{Here, Lost, ZooKeeper, cluster};
use crate::limits::backoff;

/// Longest pause between two attempts to connect, at first.
const MAX_PAUSE: Duration = Duration::from_millis(800);
/// The same where nobody answered for a minute.
const LONG_PAUSE: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);
/// Pause after the ensemble refused our credentials.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A connection that held for so long was a good one.
const GOOD: Duration = Duration::from_secs(5);
/// How long the end of a session is waited for.
const CLOSE: Duration = Duration::from_millis(500);
/// Why own providers are gone.
const SESSION_OVER: &str = "its session is over";
/// Sessions remembered as our own.
const FORMER_SESSIONS: usize = 64;

/// A client, and what its tasks run on.
pub(super) struct Connection {
    client: Client,
    home: Home,
    server: String,
    /// Of its server.
    ability: Ability,
}

/// Dropped, it ends all that runs on it: the server hears no more than a closed socket.
struct Home {
    runtime: Option<Runtime>,
    /// Must outlive its own tasks: they close the session when the last clone goes.
    client: Option<Client>,
}

/// Why there is no connection.
pub(super) enum Refusal {
    /// The session is over.
    Expired,
    /// Our credentials are not taken.
    Credentials(String),
    /// Nobody answers in time.
    Silent(String),
    /// Nobody takes connections, or answers as wanted.
    Unreached(String),
}

/// Why a connection is no longer used.
enum Ended {
    Stopped,
    Lost(&'static str),
}

impl Home {
    fn new() -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_stack_size(512 << 10).thread_name("zookeeper").enable_all();
        Ok(Self { runtime: Some(builder.build()?), client: None })
    }

    fn handle(&self) -> Option<&Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }
}

impl Home {
    /// Ends it; what is opened after that meets no client of before in its session.
    async fn end(mut self) {
        let ended = self.shut_down();
        // it failed only where the end was there already
        let _ = ended.await;
    }

    /// In a thread that may block, for a bounded time.
    fn shut_down(&mut self) -> JoinHandle<()> {
        let (runtime, client) = (self.runtime.take(), self.client.take());
        tokio::task::spawn_blocking(move || {
            runtime.into_iter().for_each(|runtime| runtime.shutdown_timeout(CLOSE));
            drop(client);
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.runtime.is_some() {
            self.shut_down();
        }
    }
}

impl ZooKeeper {
    /// When this ends the session is not closed.
    pub(in crate::registry) fn leave_session(&self) {
        self.leaves_session.store(true, Relaxed);
    }

    /// Keeps a session until `stop` turns true, then closes it.
    pub(in crate::registry) async fn supervise(&self, mut stop: watch::Receiver<bool>) {
        let (mut session, mut failures, mut servers) = (None, 0, Servers::new(servers(&self.connect)));
        loop {
            let opened = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                opened = self.open(session.clone(), &mut servers) => opened,
            };
            let mut pause = None;
            match opened {
                Ok(connection) => {
                    let since = Instant::now();
                    session = Some(connection.client.session().clone());
                    servers.left(connection.server.clone());
                    match self.serve(connection, &mut stop).await {
                        Ended::Stopped => return,
                        Ended::Lost(reason) => tracing::warn!(reason, "registry connection lost"),
                    }
                    failures = if since.elapsed() >= GOOD { 0 } else { failures + 1 };
                }
                Err(Refusal::Expired) => {
                    tracing::warn!("registry session expired");
                    self.status.disown(SESSION_OVER);
                    session = None;
                    continue;
                }
                Err(Refusal::Credentials(problem)) => {
                    self.no_session(problem);
                    pause = Some(REFUSED_PAUSE);
                }
                Err(Refusal::Silent(problem) | Refusal::Unreached(problem)) => {
                    self.no_session(problem);
                    failures += 1;
                }
            }
            let pause = pause.unwrap_or_else(|| self.pause(failures));
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Tries every server once; in the former session where there is one.
    async fn open(&self, session: Option<SessionInfo>, servers: &mut Servers) -> Result<Connection, Refusal> {
        let mut last = Refusal::Unreached("registry.zookeeper.connect: it names no server".into());
        let (patience, mut one_was_silent) = (servers.patience(self.session_timeout), false);
        for server in servers.in_order(Instant::now()) {
            match self.open_at(&server, session.clone(), patience).await {
                Err(problem @ Refusal::Silent(_)) => {
                    servers.silent(server, Instant::now());
                    (one_was_silent, last) = (true, problem);
                }
                Err(problem @ Refusal::Unreached(_)) => last = problem,
                Err(decided) => return Err(decided),
                Ok(connection) => {
                    servers.answered(&server);
                    return Ok(connection);
                }
            }
        }
        servers.round(one_was_silent);
        Err(last)
    }

    async fn open_at(
        &self,
        server: &str,
        mut session: Option<SessionInfo>,
        patience: Duration,
    ) -> Result<Connection, Refusal> {
        let mut old = false;
        loop {
            let (client, home) = self.open_client(server, session, old, patience).await?;
            match self.greet(&client, old).await {
                Ok(Ability::Old) if !old => {
                    session = Some(client.session().clone());
                    old = true;
                    home.end().await;
                }
                Ok(ability) => return Ok(Connection { client, home, server: server.to_owned(), ability }),
                Err(trouble) => {
                    home.end().await;
                    return Err(Refusal::Unreached(self.unreached(&trouble.to_string())));
                }
            }
        }
    }

    /// Finds out what the server can do; it may lag behind the one before.
    async fn greet(&self, client: &Client, old: bool) -> Result<Ability, Trouble> {
        let synced = client.sync("/");
        let mut ability = Ability::Old;
        if !old {
            ability = self.answered(oneshot::ability(client, &self.full(cluster::MARK))).await?;
            if ability == Ability::Old {
                return Ok(ability);
            }
        }
        self.answered(synced).await?;
        Ok(ability)
    }

    /// A client of one server; `old`: that knows only the requests of 3.4.
    async fn open_client(
        &self,
        server: &str,
        session: Option<SessionInfo>,
        old: bool,
        patience: Duration,
    ) -> Result<(Client, Home), Refusal> {
        let no_thread = |e| Refusal::Unreached(format!("no thread for ZooKeeper: {e}"));
        let mut home = Home::new().map_err(no_thread)?;
        let mut connector =
            Client::connector().with_session_timeout(self.session_timeout).with_fail_eagerly();
        let is_new = session.is_none();
        if let Some(session) = session {
            connector = connector.with_session(session);
        }
        if old {
            connector = connector.with_server_version(3, 4, 0);
        }
        let at = format!("{server}{}", self.chroot());
        let client = match on(&home, self.connect(connector, &at, patience)).await {
            // nothing was there that could be over: no ZooKeeper, or a proxy that is broken
            Err(Refusal::Expired) if is_new => {
                Err(Refusal::Unreached(self.unreached(&format!("{server} answers a new session with none"))))
            }
            connected => connected,
        }?;
        home.client = Some(client.clone());
        Ok((client, home))
    }

    pub(super) fn unreached(&self, reason: &str) -> String {
        let servers = self.connect.split('/').next().unwrap_or_default();
        self.security.silent(servers, reason)
    }

    fn no_session(&self, problem: String) {
        if self.status.problem("connect", Some(problem.clone())) {
            tracing::warn!(%problem, "registry unreachable");
        }
        if lock(&self.lost).as_ref().is_some_and(|lost| lost.since.elapsed() > lost.timeout) {
            self.status.disown("the registry was away for longer than its session lasts");
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let away = lock(&self.lost).as_ref().map(|lost| lost.since.elapsed());
        let cap = if away.is_some_and(|away| away > LONG) { LONG_PAUSE } else { MAX_PAUSE };
        backoff(failures + 1, cap, &mut fastrand::Rng::new())
    }

    /// Serves with this connection until it ends.
    async fn serve(&self, connection: Connection, stop: &mut watch::Receiver<bool>) -> Ended {
        let Connection { client, mut home, ability, .. } = connection;
        let mut states = client.state_watcher();
        let ended = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ended::Stopped,
            reason = lost(&mut states) => Ended::Lost(reason),
            () = self.work(&client, &home, ability) => Ended::Lost("it no longer answers"),
        };
        // dropped while the connection lives, they would be taken back
        let _watches = self.detach();
        if matches!(ended, Ended::Stopped) && !self.leaves_session.load(Relaxed) {
            home.client = None;
            drop(client);
            // the session ends once the server was told: then ephemeral nodes are gone
            let _ = tokio::time::timeout(CLOSE, closed(states)).await;
        }
        home.end().await;
        ended
    }

    /// Serves, once this is the ensemble we know, for as long as the connection answers.
    async fn work(&self, client: &Client, home: &Home, ability: Ability) {
        self.status.problem("connect", None);
        let session = client.session_id().0;
        if lock(&self.lost).as_ref().is_some_and(|lost| lost.session != session) {
            self.status.disown(SESSION_OVER);
        }
        self.trusted(client).await;
        self.attach(client, home, ability);
        self.watch_over(client).await;
    }

    fn attach(&self, client: &Client, home: &Home, ability: Ability) {
        let session = client.session_id();
        self.remember(session.0);
        let away = lock(&self.lost).take().map(|lost| (lost.since.elapsed(), lost.session));
        let is_new = away.is_none_or(|(_, former)| former != session.0);
        let storm = away.is_some_and(|(away, _)| is_new || away > client.session_timeout() / 2);
        let one_shot = ability != Ability::Persistent;
        tracing::info!(%session, is_new, one_shot, "registry reached");
        *lock(&self.here) = home.handle().map(|handle| Here {
            client: client.clone(),
            home: handle.clone(),
            old: ability == Ability::Old,
            one_shot: one_shot.then(|| OneShot::new(&self.root, self.status.clone(), handle.clone())),
        });
        self.status.reached(Some(Instant::now()));
        self.link.send_modify(|link| {
            if link.epoch > 0 {
                self.status.reconnects.fetch_add(1, Relaxed);
            }
            *link = Link { epoch: link.epoch + 1, up: true, storm, doubted: false };
        });
    }

    fn detach(&self) -> Option<Arc<OneShot>> {
        let here = lock(&self.here).take();
        self.end_trust();
        self.link.send_if_modified(|link| {
            let was = (link.up, link.doubted);
            (link.up, link.doubted) = (false, false);
            was != (false, false)
        });
        let here = here?;
        let (session, timeout) = (here.client.session_id().0, here.client.session_timeout());
        *lock(&self.lost) = Some(Lost { since: Instant::now(), session, timeout });
        here.one_shot
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

    pub(super) fn chroot(&self) -> &str {
        let chroot = self.connect.find('/').and_then(|at| self.connect.get(at..));
        chroot.unwrap_or_default().trim_end_matches('/')
    }
}

/// Polls `future` so that what it starts runs on `home`.
async fn on<F: Future>(home: &Home, future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        let _entered = home.handle().map(Handle::enter);
        future.as_mut().poll(cx)
    })
    .await
}

/// Waits until the connection is gone: any change of state, since only the latest one is told and
/// the library may have come back by itself.
async fn lost(states: &mut StateWatcher) -> &'static str {
    let first = states.state();
    let state = if first == SessionState::SyncConnected { states.changed().await } else { first };
    match state {
        SessionState::SyncConnected | SessionState::Disconnected => "it broke",
        SessionState::ConnectedReadOnly => "its server has no quorum",
        SessionState::Expired => "its session is over, or was taken over",
        SessionState::AuthFailed => "its credentials are no longer taken",
        SessionState::Closed => "it was closed",
    }
}

async fn closed(mut states: StateWatcher) {
    while !states.changed().await.is_terminated() {}
}
