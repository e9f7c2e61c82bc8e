//! Layout `tree`: categories with services below them; a category is a service of the model,
//! a service below it one of its APIs.

use std::sync::Arc;

use super::draft::{self, Draft};
use crate::model::{Api, Service};
use crate::names::{ApiName, ServiceName};
use crate::registry::Node;

/// Who calls a service is no part of it.
pub(super) const PRUNED: Option<(usize, &str)> = Some((2, "consumers"));

pub(super) fn parse(service: &ServiceName, nodes: &[&Node], previous: Option<&Service>) -> Service {
    let mut draft = Draft::new(previous);
    let mut context = Some(String::new());
    // parents sort before their children
    for node in nodes {
        let segments: Vec<_> = node.path.split('/').skip(1).collect();
        match segments.as_slice() {
            ["services", name, ..] if *name != service.as_str() => {}
            ["services", _] => context = draft.head(node),
            ["services", _, name] => {
                if let Some((name, api)) = draft.api(node, name) {
                    draft.service.apis.insert(name, api.into());
                }
            }
            ["services", _, api, "providers", name] => {
                if let Some((address, fields)) = draft.provider(node, name)
                    && let Some(api) = draft.service.apis.get_mut(*api)
                {
                    let provider = draft::provider(address, fields, node.ephemeral);
                    Arc::make_mut(api).providers.get_or_insert_default().push(provider);
                }
            }
            ["services", _, api, "access", name] => draft.grant(node, name, Some(api)),
            _ => {}
        }
    }
    for (name, api) in &mut draft.service.apis {
        let api = Arc::make_mut(api);
        api.path = joined(name, api, context.as_deref(), previous);
        let providers = api.providers.get_or_insert_default();
        providers.sort_by(|a, b| a.address.cmp(&b.address));
        providers.shrink_to_fit();
    }
    draft.finish()
}

/// `contextPath` + `path`; while the category can't be read, the path as it was.
fn joined(name: &ApiName, api: &Api, context: Option<&str>, previous: Option<&Service>) -> String {
    let last = || previous.and_then(|service| service.apis.get(name)).map(|api| api.path.clone());
    match context {
        Some("") => api.path.clone(),
        // no path of its own: the context is the path
        Some(context) if api.path == "/" => context.to_owned(),
        Some(context) => format!("{context}{}", api.path),
        None => last().unwrap_or_else(|| api.path.clone()),
    }
}
