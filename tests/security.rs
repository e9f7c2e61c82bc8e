//! ZooKeeper with users, ACLs and TLS: others can't touch what is ours, and what is wrong is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use support::remora::{self, Setup};
use support::tls::Pki;
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Peer, Remora, eventually, eventually_some};
use tempfile::TempDir;

/// A registration, and a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// The session of four seconds, a reconnect, and a busy machine.
const LATER: Duration = Duration::from_secs(25);

/// The file with the password of user `remora`.
struct Password {
    dir: TempDir,
}

impl Password {
    fn new(lines: &str) -> Password {
        let password = Password { dir: tempfile::tempdir().unwrap() };
        password.change(lines);
        password
    }

    fn change(&self, lines: &str) {
        fs::write(self.file(), lines).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("zk")
    }

    fn auth(&self) -> String {
        format!("auth: {{ user: remora, password_file: {} }}", self.file().display())
    }
}

fn path_of(app: &Peer) -> String {
    format!("/address/user/{}", app.address)
}

/// A sidecar that registers `app` as a provider of `user`.
fn beside(app: &Peer, zk: &ZooKeeper, security: &str) -> Setup {
    at(app, &zk.connect, security)
}

fn at(app: &Peer, connect: &str, security: &str) -> Setup {
    Remora::zookeeper_with(connect, security)
        .with(&format!("providers: [ {{ service: user, address: \"{}\" }} ]", app.address))
}

fn there(client: &mut Kazoo, path: &str) {
    eventually(&format!("{path} is there"), SOON, || client.get(path).is_some());
}

fn error(client: &mut Kazoo, command: &Value) -> String {
    client.ask(command)["error"].as_str().unwrap_or("none").to_owned()
}

