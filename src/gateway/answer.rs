//! A provider's answer in the caller's form.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use hyper::StatusCode;
use proto_adapters::codec::Reader;
use proto_adapters::event::Event;
use proto_adapters::yar::{self, Exception, HEAD, Header, Packager};
use proto_adapters::{Charset, Fault, Options, Wire, adapt};

use super::adapt::{Answer, Sent, options, packager};
use super::beside::convert;
use super::call::{in_payload, why_empty};
use super::headers::end_to_end;
use super::route::Plan;
use crate::error::{CallError, NoRoom};
use crate::upstream::body::Broken;
use crate::upstream::budget::Share;
use crate::upstream::{Answered, Payload};
use crate::words::beginning;

/// Largest answer that is gathered to be adapted, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// Status of a Yar message that carries an exception.
const EXCEPTION: i64 = 64;
/// Bytes of a provider's error that are shown to the caller.
const SHOWN: usize = 200;

/// What a provider's answer says before its body.
struct Head {
    status: u16,
    /// Where a redirect leads.
    location: Option<Vec<u8>>,
}

impl Head {
    fn of(answered: &Answered) -> Self {
        let status = answered.head.status.as_u16();
        let location = answered.head.headers.get("location").filter(|_| (300..400).contains(&status));
        Self { status, location: location.map(<[u8]>::to_vec) }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        match &self.location {
            Some(to) => write!(f, ", a redirect to \"{}\" that is not followed,", shown(to)),
            None if self.status == 204 => f.write_str(", no content,"),
            None => Ok(()),
        }
    }
}

/// The answer in the caller's form.
pub(super) async fn answer(
    plan: &Plan,
    sent: &Sent,
    answered: Answered,
    share: &mut Share,
) -> Result<Answer, CallError> {
    if answered.head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(CallError::BadAnswer("the provider switched protocols, which nobody asked for".into()));
    }
    if !matches!(sent, Sent::AsItCame) {
        let made = Box::pin(converted(plan, sent, answered, share)).await;
        return made.map_err(|error| share.tells(error));
    }
    Ok(passed_back(answered))
}

/// As the provider gave it.
fn passed_back(mut answered: Answered) -> Answer {
    end_to_end(&mut answered.head.headers);
    Answer::Http(answered)
}

async fn converted(
    plan: &Plan,
    sent: &Sent,
    answered: Answered,
    share: &mut Share,
) -> Result<Answer, CallError> {
    let head = Head::of(&answered);
    match sent {
        Sent::AsItCame => Ok(passed_back(answered)),
        Sent::Json { packager, id } => {
            let body = readable(answered, share, |status, reason| match status {
                400.. => CallError::ProviderError { status, body: reason },
                _ => undecoded(&reason),
            });
            let (body, packager, id) = (body.await?, *packager, *id);
            let held = body.len();
            let o = Options { in_message: true, room: Some(share.room(held)), ..options(plan) };
            let work = move |plan: &Plan| json_answer(plan, o, (&head, &body), packager, id);
            hold(convert(share, plan, held, work).await?, held, share)
        }
        Sent::Yar { ids, caller, .. } => {
            let body = readable(answered, share, |_, reason| undecoded(&reason)).await?;
            let (held, ids, caller) = (body.len(), *ids, *caller);
            let o = Options { room: Some(share.room(held)), ..options(plan) };
            let work = move |plan: &Plan| yar_answer(plan, o, (&head, &body), ids, caller);
            hold(convert(share, plan, held, work).await?, held, share)
        }
    }
}

/// Counts what became of a body in its place.
fn hold(made: Answer, held: usize, share: &mut Share) -> Result<Answer, CallError> {
    let bytes = match &made {
        Answer::Http(_) => return Ok(made),
        Answer::Json(json) => json.len(),
        Answer::Yar(message) => message.len(),
    };
    share.turn(held, bytes).map_err(|_| CallError::Unheld(NoRoom::default()))?;
    Ok(made)
}

/// The whole body; `refuse` tells, with the status, of one that is compressed though nobody asked for it.
async fn readable(
    answered: Answered,
    share: &mut Share,
    refuse: impl FnOnce(u16, String) -> CallError,
) -> Result<Bytes, CallError> {
    let status = answered.head.status.as_u16();
    let Answered { head, body } = answered;
    let mut encodings = head.headers.get_all("content-encoding");
    let encoding = encodings.find(|how| !how.eq_ignore_ascii_case(b"identity"));
    let body = gather(body, share).await?;
    match encoding.filter(|_| !body.is_empty()) {
        None => Ok(body),
        Some(how) => {
            let how = shown(how);
            Err(refuse(
                status,
                format!("Content-Encoding \"{how}\", which nobody asked for and is not decoded"),
            ))
        }
    }
}

fn undecoded(encoding: &str) -> CallError {
    CallError::BadAnswer(format!("the provider's answer has {encoding}"))
}

