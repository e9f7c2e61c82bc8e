//! `remora check`: tells all that is wrong with a configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use super::{load, print, runtime};
use crate::config::{Bind, Config, Listen, OwnProvider, Security, Source};
use crate::model::Ask;
use crate::names::ServiceName;
use crate::registry::layout::Kind;
use crate::registry::{self, Trouble};
use crate::units::show_duration;

/// How long the registry may take to be reached.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(file: Option<&Path>, connect: bool) -> Result<(), String> {
    let config = match load(file) {
        Ok(config) => config,
        Err(problems) => {
            print(&format!("{problems}\n"))?;
            return Err(counted(problems.0.len(), "problem"));
        }
    };
    let found = if connect { reach(&config) } else { Ok(Found::default()) };
    let name = file.map_or("the defaults".into(), |file| file.display().to_string());
    let good = found.as_ref().is_ok_and(|found| found.bad.is_empty());
    let lacks: String = lacks(&config).iter().map(|lack| entry("lacks", lack)).collect();
    let verdict = match (good, lacks.is_empty()) {
        (true, true) => " good",
        (true, false) => " good, but not on this host",
        (false, _) => "",
    };
    print(&format!("{name}:{verdict}\n{}{lacks}", summary(&config)))?;
    let found = found?;
    print(&found.lines.concat())?;
    match found.bad.len() {
        0 => Ok(()),
        count => {
            print(&found.bad.concat())?;
            Err(counted(count, "node") + " can't be read")
        }
    }
}

/// What stands in the registry.
#[derive(Default)]
struct Found {
    /// For the summary.
    lines: Vec<String>,
    /// Nodes that can't be read, and why; a line each.
    bad: Vec<String>,
}

impl Found {
    fn say(&mut self, what: &str, line: &str) {
        self.lines.push(entry(what, line));
    }
}

/// A line of the summary.
fn entry(what: &str, line: &str) -> String {
    format!("  {what:<10} {line}\n")
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What the configuration comes to, a line each.
fn summary(config: &Config) -> String {
    let source = match &config.registry.source {
        Source::Embedded { file } => format!("embedded, in {}", file.display()),
        Source::ZooKeeper { connect, session_timeout, security } => {
            let session = show_duration(*session_timeout);
            format!("ZooKeeper at {connect}{}, sessions of {session}", secured(security))
        }
    };
    let root = if config.registry.root.is_empty() { "/" } else { &config.registry.root };
    let layout = match config.registry.layout {
        crate::model::Layout::Flat => "flat",
        crate::model::Layout::Tree => "tree",
    };
    let listen: Vec<_> = config.listen.iter().map(listener).collect();
    let mut lines = vec![
        ("registry", format!("{source}; layout {layout}, root {root}")),
        ("listen", listen.join(", ")),
        ("admin", config.admin.to_string()),
    ];
    lines.extend(config.telemetry.iter().map(|bind| ("telemetry", bind.to_string())));
    let idc = config.host.idc.as_ref().map(|idc| format!(" in {idc}")).unwrap_or_default();
    lines.push(("host", format!("{}{idc}", config.host.name)));
    lines.extend(config.caller.iter().map(|caller| ("caller", caller.name.to_string())));
    lines.extend(config.providers.iter().map(|own| ("provider", provider(own))));
    let workers = counted(config.workers, "worker");
    lines.push(("process", format!("{workers}, drains for {}", show_duration(config.drain))));
    lines.extend(config.notes.iter().map(|note| ("note", note.clone())));
    lines.iter().map(|(what, line)| entry(what, line)).collect()
}

/// What a start on this host would miss; no problem of the configuration, which may be for another.
fn lacks(config: &Config) -> Vec<String> {
    let doors = config.listen.iter().map(|listen| &listen.bind).chain([&config.admin]);
    let absent = doors.chain(&config.telemetry).filter_map(|bind| match bind {
        Bind::Unix(path) if !path.parent().is_none_or(is_there) => {
            Some(format!("{bind} can't be served: its directory does not exist; make it before the start"))
        }
        Bind::Unix(_) | Bind::Tcp(_) => None,
    });
    absent.chain(registry::snapshot_trouble(&config.registry)).collect()
}

fn is_there(directory: &Path) -> bool {
    directory.as_os_str().is_empty() || directory.is_dir()
}

fn secured(security: &Security) -> String {
    let tls = match &security.tls {
        Some(tls) if tls.identity.is_some() => " over TLS with our certificate",
        Some(_) => " over TLS",
        None => "",
    };
    let user = security.auth.as_ref().map(|auth| format!(" as {}", auth.user)).unwrap_or_default();
    format!("{tls}{user}")
}

fn listener(listen: &Listen) -> String {
    let service = listen.service.as_ref().map(|name| format!(" (raw Yar: service {name})"));
    format!("{}{}", listen.bind, service.unwrap_or_default())
}

fn provider(own: &OwnProvider) -> String {
    let health = own.health.as_ref().map_or("no check".into(), |health| {
        let ask = match &health.ask {
            Ask::Http(path) => format!("GET {path}"),
            Ask::Tcp => "connects".into(),
            Ask::Fpm(path) => format!("GET {path} of php-fpm"),
        };
        format!("{ask} every {}", show_duration(health.interval))
    });
    format!("{} at {}, {health}", own.service, own.address)
}

/// Reaches the registry and reads every service in it as the sidecar would.
fn reach(config: &Config) -> Result<Found, String> {
    let mut found = Found::default();
    if let Source::Embedded { file } = &config.registry.source
        && !file.exists()
    {
        found.say("reached", &format!("{} is made at the first start", file.display()));
        return Ok(found);
    }
    runtime()?.block_on(async {
        let source = registry::open(&config.registry).map_err(|e| e.to_string())?;
        let (stop, stopped) = watch::channel(false);
        let looked = async {
            let outcome = look(&source).await;
            stop.send_replace(true);
            outcome
        };
        tokio::join!(looked, source.supervise(stopped)).0.map_err(|e| e.to_string())
    })
}

async fn look(source: &registry::Source) -> Result<Found, Trouble> {
    source.reached(PATIENCE).await?;
    source.rooted().await?;
    let layout = source.layout();
    let listed = source.read(&layout.list(Kind::Service, None)).await?;
    let names: BTreeSet<_> = listed.iter().filter_map(|node| layout.service_of(&node.path)).collect();
    let mut found = Found::default();
    found.say("reached", &counted(names.len(), "service"));
    for node in listed.iter().filter(|node| layout.service_of(&node.path).is_none()) {
        if let Some(Err(bad)) = layout.entry(Kind::Service, &node.path).map(|name| ServiceName::new(&name)) {
            found.bad.push(format!("{}: {bad}\n", node.path));
        }
    }
    for name in &names {
        let nodes = source.read(&layout.scopes(name)).await?;
        let Some(service) = layout.parse(name, &nodes, None) else { continue };
        found.bad.extend(service.skipped.iter().map(|node| format!("{}: {}\n", node.path, node.reason)));
    }
    Ok(found)
}
