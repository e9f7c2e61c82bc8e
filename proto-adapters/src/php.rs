//! PHP's `serialize` format as events, and back the way PHP writes it.
//!
//! Arrays whose keys are 0, 1, 2, … in this order are lists, others are maps. Objects are read,
//! so that they can be shown and refused, and never written: reading one makes PHP run code.
//!
//! ```
//! use proto_adapters::event::Event;
//! use proto_adapters::php::{Reader, Writer};
//!
//! let mut writer = Writer::new();
//! for event in [Event::Array, Event::Float(3.0), Event::Str("é".into()), Event::End] {
//!     writer.push(&event).map_err(|refusal| format!("{refusal:?}"))?;
//! }
//! let packed = writer.finish();
//! assert_eq!(packed, "a:2:{i:0;d:3;i:1;s:2:\"é\";}".as_bytes());
//! assert_eq!(Reader::new(&packed).pull(), Ok(Some(Event::Array)));
//! # Ok::<(), String>(())
//! ```

mod reader;
mod shape;
mod token;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

/// The integer that PHP makes of this text where it is the key of an array.
pub(crate) fn integer_key(key: &[u8]) -> Option<i64> {
    let digits = key.strip_prefix(b"-").unwrap_or(key);
    let canonical = match digits {
        [b'0'] => digits.len() == key.len(),
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    let text = str::from_utf8(key).ok().filter(|_| canonical)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::integer_key;

    #[test]
    fn a_key_is_an_integer_where_php_would_make_one_of_it() {
        for key in ["0", "7", "-3", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(integer_key(key.as_bytes()).map(|key| key.to_string()).as_deref(), Some(key));
        }
        for key in [
            "",
            "-",
            "-0",
            "08",
            "-08",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e2",
            "--1",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551617",
            "é",
        ] {
            assert_eq!(integer_key(key.as_bytes()), None, "{key}");
        }
        assert_eq!(integer_key(b"\xff"), None);
    }
}
