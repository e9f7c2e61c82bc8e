//! Raw Yar from callers, over TCP and unix sockets: bytes ↔ call and answer.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto_adapters::yar::{self, HEAD};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::{Begun, HEAD_PATIENCE, Known, LAST_REQUESTS, LINGER, linger};
use crate::alarm::Alarm;
use crate::error::CallError;
use crate::gateway::{self, Answer, Call, Ending, Handled, Target, Voice, Worker};
use crate::socket::{Stream, stopped};
use crate::upstream::budget::Share;

/// A caller that takes nothing of its answer for so long is given up, unless the call's policy says otherwise.
const STALL: Duration = Duration::from_secs(30);
/// Bytes of further requests that are read while one is carried.
const READ_AHEAD: usize = 64 << 10;
/// Bytes of a message that is larger than usual to have before its method is looked for.
const EARLY: usize = 4 << 10;
/// A payload above so many bytes is its service's while it comes, a smaller one once it is there.
const SMALL: u64 = 64 << 10;

/// A caller's connection.
struct Connection {
    worker: Arc<Worker>,
    stream: Stream,
    /// Requests that were not carried yet.
    requests: yar::Stream,
    known: Known,
    stop: watch::Receiver<bool>,
    /// For the deadlines of its calls.
    alarm: Arc<Alarm>,
}

/// A request, whole or, with the reason, as far as it was read.
struct Incoming {
    bytes: Bytes,
    trouble: Option<CallError>,
    share: Share,
    started: Instant,
}

/// Carries the calls of one connection, one after the other, until the caller or `stop` ends it.
pub(super) async fn serve(
    worker: Arc<Worker>,
    stream: Stream,
    begun: Begun,
    known: Known,
    stop: watch::Receiver<bool>,
) {
    let requests = yar::Stream::new(begun.seen());
    let mut connection = Connection { worker, stream, requests, known, stop, alarm: Arc::default() };
    while let Some(request) = connection.next().await {
        let is_last = request.trouble.is_some();
        if !connection.carry(request).await {
            return;
        }
        if is_last {
            // where the next message begins is not known, or its bytes are not wanted
            return linger(connection.stream, LINGER).await;
        }
    }
    // the caller may have closed first
    let _ = connection.stream.shutdown().await;
}

impl Connection {
    /// The next request; `None`: there is none, and nothing to answer.
    async fn next(&mut self) -> Option<Incoming> {
        let length = match self.head().await {
            Ok(length) => length?,
            Err(trouble) => return Some(self.troubled(trouble, Instant::now())),
        };
        let (started, mut share) = (Instant::now(), self.worker.buffers.share());
        let until = started + self.worker.defaults.timeout;
        let body = self.body(length, &mut share);
        let gathered = match tokio::time::timeout_at(until.into(), body).await {
            Ok(gathered) => gathered,
            Err(_) => Err(self.late(length)),
        };
        match gathered.and_then(|()| self.requests.take().map_err(malformed)) {
            Ok(message) => {
                let bytes = message.unwrap_or_default().into();
                Some(Incoming { bytes, trouble: None, share, started })
            }
            Err(trouble) => Some(self.troubled(trouble, started)),
        }
    }

    /// Waits for a message's head and gives the message's length; `None`: the connection is over.
    async fn head(&mut self) -> Result<Option<usize>, CallError> {
        let mut until = tokio::time::Instant::now() + HEAD_PATIENCE;
        let mut stopping = false;
        loop {
            if let Some(length) = self.requests.length().map_err(malformed)? {
                return Ok(Some(length));
            }
            let read = tokio::select! {
                biased;
                read = self.stream.read_buf(self.requests.room()) => read,
                () = stopped(&mut self.stop), if !stopping => {
                    stopping = true;
                    until = until.min(tokio::time::Instant::now() + LAST_REQUESTS);
                    continue;
                }
                () = tokio::time::sleep_until(until) => return Ok(None),
            };
            match (read, self.requests.ahead().len()) {
                (Err(_), _) | (Ok(0), 0) => return Ok(None),
                (Ok(0), have) => {
                    let reason = format!("the message ended after {have} of the {HEAD} bytes of its head");
                    return Err(CallError::CallerGone(reason));
                }
                (Ok(_), _) => {}
            }
        }
    }

