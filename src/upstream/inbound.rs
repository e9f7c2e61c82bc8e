//! A caller's body on the wire, and how far it has come, for whoever runs out of time meanwhile.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::Frame;

use crate::http1::caller::{CallerBody, Unfinished};

/// A caller's body, still on the wire.
#[derive(Debug)]
pub struct Inbound {
    /// Frames that were read to tell Yar from HTTP.
    pub peeked: VecDeque<Bytes>,
    /// What came behind them, where that was the end.
    pub trailers: Option<Box<HeaderMap>>,
    /// The rest.
    pub rest: CallerBody,
    /// How far it has come, where somebody asked.
    pub upload: Option<Arc<Upload>>,
}

/// How far a caller's body has come.
#[derive(Debug)]
pub struct Upload {
    arrived: AtomicU64,
    length: Option<u64>,
    /// The next bytes are asked for, and not there.
    waits: AtomicBool,
    /// When bytes came last that had been waited for.
    came: Mutex<Option<Instant>>,
    /// It has come to its end.
    over: AtomicBool,
}

impl Inbound {
    /// How far it comes from now on; `None`: it is over.
    pub fn upload(&mut self) -> Option<Arc<Upload>> {
        if self.is_over() || self.upload.is_some() {
            return self.upload.clone();
        }
        let peeked = self.peeked.iter().map(|frame| frame.len() as u64).sum();
        let length = self.rest.size_hint().exact().map(|rest| rest + peeked);
        let upload = Arc::new(Upload::new(peeked, length));
        self.upload = Some(upload.clone());
        Some(upload)
    }

    /// The next frame of the rest.
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let frame = self.rest.poll_frame(cx);
        if let Some(upload) = &self.upload {
            upload.sees(&frame);
        }
        frame
    }

    /// All of it, where that is here, in one piece; then it is over.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        let is_here = self.rest.is_over() && self.trailers.is_none() && self.peeked.len() < 2;
        is_here.then(|| self.peeked.pop_front().unwrap_or_default())
    }

    /// Whether all of it was read.
    pub fn is_over(&self) -> bool {
        self.peeked.is_empty() && self.trailers.is_none() && self.rest.is_over()
    }
}

impl Upload {
    /// A body of which so many bytes have arrived, of so many if its length is known.
    fn new(arrived: u64, length: Option<u64>) -> Self {
        Self {
            arrived: AtomicU64::new(arrived),
            length,
            waits: AtomicBool::new(false),
            came: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// Its caller kept somebody waiting before.
    pub fn waits(&self) {
        self.waits.store(true, Relaxed);
    }

    /// What came when more of it was asked for.
    fn sees(&self, polled: &Poll<Option<Result<Frame<Bytes>, Unfinished>>>) {
        // what is there when it is asked for costs no look at the clock
        if self.waits.swap(polled.is_pending(), Relaxed) && polled.is_ready() {
            *self.came.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        if let Poll::Ready(Some(Ok(frame))) = polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.arrived.fetch_add(bytes as u64, Relaxed);
        }
    }

    /// All of it was read.
    pub(super) fn ends(&self) {
        self.over.store(true, Relaxed);
    }

    /// Whether all of it was read.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// When bytes came last that had been waited for; `None`: all were there when they were asked for.
    pub fn came(&self) -> Option<Instant> {
        *self.came.lock().unwrap_or_else(PoisonError::into_inner)
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
