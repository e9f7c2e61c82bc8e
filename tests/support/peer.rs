//! Scripted providers: threads on ports of their own that do what a test says.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::Port;
use super::http::Conn;

/// A request as it reached the provider.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub chunked: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Head of the next request; `None` where the caller closed.
    pub fn read_head(conn: &mut Conn) -> io::Result<Option<Request>> {
        let line = match conn.line() {
            Ok(line) => line,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut words = line.split(' ').map(str::to_owned);
        let mut request = Request {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            version: words.next().unwrap_or_default(),
            ..Request::default()
        };
        loop {
            let line = conn.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            request.headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        request.chunked =
            request.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        Ok(Some(request))
    }

    pub fn read_body(&mut self, conn: &mut Conn) -> io::Result<()> {
        if self.chunked {
            loop {
                let part = conn.chunk()?;
                if part.is_empty() {
                    break;
                }
                self.body.extend_from_slice(&part);
            }
            loop {
                let line = conn.line()?;
                if line.is_empty() {
                    return Ok(());
                }
                let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                self.trailers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        if let Some(n) = self.header("content-length") {
            let n = n.parse().map_err(io::Error::other)?;
            self.body = conn.exactly(n)?;
        }
        Ok(())
    }

    pub fn read(conn: &mut Conn) -> io::Result<Option<Request>> {
        let Some(mut request) = Request::read_head(conn)? else {
            return Ok(None);
        };
        request.read_body(conn)?;
        Ok(Some(request))
    }

    /// What the echo provider answers.
    pub fn echo(&self) -> Value {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let headers: HashMap<_, _> =
            self.headers.iter().map(|(n, v)| (n.to_lowercase(), v.clone())).collect();
        json!({
            "method": self.method,
            "path": path,
            "query": query,
            "headers": headers,
            "body": self.text(),
        })
    }
}

/// A provider on `127.0.0.1`, gone when dropped.
pub struct Peer {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<Mutex<HashMap<usize, TcpStream>>>,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Peer {
    /// `serve` gets each connection on a thread of its own, with its number from 0.
    pub fn raw(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Peer {
        Peer::on(TcpListener::bind("127.0.0.1:0").unwrap(), move |stream, n, _| serve(stream, n))
    }

    fn on(
        listener: TcpListener,
        serve: impl Fn(TcpStream, usize, &Mutex<Vec<Request>>) + Send + Sync + 'static,
    ) -> Peer {
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(Mutex::new(HashMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let serve = Arc::new(serve);
        let accepting = std::thread::spawn({
            let (requests, connections) = (requests.clone(), connections.clone());
            let (open, stop) = (open.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let n = connections.fetch_add(1, Ordering::SeqCst);
                    open.lock().unwrap().insert(n, stream.try_clone().unwrap());
                    let (serve, requests) = (serve.clone(), requests.clone());
                    let open = open.clone();
                    std::thread::spawn(move || {
                        serve(stream, n, &requests);
                        if let Some(stream) = open.lock().unwrap().remove(&n) {
                            let _ = stream.shutdown(Shutdown::Both);
                        }
                    });
                }
            }
        });
        Peer { address, requests, connections, open, stop, accepting: Some(accepting) }
    }

    /// Reads whole requests, keeps the connection, writes the bytes that `answer` gives.
    pub fn http(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Peer {
        Peer::http_on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    /// As `http`, on a port of the test's choice.
    pub fn http_at(address: &str, answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Peer {
        Peer::http_on(TcpListener::bind(address).unwrap(), answer)
    }

    fn http_on(listener: TcpListener, answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Peer {
        Peer::on(listener, move |stream, _, requests| {
            let mut conn = Conn::over(stream);
            while let Ok(Some(request)) = Request::read(&mut conn) {
                requests.lock().unwrap().push(request.clone());
                let bytes = answer(&request);
                let ends = head_says_close(&bytes);
                if conn.send(bytes).is_err() || ends {
                    break;
                }
            }
        })
    }

    /// Answers with what it got: method, path, query, headers, body.
    pub fn echo() -> Peer {
        Peer::http(|request| ok_json(&request.echo()))
    }

    /// Answers `{"peer": name}`, so that a test can count who was chosen.
    pub fn named(name: &str) -> Peer {
        let answer = ok_json(&json!({ "peer": name }));
        Peer::http(move |_| answer.clone())
    }

    /// Sends the same bytes to everyone, as soon as the request's head is there, and closes.
    pub fn cutting(bytes: impl Into<Vec<u8>>) -> Peer {
        let bytes = bytes.into();
        Peer::on(TcpListener::bind("127.0.0.1:0").unwrap(), move |stream, _, requests| {
            let mut conn = Conn::over(stream);
            if let Ok(Some(request)) = Request::read(&mut conn) {
                requests.lock().unwrap().push(request);
                let _ = conn.send(&bytes);
            }
        })
    }

    /// Reads requests and says nothing.
    pub fn silent() -> Peer {
        Peer::http(|_| Vec::new())
    }

    /// An address nobody listens on.
    pub fn refusing() -> String {
        let port = Port::free();
        let address = port.address();
        // nobody else may serve it as long as the tests run
        std::mem::forget(port);
        address
    }

    /// A listener whose queue is full: connecting gets no answer at all.
    pub fn deaf() -> Deaf {
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        // The kernel takes one or two more than it was told to.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
            assert!(waiting.len() < 16, "the queue never fills");
        }
        Deaf { address: address.to_string(), _socket: socket, _waiting: waiting }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn last(&self) -> Request {
        self.requests().pop().expect("no request reached the peer")
    }

    pub fn calls(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Cuts every connection that is open now; new ones are still taken.
    pub fn cut_connections(&self) {
        for (_, stream) in self.open.lock().unwrap().drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

pub struct Deaf {
    pub address: String,
    _socket: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept loop.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        self.cut_connections();
    }
}

fn head_says_close(answer: &[u8]) -> bool {
    let head = String::from_utf8_lossy(answer).to_lowercase();
    head.split("\r\n\r\n").next().is_some_and(|head| head.contains("connection: close"))
}

pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Because\r\n").into_bytes();
    for (name, value) in headers {
        let _ = write!(bytes, "{name}: {value}\r\n");
    }
    if !matches!(status, 204 | 304) {
        let _ = write!(bytes, "Content-Length: {}\r\n", body.len());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

pub fn ok_json(value: &Value) -> Vec<u8> {
    answer(200, &[("Content-Type", "application/json")], value.to_string().as_bytes())
}
