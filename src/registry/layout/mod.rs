//! Znode paths and payloads ↔ model, `flat` and `tree`.
//!
//! Paths here are below the configured root: they start with `/` and never end with it.

mod draft;
mod fields;
mod flat;
mod notes;
mod tree;
mod twice;

use crate::config::OwnProvider;
use crate::model::{Layout, Provider, Service};
use crate::names::{Address, ApiName, CallerName, ServiceName};
use crate::registry::Node;
use crate::words;

/// The data of a node, unless it is more than a node may hold.
pub(super) fn data(data: Vec<u8>) -> Result<Vec<u8>, String> {
    if data.len() > fields::MAX_DATA {
        return Err(fields::too_much(data.len()));
    }
    Ok(data)
}

/// A subtree: what is read for a service, and the path that is watched for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Its top node.
    pub path: String,
    /// Levels read below the top node.
    pub depth: usize,
    /// A level and a name: nodes called so there, and all below them, are not read.
    pub prune: Option<(usize, &'static str)>,
}

/// What an entry of the registry is, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `user`
    Service,
    /// `user/get`
    Api,
    /// `user/10.0.0.5:8080`, in `tree` `category/service/10.0.0.5:8080`; in `flat` also `user`, the list.
    Address,
    /// `user/web`, in `tree` `category/service/web`.
    Access,
}

impl Scope {
    /// One node alone.
    pub fn node(path: String) -> Self {
        Self::new(path, 0)
    }

    fn new(path: String, depth: usize) -> Self {
        Self { path, depth, prune: None }
    }

    /// Whether a child called `name` is read, `level` levels below the top node.
    pub fn wants(&self, level: usize, name: &str) -> bool {
        level <= self.depth && self.prune != Some((level, name))
    }
}

impl Layout {
    /// The subtrees that hold `service`; their paths are what has to be watched for it.
    pub fn scopes(self, service: &ServiceName) -> Vec<Scope> {
        match self {
            Layout::Flat => [("service", 0), ("address", 1), ("api", 1), ("access", 1)]
                .map(|(tree, depth)| Scope::new(format!("/{tree}/{service}"), depth))
                .into(),
            Layout::Tree => {
                vec![Scope { prune: tree::PRUNED, ..Scope::new(format!("/services/{service}"), 3) }]
            }
        }
    }

    /// What to remove, in this order, so that a service is never served without its rules.
    pub fn removal(self, service: &ServiceName) -> Vec<String> {
        match self {
            Layout::Flat => {
                ["address", "api", "service", "access"].map(|tree| format!("/{tree}/{service}")).into()
            }
            Layout::Tree => vec![format!("/services/{service}")],
        }
    }

