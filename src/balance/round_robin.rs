//! In turn, exact by weight over every window of the (reduced) total weight.

use super::live::Live;

/// The member whose turn it is; heavy ones are spread over the round, not served in a burst.
pub(super) fn pick(live: &Live, turn: u64) -> Option<usize> {
    let total = u128::from(live.total());
    if total == 0 {
        return None;
    }
    // the stride is coprime to the total: turns visit every position once a round, far apart
    let position = u128::from(turn) % total * u128::from(live.stride) % total;
    live.member(live.at(position as u64))
}
