//! Secrets, each a line in a file of its own.

use std::io::Read;
use std::path::Path;

/// Largest file; a secret is a line, not a document.
const MAX_FILE: u64 = 4096;
/// The password in force, and those before it.
const MAX_PASSWORDS: usize = 4;

/// The key in `file`; fails with what is wrong with it.
pub(super) fn key(file: &Path) -> Result<String, String> {
    match lines(file, "key")?.as_slice() {
        [key] => Ok(key.clone()),
        _ => Err(format!("it is not one line of at most {MAX_FILE} bytes")),
    }
}

/// The passwords in `file`, one a line: all of them hold while one replaces the other.
///
/// Fails with what is wrong with the file.
pub fn passwords(file: &Path) -> Result<Vec<String>, String> {
    let lines = lines(file, "password")?;
    if lines.len() > MAX_PASSWORDS {
        return Err(format!("it has {} lines; give {MAX_PASSWORDS} passwords at most", lines.len()));
    }
    Ok(lines)
}

fn lines(file: &Path, what: &str) -> Result<Vec<String>, String> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(|e| format!("the {what} can't be read: {e}"))?;
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(format!("it is empty; write the {what} into it"));
    }
    if text.len() as u64 > MAX_FILE || lines.iter().any(|line| line.contains(char::is_control)) {
        return Err(format!("it is not one line of at most {MAX_FILE} bytes"));
    }
    Ok(lines)
}
