//! What a collector says of a message that it took.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::{Map, Value};

/// What a collector says of a message that it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Spans, or points of metrics, that it did not want.
    pub rejected: u64,
    /// Why, or what else it has to say; perhaps empty.
    pub reason: String,
}

impl Taken {
    /// Reads the body of an answer with this content type; `None`: it is no OTLP.
    pub fn read(kind: &str, body: &[u8]) -> Option<Self> {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            // as a message, nothing says that all was taken
            _ if body.is_empty() => Some(Self::default()),
            "application/x-protobuf" | "application/protobuf" | "" => of_protobuf(body),
            "application/json" => of_json(body),
            _ => None,
        }
    }
}

/// That of metrics has the same form.
fn of_protobuf(body: &[u8]) -> Option<Taken> {
    let partly = ExportTraceServiceResponse::decode(body).ok()?.partial_success.unwrap_or_default();
    Some(Taken { rejected: partly.rejected_spans.try_into().unwrap_or(0), reason: partly.error_message })
}

/// Some write JSON whatever they are sent. Any other object is an answer of something else.
fn of_json(body: &[u8]) -> Option<Taken> {
    let mut answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let partly = answer.remove("partialSuccess").unwrap_or_default();
    if !answer.is_empty() {
        return None;
    }
    let rejected = ["rejectedSpans", "rejectedDataPoints"].iter().find_map(|name| partly.get(name));
    // in JSON such numbers are texts
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let reason = partly.get("errorMessage").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Taken { rejected: rejected.and_then(number).unwrap_or(0), reason })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
    };

    use super::*;

    fn taken(rejected: u64, reason: &str) -> Option<Taken> {
        Some(Taken { rejected, reason: reason.into() })
    }

    #[test]
    fn what_was_rejected_is_read_in_either_form() {
        let of_metrics = |rejected_data_points, error_message: &str| {
            let error_message = error_message.to_owned();
            let partial_success = Some(ExportMetricsPartialSuccess { rejected_data_points, error_message });
            ExportMetricsServiceResponse { partial_success }.encode_to_vec()
        };
        let read = |body: &[u8]| Taken::read("application/x-protobuf", body);
        assert_eq!(read(&of_metrics(3, "too old")), taken(3, "too old"));
        assert_eq!(read(&of_metrics(-1, "")), taken(0, ""), "no number of points");
        let read = |body: &str| Taken::read("Application/JSON; charset=utf-8", body.as_bytes());
        assert_eq!(read("{}"), taken(0, ""));
        let partly = r#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}"#;
        assert_eq!(read(partly), taken(3, "too old"));
        assert_eq!(read(r#"{"partialSuccess":{"rejectedSpans":3}}"#), taken(3, ""));
    }

    #[test]
    fn what_others_answer_is_none() {
        for (kind, body) in [
            ("text/html", "<html>"),
            ("text/plain", "OK"),
            ("", "OK"),
            ("application/json", r#"{"status":"ok"}"#),
            ("application/json", "[]"),
            ("application/x-protobuf", "{}"),
            ("application/xml", "<ok/>"),
        ] {
            assert_eq!(Taken::read(kind, body.as_bytes()), None, "{kind} {body}");
        }
        assert_eq!(Taken::read("text/plain", b""), taken(0, ""), "it says nothing");
    }
}
