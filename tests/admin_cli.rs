//! The operator: pages of the admin port, commands, exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::remora::{self, BINARY};
use support::zookeeper::ZooKeeper;
use support::{Peer, Port, Remora, eventually, http, service, yar};

const GET: (&str, &str) = ("get", "{ path: /user/get, encoding: json }");

fn sidecar(peer: &Peer) -> Remora {
    let remora = Remora::embedded(&service("user", &[GET], &[&peer.address])).start();
    assert_eq!(remora.get("/user/get").status, 200);
    remora
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both streams: where a problem is printed is the program's choice.
fn all(output: &Output) -> String {
    out(output) + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn alive_and_ready() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    for page in ["/livez", "/readyz"] {
        assert_eq!(remora.admin("GET", page).status, 200, "{page}");
    }
}

#[test]
fn metrics_count_calls() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    assert_eq!(remora.get("/nobody/x").status, 404);
    let answer = remora.admin("GET", "/metrics");
    assert_eq!(answer.status, 200);
    let content = answer.header("content-type").unwrap_or_default();
    assert!(content.starts_with("text/plain"), "{content}");
    let text = answer.text();
    assert!(text.contains("# TYPE"), "{text}");
    assert!(text.contains("user"), "no service in {text}");
    let samples = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    for line in samples {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "not a sample: {line}");
    }
}

#[test]
fn the_view_shows_services_and_their_providers() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    for target in ["/services", "/services/user"] {
        let page = remora.page(target).to_string();
        assert!(page.contains("user"), "{page}");
        let text = remora.admin("GET", target).text();
        assert!(text.contains("user"), "{text}");
    }
    let page = remora.page("/services/user").to_string();
    assert!(page.contains(&peer.address), "{page}");
    assert!(remora.admin("GET", "/services/user").text().contains(&peer.address));
    assert_eq!(remora.admin("GET", "/services/nobody").status, 404);
    assert!(remora.page("/registry").is_object());
}

#[test]
fn a_list_of_services_says_that_they_are_those_that_were_called() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("user", &[GET], &[&peer.address])).start();
    let list = || remora.admin("GET", "/services").text();
    let text = list();
    assert!(text.contains("services: none\n") && text.contains("called since the start"), "{text}");
    assert_eq!(remora.get("/user/get").status, 200);
    assert!(list().contains("user:\n"), "{}", list());
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let peer = Peer::echo();
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), "open-sesame").unwrap();
    let remora = Remora::embedded(&service("user", &[GET], &[&peer.address]))
        .with(&format!("caller: {{ name: web, key_file: {} }}", key.path().display()))
        .with("drain: 7s")
        .start();
    let text = remora.admin("GET", "/config").text();
    let page = remora.page("/config").to_string();
    for shown in [&text, &page] {
        assert!(shown.contains(&remora.admin), "{shown}");
        assert!(shown.contains("7s"), "{shown}");
        assert!(!shown.contains("open-sesame"), "{shown}");
    }
}

#[test]
fn a_variable_overrides_the_file() {
    let peer = Peer::echo();
    let remora = Remora::embedded(&service("user", &[GET], &[&peer.address]))
        .with("drain: 7s")
        .env("REMORA_DRAIN", "3s")
        .env("REMORA_DEFAULTS__TIMEOUT", "1234ms")
        .start();
    let page = remora.page("/config").to_string();
    assert!(page.contains("3s") && !page.contains("7s"), "{page}");
    assert!(page.contains("1234ms") || page.contains("1s 234ms") || page.contains("1.234s"), "{page}");
}

#[test]
fn a_get_changes_nothing() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    for page in ["/drain", "/log-level"] {
        assert_eq!(remora.admin("GET", page).status, 405, "{page}");
    }
    assert_eq!(remora.admin("GET", "/readyz").status, 200);
    assert_eq!(remora.get("/user/get").status, 200);
    assert_eq!(remora.admin("GET", "/nothing-here").status, 404);
}