    /// The few paths that cover every service.
    pub fn roots(self) -> &'static [&'static str] {
        match self {
            Layout::Flat => &["/service", "/address", "/api", "/access"],
            Layout::Tree => &["/services"],
        }
    }

    /// The service that a change at `path` concerns.
    pub fn service_of(self, path: &str) -> Option<ServiceName> {
        let segments: Vec<_> = path.strip_prefix('/')?.splitn(5, '/').collect();
        let service = match (self, segments.as_slice()) {
            (Layout::Flat, ["service" | "address" | "api" | "access", service, ..]) => service,
            (Layout::Tree, ["services", _, _, "consumers", ..]) => return None,
            (Layout::Tree, ["services", service, ..]) => service,
            (Layout::Flat | Layout::Tree, _) => return None,
        };
        ServiceName::new(service).ok()
    }

    /// Reads a service out of the nodes of its scopes, in any order; `None`: none of them exists.
    ///
    /// A node that can't be read is left out and shown in [`Service::skipped`]; of `previous`
    /// stays what only a bad node would change: policies and the service's own fields.
    pub fn parse<'n>(
        self,
        service: &ServiceName,
        nodes: impl IntoIterator<Item = &'n Node>,
        previous: Option<&Service>,
    ) -> Option<Service> {
        let mut nodes: Vec<_> = nodes.into_iter().collect();
        if nodes.is_empty() {
            return None;
        }
        nodes.sort_by(|a, b| a.path.cmp(&b.path));
        Some(match self {
            Layout::Flat => flat::parse(service, &nodes, previous),
            Layout::Tree => tree::parse(service, &nodes, previous),
        })
    }

    /// The node of an entry; fails with what is wrong in `name`.
    pub fn node_path(self, kind: Kind, name: &str) -> Result<String, String> {
        let parts: Vec<_> = name.split('/').collect();
        let last = |text: &str| match kind {
            Kind::Service => service(text).map(|_| ()),
            Kind::Api => api(text).map(|_| ()),
            Kind::Address => address(text).map(|_| ()),
            Kind::Access => caller(text).map(|_| ()),
        };
        let path = self.place(kind, &parts);
        let sample =
            || format!("\"{}\" does not name {}", crate::words::quoted(name, 128), self.sample(kind));
        let path = path.ok_or_else(sample)?;
        match parts.as_slice() {
            [s] => service(s).map(|_| ())?,
            [s, name] => service(s).and_then(|_| last(name))?,
            [s, a, name] => service(s).and_then(|_| api(a)).and_then(|_| last(name))?,
            _ => {}
        }
        Ok(path)
    }

    /// The same for names that remora doesn't take, but that may stand in the registry.
    pub fn place_of_any(self, kind: Kind, name: &str) -> Option<String> {
        let parts: Vec<_> = name.split('/').collect();
        let plain = parts.iter().all(|part| !matches!(*part, "" | "." | ".."));
        self.place(kind, &parts).filter(|_| plain)
    }

    fn place(self, kind: Kind, parts: &[&str]) -> Option<String> {
        match (self, kind, parts) {
            (Layout::Flat, Kind::Service, [s]) => Some(format!("/service/{s}")),
            (Layout::Flat, Kind::Api, [s, a]) => Some(format!("/api/{s}/{a}")),
            (Layout::Flat, Kind::Address, [s]) => Some(format!("/address/{s}")),
            (Layout::Flat, Kind::Address, [s, p]) => Some(format!("/address/{s}/{p}")),
            (Layout::Flat, Kind::Access, [s, c]) => Some(format!("/access/{s}/{c}")),
            (Layout::Tree, Kind::Service, [s]) => Some(format!("/services/{s}")),
            (Layout::Tree, Kind::Api, [s, a]) => Some(format!("/services/{s}/{a}")),
            (Layout::Tree, Kind::Address, [s, a, p]) => Some(format!("/services/{s}/{a}/providers/{p}")),
            (Layout::Tree, Kind::Access, [s, a, c]) => Some(format!("/services/{s}/{a}/access/{c}")),
            (Layout::Flat | Layout::Tree, _, _) => None,
        }
    }

    /// Where an own provider registers itself.
    pub fn own_provider_path(self, own: &OwnProvider) -> Result<String, String> {
        self.node_path(Kind::Address, &format!("{}/{}", own.service, own.address))
    }

    /// A provider as a node that is read as this one; nothing where it has no place in this layout.
    pub(super) fn provider_node(
        self,
        service: &ServiceName,
        api: Option<&ApiName>,
        provider: &Provider,
    ) -> Option<Node> {
        let of = api.map_or(service.to_string(), |api| format!("{service}/{api}"));
        let path = self.node_path(Kind::Address, &format!("{of}/{}", provider.address)).ok()?;
        let data = serde_json::json!({
            "weight": provider.weight,
            "idc": provider.idc,
            "state": provider.state,
            "tags": provider.tags,
            "max_connections": provider.max_connections,
        });
        Some(Node { path, data: Ok(data.to_string().into_bytes()), ephemeral: provider.ephemeral })
    }

    /// Where entries of `kind` stand, all or those of one service.
    pub fn list(self, kind: Kind, of: Option<&ServiceName>) -> Vec<Scope> {
        let below = |tree: &str| match of {
            Some(service) => vec![Scope::new(format!("/{tree}/{service}"), 1)],
            None => vec![Scope::new(format!("/{tree}"), 2)],
        };
        match (self, kind) {
            // a service exists when any of its nodes does
            (Layout::Flat, Kind::Service) => {
                self.roots().iter().map(|root| Scope::new((*root).to_owned(), 1)).collect()
            }
            (Layout::Flat, Kind::Api) => below("api"),
            (Layout::Flat, Kind::Address) => below("address"),
            (Layout::Flat, Kind::Access) => below("access"),
            (Layout::Tree, Kind::Service) => vec![Scope::new("/services".into(), 1)],
            (Layout::Tree, Kind::Api) => below("services"),
            (Layout::Tree, Kind::Address | Kind::Access) => match of {
                Some(service) => self.scopes(service),
                None => vec![Scope::new("/services".into(), 4)],
            },
        }
    }

    /// The name of the entry of `kind` that a node is, or makes exist.
    pub fn entry(self, kind: Kind, path: &str) -> Option<String> {
        let segments: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        match (self, kind, segments.as_slice()) {
            (Layout::Flat, Kind::Service, [_, service]) => Some((*service).to_owned()),
            (Layout::Flat, Kind::Address, [_, service]) => Some((*service).to_owned()),
            (Layout::Flat, Kind::Api | Kind::Address | Kind::Access, [_, service, name]) => {
                Some(format!("{service}/{name}"))
            }
            (Layout::Tree, Kind::Service, [_, service]) => Some((*service).to_owned()),
            (Layout::Tree, Kind::Api, [_, service, api]) => Some(format!("{service}/{api}")),
            (Layout::Tree, Kind::Address, [_, service, api, "providers", name])
            | (Layout::Tree, Kind::Access, [_, service, api, "access", name]) => {
                Some(format!("{service}/{api}/{name}"))
            }
            (Layout::Flat | Layout::Tree, _, _) => None,
        }
    }

    /// Checks what is to be written as the data of an entry; fails with the field and the way out.
    pub fn check(self, kind: Kind, name: &str, data: &[u8]) -> Result<(), String> {
        self.check_fields(kind, name, data).map_err(|reason| words::line(&reason))
    }

    fn check_fields(self, kind: Kind, name: &str, data: &[u8]) -> Result<(), String> {
        let fields = match kind {
            Kind::Access => fields::secret_object(data)?,
            Kind::Service | Kind::Api | Kind::Address => fields::object(data)?,
        };
        twice::refuse(data)?;
        match (self, kind) {
            (_, Kind::Service) => {
                fields::service(&fields).check()?;
                fields::policy(&fields).map(|_| ())
            }
            (_, Kind::Api) => {
                fields::api(&fields)?;
                fields::policy(&fields).map(|_| ())
            }
            (Layout::Flat, Kind::Address) if !name.contains('/') => flat::check_list(&fields),
            (_, Kind::Address) => fields::provider(&fields).map(|_| ()),
            (_, Kind::Access) => {
                let grant = fields::grant(&fields)?;
                let bad_key =
                    grant.bad_keys.first().map(|(index, reason)| format!("keys[{index}]: {reason}"));
                bad_key.map_or(grant.quota.map(|_| ()), Err)
            }
        }
    }

    fn sample(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (_, Kind::Service) => "a service, such as user",
            (_, Kind::Api) => "an api, such as user/get",
            (Layout::Flat, Kind::Address) => "an address, such as user/10.0.0.5:8080",
            (Layout::Tree, Kind::Address) => "an address, such as category1/helloworld/10.0.0.5:8080",
            (Layout::Flat, Kind::Access) => "a caller, such as user/web",
            (Layout::Tree, Kind::Access) => "a caller, such as category1/helloworld/web",
        }
    }
}

fn service(text: &str) -> Result<ServiceName, String> {
    ServiceName::new(text).map_err(|e| e.to_string())
}

fn api(text: &str) -> Result<ApiName, String> {
    ApiName::new(text).map_err(|e| e.to_string())
}

fn address(text: &str) -> Result<Address, String> {
    Address::new(text).map_err(|e| e.to_string())
}

fn caller(text: &str) -> Result<CallerName, String> {
    CallerName::new(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
