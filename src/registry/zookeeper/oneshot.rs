//! Watches on servers that have no persistent ones: before 3.6, or with their optimized watch manager.
//!
//! A watch here fires once, and only a read sets it. So a watched path is noted as covered, and every
//! read of the mirror arms what it looks at below covered paths, unless that is armed already. A watch
//! that fires is noted as a change, and the read it causes arms anew. None is ever taken back: old
//! servers answer that with the end of the connection. So every answer is waited for, also where
//! whoever asked has given up: a watch that comes late counts like any other.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use zookeeper_client::MultiReadResult::{Children, Data};
use zookeeper_client::{AddWatchMode, Client, Error, EventType, MultiReadResult, OneshotWatcher};

use super::super::status::Status;
use super::super::{Changes, Reach, Trouble, lock};
use super::{ANSWER, in_time};

/// Nodes read at once and with one turn of the pace: such reads cost a server more than a multi-read.
pub(super) const NODES_AT_ONCE: usize = 16;

/// What the server of a connection can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ability {
    /// Persistent watches.
    Persistent,
    /// Watches that fire once.
    OneShot,
    /// The same, and it is about to close the connection over the question.
    Old,
}

/// What is watched for: data and existence are one watch to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Data,
    Children,
}

/// The watches of one connection.
pub(super) struct OneShot {
    root: String,
    status: Arc<Status>,
    /// Where the client's own tasks run: the watches end with them.
    home: Handle,
    /// For its watches, which must not keep it.
    me: Weak<OneShot>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whose changes are told to whom.
    covered: BTreeMap<String, Vec<(Reach, Arc<Changes>)>>,
    armed: HashSet<(Kind, String)>,
    waiting: JoinSet<()>,
}

/// A path whose changes are told, until dropped.
pub(in crate::registry) struct Cover {
    one_shot: Arc<OneShot>,
    path: String,
    changes: Arc<Changes>,
}

/// A node to read, and whether its children too.
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) children: bool,
    /// Whether its making is to be heard of where it is not there.
    pub(super) awaited: bool,
}

/// A read on its way.
struct Request<'a> {
    kind: Kind,
    path: &'a str,
    /// The node is heard of though it can't be read for one of these reasons.
    awaits: &'static [Error],
    answer: Answer<'a>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Answered, Error>> + Send + 'a>>;
type Answered = (MultiReadResult, Option<OneshotWatcher>);

/// Asks for a persistent watch at `path`, where nothing much happens.
pub(super) async fn ability(client: &Client, path: &str) -> Result<Ability, Error> {
    match client.watch(path, AddWatchMode::Persistent).await {
        Ok(_) | Err(Error::NoAuth) => Ok(Ability::Persistent),
        Err(Error::MarshallingError) => Ok(Ability::OneShot),
        Err(Error::Unimplemented) => Ok(Ability::Old),
        Err(error) => Err(error),
    }
}

