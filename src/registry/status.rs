//! How it stands with the registry, for operators.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use serde::Serialize;

use super::{Link, lock};

/// Why an own provider is not registered just after the start; nothing is wrong yet.
pub(super) const NOT_CHECKED: &str = "its first health checks are not done";

/// What [`Source::status`](super::Source::status) tells.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// `embedded` or `zookeeper`.
    pub source: &'static str,
    /// Whether the registry can be asked now.
    pub connected: bool,
    /// Whether the one that is reached is the one that is known; true as well while none is.
    pub believed: bool,
    /// Whether it was reached once.
    pub ready: bool,
    /// ZooKeeper's session, `0x…`.
    pub session: Option<String>,
    /// Milliseconds since the registry last answered; `None`: never yet.
    pub last_contact_ms: Option<u64>,
    /// Connections made again, in the same session or not.
    pub reconnects: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Requests sent.
    pub operations: u64,
    /// Changes heard of.
    pub events: u64,
    /// Services kept up to date.
    pub services: usize,
    /// Paths watched.
    pub watched_paths: usize,
    /// Bytes of these paths.
    pub watched_bytes: usize,
    /// Whether each watch fires once and is set anew by a read: ZooKeeper before 3.6.
    pub one_shot: bool,
    /// Differences found between the view and the registry that no event explains; must stay 0.
    pub drift: u64,
    /// Providers that vanished with many others and are kept as a last resort.
    pub held_providers: usize,
    /// What these mean, while there are some.
    pub held_note: Option<String>,
    /// What is wrong now, each with its way out.
    pub problems: Vec<String>,
    /// What each of them is about, in one word.
    #[serde(skip)]
    pub topics: Vec<&'static str>,
    /// This host's own providers.
    pub own: Vec<OwnReport>,
}

/// How it stands with one provider of this host.
#[derive(Debug, Clone, Serialize)]
pub struct OwnReport {
    /// Its node.
    pub path: String,
    /// Whether the node is there and ours, as far as anybody knows.
    pub registered: bool,
    /// Why not, where it should be.
    pub note: Option<String>,
}

/// What is counted and noted by all parts of the registry.
#[derive(Default)]
pub(super) struct Status {
    ready: AtomicBool,
    pub(super) reconnects: AtomicU64,
    pub(super) sessions: AtomicU64,
    pub(super) operations: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) drift: AtomicU64,
    held: AtomicUsize,
    services: AtomicUsize,
    watched_paths: AtomicUsize,
    watched_bytes: AtomicUsize,
    last_contact: Mutex<Option<Instant>>,
    problems: Mutex<BTreeMap<&'static str, String>>,
    own: Mutex<BTreeMap<String, (bool, Option<String>)>>,
}

impl Status {
    pub(super) fn ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    /// There is something to serve; `now`: the registry itself was reached.
    pub(super) fn reached(&self, now: Option<Instant>) {
        self.ready.store(true, Relaxed);
        now.into_iter().for_each(|now| self.contact(now));
    }

    pub(super) fn contact(&self, now: Instant) {
        *lock(&self.last_contact) = Some(now);
    }

    /// Sets or clears what is wrong with `topic`; true if that is news.
    pub(super) fn problem(&self, topic: &'static str, problem: Option<String>) -> bool {
        let mut problems = lock(&self.problems);
        match problem {
            Some(text) => problems.insert(topic, text.clone()) != Some(text),
            None => problems.remove(topic).is_some(),
        }
    }

    pub(super) fn first_problem(&self) -> Option<String> {
        lock(&self.problems).values().next().cloned()
    }

    pub(super) fn problem_of(&self, topic: &str) -> Option<String> {
        lock(&self.problems).get(topic).cloned()
    }

    /// Notes how it stands with an own provider, and logs what is news.
    pub(super) fn own(&self, path: &str, registered: bool, note: Option<String>) {
        let before = lock(&self.own).insert(path.to_owned(), (registered, note.clone()));
        if before.as_ref() == Some(&(registered, note.clone())) {
            return;
        }
        let was = before.is_some_and(|(was, _)| was);
        match (registered, note) {
            (true, _) if !was => tracing::info!(node = path, "own provider registered"),
            (true, _) => {}
            (false, Some(reason)) if reason == NOT_CHECKED => {
                tracing::info!(node = path, reason, "own provider is not registered yet");
            }
            (false, Some(reason)) => tracing::warn!(node = path, reason, "own provider is not registered"),
            (false, None) => {}
        }
    }

    /// The session is over: own providers went with it.
    pub(super) fn disown(&self, why: &str) {
        let mut gone: Vec<_> =
            lock(&self.own).iter().map(|(path, (there, _))| (path.clone(), *there)).collect();
        gone.retain(|(_, registered)| *registered);
        gone.iter().for_each(|(path, _)| self.own(path, false, Some(why.to_owned())));
    }

    pub(super) fn watched(&self, services: usize, (paths, bytes): (usize, usize)) {
        self.services.store(services, Relaxed);
        self.watched_paths.store(paths, Relaxed);
        self.watched_bytes.store(bytes, Relaxed);
    }

    /// Notes how many providers are held; returns how many were before.
    pub(super) fn held(&self, providers: usize) -> usize {
        self.held.swap(providers, Relaxed)
    }

    pub(super) fn report(
        &self,
        source: &'static str,
        link: Link,
        session: Option<String>,
        one_shot: bool,
    ) -> StatusReport {
        let own = lock(&self.own);
        let own = own.iter().map(|(path, (registered, note))| OwnReport {
            path: path.clone(),
            registered: *registered,
            note: note.clone(),
        });
        let held = self.held.load(Relaxed);
        let contact = *lock(&self.last_contact);
        let problems = lock(&self.problems);
        StatusReport {
            source,
            connected: link.up,
            believed: !link.doubted,
            ready: self.ready(),
            session,
            last_contact_ms: contact.map(|at| at.elapsed().as_millis() as u64),
            reconnects: self.reconnects.load(Relaxed),
            sessions: self.sessions.load(Relaxed),
            operations: self.operations.load(Relaxed),
            events: self.events.load(Relaxed),
            services: self.services.load(Relaxed),
            watched_paths: self.watched_paths.load(Relaxed),
            watched_bytes: self.watched_bytes.load(Relaxed),
            one_shot,
            drift: self.drift.load(Relaxed),
            held_providers: held,
            held_note: (held > 0).then(|| held_note(held)),
            problems: problems.values().cloned().collect(),
            topics: problems.keys().copied().collect(),
            own: own.collect(),
        }
    }
}

fn held_note(held: usize) -> String {
    format!(
        "{held} providers vanished at once with many others: see what took them down; each is called only where no other is left, until it is back, is not reached, or 120 s are over"
    )
}
