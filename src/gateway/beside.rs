//! Conversions that would keep a worker's thread from its other calls.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::upstream::budget::Share;

/// Most bytes that are converted on the worker's own thread: about two milliseconds.
const SHORT: usize = 128 << 10;

/// Does `work` on a body of `bytes`: at once, or for a long body on a thread of its own, with `with` copied to it.
///
/// A call that is over waits no longer, and gives up what has not begun.
pub(super) async fn convert<C, T>(
    share: &Share,
    with: &C,
    bytes: usize,
    work: impl FnOnce(&C) -> T + Send + 'static,
) -> T
where
    C: Clone + Send + 'static,
    T: Send + 'static,
{
    if bytes <= SHORT {
        return work(with);
    }
    let (lane, with) = (share.lane().await, with.clone());
    let mut beside = JoinSet::new();
    beside.spawn_blocking(move || {
        let _lane = lane;
        work(&with)
    });
    match beside.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(end)) if end.is_panic() => std::panic::resume_unwind(end.into_panic()),
        // the runtime is at its end, and this call with it
        Some(Err(_)) | None => std::future::pending().await,
    }
}

/// As [`convert`]; `None`: a long body's work had not ended `until` then.
pub(super) async fn convert_by<T: Send + 'static>(
    until: Instant,
    share: &Share,
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if bytes <= SHORT {
        return Some(work());
    }
    tokio::time::timeout_at(until.into(), convert(share, &(), bytes, |()| work())).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Budget;
    use std::sync::mpsc;
    use std::time::Duration;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_long_conversion_lets_the_other_calls_of_its_thread_run() {
        let share = Budget::new(0, 1).share();
        let (tell, told) = mpsc::channel();
        let long = convert(&share, &"a", SHORT + 1, move |with| (*with, told.recv().unwrap()));
        // done on this thread, it would wait for what comes after it
        let both = runtime().block_on(async { tokio::join!(long, async { tell.send("b").unwrap() }).0 });
        assert_eq!(both, ("a", "b"));
    }

    #[test]
    fn a_short_conversion_stays_on_its_thread() {
        let share = Budget::new(0, 1).share();
        let here = std::thread::current().id();
        let done = convert(&share, &(), SHORT, |()| std::thread::current().id());
        assert_eq!(runtime().block_on(done), here);
    }

    #[test]
    fn a_call_that_is_out_of_time_waits_for_no_conversion_and_begins_none() {
        let budget = Budget::new(0, 1);
        let (share, other) = (budget.share(), budget.share());
        let (tell, told) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        let soon = Duration::from_millis(1);
        runtime().block_on(async {
            let (runs, running) = tokio::sync::oneshot::channel();
            let endless = convert(&share, &(), SHORT + 1, move |()| runs.send(()).map(|()| told.recv()));
            // given up once it runs: what has not begun would give its lane back
            tokio::select! { _ = endless => unreachable!("nothing is told"), begun = running => begun.unwrap() }
            let waiting = convert(&other, &(), SHORT + 1, move |()| began.send(()));
            assert!(tokio::time::timeout(soon, waiting).await.is_err());
            drop(tell);
            // its lane is free again with the work, not with the call
            convert(&share, &(), SHORT + 1, |()| ()).await;
        });
        assert!(begun.recv().is_err());
    }
}
