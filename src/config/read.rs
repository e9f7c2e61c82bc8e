//! From a file and the environment to the configuration as written.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::file::File;
use super::problem::{Problems, unknown_key};
use crate::words;

/// Largest configuration file.
const MAX_FILE: u64 = 1 << 20;
/// A file with more problems than this gets the first ones told.
const MAX_PROBLEMS: usize = 100;
/// Variables that start so override the file.
const PREFIX: &str = "REMORA_";

/// Reads the file, lays overrides over it, fills in variables; notes all that is wrong on the way.
///
/// With the file come the paths that variables set, and their names.
pub(super) fn read(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> (File, Vec<(String, String)>) {
    let written = path.and_then(|path| problems.keep("", yaml_file(path)));
    let mut tree = match written {
        Some(Value::Object(tree)) => tree,
        None | Some(Value::Null) => Map::new(),
        Some(other) => {
            let found: String = other.to_string().chars().take(60).collect();
            let shown = path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
            problems.add("", format!("{shown}{found} is not an object of keys such as `registry:`"));
            Map::new()
        }
    };
    let origins = lay_over(&mut tree, env, notes, problems);
    let mut tree = Value::Object(tree);
    fill_in(&mut tree, env, &mut String::new(), problems);
    leave_out(&mut tree);
    (typed(tree, problems), origins)
}

/// What is off unless it is written may be written as `off`; some writers of YAML make a truth value of that.
fn leave_out(tree: &mut Value) {
    let Value::Object(keys) = tree else { return };
    for key in ["telemetry", "otlp"] {
        if keys.get(key).is_some_and(|value| *value == "off" || *value == "false" || *value == false) {
            keys.remove(key);
        }
    }
}

/// Whatever YAML is in the file.
fn yaml_file(path: &Path) -> Result<Value, String> {
    let shown = path.display();
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| format!("{shown} can't be read: {e}"))?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| format!("{shown} can't be read: {e}"))?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("{shown} is larger than 1MiB; that is no configuration"));
    }
    yaml(&text).map_err(|reason| format!("{shown}: {reason}"))
}

/// Reads YAML; an error tells its line and column.
fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let message = e.without_snippet().to_string();
        let message = words::of_yaml(&message);
        match e.location() {
            Some(at) if !message.contains("line ") => {
                format!("line {}, column {}: {message}", at.line(), at.column())
            }
            _ => message.to_owned(),
        }
    })
}

/// Puts `REMORA_A__B` at `a.b`; tells which variable each path came from.
fn lay_over(
    tree: &mut Map<String, Value>,
    env: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let ours = env.iter().filter_map(|(name, text)| Some((name, name.strip_prefix(PREFIX)?, text)));
    let mut origins = Vec::new();
    let mut overrides = Vec::new();
    for (name, rest, text) in ours {
        if is_service_link(rest) {
            let note = format!("{name} looks like a Kubernetes service link and is ignored");
            notes.push(words::line(&note));
            continue;
        }
        let levels: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let path = levels.iter().map(|level| shown(level)).collect::<Vec<_>>().join(".");
        if let Some(value) = problems.keep(name, yaml(text)) {
            overrides.push((levels, value, text));
        }
        origins.push((path, name.clone()));
    }
    // a whole section first, what is finer over it
    overrides.sort_by_key(|(levels, ..)| levels.len());
    for (levels, value, text) in overrides {
        put(tree, &levels, scalar_as_written(value, text));
    }
    origins
}

/// What Kubernetes sets in every pod where a Service is called `remora`.
fn is_service_link(rest: &str) -> bool {
    rest == "PORT"
        || rest == "SERVICE_HOST"
        || rest.starts_with("SERVICE_PORT")
        || rest.strip_prefix("PORT_").is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
}

