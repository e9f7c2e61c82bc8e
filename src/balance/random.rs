//! By chance, by weight.

use super::live::Live;

/// Any member, by weight.
pub(super) fn pick(live: &Live) -> Option<usize> {
    match live.total() {
        0 => None,
        total => live.member(live.at(fastrand::u64(..total))),
    }
}

/// The first that `enter` lets in, tried in a random order by weight.
pub(super) fn first_of<T>(left: &mut Vec<(usize, u64)>, enter: impl Fn(usize) -> Option<T>) -> Option<T> {
    let mut total: u64 = left.iter().map(|(_, weight)| weight).sum();
    while total > 0 {
        let mut position = fastrand::u64(..total);
        let at = left.iter().position(|(_, weight)| match position.checked_sub(*weight) {
            Some(rest) => {
                position = rest;
                false
            }
            None => true,
        });
        let (index, weight) = left.swap_remove(at?);
        total -= weight;
        if let Some(entered) = enter(index) {
            return Some(entered);
        }
    }
    None
}
