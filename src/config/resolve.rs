//! From the configuration as written to the one meant: defaults and checks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::file::{
    CallerFile, Count, EmbeddedFile, File, HealthFile, ProviderFile, Size, Text, Time, ZooKeeperFile,
};
use super::listen::{bind, listeners};
use super::problem::{Problems, unknown_key};
use super::secret::key;
use super::security::{certificates, credentials};
use super::{Acl, Bind, Caller, Config, Host, OwnProvider, Registry, Security, Source};
use crate::model::{Ask, Health, Layout, Policy, PolicyPatch};
use crate::names::{Address, ApiName, CallerName, ServiceName};
use crate::units::show_duration;

// every default; those of `defaults` are `Policy::default`, `workers` and `host.name` come from the system
const ADMIN: &str = "127.0.0.1:9500";
const EMBEDDED_FILE: &str = "./registry.yaml";
const SESSION_TIMEOUT: Duration = Duration::from_secs(20);
const LAYOUT: Layout = Layout::Flat;
const ROOT: &str = "/";
const DRAIN: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 10_000;
const BUFFERS: u64 = 256 << 20;
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
const RISE: u32 = 2;
const FALL: u32 = 3;

/// Stands where an address was refused; such a configuration is never handed out.
const NOWHERE: Bind = Bind::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));

/// Puts every default in place and checks every value; where `problems` grew, the result is of no use.
pub(super) fn resolve(file: File, mut notes: Vec<String>, problems: &mut Problems) -> Config {
    let registry = file.registry.unwrap_or_default();
    let host = file.host.unwrap_or_default();
    let layout = registry.layout.unwrap_or(LAYOUT);
    let root = text(registry.root).unwrap_or_else(|| ROOT.into());
    let admin = text(file.admin).unwrap_or_else(|| ADMIN.into());
    let source = source(registry.zookeeper, registry.embedded, problems);
    if registry.snapshot.is_some() && matches!(source, Source::Embedded { .. }) {
        notes.push(
            "registry.snapshot is not in force with the embedded registry, which is a file itself".into(),
        );
    }
    let config = Config {
        registry: Registry {
            snapshot: text(registry.snapshot)
                .map(PathBuf::from)
                .filter(|_| matches!(source, Source::ZooKeeper { .. })),
            source,
            layout,
            root: problems.keep("registry.root", node_path(&root)).unwrap_or_default(),
        },
        listen: listeners(file.listen, problems),
        admin: problems.keep("admin", bind(&admin).and_then(private)).unwrap_or(NOWHERE),
        telemetry: text(file.telemetry).and_then(|at| problems.keep("telemetry", bind(&at))),
        access_log: super::telling::access_log(file.access_log, problems),
        otlp: file.otlp.and_then(|written| super::otlp::otlp(written, problems)),
        host: Host { name: text(host.name).unwrap_or_else(this_host), idc: text(host.idc) },
        caller: file.caller.and_then(|written| caller(written, problems)),
        providers: providers(file.providers.unwrap_or_default(), layout, problems),
        defaults: policy(file.defaults.unwrap_or_default(), problems),
        drain: drain(file.drain, problems),
        workers: count(file.workers, "workers", 1..=1024, problems).map_or_else(cores, |n| n as usize),
        connections: count(file.connections, "connections", 1..=1 << 20, problems)
            .map_or(CONNECTIONS, |n| n as usize),
        buffers: file.buffers.map_or(BUFFERS, |Size(bytes)| bytes),
        explain: super::explain::askers(file.explain.unwrap_or_default(), problems),
        notes,
    };
    if let Err(reason) = node_name(&config.host.name) {
        problems.add("host.name", reason);
    }
    if config.buffers == 0 {
        problems.add("buffers", "0B hold no body that must be converted; give some, such as 64MiB");
    }
    if config.defaults.max_body == 0 {
        problems
            .add("defaults.max_body", "0B let no body through, no Yar call either; give some, such as 10MiB");
    }
    one_door_each(&config, problems);
    config
}

