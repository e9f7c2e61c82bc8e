//! The rows of ARCHITECTURE.md, and which file may name which foreign crate.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// A module may name those of lower rows only.
const ROWS: [(i32, &[&str]); 12] = [
    (10, &["cli"]),
    (9, &["app"]),
    (8, &["listen", "admin"]),
    (7, &["gateway", "probe"]),
    (6, &["registry", "upstream"]),
    (5, &["directory"]),
    (4, &["balance"]),
    (3, &["peer"]),
    (2, &["telemetry", "socket"]),
    (1, &["config"]),
    (0, &["model", "error"]),
    (-1, &["names", "units"]),
];

/// A foreign crate and the places that may name it.
const CRATES: [(&str, &[&str]); 9] = [
    ("zookeeper_client", &["registry/zookeeper.rs", "registry/zookeeper/"]),
    ("moka", &["directory.rs"]),
    ("opentelemetry", &["telemetry.rs"]),
    ("prometheus", &["telemetry.rs"]),
    ("clap", &["cli/"]),
    ("hyper", &["listen/", "upstream/", "gateway/", "admin/", "probe.rs", "cli/demo.rs"]),
    ("hyper_util", &["listen/", "upstream/", "admin/", "probe.rs", "cli/demo.rs"]),
    ("socket2", &["socket.rs"]),
    ("sha2", &["gateway/admit.rs"]),
];

struct Source {
    /// Below `src`, with slashes.
    path: String,
    /// Without tests.
    lines: Vec<String>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let source = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let path = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        Source { path, lines: code.lines().map(|line| code_of(line).to_owned()).collect() }
    };
    let found: Vec<_> = files.iter().map(source).collect();
    assert!(found.len() > 30, "only {} files were found", found.len());
    found
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn row(module: &str) -> Option<i32> {
    ROWS.iter().find(|(_, modules)| modules.contains(&module)).map(|(row, _)| *row)
}

/// Names of top-level modules after `crate::` in a line.
fn named(line: &str) -> Vec<String> {
    let after = line.split("crate::").skip(1);
    after.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn modules_name_only_lower_rows() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|s| s.path != "lib.rs" && s.path != "main.rs") {
        let own = source.path.split(['/', '.']).next().unwrap();
        let own_row = row(own).unwrap_or_else(|| panic!("module {own} is in no row"));
        for (number, line) in source.lines.iter().enumerate() {
            for other in named(line).iter().filter(|other| other.as_str() != own) {
                if row(other).is_some_and(|other_row| other_row >= own_row) {
                    broken.push(format!("src/{}:{}: {own} names {other}", source.path, number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "not strictly downward:\n{}", broken.join("\n"));
}

#[test]
fn foreign_crates_are_named_in_their_own_places() {
    let mut broken = Vec::new();
    for source in &sources() {
        for (number, line) in source.lines.iter().enumerate() {
            for (name, places) in CRATES {
                let names = line.contains(&format!("{name}::")) || line.contains(&format!("use {name}"));
                let own = line.split(&format!("{name}::")).next().unwrap_or("");
                let whole = !own.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                if names && whole && !places.iter().any(|place| source.path.starts_with(place)) {
                    broken.push(format!("src/{}:{}: {name} belongs to {places:?}", source.path, number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|source| source.lines.len() > 480)
        .map(|source| format!("src/{}: {} lines", source.path, source.lines.len()))
        .collect();
    assert!(long.is_empty(), "over 480 lines without tests:\n{}", long.join("\n"));
}
