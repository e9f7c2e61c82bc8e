//! The parameters of a Yar call out of an HTTP request, and requests that can't become any.

use hyper::Method;
use proto_adapters::codec::Writer;
use proto_adapters::{Fault, Options, adapt};

use super::adapt::callers;
use super::route::Plan;
use crate::error::CallError;
use crate::http1::request::Head;
use crate::words::beginning;

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/";
/// Bytes of a body that are shown.
const SHOWN: usize = 40;
/// UTF-8, and UTF-16 in both orders.
const MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

/// Refuses what can't become parameters before its body is read: by method, type and encoding.
pub(super) fn check_head(head: &Head) -> Result<(), CallError> {
    if head.method != Method::GET && head.method != Method::POST {
        return Err(CallError::WrongMethod(head.method.as_str().chars().take(SHOWN).collect()));
    }
    refuse_multipart(head)?;
    let mut encodings = head.headers.get_all("content-encoding");
    match encodings.find(|how| !how.eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(how) => Err(CallError::MalformedRequest(format!(
            "the body has Content-Encoding \"{}\", which is not decoded; send it without",
            beginning(how, SHOWN)
        ))),
    }
}

/// Writes the parameters of a Yar call, out of the query, a form or a JSON body.
pub(super) fn of_request(
    plan: &Plan,
    head: &Head,
    body: &[u8],
    to: &mut Writer,
    o: Options,
) -> Result<(), CallError> {
    let names = &plan.route.api.params;
    check_mark(body)?;
    let written = if body.iter().all(u8::is_ascii_whitespace) {
        adapt::form_into(to, head.uri.query().unwrap_or("").as_bytes(), names)
    } else if !looks_like_json(body) && announced(head).eq_ignore_ascii_case(FORM) {
        check_form(body)?;
        check_text(body)?;
        adapt::form_into(to, body, names)
    } else {
        return adapt::body_into(to, body, names, o).map_err(as_json);
    };
    written.map_err(callers)
}

/// `curl -d` announces everything as a form.
fn looks_like_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start(), [b'[' | b'{', ..])
}

/// The type of the body, without its parameters.
fn announced(head: &Head) -> &str {
    let kind = head.headers.text("content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or("").trim()
}

fn refuse_multipart(head: &Head) -> Result<(), CallError> {
    let kind = head.headers.text("content-type").unwrap_or_default().trim_start();
    let is_multipart = kind.get(..MULTIPART.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(MULTIPART));
    if !is_multipart {
        return Ok(());
    }
    let kind = announced(head).to_ascii_lowercase();
    Err(CallError::MalformedRequest(format!(
        "the body is {kind}, which can't become parameters; send JSON or a form as http_build_query makes it"
    )))
}

/// Refuses a byte order mark, which neither JSON nor a form begins with.
fn check_mark(body: &[u8]) -> Result<(), CallError> {
    match MARKS.iter().find(|mark| body.starts_with(mark)) {
        None => Ok(()),
        Some(mark) => Err(CallError::MalformedRequest(format!(
            "the body begins with a byte order mark, {}; send UTF-8 without one",
            mark.escape_ascii()
        ))),
    }
}

/// Refuses what is a form by its type only: `curl -d` announces everything as one.
fn check_form(body: &[u8]) -> Result<(), CallError> {
    if body.contains(&b'=') {
        return Ok(());
    }
    Err(CallError::MalformedRequest(format!(
        "the body, {} bytes, is announced as a form and has no \"=\"; send name=value, or a JSON array or object",
        body.len()
    )))
}

/// Refuses a JSON text, as of `json_encode("a=1")`, whose first field would be called `"a`.
fn check_text(body: &[u8]) -> Result<(), CallError> {
    if !body.trim_ascii_start().starts_with(b"\"") || serde_json::from_slice::<String>(body).is_err() {
        return Ok(());
    }
    Err(CallError::MalformedRequest(
        "the body is a JSON text, announced as a form; send an array or an object, and say \
         Content-Type: application/json"
            .into(),
    ))
}

/// A fault of a body that is no form, and so is taken for JSON.
fn as_json(fault: Fault) -> CallError {
    match fault {
        Fault::Malformed { .. } => CallError::MalformedRequest(format!("the body, read as JSON: {fault}")),
        Fault::Unadaptable { .. } | Fault::TooLong { .. } => callers(fault),
    }
}
