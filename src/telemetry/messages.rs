//! Spans and metrics as the messages that a collector takes (OTLP, protobuf).

use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use prost::Message;

use super::Telemetry;
use super::spans::{AttemptSpan, CallSpan};

/// One message about calls.
#[derive(Debug, Clone)]
pub struct Batch {
    /// As it is sent.
    pub bytes: Vec<u8>,
    /// How many spans are in it.
    pub spans: u64,
}

/// Who tells: the attributes of every message.
pub(super) fn resource(host: &str) -> [(&'static str, String); 4] {
    [
        ("service.name", "remora".into()),
        ("service.version", env!("CARGO_PKG_VERSION").into()),
        ("service.instance.id", host.into()),
        ("host.name", host.into()),
    ]
}

impl Telemetry {
    /// A message with all that is counted, as `/metrics` shows it.
    pub fn metrics_message(&self, now: Instant) -> Vec<u8> {
        let mut all = ResourceMetrics::default();
        if let Err(error) = self.inner.reader.collect(&mut all) {
            tracing::warn!(%error, "metrics can't be collected");
        }
        let mut message = ExportMetricsServiceRequest::from(&all);
        let hidden = self.inner.gone.hidden(now);
        for metric in metrics(&mut message) {
            claim_no_extremes(metric);
            hidden.iter().for_each(|hidden| hidden.leave_metric(metric));
        }
        message.encode_to_vec()
    }

    /// The next message about calls; `None`: none wait.
    pub fn batch(&self) -> Option<Batch> {
        let calls = self.inner.spans.as_ref()?.take();
        (!calls.is_empty()).then(|| batch(&self.inner.host, &calls))
    }
}

fn metrics(message: &mut ExportMetricsServiceRequest) -> impl Iterator<Item = &mut Metric> {
    let scopes = message.resource_metrics.iter_mut().flat_map(|from| &mut from.scope_metrics);
    scopes.flat_map(|scope| &mut scope.metrics)
}

/// The SDK says the bounds of all numbers of what was not measured yet.
fn claim_no_extremes(metric: &mut Metric) {
    let Some(Data::Histogram(histogram)) = &mut metric.data else { return };
    for point in histogram.data_points.iter_mut().filter(|point| point.count == 0) {
        (point.min, point.max) = (None, None);
    }
}

fn batch(host: &str, calls: &[CallSpan]) -> Batch {
    let spans: Vec<_> = calls.iter().flat_map(spans).collect();
    let count = spans.len() as u64;
    let attributes = resource(host).into_iter().map(|(key, value)| text(key, value)).collect();
    let scope = InstrumentationScope { name: "remora".into(), ..InstrumentationScope::default() };
    let scope = ScopeSpans { scope: Some(scope), spans, schema_url: String::new() };
    let resource = Resource { attributes, ..Resource::default() };
    let resource =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scope], ..ResourceSpans::default() };
    let message = ExportTraceServiceRequest { resource_spans: vec![resource] };
    Batch { bytes: message.encode_to_vec(), spans: count }
}

fn spans(call: &CallSpan) -> impl Iterator<Item = Span> {
    let attempts = call.attempts.iter().enumerate();
    std::iter::once(server(call)).chain(attempts.map(|(again, attempt)| client(call, attempt, again)))
}

/// The call as its caller sees it.
fn server(call: &CallSpan) -> Span {
    let (trace_id, span_id, parent_span_id) = call.trace.ids();
    let remote = if call.trace.continues() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    let mut attributes = names(call);
    attributes.extend(call.caller.as_deref().map(|caller| text("remora.caller", caller)));
    attributes.push(text("remora.outcome", call.outcome));
    attributes.extend(call.id.clone().map(|id| text("remora.call", id)));
    if let Some((method, path)) = &call.request {
        attributes.push(text("http.request.method", method.as_str()));
        attributes.push(text("url.path", path.as_str()));
        attributes.push(text("url.scheme", "http"));
        attributes.extend(status(call.status));
    }
    attributes.extend(rpc(call, call.wire));
    let span = ended(call, (trace_id, span_id), attributes, fault_of_call(call));
    Span {
        parent_span_id,
        flags: span.flags | remote,
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(call.began, Duration::ZERO),
        end_time_unix_nano: nanos(call.began, call.took),
        ..span
    }
}