fn put(tree: &mut Map<String, Value>, levels: &[String], value: Value) {
    match levels {
        [] => {}
        [last] => {
            tree.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let below = tree.entry(first.clone()).or_insert(Value::Null);
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

/// A number stays a number only where it shows as it was written: `0123` is a text.
fn scalar_as_written(value: Value, text: &str) -> Value {
    let shown = value.to_string();
    if (value.is_number() || value.is_boolean()) && shown != text {
        Value::String(text.into())
    } else {
        value
    }
}

/// Replaces `${VAR}` in every text below `value`.
fn fill_in(value: &mut Value, env: &BTreeMap<String, String>, path: &mut String, problems: &mut Problems) {
    let here = path.len();
    match value {
        Value::String(text) if text.contains("${") => match substitute(text, env) {
            Ok(filled) => *value = filled,
            Err(reason) => problems.add(path.as_str(), reason),
        },
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                fill_in(item, env, path, problems);
                path.truncate(here);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                path.push_str(if here == 0 { "" } else { "." });
                path.push_str(shown(key));
                fill_in(field, env, path, problems);
                path.truncate(here);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn substitute(text: &str, env: &BTreeMap<String, String>) -> Result<Value, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err(format!("\"{text}\" has a `${{` without its `}}`"));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("${{{name}}} is not a variable; write it as ${{NAME}}, nothing else inside"));
        }
        let Some(found) = env.get(name) else {
            return Err(format!("${{{name}}} is not in the environment; set it or write the value itself"));
        };
        filled.push_str(before);
        filled.push_str(found);
        rest = after;
        if before.is_empty() && after.is_empty() && filled == *found {
            return Ok(scalar(found));
        }
    }
    filled.push_str(rest);
    Ok(Value::String(filled))
}

/// A variable that is the whole value may be a number; never an object, and an empty one is a text.
fn scalar(text: &str) -> Value {
    match yaml(text).map(|value| scalar_as_written(value, text)) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(text.into()),
    }
}

/// Reads the tree as a [`File`]; what doesn't fit is noted, taken out, and the rest read again.
fn typed(mut tree: Value, problems: &mut Problems) -> File {
    while problems.0.len() < MAX_PROBLEMS {
        let error = match serde_path_to_error::deserialize::<_, File>(&tree) {
            Ok(file) => return file,
            Err(error) => error,
        };
        let levels: Vec<Segment> = error.path().iter().cloned().collect();
        let path = place(&levels);
        let (key, message) = (levels.last().cloned(), error.inner().to_string());
        // a value already refused for its variable is not refused again for its type
        problems.missing(&path, reworded(key.as_ref(), &message));
        if !take_out(&mut tree, &levels) {
            break;
        }
    }
    File::deserialize(Value::Object(Map::new())).unwrap_or_default()
}

/// `providers[0].weight`
fn place(levels: &[Segment]) -> String {
    let mut path = String::new();
    for level in levels {
        let dot = if path.is_empty() { "" } else { "." };
        match level {
            Segment::Map { key } | Segment::Enum { variant: key } => path.extend([dot, shown(key)]),
            Segment::Seq { index } => path.push_str(&format!("[{index}]")),
            Segment::Unknown => path.extend([dot, "?"]),
        }
    }
    path
}

/// A key as a place names it: one without a letter would be nowhere.
fn shown(key: &str) -> &str {
    if key.is_empty() { "\"\"" } else { key }
}

/// Removes a key; an item of a list becomes null, so that those behind it keep their places.
fn take_out(tree: &mut Value, levels: &[Segment]) -> bool {
    let Some((last, above)) = levels.split_last() else {
        return false;
    };
    let parent = above.iter().try_fold(tree, |node, level| match level {
        Segment::Map { key } => node.get_mut(key),
        Segment::Seq { index } => node.get_mut(index),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    match (parent, last) {
        (Some(Value::Object(fields)), Segment::Map { key }) => fields.remove(key).is_some(),
        (Some(Value::Array(items)), Segment::Seq { index }) => {
            items.get_mut(*index).is_some_and(|item| !item.take().is_null())
        }
        _ => false,
    }
}

/// serde's message in the words of a configuration.
fn reworded(key: Option<&Segment>, message: &str) -> String {
    let names =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    if let (Some(Segment::Map { key }), Some(rest)) = (key, message.strip_prefix("unknown field `")) {
        let known = names(rest.get(key.len() + 1..).unwrap_or_default());
        return unknown_key(key, &known.iter().map(String::as_str).collect::<Vec<_>>());
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (found, known) = rest.split_once('`').unwrap_or((rest, ""));
        return format!("\"{found}\" is none of {}", names(known).join(", "));
    }
    let Some((found, wanted)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    else {
        return message.to_owned();
    };
    let wanted = match wanted {
        "a sequence" => "a list",
        "a boolean" => "true or false",
        other if other == "a map" || other.starts_with("struct ") => "an object of keys",
        other => other,
    };
    format!("found {found}, expected {wanted}")
}