async fn gather(body: Payload, share: &mut Share) -> Result<Bytes, CallError> {
    body.collect(MAX_ANSWER, share).await.map_err(|broken| match broken {
        Broken::TooLarge => {
            CallError::BadAnswer("the provider's answer is over 64MiB, too much to be adapted".into())
        }
        // the provider has run: this is no refusal that a caller may take for "not done"
        Broken::NoRoom(_) => CallError::Unheld(NoRoom::default()),
        Broken::Short(have, of) => CallError::CutShort(have, of),
        Broken::Idle => CallError::Stalled,
        Broken::BadAnswer(_) => CallError::BadAnswer(broken.to_string()),
        Broken::Caller | Broken::BadRequest(_) | Broken::Provider => CallError::Cut,
    })
}

fn json_answer(
    plan: &Plan,
    o: Options,
    (head, body): (&Head, &Bytes),
    packager: Packager,
    id: u32,
) -> Result<Answer, CallError> {
    let status = head.status;
    match status {
        200..300 => {}
        400.. => return Err(CallError::ProviderError { status, body: shown(body) }),
        _ => {
            let reason = format!("the provider answered {head}, which is no result and no error");
            return Err(CallError::BadAnswer(reason));
        }
    }
    let value = json_value(plan, status, body)?;
    let result = adapt::transcode(Wire::Json, packager.wire(), value, "$", o);
    let result = result.map_err(|fault| match fault {
        Fault::Malformed { .. } => {
            CallError::BadAnswer(format!("the provider's answer: {fault}; it begins \"{}\"", shown(body)))
        }
        Fault::Unadaptable { .. } | Fault::TooLong { .. } => providers(fault),
    })?;
    Ok(Answer::Yar(yar::encode_result(packager, id, &result, None)))
}

/// The body; null where there is none, and the status or the API's method says that there is none.
fn json_value<'a>(plan: &Plan, status: u16, body: &'a [u8]) -> Result<&'a [u8], CallError> {
    if !body.iter().all(u8::is_ascii_whitespace) {
        return Ok(body);
    }
    if matches!(status, 204 | 205) || plan.route.api.method.as_deref() == Some("HEAD") {
        return Ok(b"null");
    }
    Err(CallError::BadAnswer(format!(
        "the provider's function ended without a result, as by exit(): HTTP {status} with an empty body; \
         for no result answer null, or HTTP 204"
    )))
}

/// `ids`: what the provider was sent as id, in the head and in the payload.
fn yar_answer(
    plan: &Plan,
    o: Options,
    (head, body): (&Head, &Bytes),
    ids: [u64; 2],
    caller: Option<(Packager, u32)>,
) -> Result<Answer, CallError> {
    let converted = Options { from: converted_from(plan, caller), in_message: caller.is_some(), ..o };
    let (header, read, json) = yar_message(head, body, ids, caller.is_none().then_some(converted))?;
    let payload = body.get(HEAD..).unwrap_or_default();
    let part = |range: &Option<Range<usize>>| range.clone().and_then(|range| payload.get(range));
    let from = header.packager.wire();
    let as_it_is = from == Wire::Json || converted.from == Charset::Utf8;
    let own = caller.filter(|(own, _)| as_it_is && *own == header.packager);
    if read.status != 0 {
        let (charset, error) = (plan.route.policy.charset, part(&read.error));
        return match own.filter(|_| is_sound(from, read.status, error)) {
            Some((_, id)) => Ok(Answer::Yar(readdressed(&header, id, payload, &read))),
            None => {
                let thrown = Exception::read_in(charset, header.packager, read.status, error);
                Err(CallError::ProviderException(thrown))
            }
        };
    }
    let output = part(&read.output);
    let result = part(&read.result).ok_or_else(|| ended(output))?;
    match (own, json) {
        (Some((_, id)), _) => Ok(Answer::Yar(readdressed(&header, id, payload, &read))),
        (None, Some(json)) => Ok(Answer::Json(json.into())),
        (None, None) => returned(from, converted, output, result, caller),
    }
}

/// Reads the provider's message, which must answer a request of one of these ids, and its result as JSON, if that is
/// wanted, as far as [`yar::Response::read_to_json`] does.
fn yar_message(
    head: &Head,
    body: &[u8],
    ids: [u64; 2],
    to_json: Option<Options>,
) -> Result<(Header, yar::Response, Option<Vec<u8>>), CallError> {
    if !yar::is_yar(body) {
        return Err(CallError::BadAnswer(no_message(head, body)));
    }
    let header = Header::parse(body).map_err(providers)?;
    let payload = body.get(HEAD..).unwrap_or_default();
    if payload.is_empty() {
        let why = why_empty(header.packager);
        return Err(CallError::BadAnswer(format!(
            "the provider's Yar message has no payload; {why}; see its PHP error log"
        )));
    }
    let read = match to_json {
        Some(o) => yar::Response::read_to_json(header.packager, payload, o),
        None => yar::Response::read(header.packager, payload).map(|read| (read, None)),
    };
    let (read, json) = read.map_err(|fault| {
        CallError::BadAnswer(format!("the provider's answer: {}", in_payload(fault, header.packager)))
    })?;
    if read.id.is_none_or(|other| other != 0 && !ids.contains(&other)) {
        return Err(CallError::BadAnswer("the provider's answer belongs to another request".into()));
    }
    if read.status == 0 && head.status != 200 {
        let reason = format!("the provider answered {head} with a Yar message; a result comes with 200");
        return Err(CallError::BadAnswer(reason));
    }
    Ok((header, read, json))
}

