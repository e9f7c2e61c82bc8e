//! An HTTP client that lets a test decide on every byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// How long a read waits before the test counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        find(&self.trailers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {} {}", self.status, self.text()))
    }

    /// The `<kind>` of an answer that remora made itself.
    pub fn kind(&self) -> Option<String> {
        let content = self.header("content-type")?;
        if !content.starts_with("application/problem+json") {
            return None;
        }
        let kind = self.json()["type"].as_str()?.to_owned();
        kind.strip_prefix("urn:remora:").map(str::to_owned)
    }
}

fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection, with what was read but not used yet.
pub struct Conn {
    stream: Stream,
    ahead: Vec<u8>,
}

impl Conn {
    pub fn open(address: &str) -> Conn {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|e| panic!("can't connect to {address}: {e}"));
        Conn::over(stream)
    }

    pub fn over(stream: TcpStream) -> Conn {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Conn { stream: Stream::Tcp(stream), ahead: Vec::new() }
    }

    pub fn open_unix(path: &Path) -> Conn {
        let stream =
            UnixStream::connect(path).unwrap_or_else(|e| panic!("can't connect to {}: {e}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Conn { stream: Stream::Unix(stream), ahead: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = bytes.as_ref();
        match &mut self.stream {
            Stream::Tcp(s) => s.write_all(bytes),
            Stream::Unix(s) => s.write_all(bytes),
        }
    }

    /// A second handle to the same socket, to write while another thread reads.
    pub fn writer(&self) -> Box<dyn Write + Send> {
        match &self.stream {
            Stream::Tcp(s) => Box::new(s.try_clone().unwrap()),
            Stream::Unix(s) => Box::new(s.try_clone().unwrap()),
        }
    }

    pub fn half_close(&self) {
        match &self.stream {
            Stream::Tcp(s) => s.shutdown(Shutdown::Write).unwrap(),
            Stream::Unix(s) => s.shutdown(Shutdown::Write).unwrap(),
        }
    }

    pub fn wait_at_most(&self, patience: Duration) {
        match &self.stream {
            Stream::Tcp(s) => s.set_read_timeout(Some(patience)).unwrap(),
            Stream::Unix(s) => s.set_read_timeout(Some(patience)).unwrap(),
        }
    }

    /// How long a write may wait for its reader.
    pub fn write_at_most(&self, patience: Duration) {
        match &self.stream {
            Stream::Tcp(s) => s.set_write_timeout(Some(patience)).unwrap(),
            Stream::Unix(s) => s.set_write_timeout(Some(patience)).unwrap(),
        }
    }

    /// Reads more into `ahead`; 0 at the end of the stream.
    fn fill(&mut self) -> io::Result<usize> {
        let mut part = vec![0; 65536];
        // a read with a time limit ends as interrupted where the whole machine was paused
        let n = loop {
            let read = match &mut self.stream {
                Stream::Tcp(s) => s.read(&mut part),
                Stream::Unix(s) => s.read(&mut part),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.ahead.extend_from_slice(&part[..n]);
        Ok(n)
    }

    fn need(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the peer closed after {:?}", String::from_utf8_lossy(&self.ahead)),
            )),
            _ => Ok(()),
        }
    }

    pub fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.need()?;
        }
    }

    pub fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < n {
            self.need()?;
        }
        Ok(self.ahead.drain(..n).collect())
    }

    /// Everything up to the peer's close.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// True where the peer has closed and nothing more came.
    pub fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && matches!(self.fill(), Ok(0) | Err(_)) && self.ahead.is_empty()
    }

    fn headers(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(headers);
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }

    /// Status line and headers; interim answers are answers too.
    pub fn head(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words
            .next()
            .and_then(|s| s.parse().ok())
            .ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))?;
        let headers = self.headers()?;
        Ok(Answer { version, status, headers, ..Answer::default() })
    }

    /// One chunk; empty for the last one.
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = self.line()?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let n = usize::from_str_radix(digits, 16)
            .map_err(|_| io::Error::other(format!("not a chunk size: {size:?}")))?;
        if n == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.exactly(n)?;
        self.exactly(2)?;
        Ok(bytes)
    }

    /// The body that belongs to `answer`, by its own framing.
    pub fn body(&mut self, answer: &mut Answer, asked_by_head: bool) -> io::Result<()> {
        if asked_by_head || matches!(answer.status, 100..=199 | 204 | 304) {
            return Ok(());
        }
        if answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            loop {
                let part = self.chunk()?;
                if part.is_empty() {
                    answer.trailers = self.headers()?;
                    return Ok(());
                }
                answer.body.extend_from_slice(&part);
            }
        }
        answer.body = match answer.header("content-length") {
            Some(n) => {
                let n = n.parse().map_err(io::Error::other)?;
                self.exactly(n)?
            }
            None => self.rest()?,
        };
        Ok(())
    }

    /// A whole answer; interim ones before it are left out.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let mut answer = self.head()?;
            self.body(&mut answer, false)?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    pub fn answer_to_head(&mut self) -> io::Result<Answer> {
        self.head()
    }

    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.send(request(method, target, headers, body))?;
        if method == "HEAD" { self.answer_to_head() } else { self.answer() }
    }
}

/// The bytes of a request; `Host` and `Content-Length` are added where they are missing.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let named = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !named("host") {
        head += "Host: localhost\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !named("content-length") && !named("transfer-encoding") && !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// One request on a connection of its own.
pub fn call(address: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    Conn::open(address)
        .request(method, target, headers, body)
        .unwrap_or_else(|e| panic!("{method} {target}: {e}"))
}

pub fn get(address: &str, target: &str) -> Answer {
    call(address, "GET", target, &[], b"")
}

pub fn post_json(address: &str, target: &str, body: &str) -> Answer {
    let json = [("Content-Type", "application/json")];
    call(address, "POST", target, &json, body.as_bytes())
}
