//! JSON text as events, and back.
//!
//! Reads what RFC 8259 allows and nothing more: no byte order mark, no raw control characters,
//! no lone surrogates, no NaN.
//!
//! ```
//! use proto_adapters::Charset;
//! use proto_adapters::event::{BytesAs, Event};
//! use proto_adapters::json::Writer;
//!
//! let mut writer = Writer::new(BytesAs::Fail, Charset::Utf8);
//! for event in [Event::Array, Event::Float(3.0), Event::Str("é".into()), Event::End] {
//!     writer.push(&event).map_err(|refusal| format!("{refusal:?}"))?;
//! }
//! assert_eq!(writer.finish(), r#"[3.0,"é"]"#.as_bytes());
//! # Ok::<(), String>(())
//! ```

mod number;
mod open;
mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;