impl OneShot {
    pub(super) fn new(root: &str, status: Arc<Status>, home: Handle) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            root: root.to_owned(),
            status,
            home,
            me: me.clone(),
            state: Mutex::default(),
        })
    }

    /// From now on changes at `path` (in full) are told, as far as reads arm them.
    pub(super) fn cover(self: &Arc<Self>, path: String, reach: Reach, changes: &Arc<Changes>) -> Cover {
        lock(&self.state).covered.entry(path.clone()).or_default().push((reach, changes.clone()));
        Cover { one_shot: self.clone(), path, changes: changes.clone() }
    }

    /// Reads nodes, answering as a multi-read would; `arm`: what is covered is watched.
    pub(super) async fn read(
        &self,
        client: &Client,
        asked: Vec<Asked>,
        arm: bool,
    ) -> Result<Vec<MultiReadResult>, Trouble> {
        let (tell, told) = tokio::sync::oneshot::channel();
        if let Some(me) = self.me.upgrade() {
            let client = client.clone();
            let asks = async move {
                // nobody listens where it took too long
                let _ = tell.send(me.ask(&client, &asked, arm).await);
            };
            lock(&self.state).waiting.spawn_on(asks, &self.home);
        }
        let answers = async { told.await.unwrap_or(Err(Error::ClientClosed)) };
        in_time(Instant::now() + ANSWER, answers).await
    }

    /// Asks, and waits for every answer, however late it is, or the end of the connection.
    async fn ask(&self, client: &Client, asked: &[Asked], arm: bool) -> Result<Vec<MultiReadResult>, Error> {
        let mut requests = Vec::new();
        for asked in asked {
            let arms = |kind| arm && self.needs(kind, &asked.path);
            requests.push(Request::data(client, asked, arms(Kind::Data)));
            if asked.children {
                requests.push(Request::children(client, asked, arms(Kind::Children)));
            }
        }
        let (mut answers, mut failed) = (Vec::new(), None);
        for request in requests {
            match self.take(client, request).await {
                Ok(answer) => answers.push(answer),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(answers), Err)
    }

    /// Waits for one answer, and keeps the watch that came with it.
    async fn take(&self, client: &Client, request: Request<'_>) -> Result<MultiReadResult, Error> {
        let Request { kind, path, awaits, answer } = request;
        let (answer, watcher) = self.counted(answer).await?;
        if let Some(watcher) = watcher {
            self.arm(kind, path, watcher);
        } else if let MultiReadResult::Error { err } = &answer
            && awaits.contains(err)
        {
            self.await_change(client, path, *err == Error::NoNode).await?;
        }
        Ok(answer)
    }

    /// Hears of the node that was not there, or that may not be read; where it came meanwhile, that is a change.
    async fn await_change(&self, client: &Client, path: &str, was_absent: bool) -> Result<(), Error> {
        let (there, watcher) = self.counted(client.check_and_watch_stat(path)).await?;
        self.arm(Kind::Data, path, watcher);
        if was_absent && there.is_some() {
            self.tell(path);
        }
        Ok(())
    }

    async fn counted<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.status.operations.fetch_add(1, Relaxed);
        let answer = request.await?;
        self.status.contact(Instant::now());
        Ok(answer)
    }

    /// Whether somebody wants to hear of `path`, and nothing is armed there.
    fn needs(&self, kind: Kind, path: &str) -> bool {
        let state = lock(&self.state);
        state.listeners(path).next().is_some() && !state.armed.contains(&(kind, path.to_owned()))
    }

    fn arm(&self, kind: Kind, path: &str, watcher: OneshotWatcher) {
        let (me, at) = (self.me.clone(), path.to_owned());
        let mut state = lock(&self.state);
        state.armed.insert((kind, at.clone()));
        while state.waiting.try_join_next().is_some() {}
        let fires = async move {
            let event = watcher.changed().await;
            if event.event_type != EventType::Session
                && let Some(one_shot) = me.upgrade()
            {
                one_shot.fired(kind, at);
            }
        };
        state.waiting.spawn_on(fires, &self.home);
    }

    fn fired(&self, kind: Kind, path: String) {
        self.status.events.fetch_add(1, Relaxed);
        let armed = (kind, path);
        // first, so that the read that follows arms it anew
        lock(&self.state).armed.remove(&armed);
        self.tell(&armed.1);
    }

    fn tell(&self, path: &str) {
        let short = path.strip_prefix(&self.root).unwrap_or(path);
        lock(&self.state).listeners(path).for_each(|changes| changes.note(short.to_owned()));
    }
}

impl State {
    /// Who hears of changes at `path`: what covers it, and subtrees it is in.
    fn listeners(&self, path: &str) -> impl Iterator<Item = &Arc<Changes>> {
        let here = self.covered.get(path).into_iter().flatten();
        let above = path.rmatch_indices('/').filter_map(|(end, _)| self.covered.get(path.get(..end)?));
        let above = above.flatten().filter(|(reach, _)| *reach == Reach::Subtree);
        here.chain(above).map(|(_, changes)| changes)
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        let mut state = lock(&self.one_shot.state);
        if let Some(covers) = state.covered.get_mut(&self.path) {
            let mine = covers.iter().position(|(_, changes)| Arc::ptr_eq(changes, &self.changes));
            mine.into_iter().for_each(|at| drop(covers.swap_remove(at)));
            if covers.is_empty() {
                state.covered.remove(&self.path);
            }
        }
    }
}

impl<'a> Request<'a> {
    /// Leaves at once.
    fn data(client: &'a Client, asked: &'a Asked, arms: bool) -> Self {
        let (path, awaited) = (asked.path.as_str(), asked.awaited);
        let answer: Answer<'a> = if arms {
            let read = client.get_and_watch_data(path);
            Box::pin(async move {
                or_absent(read.await.map(|(data, stat, watcher)| (Data { data, stat }, Some(watcher))))
            })
        } else {
            let read = client.get_data(path);
            Box::pin(async move { or_absent(read.await.map(|(data, stat)| (Data { data, stat }, None))) })
        };
        let awaits: &[Error] = match (arms, awaited) {
            (true, true) => &[Error::NoNode, Error::NoAuth],
            (true, false) => &[Error::NoAuth],
            (false, _) => &[],
        };
        Self { kind: Kind::Data, path, awaits, answer }
    }

    /// Leaves at once.
    fn children(client: &'a Client, asked: &'a Asked, arms: bool) -> Self {
        let path = asked.path.as_str();
        let answer: Answer<'a> = if arms {
            let read = client.list_and_watch_children(path);
            Box::pin(async move {
                or_absent(read.await.map(|(children, watcher)| (Children { children }, Some(watcher))))
            })
        } else {
            let read = client.list_children(path);
            Box::pin(async move { or_absent(read.await.map(|children| (Children { children }, None))) })
        };
        Self { kind: Kind::Children, path, awaits: &[], answer }
    }
}

/// A node that is not there, or not for us, fails its own part alone.
fn or_absent(read: Result<Answered, Error>) -> Result<Answered, Error> {
    match read {
        Err(err @ (Error::NoNode | Error::NoAuth)) => Ok((MultiReadResult::Error { err }, None)),
        read => read,
    }
}
