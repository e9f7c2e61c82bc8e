//! The collector that is told of metrics and calls.

use std::collections::BTreeMap;
use std::time::Duration;

use super::file::{OtlpFile, Text, Time, TracesFile};
use super::problem::Problems;
use super::resolve::{count, text, time};
use super::{Header, Otlp, Traces};
use crate::names::Address;
use crate::units::{self, Share};

const TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_secs(10);
const SAMPLE: &str = "1%";
const QUEUE: usize = 2048;
/// Headers that every message has anyway.
const OWN: [&str; 6] =
    ["host", "content-type", "content-length", "content-encoding", "connection", "transfer-encoding"];

pub(super) fn otlp(written: OtlpFile, problems: &mut Problems) -> Option<Otlp> {
    let headers = headers(written.headers.unwrap_or_default(), problems);
    let least = (Duration::from_millis(100), "no collector would be fast enough");
    let most = (Duration::from_secs(60), "spans would wait for a collector that hangs");
    let timeout = time(written.timeout, "otlp.timeout", least, most, problems).unwrap_or(TIMEOUT);
    let interval = interval(written.interval, problems);
    let traces = traces(written.traces.unwrap_or_default(), problems);
    if interval.is_none() && traces.is_none() && problems.0.is_empty() {
        problems.add("otlp", "interval and traces.sample are both off: nothing is sent; leave otlp out");
    }
    let Some(endpoint) = text(written.endpoint) else {
        let wanted = "give where the collector takes OTLP over HTTP, such as http://127.0.0.1:4318";
        problems.missing("otlp.endpoint", wanted);
        return None;
    };
    let (collector, path) = problems.keep("otlp.endpoint", split(&endpoint))?;
    Some(Otlp { collector, path, headers, timeout, interval, traces })
}

/// Where to connect, and what stands before the paths of the signals.
fn split(endpoint: &str) -> Result<(Address, String), String> {
    if endpoint.starts_with("https://") {
        return Err(format!(
            "\"{endpoint}\" wants TLS, which is not offered; send to a collector in this network by http://, and on from there"
        ));
    }
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return Err(format!("\"{endpoint}\" is no endpoint such as http://127.0.0.1:4318"));
    };
    if rest.contains(['?', '#']) {
        return Err(format!(
            "\"{endpoint}\" has more than a path; leave out `?` or `#` and what is behind it"
        ));
    }
    let (at, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = path.trim_end_matches('/');
    if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(format!("{path:?} is no path; leave out white space, and write other letters as %XX"));
    }
    if path.ends_with("/v1/traces") || path.ends_with("/v1/metrics") {
        return Err(format!("\"{path}\" is for one signal; leave out /v1/…, which is added for each"));
    }
    Ok((Address::new(at).map_err(|bad| bad.to_string())?, path.into()))
}

fn headers(written: BTreeMap<String, Text>, problems: &mut Problems) -> Vec<Header> {
    let mut headers = Vec::new();
    for (name, Text(value)) in written {
        let path = format!("otlp.headers.{name}");
        let name = name.to_ascii_lowercase();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            problems.add(path, "that is no name of a header, such as authorization");
        } else if OWN.contains(&name.as_str()) {
            problems.add(path, "every message has its own; leave it out");
        } else if !value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            problems.add(path, "its value has more than visible ASCII and blanks in it; mend it");
        } else {
            headers.push(Header { name, value });
        }
    }
    headers
}

/// `None`: metrics are not sent.
fn interval(written: Option<Text>, problems: &mut Problems) -> Option<Duration> {
    let Some(written) = text(written) else { return Some(INTERVAL) };
    if is_off(&written) {
        return None;
    }
    let found = problems.keep("otlp.interval", units::duration(&written))?;
    let least = (Duration::from_secs(1), "the collector would be busy with one host");
    let most = (Duration::from_secs(3600), "collectors take what is older for gone; `off` sends no metrics");
    time(Some(Time(found)), "otlp.interval", least, most, problems)
}

/// `None`: no call becomes a span.
fn traces(written: TracesFile, problems: &mut Problems) -> Option<Traces> {
    let queue = count(written.queue, "otlp.traces.queue", 16..=16_384, problems);
    let sample = text(written.sample).unwrap_or_else(|| SAMPLE.into());
    if is_off(&sample) {
        return None;
    }
    let sample = Share::new(&sample).map_err(|bad| format!("{bad}, or off"));
    let sample = problems.keep("otlp.traces.sample", sample)?;
    Some(Traces { sample, queue: queue.map_or(QUEUE, |spans| spans as usize) })
}

/// Some writers of YAML make a truth value of `off`.
fn is_off(text: &str) -> bool {
    text == "off" || text == "false"
}
