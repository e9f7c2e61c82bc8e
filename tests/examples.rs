//! The examples are as good as the program says of its own configuration.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn check(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text.into_owned()
}

#[test]
fn every_configuration_is_good() {
    let files = files("examples");
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        check(Command::new(env!("CARGO_BIN_EXE_remora")).args(["check", "--config"]).arg(file));
    }
}

#[test]
fn every_registry_file_is_read_without_a_skipped_node() {
    for (file, layout) in [("flat.yaml", "flat"), ("tree.yaml", "tree")] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/registry").join(file);
        let text = check(
            Command::new(env!("CARGO_BIN_EXE_remora"))
                .args(["check", "--connect"])
                .env("REMORA_REGISTRY__EMBEDDED__FILE", file)
                .env("REMORA_REGISTRY__LAYOUT", layout),
        );
        assert!(text.contains(if layout == "flat" { "3 services" } else { "1 service" }), "{text}");
    }
}

#[test]
fn the_exported_registry_goes_into_either_layout() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/registry/export.yaml");
    let dir = tempfile::tempdir().unwrap();
    for layout in ["flat", "tree"] {
        let text = check(
            Command::new(env!("CARGO_BIN_EXE_remora"))
                .args(["registry", "import"])
                .arg(&file)
                .env("REMORA_REGISTRY__EMBEDDED__FILE", dir.path().join(layout))
                .env("REMORA_REGISTRY__LAYOUT", layout),
        );
        assert!(text.contains("0 changed, 0 removed, 0 unchanged"), "{text}");
    }
}
