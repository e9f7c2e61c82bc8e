//! What the log and the commands say is so, and no more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Output;
use std::time::Duration;

use support::remora::bounded;
use support::zookeeper::ZooKeeper;
use support::{Peer, Remora, eventually};

fn on_zookeeper(zk: &ZooKeeper, args: &[&str]) -> Output {
    bounded().args(args).env("REMORA_REGISTRY__ZOOKEEPER__CONNECT", &zk.connect).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_start_warns_of_nothing_and_a_hand_over_says_what_stays() {
    let zk = ZooKeeper::start();
    let app = Peer::echo();
    let own =
        format!("providers: [{{ service: user, address: \"{}\", health: {{ tcp: true }} }}]", app.address);
    // no more than any process may have open
    let mut remora = Remora::zookeeper(&zk).with(&own).with("connections: 100").start();
    let logged = |remora: &Remora, what: &str| remora.log().contains(what);
    eventually("registered", Duration::from_secs(20), || logged(&remora, "own provider registered"));
    let log = remora.log();
    assert!(log.contains("own provider is not registered yet"), "{log}");
    assert!(!log.contains("WARN"), "{log}");
    remora.signal("USR2");
    assert_eq!(remora.wait(Duration::from_secs(15)), Some(0));
    assert!(logged(&remora, "own providers stay registered"), "{}", remora.log());
    assert!(!logged(&remora, "own providers leave"), "{}", remora.log());
}

#[test]
fn a_long_name_does_not_push_all_values_away() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let long = "x".repeat(100);
    for name in ["a", "user", &long] {
        client.put(&format!("/service/{name}"), "{}");
    }
    let listed = out(&on_zookeeper(&zk, &["registry", "ls", "services"]));
    assert_eq!(listed, format!("a     {{}}\nuser  {{}}\n{long}  {{}}\n"));
}

#[test]
fn data_that_is_no_json_is_told_by_what_it_is_and_keys_are_not_shown() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    for (path, data, told) in [
        ("/service/user", "\u{feff}{}", "byte order mark"),
        ("/api/user/get", "a:1:{s:4:\"path\";s:1:\"/\";}", "PHP's serialize()"),
        ("/address/user", "\u{1}\u{2}binary", r#"it starts with "\x01\x02binary""#),
    ] {
        client.put(path, data);
        let checked = on_zookeeper(&zk, &["check", "--connect"]);
        let line = out(&checked).lines().find(|line| line.starts_with(path)).unwrap_or_default().to_owned();
        assert!(checked.status.code() == Some(1) && line.contains(told), "{path}: {}", out(&checked));
    }
    client.put("/access/user/web", "open-sesame");
    let checked = on_zookeeper(&zk, &["check", "--connect"]);
    let shown = on_zookeeper(&zk, &["registry", "get", "access", "user/web"]);
    for output in [checked, shown] {
        let text = out(&output) + &String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("it is not JSON") && !text.contains("sesame"), "{text}");
    }
}
