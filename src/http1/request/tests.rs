use super::*;

type Seen = (String, Vec<(String, String)>, Vec<u8>, Vec<String>, bool);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads requests that come in pieces of `size` bytes until the bytes are at their end, or are refused.
fn read(bytes: &[u8], size: usize) -> (Vec<Seen>, Result<(), Refused>) {
    let (mut reader, mut pieces, mut seen) = (Reader::default(), bytes.chunks(size), Vec::new());
    loop {
        let head = loop {
            match reader.head() {
                Ok(Some(head)) => break head,
                Ok(None) => match pieces.next() {
                    Some(piece) => reader.push(Bytes::copy_from_slice(piece)),
                    None => return (seen, reader.ended_in_head()),
                },
                Err(refused) => return (seen, Err(refused)),
            }
        };
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        loop {
            match reader.part() {
                Ok(Part::Data(data)) => body.extend_from_slice(&data),
                Ok(Part::Trailers(map)) => trailers.extend(map.values().map(|value| text(value.as_bytes()))),
                Ok(Part::End) => break,
                Ok(Part::More) => match pieces.next() {
                    Some(piece) => reader.push(Bytes::copy_from_slice(piece)),
                    None => return (seen, Err(Refused::NotHttp("cut in its body".into()))),
                },
                Err(bad) => return (seen, Err(Refused::Malformed(bad.why().into()))),
            }
        }
        let line = format!("{} {} HTTP/1.{}", head.method, head.uri, u8::from(!head.is_old));
        let headers = head.headers.iter().map(|(name, value)| (text(name), text(value)));
        seen.push((line, headers.collect(), body, trailers, reader.keeps_alive()));
    }
}

/// The same, however the bytes come.
fn any(bytes: &str) -> (Vec<Seen>, Result<(), Refused>) {
    let whole = read(bytes.as_bytes(), usize::MAX);
    for size in 1..bytes.len() {
        assert_eq!(read(bytes.as_bytes(), size), whole, "{bytes:?} in pieces of {size}");
    }
    whole
}

fn refused(bytes: &str) -> Refused {
    let (seen, end) = any(bytes);
    assert!(seen.is_empty(), "{seen:?}");
    end.unwrap_err()
}

fn malformed(bytes: &str) -> String {
    match refused(bytes) {
        Refused::Malformed(why) => why,
        other @ (Refused::TooLarge(_) | Refused::NotHttp(_)) => {
            panic!("{other:?} for {bytes:?}")
        }
    }
}

fn not_http(bytes: &str) -> String {
    match refused(bytes) {
        Refused::NotHttp(why) => why,
        other @ (Refused::TooLarge(_) | Refused::Malformed(_)) => {
            panic!("{other:?} for {bytes:?}")
        }
    }
}

#[test]
fn requests_follow_each_other_on_a_connection() {
    let (seen, end) = any("POST /a?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n\
         PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 294\r\n\r\n\
         GET http://user/x HTTP/1.0\r\n\r\nDELETE /last HTTP/1.1\nConnection: Close\n\n");
    assert_eq!(end, Ok(()));
    let lines: Vec<_> =
        seen.iter().map(|(line, _, body, _, keeps)| (line.as_str(), &body[..], *keeps)).collect();
    assert_eq!(
        lines,
        [
            ("POST /a?x=1 HTTP/1.1", &b"hello"[..], true),
            ("PUT / HTTP/1.1", b"abc", true),
            ("GET http://user/x HTTP/1.0", b"", false),
            ("DELETE /last HTTP/1.1", b"", false),
        ]
    );
    assert_eq!(seen[0].1, [("Host".into(), "a".into()), ("Content-Length".into(), "5".into())]);
    assert_eq!(seen[1].3, ["294"]);
}

