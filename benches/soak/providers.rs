//! Providers that speak HTTP with JSON and Yar-msgpack, and can be made to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::support::{peer, yar};
use super::wire::read_message;

/// What a provider does with its calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    Well,
    /// Answers 500.
    Fails,
    /// Ends in the middle of an answer.
    Cuts,
    /// Ends before an answer.
    Closes,
    /// Says nothing.
    Hangs,
    /// Says what is not HTTP.
    Babbles,
}

impl Mode {
    pub(crate) const ALL: [Mode; 6] =
        [Mode::Well, Mode::Fails, Mode::Cuts, Mode::Closes, Mode::Hangs, Mode::Babbles];
}

/// A thread with a runtime; runs as long as the process.
pub(crate) struct Provider {
    pub(crate) address: String,
    mode: Arc<AtomicUsize>,
}

impl Provider {
    pub(crate) fn start() -> Provider {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mode = Arc::<AtomicUsize>::default();
        let seen = mode.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    tokio::spawn(serve(stream, seen.clone()));
                }
            });
        });
        Provider { address, mode }
    }

    pub(crate) fn be(&self, mode: Mode) {
        self.mode.store(mode as usize, Relaxed);
    }
}

async fn serve(mut stream: TcpStream, mode: Arc<AtomicUsize>) {
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::with_capacity(8 << 10);
    while let Ok(Some(end)) = read_message(&mut stream, &mut bytes).await {
        let whole = answer(&bytes[..end]);
        bytes.drain(..end);
        let (reply, stays): (&[u8], bool) = match Mode::ALL[mode.load(Relaxed)] {
            Mode::Well => (&whole, true),
            Mode::Fails => (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", true),
            Mode::Cuts => (&whole[..whole.len() - 1], false),
            Mode::Closes => (b"", false),
            Mode::Babbles => (b"what?\r\n\r\n", false),
            Mode::Hangs => (b"", true),
        };
        if stream.write_all(reply).await.is_err() || !stays {
            return;
        }
    }
}

/// A Yar message is answered with `true`, anything else with its own body or a small object.
fn answer(request: &[u8]) -> Vec<u8> {
    let head = request.windows(4).position(|part| part == b"\r\n\r\n").map_or(request.len(), |at| at + 4);
    let body = &request[head..];
    let json = [("Content-Type", "application/json")];
    match body {
        [] => peer::answer(200, &json, b"{\"name\":\"product\",\"price\":12.25}"),
        _ if body.get(6..10) == Some(&[0x80, 0xdf, 0xec, 0x60]) => {
            peer::answer(200, &[], &yar::msgpack_answer(body, &[0xc3]))
        }
        _ => peer::answer(200, &json, body),
    }
}