#[test]
fn pages_of_other_sites_can_not_ask() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let own = remora.admin.clone();
    for (method, page) in [("GET", "/config"), ("POST", "/drain")] {
        let rebound = http::call(&remora.admin, method, page, &[("Host", "evil.example")], b"");
        assert!((400..500).contains(&rebound.status), "{page}: {}", rebound.status);
        let headers = [("Host", own.as_str()), ("Origin", "http://evil.example")];
        let foreign = http::call(&remora.admin, method, page, &headers, b"");
        assert!((400..500).contains(&foreign.status), "{page}: {}", foreign.status);
    }
    let port = own.rsplit(':').next().unwrap();
    let local = format!("localhost:{port}");
    let answer = http::call(&remora.admin, "GET", "/livez", &[("Host", &local)], b"");
    assert_eq!(answer.status, 200, "localhost is ours");
    assert_eq!(remora.get("/user/get").status, 200);
}

#[test]
fn a_drain_by_post_ends_what_sigterm_ends() {
    let zk = ZooKeeper::start();
    let own = "providers: [{ service: user, address: \"10.0.0.5:80\" }]";
    let mut client = zk.client();
    let remora = Remora::zookeeper(&zk).with(own).start();
    let there = |client: &mut support::zookeeper::Kazoo| client.get("/address/user/10.0.0.5:80").is_some();
    eventually("registered", Duration::from_secs(15), || there(&mut client));
    let answer = remora.admin("POST", "/drain");
    assert!((200..300).contains(&answer.status), "{} {}", answer.status, answer.text());
    eventually("it has left", Duration::from_secs(15), || !there(&mut client));
    assert_eq!(remora.admin("GET", "/readyz").status, 503);
}

#[test]
fn telemetry_shows_no_more_than_it_must() {
    let peer = Peer::echo();
    let port = Port::free();
    let remora = Remora::embedded(&service("user", &[GET], &[&peer.address]))
        .with(&format!("telemetry: \"{}\"", port.address()))
        .start();
    let ask = |page: &str| http::get(&port.address(), page).status;
    for page in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(page), 200, "{page}");
    }
    for page in ["/config", "/services", "/registry", "/cache/diff", "/drain"] {
        assert_eq!(ask(page), 404, "{page}");
    }
    assert_eq!(remora.get("/user/get").status, 200);
}

#[test]
fn one_line_of_log_per_call() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    eventually("the call is in the log", Duration::from_secs(5), || {
        remora.log().lines().filter(|l| is_call(l)).count() == 1
    });
    let log = remora.log();
    let line = log.lines().find(|l| is_call(l)).unwrap();
    let fields: Value = serde_json::from_str(line).expect("JSON where stderr is no terminal");
    assert!(fields.to_string().contains(&peer.address), "{fields}");
}

fn is_call(line: &str) -> bool {
    line.contains("\"user\"") && line.contains("\"get\"")
}

fn log_level(remora: &Remora, level: &str) -> support::Answer {
    http::call(&remora.admin, "POST", "/log-level", &[("Host", &remora.admin)], level.as_bytes())
}

#[test]
fn the_log_level_can_be_changed_while_it_runs() {
    let peer = Peer::echo();
    let remora =
        Remora::embedded(&service("user", &[("*", "{ path: /, encoding: json }")], &[&peer.address])).start();
    // One connection writes its lines in order, so the last one tells that those before are there.
    let mut conn = remora.conn();
    let mut call = |target: &str, status: u16| {
        assert_eq!(conn.request("GET", target, &[], b"").unwrap().status, status, "{target}");
    };
    let logged = |name: &str| remora.log().contains(&format!("\"{name}\""));
    let soon = |name: &str| eventually(name, Duration::from_secs(5), || logged(name));
    call("/user/first", 200);
    soon("first");
    assert_eq!(log_level(&remora, "warn").status, 200);
    call("/user/second", 200);
    call("/third/x", 404);
    soon("third");
    assert!(!logged("second"), "{}", remora.log());
    assert_eq!(log_level(&remora, "call=info,remora=warn").status, 200);
    call("/user/fourth", 200);
    soon("fourth");
}

#[test]
fn a_log_level_that_is_none_is_refused_and_changes_nothing() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    for rubbish in ["=", "call=loud", "call=warn,remora=loud"] {
        let answer = log_level(&remora, rubbish);
        assert_eq!(answer.status, 400, "{rubbish}: {}", answer.text());
        assert!(answer.text().contains("call=warn,remora=debug"), "no way out: {}", answer.text());
    }
    assert_eq!(remora.get("/user/get").status, 200);
    eventually("calls are still logged", Duration::from_secs(5), || {
        remora.log().lines().filter(|l| is_call(l)).count() == 2
    });
}

