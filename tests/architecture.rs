//! The house rules that a compiler doesn't know: rows, foreign crates, sizes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may name whom: a module names modules of lower rows only.
const ROWS: [(i32, &[&str]); 12] = [
    (-1, &["names", "units", "words"]),
    (0, &["model", "error"]),
    (1, &["config"]),
    (2, &["alarm", "explain", "health", "limits", "telemetry", "tls", "socket"]),
    (3, &["http1", "peer"]),
    (4, &["balance"]),
    (5, &["directory"]),
    (6, &["otlp", "registry", "upstream"]),
    (7, &["gateway", "probe"]),
    (8, &["listen", "admin", "console"]),
    (9, &["app"]),
    (10, &["cli"]),
];

/// Where a foreign crate may be named; a path stands for the file and what lies below it.
const CRATES: [(&[&str], &[&str]); 10] = [
    (&["rustls"], &["src/tls"]),
    (&["zookeeper_client"], &["src/registry/zookeeper"]),
    (&["moka"], &["src/directory"]),
    (&["arc_swap"], &["src/balance"]),
    (&["governor"], &["src/limits"]),
    (
        &[
            "opentelemetry",
            "opentelemetry_proto",
            "opentelemetry_prometheus",
            "opentelemetry_sdk",
            "prometheus",
            "prost",
        ],
        &["src/telemetry"],
    ),
    (
        &["hyper", "hyper_util", "http_body_util"],
        &[
            "src/directory",
            "src/http1",
            "src/listen",
            "src/upstream",
            "src/gateway",
            "src/admin",
            "src/otlp",
            "src/probe",
            "src/cli/demo",
            "src/cli/yar/call",
        ],
    ),
    (&["rmp", "rmp_serde"], &["proto-adapters/src/msgpack"]),
    (&["encoding_rs"], &["proto-adapters/src/charset"]),
    (&["clap"], &["src/cli"]),
];

