//! Requests over HTTP that can't become the parameters of a Yar call: refused for what they are.

use hyper::Method;
use hyper::http::request::Parts;

use crate::error::CallError;

/// Bytes of a method that are shown.
const SHOWN: usize = 40;

/// Whether the method calls functions, before the body is read.
pub(super) fn check_head(head: &Parts) -> Result<(), CallError> {
    if head.method != Method::GET && head.method != Method::POST {
        return Err(CallError::WrongMethod(head.method.as_str().chars().take(SHOWN).collect()));
    }
    Ok(())
}
