//! Values of a policy as people write them; each error names what would do.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{units, words};

pub(super) fn duration(value: &Value, least_ms: u64) -> Result<Duration, String> {
    let text = value.as_str().ok_or_else(|| format!("{value} is not a duration such as 250ms or 10s"))?;
    let found = units::duration(text).map_err(|e| e.to_string())?;
    if found < Duration::from_millis(least_ms) {
        return Err(format!("{text} is below {least_ms}ms"));
    }
    Ok(found)
}

pub(super) fn number(value: &Value, least: u64, most: u64) -> Result<u64, String> {
    value
        .as_u64()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| format!("{value} is not a number from {least} to {most}"))
}

/// The same for what may be written as `1e9` too.
pub(super) fn whole(value: &Value, least: u32, most: u32) -> Result<u32, String> {
    let range = f64::from(least)..=f64::from(most);
    let found = value.as_f64().filter(|n| n.fract() == 0.0 && range.contains(n));
    found.map(|n| n as u32).ok_or_else(|| format!("{value} is not a whole number from {least} to {most}"))
}

pub(super) fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| value.as_str() == Some(*word));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{value} is none of {}", known.join(", "))
    })
}

/// `80%`, from `least` to 100.
pub(super) fn percent(value: &Value, least: u8) -> Result<u8, String> {
    let share = value.as_str().and_then(share).filter(|share| *share >= least);
    share.ok_or_else(|| format!("{value} is not a share such as \"80%\""))
}

/// `20%+10`: a share in percent, and so many a second.
pub(super) fn share_and_rate(value: &Value) -> Result<(u8, u32), String> {
    let parts = value.as_str().and_then(|text| text.split_once('+'));
    let read = parts.and_then(|(of_calls, rate)| Some((share(of_calls)?, rate.trim().parse().ok()?)));
    read.filter(|(_, rate)| *rate <= 1_000_000).ok_or_else(|| format!("{value} is not such as \"20%+10\""))
}

pub(super) fn object<'a>(value: &'a Value, example: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{value} is not an object such as {example}"))
}

/// What to say of a field that is none of `known`.
pub(super) fn unknown(field: &str, known: &[&str]) -> String {
    let meant = words::nearest(field, known).map(|meant| format!("; did you mean `{meant}`?"));
    format!("is none of {}{}", known.join(", "), meant.unwrap_or_default())
}

fn share(text: &str) -> Option<u8> {
    text.trim().strip_suffix('%')?.trim_end().parse().ok().filter(|share| *share <= 100)
}
