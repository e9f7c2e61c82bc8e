//! The configuration as people see it, secrets masked.

use std::fmt;

use serde_json::{Value, json};

use super::{Auth, Bind, Caller, Config, Listen, Otlp, OwnProvider, Source, Tls, part_of_one};
use crate::model::Health;
use crate::units::{show_duration, show_size};

/// What the process takes with a small view and without calls, in bytes.
const BASE: u64 = 50 << 20;
/// What a caller's connection takes at most with its call: reading and writing on both sides.
const EACH: u64 = 512 << 10;
/// How often a body that is converted may be there for a moment.
const COPIES: u64 = 3;

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(at) => at.fmt(f),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Config {
    /// The whole configuration as resolved, in the form of the file; the caller's key shows as `…`.
    pub fn to_value(&self) -> Value {
        let (kind, source) = match &self.registry.source {
            Source::Embedded { file } => ("embedded", json!({ "file": file })),
            Source::ZooKeeper { connect, session_timeout, security } => (
                "zookeeper",
                json!({
                    "connect": connect,
                    "session_timeout": show_duration(*session_timeout),
                    "auth": security.auth.as_ref().map(auth),
                    "acl": security.acl,
                    "tls": security.tls.as_ref().map(tls),
                }),
            ),
        };
        let root = if self.registry.root.is_empty() { "/" } else { &self.registry.root };
        json!({
            "registry": {
                kind: source,
                "layout": self.registry.layout,
                "root": root,
                "snapshot": self.registry.snapshot,
            },
            "listen": self.listen.iter().map(listen).collect::<Vec<_>>(),
            "admin": self.admin.to_string(),
            "telemetry": self.telemetry.as_ref().map(Bind::to_string),
            "access_log": self.access_log.to_string(),
            "otlp": self.otlp.as_ref().map(otlp),
            "host": { "name": self.host.name, "idc": self.host.idc },
            "caller": self.caller.as_ref().map(caller),
            "providers": self.providers.iter().map(provider).collect::<Vec<_>>(),
            "defaults": self.defaults.to_value(),
            "drain": show_duration(self.drain),
            "workers": self.workers,
            "connections": self.connections,
            "buffers": show_size(self.buffers),
            "explain": { "callers": self.explain },
            "memory": self.memory(),
            "notes": self.notes,
        })
    }
}

impl Config {
    /// What this process takes at most, and why.
    fn memory(&self) -> Value {
        let most = BASE + self.connections as u64 * EACH + COPIES * self.buffers;
        json!({
            "most": format!("{}MiB", most.div_ceil(1 << 20)),
            "base": show_size(BASE),
            "connections": format!("{} × {}", self.connections, show_size(EACH)),
            "buffers": format!("{COPIES} × {}", show_size(self.buffers)),
            "buffers_of_one_service": show_size(part_of_one(self.buffers)),
        })
    }
}

fn listen(listen: &Listen) -> Value {
    let address = listen.bind.to_string();
    match (&listen.service, listen.callers.is_empty()) {
        (None, true) => json!(address),
        (service, true) => json!({ "address": address, "service": service }),
        (None, false) => json!({ "address": address, "callers": listen.callers }),
        (service, false) => json!({ "address": address, "service": service, "callers": listen.callers }),
    }
}

fn auth(auth: &Auth) -> Value {
    json!({ "user": auth.user, "password_file": auth.password_file })
}

fn tls(tls: &Tls) -> Value {
    let (cert, key) =
        (tls.identity.as_ref().map(|(cert, _)| cert), tls.identity.as_ref().map(|(_, key)| key));
    json!({ "ca_file": tls.ca_file, "cert_file": cert, "key_file": key })
}

fn otlp(otlp: &Otlp) -> Value {
    let masked = otlp.headers.iter().map(|header| (header.name.clone(), json!("…")));
    let traces = match &otlp.traces {
        Some(traces) => json!({ "sample": traces.sample.to_string(), "queue": traces.queue }),
        None => json!({ "sample": "off" }),
    };
    json!({
        "endpoint": format!("http://{}{}", otlp.collector, otlp.path),
        "headers": masked.collect::<serde_json::Map<_, _>>(),
        "timeout": show_duration(otlp.timeout),
        "interval": otlp.interval.map_or_else(|| "off".into(), show_duration),
        "traces": traces,
    })
}

fn caller(caller: &Caller) -> Value {
    json!({ "name": caller.name, "key": caller.key.as_ref().map(|_| "…") })
}

fn provider(provider: &OwnProvider) -> Value {
    json!({
        "service": provider.service,
        "address": provider.address,
        "weight": provider.weight,
        "health": provider.health.as_ref().map(Health::to_value),
    })
}
