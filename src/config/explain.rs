//! Who may ask why a call went as it did.

use super::file::{ExplainFile, Text};
use super::problem::Problems;
use crate::names::CallerName;

/// Callers that may ask for the story of their calls.
pub(super) fn askers(file: ExplainFile, problems: &mut Problems) -> Vec<String> {
    let written = file.callers.unwrap_or_default().into_iter().enumerate();
    let name = |(index, Text(name)): (usize, Text)| {
        problems
            .keep(&format!("explain.callers.{index}"), CallerName::new(&name))
            .map(|name| name.to_string())
    };
    written.filter_map(name).collect()
}
