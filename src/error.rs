//! Why a call was not carried, and the one table that says how each reason is shown.

use std::fmt;
use std::time::Duration;

use proto_adapters::yar::{Code, Exception};
use serde_json::{Value, json};

use crate::words;

mod no_room;
mod over_quota;
mod thrown;

pub use no_room::{NoRoom, Whose};
pub use over_quota::OverQuota;

/// Error types of RFC 9209 that several kinds share.
const UNAVAILABLE: &str = "destination_unavailable";
const DENIED: &str = "http_request_denied";

/// Why a call was not carried; its Display is the `detail` the caller reads.
#[derive(Debug, Clone, PartialEq)]
pub enum CallError {
    /// The bytes are not what they are announced as.
    MalformedRequest(String),
    /// The caller ended its connection in the middle of its request; what it is told if it reads on all the same.
    CallerGone(String),
    /// The head of a request is larger than any may be.
    HeadTooLarge(String),
    /// The caller wants a tunnel.
    NoTunnel,
    /// By this method no Yar function is called.
    WrongMethod(String),
    /// The view does not know the service and the registry can't be asked.
    RegistryUnavailable {
        /// As the caller named it.
        service: String,
        /// What the registry side says.
        reason: String,
    },
    /// The service is not in the registry; why, where its name already rules it out.
    NoService(String),
    /// The service's state is not `on`.
    ServiceOff(String),
    /// The service wants a key and this one opens nothing.
    UnknownKey {
        /// The service.
        service: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The service has no such API.
    NoApi {
        /// The service.
        service: String,
        /// As the caller named it.
        api: String,
    },
    /// What was called is no API name, or its node can't be read; why.
    BadApi(String),
    /// The API's state is not `on`.
    ApiOff {
        /// The service.
        service: String,
        /// The API.
        api: String,
    },
    /// The caller may not call this API.
    Forbidden {
        /// Who called.
        caller: String,
        /// What it may not call, `service/api`.
        api: String,
    },
    /// The caller called more often than its quota says.
    QuotaExceeded(OverQuota),
    /// Nobody serves it.
    NoProvider {
        /// The service.
        service: String,
        /// Providers registered, none of them usable.
        known: usize,
    },
    /// Too many calls in flight.
    Overloaded {
        /// The service or the api.
        target: String,
        /// Its `concurrency`.
        limit: u32,
        /// What became of its place in the line, where it has a `queue`.
        line: Option<&'static str>,
    },
    /// The circuit of every provider is open.
    CircuitOpen {
        /// The service.
        service: String,
        /// Until a call may try again.
        retry_after: Duration,
    },
    /// Every provider of this service has as many calls as it may.
    Full(String, Option<&'static str>),
    /// Too many bytes of bodies are held already.
    NoRoom(NoRoom),
    /// The request body is over its limit, in bytes.
    TooLarge(u64),
    /// No provider was reached.
    ConnectFailed {
        /// Providers tried.
        tried: usize,
        /// What the last one did.
        reason: String,
    },
    /// The provider ended before its answer did.
    Cut,
    /// It ended after so many bytes of so many.
    CutShort(u64, u64),
    /// The provider fell silent in the middle of its answer, for longer than `idle_timeout`.
    Stalled,
    /// The provider's bytes are not what its encoding says.
    BadAnswer(String),
    /// The provider answered, but too many bytes of bodies are held already.
    Unheld(NoRoom),
    /// A value of the caller's has no form on the provider's side.
    UnadaptableCall(String),
    /// A value of the provider's has no form on the caller's side.
    UnadaptableAnswer(String),
    /// A JSON provider answered 4xx or 5xx to a Yar caller.
    ProviderError {
        /// Its status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
    /// A Yar provider threw.
    ProviderException(Exception),
    /// The process ended, and the call had not until then.
    Drained,
    /// Out of time, after that many milliseconds.
    Deadline(u64),
}

/// How a [`CallError`] is shown and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// `urn:remora:<kind>`, and the label in metrics and log.
    pub kind: &'static str,
    /// One line on the kind.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// `code` of the exception a Yar caller sees.
    pub code: i64,
    /// Error type of the `Proxy-Status` header (RFC 9209).
    pub proxy_status: &'static str,
}

impl CallError {
    /// The table.
    pub fn verdict(&self) -> Verdict {
        let (kind, status, code, proxy_status, title) = match self {
            Self::MalformedRequest(_) | Self::CallerGone(_) => {
                ("malformed-request", 400, 10400, "http_request_error", "The request can't be read")
            }
            Self::HeadTooLarge(_) => {
                ("malformed-request", 431, 10400, "http_request_error", "The request's head is too large")
            }
            Self::NoTunnel | Self::WrongMethod(_) => {
                ("malformed-request", 405, 10400, "http_request_denied", "The method is not offered")
            }
            Self::RegistryUnavailable { .. } => {
                ("registry-unavailable", 503, 10510, "destination_unavailable", "The registry can't be asked")
            }
            Self::NoService(_) => ("no-service", 404, 10404, "destination_not_found", "No such service"),
            Self::ServiceOff(_) => ("service-off", 503, 10503, UNAVAILABLE, "The service is switched off"),
            Self::UnknownKey { .. } => {
                ("unknown-key", 401, 10401, "http_request_denied", "The key is missing or wrong")
            }
            Self::NoApi { .. } | Self::BadApi(_) => {
                ("no-api", 404, 10405, "destination_not_found", "No such api")
            }
            Self::ApiOff { .. } => ("api-off", 503, 10511, UNAVAILABLE, "The api is switched off"),
            Self::Forbidden { .. } => ("forbidden", 403, 10403, DENIED, "The caller may not call this api"),
            Self::QuotaExceeded(over) => ("quota-exceeded", 429, 10429, DENIED, over.title()),
            Self::NoProvider { .. } => ("no-provider", 503, 10504, UNAVAILABLE, "No provider takes calls"),
            Self::Overloaded { .. } => {
                ("overloaded", 503, 10506, "connection_limit_reached", "Too many calls in flight")
            }
            Self::CircuitOpen { .. } => {
                ("circuit-open", 503, 10505, UNAVAILABLE, "Every provider is left alone")
            }
            Self::Full(..) => {
                ("overloaded", 503, 10506, "connection_limit_reached", "Every provider is full")
            }
            Self::NoRoom(_) => {
                ("overloaded", 503, 10506, "connection_limit_reached", "Too many bodies held at once")
            }
            Self::TooLarge(_) => ("too-large", 413, 10413, "http_request_error", "The body is too large"),
            Self::ConnectFailed { .. } => {
                ("connect-failed", 502, 10502, "connection_refused", "No provider was reached")
            }
            Self::Cut | Self::CutShort(..) => {
                ("cut", 502, 10507, "connection_terminated", "The provider ended before its answer did")
            }
            Self::Stalled => (
                "cut",
                502,
                10507,
                "http_response_timeout",
                "The provider stopped in the middle of its answer",
            ),
            Self::BadAnswer(_) | Self::Unheld(_) => {
                ("bad-answer", 502, 10508, "http_protocol_error", "The provider's answer can't be read")
            }
            Self::UnadaptableCall(_) => {
                ("unadaptable", 422, 10422, "http_request_error", "A value can't be carried over")
            }
            Self::UnadaptableAnswer(_) => {
                ("unadaptable", 502, 10422, "http_protocol_error", "A value can't be carried over")
            }
            Self::ProviderError { status, .. } => (
                "provider-error",
                *status,
                i64::from(*status),
                "proxy_internal_response",
                "The provider answered an error",
            ),
            Self::ProviderException(_) => (
                "provider-exception",
                500,
                10500,
                "proxy_internal_response",
                "The provider threw an exception",
            ),
            Self::Drained => ("drained", 503, 10512, UNAVAILABLE, "The sidecar ended before the call did"),
            Self::Deadline(_) => ("deadline", 504, 10509, "http_response_timeout", "Out of time"),
        };
        Verdict { kind, title, status, code, proxy_status }
    }

    /// What its call is counted and logged as: its kind, but for a caller that left.
    pub fn outcome(&self) -> &'static str {
        if matches!(self, Self::CallerGone(_)) { "caller-gone" } else { self.verdict().kind }
    }

    /// What an HTTP caller reads (RFC 9457), of a call to `service` and `api`; empty where it named none.
    pub fn problem(&self, service: &str, api: &str) -> Value {
        let verdict = self.verdict();
        let mut problem = json!({
            "type": format!("urn:remora:{}", verdict.kind),
            "title": verdict.title,
            "status": verdict.status,
            "detail": self.to_string(),
            "service": service,
            "api": api,
        });
        if let (Self::ProviderException(thrown), Some(fields)) = (self, problem.as_object_mut()) {
            let code = match &thrown.code {
                Code::Int(code) => json!(code),
                Code::Str(code) => json!(code),
            };
            let exception = json!({ "class": thrown.class, "message": thrown.message, "code": code });
            fields.insert("exception".into(), exception);
        }
        problem
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = String::new();
        self.tell(&mut told)?;
        // it quotes what callers and providers sent
        f.write_str(&words::line(&told))
    }
}

impl CallError {
    fn tell(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::MalformedRequest(reason)
            | Self::CallerGone(reason)
            | Self::NoService(reason)
            | Self::BadApi(reason)
            | Self::BadAnswer(reason)
            | Self::HeadTooLarge(reason)
            | Self::UnadaptableCall(reason)
            | Self::UnadaptableAnswer(reason) => f.write_str(reason),
            Self::NoTunnel => {
                f.write_str("CONNECT is not offered; send the call itself, http://{service}/{api}")
            }
            Self::WrongMethod(method) => {
                write!(f, "{method} calls no function of a Yar provider; send GET or POST")
            }
            Self::RegistryUnavailable { service, reason } => {
                write!(
                    f,
                    "service \"{service}\" is not in the view yet, and {reason}; the next call tries again"
                )
            }
            Self::ServiceOff(service) => {
                write!(f, "service \"{service}\" is switched off in the registry (`state`)")
            }
            Self::UnknownKey { service, reason } => {
                write!(f, "service \"{service}\" wants a key: {reason}")
            }
            Self::NoApi { service, api } if api.is_empty() => {
                write!(f, "no api is named; call /{service}/{{api}}")
            }
            Self::NoApi { service, api } => {
                write!(f, "service \"{service}\" has no api \"{api}\" in the registry")
            }
            Self::ApiOff { service, api } => {
                write!(f, "api \"{api}\" of service \"{service}\" is switched off in the registry (`state`)")
            }
            Self::Forbidden { caller, api } => {
                write!(f, "caller \"{caller}\" may not call {api}; its `apis` in the registry do not list it")
            }
            Self::QuotaExceeded(over) => write!(f, "{over}"),
            Self::NoProvider { service, known } => f.write_str(&no_provider(service, *known)),
            Self::Overloaded { target, limit, line } => f.write_str(&overloaded(target, *limit, *line)),
            Self::CircuitOpen { service, .. } => {
                f.write_str(&all_open(service, self.retry_after().unwrap_or(1)))
            }
            Self::Full(service, line) => f.write_str(&all_full(service, *line)),
            Self::NoRoom(lack) => write!(f, "{lack}; try again later"),
            // the provider has run: this is no refusal that a caller may take for "not done"
            Self::Unheld(lack) => {
                write!(f, "the provider answered, but there is no room for its answer: {lack}")
            }
            Self::TooLarge(limit) => {
                let limit = crate::units::show_size(*limit);
                write!(f, "the body is over {limit}, the `max_body` of this api")
            }
            Self::ConnectFailed { tried, reason } => {
                write!(f, "{tried} of its providers tried, none reached: {reason}")
            }
            Self::CutShort(have, of) => {
                write!(f, "the provider closed the connection: {have} of {of} bytes of the answer arrived")
            }
            Self::Cut => f.write_str("the provider closed the connection before its answer was complete"),
            Self::Stalled => f.write_str(
                "the provider stopped in the middle of its answer and was silent for its `idle_timeout`",
            ),
            Self::ProviderError { status, body } if body.is_empty() => {
                write!(f, "the provider answered {status} with an empty body; see its error log")
            }
            Self::ProviderError { status, body } => write!(f, "the provider answered {status}: {body}"),
            Self::ProviderException(thrown) => write!(f, "{}: {}", thrown.class, thrown.message),
            Self::Drained => f.write_str(
                "this sidecar ended, and the call had no answer within its `drain`; it may have run",
            ),
            Self::Deadline(ms) => write!(f, "no answer within {ms}ms, the time this call had"),
        }
    }
}

