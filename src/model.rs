//! What the registry says, as plain data: service, api, provider, access, policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use crate::names::{Address, ApiName, CallerName};

mod policy;
mod quota;
mod rules;
mod statuses;
mod written;

pub use policy::{Balance, Concurrency, HashOn, Policy, PolicyPatch, RetryBudget, Zone};
pub use quota::{Quota, QuotaMode, QuotaScope};
pub use rules::{After, Ask, Circuit, Health, Hedge};
pub use statuses::Statuses;

/// How the registry's nodes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Service, address and API trees side by side.
    #[default]
    Flat,
    /// Categories with services below them.
    Tree,
}

/// Whether calls may go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Takes calls.
    #[default]
    On,
    /// Takes none.
    Off,
    /// Takes no new calls; those in flight end.
    Drain,
}

/// Who may call a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Anybody.
    #[default]
    Open,
    /// Callers with a key in the registry.
    Key,
}

/// One service with all that is known of it, in either layout.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Service {
    /// Of the service as a whole.
    pub state: State,
    /// Whether callers need a key.
    pub access: Access,
    /// Who answers for it; shown only.
    pub owner: Option<String>,
    /// Shown only.
    pub description: Option<String>,
    /// Over the configuration's defaults.
    pub policy: PolicyPatch,
    /// By name; `*` takes every name that is not listed. Shared with whoever resolves it.
    pub apis: BTreeMap<ApiName, Arc<Api>>,
    /// Providers of every API that has none of its own (`flat`).
    pub providers: Vec<Provider>,
    /// Callers with keys; what one key opens, another of the same caller need not.
    pub callers: BTreeMap<CallerName, Vec<Grant>>,
    /// Nodes that could not be read.
    pub skipped: Vec<Skipped>,
}

/// How an API's providers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// HTTP with a JSON body.
    #[default]
    Json,
    /// Yar with the msgpack packager.
    YarMsgpack,
    /// Yar with the JSON packager.
    YarJson,
    /// Yar with the packager of PHP's `serialize`.
    YarPhp,
}

/// What carries a Yar call to its providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// HTTP.
    #[default]
    Http,
    /// TCP alone.
    Tcp,
}

/// One function of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Api {
    /// HTTP path of a JSON API, endpoint of a Yar one; starts with `/`.
    pub path: String,
    /// Replaces the caller's HTTP method.
    pub method: Option<String>,
    /// How its providers speak.
    pub encoding: Encoding,
    /// What carries a Yar call to them; a JSON one always goes over HTTP.
    pub transport: Transport,
    /// Of this API alone.
    pub state: State,
    /// Names of positional parameters.
    pub params: Vec<String>,
    /// May run twice.
    pub idempotent: bool,
    /// Over the service's policy.
    pub policy: PolicyPatch,
    /// Its own providers (`tree`); `None` where the service's serve it (`flat`).
    pub providers: Option<Vec<Provider>>,
    /// Shown only.
    pub description: Option<String>,
    /// Kept and shown.
    pub schema: Option<Value>,
}

/// One address that serves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provider {
    /// Where it listens.
    pub address: Address,
    /// 0 to 1000; 0 takes no calls.
    pub weight: u16,
    /// Data centre (机房).
    pub idc: Option<Box<str>>,
    /// Of this provider alone.
    pub state: State,
    /// Shown only; boxed, as few have some and there may be a hundred thousand providers.
    pub tags: Option<Box<Value>>,
    /// Most calls at once.
    pub max_connections: Option<u32>,
    /// Whether it announced itself with an ephemeral node.
    pub ephemeral: bool,
    /// Whether it stands in the service's list (`flat`).
    pub listed: bool,
    /// Gone from the registry with many others; kept as a last resort.
    pub held: bool,
}

/// What one caller may do.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Grant {
    /// `off` refuses the caller.
    pub state: State,
    /// Any of them opens.
    pub keys: Vec<Key>,
    /// API names; `*` at the end stands for any rest.
    pub apis: Vec<String>,
    /// How often it may call what they cover.
    pub quota: Option<Quota>,
    /// In layout `tree`, the API whose entry this is.
    #[serde(skip)]
    pub of_api: Option<String>,
}

/// A caller's key, hashed.
#[derive(Clone, PartialEq)]
pub struct Key {
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// From then on it opens nothing.
    pub expires: Option<SystemTime>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("…")
    }
}

/// A registry node that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Skipped {
    /// Its path in the registry.
    pub path: String,
    /// What is wrong, with the way out.
    pub reason: String,
}
