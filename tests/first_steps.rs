//! What somebody meets who sets remora up: slips in entries, roots that are not there, sockets that are taken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::json;
use support::zookeeper::ZooKeeper;
use support::{Peer, Remora, remora};

const FILE: &str = "REMORA_REGISTRY__EMBEDDED__FILE";
const ZOOKEEPER: &str = "REMORA_REGISTRY__ZOOKEEPER__CONNECT";

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = remora::bounded();
    command.args(args).envs(env.iter().copied()).current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command on the embedded registry in `file` that must be done; its outputs.
fn on_file(file: &Path, args: &[&str]) -> (String, String) {
    let output = run(&[&["registry"], args].concat(), &[(FILE, file.to_str().unwrap())]);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
    (out(&output), err(&output))
}

const NOT_THERE: &str = "does not exist in ZooKeeper: every service reads as absent; create it";

#[test]
fn a_root_that_is_not_there_is_no_empty_registry() {
    let zk = ZooKeeper::start();
    let below = format!("{}/nowhere", zk.connect);
    let reads: [&[&str]; 5] = [
        &["check", "--connect"],
        &["registry", "ls", "services"],
        &["registry", "get", "service", "user"],
        &["registry", "rm", "service", "user"],
        &["registry", "export"],
    ];
    for (connect, root, place) in [(&below, "/", "/nowhere"), (&zk.connect, "/prod", "/prod")] {
        let env = [(ZOOKEEPER, connect.as_str()), ("REMORA_REGISTRY__ROOT", root)];
        for args in reads {
            let output = run(args, &env);
            assert_eq!(output.status.code(), Some(1), "{args:?} {place}: {}", out(&output));
            let told = err(&output);
            assert!(told.contains(place) && told.contains(NOT_THERE), "{args:?} {place}: {told}");
            assert!(!out(&output).contains("good"), "{}", out(&output));
        }
    }
}

#[test]
fn a_write_makes_the_root_and_never_the_chroot() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let below = format!("{}/nowhere", zk.connect);
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    fs::write(file.path(), "version: 1\nlayout: flat\nservices: { user: { data: {} } }\n").unwrap();
    let import = ["registry", "import", file.path().to_str().unwrap()];
    let writes = [&["registry", "put", "service", "user"][..], &import];
    for args in writes {
        for root in ["/", "/prod"] {
            let output = run(args, &[(ZOOKEEPER, &below), ("REMORA_REGISTRY__ROOT", root)]);
            assert_eq!(output.status.code(), Some(1), "{args:?} {root}: {}", out(&output));
            let told = err(&output);
            assert!(told.contains("chroot") && told.contains("does not exist"), "{args:?} {root}: {told}");
        }
    }
    assert!(client.get("/nowhere").is_none());
    for (args, root) in writes.iter().zip(["/one", "/two"]) {
        let output = run(args, &[(ZOOKEEPER, &zk.connect), ("REMORA_REGISTRY__ROOT", root)]);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
        assert_eq!(client.data(&format!("{root}/service/user")), Some(json!({})));
    }
}

#[test]
fn check_says_good_only_where_it_is() {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let env = [(FILE, file.path().to_str().unwrap())];
    fs::write(file.path(), "/service/user: { state: maybe }\n").unwrap();
    let bad = run(&["check", "--connect"], &env);
    assert_eq!(bad.status.code(), Some(1));
    assert!(out(&bad).contains("/service/user: state") && !out(&bad).contains("good"), "{}", out(&bad));
    fs::write(file.path(), "/service/user: { state: on }\n").unwrap();
    let good = run(&["check", "--connect"], &env);
    assert_eq!(good.status.code(), Some(0), "{}", out(&good));
    assert!(out(&good).starts_with("the defaults: good\n"), "{}", out(&good));
}

