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
    /// What is being written: a container's contents, or the one value.
    top: Frame,
    /// What is around it.
    stack: Stack<Frame>,
    bytes: BytesAs,
    from: Charset,
    /// Whether bytes are written as if they were text.
    as_text: bool,
    /// Most lists and maps in each other.
    most: usize,
}

impl Writer {
    /// An empty writer that does with strings that are no text in `from` what `bytes` says.
    pub fn new(bytes: BytesAs, from: Charset) -> Self {
        Self {
            out: Vec::new(),
            top: Frame::default(),
            stack: Stack::default(),
            bytes,
            from,
            as_text: false,
            most: usize::MAX,
        }
    }

    /// Takes bytes for text; whoever has the whole finds out whether they are.
    pub(crate) fn trusting(self) -> Self {
        Self { as_text: true, ..self }
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
    #[inline(always)]
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        if matches!(event, Event::End) {
            self.close();
            return Ok(());
        }
        if self.top.map && self.top.items.is_multiple_of(2) {
            return self.key(event);
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

    #[inline(always)]
    fn separate(&mut self) {
        if self.top.map && !self.top.items.is_multiple_of(2) {
            self.out.push(b':');
        } else if self.top.items > 0 {
            self.out.push(b',');
        }
        self.top.items += 1;
    }

    fn close(&mut self) {
        let Some(around) = self.stack.pop() else { return };
        self.out.push(if self.top.map { b'}' } else { b']' });
        self.top = around;
    }

    #[inline(always)]
    fn key(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        match event {
            Event::Str(key) => self.text_key(key.as_bytes()),
            Event::Bytes(key) if self.as_text => self.text_key(key),
            Event::Int(key) => self.number_key(*key),
            Event::UInt(key) => self.number_key(*key),
            Event::Null if self.top.items == 0 => return Err(Refusal::Object("JSON")),
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

    #[inline(always)]
    fn text_key(&mut self, key: &[u8]) {
        self.separate();
        text::push_json_bytes(&mut self.out, key);
    }

    fn number_key(&mut self, key: impl itoa::Integer) {
        self.separate();
        self.out.push(b'"');
        number::push_int(&mut self.out, key);
        self.out.push(b'"');
    }

    #[inline(always)]
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
            Event::Bytes(value) if self.as_text => text::push_json_bytes(out, value),
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
        self.stack.push(std::mem::replace(&mut self.top, Frame { map, items: 0 }));
        Ok(())
    }
}
