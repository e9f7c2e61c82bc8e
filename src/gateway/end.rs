//! The end of a drain: calls that are still under way are given up, told so, and counted.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;

use tokio::sync::watch;

use crate::error::CallError;

/// What becomes of a call, which is given up where `is_up` says so while it waits for anything.
pub async fn unless_up<T>(
    is_up: impl Fn() -> bool,
    mut call: Pin<&mut impl Future<Output = Result<T, CallError>>>,
) -> Result<T, CallError> {
    poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() && is_up() { Poll::Ready(Err(CallError::Drained)) } else { polled }
    })
    .await
}

/// Whether time is up, and how many calls that cost; all workers share one.
#[derive(Debug)]
pub struct End {
    is_here: watch::Sender<bool>,
    given_up: AtomicU64,
}

impl Default for End {
    fn default() -> Self {
        Self { is_here: watch::Sender::new(false), given_up: AtomicU64::new(0) }
    }
}

impl End {
    /// Time is up.
    pub fn come(&self) {
        self.is_here.send_replace(true);
    }

    /// Waits until time is up.
    pub async fn comes(&self) {
        // its sender is `self`
        let _ = self.is_here.subscribe().wait_for(|here| *here).await;
    }

    /// Calls that were given up.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Relaxed)
    }

    /// Whether time is up; then a call was given up.
    pub(super) fn takes(&self) -> bool {
        let is_here = *self.is_here.borrow();
        self.given_up.fetch_add(is_here.into(), Relaxed);
        is_here
    }
}
