//! Calls that come by the clock, and what became of them.

use std::cell::{Cell, RefCell};
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
    /// From the first call of all.
    at: Duration,
    took: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Good,
    Overloaded,
    Other,
}

/// A while in which calls come at one rate.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// Calls a second,
    pub(crate) rate: f64,
    pub(crate) lasts: Duration,
}

/// What became of the calls of a step.
pub(crate) struct Phase {
    lasts: Duration,
    offered: usize,
    /// Good answers that came while it lasted, whenever they were asked for.
    answers: usize,
    /// Of its own calls: when, from its start, and how long it took.
    good: Vec<(Duration, Duration)>,
    /// The same until it was said so.
    refused: Vec<(Duration, Duration)>,
    /// Answered in another way, or not at all.
    pub(crate) other: usize,
    pub(crate) held: Held,
}

/// At the end of a step.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    /// That the callers opened so far.
    pub(crate) connections: usize,
    pub(crate) memory: u64,
    files: usize,
}

impl Phase {
    pub(crate) const HEAD: &str = "offered     calls/s  goodput/s  refused %   answered p50/p99 ms   refused p50/p99/max ms  connections  memory KiB  files";

    /// From `start` on, of all that is told.
    fn of(told: &[Told], start: Duration, step: Step, held: Held) -> Phase {
        let within = |at: Duration| at >= start && at < start + step.lasts;
        let answers =
            told.iter().filter(|call| call.outcome == Outcome::Good && within(call.at + call.took)).count();
        let own = || told.iter().filter(|call| within(call.at));
        let which = |outcome| {
            own()
                .filter(move |call| call.outcome == outcome)
                .map(|call| (call.at - start, call.took))
                .collect::<Vec<_>>()
        };
        Phase {
            lasts: step.lasts,
            offered: own().count(),
            answers,
            good: which(Outcome::Good),
            refused: which(Outcome::Overloaded),
            other: which(Outcome::Other).len(),
            held,
        }
    }

    /// Good answers a second.
    pub(crate) fn goodput(&self) -> f64 {
        self.answers as f64 / self.lasts.as_secs_f64()
    }

    /// Within which time this share of the refused were told; `None`: nobody was.
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

    pub(crate) fn row(&self, share: f64) -> String {
        let mut good: Vec<_> = self.good.iter().map(|(_, took)| *took).collect();
        good.sort_unstable();
        let ms = |time: Option<Duration>| {
            time.map_or("-".into(), |time| format!("{:.2}", time.as_secs_f64() * 1e3))
        };
        let good = format!("{} / {}", ms(at(&good, 0.5)), ms(at(&good, 0.99)));
        let refused = [0.5, 0.99, 1.0].map(|share| ms(self.refused_within(share))).join(" / ");
        let Held { connections, memory, files } = self.held;
        format!(
            "{share:>6.1}x {:>11.0} {:>10.0} {:>10.1} {good:>21} {refused:>24} {connections:>12} {:>11} {files:>6}",
            self.offered as f64 / self.lasts.as_secs_f64(),
            self.goodput(),
            self.refused.len() as f64 * 100.0 / self.offered.max(1) as f64,
            memory >> 10,
        )
    }
}

fn at(sorted: &[Duration], share: f64) -> Option<Duration> {
    sorted.get(((sorted.len().saturating_sub(1)) as f64 * share) as usize).copied()
}

/// Makes the calls of each step right after those of the one before, evenly spaced, each on a connection that is free
/// or on a new one.
pub(crate) fn run<const N: usize>(remora: &Remora, steps: [Step; N]) -> [Phase; N] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (told, held) = LocalSet::new().block_on(&runtime, offer(remora, &steps));
    let mut start = Duration::ZERO;
    std::array::from_fn(|n| {
        let phase = Phase::of(&told, start, steps[n], held[n]);
        start += steps[n].lasts;
        phase
    })
}

/// Connections of the callers.
#[derive(Default)]
struct Conns {
    free: RefCell<Vec<TcpStream>>,
    opened: Cell<usize>,
}

/// Gives every call, and what was held at the end of each step.
async fn offer(remora: &Remora, steps: &[Step]) -> (Vec<Told>, Vec<Held>) {
    let (mut calls, mut told, mut held) = (JoinSet::new(), Vec::new(), Vec::new());
    let (start, conns, mut begins) = (Instant::now(), Rc::<Conns>::default(), Duration::ZERO);
    for step in steps {
        for n in 0.. {
            let due = Duration::from_secs_f64(f64::from(n) / step.rate);
            if due >= step.lasts {
                break;
            }
            // the timer is coarse: those that became due meanwhile follow at once
            tokio::time::sleep_until((start + begins + due).into()).await;
            let (conns, address) = (conns.clone(), remora.address.clone());
            calls.spawn_local(async move {
                let at = start.elapsed();
                let outcome = call(&address, &conns).await.unwrap_or(Outcome::Other);
                Told { outcome, at, took: start.elapsed() - at }
            });
            while let Some(done) = calls.try_join_next() {
                told.push(done.unwrap());
            }
        }
        begins += step.lasts;
        tokio::time::sleep_until((start + begins).into()).await;
        let (memory, files) = (remora.memory(), remora.descriptors());
        held.push(Held { connections: conns.opened.get(), memory, files });
    }
    told.extend(calls.join_all().await);
    (told, held)
}

async fn call(address: &str, conns: &Conns) -> io::Result<Outcome> {
    let kept = conns.free.borrow_mut().pop();
    let mut stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            conns.opened.set(conns.opened.get() + 1);
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
    conns.free.borrow_mut().push(stream);
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
