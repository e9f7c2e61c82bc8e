//! A caller's connection in HTTP/1: one request after the other, each answered before the next is read.

use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::Instant;

use super::caller::Here;
use super::http::{self, Reply};
use super::{Begun, HEAD_PATIENCE, Known, LAST_LINGER, LAST_REQUESTS, LINGER, TELLING, linger, refusal};
use crate::alarm::Alarm;
use crate::gateway::{Ending, Worker};
use crate::http1::caller::{BodyEnd, CallerLine};
use crate::http1::reply::{self, Asked};
use crate::http1::request::{Head, Refused};
use crate::http1::writer::{Stuck, Writer};
use crate::socket::{Stream, stopped};
use crate::upstream::body::Broken;

/// One connection, as its calls see it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: Arc<Worker>,
    pub(super) line: Arc<CallerLine>,
    /// For all that is waited for here.
    pub(super) alarm: Arc<Alarm>,
    pub(super) here: Here,
    /// The process ends: what is under way is answered, and nothing follows it.
    stops: AtomicBool,
    /// It ends now: the call under way is given up.
    is_up: AtomicBool,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nobody waits for anything.
    Quiet,
    /// More comes than is answered: it is read away, so that the answer arrives.
    Unread,
    /// An answer broke off: its end must not look like one.
    Broken,
}

/// What came of waiting for something.
enum Waited<T> {
    Done(T),
    /// The caller went away meanwhile.
    Gone,
    /// The process ends now.
    TimeUp,
}

/// Serves one connection until it ends; after `stop`, until the call under way is answered.
pub(super) async fn serve(
    worker: Arc<Worker>,
    stream: Stream,
    begun: Begun,
    known: Known,
    mut stop: watch::Receiver<bool>,
) {
    let Begun { bytes, until, alarm } = begun;
    let here = Here { local: known.local, vouched: known.vouched };
    let first = bytes.get(..TELLING).unwrap_or(&bytes).to_vec();
    let line = CallerLine::new(stream, bytes);
    let (stops, is_up) = (AtomicBool::new(false), AtomicBool::new(false));
    let connection = Connection { worker, line, alarm, here, stops, is_up };
    let began = stop.clone();
    let over = pin!(async {
        stopped(&mut stop).await;
        connection.stops.store(true, Relaxed);
        connection.worker.end.comes().await;
    });
    let mut over = Over { over, began, has_begun: &connection.stops, is_known: false };
    let end = connection.run(until, &first, Pin::new(&mut over)).await;
    if let Some(stream) = connection.line.take() {
        close(stream, end, connection.stops()).await;
    }
}

async fn close(stream: Stream, end: End, stops: bool) {
    match end {
        End::Quiet => {}
        End::Unread => linger(stream, if stops { LAST_LINGER } else { LINGER }).await,
        End::Broken => stream.abort(),
    }
}

impl Connection {
    fn stops(&self) -> bool {
        self.stops.load(Relaxed)
    }

