//! What may stand in an entry and is still not what somebody wanted.

use serde_json::Value;

use super::Kind;
use super::fields::{self, Fields};
use crate::model::Layout;
use crate::words;

/// Who wrote one of these a little wrong leaves open what was to be closed.
const GRAVE: [&str; 3] = ["access", "state", "apis"];

const SERVICE: [&str; 8] =
    ["name", "state", "owner", "description", "access", "policy", "contextPath", "healthPath"];
const API: [&str; 13] = [
    "name",
    "path",
    "method",
    "encoding",
    "transport",
    "state",
    "params",
    "idempotent",
    "policy",
    "description",
    "schema",
    "healthPath",
    "tls",
];
const PROVIDER: [&str; 7] = ["address", "idc", "weight", "state", "tags", "max_connections", "tls"];
const LIST: [&str; 1] = ["addresses"];
const GRANT: [&str; 4] = ["state", "keys", "apis", "quota"];
const KEY: [&str; 2] = ["sha256", "expires"];

/// Something to say of an entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    /// What, as `keys[0].expire: …`.
    pub text: String,
    /// Whether to write it all the same is likely to open what was to be closed.
    pub grave: bool,
}

impl Layout {
    /// What to say of an entry that [`check`](Layout::check) takes: fields that nobody looks at and
    /// that are one slip away from a known one.
    pub fn notes(self, kind: Kind, name: &str, data: &[u8]) -> Vec<Note> {
        let Ok(fields) = fields::object(data) else { return Vec::new() };
        let mut notes = Vec::new();
        match kind {
            Kind::Service => misspelled(&fields, "", &SERVICE, &mut notes),
            Kind::Api => misspelled(&fields, "", &API, &mut notes),
            Kind::Address if self == Layout::Flat && !name.contains('/') => {
                misspelled(&fields, "", &LIST, &mut notes);
                each(&fields, "addresses", &PROVIDER, &mut notes);
            }
            Kind::Address => misspelled(&fields, "", &PROVIDER, &mut notes),
            Kind::Access => {
                misspelled(&fields, "", &GRANT, &mut notes);
                each(&fields, "keys", &KEY, &mut notes);
            }
        }
        notes
    }
}

fn each(fields: &Fields, list: &str, known: &[&str], notes: &mut Vec<Note>) {
    let items = fields.get(list).and_then(Value::as_array);
    for (index, item) in items.into_iter().flatten().enumerate() {
        if let Value::Object(item) = item {
            misspelled(item, &format!("{list}[{index}]."), known, notes);
        }
    }
}

fn misspelled(fields: &Fields, at: &str, known: &[&str], notes: &mut Vec<Note>) {
    for field in fields.keys().filter(|field| !known.contains(&field.as_str())) {
        if let Some(meant) = words::nearest(field, known) {
            let text = format!("{at}{field}: no field of that name is looked at; did you mean `{meant}`?");
            notes.push(Note { text: words::line(&text), grave: GRAVE.contains(&meant) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(kind: Kind, name: &str, data: &str) -> Vec<String> {
        let notes = Layout::Flat.notes(kind, name, data.as_bytes());
        notes.into_iter().map(|note| note.text).collect()
    }

    #[test]
    fn a_slip_is_told_wherever_fields_stand_and_other_fields_are_not() {
        let meant = |at: &str, word: &str| {
            vec![format!("{at}: no field of that name is looked at; did you mean `{word}`?")]
        };
        assert_eq!(notes(Kind::Service, "user", r#"{"acess":"key"}"#), meant("acess", "access"));
        let list = r#"{"addresses":[{"address":"10.0.0.5:80"},{"wieght":1}]}"#;
        assert_eq!(notes(Kind::Address, "user", list), meant("addresses[1].wieght", "weight"));
        let keys = r#"{"keys":[{"expire":"2030-01-01T00:00:00Z"}]}"#;
        assert_eq!(notes(Kind::Access, "user/web", keys), meant("keys[0].expire", "expires"));
        assert!(notes(Kind::Service, "user", r#"{"team":"us","x":1,"access":"open"}"#).is_empty());
    }
}
