//! Names that remora doesn't take and others wrote: they are told, shown and removed by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Output;

use support::remora::bounded;
use support::zookeeper::ZooKeeper;

fn run(zk: &ZooKeeper, layout: &str, args: &[&str]) -> Output {
    let env =
        [("REMORA_REGISTRY__ZOOKEEPER__CONNECT", zk.connect.as_str()), ("REMORA_REGISTRY__LAYOUT", layout)];
    bounded().args(args).envs(env).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn what_check_finds_under_a_bad_name_is_shown_and_removed_under_that_name() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    client.put("/service/user", "{}");
    client.put("/services/cat/hello", "{}");
    for (layout, path, kind, name) in [
        ("flat", "/service/名前", "service", "名前"),
        ("flat", "/api/user/bl ank", "api", "user/bl ank"),
        ("flat", "/address/user/notanaddress", "address", "user/notanaddress"),
        ("flat", "/access/user/_me", "access", "user/_me"),
        ("tree", "/services/名前", "service", "名前"),
        ("tree", "/services/cat/hello/providers/10.0.0.5:080", "address", "cat/hello/10.0.0.5:080"),
    ] {
        client.put(path, r#"{"owner":"nobody"}"#);
        let checked = run(&zk, layout, &["check", "--connect"]);
        assert_eq!(checked.status.code(), Some(1), "{path}: {}", out(&checked));
        assert!(out(&checked).contains(&format!("{path}: ")), "{path}: {}", out(&checked));
        let shown = run(&zk, layout, &["registry", "get", kind, name]);
        assert!(shown.status.success() && out(&shown).contains("nobody"), "{path}: {}", out(&shown));
        let removed = run(&zk, layout, &["registry", "rm", kind, name]);
        assert!(removed.status.success() && client.get(path).is_none(), "{path}: {}", out(&removed));
        let checked = run(&zk, layout, &["check", "--connect"]);
        assert_eq!(checked.status.code(), Some(0), "{path}: {}", out(&checked));
        for args in [&["get"][..], &["rm"]] {
            let refused = run(&zk, layout, &[&["registry"], args, &[kind, name]].concat());
            assert_eq!(refused.status.code(), Some(1), "{path}: {}", out(&refused));
            assert!(out(&refused).contains(" is not "), "{path}: {}", out(&refused));
        }
        let written = run(&zk, layout, &["registry", "put", kind, name, "{}"]);
        assert!(written.status.code() == Some(1) && client.get(path).is_none(), "{path}: {}", out(&written));
    }
    for name in ["../zookeeper", "user/../../zookeeper", "", "."] {
        assert_eq!(run(&zk, "flat", &["registry", "rm", "api", name]).status.code(), Some(1), "{name}");
    }
}
