//! Files that are replaced in one step: readers see the old text or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces `file`, a link to it stays; made with `mode` where it is new.
pub(super) fn replace(file: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let temporary = temporary(file);
    let write = || {
        let mut out =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        out.write_all(text)?;
        out.sync_all()?;
        fs::rename(&temporary, file)?;
        // the name, too, is to survive a loss of power
        File::open(directory(file))?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Fails where [`replace`] would; nothing stays behind.
pub(super) fn replaceable(file: &Path) -> io::Result<()> {
    let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if file.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let temporary = temporary(file);
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    fs::remove_file(&temporary)
}

fn temporary(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    file.with_file_name(name)
}

/// Where `file` is.
pub(super) fn directory(file: &Path) -> &Path {
    file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
