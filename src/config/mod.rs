//! The configuration: as written, then as meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::model::{Health, Layout, Policy};
use crate::names::{Address, CallerName, ServiceName};
use crate::units::Share;

mod explain;
mod file;
mod listen;
mod otlp;
mod problem;
mod read;
mod resolve;
mod secret;
mod security;
mod show;
mod telling;

pub use problem::{Problem, Problems};
pub use secret::passwords;

/// Reads a configuration: the file, `REMORA_` variables over it, `${VAR}` in values, then defaults.
///
/// Without a file every default holds. Fails with all that is wrong, not only the first.
pub fn load(
    path: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Problems> {
    let env: BTreeMap<String, String> = env.into_iter().collect();
    let (mut notes, mut problems) = (Vec::new(), Problems::default());
    let (file, origins) = read::read(path, &env, &mut notes, &mut problems);
    let config = resolve::resolve(file, notes, &mut problems);
    problems.blame(&origins);
    if problems.0.is_empty() { Ok(config) } else { Err(problems) }
}

/// Of `whole`, room for bodies or lanes for long conversions, what one service may take.
pub fn part_of_one(whole: u64) -> u64 {
    const PART: (u64, u64) = (3, 4);
    whole * PART.0 / PART.1
}

/// This process's environment; a variable that isn't UTF-8 counts as not set.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The configuration as meant: every default in place, everything checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where services are known from.
    pub registry: Registry,
    /// Where callers call.
    pub listen: Vec<Listen>,
    /// Where operators ask.
    pub admin: Bind,
    /// Where kubelet and Prometheus ask.
    pub telemetry: Option<Bind>,
    /// Of which calls a line is logged.
    pub access_log: AccessLog,
    /// The collector that is told of metrics and calls.
    pub otlp: Option<Otlp>,
    /// This host.
    pub host: Host,
    /// Who the PHP on this host is, where a call says nothing itself.
    pub caller: Option<Caller>,
    /// This host's own app.
    pub providers: Vec<OwnProvider>,
    /// Policy where neither service nor API says otherwise.
    pub defaults: Policy,
    /// How long calls in flight may take after SIGTERM.
    pub drain: Duration,
    /// Data-path threads.
    pub workers: usize,
    /// Callers connected at once, over all workers.
    pub connections: usize,
    /// Bytes of bodies held at once because they have to be converted, over all workers.
    pub buffers: u64,
    /// Callers that may ask for the story of their calls.
    pub explain: Vec<String>,
    /// What was written but is not in force in this version, for the log and `remora check`.
    pub notes: Vec<String>,
}

/// The registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Which one.
    pub source: Source,
    /// How its nodes are laid out.
    pub layout: Layout,
    /// Where the last view known to be true is kept on disk.
    pub snapshot: Option<PathBuf>,
    /// Everything is below this path; no slash at the end, empty for `/`.
    pub root: String,
}

/// Where the registry's nodes are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In a file of this host, followed when edited.
    Embedded {
        /// The YAML file.
        file: PathBuf,
    },
    /// In ZooKeeper.
    ZooKeeper {
        /// `host:port,…` with an optional chroot.
        connect: String,
        /// After that long without contact the ensemble gives the session up.
        session_timeout: Duration,
        /// How the two know each other.
        security: Security,
    },
}

/// How remora and ZooKeeper know each other.
#[derive(Debug, Clone)]
pub struct Security {
    /// Who remora is there; `None`: anybody.
    pub auth: Option<Auth>,
    /// Who may change what remora makes.
    pub acl: Acl,
    /// TLS to every server; `None`: plain TCP.
    pub tls: Option<Tls>,
}

/// A user of ZooKeeper's scheme `digest`.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Its name.
    pub user: String,
    /// Where its password is; see [`passwords`].
    pub password_file: PathBuf,
}

/// Who may change nodes that remora makes; everybody may read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acl {
    /// Everybody.
    Open,
    /// Whoever has the same user and password.
    Protected,
}

/// The files of a TLS client, as PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificates that servers' certificates are signed with.
    pub ca_file: PathBuf,
    /// The client's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bind {
    /// IP address and port.
    Tcp(std::net::SocketAddr),
    /// Path of a unix socket.
    Unix(PathBuf),
}

