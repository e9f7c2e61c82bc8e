//! `/cache/diff`: what the view holds beside what the registry holds now.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::directory::{Directory, Entry};
use crate::model::{Api, Provider, Service, Skipped};
use crate::names::ServiceName;
use crate::registry::Source;

/// Services read with one request; one request at a time.
const SERVICES_PER_READ: usize = 20;
/// What was not read by then is shown as unreadable.
const PATIENCE: Duration = Duration::from_secs(10);
/// A change may still be on its way into the view: what differs is compared again after this time,
const SETTLED: Duration = Duration::from_millis(500);
/// and so often, since a host may be busy.
const LOOKS: usize = 6;

type Entries = BTreeMap<ServiceName, Arc<Entry>>;

/// What was found for one service.
#[derive(Debug)]
enum Outcome {
    Equal,
    Differing(Value),
    Unreadable(String),
}

/// Compares the whole view; `Err` holds the same page where the registry can't be asked at all.
pub(super) async fn page(directory: &Directory, source: &Source) -> Result<Value, Value> {
    let deadline = Instant::now() + PATIENCE;
    // the server that feeds the view would confirm it also where both lag behind
    let lags = source.catch_up().await.err().map(|trouble| trouble.to_string());
    let mut found = compare(source, &directory.list(), deadline, lags).await;
    for _ in 0..LOOKS {
        let mut doubtful = directory.list();
        doubtful.retain(|name, _| matches!(found.get(name), Some(Outcome::Differing(_))));
        if doubtful.is_empty() {
            break;
        }
        tokio::time::sleep(SETTLED).await;
        let mut again = directory.list();
        again.retain(|name, _| doubtful.contains_key(name));
        found.retain(|name, _| !doubtful.contains_key(name));
        found.extend(compare(source, &again, deadline, None).await);
    }
    let unread = |outcome: &Outcome| matches!(outcome, Outcome::Unreadable(_));
    let silent = !found.is_empty() && found.values().all(unread);
    let problem = (silent || !source.status().connected).then(|| unreachable(source));
    let page = shown(found, problem.as_deref());
    if problem.is_some() { Err(page) } else { Ok(page) }
}

fn unreachable(source: &Source) -> String {
    let known = source.status().problems.into_iter().next();
    let reason = known.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("the registry can't be asked now{reason}; calls go on with the view as it is")
}

/// Reads services afresh, a few at a time; after a failure nothing more is asked.
async fn compare(
    source: &Source,
    view: &Entries,
    deadline: Instant,
    mut failed: Option<String>,
) -> BTreeMap<ServiceName, Outcome> {
    let layout = source.layout();
    let all: Vec<_> = view.iter().collect();
    let mut found = BTreeMap::new();
    for some in all.chunks(SERVICES_PER_READ) {
        let scopes: Vec<_> = some.iter().flat_map(|(name, _)| layout.scopes(name)).collect();
        let mut by_service: BTreeMap<_, Vec<_>> = BTreeMap::new();
        if failed.is_none() {
            match tokio::time::timeout_at(deadline, source.read(&scopes)).await {
                Ok(Ok(nodes)) => {
                    for node in nodes {
                        by_service.entry(layout.service_of(&node.path)).or_default().push(node);
                    }
                }
                Ok(Err(trouble)) => failed = Some(trouble.to_string()),
                Err(_) => failed = Some(format!("not read within {}s", PATIENCE.as_secs())),
            }
        }
        for (name, entry) in some {
            let outcome = match &failed {
                Some(reason) => Outcome::Unreadable(reason.clone()),
                None => {
                    let nodes = by_service.remove(&Some((*name).clone())).unwrap_or_default();
                    outcome(&entry.service, layout.parse(name, &nodes, Some(&entry.service)), source.root())
                }
            };
            found.insert((*name).clone(), outcome);
        }
    }
    found
}

fn outcome(view: &Service, registry: Option<Service>, root: &str) -> Outcome {
    let view = unheld(view);
    match registry {
        None => Outcome::Differing(json!({ "gone": "it is in the view, and no longer in the registry" })),
        Some(registry) if registry == view => Outcome::Equal,
        Some(registry) => Outcome::Differing(differences(&view, &registry, root)),
    }
}

/// The view without what is served although the registry lost it.
fn unheld(view: &Service) -> Service {
    let mut view = view.clone();
    let of_apis = view.apis.values_mut().filter_map(|api| Arc::make_mut(api).providers.as_mut());
    of_apis.chain([&mut view.providers]).for_each(|list| list.retain(|provider| !provider.held));
    view
}

fn shown(found: BTreeMap<ServiceName, Outcome>, problem: Option<&str>) -> Value {
    let (services, mut equal) = (found.len(), 0);
    let (mut differing, mut unreadable) = (Vec::new(), Vec::new());
    for (name, outcome) in found {
        match outcome {
            Outcome::Equal => equal += 1,
            Outcome::Differing(differences) => {
                differing.push(json!({ "service": name, "differences": differences }));
            }
            Outcome::Unreadable(reason) => unreadable.push(json!({ "service": name, "reason": reason })),
        }
    }
    let mut page = json!({
        "services": services,
        "equal": equal,
        "differing": differing,
        "unreadable": unreadable,
    });
    if let (Some(problem), Value::Object(fields)) = (problem, &mut page) {
        fields.insert("problem".into(), problem.into());
    }
    page
}

