//! A provider's answer in the caller's form.

use bytes::Bytes;
use hyper::Response;
use proto_adapters::yar::{self, Exception, HEAD, Header, Packager};
use proto_adapters::{Fault, Wire, adapt};

use super::adapt::{Answer, Sent, end_to_end, options, spoken};
use super::route::Plan;
use crate::error::CallError;
use crate::upstream::Answered;
use crate::upstream::body::Broken;

/// Largest answer that is gathered to be adapted, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// Bytes of a provider's error that are shown to the caller.
const SHOWN: usize = 200;

/// The answer in the caller's form.
pub(super) async fn answer(plan: &Plan, sent: &Sent, answered: Answered) -> Result<Answer, CallError> {
    if sent.passes() {
        let (mut head, body) = answered.into_parts();
        end_to_end(&mut head.headers);
        head.version = hyper::Version::HTTP_11;
        return Ok(Answer::Http(Response::from_parts(head, body)));
    }
    let status = answered.status().as_u16();
    let body = answered.into_body().collect(MAX_ANSWER).await.map_err(|broken| match broken {
        Broken::TooLarge => {
            CallError::BadAnswer("the provider's answer is over 64MiB, too much to be adapted".into())
        }
        Broken::Caller | Broken::Provider | Broken::Idle => CallError::Cut,
    })?;
    match sent {
        Sent::Yar { id, caller } => yar_answer(plan, status, &body, *id, *caller),
        Sent::Json { yar: Some((packager, id)) } => json_answer(plan, status, &body, *packager, *id),
        Sent::Json { yar: None } => Ok(Answer::Json(body)),
    }
}

fn json_answer(
    plan: &Plan,
    status: u16,
    body: &Bytes,
    packager: Packager,
    id: u32,
) -> Result<Answer, CallError> {
    match status {
        200..300 => {}
        400.. => return Err(CallError::ProviderError { status, body: shown(body) }),
        _ => {
            let reason = format!("the provider answered HTTP {status}, which is no result and no error");
            return Err(CallError::BadAnswer(reason));
        }
    }
    let value: &[u8] = if body.iter().all(u8::is_ascii_whitespace) { b"null" } else { body };
    let result = adapt::transcode(Wire::Json, spoken(packager)?, value, "$", options(plan));
    Ok(Answer::Yar(yar::encode_result(packager, id, &result.map_err(providers)?, None)))
}

fn yar_answer(
    plan: &Plan,
    status: u16,
    body: &Bytes,
    id: u32,
    caller: Option<(Packager, u32)>,
) -> Result<Answer, CallError> {
    if !yar::is_yar(body) {
        let reason =
            format!("the provider answered HTTP {status} without a Yar message: \"{}\"", shown(body));
        return Err(CallError::BadAnswer(reason));
    }
    let header = Header::parse(body).map_err(providers)?;
    let payload = body.get(HEAD..).unwrap_or_default();
    let from = spoken(header.packager).map_err(|_| {
        CallError::BadAnswer("the provider answered in the PHP packager, which is not spoken yet".into())
    })?;
    let read = yar::Response::read(header.packager, payload).map_err(providers)?;
    if read.id.is_some_and(|other| other != 0 && other != u64::from(id)) {
        return Err(CallError::BadAnswer("the provider's answer belongs to another request".into()));
    }
    let part = |range: &Option<std::ops::Range<usize>>| range.clone().and_then(|range| payload.get(range));
    if read.status != 0 {
        let thrown = Exception::read(header.packager, read.status, part(&read.error));
        return match caller {
            Some((packager, id)) if packager == header.packager && carries_error(&thrown) => {
                Ok(Answer::Yar(readdressed(&header, id, payload.get(..read.end).unwrap_or(payload))))
            }
            _ => Err(CallError::ProviderException(thrown)),
        };
    }
    match caller {
        Some((packager, id)) if packager == header.packager => {
            Ok(Answer::Yar(readdressed(&header, id, payload.get(..read.end).unwrap_or(payload))))
        }
        Some((packager, id)) => {
            let to = spoken(packager)?;
            let carried = |value: Option<&[u8]>, root| {
                value.map(|value| adapt::transcode(from, to, value, root, options(plan))).transpose()
            };
            let output = carried(part(&read.output), "$.o").map_err(providers)?;
            let result = carried(part(&read.result), "$.r").map_err(providers)?;
            let result = result.unwrap_or_else(|| null(to));
            Ok(Answer::Yar(yar::encode_result(packager, id, &result, output.as_deref())))
        }
        None => {
            let value = part(&read.result);
            let json = value.map(|value| adapt::transcode(from, Wire::Json, value, "$", options(plan)));
            Ok(Answer::Json(json.transpose().map_err(providers)?.unwrap_or_else(|| null(Wire::Json)).into()))
        }
    }
}

/// Old clients crash on a failure without a readable `e`: only one that has it passes as it is.
fn carries_error(thrown: &Exception) -> bool {
    !thrown.message.starts_with("unknown error, status")
}

fn readdressed(header: &Header, id: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { id, token: Vec::new(), ..header.clone() };
    [&header.encode(payload.len())[..], payload].concat()
}

fn null(wire: Wire) -> Vec<u8> {
    match wire {
        Wire::Json => b"null".to_vec(),
        Wire::Msgpack => vec![0xc0],
    }
}

fn providers(fault: Fault) -> CallError {
    match fault {
        Fault::Malformed { .. } => CallError::BadAnswer(format!("the provider's answer: {fault}")),
        Fault::Unadaptable { .. } => CallError::UnadaptableAnswer(fault.to_string()),
    }
}

/// The beginning of a provider's bytes, fit for a message.
fn shown(body: &[u8]) -> String {
    let start = body.get(..SHOWN).unwrap_or(body);
    let text = String::from_utf8_lossy(start);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}
