//! Tells a collector of metrics and recorded calls: OTLP over HTTP, beside the calls and never in their way.

use std::convert::Infallible;
use std::future::pending;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::http::response::Parts;
use hyper::{HeaderMap, Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::Otlp;
use crate::socket::stopped;
use crate::telemetry::{Batch, Spans, Taken, Telemetry};
use crate::words;

/// Longest time that a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Shortest time after which a message is sent again, and the longest that remora chooses itself.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Longest time that a collector can ask to be left alone for.
const MOST_LATER: Duration = Duration::from_secs(60);
/// How often the log says that a collector is not reached, or wants less than it is sent.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Largest answer.
const MAX_ANSWER: usize = 64 << 10;
/// So much is quoted of an answer of something else, in bytes.
const QUOTED: usize = 64;
const PROTOBUF: &str = "application/x-protobuf";

/// Why a message did not arrive.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    reason: String,
    /// Whether it may arrive another time, and when the collector says so.
    again: Option<Option<Duration>>,
}

/// Sends until `stop`, then what is left for at most `last`.
pub async fn run(otlp: Otlp, telemetry: Telemetry, last: Duration, stop: watch::Receiver<bool>) {
    let mut over = stop.clone();
    let over = async {
        stopped(&mut over).await;
        sleep(last).await;
    };
    let spans = async {
        if let Some(spans) = telemetry.spans() {
            send_spans(&otlp, &telemetry, spans, stop.clone()).await;
        }
    };
    let metrics = async {
        if let Some(interval) = otlp.interval {
            send_metrics(&otlp, &telemetry, interval, stop.clone()).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(spans, metrics) } => {}
        () = over => {}
    }
}

async fn send_spans(otlp: &Otlp, telemetry: &Telemetry, spans: &Spans, mut stop: watch::Receiver<bool>) {
    // one message outlives a restart of the collector; what comes meanwhile waits in the queue
    let mut held: Option<Batch> = None;
    let (mut news, mut failures, mut pause) = (News::new("spans"), 0, PAUSES.0);
    let mut stopping = false;
    while !stopping {
        let wait = async {
            match &held {
                Some(_) => sleep(pause).await,
                None => tokio::select! { () = sleep(GATHER) => {}, () = spans.many() => {} },
            }
        };
        stopping = tokio::select! { () = stopped(&mut stop) => true, () = wait => false };
        while let Some(batch) = held.take().or_else(|| telemetry.batch()) {
            let sent = post(otlp, "/v1/traces", batch.bytes.clone()).await;
            news.tell(otlp, sent.as_ref(), Instant::now());
            match sent {
                Ok(taken) => {
                    let rejected = taken.rejected.min(batch.spans);
                    spans.note(batch.spans - rejected, true);
                    spans.note(rejected, false);
                    failures = 0;
                }
                Err(Trouble { again: None, .. }) => spans.note(batch.spans, false),
                Err(Trouble { again: Some(asked), .. }) => {
                    failures += 1;
                    pause = next_pause(failures, asked, fastrand::f64());
                    held = Some(batch);
                    break;
                }
            }
        }
    }
}

/// After so many failures in a row; `chance` is in 0..1: sidecars must not come back together.
fn next_pause(failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
    match asked {
        Some(asked) => heeded(asked),
        None => PAUSES.0.saturating_mul(1 << failures.min(16)).min(PAUSES.1).mul_f64(0.5 + 0.5 * chance),
    }
}

/// A pause that a collector asks for.
fn heeded(asked: Duration) -> Duration {
    asked.clamp(PAUSES.0, MOST_LATER)
}

async fn send_metrics(
    otlp: &Otlp,
    telemetry: &Telemetry,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut news = News::new("metrics");
    // sidecars that started together must not send together
    let mut wait = interval.mul_f64(fastrand::f64());
    let mut stopping = false;
    while !stopping {
        stopping = tokio::select! { () = stopped(&mut stop) => true, () = sleep(wait) => false };
        let sent = post(otlp, "/v1/metrics", telemetry.metrics_message(Instant::now())).await;
        news.tell(otlp, sent.as_ref(), Instant::now());
        wait = next_metrics(&sent, interval);
    }
}

