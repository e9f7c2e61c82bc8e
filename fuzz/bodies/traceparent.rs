//! Takes any bytes for a `traceparent`, and asserts what the standard says of them. Shared by the fuzz target and by
//! the test that runs the corpus.

use remora::telemetry::Parent;

pub(crate) fn run(text: &[u8]) {
    let read = Parent::parse(text);
    assert_eq!(read.is_some(), is_good(text), "{:?}", String::from_utf8_lossy(text));
    let Some(parent) = read else { return };
    let shown = parent.to_string();
    assert_eq!(Parent::parse(shown.as_bytes()), Some(parent), "what is written is read back");
    assert_eq!(shown.as_bytes().get(3..), text.get(3..55), "all but the version is as it came: {shown}");
    assert_eq!(shown.ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']), parent.is_sampled());
}

/// The same, read slowly.
fn is_good(text: &[u8]) -> bool {
    // what the future holds behind a later version's flags may be any bytes
    let text = String::from_utf8_lossy(text);
    let parts: Vec<_> = text.split('-').collect();
    let [version, trace, span, flags, more @ ..] = parts.as_slice() else { return false };
    let digits = |part: &str, count: usize| {
        part.len() == count && part.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    };
    digits(version, 2)
        && digits(trace, 32)
        && digits(span, 16)
        && digits(flags, 2)
        && *version != "ff"
        && (*version != "00" || more.is_empty())
        && [trace, span].iter().all(|id| id.contains(|c| c != '0'))
}