#[test]
fn sigterm_sigint_and_sighup_end_with_0() {
    let peer = Peer::echo();
    for name in ["TERM", "INT", "HUP"] {
        let mut remora = sidecar(&peer);
        remora.signal(name);
        assert_eq!(remora.wait(Duration::from_secs(10)), Some(0), "{name}: {}", remora.log());
    }
}

fn check(config: &str) -> Output {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    fs::write(file.path(), config).unwrap();
    remora::remora(&["check", "--config", file.path().to_str().unwrap()])
}

#[test]
fn check_is_silent_about_nothing_and_calls_a_good_file_good() {
    let good = check("listen: [\"127.0.0.1:9501\"]\ndefaults: { timeout: 2s }\n");
    assert_eq!(good.status.code(), Some(0), "{}", all(&good));
    assert_eq!(remora::remora(&["check"]).status.code(), Some(0), "the defaults alone");
}

#[test]
fn check_prints_every_problem_with_its_way_out() {
    let bad = check(
        "registry: { zookeeper: { connect: \"127.0.0.1:2181\", session_timeout: 500ms } }\n\
         admin: 0.0.0.0:9500\n",
    );
    assert_eq!(bad.status.code(), Some(1), "{}", all(&bad));
    let text = all(&bad);
    assert!(text.contains("session_timeout") && text.contains("500ms"), "{text}");
    assert!(text.contains("admin") && text.contains("0.0.0.0"), "{text}");
}

#[test]
fn check_names_the_key_that_is_misspelled() {
    for (config, key) in [
        ("lisen: [\"127.0.0.1:9501\"]\n", "lisen"),
        ("registry: { zookeper: { connect: x } }\n", "zookeper"),
        ("defaults: { timeuot: 1s }\n", "timeuot"),
    ] {
        let bad = check(config);
        assert_eq!(bad.status.code(), Some(1), "{config}: {}", all(&bad));
        assert!(all(&bad).contains(key), "{config}: {}", all(&bad));
    }
    let missing = remora::remora(&["check", "--config", "/nowhere/remora.yaml"]);
    assert_eq!(missing.status.code(), Some(1), "{}", all(&missing));
    assert!(all(&missing).contains("/nowhere/remora.yaml"), "{}", all(&missing));
}

