//! From one layout's rules to the other's: the same services, or the reason why not.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ADDRESS, ADDRESSES, ApiEntry, Data, Document, Listed, ServiceEntry};
use crate::model::Layout;
use crate::names::{Address, ApiName, CallerName};
use crate::words;

/// The field of a category that stands before the paths of its APIs.
const CONTEXT: &str = "contextPath";

/// What was found on the way.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What can't be carried over.
    pub(super) refused: Vec<String>,
    /// What is carried over in another form.
    pub(super) notes: Vec<String>,
}

impl Findings {
    fn refuse(&mut self, at: &str, reason: impl std::fmt::Display) {
        self.refused.push(words::line(&format!("{at}: {reason}")));
    }

    /// Refuses what would have been a value.
    fn without<T>(&mut self, at: &str, reason: impl std::fmt::Display) -> Option<T> {
        self.refuse(at, reason);
        None
    }
}

/// The same document by the rules of `layout`.
pub(super) fn into(layout: Layout, mut document: Document) -> (Document, Findings) {
    let mut findings = Findings::default();
    if document.layout == layout {
        return (document, findings);
    }
    for (name, service) in &mut document.services {
        let at = format!("service {name}");
        match layout {
            Layout::Tree => into_tree(&at, service, &mut findings),
            Layout::Flat => into_flat(&at, service, &mut findings),
        }
    }
    document.layout = layout;
    (document, findings)
}

/// Providers and callers of the service become those of each of its APIs.
fn into_tree(at: &str, service: &mut ServiceEntry, findings: &mut Findings) {
    let context = match &service.data {
        Some(Data::Fields(fields)) => fields.get(CONTEXT),
        Some(Data::Text(_)) | None => None,
    };
    if context.is_some_and(|context| !context.is_null() && context != "") {
        findings.refuse(
            at,
            "contextPath: it means nothing in `flat` and stands before each path in `tree`; remove it",
        );
    }
    let providers = all_providers(at, service, findings).unwrap_or_default();
    if service.apis.is_empty() && !providers.is_empty() {
        findings.refuse(
            at,
            "it has providers and no api, and in `tree` providers belong to an api; give it one, such as `*`",
        );
    }
    for api in service.apis.values_mut() {
        api.providers.clone_from(&providers);
    }
    for (caller, data) in std::mem::take(&mut service.access) {
        below_apis(&format!("{at}: access {caller}"), &caller, &data, &mut service.apis, findings);
    }
}

/// The list and the single nodes as one: what a person wrote in the list holds.
fn all_providers(
    at: &str,
    service: &mut ServiceEntry,
    findings: &mut Findings,
) -> Option<BTreeMap<Address, Data>> {
    let mut providers = std::mem::take(&mut service.providers);
    let mut fields = match service.addresses.take() {
        None => return Some(providers),
        Some(Listed(Data::Fields(fields))) => fields,
        Some(Listed(Data::Text(_))) => return findings.without(at, "addresses: the list can't be read"),
    };
    let items = match fields.remove(ADDRESSES) {
        None => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => return findings.without(at, "addresses: the list can't be read"),
    };
    for name in fields.keys() {
        findings.refuse(
            at,
            format!("addresses: the field {name} beside the list has no place in `tree`; remove it"),
        );
    }
    let mut seen = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let at = format!("{at}: addresses[{index}]");
        let Some((address, listed)) = listed(&at, item, findings) else { continue };
        if seen.contains(&address) {
            findings.refuse(&at, format!("{address} stands in the list twice; remove one"));
            continue;
        }
        match providers.entry(address.clone()).or_default() {
            Data::Fields(own) => own.extend(listed.into_iter().filter(|(_, value)| !value.is_null())),
            Data::Text(_) => {
                findings.refuse(
                    &at,
                    format!("the own node of {address} can't be read, so the two can't become one"),
                );
            }
        }
        seen.push(address);
    }
    Some(providers)
}

fn listed(at: &str, item: Value, findings: &mut Findings) -> Option<(Address, Map<String, Value>)> {
    let Value::Object(mut fields) = item else {
        return findings
            .without(at, format!("{item} is not an object such as {{ address: \"10.0.0.5:8080\" }}"));
    };
    let Some(Value::String(text)) = fields.remove(ADDRESS) else {
        return findings.without(at, "address: it is missing; write host:port");
    };
    match Address::new(&text) {
        Ok(address) => Some((address, fields)),
        Err(bad) => findings.without(at, format!("address: {bad}")),
    }
}

