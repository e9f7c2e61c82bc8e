//! The power of two choices: of two picked by chance, the one with less in flight for its weight.

use std::sync::Arc;

use super::Pool;
use crate::peer::Peer;

/// The less busy of two different members; the first, picked by weight, where both are as busy.
pub(super) fn pick(pool: &Pool) -> Option<&Arc<Peer>> {
    let total = pool.total();
    if total == 0 {
        return None;
    }
    let first = pool.index_at(fastrand::u64(..total));
    let second = match pool.index_at(fastrand::u64(..total)) {
        same if same == first => (first + 1) % pool.members.len(),
        other => other,
    };
    let (one, two) = (pool.members.get(first)?, pool.members.get(second)?);
    let load = |peer: &Peer, other: usize| u64::from(peer.load()) * pool.weight(other);
    Some(if load(two, first) < load(one, second) { two } else { one })
}
