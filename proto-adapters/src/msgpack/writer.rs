//! msgpack out of events, the way php-msgpack writes it.

use crate::buffer::Buffer;
use crate::event::{Empty, Event, Refusal};
use crate::gaps::{self, Gap};
use crate::stack::Stack;

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    at: usize,
    /// First byte of its head, without a count; 0 of the whole. With a `bool` it would be copied in parts.
    mark: u8,
    /// Keys and values alike.
    items: usize,
}

/// What short maps and lists begin with, beside their count.
const MAP: u8 = 0x80;
const LIST: u8 = 0x90;

impl Frame {
    fn entries(&self) -> usize {
        if self.mark == MAP { self.items / 2 } else { self.items }
    }
}

/// Builds msgpack out of events.
///
/// Containers begin with one byte; those that turn out to have 16 entries or more get their
/// longer heads in a single pass at the end, so no nesting makes copying quadratic.
#[derive(Debug)]
pub struct Writer {
    out: Buffer,
    /// What is being written: a container's contents, or the one value.
    top: Frame,
    /// What is around it.
    stack: Stack<Frame>,
    /// Heads that need more than their one byte, with their places.
    long: Vec<Gap>,
    empty: Empty,
}

impl Writer {
    /// An empty writer that does with empty maps what `empty` says.
    pub fn new(empty: Empty) -> Self {
        Self {
            out: Buffer::default(),
            top: Frame::default(),
            stack: Stack::default(),
            long: Vec::new(),
            empty,
        }
    }

    /// What was written so far; lengths in it may not be final.
    pub(crate) fn out(&mut self) -> &mut Buffer {
        &mut self.out
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// A [`Refusal`] for integers beyond PHP's signed 64 bits (it would read a string of digits),
    /// for numbers beyond floats, for PHP objects and what else only PHP makes, for extensions,
    /// and for strings of 4 GiB.
    #[inline(always)]
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        if matches!(event, Event::End) {
            self.close();
            return Ok(());
        }
        let first_key = self.top.mark == MAP && self.top.items == 0;
        self.top.items += 1;
        match event {
            Event::Null if first_key => return Err(Refusal::Object("msgpack")),
            Event::Null => self.out.push(0xc0),
            Event::Bool(value) => self.out.push(if *value { 0xc3 } else { 0xc2 }),
            Event::Int(value) => push_int(&mut self.out, *value),
            Event::UInt(value) => return Err(Refusal::unsigned(*value)),
            Event::Float(value) => {
                let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
                self.out.put([0xcb, a, b, c, d, e, f, g, h]);
            }
            Event::Str(value) => push_str(&mut self.out, value.as_bytes())?,
            Event::Bytes(value) => push_str(&mut self.out, value)?,
            Event::Beyond(number) => return Err(Refusal::beyond(number)),
            Event::Ext(..) => return Err(Refusal::because("an extension cannot become msgpack for PHP")),
            Event::Php(_) => {
                return Err(Refusal::because(format!("{} cannot become msgpack", event.kind())));
            }
            Event::Array => self.open(LIST),
            Event::Map => self.open(MAP),
            Event::End => {}
        }
        Ok(())
    }

    /// Appends a value that is msgpack already.
    pub fn raw(&mut self, value: &[u8]) {
        self.top.items += 1;
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

    fn open(&mut self, mark: u8) {
        let around = std::mem::replace(&mut self.top, Frame { at: self.out.len(), mark, items: 0 });
        self.stack.push(around);
        self.out.push(0);
    }

    #[inline(always)]
    fn close(&mut self) {
        let Some(around) = self.stack.pop() else { return };
        let frame = std::mem::replace(&mut self.top, around);
        let entries = frame.entries();
        if entries >= 16 {
            return self.leave_gap(&frame);
        }
        let is_list = entries == 0 && self.empty == Empty::List;
        if let Some(place) = self.out.get_mut(frame.at) {
            *place = if is_list { LIST } else { frame.mark | entries as u8 };
        }
    }

    #[inline(never)]
    fn leave_gap(&mut self, frame: &Frame) {
        self.long.push(gap(frame));
    }
}

/// The head of a container of 16 entries or more, with its place.
fn gap(frame: &Frame) -> Gap {
    let entries = frame.entries();
    let base = if frame.mark == MAP { 0xde } else { 0xdc };
    if let Ok(entries) = u16::try_from(entries) {
        let [high, low] = entries.to_be_bytes();
        return Gap::new(frame.at, &[base, high, low]);
    }
    let [a, b, c, d] = u32::try_from(entries).unwrap_or(u32::MAX).to_be_bytes();
    Gap::new(frame.at, &[base + 1, a, b, c, d])
}

fn push_int(out: &mut Buffer, value: i64) {
    if let Ok(value) = u64::try_from(value) {
        push_uint(out, value);
    } else if value >= -32 {
        out.push((value as i8).cast_unsigned());
    } else if let Ok(value) = i8::try_from(value) {
        out.push(0xd0);
        out.put(value.to_be_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xd1);
        out.put(value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(0xd2);
        out.put(value.to_be_bytes());
    } else {
        out.push(0xd3);
        out.put(value.to_be_bytes());
    }
}

fn push_uint(out: &mut Buffer, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.put([0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.put((value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.put((value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.put(value.to_be_bytes());
        }
    }
}

#[inline(always)]
fn push_str(out: &mut Buffer, bytes: &[u8]) -> Result<(), Refusal> {
    let len = bytes.len();
    if len < 32 {
        out.put_between([0xa0 | len as u8], bytes, []);
        return Ok(());
    }
    push_long_str(out, bytes)
}

fn push_long_str(out: &mut Buffer, bytes: &[u8]) -> Result<(), Refusal> {
    let len = bytes.len();
    let long = u32::try_from(len)
        .map_err(|_| Refusal::Because(format!("a string of {len} bytes is too long for msgpack")))?;
    let [_, _, high, low] = long.to_be_bytes();
    match len {
        0..=0xff => out.put([0xd9, low]),
        0x100..=0xffff => out.put([0xda, high, low]),
        _ => {
            out.push(0xdb);
            out.put(long.to_be_bytes());
        }
    }
    out.append(bytes);
    Ok(())
}
