use hyper::header::HeaderValue;

use super::*;
use crate::http1::MAX_HEAD;
use crate::http1::body::MAX_LINES;

type Seen = (u16, Vec<(String, String)>, Vec<u8>, Vec<String>, bool);

/// Reads an answer that comes in pieces of `size` bytes, and then ends: status, headers, body, trailers, keep-alive.
fn read(bytes: &[u8], size: usize, is_for_head: bool) -> Result<Seen, String> {
    let mut reader = Reader::new(is_for_head);
    let mut pieces = bytes.chunks(size);
    let head = loop {
        match reader.head().map_err(|NotHttp(why)| why)? {
            Some(head) => break head,
            None => match pieces.next() {
                Some(piece) => reader.push(Bytes::copy_from_slice(piece)),
                None => {
                    reader.ended_in_head().map_err(|NotHttp(why)| why)?;
                    return Err("cut in its head".into());
                }
            },
        }
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let pair = |(name, value): (&[u8], &[u8])| (text(name), text(value));
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    loop {
        match reader.part().map_err(|bad| bad.why())? {
            Part::Data(data) => body.extend_from_slice(&data),
            Part::Trailers(map) => trailers.extend(map.values().map(HeaderValue::as_bytes).map(text)),
            Part::End => break,
            Part::More => match pieces.next() {
                Some(piece) => reader.push(Bytes::copy_from_slice(piece)),
                None if reader.may_end() => break,
                None => return Err("cut in its body".into()),
            },
        }
    }
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
    }
    let headers = head.headers.iter().map(pair).collect();
    Ok((head.status.as_u16(), headers, body, trailers, reader.keeps_alive()))
}

/// The same, however the bytes come.
fn any(bytes: &str) -> Result<Seen, String> {
    let whole = read(bytes.as_bytes(), usize::MAX, false);
    for size in 1..bytes.len() {
        assert_eq!(read(bytes.as_bytes(), size, false), whole, "{bytes:?} in pieces of {size}");
    }
    whole
}

fn body(head: &str, body: &str) -> Result<(String, bool), String> {
    let (_, _, body, _, keeps) = any(&format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}"))?;
    Ok((String::from_utf8(body).unwrap(), keeps))
}

#[test]
fn a_body_ends_where_its_head_says() {
    let kept = |body: &str| Ok((body.to_owned(), true));
    assert_eq!(body("Content-Length: 5\r\n", "hello"), kept("hello"));
    assert_eq!(body("Content-Length: 0\r\n", ""), kept(""));
    assert_eq!(body("content-length: 5, 5\r\nContent-Length: 5\r\n", "hello"), kept("hello"));
    let chunks = "5;a=b\r\nhello\r\n1 \r\n,\r\nA\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(body("Transfer-Encoding: chunked\r\n", chunks), kept("hello,0123456789"));
    assert_eq!(body("", "to the end"), Ok(("to the end".into(), false)));
}

#[test]
fn a_coding_that_would_be_lost_is_refused() {
    for (coding, begins) in [
        ("gzip", "its Transfer-Encoding is not \"chunked\" alone, but begins \"gzip\""),
        ("gzip, chunked", "its Transfer-Encoding is not \"chunked\" alone, but begins \"gzip"),
        ("chunked\r\nTransfer-Encoding:", "its Transfer-Encoding is there more than once"),
    ] {
        let why = body(&format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n").unwrap_err();
        assert!(why.starts_with(begins), "{why}");
    }
}

#[test]
fn a_body_that_ends_early_is_cut() {
    for (head, begun) in [
        ("Content-Length: 5\r\n", "hell"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhell"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nx-a: 1\r\n"),
    ] {
        assert_eq!(body(head, begun), Err("cut in its body".into()), "{begun:?}");
    }
}

#[test]
fn chunks_that_are_none_are_refused() {
    let chunked = |chunks: &str| body("Transfer-Encoding: chunked\r\n", chunks).unwrap_err();
    for size in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+5\r\n",
        "5\n",
        "5 5\r\n",
        "5;a\nb\r\n",
        "11111111111111111\r\n",
        " 5\r\n",
    ] {
        assert_eq!(chunked(&format!("{size}hello\r\n0\r\n\r\n")), "a chunk's size can't be read", "{size:?}");
    }
    assert_eq!(chunked("5\r\nhello!\r\n0\r\n\r\n"), "a chunk is longer than its size");
    assert_eq!(chunked("0\r\nno trailer\r\n\r\n"), "its trailers can't be read");
    assert_eq!(chunked("5\r\nhello\n"), "a chunk is longer than its size");
    assert_eq!(chunked("0\r\n\rx"), "its last chunk has no end");
    assert_eq!(chunked("5\r\nhello\r\n0\r\n\n"), "its last chunk ends with a line feed alone");
    let long = format!("5;{}", "x".repeat(MAX_LINES));
    let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{long}");
    assert_eq!(read(bytes.as_bytes(), 1000, false).unwrap_err(), "a chunk's size can't be read");
    let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: {long}");
    assert_eq!(read(bytes.as_bytes(), 1000, false).unwrap_err(), "its trailers have more than 16 KiB");
}

