//! What is told of calls, and to whom.

use std::fmt;

use super::AccessLog;
use super::file::Text;
use super::problem::Problems;
use crate::units::Share;

const ACCESS_LOG: AccessLog = AccessLog::All;

/// Of which calls a line is logged.
pub(super) fn access_log(written: Option<Text>, problems: &mut Problems) -> AccessLog {
    let Some(Text(mode)) = written else { return ACCESS_LOG };
    let known = match mode.as_str() {
        // some writers of YAML make a truth value of `off`
        "off" | "false" => Ok(AccessLog::Off),
        "errors" => Ok(AccessLog::Errors),
        "all" => Ok(AccessLog::All),
        share => Share::new(share)
            .map(AccessLog::Share)
            .map_err(|_| format!("\"{share}\" is none of off, errors, all, and no share such as 1%")),
    };
    problems.keep("access_log", known).unwrap_or(ACCESS_LOG)
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Errors => f.write_str("errors"),
            Self::Share(share) => share.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}
