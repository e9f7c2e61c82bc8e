//! Instruments, the log and the access line: what is counted and said about each call.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use crate::config::{AccessLog, Traces};
use crate::model::QuotaMode;

mod gone;
mod line;
mod log;
mod messages;
mod pairs;
mod reader;
mod spans;
mod state;
mod taken;
mod trace;

use gone::Gone;
pub use line::{Line, Repeats, Told};
pub use log::{OpenLog, log_lines_dropped, set_log_level, start_log};
pub use messages::Batch;
use reader::{Reading, Shared};
pub use spans::{AttemptSpan, CallSpan, Spans};
pub use state::is_tracestate;
pub use taken::Taken;
pub use trace::{Parent, Trace};

/// Upper bounds of the duration histogram, in seconds.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0];
/// What ends most calls of an API beyond what it can take, at once: it must cost little.
const REFUSED: [&str; 4] = ["overloaded", "quota-exceeded", "circuit-open", "no-provider"];

/// The instruments; cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    host: String,
    lines: AccessLog,
    spans: Option<Arc<Spans>>,
    reader: Shared,
    registry: Registry,
    gone: Gone,
    // dropping the provider would stop collection
    _provider: SdkMeterProvider,
    meter: Meter,
    plain: Meter,
    calls: Counter<u64>,
    errors: Counter<u64>,
    duration: Histogram<f64>,
    retries: Counter<u64>,
    retries_refused: Counter<u64>,
    hedges: Counter<u64>,
    hedges_won: Counter<u64>,
    beyond: Counter<u64>,
}

/// Instruments of one API, bound to its labels with its first call: a view may have thousands that are
/// never called.
#[derive(Debug)]
pub struct ApiInstruments {
    service: Arc<str>,
    api: Arc<str>,
    bound: OnceLock<Box<Bound>>,
}

#[derive(Debug)]
struct Bound {
    calls: BoundCounter<u64>,
    duration: BoundHistogram<f64>,
    rare: OnceLock<Box<Rare>>,
}

/// Each from its first on.
#[derive(Debug, Default)]
struct Rare {
    /// By [`REFUSED`].
    refused: [OnceLock<BoundCounter<u64>>; REFUSED.len()],
    /// Answers of 4xx, and of 5xx.
    errors: [OnceLock<BoundCounter<u64>>; 2],
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

impl Telemetry {
    /// Instruments that `/metrics` shows, and a line for every call.
    pub fn new() -> Result<Self, String> {
        Self::of("", AccessLog::All, None)
    }

    /// The same of the sidecar on `host`, with a line for calls that `lines` takes, and spans as `traces` says.
    pub fn of(host: &str, lines: AccessLog, traces: Option<Traces>) -> Result<Self, String> {
        let Reading { registry, reader, provider } = Reading::of(messages::resource(host))?;
        let (meter, plain) = (provider.meter("remora"), provider.meter(reader::PLAIN));
        let calls = meter
            .u64_counter("remora.calls")
            .with_description("Calls by service, api and outcome (ok or the kind of the error)")
            .build();
        let duration = meter
            .f64_histogram("remora.call.duration")
            .with_unit("s")
            .with_description("From the head of a call that goes to a provider to the end of its answer")
            .with_boundaries(SECONDS.to_vec())
            .build();
        let counter = |name, description| meter.u64_counter(name).with_description(description).build();
        let inner = Inner {
            host: host.to_owned(),
            lines,
            spans: traces.map(|traces| Arc::new(Spans::new(traces))),
            reader,
            registry,
            gone: Gone::default(),
            _provider: provider,
            calls,
            errors: counter(
                "remora.error.answers",
                "Answers of 4xx and 5xx that providers gave and that passed through; these calls are ok",
            ),
            duration,
            retries: counter("remora.retries", "Attempts after one that failed"),
            retries_refused: counter("remora.retries.refused", "Attempts that `retry_budget` did not allow"),
            hedges: counter("remora.hedges", "Second attempts made while the first was under way"),
            hedges_won: counter("remora.hedges.won", "Second attempts that answered before the first"),
            beyond: counter(
                "remora.quota.exceeded",
                "Calls beyond their caller's quota, refused (enforce) or let pass (shadow)",
            ),
            meter,
            plain,
        };
        let telemetry = Self { inner: Arc::new(inner) };
        telemetry.observe_spans();
        Ok(telemetry)
    }

