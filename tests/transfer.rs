//! A whole registry, carried out and in by `remora registry export` and `import`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Output, Stdio};

use serde_json::json;
use support::remora;
use support::zookeeper::{Kazoo, ZooKeeper};

/// One registry: where it is, its layout and its root.
#[derive(Clone, Copy)]
struct Registry<'a> {
    variable: &'a str,
    value: &'a str,
    layout: &'a str,
    root: &'a str,
}

impl<'a> Registry<'a> {
    fn zookeeper(zk: &'a ZooKeeper, layout: &'a str, root: &'a str) -> Self {
        Self { variable: "REMORA_REGISTRY__ZOOKEEPER__CONNECT", value: &zk.connect, layout, root }
    }

    fn file(file: &'a Path, layout: &'a str) -> Self {
        let value = file.to_str().unwrap();
        Self { variable: "REMORA_REGISTRY__EMBEDDED__FILE", value, layout, root: "/" }
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        self.start(args, input).wait_with_output().unwrap()
    }

    fn start(&self, args: &[&str], input: &str) -> Child {
        let mut child = remora::bounded()
            .arg("registry")
            .args(args)
            .env(self.variable, self.value)
            .env("REMORA_REGISTRY__LAYOUT", self.layout)
            .env("REMORA_REGISTRY__ROOT", self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // a command that reads no input may be gone already
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child
    }

    fn export(&self) -> String {
        let output = self.run(&["export"], "");
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        out(&output)
    }

    /// No entry, or not even a root.
    fn is_empty(&self) -> bool {
        let output = self.run(&["export"], "");
        out(&output).ends_with("services: {}\n") || err(&output).contains("does not exist in ZooKeeper")
    }

    fn import(&self, text: &str, more: &[&str]) -> String {
        let output = self.run(&[&["import", "-"], more].concat(), text);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        out(&output)
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const KEYS: &str = r#"{"apis":["*"],"keys":[{"sha256":"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}]}"#;

const FLAT: [(&str, &str); 9] = [
    ("/service/user", r#"{"owner":"用户","access":"key","policy":{"timeout":"2s"},"x":[1.0,null,"off"]}"#),
    ("/service/bare", ""),
    ("/api/user/get", r#"{"path":"\/user\/get","state":"off"}"#),
    ("/api/user/*", "{}"),
    ("/api/on/yes", r#"{"encoding":"yar-msgpack"}"#),
    ("/address/user", r#"{"addresses":[{"address":"10.0.0.5:80","weight":7},{"address":"[::1]:80"}]}"#),
    ("/address/user/10.0.0.6:80", r#"{"idc":"bj1"}"#),
    ("/access/user/web", KEYS),
    ("/access/user/cron", r#"{"state":"off"}"#),
];

const TREE: [(&str, &str); 6] = [
    ("/services/user", r#"{"contextPath":"/u","owner":"us"}"#),
    ("/services/user/get", r#"{"path":"/get"}"#),
    ("/services/user/get/providers/10.0.0.5:80", r#"{"weight":7}"#),
    ("/services/user/get/access/web", KEYS),
    ("/services/user/save", ""),
    ("/services/empty", ""),
];

/// Exports, imports into an empty registry, exports again: the same bytes, and nothing left to do.
fn round_trip(from: Registry<'_>, to: Registry<'_>) {
    let text = from.export();
    assert_eq!(text.matches("10.0.0.9").count(), 0, "self-registered: {text}");
    let shown = to.import(&text, &["--dry-run"]);
    assert!(shown.contains("+ service user {") && shown.ends_with("nothing was written\n"), "{shown}");
    assert!(to.is_empty(), "{}", to.export());
    let diff = to.import(&text, &[]);
    assert!(diff.contains(" 0 changed, 0 removed, 0 unchanged\n"), "{diff}");
    assert_eq!(to.export(), text);
    for registry in [from, to] {
        let again = registry.import(&text, &["--prune"]);
        assert!(again.starts_with("0 added, 0 changed, 0 removed,"), "{again}");
    }
}

#[test]
fn a_registry_in_zookeeper_comes_back_as_it_was() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    for (layout, all, own) in [
        ("flat", &FLAT[..], "/address/user/10.0.0.9:80"),
        ("tree", &TREE[..], "/services/user/get/providers/10.0.0.9:80"),
    ] {
        let (old, new) = (format!("/{layout}-old"), format!("/{layout}-new"));
        for (path, data) in all {
            client.put(&format!("{old}{path}"), data);
        }
        client.ephemeral(&format!("{old}{own}"), "{}");
        let from = Registry::zookeeper(&zk, layout, &old);
        round_trip(from, Registry::zookeeper(&zk, layout, &new));
        let left_out = from.run(&["export"], "");
        assert!(err(&left_out).contains("1 self-registered"), "{}", err(&left_out));
    }
    assert_eq!(client.data("/flat-new/api/user/get"), Some(json!({"path": "/user/get", "state": "off"})));
    assert_eq!(client.data("/tree-new/services/user"), Some(json!({"contextPath": "/u", "owner": "us"})));
}

#[test]
fn a_registry_in_a_file_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for (layout, all) in [("flat", &FLAT[..]), ("tree", &TREE[..])] {
        let file = |name: &str| dir.path().join(format!("{layout}-{name}.yaml"));
        let (old, new) = (file("old"), file("new"));
        let line = |(path, data): &(&str, &str)| format!("{}: {data}\n", json!(path));
        fs::write(&old, all.iter().map(line).collect::<String>().replace("\\/", "/")).unwrap();
        round_trip(Registry::file(&old, layout), Registry::file(&new, layout));
    }
}

#[test]
fn one_layout_goes_over_into_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let [flat, tree] = ["flat", "tree"].map(|name| dir.path().join(format!("{name}.yaml")));
    let (flat, tree) = (Registry::file(&flat, "flat"), Registry::file(&tree, "tree"));
    for args in [
        ["put", "service", "user", r#"{"owner":"us"}"#],
        ["put", "api", "user/get", r#"{"path":"/user/get"}"#],
        ["put", "address", "user", r#"{"addresses":[{"address":"10.0.0.5:80","weight":7}]}"#],
        ["put", "access", "user/web", r#"{"apis":["get"]}"#],
    ] {
        assert!(flat.run(&args, "").status.success());
    }
    let text = flat.export();
    tree.import(&text, &[]);
    let provider = tree.run(&["get", "address", "user/get/10.0.0.5:80", "-o", "json"], "");
    assert!(out(&provider).contains("7"), "{}", out(&provider));
    // and back, into what is there already: nothing to do
    let back = flat.import(&tree.export(), &["--prune"]);
    assert_eq!(back, "0 added, 0 changed, 0 removed, 4 unchanged\n");
}

#[test]
fn what_the_other_layout_has_no_place_for_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.yaml");
    let tree = Registry::file(&file, "tree");
    let text = "version: 1\nlayout: flat\nservices:\n  good: { data: {} }\n  \
                user: { addresses: [ { address: \"10.0.0.5:80\" } ] }\n";
    let output = tree.run(&["import", "-"], text);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("service user: it has providers and no api"), "{}", err(&output));
    assert!(tree.export().ends_with("services: {}\n"), "nothing of it was written");
}

#[test]
fn a_mistake_is_told_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.yaml");
    let flat = Registry::file(&file, "flat");
    for (services, part) in [
        ("a: { data: {} }, user: { apsi: {} }", "services.user"),
        ("a: { data: {} }, user: { data: { state: maybe } }", "service user: state: \"maybe\""),
        ("a: { data: {} }, user: { access: { web: { keys: [ secret ] } } }", "access user/web: keys[0]"),
        ("a: { data: {} }, user: { apis: { get: { data: \"{broken\" } } }", "api user/get: it is not JSON"),
        ("a: { data: {} }, \"a/b\": {}", "a/b"),
    ] {
        let text = format!("version: 1\nlayout: flat\nservices: {{ {services} }}\n");
        let output = flat.run(&["import", "-"], &text);
        assert_eq!(output.status.code(), Some(1), "{services}");
        assert!(err(&output).contains(part), "{services}: {}", err(&output));
        assert!(flat.export().ends_with("services: {}\n"), "{services}");
    }
    let missing = flat.run(&["import", "/nowhere/registry.yaml"], "");
    assert_eq!(missing.status.code(), Some(1));
    assert!(err(&missing).contains("/nowhere/registry.yaml"), "{}", err(&missing));
}

#[test]
fn an_import_adds_changes_and_removes_only_where_it_is_told() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    for (path, data) in [
        ("/service/user", r#"{"owner":"them"}"#),
        ("/api/user/get", "{}"),
        ("/service/old", "{}"),
        ("/api/old/x", "{broken"),
        ("/address/old", r#"{"addresses":[{"address":"10.0.0.5:80"}]}"#),
    ] {
        client.create(path, data);
    }
    client.ephemeral("/address/user/10.0.0.9:80", "{}");
    let flat = Registry::zookeeper(&zk, "flat", "/");
    let text = "version: 1\nlayout: flat\nservices:\n  user:\n    data: { owner: us }\n    \
                apis: { get: {}, set: {} }\n    providers: { \"10.0.0.9:80\": { weight: 1 } }\n";
    let diff = flat.import(text, &[]);
    assert_eq!(
        diff,
        "+ api user/set {}\n~ service user\n    was {\"owner\":\"them\"}\n    now {\"owner\":\"us\"}\n\
         1 added, 1 changed, 0 removed, 1 unchanged\n"
    );
    assert_eq!(client.data("/address/user/10.0.0.9:80"), Some(json!({})), "its own node stays");
    assert!(client.get("/service/old").is_some());
    let diff = flat.import(text, &["--prune"]);
    assert!(diff.contains("- address old {") && diff.contains("- api old/x {broken\n"), "{diff}");
    assert!(diff.ends_with("0 added, 0 changed, 3 removed, 3 unchanged\n"), "{diff}");
    for path in ["/service/old", "/api/old", "/address/old"] {
        assert!(client.get(path).is_none(), "{path}");
    }
    assert!(client.get("/address/user/10.0.0.9:80").is_some());
}

/// Lasting nodes that a pruning import removes, and so much to tell of it that it waits for its
/// reader before it writes.
fn doomed(client: &mut Kazoo, services: &str, all: &[(&str, &str)]) {
    for (path, data) in all {
        client.create(path, data);
    }
    for n in 0..4 {
        client.create(&format!("{services}/long-{n}"), &json!({ "owner": "x".repeat(50_000) }).to_string());
    }
}

/// Imports nothing, and does `meanwhile` once it is decided what to remove and nothing is removed yet;
/// gives what it told.
fn prune(registry: Registry<'_>, meanwhile: impl FnOnce()) -> String {
    let text = format!("version: 1\nlayout: {}\nservices: {{}}\n", registry.layout);
    let mut child = registry.start(&["import", "-", "--prune"], &text);
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    meanwhile();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    err(&output)
}

#[test]
fn pruning_takes_nothing_that_came_or_changed_after_it_was_decided() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    doomed(
        &mut client,
        "/service",
        &[
            ("/service/old", "{}"),
            ("/service/changed", "{}"),
            ("/service/taken", "{}"),
            ("/api/old/x", "{}"),
            ("/address/old", ""),
            ("/address/listed", r#"{"addresses":[{"address":"10.0.0.5:80"}]}"#),
            ("/address/listed/10.0.0.6:80", "{}"),
        ],
    );
    let flat = Registry::zookeeper(&zk, "flat", "/");
    let told = prune(flat, || {
        client.ephemeral("/address/old/10.0.0.7:80", "{}");
        client.create("/api/old/y", "{}");
        client.set("/service/changed", r#"{"owner":"us"}"#);
        client.take("/service/taken", "{}");
        client.ephemeral("/address/listed/10.0.0.7:80", "{}");
    });
    for path in ["/address/old/10.0.0.7:80", "/api/old/y", "/service/taken", "/address/listed/10.0.0.7:80"] {
        assert!(client.get(path).is_some(), "{path}: {told}");
    }
    assert_eq!(client.data("/service/changed"), Some(json!({ "owner": "us" })), "{told}");
    for path in ["/service/old", "/service/long-3", "/api/old/x", "/address/listed/10.0.0.6:80"] {
        assert!(client.get(path).is_none(), "{path}: {told}");
    }
    for what in ["service changed: it stays", "service taken: it stays", "address listed: it stays"] {
        assert!(told.contains(what), "{told}");
    }
    let diff = flat.import("version: 1\nlayout: flat\nservices: {}\n", &["--prune"]);
    assert!(diff.ends_with("0 added, 1 changed, 2 removed, 0 unchanged\n"), "{diff}");
    assert_eq!(client.data("/address/listed"), Some(json!({})));
}

#[test]
fn pruning_a_tree_spares_what_came_meanwhile_too_and_takes_the_consumers_of_the_rest() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let api = |name: &str| format!("/services/{name}/get");
    let (gone, kept) = (api("gone"), api("kept"));
    let all: Vec<_> = [&gone, &kept]
        .iter()
        .flat_map(|api| {
            ["providers/10.0.0.5:80", "access/web", "consumers"].map(|name| format!("{api}/{name}"))
        })
        .collect();
    doomed(&mut client, "/services", &all.iter().map(|path| (path.as_str(), "")).collect::<Vec<_>>());
    client.ephemeral(&format!("{gone}/consumers/web-1"), "");
    client.ephemeral(&format!("{kept}/consumers/web-1"), "");
    let tree = Registry::zookeeper(&zk, "tree", "/");
    let told = prune(tree, || client.ephemeral(&format!("{kept}/providers/10.0.0.7:80"), "{}"));
    assert!(told.contains("api kept/get: it stays") && told.contains("service kept: it stays"), "{told}");
    assert_eq!(client.ls("/services"), ["kept"], "{told}");
    assert_eq!(client.ls(&format!("{kept}/providers")), ["10.0.0.7:80"]);
    assert_eq!(client.ls(&format!("{kept}/consumers")), ["web-1"]);
}

#[test]
fn pruning_a_file_spares_what_was_edited_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.yaml");
    let long = |n: usize| format!("/service/long-{n}: {{ owner: {} }}\n", "x".repeat(50_000));
    let entries = "/service/old: {}\n/service/changed: {}\n/address/old/10.0.0.5:80: {}\n";
    fs::write(&path, entries.to_owned() + &(0..4).map(long).collect::<String>()).unwrap();
    let flat = Registry::file(&path, "flat");
    let told = prune(flat, || {
        for args in
            [["put", "service", "changed", r#"{"owner":"us"}"#], ["put", "address", "old/10.0.0.6:80", "{}"]]
        {
            assert!(flat.run(&args, "").status.success());
        }
    });
    assert!(told.contains("service changed: it stays"), "{told}");
    let left = flat.export();
    assert!(left.contains("owner") && left.contains("10.0.0.6:80"), "{left}");
    assert!(!left.contains("long-") && !left.contains("10.0.0.5:80"), "{left}");
}

#[test]
fn entries_nobody_can_read_are_carried_where_that_is_wanted() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    client.create("/old/api/user/get", "{broken");
    client.create("/old/api/user/_bad", "{}");
    let old = Registry::zookeeper(&zk, "flat", "/old");
    let exported = old.run(&["export"], "");
    assert_eq!(exported.status.code(), Some(1));
    assert!(err(&exported).contains("/old/api/user/_bad: left out"), "{}", err(&exported));
    let new = Registry::zookeeper(&zk, "flat", "/new");
    assert_eq!(new.run(&["import", "-"], &out(&exported)).status.code(), Some(1));
    new.import(&out(&exported), &["--as-is"]);
    assert_eq!(client.get("/new/api/user/get").unwrap()["data"], "{broken");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.yaml");
    let file = Registry::file(&path, "flat");
    let refused = file.run(&["import", "-", "--as-is"], &out(&exported));
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("api user/get: a file can't hold it"), "{}", err(&refused));
    assert!(file.export().ends_with("services: {}\n"), "the file is as good as before");
}

#[test]
fn an_import_that_breaks_off_says_how_far_it_came_and_goes_on_when_repeated() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let registry = Registry::zookeeper(&zk, "flat", "/");
    let text = "version: 1\nlayout: flat\nservices:\n  a: { apis: { get: {} } }\n  \
                b: { apis: { get: {} } }\n  c: { apis: { get: {} } }\n";
    // ZooKeeper lets nothing stand below it
    client.ephemeral("/api/b", "");
    let output = registry.run(&["import", "-"], text);
    assert_eq!(output.status.code(), Some(1));
    let told = err(&output);
    assert!(told.contains("remora: api b/get: "), "{told}");
    assert!(told.contains("1 of 3 changes were written, up to api a/get; import again to go on"), "{told}");
    client.rm("/api/b");
    let diff = registry.import(text, &[]);
    assert!(diff.ends_with("2 added, 0 changed, 0 removed, 1 unchanged\n"), "{diff}");
}