/// `remora registry …` with the configuration of a running sidecar: whether it was done, and what it said.
fn registry(of: &Remora, args: &[&str]) -> (bool, String) {
    let config = of.config.display().to_string();
    let output = remora::remora(&[&["registry", "--config", &config], args].concat());
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

/// Waits until `/registry` tells of a problem with all these words.
fn problem(remora: &Remora, words: &[&str]) -> String {
    eventually_some(&format!("a problem with {words:?}"), SOON, || {
        let problems = remora.page("/registry")["problems"].clone();
        let told = |text: &&str| words.iter().all(|word| text.contains(word));
        problems.as_array()?.iter().filter_map(Value::as_str).find(told).map(str::to_owned)
    })
}

fn no_problem(remora: &Remora) {
    eventually("no problem is left", SOON, || remora.page("/registry")["problems"] == json!([]));
}

#[test]
fn what_is_ours_is_read_by_all_and_changed_by_none() {
    let zk = ZooKeeper::start();
    let mut anybody = zk.client();
    let (app, password) = (Peer::named("app"), Password::new("s3cret\n"));
    let path = path_of(&app);
    let ours = beside(&app, &zk, &password.auth()).start();
    there(&mut anybody, &path);
    assert_eq!(registry(&ours, &["put", "api", "user/x", r#"{"path":"/x"}"#]), (true, String::new()));
    assert_eq!(registry(&ours, &["put", "api", "user/x", r#"{"path":"/y"}"#]), (true, String::new()));

    for refused in [
        json!(["set", path, "{}"]),
        json!(["rm", path]),
        json!(["create", "/address/user/10.0.0.9:1", "{}"]),
        json!(["rm", "/address"]),
        json!(["set", "/api/user/x", "{}"]),
        json!(["rm", "/api/user/x"]),
    ] {
        assert_eq!(error(&mut anybody, &refused), "NoAuthError", "{refused}");
    }
    // a sidecar that is nobody calls what it finds
    let stranger = Remora::zookeeper(&zk).start();
    stranger.until_status("/user/x", 200, SOON);
    let (done, said) = registry(&stranger, &["put", "api", "user/x", "{}"]);
    assert!(!done && said.contains("give registry.zookeeper.auth"), "{said}");
    let (done, said) = registry(&stranger, &["rm", "api", "user/x"]);
    assert!(!done && said.contains("/api/user/x") && said.contains("ACL"), "{said}");

    assert_eq!(registry(&ours, &["rm", "api", "user/x"]), (true, String::new()));
    let log = ours.log();
    assert!(!log.contains("s3cret"), "{log}");
    let shown = ours.page("/config");
    assert_eq!(shown["registry"]["zookeeper"]["acl"], "protected", "{shown}");
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
}

#[test]
fn sidecars_of_one_user_share_parents_and_take_over_what_is_stale() {
    let zk = ZooKeeper::start();
    let mut anybody = zk.client();
    let password = Password::new("s3cret");
    let (app, other) = (Peer::named("app"), Peer::named("other"));
    let mut first = beside(&app, &zk, &password.auth()).start();
    there(&mut anybody, &path_of(&app));
    let _other = beside(&other, &zk, &password.auth()).start();
    there(&mut anybody, &path_of(&other));

    let old = anybody.owner(&path_of(&app)).unwrap();
    first.kill();
    let mut second = beside(&app, &zk, &password.auth()).start();
    let new = eventually_some("a new owner", SOON, || anybody.owner(&path_of(&app)).filter(|o| *o != old));
    eventually("the old session expires", LATER, || !zk.knows_session(&old));
    assert_eq!(anybody.owner(&path_of(&app)), Some(new), "lost with the old session");
    assert_eq!(error(&mut anybody, &json!(["set", path_of(&app), "{}"])), "NoAuthError");
    assert_eq!(second.terminate(), 0);
    assert!(anybody.get(&path_of(&app)).is_none(), "it has not left");
}

#[test]
fn a_wrong_password_is_told_and_the_right_one_taken_without_a_restart() {
    let zk = ZooKeeper::start();
    let mut anybody = zk.client();
    let (right, wrong) = (Password::new("right"), Password::new("wrong"));
    let (app, other) = (Peer::named("app"), Peer::named("other"));
    let _first = beside(&app, &zk, &right.auth()).start();
    there(&mut anybody, &path_of(&app));

    let second = beside(&other, &zk, &wrong.auth()).start();
    let told = problem(&second, &["registry.zookeeper.auth", "user remora", &path_of(&other)]);
    assert!(told.contains(&wrong.file().display().to_string()) && told.contains("mend"), "{told}");
    let own = &second.page("/registry")["own"][0];
    assert_eq!(own["registered"], json!(false), "{own}");
    assert!(own["note"].as_str().unwrap().contains("password"), "{own}");

    wrong.change("right\n");
    there(&mut anybody, &path_of(&other));
    no_problem(&second);
}

#[test]
fn a_password_is_replaced_while_both_hold() {
    let zk = ZooKeeper::start();
    let mut anybody = zk.client();
    let (old, both, new) = (Password::new("old"), Password::new("new\nold\n"), Password::new("new"));
    let apps = [Peer::named("old"), Peer::named("both"), Peer::named("new")];
    let _both = beside(&apps[1], &zk, &both.auth()).start();
    there(&mut anybody, &path_of(&apps[1]));
    let _old = beside(&apps[0], &zk, &old.auth()).start();
    there(&mut anybody, &path_of(&apps[0]));
    let _new = beside(&apps[2], &zk, &new.auth()).start();
    there(&mut anybody, &path_of(&apps[2]));
}

#[test]
fn an_open_acl_leaves_everything_to_everybody() {
    let zk = ZooKeeper::start();
    let mut anybody = zk.client();
    let (app, password) = (Peer::named("app"), Password::new("s3cret"));
    let _open = beside(&app, &zk, &format!("{}, acl: open", password.auth())).start();
    there(&mut anybody, &path_of(&app));
    anybody.set(&path_of(&app), r#"{"weight":1}"#);
    anybody.create("/address/user/10.0.0.9:1", "{}");
    anybody.rm("/address/user/10.0.0.9:1");
}

#[test]
fn where_only_users_are_let_in_a_sidecar_without_one_is_told_so() {
    let zk = ZooKeeper::with("enforce.auth.enabled=true\nenforce.auth.schemes=digest\n");
    let (app, password) = (Peer::named("app"), Password::new("s3cret"));
    let nobody = beside(&app, &zk, "").unready().start();
    problem(&nobody, &["registry.zookeeper.auth", "give a user"]);
    let ours = beside(&app, &zk, &password.auth()).start();
    eventually("registered", SOON, || ours.page("/registry")["own"][0]["registered"] == json!(true));
}

#[test]
fn over_tls_with_a_certificate_a_provider_is_registered() {
    let pki = Pki::new();
    let tls = pki.of_client(true);
    let mut zk = ZooKeeper::secure(pki);
    let mut anybody = zk.client();
    let (app, password) = (Peer::named("app"), Password::new("s3cret"));
    let both = format!("{tls}, {}", password.auth());
    let remora = at(&app, &zk.secure_connect(), &both).start();
    there(&mut anybody, &path_of(&app));
    assert_eq!(error(&mut anybody, &json!(["rm", path_of(&app)])), "NoAuthError");
    no_problem(&remora);
    assert_eq!(registry(&remora, &["put", "service", "user", "{}"]), (true, String::new()));

    let config = remora.config.display().to_string();
    let output = remora::remora(&["check", "--connect", "--config", &config]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("over TLS with our certificate as remora"), "{said}");
    assert!(said.contains("1 service"), "{said}");

    let before = anybody.owner(&path_of(&app));
    zk.restart();
    eventually("connected again", LATER, || remora.page("/registry")["connected"] == json!(true));
    eventually("registered", LATER, || anybody.get(&path_of(&app)).is_some());
    assert_eq!(anybody.owner(&path_of(&app)), before, "the session was lost");
}

#[test]
fn a_server_of_another_ca_is_refused_until_its_ca_is_given() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let right = fs::read(theirs.file("ca.pem")).unwrap();
    // its clients are known to it: only its own certificate is foreign
    for file in ["client.pem", "client.key"] {
        fs::copy(theirs.file(file), ours.file(file)).unwrap();
    }
    let zk = ZooKeeper::secure(theirs);
    let app = Peer::named("app");
    let remora = at(&app, &zk.secure_connect(), &ours.of_client(true)).unready().start();
    let told = problem(&remora, &["registry.zookeeper.tls", &zk.secure_connect(), "no CA in ca_file signed"]);
    assert!(told.contains("add its CA"), "{told}");
    let output = remora::remora(&["check", "--connect", "--config", &remora.config.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("no CA in ca_file signed"), "{said}");

    fs::write(ours.file("ca.pem"), right).unwrap();
    there(&mut zk.client(), &path_of(&app));
    no_problem(&remora);
}

#[test]
fn a_server_that_wants_another_certificate_says_so() {
    let (stranger, pki) = (Pki::new(), Pki::new());
    let without = pki.of_client(false);
    for file in ["client.pem", "client.key"] {
        fs::copy(stranger.file(file), pki.file(file)).unwrap();
    }
    let with = pki.of_client(true);
    let zk = ZooKeeper::secure(pki);
    let app = Peer::named("app");
    let remora = at(&app, &zk.secure_connect(), &without).unready().start();
    problem(&remora, &["registry.zookeeper.tls", "give cert_file and key_file"]);
    let remora = at(&app, &zk.secure_connect(), &with).unready().start();
    problem(&remora, &["registry.zookeeper.tls", "refuses our certificate"]);
    // TLS at the port for plain clients
    let remora = at(&app, &zk.connect, &without).unready().start();
    problem(&remora, &["registry.zookeeper.tls", "secureClientPort"]);
}

#[test]
fn files_that_are_missing_or_wrong_end_the_check_with_the_way_out() {
    let (pki, other, dir) = (Pki::new(), Pki::new(), tempfile::tempdir().unwrap());
    let text = dir.path().join("text");
    fs::write(&text, "no PEM at all\n").unwrap();
    let file = |path: PathBuf| path.display().to_string();
    let (ca, cert) = (file(pki.file("ca.pem")), file(pki.file("client.pem")));
    let (foreign, text) = (file(other.file("client.key")), file(text));
    let said = |security: &str| {
        let config = dir.path().join("remora.yaml");
        fs::write(&config, format!("registry: {{ zookeeper: {{ connect: \"a:1\", {security} }} }}\n"))
            .unwrap();
        let output = remora::remora(&["check", "--config", &file(config)]);
        assert_eq!(output.status.code(), Some(1), "{security}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let cases = [
        (
            format!("tls: {{ ca_file: {text} }}"),
            format!("registry.zookeeper.tls.ca_file: {text}: it has no certificate"),
        ),
        (
            "tls: { ca_file: /nowhere/ca }".to_owned(),
            "registry.zookeeper.tls.ca_file: /nowhere/ca: it can't be read".to_owned(),
        ),
        (
            format!("tls: {{ ca_file: {ca}, cert_file: {cert} }}"),
            "registry.zookeeper.tls.key_file: give it with cert_file".to_owned(),
        ),
        (
            format!("tls: {{ ca_file: {ca}, cert_file: {cert}, key_file: {text} }}"),
            format!("registry.zookeeper.tls.key_file: {text}: it has no private key"),
        ),
        (
            format!("tls: {{ ca_file: {ca}, cert_file: {cert}, key_file: {foreign} }}"),
            format!("registry.zookeeper.tls.key_file: {foreign}: it does not fit the certificate in {cert}"),
        ),
        ("tls: {}".to_owned(), "registry.zookeeper.tls.ca_file: give the certificate of the CA".to_owned()),
        (
            "auth: { user: remora, password_file: /nowhere/zk }".to_owned(),
            "registry.zookeeper.auth.password_file: /nowhere/zk: the password can't be read".to_owned(),
        ),
        (
            format!("auth: {{ user: \"a:b\", password_file: {text} }}"),
            "registry.zookeeper.auth.user: \"a:b\" can't be a user".to_owned(),
        ),
        (
            "acl: protected".to_owned(),
            "registry.zookeeper.acl: protected needs registry.zookeeper.auth".to_owned(),
        ),
        (
            "acl: closed".to_owned(),
            "registry.zookeeper.acl: \"closed\" is none of open, protected".to_owned(),
        ),
    ];
    for (security, wanted) in cases {
        let said = said(&security);
        assert!(said.contains(&wanted), "{security} gave:\n{said}\nnot: {wanted}");
        assert!(said.trim_end().lines().count() == 1, "{said}");
    }
}

#[test]
fn the_example_is_good_where_its_files_are() {
    let (pki, password) = (Pki::new(), Password::new("s3cret"));
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/secure/remora.yaml");
    let tls = pki.of_client(true);
    let output = remora::bounded()
        .args(["check", "--config", example])
        .env("REMORA_REGISTRY__ZOOKEEPER__TLS", tls.trim_start_matches("tls: "))
        .env("REMORA_REGISTRY__ZOOKEEPER__AUTH__PASSWORD_FILE", password.file())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("over TLS with our certificate as remora"), "{said}");
}
