//! The document as YAML: one line per entry, its data in JSON, so that any two can be compared.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use serde_json::Value;

use super::{ADDRESSES, Data, Document, ServiceEntry};
use crate::model::Layout;
use crate::words;

/// The form of document this version writes and reads.
pub(super) const VERSION: u32 = 1;
/// Entries of one document; the rest of the limits follow from it.
const MAX_NODES: usize = 50_000_000;
const MAX_TEXT: usize = 1 << 30;

/// Words that YAML readers take for something else than a text.
const NO_TEXT: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan"];

impl Document {
    /// Reads a document; fails with the place and what is wrong there.
    pub fn read(text: &str) -> Result<Self, String> {
        // a reason quotes what stands there
        Self::understand(text).map_err(|reason| words::line(&reason))
    }

    fn understand(text: &str) -> Result<Self, String> {
        let budget = serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_total_scalar_bytes: MAX_TEXT,
        };
        let options = serde_saphyr::options! { budget: budget, strict_booleans: true, with_snippet: false };
        let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
            let message = e.without_snippet().to_string();
            let message = words::of_yaml(&message);
            match e.location() {
                Some(at) if !message.contains("line ") => {
                    format!("line {}, column {}: {message}", at.line(), at.column())
                }
                _ => message.to_owned(),
            }
        })?;
        match value.get("version") {
            Some(version) if version.as_u64() == Some(VERSION.into()) => {}
            Some(other) => {
                return Err(format!("version: {other} is not {VERSION}, the one that this remora reads"));
            }
            None => {
                return Err(format!(
                    "version: it is missing; `version: {VERSION}` begins an exported registry"
                ));
            }
        }
        let document: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            if path == "." { error.inner().to_string() } else { format!("{path}: {}", error.inner()) }
        })?;
        document.fits_its_layout()?;
        Ok(document)
    }

    /// Refuses what the document's own layout has no place for.
    fn fits_its_layout(&self) -> Result<(), String> {
        for (name, service) in &self.services {
            let at = |place: &str| format!("services.{name}.{place}");
            let shared =
                !service.providers.is_empty() || !service.access.is_empty() || service.addresses.is_some();
            if self.layout == Layout::Tree && shared {
                let place = if service.addresses.is_some() {
                    ADDRESSES
                } else if service.access.is_empty() {
                    "providers"
                } else {
                    "access"
                };
                return Err(format!("{}: in layout tree it belongs to an api of the service", at(place)));
            }
            for (api, entry) in &service.apis {
                let place = if !entry.providers.is_empty() {
                    "providers"
                } else if !entry.access.is_empty() {
                    "access"
                } else {
                    continue;
                };
                if self.layout == Layout::Flat {
                    let at = at(&format!("apis.{api}.{place}"));
                    return Err(format!("{at}: in layout flat it belongs to the service"));
                }
            }
        }
        Ok(())
    }

    /// The document as YAML; equal documents are equal texts.
    pub fn to_yaml(&self) -> String {
        let layout = match self.layout {
            Layout::Flat => "flat",
            Layout::Tree => "tree",
        };
        let mut text = format!("version: {VERSION}\nlayout: {layout}\n");
        if self.services.is_empty() {
            text.push_str("services: {}\n");
            return text;
        }
        text.push_str("services:\n");
        for (name, service) in &self.services {
            let (name, begun) = (key(name.as_str()), text.len());
            line(&mut text, 1, &name, "");
            let above = text.len();
            show(service, &mut text);
            if text.len() == above {
                // nothing at all is no entry to who reads it
                text.truncate(begun);
                line(&mut text, 1, &name, "{}");
            }
        }
        text
    }
}

fn show(service: &ServiceEntry, text: &mut String) {
    if let Some(data) = &service.data {
        line(text, 2, "data", &json(data));
    }
    if !service.apis.is_empty() {
        line(text, 2, "apis", "");
    }
    for (name, api) in &service.apis {
        line(text, 3, &key(name.as_str()), "");
        line(text, 4, "data", &json(api.data.as_ref().unwrap_or(&Data::default())));
        entries(text, 4, "providers", &api.providers);
        entries(text, 4, "access", &api.access);
    }
    match service.addresses.as_ref().map(|listed| &listed.0) {
        Some(Data::Fields(fields)) if fields.len() == 1 => match fields.get(ADDRESSES) {
            Some(Value::Array(items)) => {
                line(text, 2, ADDRESSES, "");
                items.iter().for_each(|item| line(text, 3, "-", &escaped(&item.to_string())));
            }
            _ => line(text, 2, ADDRESSES, &json(&Data::Fields(fields.clone()))),
        },
        Some(data) if !data.is_empty() => line(text, 2, ADDRESSES, &json(data)),
        Some(_) | None => {}
    }
    entries(text, 2, "providers", &service.providers);
    entries(text, 2, "access", &service.access);
}

fn entries<K: Display>(text: &mut String, depth: usize, what: &str, all: &BTreeMap<K, Data>) {
    if !all.is_empty() {
        line(text, depth, what, "");
    }
    for (name, data) in all {
        line(text, depth + 1, &key(&name.to_string()), &json(data));
    }
}

fn line(text: &mut String, depth: usize, key: &str, value: &str) {
    let colon = if key == "-" { "" } else { ":" };
    let space = if value.is_empty() { "" } else { " " };
    // writing to a string can't fail
    let _ = writeln!(text, "{}{key}{colon}{space}{value}", "  ".repeat(depth));
}

fn key(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && !NO_TEXT.contains(&name.to_ascii_lowercase().as_str());
    if plain { name.to_owned() } else { Value::from(name).to_string() }
}

fn json(data: &Data) -> String {
    match data {
        Data::Fields(_) => escaped(&data.to_string()),
        Data::Text(text) => escaped(&Value::from(text.as_str()).to_string()),
    }
}

/// JSON that is YAML too: some characters that JSON leaves as they are, YAML wants escaped.
fn escaped(json: &str) -> String {
    let special = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if special(c) {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}
