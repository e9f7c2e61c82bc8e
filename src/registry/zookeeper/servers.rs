//! Which server is tried next, and how long it may stay silent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A server that was silent so lately is tried after the others.
const SILENT: Duration = Duration::from_secs(60);
/// One that is down and one that is slow look alike: at first none gets longer than this,
const PATIENCE: Duration = Duration::from_secs(2);
/// nor longer than this part of the session, which is to outlast several that are down.
const PART: u32 = 8;

pub(super) struct Servers {
    list: Vec<String>,
    silent: BTreeMap<String, Instant>,
    /// The one whose connection broke last.
    left: Option<String>,
    /// Rounds in a row without a connection in which one was silent.
    rounds: u32,
}

impl Servers {
    pub(super) fn new<'s>(list: impl Iterator<Item = &'s str>) -> Self {
        let list = list.map(str::to_owned).collect();
        Self { list, silent: BTreeMap::new(), left: None, rounds: 0 }
    }

    /// All, each once: at random, but those last that are least likely to answer.
    pub(super) fn in_order(&self, now: Instant) -> Vec<String> {
        let silent = |server: &String| self.silent.get(server).is_some_and(|since| now < *since + SILENT);
        let mut order = self.list.clone();
        fastrand::shuffle(&mut order);
        order.sort_by_key(|server| (silent(server), self.left.as_ref() == Some(server)));
        order
    }

    /// How long one server may take to open a session of this timeout: longer with every round, since
    /// servers that are slow never get done if all their clients turn away too early.
    pub(super) fn patience(&self, session_timeout: Duration) -> Duration {
        let first = PATIENCE.min(session_timeout / PART);
        (first * (1 << self.rounds.min(5))).min(session_timeout * 2 / 5)
    }

    pub(super) fn answered(&mut self, server: &str) {
        self.silent.remove(server);
        self.rounds = 0;
    }

    pub(super) fn silent(&mut self, server: String, now: Instant) {
        self.silent.insert(server, now);
    }

    /// A round ended without a connection.
    pub(super) fn round(&mut self, one_was_silent: bool) {
        self.rounds = if one_was_silent { self.rounds + 1 } else { 0 };
    }

    /// The connection to this one broke.
    pub(super) fn left(&mut self, server: String) {
        self.left = Some(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_that_was_lost_comes_after_the_others_and_silent_ones_after_it() {
        let now = Instant::now();
        for _ in 0..50 {
            let mut servers = Servers::new("a,b,c,d,e".split(','));
            servers.left("c".into());
            servers.silent("b".into(), now);
            let order = servers.in_order(now);
            assert_eq!((order.len(), &order[3..]), (5, &["c".to_owned(), "b".to_owned()][..]));
            assert_eq!(servers.in_order(now + SILENT)[4], "c", "silence is forgotten");
            servers.answered("b");
            assert_eq!(servers.in_order(now)[4], "c");
        }
    }

    #[test]
    fn patience_leaves_time_for_others_at_first_and_grows_for_slow_servers() {
        let mut servers = Servers::new("a,b".split(','));
        let second = Duration::from_secs(1);
        assert_eq!(servers.patience(8 * second), second);
        assert_eq!(servers.patience(40 * second), 2 * second);
        for expected in [4, 8, 16, 16] {
            servers.round(true);
            assert_eq!(servers.patience(40 * second), expected * second);
        }
        servers.round(false);
        assert_eq!(servers.patience(40 * second), 2 * second);
    }
}
