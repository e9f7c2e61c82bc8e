//! The power of two choices: of two picked by weight, the one that should answer sooner.

use std::time::Instant;

use super::live::Live;
use super::{Member, Pool};

/// Answers that take up to so many times as long count as as fast: without it, which of two equals was
/// asked last would decide, and not their weights.
const ALIKE: f32 = 1.5;

/// The better of two different members; the first where they are as good.
pub(super) fn pick(pool: &Pool, live: &Live, now: Instant) -> Option<usize> {
    let total = live.total();
    if total == 0 {
        return None;
    }
    let first = live.at(fastrand::u64(..total));
    let second = match live.at(fastrand::u64(..total)) {
        same if same == first => (first + 1) % live.len(),
        other => other,
    };
    let (one, two) = (live.member(first)?, live.member(second)?);
    if one == two {
        return Some(one);
    }
    let mean = total as f32 / live.len() as f32;
    let load = |member: &Member, at: usize| member.peer.load() as f32 * mean / live.share(at) as f32;
    let (mine, other) = (pool.members.get(one)?, pool.members.get(two)?);
    let (my_load, other_load) = (load(mine, first), load(other, second));
    let (my_cost, other_cost) = (mine.peer.cost(now), other.peer.cost(now));
    let (my_time, other_time) = (my_cost.seconds, other_cost.seconds);
    // one that came just now would hardly be asked if a guess counted against it
    let guessed = !(my_cost.is_known && other_cost.is_known);
    let near = my_time < other_time * ALIKE && other_time < my_time * ALIKE;
    let alike = !(my_cost.asks || other_cost.asks) && (guessed || near);
    let better = match alike {
        true => other_load < my_load,
        false => other_time * (other_load + 1.0) < my_time * (my_load + 1.0),
    };
    Some(if better { two } else { one })
}