/// When the next totals are due: they make good for what did not arrive, so only the collector hastens them.
fn next_metrics(sent: &Result<Taken, Trouble>, interval: Duration) -> Duration {
    match sent {
        Err(Trouble { again: Some(Some(asked)), .. }) => heeded(*asked),
        Ok(_) | Err(Trouble { again: None | Some(None), .. }) => interval,
    }
}

/// What the log hears of a collector, now and then: that it is not reached, and is again, or what it rejects.
#[derive(Debug)]
struct News {
    what: &'static str,
    told: Option<Instant>,
    remarked: Option<Instant>,
    /// Since the last remark.
    rejected: u64,
}

impl News {
    fn new(what: &'static str) -> Self {
        Self { what, told: None, remarked: None, rejected: 0 }
    }

    fn tell(&mut self, otlp: &Otlp, sent: Result<&Taken, &Trouble>, now: Instant) {
        let (what, collector) = (self.what, &otlp.collector);
        match sent {
            Ok(taken) => {
                if self.told.take().is_some() {
                    tracing::info!(%collector, what, "the collector takes them again");
                }
                self.remark(otlp, taken, now);
            }
            Err(Trouble { reason, .. }) => {
                if is_due(&mut self.told, now) {
                    tracing::warn!(
                        %collector,
                        what,
                        reason,
                        "the collector of `otlp` does not take them; calls go on, mend it or leave `otlp` out"
                    );
                }
            }
        }
    }

    fn remark(&mut self, otlp: &Otlp, taken: &Taken, now: Instant) {
        self.rejected += taken.rejected;
        let has_remark = taken.rejected > 0 || !taken.reason.is_empty();
        if !has_remark || !is_due(&mut self.remarked, now) {
            return;
        }
        let (what, collector, reason) = (self.what, &otlp.collector, words::line(&taken.reason));
        match std::mem::take(&mut self.rejected) {
            0 => tracing::warn!(%collector, what, reason, "the collector took all, and says this of it"),
            rejected => tracing::warn!(
                %collector,
                what,
                rejected,
                reason,
                "the collector rejected some of what it took; mend what its reason names"
            ),
        }
    }
}

fn is_due(told: &mut Option<Instant>, now: Instant) -> bool {
    let due = told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
    if due {
        *told = Some(now);
    }
    due
}

/// Sends one message over a connection of its own; gives what the collector says of it.
async fn post(otlp: &Otlp, signal: &str, message: Vec<u8>) -> Result<Taken, Trouble> {
    let posted = timeout(otlp.timeout, exchange(otlp, signal, message)).await;
    posted.unwrap_or_else(|_| {
        let reason = format!("no answer within {}ms, its `timeout`", otlp.timeout.as_millis());
        Err(Trouble { reason, again: Some(None) })
    })
}

async fn exchange(otlp: &Otlp, signal: &str, message: Vec<u8>) -> Result<Taken, Trouble> {
    let later = |reason: String| Trouble { reason, again: Some(None) };
    let request = request(otlp, signal, message)?;
    let stream = TcpStream::connect(otlp.collector.as_str()).await;
    let stream = stream.map_err(|e| later(format!("it can't be reached: {e}")))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| later(e.to_string()))?;
    // the answer may be there only after the connection has ended: its end alone decides nothing
    let drive = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|e| later(e.to_string()))?;
        judge(&answer)?;
        let (head, body) = answer.into_parts();
        match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => understand(&head, &body.to_bytes()),
            Err(e) if e.is::<LengthLimitError>() => {
                Err(no_otlp(&head, &format!("longer than {} KiB", MAX_ANSWER >> 10)))
            }
            Err(e) => Err(later(format!("its answer broke off: {e}"))),
        }
    };
    tokio::select! {
        answer = asked => answer,
        never = drive => match never {},
    }
}

