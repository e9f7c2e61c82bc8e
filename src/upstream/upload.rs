//! How far a caller's body has come, for whoever ran out of time meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Poll;

use bytes::Bytes;
use hyper::body::Frame;

/// How far a caller's body has come.
#[derive(Debug)]
pub struct Upload {
    arrived: AtomicU64,
    length: Option<u64>,
    /// The next bytes are asked for, and not there.
    waits: AtomicBool,
}

impl Upload {
    /// A body of which so many bytes have arrived, of so many if its length is known.
    pub(super) fn new(arrived: u64, length: Option<u64>) -> Self {
        Self { arrived: AtomicU64::new(arrived), length, waits: AtomicBool::new(false) }
    }

    /// Its caller kept somebody waiting before.
    pub fn waits(&self) {
        self.waits.store(true, Relaxed);
    }

    /// What came when more of it was asked for.
    pub(super) fn sees(&self, polled: &Poll<Option<Result<Frame<Bytes>, hyper::Error>>>) {
        self.waits.store(polled.is_pending(), Relaxed);
        if let Poll::Ready(Some(Ok(frame))) = polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.arrived.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// How much of a body that is waited for has arrived; `None`: its caller keeps nobody waiting.
    pub fn stalled(&self) -> Option<String> {
        let arrived = self.arrived.load(Relaxed);
        self.waits.load(Relaxed).then(|| match self.length {
            Some(length) => format!("{arrived} of the body's {length} bytes arrived"),
            None => format!("{arrived} bytes of the body arrived, and not its end,"),
        })
    }
}