/// Of which calls a line is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// Of none.
    Off,
    /// Of those that did not end well.
    Errors,
    /// Of those and of a part of the others.
    Share(Share),
    /// Of all.
    All,
}

/// A collector that takes OTLP over HTTP.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// Where it listens.
    pub collector: Address,
    /// What stands before `/v1/traces` and `/v1/metrics` there; empty, or with a slash in front.
    pub path: String,
    /// What is sent along, such as a token.
    pub headers: Vec<Header>,
    /// How long it may take for one message.
    pub timeout: Duration,
    /// How often it gets all metrics; `None`: never.
    pub interval: Option<Duration>,
    /// Which calls it hears of; `None`: of none.
    pub traces: Option<Traces>,
}

/// A header; its value is nobody's business.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// In small letters.
    pub name: String,
    /// Visible ASCII and blanks.
    pub value: String,
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

/// Which calls become spans.
#[derive(Debug, Clone, Copy)]
pub struct Traces {
    /// Of those whose caller did not decide it.
    pub sample: Share,
    /// Spans that wait at most.
    pub queue: usize,
}

/// A listener for calls.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where.
    pub bind: Bind,
    /// Meant by raw Yar calls whose method names no service.
    pub service: Option<ServiceName>,
    /// On a unix socket, who a user of this host is where a call says nothing itself, by user id.
    pub callers: BTreeMap<u32, CallerName>,
}

/// This host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its data centre.
    pub idc: Option<String>,
}

/// The host's own identity as a caller.
#[derive(Clone)]
pub struct Caller {
    /// Its name.
    pub name: CallerName,
    /// Its key, if it has one.
    pub key: Option<String>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({}, …)", self.name)
    }
}

/// A provider of this host, registered while it is healthy.
#[derive(Debug, Clone)]
pub struct OwnProvider {
    /// `service` in layout `flat`, `category/service` in layout `tree`.
    pub service: String,
    /// Where callers on other hosts reach it.
    pub address: Address,
    /// 0 to 1000; written to the node when the configuration gives it.
    pub weight: Option<u16>,
    /// How its health is checked; `None`: it counts as healthy.
    pub health: Option<Health>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use serde_json::json;

    fn loaded(yaml: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("remora.yaml");
        std::fs::write(&file, yaml).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(Some(&file), env).map_err(|problems| problems.0.iter().map(Problem::to_string).collect())
    }

    fn problems(yaml: &str) -> Vec<String> {
        loaded(yaml, &[]).unwrap_err()
    }

    #[test]
    fn without_a_file_every_default_holds() {
        let config = load(None, []).unwrap();
        let shown = config.to_value();
        assert_eq!(
            shown["registry"],
            json!({"embedded": {"file": "./registry.yaml"}, "layout": "flat", "root": "/", "snapshot": null})
        );
        assert_eq!(shown["listen"], json!(["127.0.0.1:9501"]));
        assert_eq!(shown["admin"], "127.0.0.1:9500");
        assert_eq!(shown["drain"], "10s");
        assert_eq!(config.defaults, Policy::default());
        assert!(config.workers >= 1 && !config.host.name.is_empty());
        assert!(config.telemetry.is_none() && config.caller.is_none() && config.notes.is_empty());
    }

