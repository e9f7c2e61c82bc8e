//! HTTP as benches speak it, and a provider whose answers have a size that the path names.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts a provider on a thread of its own; connections stay open.
pub(crate) fn provider() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let (small, large) = (answer(200), answer(8 << 10));
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(serve(stream, small.clone(), large.clone()));
            }
        });
    });
    address
}

async fn serve(mut stream: TcpStream, small: Vec<u8>, large: Vec<u8>) {
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::with_capacity(16 << 10);
    while let Ok(Some(end)) = read_message(&mut stream, &mut bytes).await {
        let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
        let is_large = line.windows(6).any(|part| part == b"/large");
        if stream.write_all(if is_large { &large } else { &small }).await.is_err() {
            return;
        }
        bytes.drain(..end);
    }
    let _ = stream.read(&mut [0]).await;
}

fn answer(size: usize) -> Vec<u8> {
    let body = format!("{{\"name\":\"{}\"}}", "n".repeat(size - 11));
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
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
