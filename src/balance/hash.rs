//! The same provider for the same key: a consistent hash whose loads are bounded.

use super::live::Live;
use super::{Member, Pool};

/// Points on the ring of a provider of the default weight, 100.
const POINTS: u64 = 64;
/// Most points in all; where there would be more, each provider has fewer.
const MOST_POINTS: u64 = 1 << 16;
/// Most calls a provider gets, in percent of its share of those under way.
const BOUND: u64 = 125;
/// Points looked at for one call. At most 4 of 5 members can be at their bound, so that none is ever left over.
const MOST_STEPS: usize = 1024;

/// Points of all members, in order.
#[derive(Debug, Default)]
pub(super) struct Ring(Vec<(u64, u32)>);

/// The place of these bytes on the ring; the same on every host and in every version.
pub fn key(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(fnv)
}

/// The finish of splitmix64: near inputs land far apart.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

impl Ring {
    /// How many points a member has depends on itself alone: others that come or go move none of them.
    pub(super) fn of(members: &[Member]) -> Self {
        let points = |member: &Member| (member.weight() * POINTS / 100).max(1);
        let all: u64 = members.iter().map(points).sum();
        let fewer = all.div_ceil(MOST_POINTS).next_power_of_two().trailing_zeros();
        let mut ring = Vec::new();
        for (index, member) in (0..).zip(members) {
            let start = key(member.peer.address.as_str().as_bytes());
            let points = (points(member) >> fewer).max(1);
            ring.extend((0..points).map(|n| (mixed(start.wrapping_add(n)), index)));
        }
        ring.sort_unstable();
        Self(ring)
    }

    /// Members from `key` on, once around; a member comes as often as it has points.
    fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.0.partition_point(|(point, _)| *point < key);
        let (before, after) = self.0.split_at(start.min(self.0.len()));
        after.iter().chain(before).map(|(_, index)| *index as usize)
    }

    /// The member that `key` belongs to, were everybody well.
    pub(super) fn first(&self, key: u64) -> Option<usize> {
        self.walk(key).next()
    }
}

/// The first from `key` on that is in turn and not over its bound; the first at all where all are.
pub(super) fn pick(pool: &Pool, live: &Live, key: u64) -> Option<usize> {
    let total = live.total();
    // which zone a key goes to moves as little as the zones' shares do
    let position = (u128::from(mixed(key.wrapping_add(1))) * u128::from(total)) >> 64;
    let zones = live.home > 0 && live.home < total;
    let mut first = None;
    for index in pool.ring.walk(key).take(MOST_STEPS) {
        let share = live.weight_of(index);
        if share == 0 {
            continue;
        }
        let Some(member) = pool.members.get(index) else { continue };
        if zones && member.near != (position < u128::from(live.home)) {
            continue;
        }
        // only what this pool has under way: the calls of others say nothing of how even its own are
        let (own, all) = pool.calls.get(index).map_or((0, 0), |calls| (calls.own(), calls.all()));
        let fair = (u64::from(all) + 1) * BOUND;
        let bound = (u128::from(fair) * u128::from(share)).div_ceil(u128::from(total) * 100);
        if u128::from(own) < bound {
            return Some(index);
        }
        first.get_or_insert(index);
    }
    first
}
