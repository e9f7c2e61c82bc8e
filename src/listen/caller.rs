//! Where a caller has come in, and who it is.

use std::net::SocketAddr;

use crate::names::CallerName;

/// Where the listener is, for URLs that name it, and who calls there.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// Of this connection; `None` on a unix socket.
    pub(super) local: Option<SocketAddr>,
    /// Who it is by the kernel's word.
    pub(super) vouched: Option<CallerName>,
}

impl Here {
    /// Whether a URL's authority is this listener and no service.
    pub(super) fn is(&self, host: &str, port: Option<u16>, own_name: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ip = bare.parse::<std::net::IpAddr>().map(|ip| ip.to_canonical());
        let is_loopback = host.eq_ignore_ascii_case("localhost") || matches!(&ip, Ok(ip) if ip.is_loopback());
        let Some(local) = self.local else { return is_loopback };
        let own = local.ip().to_canonical();
        port.unwrap_or(80) == local.port()
            && (ip == Ok(own) || (is_loopback && own.is_loopback()) || host.eq_ignore_ascii_case(own_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listeners_own_address_is_the_listener() {
        let at = |local: &str| Here { local: Some(local.parse().unwrap()), vouched: None };
        let here = at("127.0.0.1:9501");
        for (host, port) in [("127.0.0.1", 9501), ("localhost", 9501), ("web-17", 9501), ("[::1]", 9501)] {
            assert!(here.is(host, Some(port), "web-17"), "{host}:{port}");
        }
        for (host, port) in [("127.0.0.1", 8080), ("10.0.0.9", 9501), ("user", 9501), ("localhost", 80)] {
            assert!(!here.is(host, Some(port), "web-17"), "{host}:{port}");
        }
        let wide = at("10.0.0.7:80");
        assert!(wide.is("10.0.0.7", None, "") && !wide.is("10.0.0.8", None, ""));
    }
}