#[test]
fn a_service_without_its_own_node_is_told_to_be_open() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.yaml");
    let entries = "/service/pay: { access: key }\n/api/pay/do: {}\n/api/pay/undo: {}\n\
                   /address/pay: { addresses: [ { address: \"10.0.0.5:80\" } ] }\n/access/pay/web: {}\n";
    fs::write(&file, entries).unwrap();
    let (_, told) = on_file(&file, &["rm", "service", "pay"]);
    for part in [
        "/service/pay is removed",
        "/api/pay with 2 below it",
        "/address/pay,",
        "/access/pay with 1 below it",
        "open to everybody now",
        "remora registry rm --all service pay",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    let again = run(&["registry", "rm", "service", "pay"], &[(FILE, file.to_str().unwrap())]);
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("rm --all service pay"), "{}", err(&again));
    let (_, told) = on_file(&file, &["rm", "--all", "service", "pay"]);
    assert_eq!(told, "");
    assert_eq!(on_file(&file, &["ls", "services"]).0, "");
    let gone = run(&["registry", "rm", "--all", "service", "pay"], &[(FILE, file.to_str().unwrap())]);
    assert_eq!(gone.status.code(), Some(1), "{}", err(&gone));
    let wrong = run(&["registry", "rm", "--all", "api", "pay/do"], &[(FILE, file.to_str().unwrap())]);
    assert_eq!(wrong.status.code(), Some(2), "{}", err(&wrong));
}

#[test]
fn all_of_a_service_goes_in_zookeeper_and_no_other_does() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    for (layout, kept, gone) in [
        (
            "flat",
            &["/service/payment", "/api/payment/do"][..],
            &["/service/pay", "/api/pay/do", "/access/pay/web"][..],
        ),
        ("tree", &["/services/payment/do"][..], &["/services/pay/do/access/web"][..]),
    ] {
        for path in kept.iter().chain(gone) {
            client.create(path, "{}");
        }
        if layout == "flat" {
            client.ephemeral("/address/pay/10.0.0.5:80", "{}");
        }
        let env = [(ZOOKEEPER, zk.connect.as_str()), ("REMORA_REGISTRY__LAYOUT", layout)];
        let output = run(&["registry", "rm", "service", "pay", "--all"], &env);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert_eq!(err(&output).contains("register themselves again"), layout == "flat", "{}", err(&output));
        let listed = run(&["registry", "ls", "services"], &env);
        assert_eq!(out(&listed), "payment  {}\n");
        assert!(kept.iter().all(|path| client.get(path).is_some()));
    }
}

