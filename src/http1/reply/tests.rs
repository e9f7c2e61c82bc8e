use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;

const NEW: Asked = Asked { is_head: false, is_old: false, takes_trailers: false };
const OLD: Asked = Asked { is_old: true, ..NEW };
const HEAD: Asked = Asked { is_head: true, ..NEW };

/// A body of which only its length is known, or not even that.
struct Sized(Option<u64>);

impl Body for Sized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The lines of a head behind its first, but for the date; and whether the connection stays.
fn lines(status: u16, told: &[(&str, &str)], body: Option<u64>, asked: Asked) -> (String, bool) {
    let mut headers = Headers::default();
    told.iter().for_each(|(name, value)| headers.push(name, value));
    let told = Head::new(StatusCode::from_u16(status).unwrap(), headers);
    let (head, _, stays) = head(&told, &Sized(body), asked, true, Instant::now());
    let text = String::from_utf8(head).unwrap();
    let lines = text.strip_suffix("\r\n\r\n").unwrap().split("\r\n").skip(1);
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("date: ")).collect();
    (lines.join(", "), stays)
}

#[test]
fn a_bodys_length_is_told_once_and_truly() {
    let length = [("content-length", "7"), ("x-a", "1")];
    let stays = |text: &str| (text.to_owned(), true);
    assert_eq!(lines(200, &length, Some(7), NEW), stays("x-a: 1, content-length: 7"));
    assert_eq!(lines(200, &[], Some(0), NEW), stays("content-length: 0"));
    assert_eq!(lines(200, &[("transfer-encoding", "x")], None, NEW), stays("transfer-encoding: chunked"));
    assert_eq!(lines(204, &length, Some(0), NEW), stays("x-a: 1"));
    assert_eq!(lines(304, &length, Some(0), NEW), stays("x-a: 1, content-length: 7"));
    assert_eq!(lines(304, &[], Some(0), NEW), stays(""));
}

#[test]
fn the_answer_to_a_head_tells_the_length_of_what_it_leaves_out() {
    assert_eq!(lines(200, &[("content-length", "7")], Some(0), HEAD).0, "content-length: 7");
    assert_eq!(lines(404, &[], Some(9), HEAD).0, "content-length: 9");
    assert_eq!(lines(200, &[], Some(0), HEAD).0, "", "a length that nobody told");
    assert_eq!(lines(200, &[], None, HEAD).0, "");
}

#[test]
fn an_old_caller_is_told_whether_the_connection_stays() {
    assert_eq!(lines(200, &[], Some(7), OLD), ("content-length: 7, connection: keep-alive".into(), true));
    assert_eq!(lines(200, &[], None, OLD), ("connection: close".into(), false));
    let (told, body) = (Head::new(StatusCode::OK, Headers::default()), Sized(Some(1)));
    let begins =
        |asked, with: &str| head(&told, &body, asked, true, Instant::now()).0.starts_with(with.as_bytes());
    assert!(begins(OLD, "HTTP/1.0 200 OK\r\n") && begins(NEW, "HTTP/1.1 200 OK\r\n"));
    let (head, framing, stays) = head(&told, &body, NEW, false, Instant::now());
    assert!(String::from_utf8(head).unwrap().contains("\r\nconnection: close\r\n"));
    assert!(!stays && matches!(framing, Framing::Length(1)));
}

#[test]
fn the_date_is_of_the_second_and_the_providers_own_if_it_told_one() {
    let mut told = Head::new(StatusCode::OK, Headers::default());
    let dates = |told: &Head, now| -> Vec<String> {
        let (head, ..) = head(told, &Sized(Some(1)), NEW, true, now);
        let text = String::from_utf8(head).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("date: ").map(str::to_owned)).collect()
    };
    let (before, now) = (SystemTime::now(), Instant::now());
    let [date] = &dates(&told, now)[..] else { panic!("one date") };
    let date = httpdate::parse_http_date(date).unwrap();
    assert!(date <= SystemTime::now() && date + Duration::from_secs(2) > before, "{date:?}, {before:?}");
    let long_after = now + Duration::from_secs(3600);
    assert_eq!(dates(&told, long_after).len(), 1);
    told.headers.push("date", "Tue, 15 Nov 1994 08:12:31 GMT");
    assert_eq!(dates(&told, now), ["Tue, 15 Nov 1994 08:12:31 GMT"]);
}