    /// Reads until all `length` bytes of a message are there, held in `share`, or it is found too large.
    async fn body(&mut self, length: usize, share: &mut Share) -> Result<(), CallError> {
        let payload = (length - HEAD) as u64;
        let mut is_allowed = payload <= self.worker.defaults.max_body;
        let mut belongs = payload <= SMALL;
        let mut held = 0;
        loop {
            let have = self.requests.ahead().len().min(length);
            share.grow(have - held).map_err(|broken| share.tells(gateway::broken_body(broken, 0)))?;
            held = have;
            if !is_allowed && self.is_known(have >= length.min(EARLY)) {
                self.allow(payload).await?;
                is_allowed = true;
            }
            if !belongs && self.is_known(have >= length.min(EARLY)) {
                let part = self.worker.part(&self.target()).await;
                share.belong(&part).map_err(|broken| share.tells(gateway::broken_body(broken, 0)))?;
                belongs = true;
            }
            if have == length {
                return Ok(());
            }
            // an error is told as an end: there is nobody to tell more
            if self.stream.read_buf(self.requests.room()).await.unwrap_or(0) == 0 {
                let reason = format!("the message ended after {have} of its {length} bytes");
                return Err(CallError::CallerGone(reason));
            }
        }
    }

    /// Whether it is known which service a message is for: its method is there, or will not be looked for any `longer`.
    fn is_known(&self, longer: bool) -> bool {
        longer || yar::early_method(self.requests.ahead()).is_some()
    }

    /// Whether the service takes a payload that is over the usual limit.
    async fn allow(&self, payload: u64) -> Result<(), CallError> {
        let limit = self.worker.max_payload(&self.target()).await;
        if payload > limit { Err(CallError::TooLarge(limit)) } else { Ok(()) }
    }

    /// What is called, as far as that is there.
    fn target(&self) -> Target {
        let method = yar::early_method(self.requests.ahead()).unwrap_or_default();
        Target::of_method(&method, self.known.service.as_ref())
    }

    fn late(&self, length: usize) -> CallError {
        let (have, patience) = (self.requests.ahead().len(), self.worker.defaults.timeout.as_millis());
        CallError::MalformedRequest(format!(
            "{have} of the message's {length} bytes arrived within {patience}ms of its head"
        ))
    }

    /// What is there of a message that is not read on.
    fn troubled(&self, trouble: CallError, started: Instant) -> Incoming {
        let seen = self.requests.ahead();
        let bytes = Bytes::copy_from_slice(seen.get(..EARLY).unwrap_or(seen));
        Incoming { bytes, trouble: Some(trouble), share: self.worker.buffers.share(), started }
    }

    /// Carries one call and answers it; whether the caller still was there.
    async fn carry(&mut self, request: Incoming) -> bool {
        let Incoming { bytes, trouble, share, started } = request;
        let stays = yar::is_persistent(&bytes);
        let time = (started, self.worker.defaults.timeout);
        let mut call = Call::raw(bytes, trouble, share, self.known.service.as_ref(), time).await;
        call.vouched.clone_from(&self.known.vouched);
        call.alarm = self.alarm.clone();
        let worker = self.worker.clone();
        // boxed: an idle connection holds no room for a call
        let carried = Box::pin(gateway::handle(&worker, call));
        let handled = tokio::select! {
            biased;
            handled = carried => handled,
            () = self.gone(stays) => return false,
        };
        self.answer(handled).await.is_ok()
    }

    /// Waits until the caller has left. One that does not mean to stay ends its side behind its request.
    async fn gone(&mut self, stays: bool) {
        while self.requests.ahead().len() < READ_AHEAD {
            match self.stream.read_buf(self.requests.room()).await {
                Ok(0) if stays => return,
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return,
            }
        }
        self.stream.broken().await;
    }

    /// Writes the answer, at once where the socket takes it: PHP wants the whole header in its first read.
    async fn answer(&mut self, handled: Handled) -> io::Result<()> {
        let Handled { voice, result, mut record } = handled;
        let message = match (result, voice) {
            (Ok(Answer::Yar(message)), _) => message,
            (Err(error), Voice::Yar { packager, id }) => {
                yar::encode_exception(packager, id, &error.exception_of(record.id()))
            }
            // a raw call has the voice of Yar, and its answer is a message
            (Ok(Answer::Http(_) | Answer::Json(_)), _) | (Err(_), Voice::Http) => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        let message = record.leaves(message.into());
        let patience = record.idle_timeout();
        let patience = if patience.is_zero() { STALL } else { patience };
        let mut left = &*message;
        while !left.is_empty() {
            let written = tokio::time::timeout(patience, self.stream.write(left)).await;
            let Ok(written) = written else {
                record.ended(Ending::Untaken(patience));
                return Err(io::ErrorKind::TimedOut.into());
            };
            let written = written.inspect_err(|_| record.ended(Ending::CallerGone))?;
            record.sent(written);
            left = left.get(written..).unwrap_or_default();
        }
        record.ended(Ending::Whole);
        Ok(())
    }
}

fn malformed(fault: proto_adapters::Fault) -> CallError {
    CallError::MalformedRequest(fault.to_string())
}
