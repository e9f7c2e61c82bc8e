//! The last view known to be true, on disk: what a sidecar that starts without its registry serves.
//!
//! One line with a checksum, then JSON. Written whole, by whoever runs the sidecar alone to read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::status::Status;
use super::{Node, file};
use crate::model::Layout;
use crate::names::ServiceName;
use crate::words;

/// Between two writes, however often the view changes,
const BETWEEN: Duration = Duration::from_secs(5);
/// and however rarely: when it was true last is the age of a view that is served without a registry.
const RENEWED: Duration = Duration::from_secs(600);
const MAGIC: &str = "remora view 1 ";
/// Largest file that is read, in bytes.
const MAX: u64 = 1 << 30;

/// What a file says, or is to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The mark of the ensemble it was read from.
    pub(super) cluster: String,
    pub(super) layout: Layout,
    pub(super) root: String,
    /// When it was true, in seconds since 1970.
    written: u64,
    services: BTreeMap<ServiceName, Vec<Kept>>,
}

impl Snapshot {
    /// How long ago it was true; nothing where the clock says that it is to come.
    pub(super) fn age(&self) -> Duration {
        Duration::from_secs(seconds().saturating_sub(self.written))
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    path: String,
    data: Result<String, String>,
    ephemeral: bool,
}

/// Keeps the file up to date.
pub(super) struct Keeper {
    path: PathBuf,
    services: BTreeMap<ServiceName, Vec<Kept>>,
    /// Providers that are served though the registry lost them.
    held: BTreeMap<ServiceName, Vec<Kept>>,
    changed: bool,
    not_before: Instant,
    writes: JoinSet<()>,
    /// Whether the last write failed.
    failed: Arc<AtomicBool>,
    status: Arc<Status>,
}

impl From<&Node> for Kept {
    fn from(node: &Node) -> Self {
        let data = node.data.clone().and_then(|data| {
            String::from_utf8(data).map_err(|_| "it was not UTF-8 when it was last read".to_owned())
        });
        Self { path: node.path.clone(), data, ephemeral: node.ephemeral }
    }
}

impl From<Kept> for Node {
    fn from(kept: Kept) -> Self {
        Self { path: kept.path, data: kept.data.map(String::into_bytes), ephemeral: kept.ephemeral }
    }
}

/// Reads `path`; `None` where there is no file, a reason where it is of no use here.
pub(super) fn load(path: &Path, layout: Layout, root: &str) -> Result<Option<Snapshot>, String> {
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if size > MAX {
        return Err(format!("{size} bytes are more than a snapshot has"));
    }
    let snapshot = Snapshot::parse(&fs::read(path).map_err(|e| e.to_string())?)?;
    if snapshot.layout != layout || snapshot.root != root {
        return Err("it is of another layout or root".into());
    }
    Ok(Some(snapshot))
}

/// Whether a view can be kept at `path`; fails with the way out.
pub(super) fn writable(path: &Path) -> Result<(), String> {
    file::replaceable(path).map_err(|error| unwritten(path, &error.to_string()))
}

fn unwritten(path: &Path, error: &str) -> String {
    let path = path.display();
    format!(
        "registry.snapshot: {path} can't be written: {error}; make its directory, and let remora write there"
    )
}

impl Snapshot {
    /// Reads a file's bytes; fails with why they are of no use.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it is no snapshot of a view")?;
        let (head, json) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
        let sum = head
            .strip_prefix(MAGIC.as_bytes())
            .ok_or("it is no snapshot of a view that this version reads")?;
        if sum != checksum(json).as_bytes() {
            return Err("its checksum is wrong: it was cut or changed".into());
        }
        serde_json::from_slice(json).map_err(|e| words::line(&e.to_string()))
    }

    /// The text of its file, which [`parse`](Self::parse) reads back.
    pub fn render(&self) -> Result<String, String> {
        let json = serde_json::to_string(self).map_err(|e| e.to_string())?;
        Ok(format!("{MAGIC}{}\n{json}", checksum(json.as_bytes())))
    }

    /// The nodes of each service.
    pub fn into_services(self) -> impl ExactSizeIterator<Item = (ServiceName, Vec<Node>)> {
        let nodes = |kept: Vec<Kept>| kept.into_iter().map(Node::from).collect();
        self.services.into_iter().map(move |(service, kept)| (service, nodes(kept)))
    }
}