#[test]
fn wrong_usage_is_2() {
    for args in [&["nonsense"][..], &["run", "--nonsense"][..], &["yar", "nonsense"][..]] {
        assert_eq!(remora::remora(args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(remora::remora(&["--help"]).status.code(), Some(0));
    let version = remora::remora(&["--version"]);
    assert!(out(&version).contains(env!("CARGO_PKG_VERSION")), "{}", out(&version));
}

/// The registry that `remora registry …` works on, told by variables.
enum Registry<'a> {
    File(&'a Path),
    ZooKeeper(&'a str),
}

fn registry(which: &Registry<'_>, layout: &str, root: &str, args: &[&str]) -> Output {
    let mut command = remora::bounded();
    command.arg("registry").args(args).stdin(Stdio::null());
    match which {
        Registry::File(file) => command.env("REMORA_REGISTRY__EMBEDDED__FILE", file),
        Registry::ZooKeeper(hosts) => command.env("REMORA_REGISTRY__ZOOKEEPER__CONNECT", hosts),
    };
    command.env("REMORA_REGISTRY__LAYOUT", layout).env("REMORA_REGISTRY__ROOT", root).output().unwrap()
}

/// Puts, reads, lists and removes each kind of entry.
fn entries_by_hand(which: &Registry<'_>, layout: &str, root: &str) {
    let run = |args: &[&str]| registry(which, layout, root, args);
    let must = |args: &[&str]| {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{layout} {args:?}: {}", all(&output));
        out(&output)
    };
    let provider = match layout {
        "tree" => "user/get/10.0.0.5:8080",
        _ => "user/10.0.0.5:8080",
    };
    let caller = if layout == "tree" { "user/get/web" } else { "user/web" };
    let entries = [
        ("service", "user", r#"{"access":"open","owner":"us"}"#, "owner"),
        ("api", "user/get", r#"{"path":"/user/get","encoding":"json"}"#, "/user/get"),
        ("address", provider, r#"{"weight":7}"#, "7"),
        ("access", caller, r#"{"apis":["*"]}"#, "apis"),
    ];
    for (kind, name, data, part) in entries {
        must(&["put", kind, name, data]);
        let got = must(&["get", kind, name, "-o", "json"]);
        assert!(got.contains(part), "{layout} {kind} {name}: {got}");
    }
    // A second put replaces the first.
    must(&["put", "service", "user", r#"{"access":"key"}"#]);
    let got = must(&["get", "service", "user", "-o", "json"]);
    assert!(got.contains("key"), "{got}");
    let listed = must(&["ls", "services"]);
    assert!(listed.contains("user"), "{listed}");
    let nobody = run(&["get", "service", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1), "{}", all(&nobody));
    let broken = run(&["put", "service", "user", "{broken"]);
    assert_ne!(broken.status.code(), Some(0));
    let outside = run(&["put", "service", "../user", "{}"]);
    assert_ne!(outside.status.code(), Some(0));
    for (kind, name, _, _) in entries.iter().rev() {
        must(&["rm", kind, name]);
        let gone = run(&["get", kind, name]);
        assert_eq!(gone.status.code(), Some(1), "{kind} {name}: {}", all(&gone));
    }
}

#[test]
fn entries_of_the_embedded_registry_are_kept_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    for (layout, root) in [("flat", "/"), ("tree", "/dada")] {
        let file = dir.path().join(format!("{layout}.yaml"));
        entries_by_hand(&Registry::File(&file), layout, root);
        assert!(file.exists());
    }
}

#[test]
fn entries_in_zookeeper_are_kept_by_hand() {
    let zk = ZooKeeper::start();
    for (layout, root) in [("flat", "/prod"), ("tree", "/dada")] {
        entries_by_hand(&Registry::ZooKeeper(&zk.connect), layout, root);
    }
    let left = zk.client().ls("/prod");
    assert!(!left.contains(&"cluster-id".to_owned()), "only a sidecar marks: {left:?}");
}

#[test]
fn what_the_command_writes_stands_where_the_layout_says() {
    let zk = ZooKeeper::start();
    let mut client = zk.client();
    let which = Registry::ZooKeeper(&zk.connect);
    let put = |layout: &str, root: &str, args: &[&str]| {
        let output = registry(&which, layout, root, args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", all(&output));
    };
    put("flat", "/", &["put", "service", "user", r#"{"owner":"us"}"#]);
    put("flat", "/", &["put", "api", "user/get", r#"{"path":"/g"}"#]);
    put("flat", "/", &["put", "address", "user/10.0.0.5:8080", r#"{"weight":7}"#]);
    assert_eq!(client.data("/service/user"), Some(json!({"owner": "us"})));
    assert_eq!(client.data("/api/user/get"), Some(json!({"path": "/g"})));
    let node = client.get("/address/user/10.0.0.5:8080").map(|n| n.to_string());
    let list = client.get("/address/user").map(|n| n.to_string());
    let both = format!("{node:?} {list:?}");
    assert!(both.contains("10.0.0.5:8080") || node.is_some(), "{both}");
    put("tree", "/dada", &["put", "service", "cat", r#"{"contextPath":"/c"}"#]);
    put("tree", "/dada", &["put", "api", "cat/hello", r#"{"path":"/h"}"#]);
    assert_eq!(client.data("/dada/services/cat"), Some(json!({"contextPath": "/c"})));
    assert_eq!(client.data("/dada/services/cat/hello"), Some(json!({"path": "/h"})));
}

#[test]
fn commands_at_once_lose_nothing_and_a_linked_file_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("kept.yaml"), dir.path().join("registry.yaml"));
    fs::write(&file, "{}\n").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let link = &link;
            scope.spawn(move || {
                let name = format!("service-{n}");
                let done = registry(&Registry::File(link), "flat", "/", &["put", "service", &name, "{}"]);
                assert!(done.status.success(), "{}", all(&done));
            });
        }
    });
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("/service/service-").count(), 8, "{text}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_running_sidecar_follows_the_command() {
    let peer = Peer::named("new");
    let remora = Remora::embedded("").start();
    assert_eq!(remora.get("/user/get").status, 404);
    let which = Registry::File(&remora.registry_file);
    for args in [
        ["put", "api", "user/get", r#"{"path":"/g","encoding":"json"}"#],
        ["put", "address", &format!("user/{}", peer.address), "{}"],
    ] {
        let output = registry(&which, "flat", "/", &args);
        assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    }
    remora.until_status("/user/get", 200, Duration::from_secs(10));
}

#[test]
fn without_zookeeper_the_command_fails_in_time() {
    let zk = ZooKeeper::absent();
    let which = Registry::ZooKeeper(&zk.connect);
    let output = registry(&which, "flat", "/", &["ls", "services"]);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(!output.stderr.is_empty());
}

#[test]
fn yar_decode_shows_a_message() {
    let json_message = yar::json_request("add", "[1,2.0]");
    let packed = yar::msgpack_request("add", b"\x92\x01\xcb\x40\x00\x00\x00\x00\x00\x00\x00");
    for (message, packager) in [(&json_message, "JSON"), (&packed, "MSGPACK")] {
        let hex: String = message.iter().map(|b| format!("{b:02x}")).collect();
        for (args, input) in
            [(&["yar", "decode"][..], message.as_slice()), (&["yar", "decode", "--hex"][..], hex.as_bytes())]
        {
            let output = remora::remora_with(args, input);
            assert_eq!(output.status.code(), Some(0), "{}", all(&output));
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(shown["id"], yar::ID, "{shown}");
            assert_eq!(shown["version"], 0, "{shown}");
            assert_eq!(shown["provider"], "", "{shown}");
            assert_eq!(shown["token"], "", "{shown}");
            let named = shown["packager"].as_str().unwrap();
            assert!(named.eq_ignore_ascii_case(packager), "{shown}");
            assert_eq!(shown["body"]["m"], "add", "{shown}");
            assert_eq!(shown["body"]["p"], json!([1, 2.0]), "{shown}");
        }
    }
}

#[test]
fn yar_decode_can_show_types() {
    let packed = yar::msgpack_request("add", b"\x92\x81\x07\xa1x\xcb\x40\x08\x00\x00\x00\x00\x00\x00");
    let output = remora::remora_with(&["yar", "decode", "--typed"], &packed);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let map = shown["body"]["$map"].as_array().expect("a tagged map").clone();
    assert_eq!(map[1], json!(["m", "add"]), "{shown}");
    assert_eq!(map[2][1][0], json!({"$map": [[7, "x"]]}), "{shown}");
    assert_eq!(map[2][1][1], json!({"$float": "3.0"}), "{shown}");
}

#[test]
fn yar_decode_refuses_rubbish() {
    for input in [&b""[..], b"not a message", &[0xff; 200], &yar::json_request("a", "[]")[..80]] {
        let output = remora::remora_with(&["yar", "decode"], input);
        assert_eq!(output.status.code(), Some(1), "{input:02x?}");
        assert!(!output.stderr.is_empty());
    }
    let odd = remora::remora_with(&["yar", "decode", "--hex"], b"abc");
    assert_eq!(odd.status.code(), Some(1));
}

#[test]
fn the_demo_answers_and_ends_on_ctrl_c() {
    let (listen, admin) = (Port::free(), Port::free());
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(BINARY)
        .arg("demo")
        .env("REMORA_LISTEN", format!("[\"{}\"]", listen.address()))
        .env("REMORA_ADMIN", admin.address())
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (listen, admin) = (listen.address(), admin.address());
    let ready = || {
        std::net::TcpStream::connect(&admin).is_ok()
            && http::call(&admin, "GET", "/readyz", &[("Host", &admin)], b"").status == 200
    };
    eventually("the demo is ready", Duration::from_secs(20), ready);
    let greeting = http::get(&listen, "/hello/greet?name=Ada");
    let sum = http::post_json(&listen, "/calc/add", "[1,2]");
    remora::signal("INT", &child.id().to_string());
    eventually("the demo ends", Duration::from_secs(15), || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    assert_eq!(greeting.status, 200, "{}", greeting.text());
    assert_eq!(sum.text().trim(), "3");
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let printed = out(&output);
    assert!(printed.contains("curl") && printed.contains("/calc"), "{printed}");
}