    fn observe_spans(&self) {
        let Some(spans) = self.inner.spans.clone() else { return };
        let read = move || spans.counts().map(|(what, count)| ([what.to_owned()], count)).into();
        self.observe_counts("remora.spans", "Spans by what became of them", ["outcome"], read);
    }

    /// Calls that are recorded for a collector, where there is one.
    pub fn spans(&self) -> Option<&Spans> {
        self.inner.spans.as_deref()
    }

    /// Instruments of one API.
    pub fn bind(&self, service: Arc<str>, api: Arc<str>) -> ApiInstruments {
        ApiInstruments { service, api, bound: OnceLock::new() }
    }

    /// Counts a call that ended well, with this HTTP status.
    pub fn good(&self, api: &ApiInstruments, status: u16, took: Duration) {
        let bound = api.bound.get_or_init(|| self.bound(api));
        bound.calls.add(1);
        bound.duration.record(took.as_secs_f64());
        if status >= 400 {
            self.passed_error(api, bound, status);
        }
    }

    fn passed_error(&self, api: &ApiInstruments, bound: &Bound, status: u16) {
        let [four, five] = &bound.rare.get_or_init(Box::default).errors;
        let (count, class) = if status < 500 { (four, "4xx") } else { (five, "5xx") };
        let labels = || {
            let [service, api] = api.labels();
            [service, api, KeyValue::new("status", class)]
        };
        count.get_or_init(|| self.inner.errors.bind(&labels())).add(1);
    }

    fn bound(&self, api: &ApiInstruments) -> Box<Bound> {
        let labels = api.labels();
        let [service, api] = labels.clone();
        Box::new(Bound {
            calls: self.inner.calls.bind(&[service, api, KeyValue::new("outcome", "ok")]),
            duration: self.inner.duration.bind(&labels),
            rare: OnceLock::new(),
        })
    }

    /// Counts a call that failed; `service` and `api` are empty where the registry doesn't know them.
    pub fn bad(&self, service: &str, api: &str, outcome: &'static str) {
        self.inner.calls.add(1, &of_call(service, api, outcome));
    }

    /// The same of an API that is known; `took`: the call went to a provider, and had its end after so long.
    pub fn bad_at(
        &self,
        api: &ApiInstruments,
        names: (&str, &str),
        outcome: &'static str,
        took: Option<Duration>,
    ) {
        // what was refused at once would hide in one series how long answers take
        let bound = api.bound.get_or_init(|| self.bound(api));
        took.iter().for_each(|took| bound.duration.record(took.as_secs_f64()));
        let refused = REFUSED.iter().position(|kind| *kind == outcome);
        match refused.and_then(|kind| bound.rare.get_or_init(Box::default).refused.get(kind)) {
            Some(count) => {
                count.get_or_init(|| self.inner.calls.bind(&of_call(names.0, names.1, outcome))).add(1);
            }
            None => self.bad(names.0, names.1, outcome),
        }
    }

    /// Counts an attempt after one that failed.
    pub fn retried(&self, service: &str) {
        self.inner.retries.add(1, &of(service));
    }

    /// Counts an attempt that the budget did not allow.
    pub fn refused_retry(&self, service: &str) {
        self.inner.retries_refused.add(1, &of(service));
    }

    /// Counts a second attempt while the first was under way.
    pub fn hedged(&self, service: &str) {
        self.inner.hedges.add(1, &of(service));
    }

    /// Counts a second attempt that answered before the first.
    pub fn hedge_won(&self, service: &str) {
        self.inner.hedges_won.add(1, &of(service));
    }

    /// Counts a call beyond its caller's quota; only callers with a quota in the registry have one.
    pub fn beyond(&self, service: &str, caller: &str, mode: QuotaMode) {
        let mode = match mode {
            QuotaMode::Enforce => "enforce",
            QuotaMode::Shadow => "shadow",
        };
        let labels = [("service", service), ("caller", caller), ("mode", mode)];
        self.inner.beyond.add(1, &labels.map(|(name, value)| KeyValue::new(name, value.to_owned())));
    }

