//! How many bytes of bodies are held at once because they have to be converted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use proto_adapters::yar::HEAD;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::Broken;
use crate::config::part_of_one;
use crate::error::{CallError, NoRoom, Whose};
use crate::limits::Part;

/// The bytes all workers together may hold.
#[derive(Debug)]
pub struct Budget {
    most: u64,
    held: AtomicU64,
    /// Long conversions at once,
    lanes: Arc<Semaphore>,
    /// and those of one service.
    lanes_of_one: usize,
    /// What calls hold whose service isn't there.
    strays: Arc<Part>,
}

/// What one call holds of it, and of its service's part once that is known; given back on drop.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    part: Option<Arc<Part>>,
    bytes: u64,
}

/// A long conversion's places: in its service's line, and among all.
pub type Lane = [Option<OwnedSemaphorePermit>; 2];

impl Budget {
    /// Room for `most` bytes, and for `lanes` long conversions at once.
    pub fn new(most: u64, lanes: usize) -> Arc<Self> {
        let lanes_of_one = (part_of_one(lanes as u64) as usize).max(1);
        let (held, lanes) = (AtomicU64::new(0), Arc::new(Semaphore::new(lanes)));
        Arc::new(Self { most, held, lanes, lanes_of_one, strays: Arc::new(Part::of_none()) })
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// The most that one service may hold: its part, or one body of its largest size.
    pub fn most_of(&self, part: &Part) -> u64 {
        let largest = part.largest().saturating_add(HEAD as u64).min(self.most);
        part_of_one(self.most).max(largest)
    }

    /// The part of all calls together whose service isn't there.
    pub fn strays(&self) -> &Arc<Part> {
        &self.strays
    }

    /// Nothing yet, for one call.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), part: None, bytes: 0 }
    }
}

impl Share {
    /// From now on its bytes, those held already too, are a service's, whosever they were before; fails where
    /// they are too many for it.
    pub fn belong(&mut self, part: &Arc<Part>) -> Result<(), Broken> {
        let former = match &self.part {
            Some(former) if Arc::ptr_eq(former, part) => return Ok(()),
            _ => self.part.replace(part.clone()),
        };
        former.iter().for_each(|former| former.shrink(self.bytes));
        // what is held is dropped and counted out with the share, also where it is too much
        self.bounded(part.grow(self.bytes) + self.bytes)
    }

    /// Takes room for `bytes` more; fails with the whole budget where that, or its service's part, is used up.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Broken> {
        let (bytes, most) = (bytes as u64, self.budget.most);
        let all = self.budget.held.fetch_add(bytes, Relaxed) + bytes;
        // counted in either case: what is dropped is counted out
        self.bytes += bytes;
        let own = self.part.as_ref().map_or(0, |part| part.grow(bytes) + bytes);
        if all > most { Err(Broken::NoRoom(most)) } else { self.bounded(own) }
    }

    fn bounded(&self, own: u64) -> Result<(), Broken> {
        match &self.part {
            Some(part) if own > self.budget.most_of(part) => Err(Broken::NoRoom(self.budget.most)),
            Some(_) | None => Ok(()),
        }
    }

    /// Most bytes that `held` ones of it may become.
    pub fn room(&self, held: usize) -> usize {
        let free = self.free().min(self.budget.most.saturating_sub(self.budget.held()));
        usize::try_from(free).unwrap_or(usize::MAX).saturating_add(held)
    }

    /// What its service may take yet.
    fn free(&self) -> u64 {
        let free = |part: &Arc<Part>| self.budget.most_of(part).saturating_sub(part.held());
        self.part.as_ref().map_or(u64::MAX, free)
    }

    /// Holds `into` bytes in place of `from`; fails as [`Self::grow`] does.
    pub fn turn(&mut self, from: usize, into: usize) -> Result<(), Broken> {
        if let Some(more) = into.checked_sub(from) {
            return self.grow(more);
        }
        let less = self.bytes.min((from - into) as u64);
        self.bytes -= less;
        self.give_back(less);
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        self.budget.held.fetch_sub(bytes, Relaxed);
        self.part.iter().for_each(|part| part.shrink(bytes));
    }

    /// The same error; where there was no room, with whose room that is.
    pub fn tells(&self, mut error: CallError) -> CallError {
        if let CallError::NoRoom(lack) | CallError::Unheld(lack) = &mut error {
            *lack = self.lack();
        }
        error
    }

    /// Which of the two bounds is the nearer one.
    fn lack(&self) -> NoRoom {
        let (whole, left) = (self.budget.most, self.budget.most.saturating_sub(self.budget.held()));
        match &self.part {
            Some(part) if self.budget.most_of(part) < whole && self.free() <= left => NoRoom {
                whose: part.service().map_or(Whose::Strays, |service| Whose::Service(service.to_string())),
                held: part.held().saturating_sub(self.bytes),
                most: self.budget.most_of(part),
            },
            Some(_) | None => NoRoom { whose: Whose::All, held: whole, most: whole },
        }
    }
}

