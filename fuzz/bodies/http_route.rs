//! Takes any bytes for what a caller sends on a connection, carries the calls in it to a provider that looks
//! closely, and asserts what must hold of what arrives on either side. Shared by the fuzz target and by the test
//! that runs the corpus.
//!
//! Time is paused: what waits in vain for more bytes waits no longer than a moment.

use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, SocketAddr as SocketName};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto_adapters::yar::{self, HEAD, Header};
use remora::directory::{Directory, Want};
use remora::gateway::{Means, Worker};
use remora::listen::{self, Door, Terms};
use remora::model::{Layout, Policy};
use remora::names::ServiceName;
use remora::registry::Node;
use remora::socket::Bound;
use remora::telemetry::Telemetry;
use remora::upstream::Budget;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};

use super::message;
use super::strict::{self, Message};

/// Longer than anything else takes.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Largest body of a request, in bytes.
const MAX_BODY: u64 = 64 << 10;
/// Bytes of bodies held at once to be converted.
const BUFFERS: u64 = 1 << 20;
/// Parts a connection's bytes are cut into at most.
const MAX_PARTS: usize = 16;

const SERVICES: [&str; 4] = ["json", "yar", "locked", "off"];
/// The nodes of every service; the last one is the providers'.
const NODES: [(&str, &str); 13] = [
    ("/api/json/get", r#"{"path":"/get"}"#),
    ("/api/json/put", r#"{"path":"/put?x=1","method":"PUT","params":["id","name"]}"#),
    ("/api/json/head", r#"{"path":"/get","method":"HEAD"}"#),
    ("/api/json/*", r#"{"path":"/any/"}"#),
    ("/api/yar/msgpack", r#"{"encoding":"yar-msgpack","params":["a","b"]}"#),
    ("/api/yar/gbk", r#"{"encoding":"yar-msgpack","policy":{"charset":"gbk","bytes":"base64"}}"#),
    ("/api/yar/json", r#"{"encoding":"yar-json","path":"/rpc"}"#),
    ("/api/yar/php", r#"{"encoding":"yar-php","transport":"tcp"}"#),
    ("/service/locked", r#"{"access":"key"}"#),
    // SHA-256 of `sesame`
    (
        "/access/locked/web",
        r#"{"keys":[{"sha256":"d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272"}],"apis":["g*"]}"#,
    ),
    ("/api/locked/get", r#"{"path":"/get"}"#),
    ("/service/off", r#"{"state":"off"}"#),
    ("/api/off/get", "{}"),
];
/// Headers that hold for one connection, and what is told to remora alone.
const NEVER_PASSED: [&str; 11] = [
    "te",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "upgrade",
    "expect",
    "http2-settings",
    "x-api-key",
    "hostname",
];

/// What one connection came to.
pub(crate) struct Exchange {
    /// All that the caller got.
    pub(crate) answers: Vec<u8>,
    /// What the provider got, request by request.
    requests: Vec<Got>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Got {
    Http(Message),
    Yar(Vec<u8>),
}

/// Sockets that live as long as the process, so that runs leave nothing behind.
pub(crate) struct World {
    door: net::UnixListener,
    at: SocketName,
    provider: std::net::TcpListener,
    telemetry: Telemetry,
}

pub(crate) type Seen = Arc<Mutex<Vec<Result<Got, String>>>>;

/// The first byte is how the rest is cut.
pub(crate) fn run(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    World::with(|world| {
        let whole = world.exchange(bytes, bytes.len(), provide);
        let statuses = check(bytes, &whole);
        if *cut > 0 {
            let part = usize::from(*cut).max(bytes.len().div_ceil(MAX_PARTS));
            let parted = world.exchange(bytes, part, provide);
            // the time in which the registry answers is real, and the machine may be busy
            let is_late = |exchange: &Exchange| {
                exchange.answers.windows(20).any(|part| part == b"registry-unavailable")
            };
            if is_late(&whole) || is_late(&parted) {
                return;
            }
            // an answer that comes early ends the connection, or not, by what has arrived
            let same = check(bytes, &parted).iter().zip(&statuses).all(|(one, other)| one == other);
            assert!(same, "the cuts change nothing: {:?} {:?}", show(&whole.answers), show(&parted.answers));
            let same = parted.requests.iter().zip(&whole.requests).all(|(one, other)| one == other);
            assert!(same, "the cuts change nothing: {:?} {:?}", whole.requests, parted.requests);
        }
    });
}

impl World {
    /// Runs `work` in the world of this thread.
    pub(crate) fn with(work: impl FnOnce(&Self)) {
        thread_local!(static WORLD: World = World::new());
        WORLD.with(work);
    }

    fn new() -> Self {
        let provider = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = provider.local_addr().expect("a bound socket has an address").port();
        // a name without a file, that nobody else has
        let at = SocketName::from_abstract_name(format!("remora-fuzz-{port}")).expect("a short name");
        let door = net::UnixListener::bind_addr(&at).expect("the name is free");
        door.set_nonblocking(true).expect("sockets need not block");
        provider.set_nonblocking(true).expect("sockets need not block");
        let telemetry = Telemetry::new().expect("instruments can be made");
        Self { door, at, provider, telemetry }
    }

    /// One connection, its bytes sent in parts of this length, with calls that `provide` answers.
    pub(crate) fn exchange<F: Future<Output = ()> + Send + 'static>(
        &self,
        bytes: &[u8],
        part: usize,
        provide: impl FnOnce(TcpListener, SocketAddr, Seen) -> F,
    ) -> Exchange {
        // ids of requests, and whom they go to
        fastrand::seed(7);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime can be made").block_on(async {
            let policy = Policy {
                timeout: PATIENCE,
                connect_timeout: PATIENCE,
                idle_timeout: PATIENCE,
                max_body: MAX_BODY,
                ..Policy::default()
            };
            let (directory, wants) = Directory::new(policy.clone(), None, self.telemetry.clone());
            let address = self.provider.local_addr().expect("a bound socket has an address");
            publish(&directory, address);
            let buffers = Budget::new(BUFFERS, 1);
            let means = Means {
                host: "web-17".into(),
                host_caller: None,
                defaults: policy,
                buffers: buffers.clone(),
                memory: std::sync::Arc::default(),
                askers: ["web".to_owned()].into(),
                end: std::sync::Arc::default(),
            };
            let worker = Worker::new(directory.clone(), self.telemetry.clone(), means);
            let seen = Seen::default();
            let listener =
                self.provider.try_clone().and_then(TcpListener::from_std).expect("a socket can be shared");
            let absent = tokio::spawn(no_others(directory.clone(), wants));
            let provider = tokio::spawn(provide(listener, address, seen.clone()));
            let socket = Bound::Unix(self.door.try_clone().expect("a socket can be shared"));
            let terms = Terms { service: ServiceName::new("yar").ok(), ..Terms::default() };
            let door = Door { socket, terms: Arc::new(terms) };
            let (stop, stopped) = watch::channel(false);
            let served = tokio::spawn(listen::serve(worker, vec![door], listen::Seats::new(4), stopped));
            let answers = self.call(bytes, part).await;
            stop.send_replace(true);
            served.await.expect("the door is closed in order");
            absent.abort();
            provider.abort();
            assert_eq!(buffers.held(), 0, "what is held is given back");
            for name in SERVICES.iter().filter_map(|name| ServiceName::new(name).ok()) {
                let entry = directory.known(&name).expect("it was published");
                assert_eq!(entry.gate.in_flight(), 0, "counted in and out");
            }
            let seen = std::mem::take(&mut *seen.lock().expect("nobody panicked"));
            let got =
                |one: Result<Got, String>| one.unwrap_or_else(|reason| panic!("the provider got {reason}"));
            Exchange { answers, requests: seen.into_iter().map(got).collect() }
        })
    }

    /// Sends all, and reads until the other side ends.
    async fn call(&self, bytes: &[u8], part: usize) -> Vec<u8> {
        let stream = net::UnixStream::connect_addr(&self.at).expect("the door is open");
        stream.set_nonblocking(true).expect("sockets need not block");
        let mut stream = UnixStream::from_std(stream).expect("a runtime takes sockets");
        let (mut read, mut write) = stream.split();
        let mut answers = Vec::new();
        let send = async {
            for part in bytes.chunks(part.max(1)) {
                if write.write_all(part).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // an end that is no regular one is seen by what is missing
        let _ = tokio::join!(send, read.read_to_end(&mut answers));
        answers
    }
}

fn publish(directory: &Directory, provider: SocketAddr) {
    for service in SERVICES.iter().filter_map(|name| ServiceName::new(name).ok()) {
        let node = |path: String, data: &str| Node { path, data: Ok(data.into()), ephemeral: false };
        let mut nodes: Vec<_> = NODES.iter().map(|(path, data)| node((*path).into(), data)).collect();
        nodes.push(node(format!("/address/{service}/{provider}"), "{}"));
        let parsed = Layout::Flat.parse(&service, &nodes, None).expect("it has nodes");
        assert!(parsed.skipped.is_empty(), "{:?}", parsed.skipped);
        directory.publish(&service, Some(parsed.into()));
    }
}

/// No other service is there.
async fn no_others(directory: Arc<Directory>, mut wants: mpsc::Receiver<Want>) {
    while let Some(want) = wants.recv().await {
        directory.publish(&want.service, None);
        // whoever asked may be gone
        let _ = want.loaded.send(Ok(()));
    }
}

/// Answers every request, and keeps what it got.
async fn provide(listener: TcpListener, own: SocketAddr, seen: Seen) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(provide_one(stream, own, seen.clone()));
    }
}

async fn provide_one(mut stream: TcpStream, own: SocketAddr, seen: Seen) {
    // no port waits for stragglers
    let _ = stream.set_zero_linger();
    let mut bytes = Vec::new();
    loop {
        let answer = match next(&mut bytes, own) {
            Ok(None) if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 => return,
            Ok(None) => continue,
            Ok(Some(got)) => {
                let answer = answer(&got);
                seen.lock()
                    .expect("nobody panicked")
                    .push(answer.as_ref().map(|_| got).map_err(Clone::clone));
                answer.unwrap_or_default()
            }
            Err(reason) => return seen.lock().expect("nobody panicked").push(Err(reason)),
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Takes one request off what has arrived; fails with what is wrong with it.
fn next(bytes: &mut Vec<u8>, own: SocketAddr) -> Result<Option<Got>, String> {
    if yar::is_yar(bytes) {
        let mut stream = yar::Stream::new(bytes);
        let message = stream.take().map_err(|fault| fault.to_string())?;
        message.iter().for_each(|message| drop(bytes.drain(..message.len())));
        return Ok(message.map(Got::Yar));
    }
    let Some(mut request) = Message::request(bytes)? else { return Ok(None) };
    // where its chunks end is not what a body is
    bytes.drain(..std::mem::take(&mut request.end));
    let wrong = |what: &str| Err(format!("{what}: {request:?}"));
    if request.header("host") != Some(own.to_string().as_str()) {
        return wrong("another Host");
    }
    if NEVER_PASSED
        .iter()
        .any(|name| request.header(name).is_some_and(|_| *name != "hostname" || is_yar(&request)))
    {
        return wrong("a header that should have stayed");
    }
    let path = request.start[1].split('?').next().unwrap_or_default();
    let is_below = path.strip_prefix("/any/").is_some_and(|rest| !climbs(rest));
    if !is_below && !["/get", "/put", "/rpc", "/"].contains(&path) {
        return wrong("a path that no api has");
    }
    Ok(Some(Got::Http(request)))
}

/// Whether it came to an api of Yar; to others a message is a body as any.
fn is_yar(request: &Message) -> bool {
    ["/", "/rpc"].contains(&request.start[1].as_str())
}

/// Whether a server that decodes it once finds a way up in it.
fn climbs(path: &str) -> bool {
    let (mut plain, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        plain.push(byte.unwrap_or(*first));
        rest = behind.get(if byte.is_some() { 2.. } else { 0.. }).unwrap_or_default();
    }
    plain.split(|byte| *byte == b'/' || *byte == b'\\').any(|name| name == b"." || name == b"..")
}

fn answer(got: &Got) -> Result<Vec<u8>, String> {
    let (kind, body) = match got {
        Got::Yar(message) => return result(message),
        Got::Http(request) if is_yar(request) => ("application/octet-stream", result(&request.body)?),
        Got::Http(_) => ("application/json", br#"{"found":[1,2.5,null]}"#.to_vec()),
    };
    let is_head = matches!(got, Got::Http(request) if request.start[0] == "HEAD");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Provider: 1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    Ok([head.as_bytes(), if is_head { b"" } else { &body }].concat())
}

/// The parameters of a Yar request, given back.
fn result(message: &[u8]) -> Result<Vec<u8>, String> {
    let header = Header::parse(message).map_err(|fault| fault.to_string())?;
    let payload = message.get(HEAD..).unwrap_or_default();
    let request = yar::Request::read(header.packager, payload).map_err(|fault| fault.to_string())?;
    let params = payload.get(request.params).filter(|params| !params.is_empty()).ok_or("no parameters")?;
    Ok(yar::encode_result(header.packager, header.id, params, None))
}

/// Checks both sides, and gives the status of every answer.
fn check(bytes: &[u8], exchange: &Exchange) -> Vec<u16> {
    if yar::is_yar(bytes) {
        return check_raw(exchange);
    }
    let (mut rest, mut statuses) = (&exchange.answers[..], Vec::new());
    while !rest.is_empty() {
        let answer = Message::answer(rest).unwrap_or_else(|reason| panic!("{reason}: {:?}", show(rest)));
        let Some(answer) = answer else { panic!("half an answer: {:?}", show(rest)) };
        rest = rest.get(answer.end..).unwrap_or_default();
        if answer.status() != Some(100) {
            check_answer(&answer);
            statuses.extend(answer.status());
        }
    }
    assert!(exchange.requests.len() <= statuses.len(), "more calls than answers: {:?}", exchange.requests);
    check_requests(bytes, &exchange.requests);
    statuses
}

/// What came to the provider is what a strict reader finds in the caller's bytes, where they leave no doubt.
fn check_requests(bytes: &[u8], requests: &[Got]) {
    let (mut rest, mut asked) = (bytes, Vec::new());
    while let Ok(Some(request)) = Message::request(rest) {
        rest = rest.get(request.end..).unwrap_or_default();
        asked.push(request);
    }
    if strict::hides_length(rest) {
        assert!(requests.len() <= asked.len(), "a request whose length is hidden went on: {requests:?}");
    }
    if !rest.is_empty() {
        return;
    }
    let mut asked = asked.iter();
    for request in requests {
        let Got::Http(request) = request else { continue };
        let (_, query) = request.start[1].split_once('?').unwrap_or_default();
        let own = query.strip_prefix("x=1").unwrap_or(query).trim_start_matches('&');
        let is_same = |other: &Message| other.body == request.body && other.start[1].ends_with(own);
        let is_adapted = |other: &Message| is_yar(request) || yar::is_yar(&other.body);
        assert!(asked.any(|other| is_adapted(other) || is_same(other)), "nobody asked {request:?}");
    }
}

pub(crate) fn check_answer(answer: &Message) {
    let status = answer.status().unwrap_or_default();
    match answer.header("content-type") {
        Some("application/problem+json") if !answer.body.is_empty() => {
            let problem: Value = serde_json::from_slice(&answer.body).expect("a problem is JSON");
            let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:remora:"));
            assert!(kind.is_some_and(|kind| !kind.is_empty()), "{problem}");
            assert_eq!(problem["status"], status, "{problem}");
            assert!(problem["service"].is_string() && problem["api"].is_string(), "{problem}");
            message::check(problem["detail"].as_str().unwrap_or_default());
            assert!(answer.header("proxy-status").is_some_and(|value| value.starts_with("remora; error=")));
        }
        Some("application/octet-stream") if !answer.body.is_empty() => check_yar(&answer.body),
        Some("application/json") if !answer.body.is_empty() => {
            let value: Result<Value, _> = serde_json::from_slice(&answer.body);
            assert!(status == 200 && value.is_ok(), "{:?}", show(&answer.body));
        }
        // the HTTP library's own refusal
        None => assert!(answer.body.is_empty() && status >= 400, "{answer:?}"),
        _ => {}
    }
}

fn check_raw(exchange: &Exchange) -> Vec<u16> {
    let (mut stream, mut statuses) = (yar::Stream::new(&exchange.answers), Vec::new());
    while let Some(message) = stream.take().expect("answers are Yar") {
        check_yar(&message);
        statuses.push(200);
    }
    assert!(stream.ahead().is_empty(), "half an answer");
    assert!(exchange.requests.len() <= statuses.len(), "more calls than answers: {:?}", exchange.requests);
    statuses
}

fn check_yar(bytes: &[u8]) {
    let header = Header::parse(bytes).expect("an answer has a head");
    let payload = bytes.get(HEAD..).unwrap_or_default();
    let answer = yar::Response::read(header.packager, payload).expect("an answer has a payload");
    if let (64, Some(e)) = (answer.status, answer.error.and_then(|at| payload.get(at))) {
        let thrown = yar::Exception::read(header.packager, answer.status, Some(e));
        message::check(&thrown.message);
        assert!(thrown.class.starts_with("Remora\\"), "{thrown:?}");
    } else {
        assert_eq!(answer.status, 0, "{:?}", show(bytes));
    }
}

pub(crate) fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
