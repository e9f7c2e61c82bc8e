//! Takes any bytes for the file that is the embedded registry, and asserts that it is read whole or refused with its
//! place, and that an entry written to it changes no other. Shared by the fuzz target and by the test that runs the
//! corpus.

use std::fs;
use std::path::Path;

use remora::config;
use remora::model::Layout;
use remora::registry::{self, Node, Source, transfer};
use tempfile::TempDir;

use super::message;

/// What is written to every file that can be read.
const ADDED: (&str, &str) = ("/service/added-by-fuzz", r#"{"access":"open"}"#);
/// A file system in memory: what is written here need not last.
const MEMORY: &str = "/dev/shm";

/// Never panics, whatever `data` is, unless a promise is broken.
pub(crate) fn run(data: &[u8]) {
    let dir = TempDir::with_prefix_in("remora-", MEMORY).or_else(|_| TempDir::with_prefix("remora-"));
    let dir = dir.expect("there is room for a file");
    let file = dir.path().join("registry.yaml");
    fs::write(&file, data).expect("there is room for a file");
    // a carriage return alone ends a line for one reader of YAML and not for another
    if data.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n') {
        return;
    }
    let source = match open(&file) {
        Ok(source) => source,
        Err(reason) => {
            message::check(&reason);
            assert!(reason.contains("registry.yaml"), "no place: {reason}");
            return assert_eq!(
                fs::read(&file).ok().as_deref(),
                Some(data),
                "what can't be read is left alone"
            );
        }
    };
    let before = nodes(&source);
    before.iter().for_each(check_node);
    assert_eq!(nodes(&open(&file).expect("it was read before")), before, "read again it is the same");
    let (path, json) = ADDED;
    now(source.put(path, json.as_bytes()))
        .unwrap_or_else(|trouble| panic!("it can't be written: {trouble:?}"));
    let written = open(&file).unwrap_or_else(|reason| panic!("what was written can't be read: {reason}"));
    let after = nodes(&written);
    assert_eq!(after, nodes(&source), "both see the same");
    // no data and an empty object say the same
    let meant = |node: &Node| {
        let data = node.data.clone().unwrap_or_default();
        (node.path.clone(), if data.is_empty() { b"{}".to_vec() } else { data })
    };
    let is_added = |node: &&Node| path.starts_with(&node.path);
    let others = |nodes: &[Node]| nodes.iter().filter(|node| !is_added(node)).map(meant).collect::<Vec<_>>();
    assert_eq!(others(&after), others(&before), "no other entry changed");
    let added = after.iter().find(|node| node.path == path);
    assert_eq!(added.and_then(|node| node.data.as_deref().ok()), Some(json.as_bytes()), "it was written");
}

fn open(file: &Path) -> Result<Source, String> {
    let embedded = config::Source::Embedded { file: file.to_owned() };
    let config =
        config::Registry { source: embedded, layout: Layout::Flat, snapshot: None, root: String::new() };
    registry::open(&config).map_err(|error| error.to_string())
}

/// The nodes of both layouts.
fn nodes(source: &Source) -> Vec<Node> {
    let scopes = [transfer::scopes(Layout::Flat), transfer::scopes(Layout::Tree)].concat();
    now(source.read(&scopes)).expect("a file that was read is in memory")
}

fn check_node(node: &Node) {
    assert!(node.path.starts_with('/') && !node.path.ends_with('/') && !node.path.contains("//"), "{node:?}");
    let data = node.data.as_ref().expect("all of a file is read");
    let json: Result<serde_json::Value, _> = serde_json::from_slice(data);
    assert!(data.is_empty() || json.is_ok(), "{node:?}");
}

/// A file is not waited for.
fn now<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime can be made").block_on(work)
}
