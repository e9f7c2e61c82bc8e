//! The peers that a call was at.

use std::mem;
use std::ops::Deref;
use std::sync::Arc;

use crate::peer::Peer;

/// In their order; most calls are at one, and that one takes no list.
#[derive(Debug, Default)]
pub(super) enum Visited {
    #[default]
    Nobody,
    One(Arc<Peer>),
    Several(Vec<Arc<Peer>>),
}

impl Visited {
    pub(super) fn push(&mut self, peer: Arc<Peer>) {
        *self = match mem::take(self) {
            Self::Nobody => Self::One(peer),
            Self::One(first) => Self::Several(vec![first, peer]),
            Self::Several(mut all) => {
                all.push(peer);
                Self::Several(all)
            }
        };
    }
}

impl Deref for Visited {
    type Target = [Arc<Peer>];

    fn deref(&self) -> &[Arc<Peer>] {
        match self {
            Self::Nobody => &[],
            Self::One(peer) => std::slice::from_ref(peer),
            Self::Several(all) => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Address;
    use std::time::Instant;

    #[test]
    fn all_are_there_in_their_order() {
        let mut visited = Visited::default();
        assert!(visited.is_empty());
        for count in 1..=3 {
            let address = Address::new(&format!("10.0.0.{count}:80")).unwrap();
            visited.push(Peer::new(address, Arc::default(), Instant::now(), false));
            let at: Vec<_> = visited.iter().map(|peer| peer.address.to_string()).collect();
            assert_eq!(at, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"][..count]);
        }
    }
}
