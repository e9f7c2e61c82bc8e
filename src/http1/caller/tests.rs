use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Wake;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

/// A task that was woken, or was not.
#[derive(Default)]
struct Task(AtomicBool);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Task {
    /// Asks something as this task.
    fn asks<T>(self: &Arc<Self>, ask: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        ask(&mut Context::from_waker(&self.clone().into()))
    }

    async fn is_woken(&self) {
        let woken = async {
            while !self.0.swap(false, SeqCst) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), woken).await.expect("nobody wakes it");
    }
}

#[tokio::test]
async fn an_answer_and_a_body_that_is_read_beside_it_are_both_woken() {
    for said in [0, 9] {
        let (mut caller, stream) = UnixStream::pair().unwrap();
        stream.writable().await.unwrap();
        let mut full = 0;
        while let Ok(taken) = stream.try_write(&[b'x'; 1024]) {
            full += taken;
        }
        let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let line = CallerLine::new(Stream::Unix(stream), head.to_vec());
        let (answers, reads) = (Arc::<Task>::default(), Arc::<Task>::default());
        assert!(answers.asks(|cx| line.poll_head(cx)).is_ready());
        let mut body = line.body(true);
        assert!(reads.asks(|cx| body.poll_frame(cx)).is_pending());
        // as if so much of it had been taken
        line.lock().interim = &CONTINUE[said..];

        let write = |cx: &mut Context<'_>| line.poll_write(cx, &[IoSlice::new(b"HTTP/1.1 200 OK\r\n\r\n")]);
        assert!(answers.asks(write).is_pending());
        assert!(reads.asks(|cx| body.poll_frame(cx)).is_pending());
        caller.read_exact(&mut vec![0; full]).await.unwrap();
        answers.is_woken().await;
        assert!(matches!(answers.asks(write), Poll::Ready(Ok(19))));

        caller.write_all(b"body").await.unwrap();
        reads.is_woken().await;
        let Poll::Ready(Some(Ok(frame))) = reads.asks(|cx| body.poll_frame(cx)) else { panic!("{body:?}") };
        assert_eq!(frame.into_data().unwrap(), "body");
        let mut seen = vec![0; if said == 0 { 19 } else { 19 + CONTINUE.len() - said }];
        caller.read_exact(&mut seen).await.unwrap();
        assert!(seen.ends_with(b"200 OK\r\n\r\n"));
    }
}

/// A connection whose caller has sent so much, with the caller's end.
fn line(sent: &[u8]) -> (UnixStream, Arc<CallerLine>) {
    let (caller, stream) = UnixStream::pair().unwrap();
    (caller, CallerLine::new(Stream::Unix(stream), sent.to_vec()))
}

#[tokio::test]
async fn who_serves_the_connection_is_woken_when_its_body_is_over_or_left() {
    let head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
    for (more, told) in [(&b"body"[..], BodyEnd::Over), (b"bo", BodyEnd::Left)] {
        let (mut caller, line) = line(head);
        let (serves, reads) = (Arc::<Task>::default(), Arc::<Task>::default());
        assert!(serves.asks(|cx| line.poll_head(cx)).is_ready());
        let mut body = line.body(false);
        assert!(reads.asks(|cx| body.poll_frame(cx)).is_pending());
        assert!(serves.asks(|cx| line.poll_body_end(cx)).is_pending());
        caller.write_all(more).await.unwrap();
        reads.is_woken().await;
        assert!(matches!(reads.asks(|cx| body.poll_frame(cx)), Poll::Ready(Some(Ok(_)))));
        drop(body);
        serves.is_woken().await;
        assert!(matches!(serves.asks(|cx| line.poll_body_end(cx)), Poll::Ready(end) if end == told));
    }
}

#[tokio::test]
async fn a_body_that_is_over_wakes_who_serves_the_connection_before_it_is_dropped() {
    let (mut caller, line) = line(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n");
    let serves = Arc::<Task>::default();
    assert!(serves.asks(|cx| line.poll_head(cx)).is_ready());
    let mut body = line.body(false);
    assert!(serves.asks(|cx| line.poll_gone(cx)).is_pending());
    caller.write_all(b"body").await.unwrap();
    let read = std::future::poll_fn(|cx| body.poll_frame(cx)).await;
    assert!(matches!(read, Some(Ok(_))) && body.is_over());
    // now it is the one to see the caller leave
    serves.is_woken().await;
    assert!(serves.asks(|cx| line.poll_gone(cx)).is_pending());
    drop(caller);
    serves.is_woken().await;
    assert!(serves.asks(|cx| line.poll_gone(cx)).is_ready());
}

#[tokio::test]
async fn empty_lines_between_requests_are_the_beginning_of_none() {
    for (sent, is_in_head) in [("", false), ("\r\n\n", false), ("\r\nG", true)] {
        let (_caller, line) = line(sent.as_bytes());
        assert!(Arc::<Task>::default().asks(|cx| line.poll_head(cx)).is_pending());
        assert_eq!(line.is_in_head(), is_in_head, "{sent:?}");
    }
}
