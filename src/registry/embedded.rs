//! The registry in memory, kept in a YAML file of this host and followed when that is edited.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::sync::watch;

use super::file;
use super::layout::Scope;
use super::status::Status;
use super::{Changes, Doomed, Held, Link, Node, Owner, Reach, Spared, Trouble, Watching, Write, lock};
use text::{HEADER, parse, render};

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(200);
/// A file untouched for this long is not read again to see whether it changed.
const SETTLED: Duration = Duration::from_secs(2);

/// Why the registry can't be opened; its Display names the file and the way out.
#[derive(Debug)]
pub struct OpenError {
    file: PathBuf,
    problem: String,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registry.embedded.file: {}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for OpenError {}

/// A watch, until dropped.
pub(super) type Watch = Arc<Watcher>;

pub(super) struct Watcher {
    path: String,
    reach: Reach,
    changes: Arc<Changes>,
}

pub(super) struct Embedded {
    file: PathBuf,
    root: String,
    tree: Mutex<Tree>,
    link: watch::Sender<Link>,
    status: Arc<Status>,
}

#[derive(Default)]
struct Tree {
    root: String,
    seen: Seen,
    /// Entries of the file, by full path.
    lasting: BTreeMap<String, Vec<u8>>,
    ephemeral: BTreeMap<String, Vec<u8>>,
    /// Both, and the parents they imply.
    nodes: BTreeMap<String, Stored>,
    watchers: Vec<Weak<Watcher>>,
}

/// The file as it was read last.
#[derive(Default)]
struct Seen {
    text: String,
    length: u64,
    modified: Option<SystemTime>,
}

#[derive(Clone, PartialEq, Default)]
struct Stored {
    data: Vec<u8>,
    ephemeral: bool,
}

impl Embedded {
    pub(super) fn open(file: &Path, root: &str, status: Arc<Status>) -> Result<Self, OpenError> {
        let wrong = |problem: String| OpenError { file: file.to_owned(), problem };
        if let Err(error) = fs::symlink_metadata(file)
            && error.kind() == io::ErrorKind::NotFound
        {
            let reason = "it is missing and can't be made; name one in a directory that can be written";
            file::replace(file, format!("{HEADER}{{}}\n").as_bytes(), 0o644)
                .map_err(|e| wrong(format!("{reason}: {e}")))?;
        }
        let seen = Seen::read(file).map_err(|e| wrong(format!("it can't be read: {e}")))?;
        let lasting = parse(&seen.text).map_err(wrong)?;
        let mut tree = Tree { root: root.to_owned(), lasting, seen, ..Tree::default() };
        tree.rebuild();
        status.reached(Some(Instant::now()));
        let link = watch::Sender::new(Link { epoch: 1, up: true, ..Link::default() });
        Ok(Self { file: file.to_owned(), root: root.to_owned(), tree: Mutex::new(tree), link, status })
    }

    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Follows the file until `stop` turns true.
    pub(super) async fn supervise(&self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(POLL) => self.follow(),
            }
        }
    }

    /// Looks at the file now.
    pub(super) fn follow(&self) {
        let mut tree = lock(&self.tree);
        match tree.refresh(&self.file, SystemTime::now()) {
            Ok(changed) => {
                self.status.events.fetch_add(changed, Relaxed);
                self.status.problem("file", None);
                self.status.contact(Instant::now());
            }
            Err(problem) => {
                let problem = OpenError { file: self.file.clone(), problem };
                let text = format!("{problem}; what was read before stays in force");
                if self.status.problem("file", Some(text.clone())) {
                    tracing::warn!(problem = %text, "the registry file is not used");
                }
            }
        }
    }

    pub(super) fn read(&self, scopes: &[Scope]) -> Vec<Node> {
        self.status.operations.fetch_add(1, Relaxed);
        let tree = lock(&self.tree);
        scopes.iter().flat_map(|scope| self.read_one(&tree, scope)).collect()
    }

    fn read_one(&self, tree: &Tree, scope: &Scope) -> Vec<Node> {
        let top = format!("{}{}", self.root, scope.path);
        let within = |path: &str| {
            let Some(below) = path.strip_prefix(&top) else { return false };
            below.split('/').skip(1).enumerate().all(|(level, name)| scope.wants(level + 1, name))
        };
        let nodes = tree.nodes.range(top.clone()..).take_while(|(path, _)| path.starts_with(&top));
        nodes
            .filter(|(path, _)| is_at_or_below(path, &top) && within(path))
            .map(|(path, stored)| Node {
                path: path.strip_prefix(&self.root).unwrap_or(path).to_owned(),
                data: Ok(stored.data.clone()),
                ephemeral: stored.ephemeral,
            })
            .collect()
    }

    pub(super) fn watch(
        &self,
        paths: &[String],
        reach: Reach,
        changes: &Arc<Changes>,
    ) -> Vec<Result<Watching, Trouble>> {
        let mut tree = lock(&self.tree);
        tree.watchers.retain(|watcher| watcher.strong_count() > 0);
        let watch = |path: &String| {
            let watcher = Arc::new(Watcher { path: path.clone(), reach, changes: changes.clone() });
            tree.watchers.push(Arc::downgrade(&watcher));
            Ok(Watching::Embedded { _watch: watcher })
        };
        paths.iter().map(watch).collect()
    }

    pub(super) fn put(&self, path: &str, data: &[u8]) -> Result<(), Trouble> {
        let path = format!("{}{path}", self.root);
        self.write(|lasting| {
            lasting.insert(path, data.to_vec());
            Ok(())
        })
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), Trouble> {
        let path = format!("{}{path}", self.root);
        self.write(|lasting| {
            let before = lasting.len();
            remove(lasting, &path);
            if lasting.len() == before { Err(Trouble::NoNode) } else { Ok(()) }
        })
    }

    /// Writes in this order, with one write of the file; fails with the one that can't be done.
    pub(super) fn write_all(&self, writes: &[Write]) -> Result<Vec<Spared>, (usize, Trouble)> {
        // anything but JSON would make the whole file unreadable
        let json = |data: &[u8]| {
            let value = serde_json::from_slice::<Value>(data);
            value.map_err(|e| Trouble::Refused(format!("a file can't hold it: {e}")))
        };
        for (at, write) in writes.iter().enumerate() {
            if let Write::Put(_, data) = write {
                json(data).map_err(|trouble| (at, trouble))?;
            }
        }
        let full = |path: &str| format!("{}{path}", self.root);
        let mut kept = Vec::new();
        let change = |lasting: &mut BTreeMap<String, Vec<u8>>| {
            for (at, write) in writes.iter().enumerate() {
                match write {
                    Write::Put(path, data) => {
                        drop(lasting.insert(full(path), json(data)?.to_string().into_bytes()));
                    }
                    Write::Remove(path) => remove(lasting, &full(path)),
                    Write::Prune(doomed) => {
                        let stays = doomed.iter().find(|node| !prune(lasting, &full(&node.path), node));
                        kept.extend(stays.map(|node| Spared { at, path: node.path.clone() }));
                    }
                }
            }
            Ok(())
        };
        self.write(change).map_err(|trouble| (0, trouble))?;
        Ok(kept)
    }

    /// Changes the file, read anew, and then what is known of it.
    fn write(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let refused =
            |problem: String| Trouble::Refused(OpenError { file: self.file.clone(), problem }.to_string());
        let mut tree = lock(&self.tree);
        // another process may write too: none loses what the other wrote
        let _only_one = lock_beside(&self.file).map_err(|e| refused(format!("it can't be locked: {e}")))?;
        tree.refresh(&self.file, SystemTime::now()).map_err(refused)?;
        let mut lasting = tree.lasting.clone();
        change(&mut lasting)?;
        let text = render(&tree.seen.text, &lasting);
        file::replace(&self.file, text.as_bytes(), 0o644)
            .map_err(|e| refused(format!("it can't be written: {e}")))?;
        tree.refresh(&self.file, SystemTime::now()).map_err(refused)?;
        Ok(())
    }

    pub(super) fn held(&self, path: &str) -> Option<Held> {
        let full = format!("{}{path}", self.root);
        let stored = lock(&self.tree).nodes.get(&full)?.clone();
        let owner = if stored.ephemeral { Owner::Me } else { Owner::Nobody };
        Some(Held { owner, born: 0, written: 0, version: 0, data: stored.data })
    }

    pub(super) fn create_ephemeral(&self, path: &str, data: &[u8]) -> Result<(), Trouble> {
        let full = format!("{}{path}", self.root);
        let mut tree = lock(&self.tree);
        tree.ephemeral.insert(full, data.to_vec());
        tree.rebuild();
        Ok(())
    }

    pub(super) fn release(&self, path: &str) -> Result<(), Trouble> {
        let full = format!("{}{path}", self.root);
        let mut tree = lock(&self.tree);
        tree.ephemeral.remove(&full);
        tree.rebuild();
        Ok(())
    }
}

