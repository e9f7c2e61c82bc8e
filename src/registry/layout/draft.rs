//! A service while its nodes are read: what both layouts share.

use serde_json::Value;

use super::fields::{self, Fields, ProviderFields};
use crate::model::{Access, Api, Grant, PolicyPatch, Provider, Quota, Service, Skipped, State};
use crate::names::{Address, ApiName, CallerName};
use crate::registry::Node;
use crate::words;

/// A provider's weight where nobody wrote one.
const DEFAULT_WEIGHT: u16 = 100;

pub(super) struct Draft<'a> {
    pub(super) service: Service,
    pub(super) previous: Option<&'a Service>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(previous: Option<&'a Service>) -> Self {
        Self { service: Service::default(), previous }
    }

    pub(super) fn skip(&mut self, path: &str, reason: impl Into<String>) {
        let reason = words::line(&reason.into());
        self.service.skipped.push(Skipped { path: path.to_owned(), reason });
    }

    /// The value, or a note why the node at `path` is left out.
    pub(super) fn keep<T>(&mut self, path: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|reason| self.skip(path, reason)).ok()
    }

    /// The node's fields, or a note why it is left out.
    pub(super) fn fields(&mut self, node: &Node) -> Option<Fields> {
        self.read(node, fields::object)
    }

    fn read(&mut self, node: &Node, read: fn(&[u8]) -> Result<Fields, String>) -> Option<Fields> {
        let fields = node.data.as_ref().map_err(Clone::clone).and_then(|data| read(data));
        self.keep(&node.path, fields)
    }

    /// Reads the service's own node; returns the path in front of its APIs' paths, if it is known.
    ///
    /// What can't be read stays as it was; where it never was, nothing is opened by a slip.
    pub(super) fn head(&mut self, node: &Node) -> Option<String> {
        let before = self.previous.map(|p| (p.state, p.access));
        let Some(fields) = self.fields(node) else {
            // it may say that a key is wanted
            self.service.access = Access::Key;
            if let (Some(previous), Some((state, access))) = (self.previous, before) {
                (self.service.state, self.service.access) = (state, access);
                self.service.owner = previous.owner.clone();
                self.service.description = previous.description.clone();
                self.service.policy = previous.policy.clone();
            }
            return None;
        };
        let head = fields::service(&fields);
        let (state, access) = before.unwrap_or((State::Off, Access::Key));
        self.service.state = self.keep(&node.path, head.state).unwrap_or(state);
        self.service.access = self.keep(&node.path, head.access).unwrap_or(access);
        self.service.owner = self.keep(&node.path, head.owner).flatten();
        self.service.description = self.keep(&node.path, head.description).flatten();
        self.service.policy = self.policy(&node.path, &fields, self.previous.map(|p| &p.policy));
        self.keep(&node.path, head.context)
    }

    fn policy(&mut self, path: &str, fields: &Fields, last: Option<&PolicyPatch>) -> PolicyPatch {
        fields::policy(fields).unwrap_or_else(|reason| {
            let last = last.cloned().unwrap_or_default();
            let instead = match last.is_empty() {
                true => "none of its rules is in force, and no good policy of this node is known",
                false => "the last good policy stays in force",
            };
            self.skip(path, format!("{reason}; {instead}"));
            last
        })
    }

    /// Reads an API's node.
    pub(super) fn api(&mut self, node: &Node, name: &str) -> Option<(ApiName, Api)> {
        let name = ApiName::new(name).map_err(|e| e.to_string());
        let name = self.keep(&node.path, name)?;
        let fields = self.fields(node)?;
        let mut api = self.keep(&node.path, fields::api(&fields))?;
        let last = self.previous.and_then(|p| p.apis.get(&name)).map(|api| &api.policy);
        api.policy = self.policy(&node.path, &fields, last);
        Some((name, api))
    }

    /// Reads a caller's node; where it stands below an API, it is about that one alone.
    ///
    /// One that can't be read lets nobody in, and its quota stays as it was; where none was known,
    /// it admits nothing: the node may say so.
    pub(super) fn grant(&mut self, node: &Node, name: &str, api: Option<&str>) {
        let name = CallerName::new(name).map_err(|e| e.to_string());
        let Some(name) = self.keep(&node.path, name) else { return };
        let of_api = |grant: &&Grant| api.is_none_or(|api| grant.apis.iter().eq([api]));
        let before = self.previous.and_then(|service| service.callers.get(&name));
        let before = before.and_then(|grants| grants.iter().find(of_api));
        let quota = before.map_or(Some(Quota::UNREAD), |grant| grant.quota.clone());
        let fields = self.read(node, fields::secret_object);
        let found = fields.and_then(|fields| self.keep(&node.path, fields::grant(&fields)));
        let mut grant = match found {
            Some(found) => {
                for (index, reason) in found.bad_keys {
                    self.skip(&format!("{}#keys[{index}]", node.path), reason);
                }
                let quota = found.quota.unwrap_or_else(|reason| {
                    self.skip(&node.path, format!("{reason}; {}", instead(quota.as_ref())));
                    quota
                });
                Grant { quota, ..found.grant }
            }
            None => Grant { state: State::Off, apis: vec!["*".into()], quota, ..Grant::default() },
        };
        if let Some(api) = api {
            (grant.apis, grant.of_api) = (vec![api.to_owned()], Some(api.to_owned()));
        }
        self.service.callers.entry(name).or_default().push(grant);
    }

    /// Reads a provider's own node, called `host:port`.
    pub(super) fn provider(&mut self, node: &Node, name: &str) -> Option<(Address, ProviderFields)> {
        let address = Address::new(name).map_err(|e| e.to_string());
        let address = self.keep(&node.path, address)?;
        let fields = self.fields(node)?;
        let found = self.keep(&node.path, fields::provider(&fields))?;
        Some((address, found))
    }

    pub(super) fn finish(mut self) -> Service {
        self.service.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        self.service
    }
}

/// What is in force where a quota can't be read.
fn instead(last: Option<&Quota>) -> &'static str {
    match last {
        Some(last) if last.is_read() => "the last good quota stays in force",
        Some(_) => "no good one is known, so nothing of this caller is admitted",
        None => "the caller had none before, and stays without",
    }
}

/// A provider from its fields, `ephemeral` if a node of its own says that it lives.
pub(super) fn provider(address: Address, fields: ProviderFields, ephemeral: bool) -> Provider {
    Provider {
        address,
        weight: fields.weight.unwrap_or(DEFAULT_WEIGHT),
        idc: fields.idc,
        state: fields.state.unwrap_or_default(),
        tags: fields.tags,
        max_connections: fields.max_connections,
        ephemeral,
        listed: false,
        held: false,
    }
}

/// One item of a list of addresses.
pub(super) fn listed(item: &Value) -> Result<(Address, ProviderFields), String> {
    let wrong =
        || format!("{} is not an object such as {{\"address\":\"10.0.0.5:8080\"}}", fields::shown(item));
    let item = item.as_object().ok_or_else(wrong)?;
    let address = fields::text(item, "address")?.ok_or("address: it is missing; write host:port")?;
    let address = Address::new(&address).map_err(|e| format!("address: {e}"))?;
    Ok((address, fields::provider(item)?))
}
