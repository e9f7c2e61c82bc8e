//! Calls that come by the clock, and what became of them.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::support::Remora;

const REQUEST: &[u8] = b"GET /user/x HTTP/1.1\r\nHost: bench\r\n\r\n";
/// So many good calls say that all is well.
const IN_A_ROW: usize = 20;
/// Longer than any answer.
const ROOM: usize = 4 << 10;

/// One call.
struct Told {
    outcome: Outcome,
    /// From the start of the phase.
    at: Duration,
    took: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Good,
    Overloaded,
    Other,
}

/// What became of the calls of a while.
pub(crate) struct Phase {
    lasts: Duration,
    offered: usize,
    /// When, and how long it took.
    good: Vec<(Duration, Duration)>,
    /// The same until it was said so.
    refused: Vec<(Duration, Duration)>,
    /// Answered in another way, or not at all.
    pub(crate) other: usize,
    /// That the callers needed.
    pub(crate) connections: usize,
}

impl Phase {
    pub(crate) const HEAD: &str = "offered     calls/s  goodput/s  refused %   answered p50/p99 ms   refused p50/p99/max ms  connections  memory KiB  files";

    /// Answered calls a second.
    pub(crate) fn goodput(&self) -> f64 {
        self.good.len() as f64 / self.lasts.as_secs_f64()
    }

    /// Within which time this share of the refused were told.
    pub(crate) fn refused_within(&self, share: f64) -> Option<Duration> {
        let mut took: Vec<_> = self.refused.iter().map(|(_, took)| *took).collect();
        took.sort_unstable();
        at(&took, share)
    }

    /// From when on the next [`IN_A_ROW`] calls were all answered; `None`: that never was.
    pub(crate) fn well_since(&self) -> Option<Duration> {
        let good = self.good.iter().map(|(at, _)| (*at, true));
        let mut all: Vec<_> = good.chain(self.refused.iter().map(|(at, _)| (*at, false))).collect();
        all.sort_unstable();
        all.windows(IN_A_ROW).find(|calls| calls.iter().all(|(_, good)| *good)).map(|calls| calls[0].0)
    }

    pub(crate) fn row(&self, share: f64, memory: u64, files: usize) -> String {
        let mut good: Vec<_> = self.good.iter().map(|(_, took)| *took).collect();
        good.sort_unstable();
        let ms = |time: Option<Duration>| {
            time.map_or("-".into(), |time| format!("{:.2}", time.as_secs_f64() * 1e3))
        };
        let good = format!("{} / {}", ms(at(&good, 0.5)), ms(at(&good, 0.99)));
        let refused = [0.5, 0.99, 1.0].map(|share| ms(self.refused_within(share))).join(" / ");
        format!(
            "{share:>6.1}x {:>11.0} {:>10.0} {:>10.1} {good:>21} {refused:>24} {:>12} {:>11} {files:>6}",
            self.offered as f64 / self.lasts.as_secs_f64(),
            self.goodput(),
            self.refused.len() as f64 * 100.0 / self.offered.max(1) as f64,
            self.connections,
            memory >> 10,
        )
    }
}

fn at(sorted: &[Duration], share: f64) -> Option<Duration> {
    sorted.get(((sorted.len().saturating_sub(1)) as f64 * share) as usize).copied()
}

/// Makes `rate` calls a second, evenly spaced, each on a connection that is free or on a new one.
pub(crate) fn run(remora: &Remora, rate: f64, lasts: Duration) -> Phase {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let free = Rc::default();
    let told = LocalSet::new().block_on(&runtime, offer(&remora.address, rate, lasts, &free));
    let mut phase = Phase {
        lasts,
        offered: told.len(),
        good: Vec::new(),
        refused: Vec::new(),
        other: 0,
        connections: free.borrow().len(),
    };
    for Told { outcome, at, took } in told {
        match outcome {
            Outcome::Good => phase.good.push((at, took)),
            Outcome::Overloaded => phase.refused.push((at, took)),
            Outcome::Other => phase.other += 1,
        }
    }
    phase
}

type Free = Rc<RefCell<Vec<TcpStream>>>;

async fn offer(address: &str, rate: f64, lasts: Duration, free: &Free) -> Vec<Told> {
    let (start, mut calls, mut told) = (Instant::now(), JoinSet::new(), Vec::new());
    for n in 0.. {
        let due = Duration::from_secs_f64(f64::from(n) / rate);
        if due >= lasts {
            break;
        }
        // the timer is coarse: those that became due meanwhile follow at once
        tokio::time::sleep_until((start + due).into()).await;
        let (free, address) = (free.clone(), address.to_owned());
        calls.spawn_local(async move {
            let at = start.elapsed();
            let outcome = call(&address, &free).await.unwrap_or(Outcome::Other);
            Told { outcome, at, took: start.elapsed() - at }
        });
        while let Some(done) = calls.try_join_next() {
            told.push(done.unwrap());
        }
    }
    told.extend(calls.join_all().await);
    told
}

async fn call(address: &str, free: &Free) -> io::Result<Outcome> {
    let kept = free.borrow_mut().pop();
    let mut stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::with_capacity(ROOM);
    // head and body leave together
    while !is_whole(&answer) {
        if stream.read_buf(&mut answer).await? == 0 {
            return Ok(Outcome::Other);
        }
    }
    free.borrow_mut().push(stream);
    let refused = answer.starts_with(b"HTTP/1.1 503") && find(&answer, b"urn:remora:overloaded").is_some();
    Ok(match answer.starts_with(b"HTTP/1.1 200") {
        true => Outcome::Good,
        false if refused => Outcome::Overloaded,
        false => Outcome::Other,
    })
}

fn is_whole(answer: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length: ";
    let Some(head) = find(answer, b"\r\n\r\n") else { return false };
    let lower = answer[..head].to_ascii_lowercase();
    let length = find(&lower, NAME).map(|at| &lower[at + NAME.len()..]);
    let digits = length.and_then(|rest| rest.split(|byte| *byte == b'\r').next());
    let length: usize = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0);
    answer.len() >= head + 4 + length
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}
