//! Headers that are for this sidecar or for one connection, and those that pass.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::error::CallError;
use crate::http1::is_one_hop;

/// Who calls.
pub(super) static CALLER: HeaderName = HeaderName::from_static("x-caller");
/// Its key.
pub(super) static KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The time it has left, in milliseconds.
pub(super) static DEADLINE: HeaderName = HeaderName::from_static("x-deadline-ms");

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

/// What a request's headers tell this sidecar, found in one look: to ask for each by its name costs more than that.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Who calls,
    pub caller: Option<HeaderValue>,
    /// and its key; of several, each is the first.
    pub key: Option<HeaderValue>,
    /// Whether there is a deadline.
    pub has_deadline: bool,
    /// Whether the caller wants to be told how its call went, where it says so.
    explain: Option<bool>,
    /// Whether something holds for this connection only.
    has_one_hop: bool,
    has_callers: bool,
}

impl Said {
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "x-caller" if said.caller.is_none() => said.caller = Some(value.clone()),
                "x-caller" => said.has_callers = true,
                "x-api-key" if said.key.is_none() => said.key = Some(value.clone()),
                "x-api-key" => {}
                "x-deadline-ms" => said.has_deadline = true,
                "x-remora-explain" => _ = said.explain.get_or_insert(value == "1"),
                name => said.has_one_hop |= is_one_hop(name),
            }
        }
        said
    }

    /// Whether the caller wants to be told how its call went.
    pub(super) fn explain(&self) -> bool {
        self.explain == Some(true)
    }
}

/// The time that a caller's headers say it has left.
pub fn asked_patience(headers: &HeaderMap) -> Result<Option<Duration>, CallError> {
    let mut given = headers.get_all(&DEADLINE).iter();
    let Some(left) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        let twice = "X-Deadline-Ms is there twice, and only one can hold; send the milliseconds left once";
        return Err(CallError::MalformedRequest(twice.into()));
    }
    let digits =
        left.to_str().ok().filter(|left| !left.is_empty() && left.bytes().all(|b| b.is_ascii_digit()));
    let Some(digits) = digits else {
        let shown = left.as_bytes().get(..40).unwrap_or(left.as_bytes()).escape_ascii();
        return Err(CallError::MalformedRequest(format!(
            "X-Deadline-Ms \"{shown}\" is not the number of milliseconds left, 0 or more; leave it out for no deadline"
        )));
    };
    // what is no u64 is longer than any timeout
    Ok(Some(Duration::from_millis(digits.parse().unwrap_or(u64::MAX))))
}

/// Leaves of a request's headers, which `said` that, what is for its provider.
pub(super) fn to_provider(headers: &mut HeaderMap, said: &Said) {
    if said.key.is_some() {
        headers.remove(&KEY);
    }
    if said.has_one_hop || said.explain.is_some() {
        end_to_end(headers);
    }
    if said.has_callers {
        one_caller(headers);
    }
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
    let Some(mut found) = headers.keys().find(|name| is_one_hop(name.as_str())).cloned() else { return };
    remove_named(headers);
    loop {
        headers.remove(&found);
        match headers.keys().find(|name| is_one_hop(name.as_str())) {
            Some(next) => found = next.clone(),
            None => break,
        }
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
            ("x_caller", "root"),
            ("x.caller", "root"),
            ("x_api-key", "secret"),
            ("x.api_key", "secret"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
        ];
        let mut left = left(&given);
        left.sort_unstable();
        assert_eq!(left, ["content-length: 0", "host: a", "x-three: 3"]);
    }

    #[test]
    fn of_several_callers_and_keys_the_ones_that_were_checked_count() {
        let mut headers = HeaderMap::new();
        to_provider(&mut headers, &Said::by(&HeaderMap::new()));
        assert!(headers.is_empty());
        for (name, key) in [("web", "1"), ("root", "2"), ("admin", "3")] {
            headers.append(&CALLER, HeaderValue::from_static(name));
            headers.append(&KEY, HeaderValue::from_static(key));
            let said = Said::by(&headers);
            let first = [&said.caller, &said.key].map(|value| value.as_ref().unwrap().to_str().unwrap());
            assert_eq!(first, ["web", "1"]);
            let mut left = headers.clone();
            to_provider(&mut left, &said);
            assert_eq!(left.get_all(&CALLER).iter().collect::<Vec<_>>(), ["web"]);
            assert_eq!(left.len(), 1, "no key passes");
        }
    }

    #[test]
    fn what_is_for_this_sidecar_is_found_in_any_order_and_the_first_value_holds() {
        let said = |given: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            let mut headers = HeaderMap::new();
            given.iter().map(pair).for_each(|(name, value)| _ = headers.append(name, value));
            let said = Said::by(&headers);
            let explain = said.explain();
            to_provider(&mut headers, &said);
            (said.has_deadline, explain, headers.keys().map(|name| name.to_string()).collect::<Vec<_>>())
        };
        let (host, explain) = (("host", "a"), "x-remora-explain");
        assert_eq!(said(&[host]), (false, false, vec!["host".into()]));
        assert_eq!(said(&[(explain, "1"), host, (explain, "0")]), (false, true, vec!["host".into()]));
        assert_eq!(said(&[host, (explain, "0"), (explain, "1")]), (false, false, vec!["host".into()]));
        assert!(said(&[("x-deadline-ms", "5"), ("te", "gzip")]).0);
        assert_eq!(said(&[("connection", "x-caller"), ("x-caller", "web"), host]).2, ["host"]);
    }

    #[test]
    fn without_such_headers_all_stay_in_their_order() {
        let given = [("host", "a"), ("x-b", "1"), ("accept", "*/*"), ("x-a", "2")];
        assert_eq!(left(&given), ["host: a", "x-b: 1", "accept: */*", "x-a: 2"]);
    }
}
