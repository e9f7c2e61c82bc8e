//! The text of the embedded registry's file.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_saphyr::NonFiniteFloatPolicy;

use crate::words;

/// What a new file begins with.
pub(super) const HEADER: &str = "\
# Services known to remora: one path per entry, its data beside it. Edits take effect at once.
# Comments above the first entry stay when `remora registry put` writes this file.
#
# /service/user: { access: open }
# /api/user/get: { path: /user/get, method: POST }
# /address/user: { addresses: [ { address: \"127.0.0.1:8080\" } ] }
";

/// The entries of the file, by path; fails with the line and what is wrong there.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    // JSON has no such numbers; as text they are wrong for the rule that reads them, and for no other
    let strict = serde_saphyr::options! {
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    let entries: Option<BTreeMap<String, Value>> = serde_saphyr::from_str_with_options(text, strict)
        .map_err(|error| no_map(text).unwrap_or_else(|| words::line(words::of_yaml(&error.to_string()))))?;
    let mut nodes = BTreeMap::new();
    for (path, value) in entries.unwrap_or_default() {
        if !is_path(&path) {
            let path = words::quoted(&path, 128);
            return Err(format!("\"{path}\" is not a path such as /service/user"));
        }
        let data = if value.is_null() { Vec::new() } else { value.to_string().into_bytes() };
        nodes.insert(path, data);
    }
    Ok(nodes)
}

/// What a text of YAML is that is no map: the reader would tell what it expects in terms of its own.
fn no_map(text: &str) -> Option<String> {
    let found = match serde_saphyr::from_str::<Value>(text).ok()? {
        Value::Array(_) => "a list",
        Value::Object(_) | Value::Null => return None,
        Value::String(_) | Value::Number(_) | Value::Bool(_) => "a single value",
    };
    Some(format!("it is {found}, not a map from paths such as /service/user to their data"))
}

fn is_path(path: &str) -> bool {
    let names = path.strip_prefix('/').unwrap_or_default();
    names.split('/').all(|name| !name.is_empty() && name != "." && name != "..")
}

/// The file's text: comments above the first entry as they were, then one path per line.
pub(super) fn render(before: &str, entries: &BTreeMap<String, Vec<u8>>) -> String {
    let is_comment = |line: &&str| line.trim_start().starts_with('#') || line.trim().is_empty();
    let mut text: String = before.lines().take_while(is_comment).map(|line| format!("{line}\n")).collect();
    if entries.is_empty() {
        text.push_str("{}\n");
    }
    for (path, data) in entries {
        let path = Value::from(path.as_str());
        let data = String::from_utf8_lossy(data);
        let data = if data.trim().is_empty() { "{}" } else { data.trim() };
        text.push_str(&format!("{path}: {data}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_json_has_not_becomes_text_for_the_rule_that_reads_it() {
        let data = |value: &str| {
            parse(&format!("/a: {{ x: {value} }}\n/b: {{}}\n")).map(|nodes| nodes["/a"].clone())
        };
        for (value, json) in [(".nan", "\".nan\""), ("-.inf", "\"-.inf\""), ("1e999", "\".inf\""), ("7", "7")]
        {
            assert_eq!(data(value).unwrap(), format!("{{\"x\":{json}}}").into_bytes(), "{value}");
        }
    }
}