fn drain(written: Option<Time>, problems: &mut Problems) -> Duration {
    let most = (Duration::from_secs(3600), "whoever stops a process kills it long before");
    time(written, "drain", (Duration::ZERO, ""), most, problems).unwrap_or(DRAIN)
}

pub(super) fn text(written: Option<Text>) -> Option<String> {
    written.map(|Text(text)| text)
}

pub(super) fn count(
    written: Option<Count>,
    path: &str,
    range: RangeInclusive<u64>,
    p: &mut Problems,
) -> Option<u64> {
    let Count(found) = written?;
    if !range.contains(&found) {
        p.add(path, format!("{found} is not from {} to {}", range.start(), range.end()));
    }
    Some(found)
}

pub(super) fn time(
    written: Option<Time>,
    path: &str,
    least: (Duration, &str),
    most: (Duration, &str),
    p: &mut Problems,
) -> Option<Duration> {
    let Time(found) = written?;
    if found < least.0 {
        p.add(path, format!("{} is below {}; {}", show_duration(found), show_duration(least.0), least.1));
    }
    if found > most.0 {
        p.add(path, format!("{} is above {}; {}", show_duration(found), show_duration(most.0), most.1));
    }
    Some(found)
}

fn cores() -> usize {
    // counts the cgroup's quota and the affinity mask, not the machine's cores
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn this_host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

/// Whether `name` can be the name of a registry node.
fn node_name(name: &str) -> Result<(), String> {
    let bad = |c: char| c == '/' || c.is_control();
    if name.is_empty() || name == "." || name == ".." || name.len() > 253 || name.contains(bad) {
        return Err(format!("{name:?} can't name a registry node; give 1 to 253 bytes without `/`"));
    }
    Ok(())
}

/// A path without the slash at its end; empty for `/`.
fn node_path(path: &str) -> Result<String, String> {
    let Some(below) = path.strip_prefix('/') else {
        return Err(format!("\"{path}\" does not start with `/`"));
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    if below.is_empty() {
        return Ok(String::new());
    }
    below.split('/').try_for_each(node_name)?;
    Ok(format!("/{below}"))
}

fn source(
    zookeeper: Option<ZooKeeperFile>,
    embedded: Option<EmbeddedFile>,
    problems: &mut Problems,
) -> Source {
    let Some(zookeeper) = zookeeper else {
        let file = embedded.and_then(|written| text(written.file));
        return Source::Embedded { file: file.map_or_else(|| EMBEDDED_FILE.into(), PathBuf::from) };
    };
    if embedded.is_some() {
        problems.add("registry", "zookeeper and embedded are both given; keep one of them");
    }
    let lost = "one lost ping would expire the session";
    let slow = "providers that died would be called for that long";
    let session_timeout = time(
        zookeeper.session_timeout,
        "registry.zookeeper.session_timeout",
        (Duration::from_secs(2), lost),
        (Duration::from_secs(60), slow),
        problems,
    );
    let connect = text(zookeeper.connect).unwrap_or_default();
    if connect.is_empty() {
        let wanted = "give the servers, such as 10.0.0.1:2181,10.0.0.2:2181";
        problems.missing("registry.zookeeper.connect", wanted);
    } else if let Err(reason) = ensemble(&connect) {
        problems.add("registry.zookeeper.connect", reason);
    }
    let (auth, tls) = (zookeeper.auth, zookeeper.tls);
    // nobody else is known that could be let in
    let acl = zookeeper.acl.unwrap_or(if auth.is_some() { Acl::Protected } else { Acl::Open });
    if acl == Acl::Protected && auth.is_none() {
        let way_out = "protected needs registry.zookeeper.auth, whom else would ZooKeeper let in?";
        problems.add("registry.zookeeper.acl", way_out);
    }
    let auth = auth.and_then(|written| credentials(written, problems));
    let security = Security { auth, acl, tls: tls.and_then(|written| certificates(written, problems)) };
    Source::ZooKeeper { connect, session_timeout: session_timeout.unwrap_or(SESSION_TIMEOUT), security }
}

/// Checks `host:port,host:port/chroot`.
fn ensemble(connect: &str) -> Result<(), String> {
    let (servers, chroot) = connect.split_at(connect.find('/').unwrap_or(connect.len()));
    if chroot.contains(',') {
        return Err(format!(
            "all of \"{chroot}\" would be the chroot; it stands once, behind the last server: 10.0.0.1:2181,10.0.0.2:2181/prod"
        ));
    }
    for server in servers.split(',') {
        Address::new(server).map_err(|e| e.to_string())?;
    }
    if chroot.is_empty() { Ok(()) } else { node_path(chroot).map(|_| ()) }
}

fn private(bind: Bind) -> Result<Bind, String> {
    match bind {
        Bind::Tcp(at) if !at.ip().to_canonical().is_loopback() => Err(format!(
            "{at} can be reached from other hosts; take 127.0.0.1 or a unix socket, and `telemetry` for probes"
        )),
        private @ (Bind::Tcp(_) | Bind::Unix(_)) => Ok(private),
    }
}

/// No address is listened on twice.
fn one_door_each(config: &Config, problems: &mut Problems) {
    let mut doors: Vec<(String, &Bind)> = Vec::new();
    let listen = config.listen.iter().enumerate().map(|(i, l)| (format!("listen[{i}]"), &l.bind));
    let others = [("admin".to_owned(), Some(&config.admin)), ("telemetry".into(), config.telemetry.as_ref())];
    for (path, bind) in listen.chain(others.into_iter().filter_map(|(path, bind)| Some((path, bind?)))) {
        match doors.iter().find(|(_, taken)| collide(taken, bind)) {
            Some((first, taken)) if *taken == bind => {
                problems.add(path, format!("{bind} is taken by {first}"))
            }
            Some((first, taken)) => {
                problems.add(path, format!("{bind} is taken by {first}, {taken}; give it another port"));
            }
            None => doors.push((path, bind)),
        }
    }
}

/// Whether only one of them can be listened on: `0.0.0.0` and `[::]` are every address.
fn collide(one: &Bind, other: &Bind) -> bool {
    let (Bind::Tcp(one), Bind::Tcp(other)) = (one, other) else { return one == other };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    one.port() != 0 && one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

fn caller(written: CallerFile, problems: &mut Problems) -> Option<Caller> {
    let key = written.key_file.and_then(|Text(file)| {
        let key = key(Path::new(&file)).map_err(|reason| format!("{file}: {reason}"));
        problems.keep("caller.key_file", key)
    });
    match text(written.name) {
        Some(name) => problems.keep("caller.name", CallerName::new(&name)).map(|name| Caller { name, key }),
        None => {
            problems.missing("caller.name", "give the name callers of this host are known by");
            None
        }
    }
}

fn providers(written: Vec<Option<ProviderFile>>, layout: Layout, p: &mut Problems) -> Vec<OwnProvider> {
    let mut known: Vec<OwnProvider> = Vec::new();
    for (index, entry) in written.into_iter().enumerate() {
        let path = format!("providers[{index}]");
        let Some(one) = provider(entry.unwrap_or_default(), &path, layout, p) else {
            continue;
        };
        if known.iter().any(|other| other.service == one.service && other.address == one.address) {
            p.add(format!("{path}.address"), format!("{} serves {} already", one.address, one.service));
        }
        known.push(one);
    }
    known
}

fn provider(written: ProviderFile, path: &str, layout: Layout, p: &mut Problems) -> Option<OwnProvider> {
    let (of_service, of_address) = (format!("{path}.service"), format!("{path}.address"));
    if written.service.is_none() {
        p.missing(&of_service, "give the service this provider serves");
    }
    if written.address.is_none() {
        p.missing(&of_address, "give the address other hosts reach it at, such as 10.0.0.5:8080");
    }
    let service =
        text(written.service).and_then(|name| p.keep(&of_service, served(&name, layout).map(|()| name)));
    let address = text(written.address).and_then(|at| p.keep(&of_address, Address::new(&at)));
    let weight = count(written.weight, &format!("{path}.weight"), 0..=1000, p).map(|n| n as u16);
    let health = written.health.and_then(|health| check(health, &format!("{path}.health"), p));
    Some(OwnProvider { service: service?, address: address?, weight, health })
}

/// Checks the name of what a provider serves.
fn served(name: &str, layout: Layout) -> Result<(), String> {
    match (layout, name.split_once('/')) {
        (Layout::Flat, None) => ServiceName::new(name).map(|_| ()).map_err(|e| e.to_string()),
        (Layout::Flat, Some((service, _))) => {
            Err(format!("\"{name}\" names an api; in layout flat give the service, {service}"))
        }
        (Layout::Tree, None) => Err(format!("\"{name}\" is not category/service, which layout tree needs")),
        (Layout::Tree, Some((category, service))) => {
            ServiceName::new(category).map_err(|e| e.to_string())?;
            ApiName::new(service).map(|_| ()).map_err(|e| e.to_string())
        }
    }
}

fn check(written: HealthFile, path: &str, p: &mut Problems) -> Option<Health> {
    let ask = match (text(written.http), written.tcp.unwrap_or(false)) {
        (Some(http), false) => {
            let plain = http.starts_with('/') && http.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
            let reason = || format!("{http:?} is no path; write it as /health, special characters as %XX");
            p.keep(&format!("{path}.http"), plain.then(|| Ask::Http(http.clone())).ok_or_else(reason))
        }
        (None, true) => Some(Ask::Tcp),
        (Some(_), true) => {
            p.add(path, "http and tcp are both given; keep one of them");
            None
        }
        (None, false) => {
            p.missing(path, "give http: /path or tcp: true");
            None
        }
    };
    let least = (Duration::from_millis(10), "the provider would be busy with checks");
    let most = (Duration::from_secs(3600), "its death would go unnoticed");
    let interval = time(written.interval, &format!("{path}.interval"), least, most, p);
    let timeout = time(written.timeout, &format!("{path}.timeout"), least, most, p);
    let rise = count(written.rise, &format!("{path}.rise"), 1..=100, p);
    let fall = count(written.fall, &format!("{path}.fall"), 1..=100, p);
    Some(Health {
        ask: ask?,
        interval: interval.unwrap_or(HEALTH_INTERVAL),
        timeout: timeout.unwrap_or(HEALTH_TIMEOUT),
        rise: rise.map_or(RISE, |n| n as u32),
        fall: fall.map_or(FALL, |n| n as u32),
    })
}

fn policy(written: Map<String, Value>, problems: &mut Problems) -> Policy {
    let mut good = Map::new();
    // what `balance` may need beside it
    let hash_on = written.get("hash_on").cloned();
    for (field, value) in written {
        let path = format!("defaults.{field}");
        if !PolicyPatch::KNOWN.contains(&field.as_str()) {
            problems.add(path, unknown_key(&field, &PolicyPatch::KNOWN));
            continue;
        }
        let beside =
            hash_on.iter().filter(|_| field == "balance").map(|on| ("hash_on".to_owned(), on.clone()));
        let alone = Map::from_iter(beside.chain([(field.clone(), value.clone())]));
        match PolicyPatch::parse(&alone.into()) {
            Ok(_) => drop(good.insert(field, value)),
            // the patch names the field, and so does the path
            Err(reason) => {
                let reason = reason.strip_prefix(&format!("{field}: ")).unwrap_or(&reason).to_owned();
                problems.add(path, reason);
            }
        }
    }
    let patch = PolicyPatch::parse(&Value::Object(good)).unwrap_or_default();
    patch.over(&Policy::default())
}
