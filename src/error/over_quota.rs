//! A call beyond its caller's quota, and when to come back.

use std::fmt;

use super::CallError;

/// Who called what too often; its Display is the `detail` the caller reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverQuota {
    /// Who called.
    pub caller: String,
    /// The service it called.
    pub service: String,
    /// Its quota, such as `100 per 1s`; `None`: it can't be read.
    pub quota: Option<String>,
    /// Until a call is admitted again, in seconds.
    pub wait: u64,
}

impl CallError {
    /// Whole seconds after which a call may succeed, where that is known; for `Retry-After`.
    pub fn retry_after(&self) -> Option<u64> {
        if let Self::QuotaExceeded(over) = self {
            return Some(over.wait);
        }
        let Self::CircuitOpen { retry_after, .. } = self else { return None };
        Some(retry_after.as_millis().div_ceil(1000).max(1) as u64)
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, service, quota, wait } = self;
        match quota {
            Some(quota) => write!(
                f,
                "caller \"{caller}\" calls service \"{service}\" more often than its quota, {quota}; the next call is admitted in {wait}s"
            ),
            None => write!(
                f,
                "the quota of caller \"{caller}\" can't be read, so nothing is admitted; /services/{service} of the admin port says why"
            ),
        }
    }
}