/// What a body that does not begin as a Yar message is.
fn no_message(head: &Head, body: &[u8]) -> String {
    if let Some(at) = (1..body.len()).find(|at| body.get(*at..).is_some_and(yar::is_yar)) {
        let before = shown(body.get(..at).unwrap_or_default());
        return format!("the provider answered {head} with text before its Yar message: \"{before}\"");
    }
    match body.is_empty() {
        true if head.status != 204 && head.location.is_none() => {
            format!("the provider answered {head} with an empty body; see its PHP error log")
        }
        true => format!("the provider answered {head} with an empty body"),
        false => format!("the provider answered {head} without a Yar message: \"{}\"", shown(body)),
    }
}

/// Of a success without a result.
fn ended(output: Option<&[u8]>) -> CallError {
    let printed = output.map_or_else(String::new, |output| format!("; it printed {}", shown(output)));
    CallError::BadAnswer(format!("the provider's function ended without a result, as by exit(){printed}"))
}

/// The charset of an answer's strings; UTF-8 too where they are for a caller who packs as the API's
/// providers do and so speaks their charset.
fn converted_from(plan: &Plan, caller: Option<(Packager, u32)>) -> Charset {
    match caller {
        Some((own, _)) if packager(plan) == Some(own) => Charset::Utf8,
        Some(_) | None => plan.route.policy.charset,
    }
}

/// A result in the wire of a caller that packs otherwise; `None`: an HTTP caller, who gets no printed output.
fn returned(
    from: Wire,
    o: Options,
    output: Option<&[u8]>,
    result: &[u8],
    caller: Option<(Packager, u32)>,
) -> Result<Answer, CallError> {
    let to = caller.map_or(Wire::Json, |(packager, _)| packager.wire());
    let carried = |value, root| adapt::transcode(from, to, value, root, o).map_err(providers);
    let Some((packager, id)) = caller else {
        return Ok(Answer::Json(carried(result, "$")?.into()));
    };
    let result = carried(result, "$.r")?;
    let output = output.map(|output| carried(output, "$.o")).transpose()?;
    Ok(Answer::Yar(yar::encode_result(packager, id, &result, output.as_deref())))
}

/// Old clients crash on a failure whose `e` is neither text nor, with status 64, a map: no such `e` passes as it is.
fn is_sound(wire: Wire, status: i64, e: Option<&[u8]>) -> bool {
    let mut reader = Reader::new(wire, e.unwrap_or_default());
    match reader.pull() {
        Ok(Some(Event::Str(_) | Event::Bytes(_))) => true,
        // PHP makes an object of a msgpack map that is empty or begins with nil
        Ok(Some(Event::Map)) if status == EXCEPTION => {
            !matches!(reader.pull(), Ok(Some(Event::Null | Event::End)) | Err(_))
        }
        Ok(_) | Err(_) => false,
    }
}

/// The provider's message for the caller's request `id`; printed output that is no text is emptied where it stands,
/// for PHP's references count it.
fn readdressed(header: &Header, id: u32, payload: &[u8], read: &yar::Response) -> Vec<u8> {
    let header = Header { id, token: Vec::new(), ..header.clone() };
    let (odd, empty) = match read.odd_output.clone() {
        Some(odd) => (odd, empty_text(header.packager)),
        None => (read.end..read.end, &b""[..]),
    };
    let before = payload.get(..odd.start).unwrap_or_default();
    let behind = payload.get(odd.end..read.end).unwrap_or_default();
    let head = header.encode(before.len() + empty.len() + behind.len());
    [&head[..], before, empty, behind].concat()
}

fn empty_text(packager: Packager) -> &'static [u8] {
    match packager {
        Packager::Json => b"\"\"",
        Packager::Msgpack => b"\xa0",
        Packager::Php => b"s:0:\"\";",
    }
}

fn providers(fault: Fault) -> CallError {
    match fault {
        Fault::Malformed { .. } => CallError::BadAnswer(format!("the provider's answer: {fault}")),
        Fault::Unadaptable { .. } => CallError::UnadaptableAnswer(fault.to_string()),
        Fault::TooLong { .. } => CallError::Unheld(NoRoom::default()),
    }
}

/// The beginning of a provider's bytes, fit for a message.
fn shown(body: &[u8]) -> String {
    beginning(body, SHOWN)
}
