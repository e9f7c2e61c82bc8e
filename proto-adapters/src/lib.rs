//! Codecs without I/O for the wires PHP services speak: Yar, msgpack, JSON, PHP's `serialize`.
//!
//! Everything is bytes in, value or bytes out. Values are never built as trees: readers yield
//! [`event::Event`]s, writers take them, and both keep their own bounded stack.
//!
//! ```
//! use proto_adapters::{Options, Wire, transcode};
//!
//! let packed = transcode(Wire::Json, Wire::Msgpack, b"[3.0, 128]", "$", Options::default())?;
//! assert_eq!(packed, b"\x92\xcb\x40\x08\0\0\0\0\0\0\xcc\x80");
//! # Ok::<(), proto_adapters::Fault>(())
//! ```
#![deny(missing_docs, clippy::indexing_slicing)]

pub mod adapt;
mod buffer;
mod charset;
pub mod codec;
pub mod event;
mod gaps;
pub mod json;
pub mod msgpack;
mod number;
mod path;
pub mod php;
mod pump;
mod stack;
mod text;
pub mod yar;

use std::fmt;

pub use adapt::{body_to_params, form_to_params, params_to_body, params_to_query, transcode};
pub use charset::Charset;
pub use codec::Wire;
pub use event::{BytesAs, Empty, Options};
pub use yar::{Code, Exception, Header, Packager, Request, Response};

/// Deepest nesting any codec reads: a list inside 511 others is fine, one more is a [`Fault`].
/// PHP writes JSON as deep, and reads one level less: see [`yar::JSON_DEPTH`].
pub const MAX_DEPTH: usize = 512;

/// Why bytes could not be read, or a value not be carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are not what they claim to be.
    Malformed {
        /// Offset of the offending byte in the input, in bytes.
        at: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The bytes are fine, but a value in them has no form on the other side.
    Unadaptable {
        /// Where the value stands, like `$.user.photo` or `$[0]["a b"]`.
        path: String,
        /// The value and what it cannot become.
        reason: String,
    },
    /// What the value becomes is longer than it may be: see [`Options::room`].
    TooLong {
        /// The bytes it may have.
        most: usize,
    },
}

impl Fault {
    pub(crate) fn malformed(at: usize, reason: impl Into<String>) -> Self {
        Self::Malformed { at, reason: reason.into() }
    }

    pub(crate) fn unadaptable(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unadaptable { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { at, reason } => write!(f, "byte {at}: {reason}"),
            Self::Unadaptable { path, reason } => write!(f, "{path}: {reason}"),
            Self::TooLong { most } => write!(f, "what it becomes is longer than {most} bytes"),
        }
    }
}

impl std::error::Error for Fault {}
