//! Deadlines that cost little to set: one timer for all calls of a connection, left running from one to the next.

use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// The timer of one task.
///
/// To set one and take it back costs more than all else that a call waits for: here one that was set for an
/// earlier deadline rings, is found to be early, and is set again.
#[derive(Debug, Default)]
pub struct Alarm(Mutex<Option<Pin<Box<Sleep>>>>);

impl Alarm {
    /// Ready once it is `until`; the task that asks is woken then.
    pub fn poll(&self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = kept.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }

    /// What `future` gives; `None`: it was not done `until` then.
    pub async fn within<F: Future>(&self, until: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx, until).map(|()| None),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whether_earlier_or_later_than_the_last() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        for seconds in [5, 6, 60, 61, 61, 3600] {
            let until = start + Duration::from_secs(seconds);
            assert_eq!(alarm.within(until, pending::<()>()).await, None);
            let late = Instant::now() - until;
            assert!(late < Duration::from_millis(2), "{late:?} behind {seconds} s");
        }
        let begun = Instant::now();
        assert_eq!(alarm.within(begun + Duration::from_secs(60), async { 7 }).await, Some(7));
        let soon = begun + Duration::from_secs(1);
        assert_eq!(alarm.within(soon, pending::<()>()).await, None, "the one before was set for longer");
        assert!(Instant::now() < soon + Duration::from_millis(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_before_its_deadline_is_not_hurt_by_one_that_was_set_before() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        let short = tokio::time::sleep(Duration::from_secs(1));
        assert!(alarm.within(start + Duration::from_secs(2), short).await.is_some());
        let long = tokio::time::sleep(Duration::from_secs(10));
        assert!(alarm.within(start + Duration::from_secs(12), long).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_passed_gives_up_at_the_first_wait() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(alarm.within(start, pending::<()>()).await, None);
        assert_eq!(alarm.within(start, async { 1 }).await, Some(1));
    }
}
