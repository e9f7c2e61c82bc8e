//! Layout `flat`: services, addresses, APIs and callers side by side.

use std::collections::BTreeMap;

use serde_json::Value;

use super::draft::{self, Draft};
use super::fields::{self, Fields, ProviderFields};
use crate::model::{Provider, Service};
use crate::names::{Address, ServiceName};
use crate::registry::Node;

/// What is known of one address while the list and its own node are merged.
#[derive(Default)]
struct Known {
    listed: Option<ProviderFields>,
    own: Option<ProviderFields>,
    ephemeral: bool,
}

pub(super) fn parse(service: &ServiceName, nodes: &[&Node], previous: Option<&Service>) -> Service {
    let mut draft = Draft::new(previous);
    let mut known = BTreeMap::new();
    for node in nodes {
        let segments: Vec<_> = node.path.split('/').skip(1).collect();
        match segments.as_slice() {
            [_, name, ..] if *name != service.as_str() => {}
            ["service", _] => {
                draft.head(node);
            }
            ["address", _] => list(&mut draft, &mut known, node),
            ["address", _, name] => {
                if let Some((address, fields)) = draft.provider(node, name) {
                    let entry = known.entry(address).or_default();
                    entry.ephemeral = node.ephemeral;
                    entry.own = Some(fields);
                }
            }
            ["api", _, name] => {
                if let Some((name, api)) = draft.api(node, name) {
                    draft.service.apis.insert(name, api.into());
                }
            }
            ["access", _, name] => draft.grant(node, name, None),
            _ => {}
        }
    }
    draft.service.providers = known.into_iter().map(merged).collect();
    draft.finish()
}

fn list(draft: &mut Draft<'_>, known: &mut BTreeMap<Address, Known>, node: &Node) {
    let Some(items) = draft.fields(node).and_then(|f| draft.keep(&node.path, addresses(&f))) else {
        return keep_list(draft, known, node.data.is_err());
    };
    for (index, item) in items.iter().enumerate() {
        let at = format!("{}#addresses[{index}]", node.path);
        let Some((address, fields)) = draft.keep(&at, draft::listed(item)) else { continue };
        let entry = known.entry(address).or_default();
        if entry.listed.is_some() {
            draft.skip(&at, "the address stands in the list twice; the first one holds");
        } else {
            entry.listed = Some(fields);
        }
    }
}

fn addresses(fields: &Fields) -> Result<Vec<Value>, String> {
    fields::array(fields, "addresses").map(<[Value]>::to_vec)
}

/// One slip in a list must not take all its providers: those of the last good one stay.
/// `hidden`: the registry shows neither the list nor the nodes below it, so all stay.
fn keep_list(draft: &Draft<'_>, known: &mut BTreeMap<Address, Known>, hidden: bool) {
    let last = draft.previous.iter().flat_map(|previous| &previous.providers);
    for provider in last.filter(|provider| provider.listed || hidden) {
        let entry = known.entry(provider.address.clone()).or_default();
        entry.ephemeral |= hidden && provider.ephemeral;
        entry.listed = Some(ProviderFields {
            weight: Some(provider.weight),
            idc: provider.idc.clone(),
            state: Some(provider.state),
            tags: provider.tags.clone(),
            max_connections: provider.max_connections,
        });
    }
}

/// What a person wrote in the list holds; the provider's own node fills the rest.
fn merged((address, known): (Address, Known)) -> Provider {
    let is_listed = known.listed.is_some();
    let (listed, own) = (known.listed.unwrap_or_default(), known.own.unwrap_or_default());
    let fields = ProviderFields {
        weight: listed.weight.or(own.weight),
        idc: listed.idc.or(own.idc),
        state: listed.state.or(own.state),
        tags: listed.tags.or(own.tags),
        max_connections: listed.max_connections.or(own.max_connections),
    };
    Provider { listed: is_listed, ..draft::provider(address, fields, known.ephemeral) }
}

/// Checks a list that is to be written: every item of it.
pub(super) fn check_list(fields: &Fields) -> Result<(), String> {
    for (index, item) in fields::array(fields, "addresses")?.iter().enumerate() {
        draft::listed(item).map_err(|reason| format!("addresses[{index}]: {reason}"))?;
    }
    Ok(())
}