fn checksum(json: &[u8]) -> String {
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Keeper {
    pub(super) fn new(path: PathBuf, status: Arc<Status>, now: Instant) -> Self {
        tell(&status, writable(&path).err());
        Self {
            path,
            services: BTreeMap::new(),
            held: BTreeMap::new(),
            changed: false,
            not_before: now + BETWEEN,
            writes: JoinSet::new(),
            failed: Arc::default(),
            status,
        }
    }

    /// The nodes of a service, as they were just read.
    pub(super) fn keep(&mut self, service: &ServiceName, nodes: &[Node]) {
        let kept: Vec<_> = nodes.iter().map(Kept::from).collect();
        if kept.is_empty() {
            return self.forget(service);
        }
        if self.services.get(service) != Some(&kept) {
            self.services.insert(service.clone(), kept);
            self.changed = true;
        }
    }

    pub(super) fn forget(&mut self, service: &ServiceName) {
        self.changed |= self.services.remove(service).is_some();
    }

    /// What stands in the file beside what was read.
    pub(super) fn hold(&mut self, held: BTreeMap<ServiceName, Vec<Node>>) {
        let kept = |nodes: Vec<Node>| nodes.iter().map(Kept::from).collect();
        self.held = held.into_iter().map(|(service, nodes)| (service, kept(nodes))).collect();
    }

    /// What was written may say less than is known now.
    pub(super) fn renew(&mut self) {
        self.changed = true;
    }

    /// When [`Keeper::write`] is to be called.
    pub(super) fn wake(&self) -> Instant {
        if self.changed || self.failed.load(Relaxed) { self.not_before } else { self.not_before + RENEWED }
    }

    /// Writes what is kept; only for what is known to be true now.
    pub(super) fn write(&mut self, cluster: &str, layout: Layout, root: &str, now: Instant) {
        while self.writes.try_join_next().is_some() {}
        self.not_before = now + BETWEEN;
        if !self.writes.is_empty() {
            return;
        }
        self.changed = false;
        let mut services = self.services.clone();
        for (service, held) in &self.held {
            services.get_mut(service).into_iter().for_each(|nodes| nodes.extend(held.iter().cloned()));
        }
        let (cluster, root) = (cluster.to_owned(), root.to_owned());
        let snapshot = Snapshot { cluster, layout, root, written: seconds(), services };
        let (path, failed, status) = (self.path.clone(), self.failed.clone(), self.status.clone());
        self.writes.spawn_blocking(move || {
            let written = snapshot
                .render()
                .and_then(|text| file::replace(&path, text.as_bytes(), 0o600).map_err(|e| e.to_string()));
            failed.store(written.is_err(), Relaxed);
            tell(&status, written.err().map(|error| unwritten(&path, &error)));
        });
    }

    /// Not now: the view isn't known to be true.
    pub(super) fn wait(&mut self, now: Instant) {
        self.not_before = now + BETWEEN;
    }

    /// Waits until nothing is being written.
    pub(super) async fn finish(&mut self) {
        while self.writes.join_next().await.is_some() {}
    }
}

fn tell(status: &Status, problem: Option<String>) {
    if status.problem("snapshot", problem.clone())
        && let Some(problem) = problem
    {
        tracing::warn!(problem, "the view can't be kept on disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let node = |path: &str, data: &[u8]| {
            Kept::from(&Node { path: path.into(), data: Ok(data.to_vec()), ephemeral: true })
        };
        let nodes = vec![node("/service/user", b"{}"), node("/address/user/10.0.0.5:80", b"\xff")];
        Snapshot {
            cluster: "c".into(),
            layout: Layout::Flat,
            root: String::new(),
            written: 7,
            services: [(ServiceName::new("user").unwrap(), nodes)].into(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let text = snapshot().render().unwrap();
        assert_eq!(Snapshot::parse(text.as_bytes()).unwrap(), snapshot());
        for end in 0..text.len() {
            assert!(Snapshot::parse(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        assert!(Snapshot::parse(text.replace("user", "usee").as_bytes()).is_err());
    }

    #[test]
    fn a_file_of_another_layout_or_root_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("view");
        assert_eq!(load(&path, Layout::Flat, ""), Ok(None));
        fs::write(&path, snapshot().render().unwrap()).unwrap();
        assert_eq!(load(&path, Layout::Flat, ""), Ok(Some(snapshot())));
        assert!(load(&path, Layout::Tree, "").is_err() && load(&path, Layout::Flat, "/dada").is_err());
    }
}
