//! PHP's `serialize` format out of events.

use crate::buffer::Buffer;
use crate::event::{Event, Refusal};
use crate::gaps::{self, Gap};
use crate::number;
use crate::stack::Stack;

/// What is said of everything that only PHP could make again.
const PLAIN: &str = "serialized PHP, where only plain values are made";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// The one value.
    #[default]
    Whole,
    List,
    Map,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    kind: Kind,
    /// Where its count stands: one digit until the end.
    at: usize,
    /// Keys and values alike.
    items: usize,
}

/// Builds serialized values out of events, with the bytes PHP would write.
///
/// A map's key that PHP would take for an integer is written as one. PHP has one empty array, so
/// an empty map and an empty list are the same.
#[derive(Debug, Default)]
pub struct Writer {
    out: Buffer,
    /// What is being written.
    top: Frame,
    /// What is around it.
    stack: Stack<Frame>,
    /// Counts of more than one digit.
    long: Vec<Gap>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written so far; lengths in it may not be final.
    pub(crate) fn out(&mut self) -> &mut Buffer {
        &mut self.out
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// A [`Refusal`] for PHP objects and what else is more than a plain value, for integers
    /// beyond signed 64 bits, for numbers beyond floats, for extensions, and for keys that are
    /// neither strings nor integers.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        if matches!(event, Event::End) {
            self.close();
            return Ok(());
        }
        if self.top.kind == Kind::Map && self.top.items.is_multiple_of(2) {
            self.top.items += 1;
            return self.key(event);
        }
        self.place();
        self.value(event)
    }

    /// Appends a value that is serialized already.
    pub fn raw(&mut self, value: &[u8]) {
        self.place();
        self.out.append(value);
    }

    /// Bytes written so far, about: lengths may still take more.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// The bytes.
    pub fn finish(mut self) -> Vec<u8> {
        gaps::widen(self.out.into_vec(), &mut self.long)
    }

    /// Counts a value, and writes the key of a list's item.
    fn place(&mut self) {
        if self.top.kind == Kind::List {
            push_int(&mut self.out, self.top.items);
        }
        self.top.items += 1;
    }

    fn key(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        match event {
            Event::Int(key) => push_int(&mut self.out, *key),
            Event::Str(key) => self.text_key(key.as_bytes()),
            Event::Bytes(key) => self.text_key(key),
            Event::Null if self.top.items == 1 => return Err(Refusal::Object(PLAIN)),
            Event::Null
            | Event::Bool(_)
            | Event::UInt(_)
            | Event::Float(_)
            | Event::Beyond(_)
            | Event::Ext(..)
            | Event::Php(_)
            | Event::Array
            | Event::Map
            | Event::End => {
                return Err(Refusal::because(format!("{} as a key cannot become PHP", event.kind())));
            }
        }
        Ok(())
    }

    fn text_key(&mut self, key: &[u8]) {
        match super::integer_key(key) {
            Some(key) => push_int(&mut self.out, key),
            None => push_str(&mut self.out, key),
        }
    }

    fn value(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        let out = &mut self.out;
        match event {
            Event::Null => out.put(*b"N;"),
            Event::Bool(value) => out.put(if *value { *b"b:1;" } else { *b"b:0;" }),
            Event::Int(value) => push_int(out, *value),
            Event::Float(value) => push_float(out, *value),
            Event::Str(value) => push_str(out, value.as_bytes()),
            Event::Bytes(value) => push_str(out, value),
            Event::UInt(value) => return Err(Refusal::unsigned(*value)),
            Event::Beyond(number) => return Err(Refusal::beyond(number)),
            Event::Php(_) => return Err(Refusal::because(format!("{} cannot become {PLAIN}", event.kind()))),
            Event::Ext(..) | Event::End => {
                return Err(Refusal::because(format!("{} cannot become PHP", event.kind())));
            }
            Event::Array => self.open(Kind::List),
            Event::Map => self.open(Kind::Map),
        }
        Ok(())
    }

    fn open(&mut self, kind: Kind) {
        self.out.put(*b"a:");
        let begun = Frame { kind, at: self.out.len(), items: 0 };
        self.stack.push(std::mem::replace(&mut self.top, begun));
        self.out.put(*b"0:{");
    }

    fn close(&mut self) {
        self.out.push(b'}');
        let Some(around) = self.stack.pop() else { return };
        let frame = std::mem::replace(&mut self.top, around);
        let entries = if frame.kind == Kind::Map { frame.items / 2 } else { frame.items };
        if entries > 9 {
            self.long.push(Gap::new(frame.at, itoa::Buffer::new().format(entries).as_bytes()));
        } else if let Some(place) = self.out.get_mut(frame.at) {
            *place = b'0' + entries as u8;
        }
    }
}

fn push_int(out: &mut Buffer, value: impl itoa::Integer) {
    out.put(*b"i:");
    number::push_int(out, value);
    out.push(b';');
}

fn push_str(out: &mut Buffer, bytes: &[u8]) {
    out.put(*b"s:");
    number::push_int(out, bytes.len());
    out.put(*b":\"");
    out.append(bytes);
    out.put(*b"\";");
}

fn push_float(out: &mut Buffer, value: f64) {
    out.put(*b"d:");
    number::push_php_number(out, value);
    out.push(b';');
}