    #[test]
    fn every_key_is_taken_as_written() {
        let yaml = r#"
registry:
  zookeeper: { connect: "10.0.0.1:2181,zk-2:2181/prod", session_timeout: 15s }
  layout: tree
  root: /dada/
listen: ["127.0.0.1:80", unix:/run/remora.sock, { address: "[::1]:81" }, { address: "unix:/s", service: user }]
admin: unix:/run/admin.sock
telemetry: 0.0.0.0:9503
host: { name: web-17, idc: bj1 }
providers:
  - { service: user/get, address: 10.0.0.5:8080, weight: 0, health: { http: /health, interval: 5s, rise: 1 } }
  - { service: user/put, address: 10.0.0.5:8080, health: { tcp: true } }
defaults: { timeout: 1s, balance: random }
drain: 500ms
workers: 2
connections: 500
buffers: 8MiB
"#;
        let config = loaded(yaml, &[]).unwrap();
        let Source::ZooKeeper { connect, session_timeout, .. } = &config.registry.source else { panic!() };
        assert_eq!((connect.as_str(), session_timeout.as_secs()), ("10.0.0.1:2181,zk-2:2181/prod", 15));
        assert_eq!((config.registry.layout, config.registry.root.as_str()), (Layout::Tree, "/dada"));
        assert_eq!(config.listen[1].bind, Bind::Unix("/run/remora.sock".into()));
        assert_eq!(config.listen[2].bind.to_string(), "[::1]:81");
        assert_eq!(config.listen[3].service.as_ref().map(ServiceName::as_str), Some("user"));
        assert_eq!(
            config.to_value()["listen"],
            json!(["127.0.0.1:80", "unix:/run/remora.sock", "[::1]:81", {"address": "unix:/s", "service": "user"}])
        );
        assert_eq!(config.providers[0].weight, Some(0));
        let health = config.providers[0].health.as_ref().unwrap();
        assert_eq!((health.ask.clone(), health.rise, health.fall), (Ask::Http("/health".into()), 1, 3));
        assert_eq!(config.providers[1].health.as_ref().unwrap().ask, Ask::Tcp);
        assert_eq!(config.defaults.timeout, Duration::from_secs(1));
        assert_eq!((config.drain.as_millis(), config.workers, config.buffers), (500, 2, 8 << 20));
        assert_eq!(config.connections, 500);
        assert_eq!(config.to_value()["memory"]["most"], "324MiB");
    }

    #[test]
    fn users_of_a_unix_socket_have_names() {
        let yaml = "listen: [{ address: \"unix:/s\", callers: { 33: shop, 0: cron } }]";
        let config = loaded(yaml, &[]).unwrap();
        let callers: Vec<_> =
            config.listen[0].callers.iter().map(|(id, name)| (*id, name.as_str())).collect();
        assert_eq!(callers, [(0, "cron"), (33, "shop")]);
        let shown = json!([{"address": "unix:/s", "callers": {"0": "cron", "33": "shop"}}]);
        assert_eq!(config.to_value()["listen"], shown);
        let yaml = "listen: [{ address: \"127.0.0.1:1\", callers: { www-data: shop, 33: \"\" } }]";
        assert_eq!(
            problems(yaml),
            [
                "listen[0].callers: the kernel tells who calls on a unix socket only; take unix:/path as the address",
                "listen[0].callers.33: \"\" is not a caller name: it is empty",
                "listen[0].callers.www-data: \"www-data\" is no user id such as 33",
            ]
        );
    }

    #[test]
    fn every_problem_is_told_with_its_place_and_the_way_out() {
        let yaml = r#"
regstry: {}
registry:
  zookeeper: { connect: "10.0.0.1", session_timeout: 500ms, tsl: true }
  layout: round
listen: ["localhost:9501", 9501, {address: "127.0.0.1:1", service: user/get, x: 1}]
admin: 0.0.0.0:9500
host: { name: a/b }
caller: { name: web, key_file: /nowhere/key }
providers:
  - { service: user/get, weight: 2000 }
  - { address: here, health: {} }
defaults: { timeout: 5, timout: 5s, balance: best }
drain: 10
workers: many
"#;
        let found = problems(yaml);
        let wanted = [
            "regstry: there is no such key; did you mean `registry`?",
            "registry.zookeeper.connect: \"10.0.0.1\" is not an address such as 10.0.0.5:8080: the port is missing",
            "registry.zookeeper.session_timeout: 500ms is below 2s; one lost ping would expire the session",
            "registry.zookeeper.tsl: there is no such key; known here: connect, session_timeout, auth, acl, tls",
            "registry.layout: \"round\" is none of flat, tree",
            "listen[0]: \"localhost:9501\" is no address to listen on; write 127.0.0.1:9501, [::1]:9501 or unix:/path",
            "listen[1]: found integer `9501`, expected an address such as 127.0.0.1:9501 or unix:/run/remora.sock",
            "listen[2].x: there is no such key; known here: address, service, callers",
            "listen[2].service: \"user/get\" is not a service name: only A-Z a-z 0-9 . _ - are allowed",
            "admin: 0.0.0.0:9500 can be reached from other hosts; take 127.0.0.1 or a unix socket, and `telemetry` for probes",
            "host.name: \"a/b\" can't name a registry node; give 1 to 253 bytes without `/`",
            "caller.key_file: /nowhere/key: the key can't be read: No such file or directory (os error 2)",
            "providers[0].service: \"user/get\" names an api; in layout flat give the service, user",
            "providers[0].weight: 2000 is not from 0 to 1000",
            "providers[0].address: give the address other hosts reach it at, such as 10.0.0.5:8080",
            "providers[1].service: give the service this provider serves",
            "providers[1].address: \"here\" is not an address such as 10.0.0.5:8080: the port is missing",
            "providers[1].health: give http: /path or tcp: true",
            "defaults.timeout: 5 is not a duration such as 250ms or 10s",
            "defaults.timout: there is no such key; did you mean `timeout`?",
            "defaults.balance: \"best\" is none of round_robin, random, p2c, hash",
            "drain: 10 is not a duration such as 250ms, 10s or 5m",
            "workers: \"many\" is not a whole number",
        ];
        for line in wanted {
            assert!(found.iter().any(|f| f == line), "missing: {line}\namong:\n{}", found.join("\n"));
        }
        assert_eq!(found.len(), wanted.len(), "{}", found.join("\n"));
    }

