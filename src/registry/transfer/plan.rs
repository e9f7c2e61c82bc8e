//! What has to be written so that a registry contains a document.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::gather::is_parent;
use super::{Data, Document, Entry, convert, gather, word};
use crate::model::Layout;
use crate::registry::Node;
use crate::registry::layout::{self, Kind};

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
    pub path: String,
    kind: Kind,
    name: String,
    /// What stands there; `None`: nothing.
    before: Option<Data>,
    /// What will; `None`: nothing.
    pub after: Option<Data>,
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
    pub empty: Vec<String>,
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
    plan.changes.sort_by_key(|change| (change.rank(layout), change.path.clone()));
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
                let Entry { kind, name, data } = entry;
                self.changes.push(Change { path, kind, name, before, after: Some(data) });
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
        for (path, Entry { kind, name, data }) in known.into_iter().rev() {
            let after = has_below(staying, &path).then(Data::default);
            if after.is_some() {
                staying.insert(path.clone());
                if !is_parent(layout, &path) {
                    let what = format!("{} {name}", word(kind));
                    self.notes
                        .push(format!("{what}: it stays for what stands below it, which is not import's"));
                    continue;
                }
            }
            self.changes.push(Change { path, kind, name, before: Some(data), after });
        }
        let gone: BTreeSet<_> = self.changes.iter().map(|change| change.path.clone()).collect();
        let parents = nodes.iter().map(|node| &node.path).filter(|path| path.matches('/').count() > 1);
        let empty = parents.filter(|path| {
            is_parent(layout, path)
                && !gone.contains(*path)
                && !staying.contains(*path)
                && !has_below(staying, path)
        });
        self.empty = match layout {
            Layout::Flat => empty.cloned().collect(),
            Layout::Tree => Vec::new(),
        };
    }
}

fn has_below(paths: &BTreeSet<String>, path: &str) -> bool {
    let start = format!("{path}/");
    paths.range(start.clone()..).next().is_some_and(|next| next.starts_with(&start))
}

impl Change {
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
