//! JSON text out of events.

use crate::event::{BytesAs, Event, Refusal};
use crate::stack::Stack;
use crate::{Charset, number, text};

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    map: bool,
    /// Keys and values alike.
    items: usize,
}

/// Builds JSON text out of events, without white space.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    stack: Stack<Frame>,
    bytes: BytesAs,
    from: Charset,
    /// Most lists and maps in each other.
    most: usize,
}

impl Writer {
    /// An empty writer that does with strings that are no text in `from` what `bytes` says.
    pub fn new(bytes: BytesAs, from: Charset) -> Self {
        Self { out: Vec::new(), stack: Stack::default(), bytes, from, most: usize::MAX }
    }

    /// Refuses more than so many lists and maps in each other.
    pub(crate) fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Whether one more list or map has its place, `depth` levels below the innermost one.
    pub(crate) fn check_depth(&self, depth: usize) -> Result<(), Refusal> {
        if self.stack.len() + depth < self.most {
            return Ok(());
        }
        let most = self.most + 1;
        Err(Refusal::Because(format!(
            "nested deeper than {most}, the message's map included: PHP reads no such JSON"
        )))
    }

    /// What was written so far; lengths in it may not be final.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// A [`Refusal`] for what JSON cannot say: PHP objects, keys that are neither strings nor
    /// integers, NaN, infinities, extensions, and bytes that are no text.
    #[inline]
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        if matches!(event, Event::End) {
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

    /// Bytes written so far, about: lengths may still take more.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
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
        match event {
            Event::Str(key) => {
                self.separate();
                text::push_json_string(&mut self.out, key);
            }
            Event::Int(key) => self.number_key(*key),
            Event::UInt(key) => self.number_key(*key),
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
        }
        Ok(())
    }

    fn number_key(&mut self, key: impl itoa::Integer) {
        self.separate();
        self.out.push(b'"');
        number::push_int(&mut self.out, key);
        self.out.push(b'"');
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
                out.push(b'"');
                text::push_base64(out, value);
                out.push(b'"');
            }
            Event::Bytes(value) => {
                return Err(Refusal::undecoded(value, self.from, "JSON"));
            }
            Event::Ext(..) | Event::Php(_) | Event::End => {
                return Err(Refusal::because(format!("{} cannot become JSON", event.kind())));
            }
            Event::Array => return self.open(false),
            Event::Map => return self.open(true),
        }
        Ok(())
    }

    fn open(&mut self, map: bool) -> Result<(), Refusal> {
        self.check_depth(0)?;
        self.out.push(if map { b'{' } else { b'[' });
        self.stack.push(Frame { map, items: 0 });
        Ok(())
    }
}