/// What the codecs may use of others: nothing that does I/O, reads a clock or logs.
const CODEC_CRATES: [&str; 3] = ["encoding_rs", "itoa", "zmij"];
/// What of `std` touches the world outside of memory.
const OUTSIDE: [&str; 10] = ["env", "fs", "io", "net", "os", "path", "process", "thread", "time", "sync"];
const MACROS: [&str; 5] = ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!("];

/// Where watches that end with their first event are set.
const ONE_SHOT: &str = "src/registry/zookeeper/oneshot.rs";

const MAX_FILE: usize = 400;
const MAX_FUNCTION: usize = 80;

/// One source file, tests cut off, with comments and literals blanked out.
struct Source {
    /// From the top of the repository.
    path: String,
    code: String,
}

#[test]
fn modules_name_only_modules_of_lower_rows() {
    let mut broken = String::new();
    for source in sources("src") {
        let modules = modules(&source.path);
        let Some(own) = modules.first().filter(|top| !["lib", "main"].contains(&top.as_str())) else {
            continue;
        };
        let Some(row) = row(own) else {
            writeln!(broken, "{}: module {own} has no row; give it one in ROWS", source.path).unwrap();
            continue;
        };
        for (line, named) in named_modules(&source.code, modules.len()) {
            if named != *own && row <= self::row(&named).unwrap_or(i32::MIN) {
                let path = &source.path;
                writeln!(broken, "{path}:{line}: {own} names {named}, which isn't in a lower row").unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn a_foreign_crate_is_named_in_its_place_only() {
    let mut broken = String::new();
    for source in sources("src").into_iter().chain(sources("proto-adapters/src")) {
        for (names, places) in CRATES {
            if places.iter().any(|place| is_at(&source.path, place)) {
                continue;
            }
            for (number, line) in (1..).zip(source.code.lines()) {
                for name in names.iter().filter(|name| names_crate(line, name)) {
                    let places = places.join(", ");
                    writeln!(broken, "{}:{number}: {name} belongs to {places}", source.path).unwrap();
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

/// Bytes in, value out: the codecs do no I/O, read no clock and do not log.
#[test]
fn the_codecs_touch_nothing_but_memory() {
    let mut broken = String::new();
    let sources = sources("proto-adapters/src");
    for source in &sources {
        let outside = |(_, name): &(usize, String)| OUTSIDE.contains(&name.as_str());
        for (line, name) in names_below(&source.code, "std::").into_iter().filter(outside) {
            writeln!(broken, "{}:{line}: std::{name} is outside of memory", source.path).unwrap();
        }
    }
    for name in MACROS {
        for (path, line) in uses(&sources, name) {
            writeln!(broken, "{path}:{line}: {name}…) says something").unwrap();
        }
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-adapters/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let (_, rest) = manifest.split_once("[dependencies]\n").unwrap();
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let named = lines.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    let foreign: Vec<_> = named.filter(|name| !CODEC_CRATES.contains(name)).collect();
    assert!(foreign.is_empty(), "proto-adapters depends on {foreign:?}; only on {CODEC_CRATES:?} it may");
    assert!(broken.is_empty(), "\n{broken}");
}

/// Watches of two kinds on one path end each other at the server, without a word.
#[test]
fn each_kind_of_watch_is_set_in_one_place() {
    let sources = sources("src");
    let is_one_shot = |(path, _): &(String, usize)| path == ONE_SHOT;
    // one place there asks a server whether it has lasting ones
    let (asking, lasting): (Vec<_>, Vec<_>) =
        uses(&sources, "client.watch(").into_iter().partition(is_one_shot);
    assert!(
        lasting.len() == 1 && asking.len() <= 1,
        "one place sets lasting watches: {lasting:?}, {asking:?}"
    );
    let mut modes = uses(&sources, "AddWatchMode::");
    modes.retain(|place| !is_one_shot(place) && place.0 != lasting[0].0);
    assert!(modes.is_empty(), "lasting watches belong to {}: {modes:?}", lasting[0].0);
    let mut once = uses(&sources, "_and_watch_");
    once.retain(|place| !is_one_shot(place));
    assert!(once.is_empty(), "one-shot watches belong to {ONE_SHOT}: {once:?}");
}

#[test]
fn files_and_functions_are_short() {
    let mut broken = String::new();
    for source in sources("src").into_iter().chain(sources("proto-adapters/src")) {
        let lines = source.code.lines().count();
        if lines > MAX_FILE {
            writeln!(broken, "{}:1: {lines} lines without tests, over {MAX_FILE}", source.path).unwrap();
        }
        for (line, length) in functions(&source.code) {
            if length > MAX_FUNCTION {
                let path = &source.path;
                writeln!(broken, "{path}:{line}: a function of {length} lines, over {MAX_FUNCTION}").unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn the_rules_see_what_they_should() {
    let code = blank(
        "use crate::{a, b::{c, d}, e};\n// crate::no\nlet x = \"crate::no\"; crate::f::g();\nsuper::h::i();",
    );
    let named = |depth| named_modules(&code, depth).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(named(2), ["a", "b", "e", "f"]);
    assert_eq!(named(1), ["a", "b", "e", "f", "h"]);
    let code = blank("use std::{fmt, io::{Read, Write}};\nstd::time::Instant::now();\nmystd::fs::read();");
    let named: Vec<_> = names_below(&code, "std::").into_iter().map(|(_, name)| name).collect();
    assert_eq!(named, ["fmt", "io", "time"]);
    let code = blank("fn a() {\n  '}'; '\\''; \"}\\\"}\"; r#\"}\"#;\n}\nfn b();\nfn c<'a>() {\n}\n");
    assert_eq!(functions(&code), [(1, 3), (5, 2)]);
    assert!(names_crate("use hyper::Request;", "hyper") && !names_crate("hyper_util::rt", "hyper"));
    let chain = Source { path: "a.rs".into(), code: "self.client\n    .watch(path)".into() };
    assert_eq!(uses(&[chain], "client.watch("), [("a.rs".to_owned(), 1)]);
    assert!(is_at("src/admin/pages.rs", "src/admin") && !is_at("src/administration.rs", "src/admin"));
    assert_eq!(modules("src/registry/mod.rs"), ["registry"]);
    assert_eq!(modules("src/registry/zookeeper/wire.rs"), ["registry", "zookeeper", "wire"]);
}

/// Files and lines that hold `what`, however it is broken into lines.
fn uses(sources: &[Source], what: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for Source { path, code } in sources {
        let places: Vec<_> = code.char_indices().filter(|(_, c)| !c.is_whitespace()).collect();
        let dense: String = places.iter().map(|(_, c)| c).collect();
        for (at, _) in dense.match_indices(what) {
            let (start, _) = places[dense[..at].chars().count()];
            found.push((path.clone(), code[..start].matches('\n').count() + 1));
        }
    }
    found
}

fn row(module: &str) -> Option<i32> {
    ROWS.iter().find(|(_, modules)| modules.contains(&module)).map(|(row, _)| *row)
}

/// `src/a/b.rs` is `["a", "b"]`, and so is `src/a/b/mod.rs`.
fn modules(path: &str) -> Vec<String> {
    let stem = path.trim_start_matches("src/").trim_end_matches(".rs");
    stem.split('/').filter(|part| *part != "mod").map(str::to_owned).collect()
}

fn is_at(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.starts_with(['.', '/']))
}

fn names_crate(line: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(name).any(|(at, _)| {
        let (before, rest) = (&line[..at], &line[at + name.len()..]);
        !before.ends_with(word) && (rest.starts_with("::") || before.trim_end() == "use")
    })
}

/// Top-level modules that code `depth` modules deep names, with their lines.
fn named_modules(code: &str, depth: usize) -> Vec<(usize, String)> {
    let ups = "super::".repeat(depth);
    ["crate::", &ups].into_iter().flat_map(|root| names_below(code, root)).collect()
}

/// The names that follow `root`, with their lines.
fn names_below(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices(root) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + root.len()..];
        named.extend(first_names(rest).into_iter().map(|name| (line, name)));
    }
    named
}

/// `a::b` gives `a`; `{a, b::{c, d}}` gives `a` and `b`.
fn first_names(path: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![word(path)];
    };
    let (mut depth, mut names, mut item) = (1, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            names.push(word(&item));
            item.clear();
        } else {
            item.push(c);
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Every function with a body: its first line and how many lines it has.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let named = code[at + 3..].starts_with(|c: char| c.is_alphabetic() || c == '_');
        let body = code[at..].find(['{', ';']).map(|offset| at + offset);
        let Some(body) = body.filter(|body| starts_word && named && code[*body..].starts_with('{')) else {
            continue;
        };
        let mut depth = 0;
        let end = code[body..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        let end = end.map_or(code.len(), |(offset, _)| body + offset);
        found.push((code[..at].matches('\n').count() + 1, code[at..end].matches('\n').count() + 1));
    }
    found
}

/// Every file below `dir`, except those that hold tests only.
fn sources(dir: &str) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&top.join(dir), &mut files);
    files.sort();
    let mut sources = Vec::new();
    let mut tests = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (code, test) = text.split_once("#[cfg(test)]\nmod ").unwrap_or((&text, ""));
        if let Some((name, _)) = test.split_once(';').filter(|(name, _)| !name.contains(['{', '\n'])) {
            let below = file.with_extension("");
            let home = if below.ends_with("mod") { below.parent().unwrap() } else { &below };
            tests.push(home.join(name));
        }
        let path = file.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        sources.push(Source { path, code: blank(code) });
    }
    sources.retain(|source| {
        !tests.iter().any(|test| top.join(&source.path).with_extension("").starts_with(test))
    });
    assert!(sources.len() > 5, "there are no sources in {dir}");
    sources
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `text` with comments, strings and characters taken out; lines stay where they are.
fn blank(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = literal(rest, code.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().filter(|c| *c == '\n'));
            rest = &rest[length..];
        }
    }
    code
}

/// How long the comment or literal is that `text` starts with; 0 where it starts with neither.
fn literal(text: &str, in_word: bool) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with('"') {
        return quoted(text, '"').unwrap_or(text.len());
    }
    if text.starts_with('\'') {
        // 'a is a lifetime, 'a' a character
        let one = text.chars().nth(2) == Some('\'') || text.starts_with("'\\");
        return if one { quoted(text, '\'').unwrap_or(0) } else { 0 };
    }
    if !in_word && (text.starts_with("r\"") || text.starts_with("r#") || text.starts_with("br")) {
        let hashes = text.trim_start_matches(['b', 'r']);
        let count = hashes.len() - hashes.trim_start_matches('#').len();
        if hashes[count..].starts_with('"') {
            let (start, end) = (text.len() - hashes.len() + count + 1, format!("\"{}", "#".repeat(count)));
            return text[start..].find(&end).map_or(text.len(), |at| start + at + end.len());
        }
    }
    0
}

fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map(|(at, _)| at + 1)
}