#[test]
fn trailers_come_behind_the_last_chunk() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-One: 1\r\nx-two: 2\r\n\r\n";
    let (_, _, body, trailers, keeps) = any(chunked).unwrap();
    assert_eq!((body.as_slice(), trailers, keeps), (&b"a"[..], vec!["1".into(), "2".into()], true));
}

#[test]
fn lengths_that_are_none_or_two_are_refused() {
    for length in ["5, 6", "-5", "+5", "5x", "", "99999999999999999999", "0x5", "5;"] {
        let refused = body(&format!("Content-Length: {length}\r\n"), "hello").unwrap_err();
        assert_eq!(refused, format!("its Content-Length is {length:?}"));
    }
    body("Content-Length: 5\r\nContent-Length: 6\r\n", "hello").unwrap_err();
    let (_, headers, ..) =
        any("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").unwrap();
    assert_eq!(headers, [("Transfer-Encoding".into(), "chunked".into())], "whoever reads on sees one length");
    let (_, headers, ..) =
        any("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\nContent-Length: 1\r\n\r\na").unwrap();
    assert_eq!(headers, [("content-length".into(), "1".into())]);
    let old = any("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(old.unwrap_err(), "its version is 1.0, and it has a Transfer-Encoding");
}

#[test]
fn what_has_no_body_has_none_whatever_its_head_says() {
    for status in [204, 304] {
        let (seen, _, body, _, keeps) =
            any(&format!("HTTP/1.1 {status} \r\nContent-Length: 5\r\n\r\n")).unwrap();
        assert_eq!((seen, body.len(), keeps), (status, 0, true));
    }
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let (_, headers, body, _, keeps) = read(bytes, 7, true).unwrap();
    assert_eq!((body.len(), keeps), (0, true));
    assert_eq!(headers, [("Content-Length".into(), "5".into())]);
}

#[test]
fn a_length_that_is_none_is_not_told_on_where_nothing_is_read_by_it() {
    for (length, told) in [("5, 5", Some("5")), ("5, 6", None), ("-1", None), ("", None)] {
        let not_modified = format!("HTTP/1.1 304 \r\nContent-Length: {length}\r\n\r\n");
        let to_head = not_modified.replace("304", "200");
        for (bytes, is_for_head) in [(not_modified, false), (to_head, true)] {
            let (_, headers, .., keeps) = read(bytes.as_bytes(), usize::MAX, is_for_head).unwrap();
            let told: Vec<_> = told.iter().map(|told| ("content-length".into(), told.to_string())).collect();
            assert_eq!((headers, keeps), (told, true), "{length:?}");
        }
    }
}

#[test]
fn interim_answers_are_passed_over() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let (status, headers, body, ..) =
        any(&format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")).unwrap();
    assert_eq!((status, headers.len(), body.as_slice()), (200, 1, &b"a"[..]));
    assert_eq!(any(interim).unwrap_err(), "cut in its head");
    let (status, .., keeps) = any("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").unwrap();
    assert_eq!((status, keeps), (101, false));
}

#[test]
fn a_connection_stays_only_where_both_know_where_the_next_answer_begins() {
    let keeps = |version: &str, headers: &str, rest: &str| {
        let bytes = format!("HTTP/{version} 200 OK\r\nContent-Length: 1\r\n{headers}\r\na{rest}");
        read(bytes.as_bytes(), usize::MAX, false).unwrap().4
    };
    assert!(keeps("1.1", "", "") && keeps("1.0", "Connection: Keep-Alive\r\n", ""));
    assert!(!keeps("1.0", "", "") && !keeps("1.1", "Connection: close\r\n", ""));
    assert!(!keeps("1.1", "Connection: x, CLOSE\r\nConnection: keep-alive\r\n", ""));
    assert!(!keeps("1.1", "", "more than was asked for"));
}

#[test]
fn what_is_no_head_is_told_at_once_and_a_head_is_bounded() {
    for (bytes, why) in [
        ("SSH-2.0-OpenSSH_9\r\n", "invalid HTTP version"),
        ("HTTP/2 200\r\n\r\n", "invalid HTTP version"),
        ("HTTP/1.1 20 OK\r\n\r\n", "invalid response status"),
        ("HTTP/1.1 200 OK\r\na b\r\n\r\n", "invalid header name"),
        ("HTTP/1.1 200 OK\r\na: 1\r\n b\r\n\r\n", "invalid header name"),
        ("<html>", "invalid HTTP version"),
    ] {
        assert_eq!(any(bytes).unwrap_err(), why, "{bytes:?}");
    }
    assert_eq!(any("HTTP/1.1 200 OK\r\nContent-").unwrap_err(), "cut in its head");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: 1\r\n".repeat(MAX_HEADERS + 1));
    assert_eq!(read(many.as_bytes(), usize::MAX, false).unwrap_err(), "too many headers");
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(MAX_HEAD));
    assert_eq!(read(long.as_bytes(), 999, false).unwrap_err(), "its head has more than 65536 bytes");
}

#[test]
fn an_own_reason_is_kept() {
    let mut reader = Reader::new(false);
    reader.push(Bytes::from_static(b"HTTP/1.1 200 Fine\r\n\r\n"));
    let head = reader.head().unwrap().unwrap();
    assert_eq!(head.reason.as_deref(), Some("Fine"));
}
