//! Takes any bytes for the file that keeps a view, as they are and with a right checksum, and asserts that what is
//! accepted is written and read again as it was. Shared by the fuzz target and by the test that runs the corpus.

use std::fmt::Write as _;

use remora::model::Layout;
use remora::registry::snapshot::Snapshot;
use sha2::{Digest, Sha256};

use super::message;

/// The line above the JSON, without its checksum.
const HEAD: &str = "remora view 1 ";

/// Never panics, whatever `data` is, unless a promise is broken.
pub(crate) fn run(data: &[u8]) {
    check(data);
    let behind = data.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let json = data.get(behind..).unwrap_or_default();
    check(&[head(json).as_bytes(), json].concat());
}

fn head(json: &[u8]) -> String {
    let mut head = HEAD.to_owned();
    for byte in Sha256::digest(json) {
        write!(head, "{byte:02x}").expect("a string takes all");
    }
    head + "\n"
}

fn check(file: &[u8]) {
    let snapshot = match Snapshot::parse(file) {
        Ok(snapshot) => snapshot,
        Err(reason) => return message::check(&reason),
    };
    let written = snapshot.render().expect("what was read can be written");
    assert_eq!(Snapshot::parse(written.as_bytes()).as_ref(), Ok(&snapshot), "what is written is read back");
    let behind = file.len() / 2;
    assert!(Snapshot::parse(&file[..behind]).is_err(), "half a file is none");
    let mut changed = file.to_vec();
    changed[behind] ^= 0x20;
    assert!(Snapshot::parse(&changed).is_err(), "a changed file is none");
    for (service, nodes) in snapshot.into_services() {
        for layout in [Layout::Flat, Layout::Tree] {
            let parsed = layout.parse(&service, &nodes, None);
            assert_eq!(parsed.is_some(), !nodes.is_empty());
        }
    }
}
