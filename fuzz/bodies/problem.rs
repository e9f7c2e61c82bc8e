//! Takes any bytes for what a refusal tells of, renders it toward callers of every kind, and asserts that each
//! of them can read it. Shared by the fuzz target and by the test that runs the corpus.

use std::time::Duration;

use proto_adapters::yar::{self, Code, Exception, HEAD, Header, Packager, Response};
use remora::error::{CallError, NoRoom, OverQuota, Whose};
use serde_json::Value;

use super::message;

const PACKAGERS: [Packager; 3] = [Packager::Msgpack, Packager::Json, Packager::Php];
/// An answer's own words, in bytes.
const FRAME: usize = 1024;
/// One byte of text is at most so many in an answer: `\u0001`, in `detail` and in `exception`.
const GROWTH: usize = 12;

/// The first byte is the kind of refusal; behind it come service, api, reason and more, with a NUL between them.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, told)) = data.split_first() else { return };
    let parts: Vec<&[u8]> = told.splitn(4, |byte| *byte == 0).collect();
    let part = |index: usize| parts.get(index).copied().unwrap_or_default();
    let text = |index: usize| String::from_utf8_lossy(part(index)).into_owned();
    let (service, api) = (text(0), text(1));
    let error = refusal(*kind, &service, &api, text(2), part(3));
    let most = FRAME + GROWTH * 3 * data.len();
    check_problem(&error, &service, &api, most);
    for packager in PACKAGERS {
        check_thrown(&error, packager, u32::from_be_bytes([*kind; 4]), most);
    }
}

fn refusal(kind: u8, service: &str, api: &str, reason: String, more: &[u8]) -> CallError {
    let (service, api) = (service.to_owned(), api.to_owned());
    let number = more.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let error = match kind {
        b'a' => CallError::MalformedRequest(reason),
        b'b' => CallError::NoTunnel,
        b'H' => CallError::HeadTooLarge(reason),
        b'c' => CallError::RegistryUnavailable { service, reason },
        b'd' => CallError::NoService(reason),
        b'e' => CallError::ServiceOff(service),
        b'f' => CallError::UnknownKey { service, reason },
        b'g' => CallError::NoApi { service, api },
        b'h' => CallError::ApiOff { service, api },
        b'i' => CallError::Forbidden { caller: reason, api },
        b'j' => CallError::NoProvider { service, known: number as usize },
        b'k' => {
            let line = (more.len() % 2 == 1).then_some("as many wait already");
            CallError::Overloaded { target: reason, limit: number as u32, line }
        }
        b'l' => CallError::NoRoom(NoRoom { whose: Whose::Service(service), held: number, most: number }),
        b'm' => CallError::TooLarge(number),
        b'n' => CallError::ConnectFailed { tried: number as usize, reason },
        b'o' => CallError::Cut,
        b'p' => CallError::BadAnswer(reason),
        b'q' => CallError::UnadaptableCall(reason),
        b'r' => CallError::UnadaptableAnswer(reason),
        b's' => CallError::ProviderError { status: 400 + (number % 600) as u16, body: reason },
        b't' => CallError::Deadline(number),
        b'u' | b'v' => CallError::ProviderException(Exception {
            message: reason,
            code: if kind == b'u' { Code::Int(number as i64) } else { Code::Str(service) },
            file: String::from_utf8_lossy(more).into_owned(),
            line: number as i64,
            class: api,
        }),
        b'w' => CallError::WrongMethod(reason),
        b'x' => CallError::BadApi(reason),
        b'y' => CallError::Stalled,
        b'z' => CallError::CircuitOpen { service, retry_after: Duration::from_millis(number) },
        b'A' => CallError::Full(service, (more.len() % 2 == 1).then_some("as many wait already")),
        b'B' => CallError::Unheld(NoRoom { whose: Whose::All, held: number, most: number }),
        b'C' => {
            let quota = (number % 2 == 0).then_some(api);
            let part = (number % 3 > 0).then_some(more.len() as u32 % 7 * 200_000);
            CallError::QuotaExceeded(OverQuota { caller: reason, service, quota, part, wait: number })
        }
        b'D' => CallError::CutShort(number, number),
        b'E' => CallError::Drained,
        b'F' => CallError::CallerGone(reason),
        // as a provider packed it
        other => {
            let packager = PACKAGERS.get(usize::from(other % 3)).copied().unwrap_or(Packager::Php);
            CallError::ProviderException(Exception::read(packager, i64::from(other), Some(more)))
        }
    };
    let is_named = kind.is_ascii_lowercase() || b"ABCDEF".contains(&kind);
    assert!(!is_named || letters(&error).as_bytes().contains(&kind));
    error
}