/// One attempt at a provider; `again`: how many there were before.
fn client(call: &CallSpan, attempt: &AttemptSpan, again: usize) -> Span {
    let (trace_id, parent_span_id, _) = call.trace.ids();
    let mut attributes = names(call);
    let (host, port) = attempt.provider.rsplit_once(':').unwrap_or((&attempt.provider, ""));
    attributes.push(text("server.address", host));
    attributes.extend(port.parse().ok().map(|port| number("server.port", port)));
    attributes.push(text("remora.outcome", attempt.outcome));
    if let Some((method, path)) = &call.sent {
        attributes.push(text("http.request.method", method.as_str()));
        attributes.push(text("url.full", format!("http://{}{path}", attempt.provider)));
        attributes.extend(status(attempt.status));
        attributes.extend((again > 0).then(|| number("http.request.resend_count", again as i64)));
    }
    attributes.extend(rpc(call, attempt.wire));
    let span_id = call.trace.attempt_id(&attempt.provider);
    Span {
        parent_span_id,
        kind: SpanKind::Client.into(),
        start_time_unix_nano: nanos(call.began, attempt.after),
        end_time_unix_nano: nanos(call.began, attempt.after + attempt.took),
        ..ended(call, (trace_id, span_id), attributes, fault_of_attempt(attempt))
    }
}

/// What all spans of a call have, with what was wrong, if anything was.
fn ended(
    call: &CallSpan,
    (trace_id, span_id): (Vec<u8>, Vec<u8>),
    mut attributes: Vec<KeyValue>,
    fault: Option<String>,
) -> Span {
    let code = if fault.is_some() { StatusCode::Error } else { StatusCode::Unset };
    attributes.extend(fault.map(|fault| text("error.type", fault)));
    let name =
        call.known.as_ref().map_or_else(|| "unknown".into(), |(service, api)| format!("{service}/{api}"));
    Span {
        trace_id,
        span_id,
        name,
        attributes,
        trace_state: call.state.clone(),
        flags: call.trace.flags() | SpanFlags::ContextHasIsRemoteMask as u32,
        status: Some(Status { code: code.into(), ..Status::default() }),
        ..Span::default()
    }
}

/// What was wrong with a call as its caller sees it; a caller's own fault or leaving is none of the server's.
fn fault_of_call(call: &CallSpan) -> Option<String> {
    match (call.outcome, call.status) {
        ("ok", 500..) => Some(call.status.to_string()),
        ("ok" | "caller-gone", _) => None,
        (_, 400..500) => None,
        (kind, _) => Some(kind.into()),
    }
}

/// What was wrong with an attempt; a client's span is one of an error also where the client is to blame.
fn fault_of_attempt(attempt: &AttemptSpan) -> Option<String> {
    match (attempt.outcome, attempt.status) {
        ("ok" | "5xx", 400..) => Some(attempt.status.to_string()),
        ("ok" | "given-up", _) => None,
        (kind, _) => Some(kind.into()),
    }
}

fn names(call: &CallSpan) -> Vec<KeyValue> {
    let Some((service, api)) = &call.known else { return Vec::new() };
    vec![text("remora.service", &**service), text("remora.api", api.as_str())]
}

/// Where Yar is spoken.
fn rpc(call: &CallSpan, wire: &str) -> Vec<KeyValue> {
    let Some((service, api)) = call.known.as_ref().filter(|_| wire == "yar") else { return Vec::new() };
    vec![text("rpc.system.name", "yar"), text("rpc.method", format!("{service}/{api}"))]
}

fn status(status: u16) -> Option<KeyValue> {
    (status != 0).then(|| number("http.response.status_code", i64::from(status)))
}

fn nanos(at: SystemTime, after: Duration) -> u64 {
    // a clock before 1970 tells nothing
    (at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + after).as_nanos() as u64
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    of(key, any_value::Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    of(key, any_value::Value::IntValue(value))
}

fn of(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
