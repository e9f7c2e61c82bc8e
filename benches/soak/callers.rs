//! Callers of every kind, at a steady rate, on one thread.

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
/// Longer than any call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) good: AtomicU64,
    /// Answered with an error, as it should be while providers fail.
    pub(crate) refused: AtomicU64,
    /// Left by their caller.
    pub(crate) left: AtomicU64,
    /// Not answered at all: a defect.
    pub(crate) lost: AtomicU64,
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

pub(crate) fn start(world: &World, rate: f64, tally: Arc<Tally>) -> Callers {
    let (stop, stopped) = watch::channel(false);
    let address = world.remora.address.clone();
    let between = Duration::from_secs_f64(f64::from(KINDS.len() as u32 * EACH) / rate);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut callers = JoinSet::new();
            for (kind, n) in KINDS.iter().flat_map(|kind| (0..EACH).map(move |n| (*kind, n))) {
                let first = between.mul_f64(fastrand::f64());
                let caller = Caller { kind, address: address.clone(), calls: u64::from(n) << 40, kept: None };
                callers.spawn(caller.run(first, between, tally.clone(), stopped.clone()));
            }
            callers.join_all().await;
        });
    });
    Callers { stop, thread }
}

struct Caller {
    kind: Kind,
    address: String,
    calls: u64,
    kept: Option<TcpStream>,
}

impl Caller {
    async fn run(
        mut self,
        first: Duration,
        between: Duration,
        tally: Arc<Tally>,
        stop: watch::Receiver<bool>,
    ) {
        let mut due = Instant::now() + first;
        while !*stop.borrow() {
            tokio::time::sleep_until(due.into()).await;
            // what was missed is not made up for
            due = (due + between).max(Instant::now());
            self.calls += 1;
            let called = tokio::time::timeout(PATIENCE, self.call()).await;
            match called.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(Some(true)) => &tally.good,
                Ok(Some(false)) => &tally.refused,
                Ok(None) => &tally.left,
                Err(_) => &tally.lost,
            }
            .fetch_add(1, Relaxed);
        }
    }

    /// Whether it went well; `None`: it was left.
    async fn call(&mut self) -> io::Result<Option<bool>> {
        let request = self.request();
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => TcpStream::connect(&self.address).await?,
        };
        stream.set_nodelay(true)?;
        stream.write_all(&request).await?;
        if matches!(self.kind, Kind::Leaves) {
            return Ok(None);
        }
        let mut answer = Vec::with_capacity(4 << 10);
        let good = if matches!(self.kind, Kind::Raw) {
            while answer.len() < 90 || answer.len() < 82 + body_len(&answer) {
                if stream.read_buf(&mut answer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            // `s` is 0
            answer.windows(3).any(|part| part == [0xa1, b's', 0])
        } else {
            // a stream of a provider that cuts ends early, as it must
            let Ok(Some(_)) = read_message(&mut stream, &mut answer).await else { return Ok(Some(false)) };
            answer.starts_with(b"HTTP/1.1 200") && !answer.windows(7).any(|part| part == b"Remora\\")
        };
        if !matches!(self.kind, Kind::NewConnection) {
            self.kept = Some(stream);
        }
        Ok(Some(good))
    }

    fn request(&self) -> Vec<u8> {
        let n = self.calls;
        let list = format!("[{{\"id\":{n},\"items\":[{}1]}}]", "\"an item\",".repeat(80));
        let json = [("Content-Type", "application/json")];
        match self.kind {
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

/// Of a Yar message.
fn body_len(message: &[u8]) -> usize {
    message.get(78..82).map_or(0, |bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}
