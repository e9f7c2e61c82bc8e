//! Peers by address.

use std::sync::Arc;

use super::Peer;
use crate::names::Address;

/// In the order of their addresses, each once; as small as can be, since most are never called.
#[derive(Debug, Clone, Default)]
pub struct Peers(Box<[Arc<Peer>]>);

impl Peers {
    /// The one at `address`.
    pub fn get(&self, address: &Address) -> Option<&Arc<Peer>> {
        let at = self.0.binary_search_by(|peer| peer.address.cmp(address)).ok()?;
        self.0.get(at)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.0.iter()
    }
}

impl FromIterator<Arc<Peer>> for Peers {
    fn from_iter<I: IntoIterator<Item = Arc<Peer>>>(peers: I) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_by(|one, other| one.address.cmp(&other.address));
        // the first of equals stays
        peers.dedup_by(|later, first| later.address == first.address);
        Self(peers.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn each_address_is_there_once_and_is_found() {
        let address = |n: u8| Address::new(&format!("10.0.0.{n}:80")).unwrap();
        let peer = |n| Peer::new(address(n), Arc::default(), Instant::now(), false);
        let all = [9, 10, 2, 10, 1].map(peer);
        let peers: Peers = all.iter().cloned().collect();
        let found: Vec<_> = peers.iter().map(|peer| peer.address.as_str()).collect();
        assert_eq!(found, ["10.0.0.10:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]);
        assert!(Arc::ptr_eq(peers.get(&address(10)).unwrap(), &all[1]));
        assert!(peers.get(&address(3)).is_none() && Peers::default().get(&address(1)).is_none());
    }
}
