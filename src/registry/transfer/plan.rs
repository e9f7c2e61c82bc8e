//! What has to be written so that a registry contains a document.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::gather::is_parent;
use super::{Data, Document, Entry, convert, gather, word};
use crate::model::Layout;
use crate::registry::layout::{self, Kind};
use crate::registry::{Doomed, Node, Write};

/// What `import` is asked for beside adding and changing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// Lasting entries that the document doesn't have are removed.
    pub prune: bool,
    /// Entries that remora can't read are written all the same, unless they are too large.
    pub as_is: bool,
}

/// One write; its Display is its part of the diff, without the end of the last line.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The node, below the root.
    pub(super) path: String,
    kind: Kind,
    name: String,
    /// What stands there; `None`: nothing.
    before: Option<Data>,
    /// What will; `None`: nothing.
    pub(super) after: Option<Data>,
    /// How it is done.
    write: Write,
}

/// All writes, in their order.
#[derive(Debug, Default)]
pub struct Plan {
    /// Each of them makes sense after those before it.
    pub changes: Vec<Change>,
    /// Entries that are as they should be.
    pub unchanged: usize,
    /// What is worth knowing before it is done.
    pub notes: Vec<String>,
    /// Parents that nothing is left below; removed at the end.
    empty: Vec<Doomed>,
}

/// Compares `document` with all `nodes` of a registry; fails with all that is wrong in the document.
pub fn plan(layout: Layout, document: Document, nodes: &[Node], wish: Wish) -> Result<Plan, Vec<String>> {
    let (document, findings) = convert::into(layout, document);
    let mut problems = findings.refused;
    let mut plan = Plan { notes: findings.notes, ..Plan::default() };
    let mut wanted = BTreeMap::new();
    for entry in document.entries() {
        let what = format!("{} {}", word(entry.kind), entry.name);
        match layout::data(entry.data.bytes()).map(|data| layout.check(entry.kind, &entry.name, &data)) {
            Ok(Ok(())) => {}
            Ok(Err(reason)) if wish.as_is => plan.notes.push(format!("{what}: written as it is: {reason}")),
            // more than a node may hold costs the connection, and with it all that is under way
            Ok(Err(reason)) | Err(reason) => problems.push(format!("{what}: {reason}")),
        }
        match layout.node_path(entry.kind, &entry.name) {
            Ok(path) => drop(wanted.insert(path, entry)),
            Err(reason) => problems.push(format!("{what}: {reason}")),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    plan.compare(layout, wanted, nodes, wish.prune);
    plan.changes.sort_by_key(|change| (change.rank(layout), change.level(), change.path.clone()));
    Ok(plan)
}

impl Plan {
    fn compare(&mut self, layout: Layout, wanted: BTreeMap<String, Entry>, nodes: &[Node], prune: bool) {
        let gathered = gather(layout, nodes);
        let mut known = BTreeMap::new();
        for entry in gathered.document.entries() {
            known.extend(layout.node_path(entry.kind, &entry.name).map(|path| (path, entry)));
        }
        let unreadable: BTreeMap<_, _> = gathered.left_out.into_iter().collect();
        let ephemeral: BTreeSet<_> =
            nodes.iter().filter(|node| node.ephemeral).map(|node| node.path.as_str()).collect();
        let mut staying: BTreeSet<_> = wanted.keys().chain(unreadable.keys()).cloned().collect();
        staying.extend(ephemeral.iter().map(|path| (*path).to_owned()));
        for (path, entry) in wanted {
            let bad = || unreadable.get(&path).map(|reason| Data::Text(format!("(unreadable: {reason})")));
            let before = known.remove(&path).map(|known| known.data).or_else(bad);
            let empty_list = before.is_none() && entry.data.is_empty() && is_parent(layout, &path);
            if ephemeral.contains(path.as_str()) {
                let what = format!("{} {}", word(entry.kind), entry.name);
                self.notes.push(format!("{what}: it registered itself, and its node stays as it is"));
            } else if empty_list || before.as_ref() == Some(&entry.data) {
                self.unchanged += 1;
            } else {
                self.changes.push(Change::put(path, entry, before));
            }
        }
        if prune {
            self.prune(layout, known, nodes, &mut staying);
        }
    }

    /// Removes what is left of the known entries, from below; a node with something below it stays.
    fn prune(
        &mut self,
        layout: Layout,
        known: BTreeMap<String, Entry>,
        nodes: &[Node],
        staying: &mut BTreeSet<String>,
    ) {
        let parents: Vec<_> = nodes.iter().filter(|node| is_parent(layout, &node.path)).collect();
        let held: BTreeMap<_, _> =
            nodes.iter().filter_map(|node| Some((node.path.as_str(), node.data.as_ref().ok()?))).collect();
        let doom = |path: &str| {
            let held = held.get(path).map(|data| (*data).clone()).unwrap_or_default();
            Doomed { path: path.to_owned(), held: Some(held) }
        };
        for (path, entry) in known.into_iter().rev() {
            let before = Some(entry.data.clone());
            if !has_below(staying, &path) {
                let own = parents.iter().rev().filter(|node| is_child(&node.path, &path));
                let mut doomed: Vec<_> = own.map(|node| doom(&node.path)).collect();
                // who calls it is not read, and goes with it
                doomed.extend(consumers(layout, entry.kind, &path));
                doomed.push(doom(&path));
                self.changes.push(Change::removal(path, entry, doomed));
                continue;
            }
            staying.insert(path.clone());
            if is_parent(layout, &path) {
                self.changes.push(Change::put(path, Entry { data: Data::default(), ..entry }, before));
            } else {
                let what = format!("{} {}", word(entry.kind), entry.name);
                self.notes.push(format!("{what}: it stays for what stands below it, which is not import's"));
            }
        }
        if layout == Layout::Flat {
            let gone: BTreeSet<_> = self.changes.iter().map(|change| &change.path).collect();
            let empty = parents.iter().map(|node| &node.path).filter(|path| {
                path.matches('/').count() > 1
                    && !gone.contains(path)
                    && !staying.contains(*path)
                    && !has_below(staying, path)
            });
            self.empty = empty.map(|path| doom(path)).collect();
        }
    }

    /// What has to be written: one write for each change, in their order, and then one for each empty parent.
    pub fn writes(&self) -> Vec<Write> {
        let changes = self.changes.iter().map(|change| change.write.clone());
        changes.chain(self.empty.iter().map(|doomed| Write::Prune(vec![doomed.clone()]))).collect()
    }
}

/// What stands below an API for those that call it.
fn consumers(layout: Layout, kind: Kind, path: &str) -> Option<Doomed> {
    let has_some = layout == Layout::Tree && kind == Kind::Api;
    has_some.then(|| Doomed { path: format!("{path}/consumers"), held: None })
}

fn is_child(path: &str, of: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, _)| parent == of)
}

