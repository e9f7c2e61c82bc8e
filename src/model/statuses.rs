//! A set of statuses of HTTP from 500 to 599, as people write it: `5xx`, or `500,502-504`.

use serde_json::Value;

const FIRST: u16 = 500;
const LAST: u16 = 599;

/// Which 5xx a provider fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses(u128);

impl Statuses {
    /// Every 5xx.
    pub const ALL: Self = Self((1 << (LAST - FIRST + 1)) - 1);

    /// Whether it is one of these; what is beyond 599 is no status at all, and always one.
    pub fn has(self, status: u16) -> bool {
        status > LAST || status.checked_sub(FIRST).is_some_and(|bit| self.0 >> bit & 1 == 1)
    }

    /// `5xx`, `none`, or statuses and ranges of them with commas between.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let read = |text: &str| match text {
            "5xx" => Some(Self::ALL),
            "none" => Some(Self(0)),
            parts => parts.split(',').try_fold(Self(0), |all, part| Some(Self(all.0 | range(part)?))),
        };
        let wrong = || {
            format!(
                "{value} is none of \"5xx\", \"none\", and statuses from 500 to 599 such as \"500,502-504\""
            )
        };
        value.as_str().and_then(read).ok_or_else(wrong)
    }

    /// As it would be written.
    pub(super) fn written(self) -> String {
        let mut parts = Vec::new();
        let mut next = FIRST;
        while let Some(first) = (next..=LAST).find(|status| self.has(*status)) {
            let last = (first..LAST).find(|status| !self.has(status + 1)).unwrap_or(LAST);
            parts.push(if first == last { first.to_string() } else { format!("{first}-{last}") });
            next = last + 1;
        }
        match self {
            Self::ALL => "5xx".into(),
            Self(0) => "none".into(),
            Self(_) => parts.join(","),
        }
    }
}

/// The bits of `503`, or of `502-504`.
fn range(text: &str) -> Option<u128> {
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|n| (FIRST..=LAST).contains(n));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then(|| (first..=last).fold(0, |bits, status| bits | 1 << (status - FIRST)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_shown_in_its_shortest_form() {
        for (written, shown) in [
            ("5xx", "5xx"),
            ("none", "none"),
            ("500-599", "5xx"),
            ("503", "503"),
            ("504, 502-503,500", "500,502-504"),
            ("599,500", "500,599"),
        ] {
            let read = Statuses::parse(&json!(written)).unwrap();
            assert_eq!(read.written(), shown, "{written}");
            assert_eq!(Statuses::parse(&json!(shown)), Ok(read));
        }
    }

    #[test]
    fn only_those_named_are_in_it() {
        let some = Statuses::parse(&json!("500,502-504")).unwrap();
        let seen: Vec<_> = (100..=599).filter(|status| some.has(*status)).collect();
        assert_eq!(seen, [500, 502, 503, 504]);
        assert!(some.has(600) && some.has(999));
    }

    #[test]
    fn nonsense_is_named_with_what_would_do() {
        for bad in ["", "4xx", "404", "600", "504-502", "500,", "-500", "500-", "5xx,500", "500;502"] {
            let reason = Statuses::parse(&json!(bad)).unwrap_err();
            assert!(reason.starts_with(&format!("\"{bad}\" is none of \"5xx\"")), "{reason}");
        }
        assert!(Statuses::parse(&json!(503)).is_err());
    }
}