impl Share {
    /// Nothing yet, of the same budget and part.
    pub fn another(&self) -> Self {
        Self { budget: self.budget.clone(), part: self.part.clone(), bytes: 0 }
    }

    /// Holds what `other`, another of the same call, holds too.
    pub fn join(&mut self, mut other: Self) {
        let bytes = std::mem::take(&mut other.bytes);
        match (&self.part, other.part.take()) {
            (None, Some(part)) => {
                part.grow(self.bytes);
                self.part = Some(part);
            }
            (Some(part), None) => _ = part.grow(bytes),
            (Some(own), Some(part)) if !Arc::ptr_eq(own, &part) => {
                // a service that went and came back meanwhile, or one that was misread, has another part
                part.shrink(bytes);
                own.grow(bytes);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        self.bytes += bytes;
    }

    /// Waits until a long conversion may begin; it is over when what this gives is dropped.
    pub async fn lane(&self) -> Lane {
        // its service's own line first: who waits there keeps no lane from another service
        let own = match &self.part {
            Some(part) => part.lanes(self.budget.lanes_of_one).acquire_owned().await.ok(),
            None => None,
        };
        // nobody closes either
        [own, self.budget.lanes.clone().acquire_owned().await.ok()]
    }

    /// The bytes, with all that is held so far given back when the last of them is dropped.
    pub fn leave_with(&mut self, bytes: Bytes) -> Bytes {
        if self.bytes == 0 {
            return bytes;
        }
        let share = std::mem::replace(self, self.budget.share());
        Bytes::from_owner(Held { bytes, _share: share })
    }
}

/// Bytes on their way out, and the room they take.
struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let budget = Budget::new(10, 1);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert_eq!(one.grow(6), Ok(()));
        assert_eq!(other.grow(4), Ok(()));
        assert_eq!(one.grow(1), Err(Broken::NoRoom(10)));
        drop(one);
        assert_eq!(budget.held(), 4);
        assert_eq!(other.grow(6), Ok(()));
        assert_eq!((other.room(6), other.turn(6, 2)), (6, Ok(())));
        assert_eq!((other.room(2), budget.held()), (6, 6));
        assert_eq!((other.turn(2, 6), other.turn(6, 7)), (Ok(()), Err(Broken::NoRoom(10))));
        assert_eq!((other.turn(7, 6), budget.held()), (Ok(()), 10));
        let leaving = other.leave_with(Bytes::from_static(b"answer"));
        drop(other);
        assert_eq!((budget.held(), &leaving[..]), (10, &b"answer"[..]));
        drop(leaving);
        assert_eq!(budget.held(), 0);
    }

    fn part(name: &str, largest: u64) -> Arc<Part> {
        let part = Part::new(&crate::names::ServiceName::new(name).unwrap());
        part.takes(largest);
        Arc::new(part)
    }

