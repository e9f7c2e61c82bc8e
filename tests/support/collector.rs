//! A collector of OTLP over HTTP, as far as a test needs one: it keeps what it gets.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use prost::Message;

use super::peer::{Request, answer};
use super::{Peer, eventually_some};

pub struct Collector {
    pub peer: Peer,
}

pub type Attributes = BTreeMap<String, String>;

/// A span, with its ids as people write them.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// Empty where it has none.
    pub parent: String,
    pub state: String,
    pub name: String,
    pub is_server: bool,
    pub start: u64,
    pub end: u64,
    pub is_error: bool,
    pub attributes: Attributes,
    /// Of who sent it.
    pub resource: Attributes,
}

impl Span {
    /// An attribute, or `-`.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("-", String::as_str)
    }

    /// The `traceparent` that a provider of this attempt must get.
    pub fn as_parent(&self) -> String {
        format!("00-{}-{}-", self.trace, self.id)
    }
}

impl Collector {
    pub fn start() -> Collector {
        Collector { peer: Peer::http(|_| answer(200, &[("Content-Type", "application/x-protobuf")], b"")) }
    }

    /// On a port of the test's choice.
    pub fn start_at(address: &str) -> Collector {
        Collector { peer: Peer::http_at(address, |_| answer(200, &[], b"")) }
    }

    /// `otlp` of a configuration that sends here, with further keys.
    pub fn config(&self, more: &str) -> String {
        config(&self.peer.address, more)
    }

    fn messages(&self, signal: &str) -> Vec<Request> {
        let all = self.peer.requests().into_iter();
        all.filter(|request| request.method == "POST" && request.target.ends_with(signal)).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let messages = self.messages("/v1/traces").into_iter();
        messages.flat_map(|message| spans(&message.body)).collect()
    }

    /// The spans of a call's trace, the call's own first, as soon as there are this many.
    pub fn trace(&self, count: usize, of: impl Fn(&Span) -> bool) -> Vec<Span> {
        eventually_some("the spans of a trace are there", Duration::from_secs(10), || {
            let spans = self.spans();
            let trace = &spans.iter().find(|span| of(span))?.trace;
            let mut all: Vec<_> = spans.iter().filter(|span| &span.trace == trace).cloned().collect();
            all.sort_by_key(|span| (span.start, !span.is_server));
            (all.len() == count).then_some(all)
        })
    }

    /// Values of a metric in the last message, by its labels.
    pub fn metric(&self, name: &str) -> BTreeMap<String, f64> {
        self.last(name).map(values).unwrap_or_default()
    }

    /// Least and greatest that a histogram of the last message claims, by its labels.
    pub fn extremes(&self, name: &str) -> BTreeMap<String, (Option<f64>, Option<f64>)> {
        let Some(Data::Histogram(many)) = self.last(name) else { return BTreeMap::new() };
        many.data_points.into_iter().map(|point| (labels(point.attributes), (point.min, point.max))).collect()
    }

    /// Whether a metric of the last message only grows.
    pub fn is_monotonic(&self, name: &str) -> bool {
        matches!(self.last(name), Some(Data::Sum(sum)) if sum.is_monotonic)
    }

    /// A metric in the last message.
    fn last(&self, name: &str) -> Option<Data> {
        metric(&self.messages("/v1/metrics").pop()?.body, name)
    }
}

/// Values of a metric in a message, by its labels.
pub fn values_of(message: &[u8], name: &str) -> BTreeMap<String, f64> {
    metric(message, name).map(values).unwrap_or_default()
}

fn metric(message: &[u8], name: &str) -> Option<Data> {
    let message = ExportMetricsServiceRequest::decode(message).unwrap();
    let scopes = message.resource_metrics.into_iter().flat_map(|from| from.scope_metrics);
    scopes.flat_map(|scope| scope.metrics).find(|metric| metric.name == name)?.data
}

pub fn config(address: &str, more: &str) -> String {
    format!("otlp: {{ endpoint: \"http://{address}\", {more} }}")
}

fn spans(message: &[u8]) -> Vec<Span> {
    let message = ExportTraceServiceRequest::decode(message).unwrap();
    let mut all = Vec::new();
    for from in message.resource_spans {
        let resource = attributes(from.resource.unwrap().attributes);
        for span in from.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            all.push(Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                state: span.trace_state,
                name: span.name,
                is_server: span.kind == 2,
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                is_error: span.status.is_some_and(|status| status.code == 2),
                attributes: attributes(span.attributes),
                resource: resource.clone(),
            });
        }
    }
    all
}

fn values(metric: Data) -> BTreeMap<String, f64> {
    let number = |value| match value {
        Some(Number::AsInt(value)) => value as f64,
        Some(Number::AsDouble(value)) => value,
        None => f64::NAN,
    };
    match metric {
        Data::Sum(sum) => {
            sum.data_points.into_iter().map(|point| (labels(point.attributes), number(point.value))).collect()
        }
        Data::Gauge(gauge) => gauge
            .data_points
            .into_iter()
            .map(|point| (labels(point.attributes), number(point.value)))
            .collect(),
        Data::Histogram(many) => {
            many.data_points.into_iter().map(|point| (labels(point.attributes), point.count as f64)).collect()
        }
        Data::ExponentialHistogram(_) | Data::Summary(_) => BTreeMap::new(),
    }
}

fn labels(all: Vec<KeyValue>) -> String {
    attributes(all).into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn attributes(all: Vec<KeyValue>) -> Attributes {
    let text = |value: any_value::Value| {
        if let any_value::Value::IntValue(number) = value {
            return number.to_string();
        }
        let any_value::Value::StringValue(text) = value else { panic!("neither text nor number: {value:?}") };
        text
    };
    all.into_iter().map(|pair| (pair.key, text(pair.value.unwrap().value.unwrap()))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
