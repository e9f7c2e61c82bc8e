//! Settings that can't work: `check` says so before the start does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::process::Output;
use std::time::Duration;

use support::remora::bounded;
use support::zookeeper::ZooKeeper;
use support::{Remora, eventually};

fn check(config: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), config).unwrap();
    let Output { status, stdout, .. } =
        bounded().args(["check", "--config"]).arg(file.path()).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned())
}

#[test]
fn what_can_not_work_is_refused_with_the_way_out() {
    for (config, told) in [
        (
            "registry: { zookeeper: { connect: \"zk1:2181/a/,zk2:2181/b\" } }",
            "registry.zookeeper.connect: all of \"/a/,zk2:2181/b\" would be the chroot",
        ),
        ("buffers: 0MiB", "buffers: 0B hold no body"),
        ("defaults: { max_body: 0B }", "defaults.max_body: 0B let no body through"),
        ("drain: 99999h", "drain: "),
    ] {
        let (code, text) = check(config);
        assert_eq!(code, Some(1), "{config}: {text}");
        assert!(text.contains(told), "{config}: {text}");
    }
    let good = "registry: { zookeeper: { connect: \"zk1:2181,zk2:2181/a/\" } }\ndrain: 1h\nbuffers: 1MiB";
    assert_eq!(check(good).0, Some(0));
}

#[test]
fn what_this_host_lacks_is_told_and_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let zookeeper = "registry: { zookeeper: { connect: \"zk1:2181\" }, snapshot: ";
    for config in [
        format!("listen: [\"unix:{}/none/x.sock\"]", dir.path().display()),
        format!("admin: \"unix:{}/none/x.sock\"", dir.path().display()),
        format!("{zookeeper}{}/none/view }}", dir.path().display()),
        format!("{zookeeper}{} }}", dir.path().display()),
    ] {
        let (code, text) = check(&config);
        assert_eq!(code, Some(0), "{config}: {text}");
        assert!(text.contains("good, but not on this host"), "{config}: {text}");
        assert!(text.contains("  lacks ") && text.contains("directory"), "{config}: {text}");
    }
    let there = format!(
        "listen: [\"unix:{0}/x.sock\", \"unix:y.sock\"]\n{zookeeper}{0}/view }}",
        dir.path().display()
    );
    let (code, text) = check(&there);
    assert!(code == Some(0) && !text.contains("lacks"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a check leaves nothing behind");
}

#[test]
fn a_view_that_can_not_be_kept_is_a_problem_until_it_is() {
    let zk = ZooKeeper::start();
    zk.client().put("/service/user", "{}");
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("none");
    let snapshot = directory.join("view");
    let remora = Remora::zookeeper(&zk).env("REMORA_REGISTRY__SNAPSHOT", snapshot.to_str().unwrap()).start();
    let problem = || remora.page("/registry")["problems"].to_string().contains("registry.snapshot: ");
    assert!(problem(), "{}", remora.page("/registry"));
    assert_eq!(remora.get("/user/get").status, 404, "no api yet, and calls go on");
    fs::create_dir(&directory).unwrap();
    eventually("written", Duration::from_secs(30), || snapshot.exists() && !problem());
}