fn request(otlp: &Otlp, signal: &str, message: Vec<u8>) -> Result<Request<Full<Bytes>>, Trouble> {
    let mut request = Request::post(format!("{}{signal}", otlp.path))
        .header(header::HOST, otlp.collector.as_str())
        .header(header::USER_AGENT, concat!("remora/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, PROTOBUF)
        .header(header::CONNECTION, "close");
    for own in &otlp.headers {
        request = request.header(&own.name, &own.value);
    }
    let request = request.body(Full::new(message.into()));
    request.map_err(|e| Trouble { reason: format!("it can't be asked: {e}"), again: None })
}

/// By OTLP only these four are worth another try.
fn judge<B>(answer: &Response<B>) -> Result<(), Trouble> {
    let again = match answer.status().as_u16() {
        200..300 => return Ok(()),
        429 | 502..=504 => Some(retry_after(answer.headers())),
        _ => None,
    };
    Err(Trouble { reason: format!("it answered {}", answer.status()), again })
}

fn understand(head: &Parts, body: &Bytes) -> Result<Taken, Trouble> {
    Taken::read(kind(&head.headers), body).ok_or_else(|| {
        let begin = body.get(..QUOTED).unwrap_or(body);
        no_otlp(head, &format!("\"{}\"", String::from_utf8_lossy(begin).escape_debug()))
    })
}

/// A success of something else; it would be none the next time either.
fn no_otlp(head: &Parts, body: &str) -> Trouble {
    let (status, kind) = (head.status, words::line(kind(&head.headers)));
    let kind = if kind.is_empty() { "no content type" } else { &kind };
    let way_out = "does `endpoint` name a collector's port for OTLP over HTTP, mostly 4318?";
    let reason = format!("it answered {status}, which is no OTLP: {kind}, {body}; {way_out}");
    Trouble { reason, again: None }
}

fn kind(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

/// Seconds; a date is read over, as clocks differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_once_a_minute() {
        let (mut told, start) = (None, Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let due: Vec<_> = [0, 1, 59, 60, 61, 120].map(|seconds| is_due(&mut told, at(seconds))).into();
        assert_eq!(due, [true, false, false, true, false, true]);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_heed_what_the_collector_asks() {
        let failures = [1, 2, 3, 4, 5, 6, u32::MAX];
        let grown = |chance| failures.map(|failures| next_pause(failures, None, chance).as_secs());
        assert_eq!(grown(0.0), [1, 2, 4, 8, 15, 15, 15]);
        assert_eq!(grown(1.0), [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(next_pause(6, Some(Duration::from_secs(7)), 0.5), Duration::from_secs(7));
        assert_eq!(next_pause(1, Some(Duration::MAX), 0.5), MOST_LATER);
    }

    #[test]
    fn a_collector_that_asks_for_no_pause_gets_one() {
        assert_eq!(next_pause(1, Some(Duration::ZERO), 0.5), PAUSES.0);
    }

    #[test]
    fn metrics_wait_for_their_interval_or_as_long_as_the_collector_asks() {
        let hour = Duration::from_secs(3600);
        let failed = |again| Err(Trouble { reason: String::new(), again });
        let asks = |seconds| failed(Some(Some(Duration::from_secs(seconds))));
        for sent in [Ok(Taken::default()), failed(None), failed(Some(None))] {
            assert_eq!(next_metrics(&sent, hour), hour, "{sent:?}");
        }
        let waits = [0, 7, 600].map(|asked| next_metrics(&asks(asked), hour));
        assert_eq!(waits, [PAUSES.0, Duration::from_secs(7), MOST_LATER]);
        assert_eq!(next_metrics(&asks(30), PAUSES.0), Duration::from_secs(30), "longer than the interval");
    }

    #[test]
    fn only_what_may_get_better_is_sent_again() {
        let judged = |status: u16, after: &str| {
            let answer = Response::builder().status(status).header("retry-after", after).body(()).unwrap();
            judge(&answer).err().map(|trouble| trouble.again)
        };
        assert_eq!([judged(200, ""), judged(202, "")], [None, None]);
        assert_eq!(judged(503, "3"), Some(Some(Some(Duration::from_secs(3)))));
        assert_eq!(judged(429, "soon"), Some(Some(None)));
        assert_eq!([judged(400, "1"), judged(500, "1"), judged(404, "")], [Some(None); 3]);
    }
}
