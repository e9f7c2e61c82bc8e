//! The listeners: where they are, and who calls there.

use std::collections::BTreeMap;

use super::file::{ListenFile, Text};
use super::problem::Problems;
use super::{Bind, Listen};
use crate::names::{CallerName, ServiceName};

const LISTEN: &str = "127.0.0.1:9501";
/// Longest path of a unix socket, by the kernel's `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

/// The listeners for calls, or the one that is there where none is written.
pub(super) fn listeners(written: Option<Vec<Option<ListenFile>>>, problems: &mut Problems) -> Vec<Listen> {
    let Some(written) = written else {
        let bind = problems.keep("listen", bind(LISTEN));
        let listen = |bind| Listen { bind, service: None, callers: BTreeMap::new() };
        return bind.map(listen).into_iter().collect();
    };
    if written.is_empty() {
        problems.add("listen", format!("the list is empty; leave it out to listen on {LISTEN}"));
    }
    let mut listeners = Vec::new();
    for (index, entry) in written.into_iter().enumerate() {
        let entry = entry.unwrap_or_default();
        let path = format!("listen[{index}]");
        let at = if entry.is_object { format!("{path}.address") } else { path.clone() };
        let service = entry
            .service
            .and_then(|Text(name)| problems.keep(&format!("{path}.service"), ServiceName::new(&name)));
        match entry.address {
            Some(Text(address)) => {
                let Some(bind) = problems.keep(&at, bind(&address)) else { continue };
                let callers = users(entry.callers, &bind, &path, problems);
                listeners.push(Listen { bind, service, callers });
            }
            None => problems.missing(&at, "give an address such as 127.0.0.1:9501"),
        }
    }
    listeners
}

/// Who the users of this host are, by user id.
fn users(
    written: Option<BTreeMap<String, Text>>,
    bind: &Bind,
    path: &str,
    problems: &mut Problems,
) -> BTreeMap<u32, CallerName> {
    let mut users = BTreeMap::new();
    let written = written.unwrap_or_default();
    if !written.is_empty() && matches!(bind, Bind::Tcp(_)) {
        problems.add(
            format!("{path}.callers"),
            "the kernel tells who calls on a unix socket only; take unix:/path as the address",
        );
    }
    for (user, Text(name)) in written {
        let path = format!("{path}.callers.{user}");
        let id = user.parse::<u32>().map_err(|_| format!("\"{user}\" is no user id such as 33"));
        let (id, name) = (problems.keep(&path, id), problems.keep(&path, CallerName::new(&name)));
        users.extend(id.zip(name));
    }
    users
}

/// An address to listen on; fails with what one looks like.
pub(super) fn bind(at: &str) -> Result<Bind, String> {
    if let Some(path) = at.strip_prefix("unix:") {
        return match path.len() {
            0 => Err("unix: has no path behind it; write unix:/run/remora/remora.sock".into()),
            1..=MAX_SOCKET_PATH => Ok(Bind::Unix(path.into())),
            long => Err(format!("the socket's path has {long} bytes, the kernel takes {MAX_SOCKET_PATH}")),
        };
    }
    at.parse().map(Bind::Tcp).map_err(|_| {
        format!("\"{at}\" is no address to listen on; write 127.0.0.1:9501, [::1]:9501 or unix:/path")
    })
}
