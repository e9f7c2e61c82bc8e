//! A call beyond its caller's quota, and when to come back.

use std::fmt;

use super::CallError;

/// Millionths of all of a quota.
const WHOLE: u32 = 1_000_000;
/// Seconds after which who is overloaded may be less so: calls in flight end within about as long.
const RELIEF: u64 = 1;

/// Who called what too often; its Display is the `detail` the caller reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverQuota {
    /// Who called.
    pub caller: String,
    /// The service it called.
    pub service: String,
    /// Its quota, such as `100 per 1s`; `None`: it can't be read.
    pub quota: Option<String>,
    /// Where a fleet shares it, how many millionths of it this host may use.
    pub part: Option<u32>,
    /// Until a call is admitted again, in seconds.
    pub wait: u64,
}

impl CallError {
    /// Whole seconds after which a call may succeed, where that is known; for `Retry-After`.
    pub fn retry_after(&self) -> Option<u64> {
        if let Self::QuotaExceeded(over) = self {
            return Some(over.wait);
        }
        if matches!(self, Self::Overloaded { .. } | Self::Full(..) | Self::NoRoom(_)) {
            return Some(RELIEF);
        }
        let Self::CircuitOpen { retry_after, .. } = self else { return None };
        Some(retry_after.as_millis().div_ceil(1000).max(1) as u64)
    }
}

impl OverQuota {
    /// Whether the caller called too often, or its host has no part of what it may.
    pub(super) fn title(&self) -> &'static str {
        match self.part {
            Some(0) => "No part of the caller's quota is lent to this host",
            Some(_) | None => "The caller's quota is used up",
        }
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, service, quota, part, wait } = self;
        let calls = format!("caller \"{caller}\" calls service \"{service}\" more often than");
        match (quota, part) {
            (Some(quota), None | Some(WHOLE)) => {
                write!(f, "{calls} its quota, {quota}; the next call is admitted in {wait}s")
            }
            (Some(quota), Some(0)) => write!(
                f,
                "caller \"{caller}\" has a quota of {quota} for service \"{service}\" that all hosts share, and no part \
                 of it is lent to this host now; try again in {wait}s; if that lasts, /registry of the admin port says \
                 whether ZooKeeper is reached"
            ),
            (Some(quota), Some(part)) => write!(
                f,
                "{calls} the {:.1}% that this host has of its quota, {quota}, which all hosts share; the next call is \
                 admitted in {wait}s",
                f64::from(*part) / 10_000.0
            ),
            (None, _) => write!(
                f,
                "the quota of caller \"{caller}\" can't be read, so nothing is admitted; /services/{service} of the admin port says why"
            ),
        }
    }
}
