use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::Waker;

use super::*;

/// Frames that come one after the other.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Takes so many bytes at once, of one place or of several.
struct Narrow(usize, Vec<u8>);

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let taken = data.get(..self.0).unwrap_or(data);
        self.1.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = data.iter().flat_map(|one| one.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What is written of these frames behind the head `"head:"`, `width` bytes at once.
fn written(
    framing: Framing,
    frames: &[Bytes],
    trailers: Option<HeaderMap>,
    width: usize,
) -> Result<Vec<u8>, &'static str> {
    let data = frames.iter().cloned().map(Frame::data);
    let mut body = Frames(data.chain(trailers.map(Frame::trailers)).collect());
    let (mut writer, mut stream) = (Writer::new(b"head:".to_vec(), framing), Narrow(width, Vec::new()));
    match writer.poll(&mut Context::from_waker(Waker::noop()), &mut body, &mut stream) {
        Poll::Ready(Ok(())) => Ok(stream.1),
        Poll::Ready(Err(Stuck::Length)) => Err("length"),
        Poll::Ready(Err(Stuck::Connection | Stuck::Body(_))) | Poll::Pending => Err("other"),
    }
}

const SIZES: [usize; 7] = [0, 1, COPIED - 1, COPIED, COPIED + 1, GATHERED, 100_000];

#[test]
fn frames_of_every_size_are_written_in_their_order_however_little_is_taken_at_once() {
    for (first, second) in SIZES.into_iter().flat_map(|first| SIZES.map(|second| (first, second))) {
        let frames = [Bytes::from(vec![b'a'; first]), Bytes::from(vec![b'b'; second])];
        let plain = [&b"head:"[..], &frames[0], &frames[1]].concat();
        let chunk = |frame: &Bytes| match frame.len() {
            0 => Vec::new(),
            length => [format!("{length:x}\r\n").as_bytes(), frame, b"\r\n"].concat(),
        };
        let chunks = [&b"head:"[..], &chunk(&frames[0]), &chunk(&frames[1]), b"0\r\n\r\n"].concat();
        for width in [1000, COPIED + 7, usize::MAX] {
            let length = Framing::Length((first + second) as u64);
            let seen = [length, Framing::ToTheEnd, Framing::Chunks(Vec::new())]
                .map(|framing| written(framing, &frames, None, width).unwrap());
            assert!(seen == [&plain[..], &plain, &chunks], "{first} and {second}, {width} at once");
        }
    }
}

#[test]
fn a_body_that_is_not_as_long_as_was_told_is_none() {
    let frames = [Bytes::from_static(b"12345")];
    for told in [0, 4, 6] {
        assert_eq!(written(Framing::Length(told), &frames, None, 9), Err("length"), "{told}");
    }
}

#[test]
fn trailers_pass_that_were_told_of_and_belong_to_no_head() {
    let mut trailers = HeaderMap::new();
    for name in [
        "x-sum",
        "x-other",
        "content-length",
        "connection",
        "keep-alive",
        "x-api-key",
        "x-caller",
        "x_caller",
    ] {
        trailers.insert(name, "1".parse().unwrap());
    }
    let mut told = Headers::default();
    told.push("trailer", "X-Sum, Content-Length, Connection, Keep-Alive, X-Api-Key, X-Caller, X_Caller");
    let seen = written(Framing::chunks(&told), &[Bytes::from_static(b"a")], Some(trailers.clone()), 3);
    assert_eq!(seen.unwrap(), b"head:1\r\na\r\n0\r\nx-sum: 1\r\n\r\n");
    let seen = written(Framing::Length(1), &[Bytes::from_static(b"a")], Some(trailers), 3);
    assert_eq!(seen.unwrap(), b"head:a");
}

#[test]
fn a_whole_body_is_written_behind_its_head() {
    for size in SIZES {
        let mut writer = Writer::whole(b"head:".to_vec(), vec![b'a'; size].into());
        let (mut stream, mut none) = (Narrow(5000, Vec::new()), Frames(VecDeque::new()));
        assert!(writer.is_fresh());
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(writer.poll(cx, &mut none, &mut stream), Poll::Ready(Ok(()))));
        assert!(stream.1.starts_with(b"head:") && stream.1.len() == size + 5 && !writer.is_fresh());
    }
}
