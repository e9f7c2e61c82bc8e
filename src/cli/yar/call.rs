//! `remora yar call`: one call to any Yar server, over HTTP, TCP or a unix socket.

use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use proto_adapters::yar::{self, Code, Exception, HEAD, Header, Packager, Response};
use proto_adapters::{Options, Wire, body_to_params, transcode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::cli::{print, runtime, tell};
use crate::units;
use crate::words::beginning;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes of what is no answer that are shown.
const SHOWN: usize = 60;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// http://host[:port]/path, tcp://host:port or unix:/path
    url: Url,
    /// The function; toward raw Yar of remora service.api
    method: String,
    /// A JSON list of the parameters; an object is one parameter
    #[arg(default_value = "[]")]
    params: String,
    /// How the call is packed
    #[arg(long, value_enum, default_value_t = Packed::Msgpack)]
    packager: Packed,
    /// Who calls, in the header's provider
    #[arg(long, default_value = "")]
    provider: String,
    /// The caller's key, in the header's token
    #[arg(long, default_value = "")]
    token: String,
    /// How long the whole call may take
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Packed {
    Msgpack,
    Json,
    Php,
}

/// Where a server is called.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Url {
    /// `host:port`, and the path with its query.
    Http(String, String),
    /// `host:port`.
    Tcp(String),
    /// The socket's path.
    Unix(String),
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if let Some(rest) = url.strip_prefix("http://") {
            let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let host = if has_port { host.to_owned() } else { format!("{host}:80") };
            let slash = if path.starts_with('/') { "" } else { "/" };
            return Ok(Self::Http(host, format!("{slash}{path}")));
        }
        if let Some(host) = url.strip_prefix("tcp://") {
            return Ok(Self::Tcp(host.trim_end_matches('/').to_owned()));
        }
        match url.strip_prefix("unix:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.to_owned())),
            Some(_) | None => {
                Err("no URL of a Yar server; write http://host/path, tcp://host:port or unix:/path".into())
            }
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), String> {
    let (packager, wire) = match args.packager {
        Packed::Msgpack => (Packager::Msgpack, Wire::Msgpack),
        Packed::Json => (Packager::Json, Wire::Json),
        Packed::Php => (Packager::Php, Wire::Php),
    };
    let params = body_to_params(args.params.as_bytes(), wire, &[], Options::default())
        .map_err(|fault| format!("the parameters: {fault}"))?;
    let (id, provider, token) = (fastrand::u32(1..), args.provider.as_bytes(), args.token.as_bytes());
    let request = yar::encode_request(packager, id, provider, token, &args.method, &params)
        .map_err(|fault| fault.to_string())?;
    let exchanged = runtime()?.block_on(async {
        let late = |_| format!("no answer within {}", units::show_duration(args.timeout));
        tokio::time::timeout(args.timeout, exchange(&args.url, request)).await.map_err(late)?
    });
    let result = result(&exchanged?, id)?;
    print(&format!("{result}\n"))
}

async fn exchange(url: &Url, request: Vec<u8>) -> Result<Bytes, String> {
    let unreached = |e: std::io::Error| format!("the server can't be reached: {e}");
    match url {
        Url::Http(host, path) => {
            let stream = TcpStream::connect(host).await.map_err(unreached)?;
            over_http(stream, host, path, request).await
        }
        Url::Tcp(host) => raw(TcpStream::connect(host).await.map_err(unreached)?, request).await,
        Url::Unix(path) => raw(UnixStream::connect(path).await.map_err(unreached)?, request).await,
    }
}

async fn over_http(stream: TcpStream, host: &str, path: &str, request: Vec<u8>) -> Result<Bytes, String> {
    let broken = |e: hyper::Error| format!("the call broke off: {e}");
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::post(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(request)))
        .map_err(|e| format!("the URL: {e}"))?;
    let answer = async {
        let (head, body) = send.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|e| format!("the answer broke off: {e}"))?.to_bytes();
        if head.status.is_success() || yar::is_yar(&body) {
            return Ok(body);
        }
        Err(format!("the server answered HTTP {}: \"{}\"", head.status.as_u16(), begun(&body)))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // the connection ends before its last answer is taken up
        _ = &mut connection => answer.await,
    }
}