impl Tree {
    /// Reads the file if it may have changed; returns how many nodes did.
    fn refresh(&mut self, file: &Path, now: SystemTime) -> Result<u64, String> {
        let wrong = |e: io::Error| format!("it can't be read: {e}");
        let now_there = fs::metadata(file).map_err(wrong)?;
        if self.seen.is_surely(&now_there, now) {
            return Ok(0);
        }
        let seen = Seen::read(file).map_err(wrong)?;
        if seen.text == self.seen.text && self.seen.modified.is_some() {
            self.seen = seen;
            return Ok(0);
        }
        if seen.text.trim().is_empty() && !self.lasting.is_empty() {
            return Err("it is empty, as while an editor writes it; `{}` says that there is nothing".into());
        }
        self.lasting = parse(&seen.text)?;
        self.seen = seen;
        Ok(self.rebuild())
    }

    /// Merges what is known, and tells the watchers what changed; returns how many nodes that is.
    fn rebuild(&mut self) -> u64 {
        let mut nodes = BTreeMap::new();
        for path in self.lasting.keys().chain(self.ephemeral.keys()) {
            let parents = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
            for parent in parents.filter(|parent| !parent.is_empty()) {
                nodes.entry(parent.to_owned()).or_insert_with(Stored::default);
            }
        }
        let stored = |data: &Vec<u8>, ephemeral| Stored { data: data.clone(), ephemeral };
        nodes.extend(self.ephemeral.iter().map(|(path, data)| (path.clone(), stored(data, true))));
        nodes.extend(self.lasting.iter().map(|(path, data)| (path.clone(), stored(data, false))));
        let before = std::mem::replace(&mut self.nodes, nodes);
        let differs = |path: &&String| before.get(*path) != self.nodes.get(*path);
        let changed: BTreeSet<_> = before.keys().chain(self.nodes.keys()).filter(differs).collect();
        for path in &changed {
            let path = path.strip_prefix(&self.root).unwrap_or(path);
            self.watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.tell(path));
        }
        changed.len() as u64
    }
}