    /// Whether the call under way is given up.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Relaxed)
    }

    /// Answers its requests until there are no more; the first head is waited for `until` then.
    async fn run(&self, until: Instant, first: &[u8], mut over: Pin<&mut impl Future<Output = ()>>) -> End {
        let (mut until, mut is_first) = (Some(until), true);
        loop {
            let head = match self.head(until.take(), over.as_mut()).await {
                Ok(Some(head)) => head,
                Ok(None) => return End::Quiet,
                Err(refused) => return self.refuse(&refused, is_first.then_some(first), over).await,
            };
            let asked = Asked::by(&head, self.line.takes_trailers());
            let response = match self.answer(head, over.as_mut()).await {
                Waited::Done(response) => response,
                Waited::Gone => return End::Quiet,
                Waited::TimeUp => return End::Broken,
            };
            if self.is_up() {
                return Box::pin(self.give_up(response, asked)).await;
            }
            let stays = match self.tell(response, asked, over.as_mut()).await {
                Ok(stays) => stays,
                Err(end) => return end,
            };
            match self.body_end(over.as_mut()).await {
                Some(BodyEnd::Over) if stays => is_first = false,
                Some(BodyEnd::Over) if !self.says_more().await => return End::Quiet,
                Some(BodyEnd::Over | BodyEnd::Left) | None => return End::Unread,
            }
        }
    }

    /// The next request's head; `None`: none comes.
    async fn head(
        &self,
        mut until: Option<Instant>,
        mut over: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Arc<Head>>, Refused> {
        let mut is_last = false;
        poll_fn(|cx| {
            if let Poll::Ready(head) = self.line.poll_head(cx) {
                return Poll::Ready(head);
            }
            if over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            let until = until.get_or_insert_with(|| Instant::now() + HEAD_PATIENCE);
            if !is_last && self.stops() {
                // what is on its way is served
                (is_last, *until) = (true, (*until).min(Instant::now() + LAST_REQUESTS));
            }
            ready!(self.alarm.poll(cx, *until));
            if !is_last && self.line.is_in_head() {
                refusal::late_head(&self.worker);
            }
            Poll::Ready(Ok(None))
        })
        .await
    }

    /// What follows can't be read: what came before it is all that is answered.
    async fn refuse(
        &self,
        refused: &Refused,
        first: Option<&[u8]>,
        over: Pin<&mut impl Future<Output = ()>>,
    ) -> End {
        let response = refusal::no_request(&self.worker, refused, first);
        let asked = Asked { is_head: false, is_old: false, takes_trailers: false };
        let told = self.tell(response, asked, over).await;
        told.err().unwrap_or(End::Unread)
    }

    /// Carries a call. A caller that leaves takes its call with it.
    async fn answer(&self, head: Arc<Head>, mut over: Pin<&mut impl Future<Output = ()>>) -> Waited<Reply> {
        let mut call = pin!(http::answer(self, head));
        poll_fn(|cx| {
            if let Poll::Ready(response) = call.as_mut().poll(cx) {
                return Poll::Ready(Waited::Done(response));
            }
            let end = self.poll_end(cx, over.as_mut());
            if !matches!(end, Poll::Ready(Waited::TimeUp)) {
                return end;
            }
            // the call itself says so: who asked, and by which id it is logged
            self.is_up.store(true, Relaxed);
            match call.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Waited::Done(response)),
                Poll::Pending => end,
            }
        })
        .await
    }

    /// Tells what is known when time is up, as long as there is time for that.
    async fn give_up(&self, response: Reply, asked: Asked) -> End {
        let never = pin!(pending());
        match tokio::time::timeout(LAST_LINGER, self.tell(response, asked, never)).await {
            Ok(Ok(_)) => End::Unread,
            Ok(Err(end)) => end,
            Err(_) => End::Broken,
        }
    }

    fn poll_end<T>(&self, cx: &mut Context<'_>, over: Pin<&mut impl Future<Output = ()>>) -> Poll<Waited<T>> {
        if self.line.poll_gone(cx).is_ready() {
            return Poll::Ready(Waited::Gone);
        }
        over.poll(cx).map(|()| Waited::TimeUp)
    }

    /// Writes an answer; whether another request may follow.
    async fn tell(
        &self,
        response: Reply,
        asked: Asked,
        mut over: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, End> {
        let may_stay = !self.stops() && !response.body.closes;
        let may_stay = may_stay && poll_fn(|cx| Poll::Ready(self.line.stays(cx))).await;
        let Reply { head, mut body, made } = response;
        let (text, framing, stays) = reply::head(&head, &body, asked, may_stay, made);
        // it shares its bytes with the beginning of the body, which may be long on its way
        drop(head);
        let mut writer = Writer::new(text, framing);
        let (mut outlet, patience) = (Outlet { line: &self.line, since: None }, body.patience);
        let written = poll_fn(|cx| {
            if let Poll::Ready(written) = writer.poll(cx, &mut body, &mut outlet) {
                return Poll::Ready(Waited::Done(written.map_err(Some)));
            }
            if let Some(since) = outlet.since
                && self.alarm.poll(cx, since + patience).is_ready()
            {
                return Poll::Ready(Waited::Done(Err(None)));
            }
            self.poll_end(cx, over.as_mut())
        });
        let why = match written.await {
            Waited::Done(Ok(())) => {
                body.finish(Ending::Whole);
                return Ok(stays);
            }
            Waited::Gone | Waited::TimeUp | Waited::Done(Err(Some(Stuck::Connection))) => {
                return Err(End::Broken);
            }
            Waited::Done(Err(None)) => {
                body.finish(Ending::Untaken(patience));
                return Err(End::Broken);
            }
            Waited::Done(Err(Some(Stuck::Body(why)))) => why,
            Waited::Done(Err(Some(Stuck::Length))) => Broken::Provider,
        };
        // as long as nothing of the answer has left, there is time to say so
        match writer.is_fresh().then(|| http::broken(&mut body, why)).flatten() {
            Some(response) => {
                drop(body);
                Box::pin(self.tell(response, asked, over)).await
            }
            None => {
                body.finish(Ending::Broken(why));
                Err(End::Broken)
            }
        }
    }

    /// Whether the caller sent more than is answered: to close on that would reset what it has not read yet.
    async fn says_more(&self) -> bool {
        poll_fn(|cx| Poll::Ready(self.line.says_more(cx))).await
    }

    /// What became of the request's body; `None`: the process ends first.
    async fn body_end(&self, mut over: Pin<&mut impl Future<Output = ()>>) -> Option<BodyEnd> {
        poll_fn(|cx| match self.line.poll_body_end(cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending => over.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

/// The end of the process, asked about only once it has begun: it is looked for at every wait of every call.
struct Over<'o, F> {
    over: Pin<&'o mut F>,
    /// Changes when it begins,
    began: watch::Receiver<bool>,
    /// unless it had before.
    has_begun: &'o AtomicBool,
    /// It knows whom to wake.
    is_known: bool,
}

impl<F: Future<Output = ()>> Future for Over<'_, F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let has_begun = self.has_begun.load(Relaxed) || !matches!(self.began.has_changed(), Ok(false));
        if self.is_known && !has_begun {
            return Poll::Pending;
        }
        self.is_known = true;
        self.over.as_mut().poll(cx)
    }
}

/// Where an answer is written, and since when its caller takes nothing of it.
struct Outlet<'l> {
    line: &'l CallerLine,
    since: Option<Instant>,
}

impl AsyncWrite for Outlet<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.line.poll_write(cx, data);
        self.since = polled.is_pending().then(|| self.since.unwrap_or_else(Instant::now));
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
