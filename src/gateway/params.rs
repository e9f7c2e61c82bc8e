//! Requests over HTTP that can't become the parameters of a Yar call: refused for what they are.

use hyper::Method;
use hyper::header;
use hyper::http::request::Parts;
use proto_adapters::Fault;

use crate::error::CallError;

/// Bytes of a body that are shown.
const SHOWN: usize = 40;
/// UTF-8, and UTF-16 in both orders.
const MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

/// Whether the method calls functions and the body is sent plain, before it is read.
pub(super) fn check_head(head: &Parts) -> Result<(), CallError> {
    if head.method != Method::GET && head.method != Method::POST {
        return Err(CallError::WrongMethod(head.method.as_str().chars().take(SHOWN).collect()));
    }
    let encodings = head.headers.get_all(header::CONTENT_ENCODING);
    match encodings.iter().find(|how| !how.as_bytes().eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(how) => Err(CallError::MalformedRequest(format!(
            "the body has Content-Encoding \"{}\", which is not decoded; send it without",
            shown(how.as_bytes())
        ))),
    }
}

/// Refuses a byte order mark, which neither JSON nor a form begins with.
pub(super) fn check_mark(body: &[u8]) -> Result<(), CallError> {
    match MARKS.iter().find(|mark| body.starts_with(mark)) {
        None => Ok(()),
        Some(mark) => Err(CallError::MalformedRequest(format!(
            "the body begins with a byte order mark, {}; send UTF-8 without one",
            mark.escape_ascii()
        ))),
    }
}

/// Refuses what is a form by its type only: `curl -d` announces everything as one.
pub(super) fn check_form(body: &[u8]) -> Result<(), CallError> {
    if body.contains(&b'=') {
        return Ok(());
    }
    Err(CallError::MalformedRequest(format!(
        "the body, {} bytes, is announced as a form and has no \"=\"; send name=value, or a JSON array or object",
        body.len()
    )))
}

/// A fault of a body that is no form, and so is taken for JSON.
pub(super) fn as_json(fault: Fault) -> CallError {
    match fault {
        Fault::Malformed { .. } => CallError::MalformedRequest(format!("the body, read as JSON: {fault}")),
        Fault::Unadaptable { .. } => CallError::UnadaptableCall(fault.to_string()),
    }
}

fn shown(bytes: &[u8]) -> std::slice::EscapeAscii<'_> {
    bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii()
}