/// The parts that differ, each as the view has it and as the registry has it.
fn differences(view: &Service, registry: &Service, root: &str) -> Value {
    let mut found = Map::new();
    let mut add = |part: &str, difference: Option<Value>| {
        found.extend(difference.map(|difference| (part.to_owned(), difference)));
    };
    add("state", both(&view.state, &registry.state));
    add("access", both(&view.access, &registry.access));
    add("owner", both(&view.owner, &registry.owner));
    add("description", both(&view.description, &registry.description));
    add("policy", both(&view.policy, &registry.policy));
    add("apis", each(&apis(view), &apis(registry)));
    add("providers", each(&providers(view), &providers(registry)));
    add("callers", each(&view.callers, &registry.callers));
    add("skipped", each(&skipped(view, root), &skipped(registry, root)));
    Value::Object(found)
}

fn both<T: PartialEq + Serialize>(view: &T, registry: &T) -> Option<Value> {
    (view != registry).then(|| json!({ "view": view, "registry": registry }))
}

/// What was added, removed or changed, by name.
fn each<K: Ord + Display, V: PartialEq + Serialize>(
    view: &BTreeMap<K, V>,
    registry: &BTreeMap<K, V>,
) -> Option<Value> {
    let mut found = Map::new();
    for (name, view) in view {
        match registry.get(name) {
            Some(registry) if view == registry => {}
            Some(registry) => {
                let changed = json!({ "change": "changed", "view": view, "registry": registry });
                found.insert(name.to_string(), changed);
            }
            None => {
                found.insert(name.to_string(), json!({ "change": "removed", "view": view }));
            }
        }
    }
    for (name, registry) in registry.iter().filter(|(name, _)| !view.contains_key(*name)) {
        found.insert(name.to_string(), json!({ "change": "added", "registry": registry }));
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

/// APIs without their providers, which are compared by themselves.
fn apis(service: &Service) -> BTreeMap<String, Api> {
    let bare = |api: &Api| Api { providers: None, ..api.clone() };
    service.apis.iter().map(|(name, api)| (name.to_string(), bare(api))).collect()
}

/// Providers of the service by address, those of an API by `api/address`.
fn providers(service: &Service) -> BTreeMap<String, &Provider> {
    let shared = service.providers.iter().map(|provider| (provider.address.to_string(), provider));
    let own = service.apis.iter().flat_map(|(name, api)| {
        let own = api.providers.iter().flatten();
        own.map(move |provider| (format!("{name}/{}", provider.address), provider))
    });
    shared.chain(own).collect()
}

fn skipped<'a>(service: &'a Service, root: &str) -> BTreeMap<String, &'a str> {
    let path = |node: &Skipped| format!("{root}{}", node.path);
    service.skipped.iter().map(|node| (path(node), node.reason.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Layout;
    use crate::registry::Node;

    fn service(layout: Layout, nodes: &[(&str, &str)]) -> Option<Service> {
        let node = |(path, data): &(&str, &str)| Node {
            path: (*path).to_owned(),
            data: Ok(data.as_bytes().to_vec()),
            ephemeral: false,
        };
        let nodes: Vec<_> = nodes.iter().map(node).collect();
        layout.parse(&ServiceName::new("user").unwrap(), &nodes, None)
    }

    fn found(layout: Layout, view: &[(&str, &str)], registry: &[(&str, &str)]) -> Value {
        match outcome(&service(layout, view).unwrap(), service(layout, registry), "/prod") {
            Outcome::Differing(found) => found,
            other @ (Outcome::Equal | Outcome::Unreadable(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_part_that_differs_is_shown_as_both_have_it() {
        let key = |digit: &str| format!("{{\"keys\":[{{\"sha256\":\"{}\"}}]}}", digit.repeat(64));
        let (old, new) = (key("0"), key("1"));
        let view = [
            ("/service/user", r#"{"state":"on","policy":{"timeout":"1s"}}"#),
            ("/api/user/get", "{}"),
            ("/api/user/old", "{}"),
            ("/address/user/10.0.0.5:80", r#"{"weight":1}"#),
            ("/access/user/web", old.as_str()),
        ];
        let registry = [
            ("/service/user", r#"{"state":"off","policy":{"timeout":"2s"}}"#),
            ("/api/user/get", r#"{"path":"/x"}"#),
            ("/api/user/new", "{"),
            ("/address/user/10.0.0.5:80", r#"{"weight":2}"#),
            ("/address/user/10.0.0.6:80", "{}"),
            ("/access/user/web", new.as_str()),
        ];
        let found = found(Layout::Flat, &view, &registry);
        assert_eq!(found["state"], json!({ "view": "on", "registry": "off" }));
        assert_eq!(found["policy"]["registry"], json!({ "timeout": "2s" }));
        assert_eq!(found["apis"]["get"]["change"], "changed");
        assert_eq!(found["apis"]["old"]["change"], "removed");
        assert_eq!(found["providers"]["10.0.0.5:80"]["view"]["weight"], 1);
        assert_eq!(found["providers"]["10.0.0.6:80"]["change"], "added");
        assert_eq!(found["callers"]["web"]["change"], "changed");
        assert_eq!(found["skipped"]["/prod/api/user/new"]["change"], "added");
        assert!(!found.to_string().contains("000000"), "no hash: {found}");
        assert!(found.get("access").is_none() && found.get("owner").is_none(), "{found}");
    }

    #[test]
    fn providers_of_one_api_are_named_by_it_and_a_service_may_be_gone() {
        let view = [("/services/user/get", "{}"), ("/services/user/get/providers/10.0.0.5:80", "{}")];
        let gone = found(Layout::Tree, &view, &[]);
        assert!(gone["gone"].is_string(), "{gone}");
        let found = found(Layout::Tree, &view, &view[..1]);
        assert_eq!(found["providers"]["get/10.0.0.5:80"]["change"], "removed");
        assert!(found.get("apis").is_none(), "{found}");
    }
}
