//! Headers that are for this sidecar or for one connection, and those that pass.

use std::collections::HashSet;
use std::time::Duration;

use crate::error::CallError;
use crate::http1::headers::{Headers, Known};

/// Who calls.
pub(super) const CALLER: &str = "x-caller";
/// Its key.
pub(super) const KEY: &str = "x-api-key";
/// The time it has left, in milliseconds.
pub(super) const DEADLINE: &str = "x-deadline-ms";

/// What described the caller's body.
const OF_THE_BODY: [&[u8]; 7] = [
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"accept",
    b"accept-encoding",
    b"hostname",
    b"trailer",
];

/// What a request's headers tell this sidecar, found in one look.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Whether there is a deadline.
    pub has_deadline: bool,
    /// Whether the caller wants to be told how its call went, where it says so.
    explain: Option<bool>,
    /// Whether something holds for this connection only, or is for this sidecar alone.
    has_one_hop: bool,
    /// How many names of a caller there are.
    callers: usize,
}

impl Said {
    pub(super) fn by(headers: &Headers) -> Self {
        let mut said = Self::default();
        for (known, value) in headers.known() {
            said.has_one_hop |= known.is_one_hop();
            match known {
                Known::Caller => said.callers += 1,
                Known::Deadline => said.has_deadline = true,
                Known::Explain => _ = said.explain.get_or_insert(value == b"1"),
                Known::Connection | Known::ContentLength | Known::Date | Known::Expect | Known::Host => {}
                Known::Te | Known::TransferEncoding | Known::OneHop | Known::Other => {}
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
pub fn asked_patience(headers: &Headers) -> Result<Option<Duration>, CallError> {
    let mut given = headers.all(Known::Deadline);
    let Some(left) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        let twice = "X-Deadline-Ms is there twice, and only one can hold; send the milliseconds left once";
        return Err(CallError::MalformedRequest(twice.into()));
    }
    let digits = std::str::from_utf8(left).ok();
    let digits = digits.filter(|left| !left.is_empty() && left.bytes().all(|b| b.is_ascii_digit()));
    let Some(digits) = digits else {
        let shown = left.get(..40).unwrap_or(left).escape_ascii();
        return Err(CallError::MalformedRequest(format!(
            "X-Deadline-Ms \"{shown}\" is not the number of milliseconds left, 0 or more; leave it out for no deadline"
        )));
    };
    // what is no u64 is longer than any timeout
    Ok(Some(Duration::from_millis(digits.parse().unwrap_or(u64::MAX))))
}

/// Leaves of a request's headers, which `said` that, what is for its provider.
pub(super) fn to_provider(headers: &mut Headers, said: &Said) {
    if said.has_one_hop {
        end_to_end(headers);
    }
    if said.callers > 1 {
        one_caller(headers);
    }
}

/// Leaves the name that was checked, where a caller gives several.
fn one_caller(headers: &mut Headers) {
    let mut seen = false;
    headers.retain(|known, _| known != Known::Caller || !std::mem::replace(&mut seen, true));
}

/// Removes what holds for one connection only, what was meant for this sidecar, and keys.
pub(super) fn end_to_end(headers: &mut Headers) {
    // what `Connection` says is for this connection; `close` and `keep-alive` name no header that anybody sends
    let words = headers.all(Known::Connection).flat_map(|value| value.split(|byte| *byte == b','));
    let words = words.map(<[u8]>::trim_ascii).filter(|word| {
        !(word.is_empty() || word.eq_ignore_ascii_case(b"close") || word.eq_ignore_ascii_case(b"keep-alive"))
    });
    // looked up, as there may be thousands of them
    let named: HashSet<_> = words.map(<[u8]>::to_ascii_lowercase).collect();
    let is_named = |name: &[u8]| !named.is_empty() && named.contains(&name.to_ascii_lowercase());
    headers.retain(|known, name| {
        let stays = matches!(known, Known::ContentLength | Known::Host);
        stays || !(known.is_one_hop() || is_named(name))
    });
}

/// Removes what described the caller's body.
pub(super) fn without_body_headers(headers: &mut Headers) {
    headers.retain(|_, name| !OF_THE_BODY.iter().any(|of_body| name.eq_ignore_ascii_case(of_body)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        given.iter().for_each(|(name, value)| headers.push(name, value));
        headers
    }

    fn shown(headers: &Headers) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        headers.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    fn left(given: &[(&str, &str)]) -> Vec<String> {
        let mut headers = made(given);
        end_to_end(&mut headers);
        shown(&headers)
    }

    #[test]
    fn what_is_for_one_connection_or_for_the_sidecar_does_not_pass() {
        let given = [
            ("host", "a"),
            ("connection", "X-One, close"),
            ("connection", "x-two,, host,content-length,"),
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
    fn of_several_callers_the_one_that_was_checked_passes_and_no_key_does() {
        let mut headers = Headers::default();
        to_provider(&mut headers, &Said::by(&Headers::default()));
        assert!(shown(&headers).is_empty());
        for (name, key) in [("web", "1"), ("root", "2"), ("admin", "3")] {
            headers.push(CALLER, name);
            headers.push(KEY, key);
            assert_eq!([CALLER, KEY].map(|name| headers.text(name)), [Some("web"), Some("1")]);
            let mut left = headers.clone();
            to_provider(&mut left, &Said::by(&headers));
            assert_eq!(shown(&left), ["x-caller: web"]);
        }
    }

    #[test]
    fn what_is_for_this_sidecar_is_found_in_any_order_and_the_first_value_holds() {
        let said = |given: &[(&str, &str)]| {
            let mut headers = made(given);
            let said = Said::by(&headers);
            to_provider(&mut headers, &said);
            (said.has_deadline, said.explain(), shown(&headers))
        };
        let (host, explain) = (("host", "a"), "x-remora-explain");
        assert_eq!(said(&[host]), (false, false, vec!["host: a".into()]));
        assert_eq!(said(&[(explain, "1"), host, (explain, "0")]), (false, true, vec!["host: a".into()]));
        assert_eq!(said(&[host, (explain, "0"), (explain, "1")]), (false, false, vec!["host: a".into()]));
        assert!(said(&[("x-deadline-ms", "5"), ("te", "gzip")]).0);
        assert_eq!(said(&[("connection", "x-caller"), ("x-caller", "web"), host]).2, ["host: a"]);
    }

    #[test]
    fn without_such_headers_all_stay_in_their_order() {
        let given = [("host", "a"), ("x-b", "1"), ("accept", "*/*"), ("x-a", "2")];
        assert_eq!(left(&given), ["host: a", "x-b: 1", "accept: */*", "x-a: 2"]);
    }
}
