//! Yar messages: the head of 90 bytes and the payload behind it.
//!
//! ```
//! use proto_adapters::yar::{self, Header, Packager, Request};
//!
//! let message = yar::encode_request(Packager::Json, 7, b"shop", b"", "add", b"[1,2]")?;
//! assert!(yar::is_yar(&message));
//! let header = Header::parse(&message)?;
//! assert_eq!((header.id, header.packager), (7, Packager::Json));
//! let payload = &message[yar::HEAD..];
//! let request = Request::read(header.packager, payload)?;
//! assert_eq!(request.method, "add");
//! assert_eq!(&payload[request.params], b"[1,2]");
//! # Ok::<(), proto_adapters::Fault>(())
//! ```

/// Deepest nesting of a message in JSON, its own map included: PHP's `json_decode` reads no more with
/// its limit of 512. It reads msgpack 1024 deep and its own format 4096, which no message here reaches.
pub const JSON_DEPTH: usize = 511;

mod compose;
mod describe;
mod exception;
mod header;
mod read;
mod stream;
mod write;

pub use compose::compose;
pub use describe::describe;
pub use exception::{Code, Exception};
pub use header::{
    HEAD, HEADER, Header, NAME, Packager, is_persistent, is_yar, mark_persistent, may_become_yar,
};
pub use read::{Request, Response};
pub use stream::{Stream, early_method};
pub use write::{Draft, encode_exception, encode_request, encode_result, has_params, rename};
