//! What can go wrong between us and the registry.

use std::fmt;

/// Why the registry did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The node, or the parent of a new one, is not there.
    NoNode,
    /// The node is there already.
    Exists,
    /// The node is no longer as it was read.
    Changed,
    /// It may or may not have been done: look before trying again.
    Unknown(String),
    /// It was refused, and will be again.
    Refused(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoNode => f.write_str("the node is not there"),
            Trouble::Exists => f.write_str("the node is there already"),
            Trouble::Changed => f.write_str("the node was changed by somebody else"),
            Trouble::Unknown(reason) | Trouble::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Trouble {}
