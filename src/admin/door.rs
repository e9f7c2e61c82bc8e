//! The door of operators and probes: whoever doesn't read or says nothing must not keep others out.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::Page;
use crate::socket::{Listener, Stream, pause_after, stopped};

/// For a request's head, and for an idle connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection on which no byte moves either way for so long is closed; the slowest page takes less.
const STILL: Duration = Duration::from_secs(20);
/// Pages are made for this many connections at once; one more takes the seat of the one still for the longest.
const MAX_CONNECTIONS: usize = 64;

/// Serves what `answer` makes of each request until `stop`.
pub(super) async fn serve<A, F>(listener: Listener, answer: A, mut stop: watch::Receiver<bool>)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Page> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut seats = Seats { taken: Vec::new(), since: Instant::now() };
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    let moved = seats.make_room();
                    let task = connections.spawn(connection(answer.clone(), stream, moved.clone()));
                    seats.taken.push((task, moved));
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
}

/// Who is connected, and when a byte last moved there.
struct Seats {
    taken: Vec<(AbortHandle, Arc<Moved>)>,
    since: Instant,
}

impl Seats {
    /// Frees the seat of the connection that is still for the longest, where none is free.
    fn make_room(&mut self) -> Arc<Moved> {
        self.taken.retain(|(task, _)| !task.is_finished());
        let stillest = self.taken.iter().enumerate().min_by_key(|(_, (_, moved))| moved.at.load(Relaxed));
        if let Some(stillest) = stillest.map(|(at, _)| at).filter(|_| self.taken.len() >= MAX_CONNECTIONS) {
            self.taken.swap_remove(stillest).0.abort();
        }
        let moved = Arc::new(Moved { since: self.since, at: AtomicU64::new(0) });
        moved.now();
        moved
    }
}

/// When a byte last moved on a connection.
#[derive(Debug)]
struct Moved {
    since: Instant,
    /// In microseconds from then.
    at: AtomicU64,
}

impl Moved {
    fn now(&self) {
        self.at.store(self.since.elapsed().as_micros() as u64, Relaxed);
    }

    /// Waits until nothing has moved for too long.
    async fn no_more(&self) {
        loop {
            let end = self.since + Duration::from_micros(self.at.load(Relaxed)) + STILL;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

async fn connection<A, F>(answer: A, stream: Stream, moved: Arc<Moved>)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Page>,
{
    let service = service_fn(|request| {
        let page = answer(request);
        async move { Ok::<_, Infallible>(page.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(Watched { stream, moved: moved.clone() }), service);
    tokio::select! {
        // who went away needs no page
        _ = served => {}
        () = moved.no_more() => {}
    }
}

/// A connection that notes when bytes move.
struct Watched {
    stream: Stream,
    moved: Arc<Moved>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.moved.now();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data));
        self.moved.now();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bind;
    use crate::socket;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// A door whose every page is this large, and its address.
    fn door(size: usize) -> (String, watch::Sender<bool>) {
        let bind = Bind::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = socket::bind(&bind, 1).unwrap().pop().unwrap();
        let address = socket::address(&bound, &bind);
        let (stop, stopped) = watch::channel(false);
        let answer = move |_| async move { Page::new(vec![b'x'; size].into()) };
        tokio::spawn(serve(Listener::adopt(bound).unwrap(), answer, stopped));
        (address, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_its_page_or_never_ends_its_request_is_closed() {
        let (address, _stop) = door(64 << 20);
        for request in ["GET / HTTP/1.1\r\n\r\n", "GET / HT", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
        {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let begun = Instant::now();
            // nothing is read until the door has had time to close
            tokio::time::sleep(2 * STILL).await;
            let read = stream.read_to_end(&mut Vec::new()).await;
            assert!(read.map_or(true, |bytes| bytes < 64 << 20), "{request}");
            assert!(begun.elapsed() < 3 * STILL, "{request}");
        }
    }
}
