//! Who takes calls of a pool, and who is passed over and why: for those who ask.

use std::time::Instant;

use super::Pool;
use crate::health::{Cause, State};
use crate::model::{Provider, State as Switch};
use crate::peer::Peer;

impl Pool {
    /// Every provider with the reason why it is passed over at this moment, where it is.
    pub fn candidates(&self, now: Instant) -> impl Iterator<Item = (&str, Option<String>)> {
        let live = self.live(now);
        let members = self.members.iter().enumerate().map(move |(index, member)| {
            let peer = &member.peer;
            let (most, own) = (self.most(member), member.most());
            let why = match open(peer, now) {
                Some(why) if !live.usable.get(index).is_some_and(|usable| *usable) => Some(why),
                _ if peer.load() >= most && most < own => Some(format!(
                    "it has {} calls in flight, and the limit that was found for it is {most}",
                    peer.load()
                )),
                _ if peer.load() >= most => Some(format!("it has {most} calls in flight, as many as it may")),
                _ if live.weight_of(index) == 0 => Some("its data centre is not that of this host".into()),
                _ => None,
            };
            (peer.address.as_str(), why)
        });
        let held = |given_up| match given_up {
            true => "the registry lost it with many others, and it was not reached since",
            false => "the registry lost it with many others: it is for when nobody else is left",
        };
        let held = self.held.iter().map(move |(peer, given_up)| {
            let given_up = given_up.load(std::sync::atomic::Ordering::Relaxed);
            (peer.address.as_str(), Some(held(given_up).to_owned()))
        });
        let left_out = self.left_out.iter();
        let left_out = left_out.map(|(address, why)| (address.as_str(), Some((*why).to_owned())));
        members.chain(held).chain(left_out)
    }
}

fn open(peer: &Peer, now: Instant) -> Option<String> {
    let (cause, next) = match peer.state() {
        State::Closed => return None,
        State::Open { cause, until } => {
            let left = until.saturating_duration_since(now).as_millis();
            (cause, format!("the next call tries it in {left}ms"))
        }
        State::HalfOpen { cause } => (cause, "one call is trying it now".into()),
    };
    let why = match cause {
        Cause::Consecutive => "it failed again and again",
        Cause::Rate => "too many calls to it failed",
        Cause::Active => "its health check fails",
    };
    Some(format!("its circuit is open, as {why}; {next}"))
}

/// Why a provider is none of those that a pool picks from, where it isn't.
pub(super) fn left_out(provider: &Provider, in_zone: bool) -> Option<&'static str> {
    match provider.state {
        // beside the members as a last resort
        _ if provider.held => None,
        Switch::Off => Some("its state is off"),
        Switch::Drain => Some("its state is drain"),
        Switch::On if provider.weight == 0 => Some("its weight is 0"),
        Switch::On if !in_zone => Some("its idc is not that of this host, and zone is only"),
        Switch::On => None,
    }
}
