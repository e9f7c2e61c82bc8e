//! Takes any bytes for nodes that strangers wrote into a registry, reads them as services and as a document to
//! carry over, and asserts what must hold of both. Shared by the fuzz target and by the test that runs the corpus.

use std::collections::BTreeMap;

use remora::model::{Layout, Policy, PolicyPatch, Service, Skipped};
use remora::names::ServiceName;
use remora::registry::Node;
use remora::registry::layout::Kind;
use remora::registry::transfer::{self, Document, Wish};

use super::message;

const KINDS: [Kind; 4] = [Kind::Service, Kind::Api, Kind::Address, Kind::Access];
/// What is shown of a service is at most so many times what was written: `\u0001`, and every API's defaults.
const GROWTH: usize = 64;

/// The first byte is the layout, `t` for `tree`; then come nodes, a NUL between them, each with its path, a blank
/// and its data. One that starts with `!` is ephemeral, one that starts with `?` can't be read.
pub(crate) fn run(data: &[u8]) {
    let Some((layout, data)) = data.split_first() else { return };
    let layout = if *layout == b't' { Layout::Tree } else { Layout::Flat };
    let nodes = nodes(data);
    let of = |node: &Node| layout.service_of(&node.path);
    let mut services: Vec<_> = nodes.iter().filter_map(of).collect();
    services.dedup();
    for service in services {
        let own: Vec<_> = nodes.iter().filter(|node| of(node).as_ref() == Some(&service)).cloned().collect();
        check_service(layout, &service, &own, &nodes);
    }
    nodes.iter().for_each(|node| check_entry(layout, node));
    check_transfer(layout, &nodes);
}

fn nodes(data: &[u8]) -> Vec<Node> {
    let mut nodes = BTreeMap::new();
    for part in data.split(|byte| *byte == 0) {
        let (ephemeral, part) = part.strip_prefix(b"!").map_or((false, part), |rest| (true, rest));
        let (hidden, part) = part.strip_prefix(b"?").map_or((false, part), |rest| (true, rest));
        let end = part.iter().position(|byte| *byte == b' ').unwrap_or(part.len());
        let (path, data) = part.split_at(end);
        let path = String::from_utf8_lossy(path).into_owned();
        let data =
            if hidden { Err("its ACL hides it".into()) } else { Ok(data.get(1..).unwrap_or(data).to_vec()) };
        if path.starts_with('/') && !path.ends_with('/') {
            nodes.insert(path.clone(), Node { path, data, ephemeral });
        }
    }
    nodes.into_values().collect()
}

fn check_service(layout: Layout, name: &ServiceName, own: &[Node], all: &[Node]) {
    let service = layout.parse(name, own, None).expect("a service exists when any of its nodes does");
    assert_eq!(layout.parse(name, all, None).as_ref(), Some(&service), "nodes of others change nothing");
    assert_eq!(
        layout.parse(name, own.iter().rev(), None).as_ref(),
        Some(&service),
        "the order changes nothing"
    );
    if own.iter().all(|node| node.data.is_ok()) {
        let again = layout.parse(name, own, Some(&service));
        assert_eq!(again.as_ref(), Some(&service), "what is read again stays as it is");
    }
    for Skipped { path, reason } in &service.skipped {
        let is_at = |node: &Node| {
            path.strip_prefix(&node.path).is_some_and(|at| at.is_empty() || at.starts_with('#'))
        };
        assert!(own.iter().any(is_at), "{path} is no node");
        message::check(reason);
    }
    let shown = serde_json::to_string(&service).expect("a service can be shown");
    let written: usize =
        own.iter().map(|node| node.path.len() + node.data.as_ref().map_or(0, Vec::len) + 64).sum();
    assert!(shown.len() <= written * GROWTH, "{} bytes of {written}", shown.len());
    check_policies(&service);
}

fn check_policies(service: &Service) {
    let base = service.policy.over(&Policy::default());
    let apis = service.apis.values().map(|api| api.policy.over(&base));
    for policy in apis.chain([base.clone()]) {
        let shown = policy.to_value();
        let read = PolicyPatch::parse(&shown).map(|patch| patch.over(&Policy::default()));
        assert_eq!(read, Ok(policy), "a policy as shown is read back");
    }
}

/// What may be written as an entry is what is read as one.
fn check_entry(layout: Layout, node: &Node) {
    for kind in KINDS {
        let Some(name) = layout.entry(kind, &node.path) else { continue };
        let path = layout.node_path(kind, &name);
        path.iter().for_each(|path| assert_eq!(layout.entry(kind, path).as_ref(), Some(&name)));
        let (Ok(data), Some(service)) = (&node.data, layout.service_of(&node.path)) else { continue };
        path.as_ref().err().into_iter().for_each(|reason| message::check(reason));
        let written = layout.check(kind, &name, data);
        written.as_ref().err().into_iter().for_each(|reason| message::check(reason));
        layout.notes(kind, &name, data).iter().for_each(|note| message::check(&note.text));
        if path.as_ref() != Ok(&node.path) {
            continue;
        }
        let read = layout.parse(&service, [node], None).unwrap_or_default();
        // of two keys the last one is read, and neither may be written
        let doubled = written.as_ref().is_err_and(|reason| reason.contains("stands there twice"));
        // the first of two addresses holds, and both can be written
        let troubles = read.skipped.iter().filter(|skipped| !skipped.reason.contains("twice"));
        assert!(doubled || written.is_ok() == (troubles.count() == 0), "{written:?}, {:?}", read.skipped);
    }
}

/// What is exported is read back, and imported where it came from it changes nothing.
fn check_transfer(layout: Layout, nodes: &[Node]) {
    let found = transfer::gather(layout, nodes);
    found.left_out.iter().for_each(|(_, reason)| message::check(reason));
    let text = found.document.to_yaml();
    let document =
        Document::read(&text).unwrap_or_else(|reason| panic!("an export is read back: {reason}: {text}"));
    assert_eq!(document.to_yaml(), text, "an export is read back");
    let wish = Wish { prune: true, as_is: true };
    match transfer::plan(layout, document.clone(), nodes, wish) {
        Ok(plan) => {
            assert_eq!(plan.changes, [], "an import of what is there changes nothing");
            plan.notes.iter().for_each(|note| message::check(note));
        }
        Err(problems) => problems.iter().for_each(|problem| message::check(problem)),
    }
    let other = if layout == Layout::Flat { Layout::Tree } else { Layout::Flat };
    match transfer::plan(other, document, &[], wish) {
        Ok(plan) => plan.notes.iter().for_each(|note| message::check(note)),
        Err(problems) => problems.iter().for_each(|problem| message::check(problem)),
    }
}