#[test]
fn a_field_one_slip_away_from_a_known_one_is_written_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.yaml");
    let (_, told) = on_file(&file, &["put", "service", "user", r#"{"onwer":"me","team":"us"}"#]);
    assert!(told.contains("/service/user: onwer:") && told.contains("did you mean `owner`?"), "{told}");
    assert!(!told.contains("team"), "{told}");
    let (shown, _) = on_file(&file, &["get", "service", "user"]);
    assert!(shown.contains("onwer") && shown.contains("team"), "{shown}");
    let (_, told) = on_file(&file, &["put", "service", "user", r#"{"access":"key"}"#]);
    assert_eq!(told, "");
}

#[test]
fn a_put_opens_nothing_by_a_slip() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.yaml");
    on_file(&file, &["put", "service", "new"]);
    on_file(&file, &["put", "service", "user", r#"{"access":"key"}"#]);
    let env = [(FILE, file.to_str().unwrap())];
    for (args, way_out) in [
        (&["service", "user"][..], "/service/user is there already; give its fields"),
        (&["service", "user", r#"{"acess":"key"}"#], "did you mean `access`?; --force writes it"),
        (&["service", "user", r#"{"access":"key","access":"open"}"#], "\"access\" stands there twice"),
        (&["access", "user/web", r#"{"api":["get"]}"#], "did you mean `apis`?"),
        (&["address", "user/10.0.0.5:080", "{}"], "the port starts with 0"),
    ] {
        let refused = run(&[&["registry", "put"], args].concat(), &env);
        assert_eq!(refused.status.code(), Some(1), "{args:?}: {}", out(&refused));
        assert!(err(&refused).contains(way_out), "{args:?}: {}", err(&refused));
    }
    assert_eq!(on_file(&file, &["get", "service", "user", "-o", "json"]).0.matches("key").count(), 1);
    let (_, told) = on_file(&file, &["put", "--force", "service", "user", r#"{"acess":"key"}"#]);
    assert!(told.contains("did you mean `access`?"), "{told}");
}

#[test]
fn every_encoding_is_written_without_a_word_and_what_no_call_can_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.yaml");
    for encoding in ["json", "yar-msgpack", "yar-json", "yar-php"] {
        let data = format!(r#"{{"encoding":"{encoding}"}}"#);
        let (_, told) = on_file(&file, &["put", "api", "user/get", &data]);
        assert_eq!(told, "", "{encoding}");
    }
    let env = [(FILE, file.to_str().unwrap())];
    let checked = run(&["check", "--connect"], &env);
    assert_eq!(checked.status.code(), Some(0));
    assert!(!out(&checked).contains("yar-php"), "{}", out(&checked));
    let refused = run(&["registry", "put", "api", "user/set", r#"{"tls":true}"#], &env);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("tls: true needs providers over TLS"), "{}", err(&refused));
}

#[test]
fn the_parent_of_providers_is_no_entry() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    client.ephemeral("/address/shop/10.0.0.5:80", "{}");
    client.create("/address/user", r#"{"addresses":[]}"#);
    let ls = ["registry", "ls", "addresses"];
    let listed = run(&ls, &[(ZOOKEEPER, &zk.connect)]);
    assert_eq!(out(&listed), "shop/10.0.0.5:80  {}\nuser              {\"addresses\":[]}\n");
}

#[test]
fn the_start_is_logged_with_every_address_and_the_socket_files_go_at_the_end() {
    let peer = Peer::echo();
    let entries = support::service("user", &[("get", "{}")], &[&peer.address]);
    let dir = tempfile::tempdir().unwrap();
    let telemetry = dir.path().join("telemetry.sock");
    let mut remora =
        Remora::embedded(&entries).with(&format!("telemetry: \"unix:{}\"", telemetry.display())).start();
    let socket = remora.socket.clone();
    support::eventually("the start is logged", std::time::Duration::from_secs(5), || {
        remora.log().contains("remora takes calls")
    });
    let log = remora.log();
    let line = log.lines().find(|line| line.contains("remora takes calls")).unwrap();
    for address in [remora.address.clone(), format!("unix:{}", socket.display()), remora.admin.clone()] {
        assert!(line.contains(&address), "no {address} in {line}");
    }
    assert!(socket.exists() && telemetry.exists());
    assert_eq!(remora.terminate(), 0);
    assert!(!socket.exists() && !telemetry.exists(), "the socket files are still there");
}

#[test]
fn the_socket_file_of_a_successor_stays() {
    let mut remora = Remora::embedded("").start();
    fs::remove_file(&remora.socket).unwrap();
    let _successor = std::os::unix::net::UnixListener::bind(&remora.socket).unwrap();
    assert_eq!(remora.terminate(), 0);
    assert!(remora.socket.exists());
}

#[test]
fn a_file_in_place_of_a_socket_is_told_as_that_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (file, made) = (dir.path().join("notes.txt"), dir.path().join("made.sock"));
    fs::write(&file, "keep me").unwrap();
    let listen = format!("[\"unix:{}\", \"unix:{}\"]", made.display(), file.display());
    let registry = dir.path().join("registry.yaml");
    let output = run(&["run"], &[("REMORA_LISTEN", &listen), (FILE, registry.to_str().unwrap())]);
    assert_eq!(output.status.code(), Some(1));
    let told = err(&output);
    assert!(
        told.contains("notes.txt can't be served: a file stands there, not a socket; remove it"),
        "{told}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "keep me");
    assert!(!made.exists(), "what was bound before is left behind");
}

#[test]
fn a_registry_file_that_is_no_map_is_told_what_it_should_be() {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let env = [(FILE, file.path().to_str().unwrap())];
    for (text, part) in [
        ("- /service/user\n", "it is a list, not a map from paths such as /service/user to their data"),
        ("/service/user\n", "it is a single value, not a map from paths"),
        ("/service/user: {}\n/service/user: {}\n", "line 2 column 1: duplicate mapping key: /service/user\n"),
    ] {
        fs::write(file.path(), text).unwrap();
        let output = run(&["registry", "ls", "services"], &env);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(err(&output).contains(part), "{}", err(&output));
    }
    fs::write(file.path(), "drain: 1s\ndrain: 2s\n").unwrap();
    let twice = run(&["check", "--config", file.path().to_str().unwrap()], &[]);
    assert!(out(&twice).ends_with("line 2, column 1: duplicate mapping key: drain\n"), "{}", out(&twice));
}
