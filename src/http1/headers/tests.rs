use super::*;

/// Headers of a head, and others that were added.
fn made(head: &str, added: &[(&str, &str)]) -> Headers {
    let mut room = [httparse::EMPTY_HEADER; 20];
    let httparse::Status::Complete((used, found)) =
        httparse::parse_headers(head.as_bytes(), &mut room).unwrap()
    else {
        panic!("{head:?} is no head")
    };
    let mut seen = 0;
    let mut headers = Headers::found(head.as_bytes(), found, 1, |_, _| seen += 1);
    assert_eq!(seen, headers.iter().count());
    headers.stand_in(Bytes::copy_from_slice(&head.as_bytes()[..used]));
    added.iter().for_each(|(name, value)| headers.push(name, value));
    headers
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn written(headers: &Headers, passes: impl FnMut(Known) -> bool) -> String {
    let mut out = Vec::new();
    headers.write(&mut out, passes);
    text(&out)
}

const HEAD: &str = "X-B: 1\r\nHost:a:80\r\nx-b:\t Two  \r\nX-Empty:\r\nDate: now\r\nAccept: *\n\r\n";

#[test]
fn all_are_found_in_their_order_and_by_names_in_any_case() {
    let headers = made(HEAD, &[("x-added", "3")]);
    let seen: Vec<_> =
        headers.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
    assert_eq!(seen, ["X-B=1", "Host=a:80", "x-b=Two", "X-Empty=", "Date=now", "Accept=*", "x-added=3"]);
    assert_eq!(headers.get_all("x-B").map(text).collect::<Vec<_>>(), ["1", "Two"]);
    assert_eq!((headers.text("host"), headers.get("x-empty")), (Some("a:80"), Some(&b""[..])));
    assert_eq!((headers.get("x"), headers.has("X-ADDED")), (None, true));
    assert_eq!(headers.all(Known::Host).collect::<Vec<_>>(), [b"a:80"]);
    assert_eq!(headers.known().map(|(known, _)| known).collect::<Vec<_>>(), [Known::Host, Known::Date]);
}

#[test]
fn what_passes_is_written_line_by_line_however_it_stood_there() {
    let headers = made(HEAD, &[("x-added", "3"), ("host", "b"), ("x-more", "4")]);
    let head = "X-B: 1\r\nHost: a:80\r\nx-b: Two\r\nX-Empty: \r\nDate: now\r\nAccept: *\r\n";
    let all = format!("{head}x-added: 3\r\nhost: b\r\nx-more: 4\r\n");
    assert_eq!(written(&headers, |_| true), all);
    let some = all.replace("Host: a:80\r\n", "").replace("host: b\r\n", "");
    assert_eq!(written(&headers, |known| known != Known::Host), some);
    assert_eq!(written(&headers, |known| known == Known::Date), "Date: now\r\n");
    assert_eq!(written(&Headers::default(), |_| true), "");
    assert_eq!(written(&made("A: 1\r\nB: 2\r\nC: 3\r\n\r\n", &[]), |_| true), "A: 1\r\nB: 2\r\nC: 3\r\n");
}

#[test]
fn one_that_is_set_stands_alone_and_behind_the_others() {
    let mut headers = made("X-B: 1\r\nHost: a\r\nx-b: 2\r\n\r\n", &[("x-b", "3")]);
    headers.set("x-b", "4");
    assert_eq!(written(&headers, |_| true), "Host: a\r\nx-b: 4\r\n");
    assert!(headers.remove("host") && !headers.remove("host"));
    headers.retain(|known, name| (known, name) != (Known::Other, b"x-b"));
    assert!(headers.iter().next().is_none() && written(&headers, |_| true).is_empty());
}

#[test]
fn no_value_begins_another_header() {
    let headers = made("\r\n", &[("x-a", "1\r\nx-b: 2\n\u{7f}\u{1}\té"), ("x-c", "3")]);
    assert_eq!(written(&headers, |_| true), "x-a: 1  x-b: 2   \té\r\nx-c: 3\r\n");
}

#[test]
fn values_are_not_shown_where_somebody_debugs() {
    assert_eq!(format!("{:?}", made("X-Api-Key: secret\r\n\r\n", &[])), "[\"X-Api-Key\"]");
}

#[test]
fn what_is_for_one_connection_or_for_the_sidecar_is_known_by_any_name_that_php_reads_alike() {
    let one_hop = [
        "connection",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-api-key",
        "x_api-key",
        "x.api_key",
        "x_caller",
        "x.caller",
        "x-remora-explain",
    ];
    for name in one_hop {
        assert!(Known::of(name.as_bytes()).is_one_hop(), "{name}");
        assert!(Known::of(name.to_uppercase().as_bytes()).is_one_hop(), "{name} in capitals");
        assert_eq!(Known::of(format!("{name}s").as_bytes()), Known::Other);
    }
    let passes = [
        ("x-caller", Known::Caller),
        ("content-length", Known::ContentLength),
        ("date", Known::Date),
        ("x-deadline-ms", Known::Deadline),
        ("host", Known::Host),
        ("accept", Known::Other),
        ("", Known::Other),
    ];
    for (name, known) in passes {
        assert_eq!([name.into(), name.to_uppercase()].map(|name| Known::of(name.as_bytes())), [known; 2]);
        assert!(!known.is_one_hop(), "{name}");
    }
}