impl Watcher {
    fn tell(&self, path: &str) {
        let heard = match self.reach {
            Reach::Node => path == self.path,
            Reach::Subtree => is_at_or_below(path, &self.path),
        };
        if heard {
            self.changes.note(path.to_owned());
        }
    }
}

impl Seen {
    fn read(file: &Path) -> io::Result<Self> {
        // looked at before it is read: an edit in between is found by the next look
        let there = fs::metadata(file)?;
        let text = fs::read_to_string(file)?;
        Ok(Self { text, length: there.len(), modified: there.modified().ok() })
    }

    /// Whether the file is as it was read: clocks of file systems are coarse, so a fresh one may not be.
    fn is_surely(&self, there: &fs::Metadata, now: SystemTime) -> bool {
        let settled = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > SETTLED);
        let modified = there.modified().ok();
        self.length == there.len() && self.modified == modified && modified.is_some_and(settled)
    }
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

fn remove(lasting: &mut BTreeMap<String, Vec<u8>>, path: &str) {
    lasting.retain(|known, _| !is_at_or_below(known, path));
}

/// Removes an entry if it is as it was; false if not.
fn prune(lasting: &mut BTreeMap<String, Vec<u8>>, path: &str, doomed: &Doomed) -> bool {
    if let Some(held) = &doomed.held {
        let is_below = |known: &String| known != path && is_at_or_below(known, path);
        if lasting.get(path).is_some_and(|data| data != held) || lasting.keys().any(is_below) {
            return false;
        }
    }
    remove(lasting, path);
    true
}

/// Holds the lock of the file's directory, the file itself being replaced by every write.
fn lock_beside(file: &Path) -> io::Result<fs::File> {
    let file = fs::canonicalize(file)?;
    let held = fs::File::open(file::directory(&file))?;
    held.lock()?;
    Ok(held)
}