    /// Shows what `read` says whenever metrics are asked for.
    pub fn observe(
        &self,
        name: &'static str,
        description: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let gauge = self.inner.plain.u64_observable_gauge(name).with_description(description);
        gauge.with_callback(move |observer| observer.observe(read(), &[])).build();
    }

    /// The same for a count that somebody else keeps, and that only grows.
    pub fn observe_count(
        &self,
        name: &'static str,
        description: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let counter = self.inner.plain.u64_observable_counter(name).with_description(description);
        counter.with_callback(move |observer| observer.observe(read(), &[])).build();
    }

    /// What `read` says of many of a kind, told apart by `label`.
    pub fn observe_each(
        &self,
        name: &'static str,
        description: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static,
    ) {
        let gauge = self.inner.meter.u64_observable_gauge(name).with_description(description);
        gauge
            .with_callback(move |observer| {
                for (which, value) in read() {
                    observer.observe(value, &[KeyValue::new(label, which)]);
                }
            })
            .build();
    }

    /// Counts of many of a kind that somebody else keeps, told apart by labels.
    pub fn observe_counts<const N: usize>(
        &self,
        name: &'static str,
        description: &'static str,
        labels: [&'static str; N],
        read: impl Fn() -> Vec<([String; N], u64)> + Send + Sync + 'static,
    ) {
        let counter = self.inner.meter.u64_observable_counter(name).with_description(description);
        counter
            .with_callback(move |observer| {
                for (values, count) in read() {
                    let named = labels.into_iter().zip(values);
                    let values: Vec<_> = named.map(|(name, value)| KeyValue::new(name, value)).collect();
                    observer.observe(count, &values);
                }
            })
            .build();
    }

    /// Prometheus text of everything counted, without services that left long ago.
    pub fn prometheus(&self, now: Instant) -> String {
        let mut families = self.inner.registry.gather();
        self.inner.gone.hidden(now).iter().for_each(|hidden| hidden.leave(&mut families));
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::warn!(%error, "metrics can't be written");
        }
        text
    }
}

impl ApiInstruments {
    fn labels(&self) -> [KeyValue; 2] {
        [KeyValue::new("service", self.service.clone()), KeyValue::new("api", self.api.clone())]
    }
}

fn of_call(service: &str, api: &str, outcome: &'static str) -> [KeyValue; 3] {
    let [service, api] =
        [("service", service), ("api", api)].map(|(name, value)| KeyValue::new(name, value.to_owned()));
    [service, api, KeyValue::new("outcome", outcome)]
}

fn of(service: &str) -> [KeyValue; 1] {
    [KeyValue::new("service", service.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let telemetry = Telemetry::new().unwrap();
        let get = telemetry.bind("user".into(), "get".into());
        for status in [200, 404, 499, 500, 599] {
            telemetry.good(&get, status, Duration::from_millis(3));
        }
        telemetry.bad_at(&get, ("user", "get"), "cut", Some(Duration::from_millis(3)));
        for refused in ["overloaded", "overloaded", "forbidden"] {
            telemetry.bad_at(&get, ("user", "get"), refused, None);
        }
        telemetry.bad("", "", "no-service");
        let text = telemetry.prometheus(Instant::now());
        for line in [
            "remora_calls_total{api=\"get\",outcome=\"ok\",service=\"user\"} 5",
            "remora_error_answers_total{api=\"get\",service=\"user\",status=\"4xx\"} 2",
            "remora_error_answers_total{api=\"get\",service=\"user\",status=\"5xx\"} 2",
            "remora_calls_total{api=\"get\",outcome=\"cut\",service=\"user\"} 1",
            "remora_calls_total{api=\"get\",outcome=\"overloaded\",service=\"user\"} 2",
            "remora_calls_total{api=\"get\",outcome=\"forbidden\",service=\"user\"} 1",
            "remora_calls_total{api=\"\",outcome=\"no-service\",service=\"\"} 1",
            "remora_call_duration_seconds_count{api=\"get\",service=\"user\"} 6",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("circuit-open"), "no series before its first call:\n{text}");
    }
}
