//! What becomes of a request's body while it streams, for whoever sends it again or asks whose fault it is.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::body::Broken;
use super::budget::Share;

/// A streamed request body is kept up to this size, in bytes, to be sent again.
const REPLAY: usize = 64 << 10;

/// What became of a streamed request body, seen from outside of the connection that sends it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Its next bytes are asked for, and not there.
    waits: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    whole: bool,
    /// Why it broke off, if it did.
    trouble: Option<Broken>,
    /// All that was read so far, where it is kept.
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The only frame, as long as there is no other,
    first: Bytes,
    /// or all of them: to keep small frames as they came would hold many times their bytes.
    gathered: Vec<u8>,
    share: Share,
}

impl Progress {
    /// Nothing was read yet; while it is small and fits into `keep`, it is kept there.
    pub(super) fn new(keep: Option<Share>) -> Self {
        let kept = keep.map(|share| Kept { first: Bytes::new(), gathered: Vec::new(), share });
        Self { seen: Mutex::new(Seen { kept, ..Seen::default() }), ..Self::default() }
    }

    /// Its next bytes were asked for; whether they are waited for.
    pub(super) fn wait(&self, waits: bool) {
        self.waits.store(waits, Relaxed);
    }

    /// It broke off, or is over its limit.
    pub(super) fn breaks(&self, why: Broken) {
        self.seen().trouble.get_or_insert(why);
    }

    /// Why the caller's side of the body failed, if it did.
    pub fn trouble(&self) -> Option<Broken> {
        self.seen().trouble
    }

    /// Whether the caller keeps whoever sends it waiting.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Relaxed)
    }

    /// The whole body, if all of it was read and kept.
    pub(super) fn replay(&self) -> Option<Bytes> {
        let seen = self.seen();
        let kept = seen.kept.as_ref().filter(|_| seen.whole)?;
        Some(if kept.gathered.is_empty() {
            kept.first.clone()
        } else {
            Bytes::copy_from_slice(&kept.gathered)
        })
    }

    /// Takes a copy of what was read, where it is kept.
    pub(super) fn keep(&self, data: &Bytes) {
        let mut seen = self.seen();
        let Some(kept) = &mut seen.kept else { return };
        let before = kept.first.len().max(kept.gathered.len());
        if before + data.len() > REPLAY || kept.share.grow(data.len()).is_err() {
            seen.kept = None;
        } else if before == 0 {
            kept.first = data.clone();
        } else {
            if kept.gathered.is_empty() {
                kept.gathered.extend_from_slice(&kept.first);
            }
            kept.gathered.extend_from_slice(data);
        }
    }

    /// All of it was read.
    pub(super) fn end(&self, with_trailers: bool) {
        let mut seen = self.seen();
        seen.whole = true;
        if with_trailers {
            // nothing sends them again
            seen.kept = None;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
