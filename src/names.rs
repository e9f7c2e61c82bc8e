//! Names checked once at the door and trusted after.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

/// Longest name, in bytes.
pub const MAX_NAME: usize = 128;

/// Names a service: a group of functions.
pub type ServiceName = Name<OfService>;
/// Names an API, one function of a service; `*` stands for every API of it.
pub type ApiName = Name<OfApi>;
/// Names whoever calls.
pub type CallerName = Name<OfCaller>;

/// What a [`Name`] names.
pub trait Kind {
    /// With its article, for messages.
    const WHAT: &'static str;
    /// Allowed although the rule forbids it.
    const ALSO: Option<&'static str> = None;
}

/// See [`ServiceName`].
pub enum OfService {}
/// See [`ApiName`].
pub enum OfApi {}
/// See [`CallerName`].
pub enum OfCaller {}

impl Kind for OfService {
    const WHAT: &'static str = "a service name";
}
impl Kind for OfApi {
    const WHAT: &'static str = "an api name";
    const ALSO: Option<&'static str> = Some("*");
}
impl Kind for OfCaller {
    const WHAT: &'static str = "a caller name";
}

/// 1 to 128 of `A-Z a-z 0-9 . _ -`, not starting with `_` or `.`; cheap to clone.
pub struct Name<K>(Arc<str>, PhantomData<fn() -> K>);

/// `host:port` of a provider, checked: an IPv4 address, an IPv6 one in brackets or a host name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(Arc<str>);

impl Address {
    /// Checks `text`; fails with the rule it breaks.
    pub fn new(text: &str) -> Result<Self, BadName> {
        let reason = match text.rsplit_once(':') {
            None => "the port is missing",
            Some((_, port)) if !matches!(port.parse::<u16>(), Ok(1..)) => "the port is not 1 to 65535",
            // the same provider under two names would be two
            Some((_, port)) if port.starts_with(['0', '+']) => "the port starts with 0 or +",
            Some((host, _)) if !is_host(host) => "the host is no IP address and no host name",
            Some((host, _)) if is_nobodys(host) => "it means every host to itself; give this host's own",
            Some(_) => return Ok(Self(text.into())),
        };
        Err(BadName { what: "an address such as 10.0.0.5:8080", text: shown(text), reason })
    }

    /// The address as text, `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An address that means "this host" to whoever reads it.
fn is_nobodys(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

fn is_host(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return v6.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=253).contains(&host.len()) && host.bytes().all(allowed) && !host.starts_with(['.', '-'])
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

fn shown(text: &str) -> String {
    let mut told = String::new();
    for c in text.chars().take(40) {
        if c.is_control() { told.extend(c.escape_default()) } else { told.push(c) }
    }
    told
}

/// Why a text is no name; its Display says the rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName {
    what: &'static str,
    text: String,
    reason: &'static str,
}

impl<K: Kind> Name<K> {
    /// Checks `text`; fails with the rule it breaks.
    pub fn new(text: &str) -> Result<Self, BadName> {
        Self::check(text).map(|()| Self(text.into(), PhantomData))
    }

    /// The same of a text that is not kept.
    pub fn check(text: &str) -> Result<(), BadName> {
        match broken_rule(text) {
            Some(reason) if K::ALSO != Some(text) => {
                Err(BadName { what: K::WHAT, text: shown(text), reason })
            }
            _ => Ok(()),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, to be kept.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.is_empty() {
        Some("it is empty")
    } else if text.len() > MAX_NAME {
        Some("it is longer than 128 bytes")
    } else if text.starts_with(['_', '.']) {
        Some("it starts with `_` or `.`")
    } else if !text.bytes().all(allowed) {
        Some("only A-Z a-z 0-9 . _ - are allowed")
    } else {
        None
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not {}: {}", self.text, self.what, self.reason)
    }
}

impl std::error::Error for BadName {}

impl<K> Clone for Name<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}
impl<K> PartialEq for Name<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Name<K> {}
impl<K> PartialOrd for Name<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Name<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> Hash for Name<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<K> Borrow<str> for Name<K> {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl<K> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl<K> fmt::Debug for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
impl<K> serde::Serialize for Name<K> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de, K: Kind> serde::Deserialize<'de> for Name<K> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        for good in ["user", "a", "0-9._", &"x".repeat(128)] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", ".", "..", "a/b", "a b", "ä", "*", &"x".repeat(129)] {
            assert!(ServiceName::new(bad).is_err(), "{bad}");
        }
        assert!(ApiName::new("*").is_ok());
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["10.0.0.5:8080", "[::1]:80", "user-1.prod:65535"] {
            assert!(Address::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "10.0.0.5",
            "10.0.0.5:0",
            "10.0.0.5:99999",
            "10.0.0.5:080",
            "10.0.0.5:+80",
            ":80",
            "::1:80",
            "a/b:80",
            "[x]:1",
            "0.0.0.0:80",
            "[::]:80",
        ] {
            assert!(Address::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_name_is_quoted_short_and_escaped() {
        let bad = ServiceName::new(&"\n".repeat(10_000)).unwrap_err().to_string();
        assert!(bad.len() < 200 && !bad.contains('\n'), "{bad}");
        let bad = ServiceName::new("用户").unwrap_err().to_string();
        assert!(bad.starts_with("\"用户\" is not a service name"), "{bad}");
    }
}