    #[test]
    fn one_service_leaves_the_others_a_quarter() {
        let (budget, hung, other) = (Budget::new(1000, 4), part("hung", 10), part("other", 10));
        let (mut one, mut two, mut third) = (budget.share(), budget.share(), budget.share());
        one.grow(500).unwrap();
        assert_eq!((one.belong(&hung), two.belong(&hung), third.belong(&other)), (Ok(()), Ok(()), Ok(())));
        assert_eq!((two.room(0), third.room(0)), (250, 500));
        assert_eq!(two.grow(251), Err(Broken::NoRoom(1000)));
        let lack = NoRoom { whose: Whose::Service("hung".into()), held: 500, most: 750 };
        let error = two.tells(CallError::NoRoom(NoRoom::default()));
        assert_eq!(error, CallError::NoRoom(lack));
        drop(two);
        assert_eq!(third.grow(400), Ok(()));
        let mut more = third.another();
        assert_eq!(more.grow(200), Err(Broken::NoRoom(1000)));
        let whole = NoRoom { whose: Whose::All, held: 1000, most: 1000 };
        assert_eq!(more.tells(CallError::NoRoom(NoRoom::default())), CallError::NoRoom(whole));
        drop((one, third, more));
        assert_eq!((budget.held(), hung.held(), other.held()), (0, 0, 0));
    }

    #[test]
    fn a_part_takes_one_body_of_the_largest_size_at_least() {
        let (budget, large, larger) = (Budget::new(1000, 1), part("large", 850), part("larger", 5000));
        assert_eq!((budget.most_of(&large), budget.most_of(&larger)), (940, 1000));
        let mut share = budget.share();
        share.belong(&large).unwrap();
        assert_eq!((share.grow(940), share.turn(940, 10), large.held()), (Ok(()), Ok(()), 10));
        let mut joined = budget.share();
        joined.grow(5).unwrap();
        joined.join(share);
        assert_eq!((large.held(), budget.held()), (15, 15));
        drop(joined);
        assert_eq!((large.held(), budget.held()), (0, 0));
    }

    #[test]
    fn what_was_held_for_another_service_moves_to_the_right_one() {
        let (budget, misread, right) = (Budget::new(1000, 1), part("misread", 10), part("right", 10));
        let held = || (misread.held(), right.held(), budget.held());
        let (mut call, mut attempt) = (budget.share(), budget.share());
        call.belong(&misread).unwrap();
        call.grow(100).unwrap();
        attempt.belong(&misread).unwrap();
        attempt.grow(20).unwrap();
        assert_eq!((call.belong(&right), held()), (Ok(()), (20, 100, 120)));
        assert_eq!((call.belong(&right), held()), (Ok(()), (20, 100, 120)), "once");
        call.join(attempt);
        assert_eq!(held(), (0, 120, 120));
        call.grow(600).unwrap();
        assert_eq!(call.belong(&misread), Ok(()));
        let mut more = budget.share();
        more.grow(100).unwrap();
        assert_eq!(more.belong(&misread), Err(Broken::NoRoom(1000)), "it is as bounded as any other");
        assert_eq!(more.belong(&right), Ok(()));
        assert_eq!(held(), (720, 100, 820));
        drop((call, more));
        assert_eq!(held(), (0, 0, 0));
    }

    #[tokio::test]
    async fn long_conversions_of_one_service_leave_a_lane_to_the_others() {
        let (budget, busy, other) = (Budget::new(100, 2), part("busy", 1), part("other", 1));
        let share = |part: &Arc<Part>| {
            let mut share = budget.share();
            share.belong(part).map(|()| share).unwrap()
        };
        let (first, next, others) = (share(&busy), share(&busy), share(&other));
        let running = first.lane().await;
        let mut waits = std::pin::pin!(next.lane());
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx).is_pending())).await
        );
        drop(others.lane().await);
        drop(running);
        waits.await;
    }
}
