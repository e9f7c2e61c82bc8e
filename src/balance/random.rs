//! By chance, by weight.

use std::sync::Arc;

use super::Pool;
use crate::peer::Peer;

/// Any member, by weight.
pub(super) fn pick(pool: &Pool) -> Option<&Arc<Peer>> {
    match pool.total() {
        0 => None,
        total => pool.at(fastrand::u64(..total)),
    }
}

/// Any member that isn't among `tried`, by weight: the rare path of a second attempt.
pub(super) fn pick_other<'a>(pool: &'a Pool, tried: &[Arc<Peer>]) -> Option<&'a Arc<Peer>> {
    let fresh = |peer: &Arc<Peer>| !tried.iter().any(|t| t.address == peer.address);
    let left = || pool.members.iter().enumerate().filter(|(_, peer)| fresh(peer));
    let total: u64 = left().map(|(index, _)| pool.weight(index)).sum();
    if total == 0 {
        return None;
    }
    let mut position = fastrand::u64(..total);
    for (index, peer) in left() {
        match position.checked_sub(pool.weight(index)) {
            Some(rest) => position = rest,
            None => return Some(peer),
        }
    }
    None
}
