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
fn lines(status: u16, told: &[(&'static str, &str)], body: Option<u64>, asked: Asked) -> (String, bool) {
    let mut response = Response::new(Sized(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in told {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    let (head, _, stays) = head(&response, asked, true, Instant::now());
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
    let response = Response::new(Sized(Some(1)));
    let begins =
        |asked, with: &str| head(&response, asked, true, Instant::now()).0.starts_with(with.as_bytes());
    assert!(begins(OLD, "HTTP/1.0 200 OK\r\n") && begins(NEW, "HTTP/1.1 200 OK\r\n"));
    let (head, framing, stays) = head(&response, NEW, false, Instant::now());
    assert!(String::from_utf8(head).unwrap().contains("\r\nconnection: close\r\n"));
    assert!(!stays && matches!(framing, Framing::Length(1)));
}

#[test]
fn the_date_is_of_the_second_and_the_providers_own_if_it_told_one() {
    let mut response = Response::new(Sized(Some(1)));
    let dates = |response: &Response<Sized>, now| -> Vec<String> {
        let (head, ..) = head(response, NEW, true, now);
        let text = String::from_utf8(head).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("date: ").map(str::to_owned)).collect()
    };
    let (before, now) = (SystemTime::now(), Instant::now());
    let [told] = &dates(&response, now)[..] else { panic!("one date") };
    let told = httpdate::parse_http_date(told).unwrap();
    assert!(told <= SystemTime::now() && told + Duration::from_secs(2) > before, "{told:?}, {before:?}");
    let long_after = now + Duration::from_secs(3600);
    assert_eq!(dates(&response, long_after).len(), 1);
    response.headers_mut().insert(header::DATE, "Tue, 15 Nov 1994 08:12:31 GMT".parse().unwrap());
    assert_eq!(dates(&response, now), ["Tue, 15 Nov 1994 08:12:31 GMT"]);
}
