//! Callers of every kind, at a steady rate or as fast as they can, on one thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::{http, yar};
use super::wire::read_message;
use super::world::{GUESTS, World};

/// Callers of each kind.
const EACH: u32 = 4;
/// Of the lost calls so many are told one by one.
const TOLD: u64 = 20;
/// Longer than any call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) good: AtomicU64,
    /// Answered with an error, or with a head and then cut, as it should be while providers fail.
    pub(crate) refused: AtomicU64,
    /// Left by their caller.
    pub(crate) left: AtomicU64,
    /// Not answered at all, not even with a head: a defect.
    pub(crate) lost: AtomicU64,
}

impl Tally {
    pub(crate) fn all(&self) -> u64 {
        [&self.good, &self.refused, &self.left, &self.lost].iter().map(|count| count.load(Relaxed)).sum()
    }
}

/// When callers call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// So many calls a second, all together; each caller is of one kind.
    Rate(f64),
    /// Each caller as soon as its call before is over, and each as all kinds in turn.
    Fast,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Get,
    Post,
    NewConnection,
    YarToYar,
    JsonToYar,
    YarToJson,
    Raw,
    Guest,
    Nobody,
    BadKey,
    Leaves,
}

const KINDS: [Kind; 11] = [
    Kind::Get,
    Kind::Post,
    Kind::NewConnection,
    Kind::YarToYar,
    Kind::JsonToYar,
    Kind::YarToJson,
    Kind::Raw,
    Kind::Guest,
    Kind::Nobody,
    Kind::BadKey,
    Kind::Leaves,
];

pub(crate) struct Callers {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Callers {
    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        self.thread.join().unwrap();
    }
}

pub(crate) fn start(world: &World, pace: Pace, tally: Arc<Tally>) -> Callers {
    let (stop, stopped) = watch::channel(false);
    let address = world.remora.address.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut callers = JoinSet::new();
            for (kind, n) in (0..KINDS.len()).flat_map(|kind| (0..EACH).map(move |n| (kind, n))) {
                let calls = u64::from(n) << 40;
                let caller = Caller { kind, address: address.clone(), calls, http: None, raw: None };
                callers.spawn(caller.run(pace, tally.clone(), stopped.clone()));
            }
            callers.join_all().await;
        });
    });
    Callers { stop, thread }
}

struct Caller {
    /// Of [`KINDS`].
    kind: usize,
    address: String,
    calls: u64,
    /// Kept connections; the first bytes decided what one speaks.
    http: Option<TcpStream>,
    raw: Option<TcpStream>,
}

impl Caller {
    async fn run(mut self, pace: Pace, tally: Arc<Tally>, stop: watch::Receiver<bool>) {
        let between = match pace {
            Pace::Rate(rate) => Duration::from_secs_f64(f64::from(KINDS.len() as u32 * EACH) / rate),
            Pace::Fast => Duration::ZERO,
        };
        let mut due = Instant::now() + between.mul_f64(fastrand::f64());
        while !*stop.borrow() {
            match pace {
                Pace::Rate(_) => tokio::time::sleep_until(due.into()).await,
                Pace::Fast => self.kind = (self.kind + 1) % KINDS.len(),
            }
            // what was missed is not made up for
            due = (due + between).max(Instant::now());
            self.calls += 1;
            let called = tokio::time::timeout(PATIENCE, self.call()).await;
            match called.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(Some(true)) => &tally.good,
                Ok(Some(false)) => &tally.refused,
                Ok(None) => &tally.left,
                Err(error) => {
                    if tally.lost.load(Relaxed) < TOLD {
                        println!("lost: {:?}: {error}", KINDS[self.kind]);
                    }
                    &tally.lost
                }
            }
            .fetch_add(1, Relaxed);
        }
    }

    /// Whether it went well; `None`: it was left.
    async fn call(&mut self) -> io::Result<Option<bool>> {
        let (kind, request) = (KINDS[self.kind], self.request());
        let stays = !matches!(kind, Kind::NewConnection | Kind::Leaves);
        let kept = if matches!(kind, Kind::Raw) { &mut self.raw } else { &mut self.http };
        let mut stream = match kept.take_if(|_| stays) {
            Some(stream) => stream,
            None => TcpStream::connect(&self.address).await?,
        };
        stream.set_nodelay(true)?;
        stream.write_all(&request).await?;
        if matches!(kind, Kind::Leaves) {
            return Ok(None);
        }
        let (good, is_open) = if matches!(kind, Kind::Raw) {
            (raw_answer(&mut stream).await?, true)
        } else {
            http_answer(&mut stream).await?
        };
        if stays && is_open {
            *kept = Some(stream);
        }
        Ok(Some(good))
    }

    fn request(&self) -> Vec<u8> {
        let n = self.calls;
        let list = format!("[{{\"id\":{n},\"items\":[{}1]}}]", "\"an item\",".repeat(80));
        let json = [("Content-Type", "application/json")];
        match KINDS[self.kind] {
            Kind::Get | Kind::NewConnection | Kind::Leaves => http::request("GET", "/json/get", &[], b""),
            Kind::Post => http::request("POST", "/json/get", &json, list.as_bytes()),
            Kind::YarToYar => http::request("POST", "/yar", &[], &yar::msgpack_request("echo", &[0x91, 1])),
            Kind::JsonToYar => http::request("POST", "/yar/echo", &json, list.as_bytes()),
            Kind::YarToJson => http::request("POST", "/json", &[], &yar::msgpack_request("get", &[0x91, 1])),
            Kind::Raw => yar::persistent(yar::msgpack_request("yar.echo", &[0x91, 1])),
            Kind::Guest => http::request("GET", &format!("/guest-{}/get", n % GUESTS as u64), &[], b""),
            Kind::Nobody => http::request("GET", &format!("/nobody-{n:x}/get"), &[], b""),
            Kind::BadKey => {
                let key = format!("{n:x}");
                http::request("GET", "/locked/get", &[("X-Caller", &key), ("X-Api-Key", &key)], b"")
            }
        }
    }
}

/// Whether it tells a result.
async fn raw_answer(stream: &mut TcpStream) -> io::Result<bool> {
    let mut answer = Vec::with_capacity(4 << 10);
    while answer.len() < 90 || answer.len() < 82 + body_len(&answer) {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    // `s` is 0
    Ok(answer.windows(3).any(|part| part == [0xa1, b's', 0]))
}

/// Whether it tells a result, and whether the connection takes another call. An answer that ends before its head does is
/// none; one that ends after it is what a provider that cuts makes of it.
async fn http_answer(stream: &mut TcpStream) -> io::Result<(bool, bool)> {
    let mut answer = Vec::with_capacity(4 << 10);
    let read = read_message(stream, &mut answer).await;
    let Some(end) = answer.windows(4).position(|part| part == b"\r\n\r\n") else {
        return Err(read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
    };
    let is_whole = matches!(read, Ok(Some(_)));
    let ends = answer[..end].to_ascii_lowercase().windows(17).any(|part| part == b"connection: close");
    let good = answer.starts_with(b"HTTP/1.1 200") && !answer.windows(7).any(|part| part == b"Remora\\");
    Ok((is_whole && good, is_whole && !ends))
}

/// Of a Yar message.
fn body_len(message: &[u8]) -> usize {
    message.get(78..82).map_or(0, |bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}
