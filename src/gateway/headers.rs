//! Headers that are for this sidecar or for one connection, and those that pass.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Who calls.
pub(super) static CALLER: HeaderName = HeaderName::from_static("x-caller");
/// Its key.
pub(super) static KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The time it has left, in milliseconds.
pub(super) static DEADLINE: HeaderName = HeaderName::from_static("x-deadline-ms");
/// It wants to be told how its call went.
pub(super) static EXPLAIN: HeaderName = HeaderName::from_static("x-remora-explain");

/// What described the caller's body.
static OF_THE_BODY: [HeaderName; 7] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    HeaderName::from_static("hostname"),
    header::TRAILER,
];

/// Leaves of a request's headers what is for its provider.
pub(super) fn to_provider(headers: &mut HeaderMap) {
    end_to_end(headers);
    one_caller(headers);
}

/// Leaves the name that was checked, where a caller gives several.
fn one_caller(headers: &mut HeaderMap) {
    let mut names = headers.get_all(&CALLER).iter();
    if let (Some(first), Some(_)) = (names.next().cloned(), names.next()) {
        headers.insert(&CALLER, first);
    }
}

/// Removes what holds for one connection only, what was meant for this sidecar, and keys.
pub(super) fn end_to_end(headers: &mut HeaderMap) {
    // most heads have one such header or none: one look finds out, a removal by name each would cost more
    let Some(mut found) = headers.keys().find(|name| is_one_hop(name)).cloned() else { return };
    remove_named(headers);
    let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    loop {
        headers.remove(&found);
        match headers.keys().find(|name| is_one_hop(name)) {
            Some(next) => found = next.clone(),
            None => break,
        }
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes what `Connection` says is for this connection.
fn remove_named(headers: &mut HeaderMap) {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    let stays = [header::CONTENT_LENGTH, header::HOST];
    // `close` and `keep-alive` name no header that anybody sends
    let names = names.filter(|name| !name.eq_ignore_ascii_case("close"));
    let named: Vec<_> = names.filter_map(|name| HeaderName::try_from(name).ok()).collect();
    for name in named.iter().filter(|name| !stays.contains(name)) {
        headers.remove(name);
    }
}

fn is_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "http2-settings"
            | "x-api-key"
            | "x-remora-explain"
    )
}

/// Removes what described the caller's body.
pub(super) fn without_body_headers(headers: &mut HeaderMap) {
    for name in &OF_THE_BODY {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(given: &[(&'static str, &'static str)]) -> Vec<String> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in given.iter().map(pair) {
            headers.append(name, value);
        }
        end_to_end(&mut headers);
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn what_is_for_one_connection_or_for_the_sidecar_does_not_pass() {
        let given = [
            ("host", "a"),
            ("connection", "X-One, close"),
            ("connection", "x-two,host,content-length"),
            ("keep-alive", "timeout=5"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("content-length", "0"),
            ("x-api-key", "secret"),
            ("x-api-key", "another"),
            ("x-remora-explain", "1"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
        ];
        let mut left = left(&given);
        left.sort_unstable();
        assert_eq!(left, ["content-length: 0", "host: a", "x-three: 3"]);
    }

    #[test]
    fn of_several_callers_the_one_that_was_checked_passes() {
        let mut headers = HeaderMap::new();
        one_caller(&mut headers);
        assert!(headers.is_empty());
        for name in ["web", "root", "admin"] {
            headers.append(&CALLER, HeaderValue::from_static(name));
            one_caller(&mut headers);
            assert_eq!(headers.get_all(&CALLER).iter().collect::<Vec<_>>(), ["web"]);
        }
    }

    #[test]
    fn who_takes_trailers_is_told_on() {
        assert_eq!(left(&[("te", "trailers"), ("x-a", "1")]), ["x-a: 1", "te: trailers"]);
        assert_eq!(left(&[("te", "gzip"), ("x-a", "1")]), ["x-a: 1"]);
    }

    #[test]
    fn without_such_headers_all_stay_in_their_order() {
        let given = [("host", "a"), ("x-b", "1"), ("accept", "*/*"), ("x-a", "2")];
        assert_eq!(left(&given), ["host: a", "x-b: 1", "accept: */*", "x-a: 2"]);
    }
}
