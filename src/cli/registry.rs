//! `remora registry`: reads and writes the registry's entries.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::{configuration, print, remove, runtime, tell, transfer};
use crate::model::Layout;
use crate::names::ServiceName;
use crate::registry::layout::{Kind, Scope};
use crate::registry::{self, Node, Source};
use crate::words;

/// How long the registry may take to be reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest name that pads the others, in characters.
const WIDEST: usize = 40;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The configuration that names the registry; without it every default holds
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show one entry
    Get {
        /// service, api, address or access
        kind: KindArg,
        /// user, user/get, user/10.0.0.5:8080, user/web
        name: String,
        #[arg(short, long, default_value = "yaml")]
        output: Form,
    },
    /// Make or replace an entry
    Put {
        /// service, api, address or access
        kind: KindArg,
        /// user, user/get, user/10.0.0.5:8080, user/web
        name: String,
        /// The entry's fields; left out, an entry that is not there yet is made with all defaults
        json: Option<String>,
        /// Write it although a field looks like a misspelled access, state or apis
        #[arg(long)]
        force: bool,
    },
    /// Remove an entry and what stands below it
    Rm {
        /// service, api, address or access
        kind: KindArg,
        /// user, user/get, user/10.0.0.5:8080, user/web
        name: String,
        /// Of a service also its addresses, apis and access, wherever they stand
        #[arg(long)]
        all: bool,
    },
    /// List entries
    Ls {
        /// services, apis, addresses or access
        kind: KindArg,
        /// Only those of this service
        service: Option<String>,
        #[arg(short, long, default_value = "table")]
        output: Form,
    },
    /// Print every lasting entry as one YAML document
    Export,
    /// Make the registry contain what `export` printed, from either layout
    Import(transfer::Import),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    #[value(alias = "services")]
    Service,
    #[value(alias = "apis")]
    Api,
    #[value(alias = "addresses")]
    Address,
    Access,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Json,
    Yaml,
    Table,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Service => Kind::Service,
            KindArg::Api => Kind::Api,
            KindArg::Address => Kind::Address,
            KindArg::Access => Kind::Access,
        }
    }
}

/// Runs one command; fails with the message to print.
pub(super) fn run(args: Args) -> Result<(), String> {
    check_usage(&args.command);
    let config = configuration(args.config.as_deref())?;
    let source = registry::open(&config.registry).map_err(|e| e.to_string())?;
    runtime()?.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let supervised = source.supervise(stopped);
        let done = async {
            let reached = source.reached(PATIENCE).await.map_err(|e| format!("the registry: {e}"));
            let outcome = match reached {
                Ok(()) => carry_out(&source, args.command).await,
                Err(reason) => Err(reason),
            };
            stop.send_replace(true);
            outcome
        };
        tokio::join!(supervised, done).1
    })
}

/// Refuses what the types of the arguments can't.
fn check_usage(command: &Command) {
    if let Command::Rm { kind: KindArg::Api | KindArg::Address | KindArg::Access, all: true, .. } = command {
        let message = "--all is for services: write `rm --all service NAME`, or leave --all out\n";
        clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message).exit();
    }
}

/// Whether it can be carried out where the root is missing: it is made with what is written, but
/// what stands before it, a chroot, is not.
fn makes_root(source: &Source, command: &Command) -> bool {
    let writes = match command {
        Command::Put { .. } | Command::Import(_) => true,
        Command::Get { .. } | Command::Rm { .. } | Command::Ls { .. } | Command::Export => false,
    };
    writes && !source.root().is_empty()
}

