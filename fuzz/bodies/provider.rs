//! Takes any bytes for what a provider answers, and asserts that every kind of caller gets one whole answer of its own
//! wire: what the provider said, or a failure that an old client can read. Shared by the fuzz target and by the test
//! that runs the corpus.
//!
//! Time is paused: who waits in vain for more bytes waits no longer than a moment.

use std::time::Duration;

use proto_adapters::codec::Reader;
use proto_adapters::event::Event;
use proto_adapters::yar::{self, HEAD, Header, Packager, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::http_route::{World, check_answer, show};
use super::strict::Message;

/// Id of the calls that are made by Yar.
const ID: u32 = 0x9a3c_0001;
/// Most bytes that a provider sends at once, where it cuts its answer.
const PART: usize = 7;

/// Who calls whom; the last three are what the caller speaks, the API's wire, and whether that goes without HTTP.
const CALLS: [(&str, Speaks, Option<Packager>, bool); 12] = [
    ("json get", Speaks::Http, None, false),
    ("json put", Speaks::Yar(Packager::Msgpack), None, false),
    ("json get", Speaks::Raw(Packager::Json), None, false),
    ("yar msgpack", Speaks::Http, Some(Packager::Msgpack), false),
    ("yar gbk", Speaks::Http, Some(Packager::Msgpack), false),
    ("yar json", Speaks::Http, Some(Packager::Json), false),
    ("yar php", Speaks::Http, Some(Packager::Php), true),
    ("yar msgpack", Speaks::Yar(Packager::Msgpack), Some(Packager::Msgpack), false),
    ("yar msgpack", Speaks::Yar(Packager::Php), Some(Packager::Msgpack), false),
    ("yar json", Speaks::Raw(Packager::Json), Some(Packager::Json), false),
    ("yar php", Speaks::Raw(Packager::Php), Some(Packager::Php), true),
    ("yar php", Speaks::Yar(Packager::Json), Some(Packager::Php), true),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Speaks {
    Http,
    /// Yar over HTTP.
    Yar(Packager),
    /// Yar without HTTP.
    Raw(Packager),
}

/// The first byte says who calls, the second how the provider sends what follows: 1 ends its connection behind it,
/// 2 cuts it into parts.
pub(crate) fn run(data: &[u8]) {
    let [call, how, answer @ ..] = data else { return };
    let (call, speaks, wire, is_raw) = CALLS[usize::from(*call) % CALLS.len()];
    let (service, api) = call.split_once(' ').expect("a call has both");
    let (part, ends) = (if how & 2 == 0 { answer.len() } else { PART }, how & 1 == 1);
    let request = request(service, api, speaks);
    World::with(|world| {
        let given = answer.to_vec();
        let exchange =
            world.exchange(&request, request.len(), |listener, _, _| provide(listener, given, part, ends));
        let got = &exchange.answers[..];
        let said = said(answer, wire, is_raw);
        match speaks {
            Speaks::Raw(packager) => check_yar(got, packager, wire, said.as_ref()),
            Speaks::Http | Speaks::Yar(_) => check_http(got, answer, speaks, wire, said.as_ref()),
        }
    });
}

fn request(service: &str, api: &str, speaks: Speaks) -> Vec<u8> {
    let http = |target: &str, body: &[u8]| {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let message = |packager: Packager, method: &str| {
        let message = yar::encode_request(packager, ID, b"", b"", method, b"");
        message.expect("no parameters fit everywhere")
    };
    match speaks {
        Speaks::Http => http(&format!("/{service}/{api}"), b"[]"),
        Speaks::Yar(packager) => http(&format!("/{service}"), &message(packager, api)),
        Speaks::Raw(packager) => message(packager, &format!("{service}.{api}")),
    }
}

/// Answers the first request of every connection with these bytes.
async fn provide(listener: TcpListener, answer: Vec<u8>, part: usize, ends: bool) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(provide_one(stream, answer.clone(), part, ends));
    }
}

async fn provide_one(mut stream: TcpStream, answer: Vec<u8>, part: usize, ends: bool) {
    let mut request = Vec::new();
    // it is one write, and small
    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
        return;
    }
    for part in answer.chunks(part.max(1)) {
        if stream.write_all(part).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if ends && stream.shutdown().await.is_err() {
        return;
    }
    // left open until the other side has enough
    let _ = stream.read_to_end(&mut request).await;
}

/// What the provider's bytes are to a reader that takes nothing for granted.
struct Said {
    status: u16,
    body: Vec<u8>,
    /// Of a Yar provider: the success or failure that stands in the body.
    answer: Option<Response>,
}

/// `None`: a reader may take it for several things, or for none.
fn said(bytes: &[u8], wire: Option<Packager>, is_raw: bool) -> Option<Said> {
    let (status, body) = if is_raw {
        let mut stream = yar::Stream::new(bytes);
        (200, stream.take().ok()??)
    } else {
        // heads that end at bare line feeds are read in more than one way
        if bytes.windows(2).any(|pair| pair == b"\n\n") {
            return None;
        }
        let message = Message::answer(bytes).ok()??;
        // one that may have its body behind its head has it in `body`
        if message.status().is_none_or(|status| status < 200) || message.end != bytes.len() {
            return None;
        }
        (message.status()?, message.body)
    };
    let header = wire.and_then(|_| Header::parse(&body).ok());
    let payload = body.get(HEAD..).unwrap_or_default();
    let answer = header.and_then(|header| Response::read(header.packager, payload).ok());
    Some(Said { status, answer, body })
}

impl Said {
    fn is_success(&self, wire: Option<Packager>) -> bool {
        match (wire, &self.answer) {
            (None, _) => (200..300).contains(&self.status),
            (Some(_), Some(answer)) => self.status == 200 && answer.status == 0 && answer.result.is_some(),
            (Some(_), None) => false,
        }
    }
}

fn check_http(got: &[u8], given: &[u8], speaks: Speaks, wire: Option<Packager>, said: Option<&Said>) {
    let passes = speaks == Speaks::Http && wire.is_none();
    let answer = match Message::answer(got) {
        Ok(Some(answer)) if answer.end == got.len() => answer,
        // what streams through may break off, and is as odd as it came
        Ok(_) | Err(_) if passes => return,
        other => panic!("no whole answer: {:?}: {other:?}", show(got)),
    };
    if let Speaks::Yar(packager) = speaks {
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        check_yar(&answer.body, packager, wire, said);
    } else if answer.header("proxy-status").is_some_and(|value| value.starts_with("remora")) {
        check_answer(&answer);
    } else if passes {
        let Some(said) = said else { return };
        assert_eq!(answer.status(), Some(said.status), "{:?}", show(given));
        assert!(answer.body == said.body, "{:?}: {:?}", show(given), show(got));
    } else {
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        let value: Result<Value, _> = serde_json::from_slice(&answer.body);
        // the reader here takes less deep ones only
        assert!(value.is_ok() || answer.body.len() > 128, "{:?}", show(&answer.body));
        assert!(said.is_none_or(|said| said.is_success(wire)), "made up of {:?}", show(given));
    }
}

/// A message of the caller's own, and a success where the provider told of one alone.
fn check_yar(bytes: &[u8], own: Packager, wire: Option<Packager>, said: Option<&Said>) {
    let header = Header::parse(bytes).unwrap_or_else(|fault| panic!("{fault}: {:?}", show(bytes)));
    assert_eq!((header.id, header.packager), (ID, own), "{:?}", show(bytes));
    assert_eq!(header.body_len as usize + 82, bytes.len(), "{:?}", show(bytes));
    let payload = bytes.get(HEAD..).unwrap_or_default();
    let answer = Response::read(own, payload).unwrap_or_else(|fault| panic!("{fault}: {:?}", show(bytes)));
    assert!(answer.id.is_some_and(|id| id == 0 || id == u64::from(ID)), "{:?}", show(bytes));
    if answer.status == 0 {
        assert!(answer.result.is_some(), "a null that nobody sent: {:?}", show(bytes));
        assert!(said.is_none_or(|said| said.is_success(wire)), "made up: {:?}", show(bytes));
        return;
    }
    let e = answer.error.and_then(|at| payload.get(at)).unwrap_or_default();
    let mut reader = Reader::new(own.wire(), e);
    let is_sound = match reader.pull() {
        Ok(Some(Event::Str(_) | Event::Bytes(_))) => true,
        // an empty one, and one that begins with nil, is an object to PHP
        Ok(Some(Event::Map)) if answer.status == 64 => {
            !matches!(reader.pull(), Ok(Some(Event::Null | Event::End)) | Err(_))
        }
        Ok(_) | Err(_) => false,
    };
    assert!(is_sound, "old clients end by it: {:?}", show(bytes));
}
