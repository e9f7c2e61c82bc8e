//! Registries of both layouts, out and in again.

use super::plan::Wish;
use super::*;
use crate::registry::{Doomed, Node, Write};

fn node(path: &str, data: &str) -> Node {
    Node { path: path.into(), data: Ok(data.as_bytes().to_vec()), ephemeral: false }
}

fn nodes(all: &[(&str, &str)]) -> Vec<Node> {
    all.iter().map(|(path, data)| node(path, data)).collect()
}

/// What `import` of `text` leaves in an empty registry.
fn imported(layout: Layout, text: &str) -> Result<Vec<Node>, Vec<String>> {
    let plan = plan(layout, Document::read(text).unwrap(), &[], Wish::default())?;
    let data = |change: &Change| change.after.as_ref().unwrap().to_string();
    Ok(plan.changes.iter().map(|change| node(&change.path, &data(change))).collect())
}

fn exported(layout: Layout, nodes: &[Node]) -> String {
    let found = gather(layout, nodes);
    assert_eq!(found.left_out, []);
    found.document.to_yaml()
}

const FLAT: [(&str, &str); 8] = [
    ("/service/user", r#"{"owner":"us","x":[1.0,18446744073709551615,"\u0085\u2028🦈"]}"#),
    ("/service/on", ""),
    ("/api/user/get", r#"{"path":"/user/get","state":"off"}"#),
    ("/api/user/*", "{}"),
    ("/address/user", r#"{"addresses":[{"address":"10.0.0.5:80","weight":7}]}"#),
    ("/address/user/10.0.0.6:80", r#"{"idc":"bj1"}"#),
    ("/address/user/[::1]:80", "{}"),
    ("/access/user/web", r#"{"apis":["*"],"keys":[{"sha256":"00","expires":"2030-01-01T00:00:00Z"}]}"#),
];

#[test]
fn a_document_is_read_back_as_it_was() {
    let text = exported(Layout::Flat, &nodes(&FLAT));
    let document = Document::read(&text).unwrap();
    assert_eq!(document, gather(Layout::Flat, &nodes(&FLAT)).document);
    assert_eq!(document.to_yaml(), text);
    assert!(text.contains("\"on\":\n    data: {}\n"), "{text}");
    assert!(text.contains("18446744073709551615"), "{text}");
}

#[test]
fn what_is_no_json_object_is_carried_as_it_stands() {
    for data in ["{broken", "[1]", "\"a\"", "off", " # x", r#"{"x":12345678901234567890123}"#, "a\nb\u{7f}"] {
        let text = exported(Layout::Flat, &nodes(&[("/api/user/get", data)]));
        let entries = Document::read(&text).unwrap().entries();
        assert_eq!(entries[0].data.bytes(), data.as_bytes(), "{text}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(60), "]".repeat(60));
    let text = exported(Layout::Flat, &nodes(&[("/api/user/get", &deep)]));
    assert_eq!(Document::read(&text).unwrap().entries()[0].data.bytes(), deep.as_bytes());
}

#[test]
fn what_has_no_place_is_named() {
    let mut all = nodes(&[("/api/user/_x", "{}"), ("/api/user/a/b", ""), ("/api/user", "{}"), ("/api", "")]);
    all.push(Node { data: Ok(vec![0xff]), ..node("/service/user", "") });
    all.push(Node { ephemeral: true, ..node("/address/user/10.0.0.6:80", "{}") });
    let found = gather(Layout::Flat, &all);
    let paths: Vec<_> = found.left_out.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/api/user/_x", "/api/user/a/b", "/service/user"]);
    assert_eq!(found.ephemeral, 1);
    assert!(found.document.services.is_empty());
    assert!(found.left_out[0].1.contains("starts with `_`"), "{:?}", found.left_out);

    // a copy must not be open where nobody can tell what the original is
    all.push(node("/api/user/get", "{}"));
    let text = gather(Layout::Flat, &all).locked(Layout::Flat).document.to_yaml();
    assert!(text.contains(r#"data: {"access":"key"}"#), "{text}");
}

#[test]
fn flat_goes_to_tree_with_providers_and_callers_below_each_api() {
    let text = "version: 1\nlayout: flat\nservices:\n  user:\n    data: { owner: us }\n    \
                apis: { get: { data: { path: /user/get } }, set: {} }\n    \
                addresses: [ { address: \"10.0.0.5:80\", weight: 7 } ]\n    \
                providers: { \"10.0.0.5:80\": { weight: 1, idc: bj1 } }\n    \
                access: { web: { apis: [get] } }\n";
    let nodes = imported(Layout::Tree, text).unwrap();
    let seen: Vec<_> = nodes
        .iter()
        .map(|n| (n.path.as_str(), std::str::from_utf8(n.data.as_ref().unwrap()).unwrap()))
        .collect();
    let provider = r#"{"weight":7,"idc":"bj1"}"#;
    let wanted = [
        ("/services/user", r#"{"owner":"us"}"#),
        ("/services/user/get", r#"{"path":"/user/get"}"#),
        ("/services/user/set", "{}"),
        ("/services/user/get/access/web", "{}"),
        ("/services/user/get/providers/10.0.0.5:80", provider),
        ("/services/user/set/providers/10.0.0.5:80", provider),
    ];
    assert_eq!(seen, wanted);
    let back = imported(Layout::Flat, &exported(Layout::Tree, &nodes)).unwrap();
    let back = exported(Layout::Flat, &back);
    assert!(back.contains(r#"- {"address":"10.0.0.5:80","weight":7,"idc":"bj1"}"#), "{back}");
    assert!(back.contains(r#"web: {"apis":["get"]}"#), "{back}");
}

#[test]
fn tree_goes_to_flat_with_whole_paths_or_not_at_all() {
    let tree = [
        ("/services/user", r#"{"contextPath":"/u/"}"#),
        ("/services/user/get", r#"{"path":"/get"}"#),
        ("/services/user/top", ""),
        ("/services/user/get/providers/10.0.0.5:80", "{}"),
    ];
    let differing = exported(Layout::Tree, &nodes(&tree));
    let problems = imported(Layout::Flat, &differing).unwrap_err();
    assert!(
        problems[0].contains("service user: its apis get and top have different providers"),
        "{problems:?}"
    );
    let flat = imported(Layout::Flat, &exported(Layout::Tree, &nodes(&tree[..3]))).unwrap();
    let flat = exported(Layout::Flat, &flat);
    assert!(flat.contains(r#"data: {"path":"/u/get"}"#) && flat.contains(r#"data: {"path":"/u"}"#), "{flat}");
    assert!(!flat.contains("contextPath"), "{flat}");
}

#[test]
fn a_mistake_in_the_document_is_shown_with_its_place() {
    let read = |text: &str| Document::read(text).unwrap_err();
    assert!(read("").contains("version"));
    assert!(read("version: 2\n").contains("version: 2 is not 1"));
    assert!(read("version: 1\nlayout: flat\nservices: [\n").contains("line "));
    let typo = read("version: 1\nlayout: flat\nservices: { user: { apis: { get: { dta: {} } } } }\n");
    assert!(typo.contains("services.user.apis.get") && typo.contains("dta"), "{typo}");
    let place = read("version: 1\nlayout: tree\nservices: { user: { access: { web: {} } } }\n");
    assert!(place.contains("services.user.access: in layout tree"), "{place}");
    let twice = read("version: 1\nlayout: flat\nservices: { user: {}, user: {} }\n");
    assert!(twice.contains("user"), "{twice}");
    let text = "version: 1\nlayout: flat\nservices: { user: { data: { state: maybe } } }\n";
    let bad = imported(Layout::Flat, text).unwrap_err();
    assert!(bad[0].starts_with("service user: state: \"maybe\""), "{bad:?}");
}

#[test]
fn pruning_spares_what_registered_itself() {
    let mut there = nodes(&[
        ("/service", ""),
        ("/service/old", "{}"),
        ("/api/old", ""),
        ("/api/old/x", "{}"),
        ("/address/user", r#"{"addresses":[{"address":"10.0.0.5:80"}]}"#),
    ]);
    there.push(Node { ephemeral: true, ..node("/address/user/10.0.0.6:80", "{}") });
    let text = "version: 1\nlayout: flat\nservices: { user: { providers: { \"10.0.0.6:80\": {} } } }\n";
    let wish = Wish { prune: true, as_is: false };
    let plan = plan(Layout::Flat, Document::read(text).unwrap(), &there, wish).unwrap();
    let shown: Vec<_> = plan.changes.iter().map(ToString::to_string).collect();
    let list = "~ address user\n    was {\"addresses\":[{\"address\":\"10.0.0.5:80\"}]}\n    now {}";
    assert_eq!(shown, [list, "- api old/x {}", "- service old {}"]);
    let doomed = |path: &str, held: &[u8]| Doomed { path: path.into(), held: Some(held.into()) };
    let writes = [
        Write::Put("/address/user".into(), b"{}".into()),
        Write::Prune(vec![doomed("/api/old/x", b"{}")]),
        Write::Prune(vec![doomed("/service/old", b"{}")]),
        Write::Prune(vec![doomed("/api/old", b"")]),
    ];
    assert_eq!(plan.writes(), writes);
    assert!(plan.notes[0].contains("registered itself"), "{:?}", plan.notes);
}