/// The first bytes that make such a refusal: a new kind of it needs one.
fn letters(error: &CallError) -> &'static str {
    match error {
        CallError::MalformedRequest(_) => "a",
        CallError::NoTunnel => "b",
        CallError::HeadTooLarge(_) => "H",
        CallError::RegistryUnavailable { .. } => "c",
        CallError::NoService(_) => "d",
        CallError::ServiceOff(_) => "e",
        CallError::UnknownKey { .. } => "f",
        CallError::NoApi { .. } => "g",
        CallError::ApiOff { .. } => "h",
        CallError::Forbidden { .. } => "i",
        CallError::NoProvider { .. } => "j",
        CallError::Overloaded { .. } => "k",
        CallError::NoRoom(_) => "l",
        CallError::TooLarge(_) => "m",
        CallError::ConnectFailed { .. } => "n",
        CallError::Cut => "o",
        CallError::BadAnswer(_) => "p",
        CallError::UnadaptableCall(_) => "q",
        CallError::UnadaptableAnswer(_) => "r",
        CallError::ProviderError { .. } => "s",
        CallError::Deadline(_) => "t",
        CallError::ProviderException(_) => "uv",
        CallError::WrongMethod(_) => "w",
        CallError::BadApi(_) => "x",
        CallError::Stalled => "y",
        CallError::CircuitOpen { .. } => "z",
        CallError::Full(..) => "A",
        CallError::Unheld(_) => "B",
        CallError::QuotaExceeded(_) => "C",
        CallError::CutShort(..) => "D",
        CallError::Drained => "E",
        CallError::CallerGone(_) => "F",
    }
}

/// An HTTP caller reads what it was told, and nothing of the text breaks out of its place.
fn check_problem(error: &CallError, service: &str, api: &str, most: usize) {
    let detail = error.to_string();
    if !detail.trim().is_empty() {
        message::check(&detail);
    }
    let written = error.problem(service, api).to_string();
    assert!(written.len() <= most, "{} bytes of {most}", written.len());
    assert!(written.bytes().all(|byte| byte >= b' '), "a problem is one line");
    let read: Result<Value, _> = serde_json::from_str(&written);
    let Ok(Value::Object(read)) = read else { panic!("no JSON object: {written}") };
    let verdict = error.verdict();
    let wanted: [(&str, Value); 6] = [
        ("type", format!("urn:remora:{}", verdict.kind).into()),
        ("title", verdict.title.into()),
        ("status", verdict.status.into()),
        ("detail", detail.into()),
        ("service", service.into()),
        ("api", api.into()),
    ];
    for (field, value) in &wanted {
        assert_eq!(read.get(*field), Some(value), "{field}");
    }
    let thrown = read.get("exception");
    assert_eq!(read.len(), wanted.len() + usize::from(thrown.is_some()));
    if let CallError::ProviderException(own) = error {
        let field = |name| thrown.and_then(|thrown| thrown.get(name));
        assert_eq!(field("message").and_then(Value::as_str), Some(own.message.as_str()));
        assert_eq!(field("class").and_then(Value::as_str), Some(own.class.as_str()));
        match &own.code {
            Code::Int(code) => assert_eq!(field("code").and_then(Value::as_i64), Some(*code)),
            Code::Str(code) => assert_eq!(field("code").and_then(Value::as_str), Some(code.as_str())),
        }
    }
    assert!((400..1000).contains(&verdict.status));
    let token = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_');
    assert!(token(verdict.kind) && token(verdict.proxy_status), "they stand in headers and labels");
}

/// A Yar caller gets the same exception, under its own id, with all that old clients look for.
fn check_thrown(error: &CallError, packager: Packager, id: u32, most: usize) {
    let thrown = error.exception();
    let message = yar::encode_exception(packager, id, &thrown);
    assert!(message.len() <= most, "{} bytes of {most}", message.len());
    let header = Header::parse(&message).expect("a refusal has a head");
    assert_eq!((header.id, header.packager), (id, packager));
    let payload = message.get(HEAD..).unwrap_or_default();
    assert_eq!(header.body_len as usize, payload.len() + 8);
    let answer = Response::read(packager, payload).expect("a refusal has a payload");
    assert_eq!((answer.status, answer.end), (64, payload.len()));
    let e = answer.error.and_then(|at| payload.get(at));
    assert!(e.is_some(), "old clients crash without one");
    assert_eq!(Exception::read(packager, answer.status, e), thrown);
    let described = yar::describe(&message, false).expect("a refusal can be shown");
    let described: Value = serde_json::from_str(&described).expect("what is shown is JSON");
    let keys = described["body"]["e"].as_object().map(|e| e.keys().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(keys.as_deref(), Some(&["message", "code", "file", "line", "_type"][..]));
}