impl std::error::Error for CallError {}

fn no_provider(service: &str, known: usize) -> String {
    match known {
        0 => format!("no provider of service \"{service}\" is registered"),
        _ => format!(
            "none of the {known} providers of service \"{service}\" is `on` with a weight above 0 and, where \
             `zone` is `only`, in the `idc` of this host"
        ),
    }
}

fn all_open(service: &str, seconds: u64) -> String {
    format!(
        "every provider of service \"{service}\" failed again and again and is left alone; the next is tried \
         within {seconds}s"
    )
}

fn overloaded(target: &str, limit: u32, line: Option<&str>) -> String {
    let line = line.map_or_else(String::new, |line| format!(", and {line}"));
    format!("{limit} calls to {target} are in flight from this host, its `concurrency`{line}")
}

fn all_full(service: &str, line: Option<&str>) -> String {
    let line = line.map_or_else(String::new, |line| format!(", and {line}"));
    format!(
        "every provider of service \"{service}\" has as many calls in flight from this host as it takes, as \
         `concurrency: auto` found or by its `max_connections`{line}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yar_caller_sees_kind_code_and_message() {
        let thrown = CallError::NoApi { service: "user".into(), api: "gett".into() }.exception();
        assert_eq!(thrown.class, "Remora\\NoApi");
        assert_eq!(thrown.code, Code::Int(10405));
        assert_eq!(thrown.message, "service \"user\" has no api \"gett\" in the registry");
    }

    #[test]
    fn what_a_caller_is_told_is_one_line_whatever_was_sent() {
        let caller = format!("we\nb{}", "x".repeat(10_000));
        let told = CallError::Forbidden { caller, api: "user/get".into() }.to_string();
        assert!(told.len() < 500 && told.starts_with("caller \"we␊bx"), "{told}");
        assert!(told.ends_with("may not call user/get; its `apis` in the registry do not list it"), "{told}");
    }

    #[test]
    fn a_providers_own_exception_keeps_class_message_and_code() {
        let own = Exception {
            message: "no such user".into(),
            code: Code::Str("HY000".into()),
            file: "/app/User.php".into(),
            line: 7,
            class: "App\\NotFound".into(),
        };
        assert_eq!(CallError::ProviderException(own.clone()).exception_of(Some("7")), own);
    }
}