async fn carry_out(source: &Source, command: Command) -> Result<(), String> {
    if !makes_root(source, &command) {
        source.rooted().await.map_err(|e| e.to_string())?;
    }
    let path_of = |kind: KindArg, name: &str| source.layout().node_path(kind.into(), name);
    match command {
        Command::Get { kind, name, output } => {
            let (_, node) = standing(source, kind.into(), &name).await?;
            let node = node.ok_or_else(|| missing(&name))?;
            print(&show(output, &[(name, value(&node)?)])?)
        }
        Command::Put { kind, name, json, force } => {
            let path = path_of(kind, &name)?;
            let json = match json {
                Some(json) => json,
                None => unless_there(source, &path).await?,
            };
            source.layout().check(kind.into(), &name, json.as_bytes())?;
            for note in source.layout().notes(kind.into(), &name, json.as_bytes()) {
                match note.grave && !force {
                    true => return Err(format!("{path}: {}; --force writes it as it is", note.text)),
                    false => tell(&format!("{path}: {}", note.text)),
                }
            }
            source.put(&path, json.as_bytes()).await.map_err(|e| format!("{path}: {e}"))
        }
        Command::Rm { name, all: true, .. } => remove::all(source, &name).await,
        Command::Rm { kind, name, all: false } => remove::one(source, kind.into(), &name).await,
        Command::Ls { kind, service, output } => {
            let service =
                service.map(|name| ServiceName::new(&name)).transpose().map_err(|e| e.to_string())?;
            list(source, kind.into(), service.as_ref(), output).await
        }
        Command::Export => transfer::export(source).await,
        Command::Import(args) => transfer::import(source, args).await,
    }
}

/// The path of an entry and its node, if it stands there; a name that remora doesn't take has to.
pub(super) async fn standing(
    source: &Source,
    kind: Kind,
    name: &str,
) -> Result<(String, Option<Node>), String> {
    let good = source.layout().node_path(kind, name);
    let path = match (&good, source.layout().place_of_any(kind, name)) {
        (Ok(path), _) => path.clone(),
        (Err(_), Some(path)) => path,
        (Err(reason), None) => return Err(reason.clone()),
    };
    let node = source.read(&[Scope::node(path.clone())]).await.map_err(|e| e.to_string())?.pop();
    match (node, good) {
        (None, Err(reason)) => Err(reason),
        (node, _) => Ok((path, node)),
    }
}

/// All defaults, for an entry that is not there yet: an entry that is there would lose its fields.
async fn unless_there(source: &Source, path: &str) -> Result<String, String> {
    let there = source.read(&[Scope::node(path.to_owned())]).await.map_err(|e| e.to_string())?;
    match there.is_empty() {
        true => Ok("{}".into()),
        false => Err(format!("{path} is there already; give its fields, '{{}}' if all defaults are to hold")),
    }
}

async fn list(source: &Source, kind: Kind, of: Option<&ServiceName>, output: Form) -> Result<(), String> {
    let layout = source.layout();
    let nodes = source.read(&layout.list(kind, of)).await.map_err(|e| e.to_string())?;
    let mut entries: Vec<(String, Value)> = Vec::new();
    for node in &nodes {
        let Some(name) = layout.entry(kind, &node.path) else { continue };
        if kind == Kind::Address && is_mere_parent(layout, node) {
            continue;
        }
        let data = if layout.node_path(kind, &name).as_deref() == Ok(node.path.as_str()) {
            value(node).unwrap_or_else(|reason| json!({ "unreadable": reason }))
        } else {
            json!({})
        };
        match entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if *known == json!({}) => *known = data,
            Some(_) => {}
            None => entries.push((name, data)),
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    print(&show(output, &entries)?)
}

/// Whether a node that could hold a list of addresses is there for those below it only.
fn is_mere_parent(layout: Layout, node: &Node) -> bool {
    layout == Layout::Flat
        && node.path.matches('/').count() == 2
        && node.data.as_ref().is_ok_and(|data| data.trim_ascii().is_empty())
}

pub(super) fn missing(name: &str) -> String {
    format!("{name} is not in the registry")
}

fn value(node: &Node) -> Result<Value, String> {
    let data = node.data.as_ref().map_err(|reason| format!("{}: {reason}", node.path))?;
    if data.is_empty() {
        return Ok(json!({}));
    }
    // somebody may have written the key of a caller itself
    let secret = node.path.contains("/access/");
    serde_json::from_slice(data).map_err(|e| format!("{}: {}", node.path, words::not_json(data, &e, secret)))
}

fn show(form: Form, entries: &[(String, Value)]) -> Result<String, String> {
    let all: Map<String, Value> = entries.iter().cloned().collect();
    match form {
        Form::Json => Ok(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"),
        Form::Yaml => serde_saphyr::to_string(&all).map_err(|e| e.to_string()),
        Form::Table => {
            // a name that is longer stands out alone
            let lengths = entries.iter().map(|(name, _)| name.chars().count());
            let width = lengths.filter(|length| *length <= WIDEST).max().unwrap_or(0);
            Ok(entries.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect())
        }
    }
}