#[test]
fn of_two_lengths_the_chunks_hold_and_the_connection_ends() {
    let (seen, _) =
        any("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(seen[0].1, [("Transfer-Encoding".into(), "chunked".into())]);
    assert!(!seen[0].4);
    let (seen, _) = any("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1, 1\r\n\r\nx");
    assert_eq!((&seen[0].1[..], seen[0].4), (&[("content-length".into(), "1".into())][..], true));
}

#[test]
fn lengths_that_are_none_are_refused() {
    for length in ["many", "-1", "+1", "1 1", "0x1", "", "99999999999999999999", "1, 2"] {
        let why = malformed(&format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\nx"));
        assert_eq!(why, format!("its Content-Length is {length:?}"));
    }
    let coded = |coding: &str, version: &str| {
        malformed(&format!("POST / HTTP/{version}\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"))
    };
    for coding in ["gzip", "chunked, gzip", "gzip, chunked", "chunked, chunked", "xchunked", ""] {
        let why = format!("its Transfer-Encoding is not \"chunked\" alone, but begins \"{coding}\"");
        assert_eq!(coded(coding, "1.1"), why);
    }
    let twice = coded("chunked\r\nTransfer-Encoding: chunked", "1.1");
    assert_eq!(twice, "its Transfer-Encoding is there more than once");
    assert_eq!(coded("chunked", "1.0"), "its version is 1.0, and it has a Transfer-Encoding");
}

#[test]
fn a_line_that_only_some_programs_read_is_refused_and_only_its_name_is_shown() {
    for (line, shown) in [
        ("Content-Length : 14", "Content-Length "),
        ("Transfer-Encoding\t: chunked", "Transfer-Encoding\\t"),
        ("X-Api-Key : secret", "X-Api-Key "),
        ("X-Api-Key: sec\u{1}ret", "X-Api-Key"),
        ("Content-Length: 7\u{1}", "Content-Length"),
        (" Transfer-Encoding: chunked", " Transfer-Encoding"),
        ("X-Caller\u{b}: web", "X-Caller\\x0b"),
        ("X-A: 1\r\n and more of it", " and more of it"),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
        let why = malformed(&head);
        assert!(why.starts_with(&format!("its line \"{shown}…\" is no header")), "{why}");
        // it is the fault of its own request only
        let (seen, end) = any(&format!("GET / HTTP/1.1\r\nA: 1\r\n\r\n{head}"));
        assert!(seen.len() == 1 && matches!(end, Err(Refused::Malformed(_))), "{end:?}");
    }
    let body = "\nContent-Length : 7\n";
    let (seen, end) = any(&format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!((seen.len(), end), (1, Ok(())), "a body may say what it likes");
    // old Yar clients send the second
    let (seen, _) =
        any("GET / HTTP/1.1\r\nno colon here\r\nHostname: \u{1}\u{2}\r\nX-Odd : 1\r\nHost: a\r\n\r\n");
    assert_eq!(seen[0].1, [("Host".into(), "a".into())]);
}

#[test]
fn a_blank_in_a_url_is_told_as_such() {
    let why = malformed("GET /user/get?q=a b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(why, "its URL has a blank; encode it as %20 (rawurlencode, http_build_query)");
}

#[test]
fn what_is_no_request_is_refused() {
    for bytes in ["GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02", "GET /\u{0} HTTP/1.1\r\n\r\n"]
    {
        not_http(bytes);
    }
    assert_eq!(not_http("GET / HTTP/9.9\r\nHost: a"), "invalid HTTP version", "the rest never comes");
    assert_eq!(not_http("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "invalid HTTP version");
}

#[test]
fn what_is_wrong_with_the_first_line_is_told_once_all_of_it_is_there() {
    for before in ["", "\r\n", "\n\r\n\n"] {
        let why = malformed(&format!("{before}GET /user/get?q=a b HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(why.starts_with("its URL has a blank"), "{why}");
    }
}

#[test]
fn a_head_too_large_is_refused_when_that_is_certain() {
    let long = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(MAX_HEAD));
    let too_long = Refused::TooLarge("the request's head has more than 65536 bytes".into());
    assert_eq!(read(long.as_bytes(), 1000).1, Err(too_long));
    let head = |headers: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: 1\r\n".repeat(headers));
    let too_many = Refused::TooLarge("the request has more than 100 headers".into());
    assert_eq!(read(head(MAX_HEADERS + 1).as_bytes(), 50).1, Err(too_many));
    assert_eq!(read(head(MAX_HEADERS).as_bytes(), 50).0.len(), 1);
}
