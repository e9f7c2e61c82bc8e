//! From the nodes of a registry to the document.

use super::{ApiEntry, Data, Document, Listed, ServiceEntry};
use crate::model::Layout;
use crate::names::{Address, ApiName, CallerName, ServiceName};
use crate::registry::Node;
use crate::registry::layout::{Kind, Scope};

const KINDS: [Kind; 4] = [Kind::Service, Kind::Api, Kind::Address, Kind::Access];

/// What stands in a registry.
#[derive(Debug)]
pub struct Gathered {
    /// Its lasting entries.
    pub document: Document,
    /// Paths that the document has no place for, and why.
    pub left_out: Vec<(String, String)>,
    /// Nodes that come and go with whoever made them; no part of the document.
    pub ephemeral: usize,
}

/// What has to be read for [`gather`]; who calls whom is no part of it.
pub fn scopes(layout: Layout) -> Vec<Scope> {
    let prune = match layout {
        Layout::Flat => None,
        Layout::Tree => Some((3, "consumers")),
    };
    let scope = |path: &&str| Scope { path: (*path).to_owned(), depth: usize::MAX, prune };
    layout.roots().iter().map(scope).collect()
}

/// Reads the document out of all nodes of a registry.
pub fn gather(layout: Layout, nodes: &[Node]) -> Gathered {
    let mut found = Gathered { document: Document::new(layout), left_out: Vec::new(), ephemeral: 0 };
    for node in nodes {
        if node.ephemeral {
            found.ephemeral += 1;
        } else if let Err(reason) = found.take(layout, node) {
            found.left_out.push((node.path.clone(), reason));
        }
    }
    found.left_out.sort();
    found
}

impl Gathered {
    /// Closes services whose own node could not be carried over: it may have said that a key is wanted.
    #[must_use]
    pub fn locked(mut self, layout: Layout) -> Self {
        let names = self.left_out.iter().filter_map(|(path, _)| layout.entry(Kind::Service, path));
        for name in names {
            if let Some(service) =
                ServiceName::new(&name).ok().and_then(|n| self.document.services.get_mut(&n))
            {
                service.data = service.data.take().or(Data::of(br#"{"access":"key"}"#).ok());
            }
        }
        self
    }

    fn take(&mut self, layout: Layout, node: &Node) -> Result<(), String> {
        let data = Data::of(node.data.as_ref().map_err(Clone::clone)?)?;
        for kind in KINDS {
            let Some(name) = layout.entry(kind, &node.path) else { continue };
            if layout.node_path(kind, &name).as_deref() == Ok(node.path.as_str()) {
                return self.document.put(kind, &name, data);
            }
        }
        if is_parent(layout, &node.path) && data.is_empty() {
            return Ok(());
        }
        let mut kinds = KINDS.into_iter().filter(|kind| is_below(layout, *kind, &node.path));
        let wrong = kinds.find_map(|kind| layout.node_path(kind, &layout.entry(kind, &node.path)?).err());
        Err(wrong.unwrap_or_else(|| "it is no service, api, address or access".into()))
    }
}

/// Whether the tree that `path` stands in is one of entries of `kind`.
fn is_below(layout: Layout, kind: Kind, path: &str) -> bool {
    let tree = path.split('/').nth(1);
    match (layout, kind) {
        (Layout::Flat, Kind::Service) => tree == Some("service"),
        (Layout::Flat, Kind::Api) => tree == Some("api"),
        (Layout::Flat, Kind::Address) => tree == Some("address"),
        (Layout::Flat, Kind::Access) => tree == Some("access"),
        (Layout::Tree, _) => true,
    }
}

/// Whether a node is there for those below it only.
pub(super) fn is_parent(layout: Layout, path: &str) -> bool {
    let segments: Vec<_> = path.split('/').skip(1).collect();
    match (layout, segments.as_slice()) {
        (_, [_]) | (Layout::Flat, ["api" | "access" | "address", _]) => true,
        (Layout::Tree, [_, _, _, "providers" | "access"]) => true,
        (Layout::Flat | Layout::Tree, _) => false,
    }
}

impl Document {
    /// Puts an entry in its place; fails with what is wrong in its name.
    fn put(&mut self, kind: Kind, name: &str, data: Data) -> Result<(), String> {
        let parts: Vec<_> = name.split('/').collect();
        match (kind, parts.as_slice()) {
            (Kind::Service, [service]) => self.service(service)?.data = Some(data),
            (Kind::Api, [service, api]) => self.api(service, api)?.data = Some(data),
            (Kind::Address, [service]) => {
                let listed = Listed(data).settled();
                // a list without addresses is there for the nodes below it, or no more
                if !listed.0.is_empty() {
                    self.service(service)?.addresses = Some(listed);
                }
            }
            (Kind::Address, [service, provider]) => {
                self.service(service)?.providers.insert(address(provider)?, data);
            }
            (Kind::Address, [service, api, provider]) => {
                self.api(service, api)?.providers.insert(address(provider)?, data);
            }
            (Kind::Access, [service, name]) => {
                self.service(service)?.access.insert(caller(name)?, data);
            }
            (Kind::Access, [service, api, name]) => {
                self.api(service, api)?.access.insert(caller(name)?, data);
            }
            _ => return Err("it is no service, api, address or access".into()),
        }
        Ok(())
    }

    fn service(&mut self, name: &str) -> Result<&mut ServiceEntry, String> {
        let name = ServiceName::new(name).map_err(|e| e.to_string())?;
        Ok(self.services.entry(name).or_default())
    }

    fn api(&mut self, service: &str, name: &str) -> Result<&mut ApiEntry, String> {
        let name = ApiName::new(name).map_err(|e| e.to_string())?;
        Ok(self.service(service)?.apis.entry(name).or_default())
    }
}

fn address(text: &str) -> Result<Address, String> {
    Address::new(text).map_err(|e| e.to_string())
}

fn caller(text: &str) -> Result<CallerName, String> {
    CallerName::new(text).map_err(|e| e.to_string())
}