/// A caller of the service becomes one of every API its patterns cover.
fn below_apis(
    at: &str,
    caller: &CallerName,
    data: &Data,
    apis: &mut BTreeMap<ApiName, ApiEntry>,
    findings: &mut Findings,
) {
    let Data::Fields(fields) = data else {
        findings.refuse(at, "it can't be read, so nobody knows for which apis it is");
        return;
    };
    let mut fields = fields.clone();
    let patterns = match fields.remove("apis") {
        None | Some(Value::Null) => vec![Value::from("*")],
        Some(Value::Array(patterns)) => patterns,
        Some(other) => {
            findings.refuse(at, format!("apis: {other} is not a list"));
            return;
        }
    };
    let covers = |pattern: &Value, api: &str| match pattern.as_str().map(|text| text.strip_suffix('*')) {
        Some(Some(start)) => api.starts_with(start),
        Some(None) => pattern == api,
        None => false,
    };
    let mut covered = Vec::new();
    for (name, api) in apis.iter_mut() {
        if patterns.iter().any(|pattern| covers(pattern, name.as_str())) {
            api.access.insert(caller.clone(), Data::Fields(fields.clone()));
            covered.push(name.as_str().to_owned());
        }
    }
    if covered.is_empty() {
        findings.refuse(at, "apis: the service has none of them, and in `tree` callers belong to an api");
        return;
    }
    let is_narrower = |pattern: &Value| {
        let text = pattern.as_str().unwrap_or_default();
        !covered.iter().any(|name| name == text)
    };
    if patterns.iter().any(is_narrower) {
        let was = Value::Array(patterns.clone());
        findings.notes.push(format!("{at}: apis {was} become those there are now: {}", covered.join(", ")));
    }
}

/// Providers and callers of the APIs become those of the service.
fn into_flat(at: &str, service: &mut ServiceEntry, findings: &mut Findings) {
    put_context_before_paths(at, service, findings);
    let mut apis = service.apis.iter_mut();
    let Some((first, api)) = apis.next() else { return };
    let shared = std::mem::take(&mut api.providers);
    for (name, api) in apis {
        if std::mem::take(&mut api.providers) != shared {
            findings.refuse(
                at,
                format!(
                    "its apis {first} and {name} have different providers, and in `flat` they share them"
                ),
            );
            break;
        }
    }
    let items: Vec<_> =
        shared.into_iter().filter_map(|(address, data)| item(at, &address, data, findings)).collect();
    if !items.is_empty() {
        let fields: Map<_, _> = [(ADDRESSES.to_owned(), Value::Array(items))].into_iter().collect();
        service.addresses = Some(Listed(Data::Fields(fields)));
    }
    callers_of_apis(at, service, findings);
}

fn item(at: &str, address: &Address, data: Data, findings: &mut Findings) -> Option<Value> {
    let Data::Fields(fields) = data else {
        return findings
            .without(at, format!("provider {address}: it can't be read, so it has no place in a list"));
    };
    let mut item: Map<_, _> = [(ADDRESS.to_owned(), Value::from(address.as_str()))].into_iter().collect();
    item.extend(fields.into_iter().filter(|(name, _)| name != ADDRESS));
    Some(Value::Object(item))
}

fn put_context_before_paths(at: &str, service: &mut ServiceEntry, findings: &mut Findings) {
    let Some(Data::Fields(fields)) = &mut service.data else { return };
    let context = match fields.remove(CONTEXT) {
        None | Some(Value::Null) => return,
        Some(Value::String(context)) => context.trim_end_matches('/').to_owned(),
        Some(other) => {
            findings.refuse(at, format!("contextPath: {other} is not a text"));
            return;
        }
    };
    for (name, api) in service.apis.iter_mut().filter(|_| !context.is_empty()) {
        let fields = match api.data.get_or_insert_default() {
            Data::Fields(fields) => fields,
            Data::Text(_) => {
                findings.refuse(
                    at,
                    format!("api {name}: it can't be read, so contextPath can't stand before its path"),
                );
                continue;
            }
        };
        let path = match fields.get("path") {
            None | Some(Value::Null) => context.clone(),
            Some(Value::String(path)) if path == "/" => context.clone(),
            Some(Value::String(path)) => format!("{context}{path}"),
            Some(other) => {
                findings.refuse(at, format!("api {name}: path: {other} is not a text"));
                continue;
            }
        };
        fields.insert("path".into(), path.into());
    }
}

/// One caller's entries below several APIs become one that lists them.
fn callers_of_apis(at: &str, service: &mut ServiceEntry, findings: &mut Findings) {
    let mut callers: BTreeMap<CallerName, (Map<String, Value>, Vec<Value>)> = BTreeMap::new();
    for (api, entry) in &mut service.apis {
        for (caller, data) in std::mem::take(&mut entry.access) {
            let at = format!("{at}: api {api}: access {caller}");
            let Data::Fields(mut fields) = data else {
                findings.refuse(&at, "it can't be read, so it can't become one with those of other apis");
                continue;
            };
            // below an API a grant is for that API, whatever it says
            fields.remove("apis");
            let (known, apis) = callers.entry(caller).or_insert_with(|| (fields.clone(), Vec::new()));
            if *known != fields {
                findings.refuse(
                    &at,
                    "it is not as below the other apis, and `flat` has one for all; make them equal",
                );
            }
            apis.push(Value::from(api.as_str()));
        }
    }
    for (caller, (mut fields, apis)) in callers {
        fields.insert("apis".into(), Value::Array(apis));
        service.access.insert(caller, Data::Fields(fields));
    }
}
