//! The configuration: as written, then as meant.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::model::{Layout, Policy};
use crate::names::{Address, CallerName};

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
}

/// The registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Which one.
    pub source: Source,
    /// How its nodes are laid out.
    pub layout: Layout,
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
    },
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

/// A listener for calls.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where.
    pub bind: Bind,
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
    pub health: Option<HealthCheck>,
}

/// How a provider's health is checked.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// What to ask.
    pub ask: Ask,
    /// Between two checks.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Good checks in a row that make it healthy.
    pub rise: u32,
    /// Bad checks in a row that make it unhealthy.
    pub fall: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// GET this path; 2xx and 3xx are good.
    Http(String),
    /// A connection that opens is good.
    Tcp,
}