fn has_below(paths: &BTreeSet<String>, path: &str) -> bool {
    let start = format!("{path}/");
    paths.range(start.clone()..).next().is_some_and(|next| next.starts_with(&start))
}

impl Change {
    fn put(path: String, entry: Entry, before: Option<Data>) -> Self {
        let Entry { kind, name, data } = entry;
        let write = Write::Put(path.clone(), data.bytes());
        Self { path, kind, name, before, after: Some(data), write }
    }

    fn removal(path: String, entry: Entry, doomed: Vec<Doomed>) -> Self {
        let Entry { kind, name, data } = entry;
        Self { path, kind, name, before: Some(data), after: None, write: Write::Prune(doomed) }
    }

    /// Of those of one rank: what is removed goes after what stands below it.
    fn level(&self) -> Reverse<usize> {
        Reverse(if self.after.is_none() { self.path.matches('/').count() } else { 0 })
    }

    /// Its place in the order: who reads meanwhile finds no provider before the rules of its service,
    /// and no key asked for before callers have theirs.
    fn rank(&self, layout: Layout) -> u8 {
        match (self.kind, &self.before, &self.after) {
            (Kind::Access, _, Some(_)) if layout == Layout::Flat => 0,
            (Kind::Service, None, Some(_)) => 1,
            (Kind::Api, None, Some(_)) => 2,
            (Kind::Access, _, Some(_)) => 3,
            (Kind::Service, _, Some(_)) => 4,
            (Kind::Api, _, Some(_)) => 5,
            (Kind::Address, _, Some(_)) => 6,
            (Kind::Address, _, None) => 7,
            (Kind::Access, _, None) => 8,
            (Kind::Api, _, None) => 9,
            (Kind::Service, _, None) => 10,
        }
    }

    /// `+` added, `~` changed, `-` removed.
    pub fn sign(&self) -> char {
        match (&self.before, &self.after) {
            (None, _) => '+',
            (Some(_), Some(_)) => '~',
            (Some(_), None) => '-',
        }
    }

    /// The entry, as commands name it.
    pub fn what(&self) -> String {
        format!("{} {}", word(self.kind), self.name)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.sign(), self.what())?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "\n    was {before}\n    now {after}"),
            (Some(data), None) | (None, Some(data)) => write!(f, " {data}"),
            (None, None) => Ok(()),
        }
    }
}
