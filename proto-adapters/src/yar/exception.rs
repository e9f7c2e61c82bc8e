//! What a response carries in place of a result.

use super::Packager;
use super::read::{fields, never};
use crate::Charset;
use crate::codec::Reader;
use crate::event::Event;

/// The code of an exception; PHP allows text, as PDO's `HY000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// A number.
    Int(i64),
    /// Text.
    Str(String),
}

/// An exception as it stands in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Its message; bytes that are no text are replaced.
    pub message: String,
    /// Its code.
    pub code: Code,
    /// The file it was thrown in; empty if unknown.
    pub file: String,
    /// The line it was thrown in; 0 if unknown.
    pub line: i64,
    /// Its class, with the namespace.
    pub class: String,
}

impl Exception {
    /// Reads the `e` of a response with this status. Never fails: what cannot be read becomes
    /// the message PHP's own client shows, `unknown error, status N`.
    pub fn read(packager: Packager, status: i64, e: Option<&[u8]>) -> Self {
        Self::read_in(Charset::Utf8, packager, status, e)
    }

    /// As [`Self::read`], of a provider whose strings are in this charset.
    pub fn read_in(charset: Charset, packager: Packager, status: i64, e: Option<&[u8]>) -> Self {
        let reader = |bytes| Reader::in_charset(packager.wire(), charset, bytes);
        let read = e.and_then(|bytes| from_value(reader(bytes), charset, status));
        read.unwrap_or_else(|| plain(status, format!("unknown error, status {status}")))
    }
}

fn from_value(mut reader: Reader<'_>, charset: Charset, status: i64) -> Option<Exception> {
    let first = reader.first().ok()?;
    if first == Event::Map {
        return from_map(reader.rewound(), charset);
    }
    let (Event::Str(_) | Event::Bytes(_)) = first else { return None };
    Some(plain(status, text(&first, charset)))
}

fn from_map(reader: Reader<'_>, charset: Charset) -> Option<Exception> {
    let text = |event: &Event<'_>| text(event, charset);
    let mut found = Exception { code: Code::Int(0), ..plain(64, String::new()) };
    let end = fields(reader, never, |entry| {
        match entry.name() {
            Some("message") => found.message = text(&entry.first),
            Some("file") => found.file = text(&entry.first),
            Some("_type") => found.class = text(&entry.first),
            Some("line") => found.line = text(&entry.first).parse().unwrap_or(0),
            Some("code") => {
                found.code = if let Event::Int(code) = entry.first {
                    Code::Int(code)
                } else {
                    Code::Str(text(&entry.first))
                }
            }
            _ => {}
        }
        Ok(())
    });
    end.is_ok().then_some(found)
}

/// An error that is only text; its class is the one PHP's client would throw.
fn plain(status: i64, message: String) -> Exception {
    let class = match status {
        1 => "Yar_Client_Packager_Exception",
        2 => "Yar_Client_Protocol_Exception",
        16 => "Yar_Client_Transport_Exception",
        64 => "Yar_Server_Exception",
        _ => "Yar_Client_Exception",
    };
    Exception { message, code: Code::Int(status), file: String::new(), line: 0, class: class.to_owned() }
}

/// A scalar as PHP would print it; empty for what is none.
fn text(event: &Event<'_>, charset: Charset) -> String {
    match event {
        Event::Str(text) => text.clone().into_owned(),
        Event::Bytes(bytes) => charset.show(bytes).into_owned(),
        Event::Int(value) => value.to_string(),
        Event::UInt(value) => value.to_string(),
        Event::Float(value) => value.to_string(),
        Event::Beyond(number) => (*number).to_owned(),
        Event::Bool(true) => "1".to_owned(),
        Event::Null
        | Event::Bool(false)
        | Event::Ext(..)
        | Event::Php(_)
        | Event::Array
        | Event::Map
        | Event::End => String::new(),
    }
}