/// As PHP's persistent client: a server may take an end behind the request for a caller that left.
async fn raw(mut stream: impl AsyncRead + AsyncWrite + Unpin, mut request: Vec<u8>) -> Result<Bytes, String> {
    yar::mark_persistent(&mut request);
    stream.write_all(&request).await.map_err(|e| format!("the call broke off: {e}"))?;
    let mut answers = yar::Stream::default();
    loop {
        let no_yar =
            |fault| format!("the answer is not Yar: {fault}; it begins \"{}\"", begun(answers.ahead()));
        if let Some(length) = answers.length().map_err(no_yar)?
            && length > MAX_ANSWER
        {
            return Err(format!("the answer announces {length} bytes; {MAX_ANSWER} are read at most"));
        }
        if let Some(answer) = answers.take().map_err(|fault| fault.to_string())? {
            return Ok(answer.into());
        }
        let read = stream.read_buf(answers.room()).await.map_err(|e| format!("the answer broke off: {e}"))?;
        if read == 0 {
            let have = answers.ahead().len();
            return Err(format!("the server closed the connection after {have} bytes of its answer"));
        }
    }
}

/// What a call returned, as JSON; fails with the exception it threw.
fn result(answer: &[u8], id: u32) -> Result<String, String> {
    if answer.is_empty() {
        return Err("an empty answer; see the server's PHP error log".into());
    }
    let bad = |fault| format!("the answer can't be read: {fault}; it begins \"{}\"", begun(answer));
    let header = Header::parse(answer).map_err(bad)?;
    let payload = answer.get(HEAD..).unwrap_or_default();
    let read = Response::read(header.packager, payload).map_err(bad)?;
    if read.id.is_none_or(|other| other != 0 && other != u64::from(id)) {
        return Err("the answer belongs to another request".into());
    }
    let part = |range: Option<std::ops::Range<usize>>| range.and_then(|range| payload.get(range));
    if read.status != 0 {
        return Err(thrown(&Exception::read(header.packager, read.status, part(read.error))));
    }
    let wire = header.packager.wire();
    let json = |value, root| {
        let carried = transcode(wire, Wire::Json, value, root, Options::default());
        carried.map(|json| String::from_utf8_lossy(&json).into_owned()).map_err(|fault| fault.to_string())
    };
    let output = part(read.output).map(|output| json(output, "$.o")).transpose()?;
    // servers without PHP send an empty one with every answer
    if let Some(output) = output.filter(|output| output != "\"\"") {
        tell(&format!("the function printed {output}"));
    }
    let result = part(read.result).ok_or("the function ended without a result, as by exit()")?;
    json(result, "$.r")
}

fn thrown(exception: &Exception) -> String {
    let Exception { class, message, code, .. } = exception;
    match code {
        Code::Int(code) => format!("{class}: {message} (code {code})"),
        Code::Str(code) => format!("{class}: {message} (code {code})"),
    }
}

fn begun(bytes: &[u8]) -> String {
    beginning(bytes, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_a_server_is_called() {
        let http = |host: &str, path: &str| Ok(Url::Http(host.into(), path.into()));
        assert_eq!("http://127.0.0.1:9501/calc".parse(), http("127.0.0.1:9501", "/calc"));
        assert_eq!("http://calc?x=1".parse(), http("calc:80", "/?x=1"));
        assert_eq!("http://[::1]/a".parse(), http("[::1]:80", "/a"));
        assert_eq!("tcp://127.0.0.1:9501".parse(), Ok(Url::Tcp("127.0.0.1:9501".into())));
        for unix in ["unix:/run/remora.sock", "unix:///run/remora.sock"] {
            assert_eq!(unix.parse(), Ok(Url::Unix("/run/remora.sock".into())));
        }
        for bad in ["https://a/", "127.0.0.1:9501", "unix:remora.sock", ""] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }
}
