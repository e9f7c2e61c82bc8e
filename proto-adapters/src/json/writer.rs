//! JSON text out of events.

use std::borrow::Cow;

use crate::event::{BytesAs, Event, Refusal};
use crate::{Charset, number, text};

#[derive(Debug)]
struct Frame {
    map: bool,
    /// Keys and values alike.
    items: usize,
}

/// Builds JSON text out of events, without white space.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    stack: Vec<Frame>,
    bytes: BytesAs,
    from: Charset,
}

impl Writer {
    /// An empty writer that does with strings that are no text in `from` what `bytes` says.
    pub fn new(bytes: BytesAs, from: Charset) -> Self {
        Self { out: Vec::new(), stack: Vec::new(), bytes, from }
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// A [`Refusal`] for what JSON cannot say: PHP objects, keys that are neither strings nor
    /// integers, NaN, infinities, extensions, and bytes that are no text.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        if *event == Event::End {
            let map = self.stack.pop().is_some_and(|frame| frame.map);
            self.out.push(if map { b'}' } else { b']' });
            return Ok(());
        }
        if let Some(Frame { map: true, items }) = self.stack.last()
            && items % 2 == 0
        {
            let first = *items == 0;
            return self.key(event, first);
        }
        self.separate();
        self.value(event)
    }

    /// Appends a value that is JSON already.
    pub fn raw(&mut self, value: &[u8]) {
        self.separate();
        self.out.extend_from_slice(value);
    }

    /// The text.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    fn separate(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            if frame.map && frame.items % 2 == 1 {
                self.out.push(b':');
            } else if frame.items > 0 {
                self.out.push(b',');
            }
            frame.items += 1;
        }
    }

    fn key(&mut self, event: &Event<'_>, first: bool) -> Result<(), Refusal> {
        let key = match event {
            Event::Str(key) => Cow::Borrowed(key.as_ref()),
            Event::Int(key) => Cow::Owned(key.to_string()),
            Event::UInt(key) => Cow::Owned(key.to_string()),
            Event::Null if first => return Err(Refusal::Object("JSON")),
            Event::Bytes(_) => {
                let from = self.from.name();
                let reason = format!("a string that is not {from} as a key cannot become JSON");
                return Err(Refusal::Because(reason));
            }
            Event::Null
            | Event::Bool(_)
            | Event::Float(_)
            | Event::Beyond(_)
            | Event::Ext(..)
            | Event::Php(_)
            | Event::Array
            | Event::Map
            | Event::End => {
                return Err(Refusal::because(format!("{} as a key cannot become JSON", event.kind())));
            }
        };
        self.separate();
        text::push_json_string(&mut self.out, &key);
        Ok(())
    }

    fn value(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        let out = &mut self.out;
        match event {
            Event::Null => out.extend_from_slice(b"null"),
            Event::Bool(true) => out.extend_from_slice(b"true"),
            Event::Bool(false) => out.extend_from_slice(b"false"),
            Event::Int(value) => number::push_int(out, *value),
            Event::UInt(value) => number::push_int(out, *value),
            Event::Float(value) if value.is_finite() => number::push_json_float(out, *value),
            Event::Float(value) => {
                return Err(Refusal::because(format!("the float {value} cannot become JSON")));
            }
            Event::Beyond(text) => out.extend_from_slice(text.as_bytes()),
            Event::Str(value) => text::push_json_string(out, value),
            Event::Bytes(value) if self.bytes == BytesAs::Base64 => {
                text::push_json_string(out, &text::base64(value));
            }
            Event::Bytes(value) => {
                return Err(Refusal::undecoded(value, self.from, "JSON"));
            }
            Event::Ext(..) | Event::Php(_) | Event::End => {
                return Err(Refusal::because(format!("{} cannot become JSON", event.kind())));
            }
            Event::Array => self.open(false),
            Event::Map => self.open(true),
        }
        Ok(())
    }

    fn open(&mut self, map: bool) {
        self.out.push(if map { b'{' } else { b'[' });
        self.stack.push(Frame { map, items: 0 });
    }
}
