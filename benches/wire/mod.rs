//! HTTP as benches speak it, and a provider whose answers have a size that the path names.

#![allow(dead_code, reason = "each bench uses its own part")]

use std::io;
use std::net::SocketAddr;

use proto_adapters::yar::{self, HEAD, Packager};
use proto_adapters::{Options, Wire, transcode};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What callers show, as `X-Caller` and `X-Api-Key`.
pub(crate) const CALLER: [&str; 2] = ["web", "a-key-of-the-bench"];
/// Of every answer that is no echo and not large.
pub(crate) const SMALL: usize = 200;

/// The caller's entry below a service, with a quota that nothing uses up.
pub(crate) fn access() -> String {
    let hash: String = Sha256::digest(CALLER[1]).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{{ apis: [\"*\"], keys: [ {{ sha256: {hash} }} ], \
         quota: {{ rate: 1000000, per: 1s, burst: 1000000, scope: host }} }}"
    )
}

/// Starts a provider on a thread of its own; connections stay open.
///
/// It answers with the first parameter of a Yar message, the body of a request to `…/echo`, 8 KB on `…/large`, and
/// 200 bytes otherwise.
pub(crate) fn provider() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(serve(stream));
            }
        });
    });
    address
}

async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (small, large) = (named(SMALL), named(8 << 10));
    let mut bytes = Vec::with_capacity(16 << 10);
    while let Ok(Some(end)) = read_message(&mut stream, &mut bytes).await {
        let head = bytes.windows(4).position(|part| part == b"\r\n\r\n").map_or(end, |at| at + 4);
        let body = &bytes[head..end];
        let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
        let is = |name: &[u8]| line.windows(name.len()).any(|part| part == name);
        let sent = if yar::Header::parse(body).is_ok() {
            stream.write_all(&answer(&yar_result(body))).await
        } else if is(b"/echo") {
            stream.write_all(&answer(body)).await
        } else {
            stream.write_all(if is(b"/large") { &large } else { &small }).await
        };
        if sent.is_err() {
            return;
        }
        bytes.drain(..end);
    }
    let _ = stream.read(&mut [0]).await;
}

fn named(size: usize) -> Vec<u8> {
    answer(format!("{{\"name\":\"{}\"}}", "n".repeat(size - 11)).as_bytes())
}

fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The first parameter.
fn yar_result(message: &[u8]) -> Vec<u8> {
    let header = yar::Header::parse(message).unwrap();
    let request = yar::Request::read(Packager::Msgpack, &message[HEAD..]).unwrap();
    yar::encode_result(Packager::Msgpack, header.id, &message[HEAD..][request.params], None)
}

/// What an API answers or is asked: some fields and a list of small objects, 1 KB in all, as a list of one parameter.
pub(crate) fn kilobyte() -> String {
    let item = |n: u32| format!("{{\"id\":{n},\"name\":\"product {n}\",\"price\":{n}.25,\"stock\":null}}");
    let items: Vec<_> = (101..118).map(item).collect();
    format!("[{{\"user\":\"Grüße\",\"ok\":true,\"items\":[{}]}}]", items.join(","))
}

/// The same as the parameters of a Yar message to `echo`.
pub(crate) fn kilobyte_of_yar() -> Vec<u8> {
    let params =
        transcode(Wire::Json, Wire::Msgpack, kilobyte().as_bytes(), "$", Options::default()).unwrap();
    yar::encode_request(Packager::Msgpack, 7, b"", b"", "echo", &params).unwrap()
}

/// A request with further header lines, each with its end.
pub(crate) fn request(method: &str, path: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let length = match body {
        [] => String::new(),
        body => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: GuzzleHttp/7\r\nAccept: */*\r\n{length}{more}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Header lines with a caller's key.
pub(crate) fn keyed() -> String {
    let [caller, key] = CALLER;
    format!("X-Caller: {caller}\r\nX-Api-Key: {key}\r\n")
}

/// Run time of these threads of a process so far: those whose name begins with `name`.
pub(crate) fn run_time(pid: u32, name: &str) -> std::time::Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let is_named = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).unwrap_or_default().starts_with(name)
    };
    let run_time = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    };
    std::time::Duration::from_nanos(
        tasks.filter(|task| name.is_empty() || is_named(task)).map(run_time).sum(),
    )
}

/// Reads on into `bytes` until they hold a whole message; where that ends. `None`: closed before.
pub(crate) async fn read_message<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> io::Result<Option<usize>> {
    loop {
        if let Some(head) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let end = head + 4 + length(&bytes[..head]);
            while bytes.len() < end {
                if stream.read_buf(bytes).await? == 0 {
                    return Ok(None);
                }
            }
            return Ok(Some(end));
        }
        if stream.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

fn length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let lines = head.split(|b| *b == b'\n');
    let named = lines.filter_map(|line| line.split_at_checked(NAME.len()));
    let value = named.filter(|(name, _)| name.eq_ignore_ascii_case(NAME)).map(|(_, value)| value).next();
    value.and_then(|value| str::from_utf8(value).ok()?.trim().parse().ok()).unwrap_or(0)
}