    #[test]
    fn what_is_off_unless_written_may_be_written_as_off() {
        for off in ["off", "false", "\"off\""] {
            let config = loaded(&format!("telemetry: {off}\notlp: {off}\n"), &[]).unwrap();
            assert!(config.telemetry.is_none() && config.otlp.is_none(), "{off}");
        }
        assert!(
            loaded("otlp: { endpoint: \"http://a:1\" }", &[("REMORA_OTLP", "off")]).unwrap().otlp.is_none()
        );
    }

    #[test]
    fn one_port_of_all_addresses_is_listened_on_once() {
        let told = "telemetry: 0.0.0.0:9500 is taken by admin, 127.0.0.1:9500; give it another port";
        assert_eq!(problems("telemetry: 0.0.0.0:9500"), [told]);
        let told = "listen[1]: 127.0.0.1:81 is taken by listen[0], [::]:81; give it another port";
        assert_eq!(problems("listen: [\"[::]:81\", \"127.0.0.1:81\"]"), [told]);
        let apart = "listen: [\"0.0.0.0:81\", \"[::1]:81\", \"127.0.0.1:0\", \"0.0.0.0:0\"]";
        assert!(loaded(apart, &[]).is_ok());
    }

    /// What the configuration takes, by what it says of keys that it doesn't.
    #[test]
    fn every_setting_is_in_the_list_of_settings() {
        let yaml = "{ qqqqqqqqqq: 1, registry: { qqqqqqqqqq: 1, embedded: { qqqqqqqqqq: 1 }, zookeeper: {
            qqqqqqqqqq: 1, auth: { qqqqqqqqqq: 1 }, tls: { qqqqqqqqqq: 1 } } },
            listen: [{ qqqqqqqqqq: 1 }], host: { qqqqqqqqqq: 1 }, caller: { qqqqqqqqqq: 1 },
            otlp: { qqqqqqqqqq: 1, traces: { qqqqqqqqqq: 1 } }, explain: { qqqqqqqqqq: 1 },
            providers: [{ qqqqqqqqqq: 1, health: { qqqqqqqqqq: 1 } }], defaults: { qqqqqqqqqq: 1 } }";
        let list = include_str!("../../docs/settings.md");
        let (mut sections, mut missing) = (0, Vec::new());
        for problem in problems(yaml) {
            let Some((path, known)) = problem.split_once("qqqqqqqqqq: there is no such key; known here: ")
            else {
                continue;
            };
            sections += 1;
            for key in known.split(", ") {
                let name = format!("| `{}{key}`", path.replace("[0]", "[]"));
                if !list.contains(&name) {
                    missing.push(name);
                }
            }
        }
        assert_eq!(sections, 15, "{:?}", problems(yaml));
        assert!(missing.is_empty(), "docs/settings.md lacks {missing:#?}");
    }

    #[test]
    fn a_file_cut_in_half_names_the_line() {
        let found = problems("listen: [127.0.0.1:9501]\nregistry: { zookeeper: { connect: \"10.0");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("remora.yaml: ") && found[0].contains("line 2"), "{found:?}");
        assert!(problems("drain: 1s\ndrain: 2s\n")[0].contains("line 2"));
        assert!(problems("- 1\n")[0].contains("is not an object"));
        assert!(problems("a: &a [*a, *a]\n").len() == 1);
    }

    #[test]
    fn every_problem_has_a_place_and_is_one_line() {
        let found = problems("\"\": 1\nhost: { \"\": 2 }\n\"a\\nb\": 3\ndrain: \"5\\n\"\n");
        let known = "there is no such key; known here: ";
        let wanted =
            [("\"\": ", known), ("host.\"\": ", known), ("a␊b: ", known), ("drain: ", "\"5␊\" is not ")];
        for (place, what) in wanted {
            let line = found.iter().find(|line| line.starts_with(place));
            assert!(line.is_some_and(|line| line[place.len()..].starts_with(what)), "{place}: {found:?}");
        }
        assert!(found.iter().all(|line| !line.contains(char::is_control)), "{found:?}");
        assert!(problems("- 1\n")[0].contains("remora.yaml: "), "the file is a place too");
        let found = loaded("", &[("REMORA_", "1")]).unwrap_err();
        assert!(found[0].starts_with("\"\": ") && found[0].ends_with(" (from REMORA_)"), "{found:?}");
    }

    #[test]
    fn a_collector_is_taken_as_written_and_its_headers_are_never_shown() {
        let shown = |yaml: &str| loaded(yaml, &[("T", "s3cret")]).unwrap().to_value()["otlp"].clone();
        assert_eq!(shown("drain: 1s"), json!(null));
        let defaults = json!({
            "endpoint": "http://127.0.0.1:4318", "headers": {}, "timeout": "5s", "interval": "10s",
            "traces": { "sample": "1%", "queue": 2048 }
        });
        assert_eq!(shown("otlp: { endpoint: \"http://127.0.0.1:4318/\" }"), defaults);
        let yaml = "otlp: { endpoint: \"http://otel:1/a/\", headers: { X-Token: \"${T}\" }, interval: off, \
                    timeout: 1s, traces: { sample: \"0.5%\", queue: 100 } }";
        let wanted = json!({
            "endpoint": "http://otel:1/a", "headers": { "x-token": "…" }, "timeout": "1s", "interval": "off",
            "traces": { "sample": "0.5%", "queue": 100 }
        });
        assert_eq!(shown(yaml), wanted);
        let config = loaded(yaml, &[("T", "s3cret")]).unwrap();
        assert_eq!(config.otlp.as_ref().unwrap().headers[0].value, "s3cret");
        assert!(!format!("{config:?}").contains("s3cret"));
        let off = "otlp: { endpoint: \"http://a:1\", traces: { sample: off } }";
        assert_eq!(shown(off)["traces"], json!({ "sample": "off" }));
    }

    #[test]
    fn a_collector_that_can_not_be_told_anything_is_refused() {
        for (written, wanted) in [
            (
                "{}",
                "otlp.endpoint: give where the collector takes OTLP over HTTP, such as http://127.0.0.1:4318",
            ),
            ("{ endpoint: \"a:1\" }", "otlp.endpoint: \"a:1\" is no endpoint such as http://127.0.0.1:4318"),
            (
                "{ endpoint: \"https://a:1\" }",
                "otlp.endpoint: \"https://a:1\" wants TLS, which is not offered; ",
            ),
            (
                "{ endpoint: \"http://a\" }",
                "otlp.endpoint: \"a\" is not an address such as 10.0.0.5:8080: the port is missing",
            ),
            ("{ endpoint: \"http://a:1/v1/traces\" }", "otlp.endpoint: \"/v1/traces\" is for one signal; "),
            ("{ endpoint: \"http://a:1/?x\" }", "otlp.endpoint: \"http://a:1/?x\" has more than a path; "),
            ("{ endpoint: \"http://a:1?x=1\" }", "otlp.endpoint: \"http://a:1?x=1\" has more than a path; "),
            ("{ endpoint: \"http://a:1/ü\" }", "otlp.endpoint: \"/ü\" is no path; "),
            (
                "{ endpoint: \"http://a:1\", headers: { Host: b } }",
                "otlp.headers.Host: every message has its own",
            ),
            (
                "{ endpoint: \"http://a:1\", headers: { \"a b\": b } }",
                "otlp.headers.a b: that is no name of a header",
            ),
            (
                "{ endpoint: \"http://a:1\", headers: { a: \"ü\" } }",
                "otlp.headers.a: its value has more than visible ASCII",
            ),
            (
                "{ endpoint: \"http://a:1\", interval: 10 }",
                "otlp.interval: \"10\" is not a duration such as ",
            ),
            ("{ endpoint: \"http://a:1\", interval: 10ms }", "otlp.interval: 10ms is below 1s; "),
            ("{ endpoint: \"http://a:1\", timeout: 2m }", "otlp.timeout: 120s is above 60s; "),
            (
                "{ endpoint: \"http://a:1\", traces: { sample: 2 } }",
                "otlp.traces.sample: \"2\" is not a share from 0% to 100%, or off",
            ),
            (
                "{ endpoint: \"http://a:1\", traces: { queue: 1 } }",
                "otlp.traces.queue: 1 is not from 16 to 16384",
            ),
            (
                "{ endpoint: \"http://a:1\", traces: { rate: 1 } }",
                "otlp.traces.rate: there is no such key; known here: sample, queue",
            ),
            (
                "{ endpoint: \"http://a:1\", interval: off, traces: { sample: off } }",
                "otlp: interval and traces.sample are both off",
            ),
        ] {
            let found = problems(&format!("otlp: {written}"));
            assert!(found.len() == 1 && found[0].starts_with(wanted), "{written}: {found:?}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let found = load(Some(Path::new("/nowhere/remora.yaml")), []).unwrap_err().to_string();
        assert_eq!(found, "/nowhere/remora.yaml can't be read: No such file or directory (os error 2)");
    }

    #[test]
    fn variables_override_the_file_and_a_wrong_one_is_blamed() {
        let env = [
            ("REMORA_REGISTRY__ZOOKEEPER__CONNECT", "zk:2181"),
            ("REMORA_LISTEN", "[\"127.0.0.1:80\"]"),
            ("REMORA_HOST__NAME", "007"),
            ("REMORA_DEFAULTS__RETRIES", "0"),
            ("REMORA_PORT_9501_TCP", "tcp://10.0.0.1:9501"),
            ("HOME", "/root"),
        ];
        let config = loaded("listen: [127.0.0.1:1]\ndrain: 3s\n", &env).unwrap();
        assert!(matches!(&config.registry.source, Source::ZooKeeper { connect, .. } if connect == "zk:2181"));
        assert_eq!(config.listen[0].bind.to_string(), "127.0.0.1:80");
        assert_eq!((config.host.name.as_str(), config.defaults.retries), ("007", 0));
        assert_eq!(config.drain, Duration::from_secs(3));
        assert_eq!(config.notes.len(), 1);

        let env =
            [("REMORA_LISTN", "[]"), ("REMORA_DRAIN", "10"), ("REMORA_A__B", "1"), ("REMORA_HOST", "{")];
        let mut found = loaded("", &env).unwrap_err();
        found.sort();
        assert!(found[0].starts_with("REMORA_HOST: ") && found[0].contains("line 1"), "{found:?}");
        assert!(
            found[1].starts_with("a: there is no such key; known here: registry, ")
                && found[1].ends_with(" (from REMORA_A__B)"),
            "{found:?}"
        );
        assert_eq!(found[2], "drain: 10 is not a duration such as 250ms, 10s or 5m (from REMORA_DRAIN)");
        assert_eq!(found[3], "listn: there is no such key; did you mean `listen`? (from REMORA_LISTN)");
    }

    #[test]
    fn a_variable_in_a_value_is_filled_in() {
        let yaml = "host: { name: \"${NAME}\", idc: \"${A}-${B}\" }\nworkers: ${N}\nproviders: [{service: a, address: \"${IP}:80\"}]";
        let env = [("NAME", "0123"), ("A", "x: [1]"), ("B", "${A}"), ("N", "3"), ("IP", "10.0.0.7")];
        let config = loaded(yaml, &env).unwrap();
        assert_eq!((config.host.name.as_str(), config.host.idc.as_deref()), ("0123", Some("x: [1]-${A}")));
        assert_eq!((config.workers, config.providers[0].address.as_str()), (3, "10.0.0.7:80"));

        let found = loaded("admin: ${NONE}\nworkers: ${NONE}\nhost: {idc: \"${A:-b}\", name: \"${\"}", &[])
            .unwrap_err();
        assert_eq!(
            found,
            [
                "admin: ${NONE} is not in the environment; set it or write the value itself",
                "workers: ${NONE} is not in the environment; set it or write the value itself",
                "host.idc: ${A:-b} is not a variable; write it as ${NAME}, nothing else inside",
                "host.name: \"${\" has a `${` without its `}`",
            ]
        );
    }

    #[test]
    fn a_key_is_read_from_its_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        std::fs::write(&key, "s3cret\n").unwrap();
        let yaml = format!("caller: {{ name: web, key_file: {} }}", key.display());
        let config = loaded(&yaml, &[]).unwrap();
        assert_eq!(config.caller.as_ref().unwrap().key.as_deref(), Some("s3cret"));
        assert_eq!(config.to_value()["caller"], json!({"name": "web", "key": "…"}));
        assert!(!format!("{config:?}").contains("s3cret"));

        std::fs::write(&key, "\n").unwrap();
        assert!(problems(&yaml)[0].ends_with("it is empty; write the key into it"));
    }

    #[test]
    fn what_a_user_makes_is_protected_unless_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zk");
        std::fs::write(&file, "s3cret\n\nbefore\n").unwrap();
        let of = |more: &str| {
            let auth = format!("auth: {{ user: remora, password_file: {} }}", file.display());
            let yaml = format!("registry: {{ zookeeper: {{ connect: a:1, {more} }} }}");
            loaded(&yaml.replace("AUTH", &auth), &[])
        };
        let acl = |more: &str| of(more).unwrap().to_value()["registry"]["zookeeper"]["acl"].clone();
        assert_eq!([acl(""), acl("AUTH"), acl("AUTH, acl: open")], ["open", "protected", "open"]);
        assert_eq!(passwords(&file).unwrap(), ["s3cret", "before"]);
        let config = of("AUTH, tls: { ca_file: /ca, cert_file: /c, key_file: /k }").unwrap();
        let shown = config.to_value()["registry"]["zookeeper"].clone();
        assert_eq!(shown["tls"], json!({"ca_file": "/ca", "cert_file": "/c", "key_file": "/k"}));
        assert_eq!(shown["auth"], json!({"user": "remora", "password_file": file}));
        assert!(!format!("{config:?}{shown}").contains("s3cret"));

        std::fs::write(&file, "1\n2\n3\n4\n5\n").unwrap();
        assert!(of("AUTH").unwrap_err()[0].ends_with("it has 5 lines; give 4 passwords at most"));
        let found = of("acl: protected, auth: {}, tls: { key_file: /k }").unwrap_err();
        assert_eq!(
            found,
            [
                "registry.zookeeper.auth.user: give the user nodes are made for, such as remora",
                "registry.zookeeper.auth.password_file: give the file its password is in, such as /etc/remora/zk",
                "registry.zookeeper.tls.cert_file: give it with key_file, or leave both out",
                "registry.zookeeper.tls.ca_file: give the certificate of the CA that signed the servers', as PEM",
            ]
        );
    }

    #[test]
    fn one_address_is_given_out_once() {
        let found = problems("listen: [127.0.0.1:9500, 127.0.0.1:9500, 127.0.0.1:0, 127.0.0.1:0]");
        assert_eq!(
            found,
            [
                "listen[1]: 127.0.0.1:9500 is taken by listen[0]",
                "admin: 127.0.0.1:9500 is taken by listen[0]"
            ]
        );
        let twice =
            "providers: [{service: a, address: b:1}, {service: c, address: b:1}, {service: a, address: b:1}]";
        assert_eq!(problems(twice), ["providers[2].address: b:1 serves a already"]);
        let both = "registry: { zookeeper: {connect: a:1}, embedded: {} }";
        assert_eq!(problems(both), ["registry: zookeeper and embedded are both given; keep one of them"]);
    }

    #[test]
    fn a_balance_by_hash_takes_what_it_hashes_from_beside_it() {
        let policy = loaded("defaults: { balance: hash, hash_on: \"header:X-User\" }", &[]).unwrap().defaults;
        assert_eq!(policy.to_value()["hash_on"], "header:x-user");
        assert!(problems("defaults: { balance: hash }")[0].contains("needs hash_on beside it"));
    }

    #[test]
    fn what_is_not_in_force_is_noted() {
        let config = loaded("registry: { snapshot: /tmp/x }", &[]).unwrap();
        assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
        assert!(config.notes.iter().all(|note| note.contains("not in force")));
    }
}
