//! From who remora is to ZooKeeper as written to what is meant.

use std::path::{Path, PathBuf};

use super::file::{AuthFile, Text, TlsFile};
use super::problem::Problems;
use super::secret::passwords;
use super::{Auth, Tls};

/// Names the user and looks for its password.
pub(super) fn credentials(written: AuthFile, problems: &mut Problems) -> Option<Auth> {
    let user = written.user.map(|Text(user)| user).unwrap_or_default();
    if user.is_empty() {
        problems.missing("registry.zookeeper.auth.user", "give the user nodes are made for, such as remora");
    } else if user.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control()) {
        let reason = format!("{user:?} can't be a user of ZooKeeper; leave out colons and white space");
        problems.add("registry.zookeeper.auth.user", reason);
    }
    let path = "registry.zookeeper.auth.password_file";
    let Some(Text(file)) = written.password_file else {
        problems.missing(path, "give the file its password is in, such as /etc/remora/zk");
        return None;
    };
    problems.keep(path, passwords(Path::new(&file)).map_err(|reason| format!("{file}: {reason}")))?;
    Some(Auth { user, password_file: file.into() })
}

/// Names the files; what is in them is looked at where they are used.
pub(super) fn certificates(written: TlsFile, problems: &mut Problems) -> Option<Tls> {
    let file = |written: Option<Text>| written.map(|Text(path)| PathBuf::from(path));
    let identity = match (file(written.cert_file), file(written.key_file)) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (cert, _) => {
            let (missing, given) = if cert.is_some() { ("key", "cert") } else { ("cert", "key") };
            let reason = format!("give it with {given}_file, or leave both out");
            problems.missing(&format!("registry.zookeeper.tls.{missing}_file"), reason);
            None
        }
    };
    let Some(ca_file) = file(written.ca_file) else {
        let wanted = "give the certificate of the CA that signed the servers', as PEM";
        problems.missing("registry.zookeeper.tls.ca_file", wanted);
        return None;
    };
    Some(Tls { ca_file, identity })
}
