//! JSON text out of events.

use crate::buffer::Buffer;
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
    out: Buffer,
    /// What is being written: a container's contents, or the one value.
    top: Frame,
    /// What is around it.
    stack: Stack<Frame>,
    bytes: BytesAs,
    from: Charset,
    /// Whether bytes are written as if they were text.
    as_text: bool,
    /// Most lists and maps in each other,
    most: usize,
    /// and how many of them are around what is written here.
    around: usize,
}

impl Writer {
    /// An empty writer that does with strings that are no text in `from` what `bytes` says.
    pub fn new(bytes: BytesAs, from: Charset) -> Self {
        Self {
            out: Buffer::default(),
            top: Frame::default(),
            stack: Stack::default(),
            bytes,
            from,
            as_text: false,
            most: usize::MAX,
            around: 0,
        }
    }

    /// Takes bytes for text; whoever has the whole finds out whether they are.
    pub(crate) fn trusting(self) -> Self {
        Self { as_text: true, ..self }
    }

    /// Refuses more than so many lists and maps in each other, of which `around` are not written here.
    pub(crate) fn at_most(self, most: usize, around: usize) -> Self {
        Self { most, around, ..self }
    }

    /// Whether one more list or map has its place, `depth` levels below the innermost one.
    pub(crate) fn check_depth(&self, depth: usize) -> Result<(), Refusal> {
        let Self { most, around, .. } = self;
        if around + self.stack.len() + depth < *most {
            return Ok(());
        }
        Err(Refusal::Because(format!(
            "nested deeper than {most}, the message's map included: PHP reads no such JSON"
        )))
    }

    /// What was written so far; lengths in it may not be final.
    pub(crate) fn out(&mut self) -> &mut Buffer {
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
        self.out.append(value);
    }

    /// Bytes written so far, about: lengths may still take more.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// The text.
    pub fn finish(self) -> Vec<u8> {
        self.out.into_vec()
    }

    /// Counts a value, and writes the comma before it; behind its key there is a colon.
    #[inline(always)]
    fn separate(&mut self) {
        if self.top.items > 0 && !self.top.map {
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
            Event::Int(key) => self.plain_key(itoa::Buffer::new().format(*key).as_bytes()),
            Event::UInt(key) => self.plain_key(itoa::Buffer::new().format(*key).as_bytes()),
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
        if text::plain(key) == key.len() {
            return self.plain_key(key);
        }
        self.top.items += 1;
        if self.top.items > 1 {
            self.out.push(b',');
        }
        text::push_json_string(&mut self.out, key);
        self.out.push(b':');
    }

    /// Writes a key that needs no escapes.
    #[inline(always)]
    fn plain_key(&mut self, key: &[u8]) {
        self.top.items += 1;
        if self.top.items > 1 {
            self.out.put_between(*b",\"", key, *b"\":");
        } else {
            self.out.put_between(*b"\"", key, *b"\":");
        }
    }

    #[inline(always)]
    fn value(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        let out = &mut self.out;
        match event {
            Event::Null => out.put(*b"null"),
            Event::Bool(true) => out.put(*b"true"),
            Event::Bool(false) => out.put(*b"false"),
            Event::Int(value) => number::push_int(out, *value),
            Event::UInt(value) => number::push_int(out, *value),
            Event::Float(value) if value.is_finite() => number::push_json_float(out, *value),
            Event::Float(value) => {
                return Err(Refusal::because(format!("the float {value} cannot become JSON")));
            }
            Event::Beyond(text) => out.append(text.as_bytes()),
            Event::Str(value) => text::push_json_string(out, value.as_bytes()),
            Event::Bytes(value) if self.as_text => text::push_json_string(out, value),
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
