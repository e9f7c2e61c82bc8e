//! Durations, sizes and shares as people write them: `4500ms`, `10s`, `10MiB`, `1%`.

use std::fmt;
use std::time::Duration;

/// A text that is no duration or no size; its Display shows what one looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadUnit {
    text: String,
    wanted: &'static str,
}

impl fmt::Display for BadUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not {}", self.text, self.wanted)
    }
}

impl std::error::Error for BadUnit {}

/// Reads `250ms`, `10s`, `5m`, `1h`; a unit is required, fractions are allowed.
pub fn duration(text: &str) -> Result<Duration, BadUnit> {
    scaled(text, &[("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3600e3)])
        .filter(|ms| *ms <= 1e12)
        .map(|ms| Duration::from_micros((ms * 1e3) as u64))
        .ok_or_else(|| BadUnit { text: text.into(), wanted: "a duration such as 250ms, 10s or 5m" })
}

/// Reads `512B`, `64KiB`, `10MiB`, `1GiB` (also `KB`, `MB`, `GB`: powers of ten), in bytes.
pub fn size(text: &str) -> Result<u64, BadUnit> {
    let units = [
        ("KiB", 1024.0),
        ("MiB", 1048576.0),
        ("GiB", 1073741824.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("B", 1.0),
    ];
    scaled(text, &units)
        .filter(|bytes| *bytes <= 1e15)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| BadUnit { text: text.into(), wanted: "a size such as 64KiB or 10MiB" })
}

/// The shortest way to write `d` that [`duration`] reads back.
pub fn show_duration(d: Duration) -> String {
    match d.as_millis() {
        0 => "0ms".into(),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// The shortest exact way to write `bytes` that [`size`] reads back.
pub fn show_size(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// A part of many, to the millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    const WHOLE: u32 = 1_000_000;

    /// Reads `1%`, `0.5%`, `100%`.
    pub fn new(text: &str) -> Result<Self, BadUnit> {
        scaled(text, &[("%", 1e4)])
            .filter(|millionths| *millionths <= f64::from(Self::WHOLE))
            .map(|millionths| Self(millionths.round() as u32))
            .ok_or_else(|| BadUnit { text: text.into(), wanted: "a share from 0% to 100%" })
    }

    /// Whether one belongs to the part, by chance.
    pub fn draw(self) -> bool {
        fastrand::u32(..Self::WHOLE) < self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 1e4)
    }
}

fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let scale = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        for text in ["4500ms", "250ms", "0ms", "10s"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["10MiB", "64KiB", "1GiB", "1000B", "0B"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
        for text in ["0%", "1%", "0.5%", "0.0001%", "100%"] {
            assert_eq!(Share::new(text).unwrap().to_string(), text);
        }
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
    }

    #[test]
    fn a_unit_is_required_and_nonsense_is_named() {
        for bad in ["", "5", "s", "-1s", "1 year", "1e9s", "99999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "1", "%", "-1%", "101%", "1e1%"] {
            assert!(Share::new(bad).is_err(), "{bad}");
        }
        assert!(!Share(0).draw() && Share(Share::WHOLE).draw());
        assert_eq!(
            size("10 apples").unwrap_err().to_string(),
            "\"10 apples\" is not a size such as 64KiB or 10MiB"
        );
    }
}
