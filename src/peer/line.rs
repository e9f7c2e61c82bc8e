//! Lines before the peers of a service, for calls that found all of them full: first come, first served.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Relaxed, SeqCst},
    fence,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Board;

/// One line for each pool, as pools differ in their peers.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// In all of them; changed only with them locked.
    waiting: AtomicUsize,
    lines: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    by_pool: HashMap<usize, VecDeque<(u64, Arc<Notify>)>>,
    next: u64,
}

/// A place in a line; who drops it has left.
#[derive(Debug)]
pub struct Waiting {
    board: Arc<Board>,
    pool: usize,
    number: u64,
    turn: Arc<Notify>,
}

impl Lines {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// A place at a peer came free: the first of each line may look whether it is one of its peers.
    pub(super) fn call(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.lock().by_pool.values().filter_map(VecDeque::front).for_each(|(_, turn)| turn.notify_one());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// At the end of the line of `pool`, where fewer than `most` stand.
    pub(super) fn new(board: &Arc<Board>, pool: usize, most: usize) -> Option<Self> {
        let mut standing = board.lines.lock();
        let number = standing.next;
        let line = standing.by_pool.entry(pool).or_default();
        if line.len() >= most {
            return None;
        }
        let turn = Arc::new(Notify::new());
        if line.is_empty() {
            // a place that came free before anybody stood here was told to nobody
            turn.notify_one();
        }
        line.push_back((number, turn.clone()));
        standing.next += 1;
        board.lines.waiting.fetch_add(1, SeqCst);
        drop(standing);
        // whoever gives a place back from here on sees that somebody waits, or its place is seen
        fence(SeqCst);
        Some(Self { board: board.clone(), pool, number, turn })
    }

    /// Waits until it is the first in its line and a place may be free.
    pub async fn turn(&self) {
        self.turn.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut standing = self.board.lines.lock();
        let Some(line) = standing.by_pool.get_mut(&self.pool) else { return };
        let Some(at) = line.iter().position(|(number, _)| *number == self.number) else { return };
        line.remove(at);
        self.board.lines.waiting.fetch_sub(1, SeqCst);
        match line.front() {
            // two places may have come free at once, or it never heard of one
            Some((_, next)) if at == 0 => next.notify_one(),
            Some(_) => {}
            None => drop(standing.by_pool.remove(&self.pool)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Address;
    use crate::peer::Peer;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::{Duration, Instant};

    fn is_called(waiting: &Waiting) -> bool {
        let turn = pin!(waiting.turn());
        matches!(turn.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    #[test]
    fn the_first_of_each_line_is_called_for_a_place_given_back() {
        let board = Arc::new(Board::default());
        let now = Instant::now();
        let peer = Peer::new(Address::new("10.0.0.5:80").unwrap(), board.clone(), now, false);
        let place = peer.enter(now);
        let line = |pool| Waiting::new(&board, pool, 2).unwrap();
        let (first, second, other) = (line(1), line(1), line(2));
        assert!(Waiting::new(&board, 1, 2).is_none(), "the line is full");
        assert!(is_called(&first) && is_called(&other), "it looks once before it waits");
        assert!(!is_called(&first) && !is_called(&second));
        drop(place);
        assert!(is_called(&first) && is_called(&other) && !is_called(&second));
        drop(first);
        assert!(is_called(&second) && board.waiting() == 2);
        drop((second, other));
        assert_eq!((board.waiting(), board.lines.lock().by_pool.len()), (0, 0));
    }

    #[test]
    fn threads_at_once_lose_no_place_and_never_go_over_the_limit() {
        let (board, now) = (Arc::new(Board::default()), Instant::now());
        let peer = Peer::new(Address::new("10.0.0.5:80").unwrap(), board.clone(), now, false);
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (board, peer) = (&board, &peer);
                scope.spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    let enter = async || {
                        if let Some(place) = peer.try_enter(2, now) {
                            return place;
                        }
                        let waiting = Waiting::new(board, 1, usize::MAX).unwrap();
                        loop {
                            waiting.turn().await;
                            if let Some(place) = peer.try_enter(2, now) {
                                return place;
                            }
                        }
                    };
                    for turn in 0..2000 {
                        if turn % 7 == thread {
                            // leaves again, at about the time of its turn
                            drop(Waiting::new(board, 1, usize::MAX));
                        }
                        let place = async { tokio::time::timeout(Duration::from_secs(20), enter()).await };
                        let place = runtime.block_on(place).unwrap();
                        assert!(peer.load() <= 2);
                        std::thread::yield_now();
                        drop(place);
                    }
                });
            }
        });
        assert_eq!((peer.load(), board.waiting()), (0, 0));
    }
}
