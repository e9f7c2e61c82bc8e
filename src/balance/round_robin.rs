//! In turn, exact by weight over every window of the (reduced) total weight.

use std::sync::Arc;

use super::{Pool, gcd};
use crate::peer::Peer;

/// The next in turn; heavy members are spread over the round, not served in a burst.
pub(super) fn pick(pool: &Pool) -> Option<&Arc<Peer>> {
    match pool.total() {
        0 => None,
        total => pool.at(pool.next_turn() % total * stride(total) % total),
    }
}

/// Near the golden section of `total` and coprime to it: the turns visit every position once a round, far apart.
fn stride(total: u64) -> u64 {
    let near = (total as f64 * 0.618) as u64;
    (near.max(1)..).find(|stride| gcd(*stride, total) == 1).unwrap_or(1)
}
