//! A whole registry as one document: what `export` writes and `import` reads.
//!
//! The document has the words of the model, not the paths of a layout; its `layout` says whose
//! rules its fields follow, and [`plan()`] carries it over into the other one.

mod convert;
mod gather;
mod plan;
mod text;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::layout::Kind;
use crate::model::Layout;
use crate::names::{Address, ApiName, CallerName, ServiceName};

pub use gather::{Gathered, gather, scopes};
pub use plan::{Change, Plan, Wish, plan};

/// Deeper data is carried as text: readers of YAML have a limit.
const MAX_DEPTH: usize = 24;
/// What an item of a list of addresses has beside a node of its own, and the name of that list.
const ADDRESS: &str = "address";
const ADDRESSES: &str = "addresses";

/// Every lasting entry of a registry.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with version, layout and services")]
pub struct Document {
    /// Of the form of the document.
    version: u32,
    /// Whose rules the entries follow.
    pub layout: Layout,
    /// By name.
    #[serde(default)]
    pub services: BTreeMap<ServiceName, ServiceEntry>,
}

/// A service, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with data, apis, addresses, providers, access")]
pub struct ServiceEntry {
    data: Option<Data>,
    apis: BTreeMap<ApiName, ApiEntry>,
    /// `flat`: the data of the list of addresses; in the document the list alone, where it holds no more.
    addresses: Option<Listed>,
    /// `flat`: nodes of one provider each.
    providers: BTreeMap<Address, Data>,
    /// `flat`: callers.
    access: BTreeMap<CallerName, Data>,
}

/// An API, in `tree` with its own providers and callers.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with data, providers, access")]
pub struct ApiEntry {
    data: Option<Data>,
    providers: BTreeMap<Address, Data>,
    access: BTreeMap<CallerName, Data>,
}

/// The data of one node.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Data {
    /// A JSON object.
    Fields(Map<String, Value>),
    /// Anything else, as it stands there.
    Text(String),
}

/// The data of a list of addresses.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
struct Listed(Data);

impl Default for Data {
    fn default() -> Self {
        Data::Fields(Map::new())
    }
}

impl Data {
    /// Reads a node's bytes; fails where a text can't hold them.
    fn of(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| format!("{} bytes that are not UTF-8 have no form in YAML", bytes.len()))?;
        Ok(Self::of_text(text.to_owned()))
    }

    fn of_text(text: String) -> Self {
        if text.trim().is_empty() {
            return Data::default();
        }
        match serde_json::from_str(&text) {
            Ok(Value::Object(fields)) if fields.values().all(|value| is_exact(value, &text, 0)) => {
                Data::Fields(fields)
            }
            Ok(_) | Err(_) => Data::Text(text),
        }
    }

    /// What is written to the node.
    pub fn bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    fn is_empty(&self) -> bool {
        matches!(self, Data::Fields(fields) if fields.is_empty())
    }
}

impl std::fmt::Display for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Data::Fields(fields) => f.write_str(&serde_json::to_string(fields).unwrap_or_default()),
            Data::Text(text) => f.write_str(text),
        }
    }
}

/// Whether `value`, read from `text`, is written again as it was: long numbers are not.
fn is_exact(value: &Value, text: &str, depth: usize) -> bool {
    match value {
        Value::Number(number) => {
            let float = || number.as_f64().and_then(serde_json::Number::from_f64);
            // some builds keep a number's digits, and YAML would not
            let fits = number.is_i64()
                || number.is_u64()
                || float().is_some_and(|float| float.to_string() == number.to_string());
            fits && text.contains(&number.to_string())
        }
        Value::Array(items) => depth < MAX_DEPTH && items.iter().all(|item| is_exact(item, text, depth + 1)),
        Value::Object(fields) => {
            depth < MAX_DEPTH && fields.values().all(|field| is_exact(field, text, depth + 1))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

impl TryFrom<Value> for Data {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Data::default()),
            Value::Object(fields) => Ok(Data::Fields(fields)),
            Value::String(text) => Ok(Data::of_text(text)),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => Err(format!(
                "{value} is neither an object such as {{ state: on }} nor a text to write as it is"
            )),
        }
    }
}

impl TryFrom<Value> for Listed {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        if !value.is_array() {
            return Data::try_from(value).map(Listed);
        }
        let fields: Map<_, _> = [(ADDRESSES.to_owned(), value)].into_iter().collect();
        Ok(Listed(Data::Fields(fields)).settled())
    }
}

impl Listed {
    /// An empty list says no more than no data.
    fn settled(self) -> Self {
        let none = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        match &self.0 {
            Data::Fields(fields) if fields.len() == 1 && fields.get(ADDRESSES).is_some_and(none) => {
                Listed(Data::default())
            }
            Data::Fields(_) | Data::Text(_) => self,
        }
    }
}

/// One entry of a document, named as `remora registry get` names it.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    kind: Kind,
    name: String,
    data: Data,
}

impl Document {
    fn new(layout: Layout) -> Self {
        Self { version: text::VERSION, layout, services: BTreeMap::new() }
    }

    /// Every entry; in `tree` a service and an API have nodes of their own, also without data.
    fn entries(&self) -> Vec<Entry> {
        let mut all = Vec::new();
        let mut add = |kind, name: String, data: Option<&Data>| {
            all.extend(data.cloned().map(|data| Entry { kind, name, data }));
        };
        let nothing = Data::default();
        let implied = (self.layout == Layout::Tree).then_some(&nothing);
        for (service, entry) in &self.services {
            add(Kind::Service, service.to_string(), entry.data.as_ref().or(implied));
            add(Kind::Address, service.to_string(), entry.addresses.as_ref().map(|listed| &listed.0));
            for (address, data) in &entry.providers {
                add(Kind::Address, format!("{service}/{address}"), Some(data));
            }
            for (caller, data) in &entry.access {
                add(Kind::Access, format!("{service}/{caller}"), Some(data));
            }
            for (api, entry) in &entry.apis {
                let name = format!("{service}/{api}");
                add(Kind::Api, name.clone(), entry.data.as_ref().or(Some(&nothing)));
                for (address, data) in &entry.providers {
                    add(Kind::Address, format!("{name}/{address}"), Some(data));
                }
                for (caller, data) in &entry.access {
                    add(Kind::Access, format!("{name}/{caller}"), Some(data));
                }
            }
        }
        all
    }
}

/// The word for an entry in commands and messages.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "service",
        Kind::Api => "api",
        Kind::Address => "address",
        Kind::Access => "access",
    }
}

#[cfg(test)]
mod tests;
