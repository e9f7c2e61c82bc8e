//! msgpack as events, and back the way php-msgpack writes it.
//!
//! Integers take their smallest form, strings are always of the `str` family, and lengths are
//! checked against what is left of the input before they are believed.
//!
//! ```
//! use proto_adapters::event::{Empty, Event};
//! use proto_adapters::msgpack::{Reader, Writer};
//!
//! let mut writer = Writer::new(Empty::List);
//! for event in [Event::Array, Event::Int(-33), Event::End] {
//!     writer.push(&event).map_err(|refusal| format!("{refusal:?}"))?;
//! }
//! let packed = writer.finish();
//! assert_eq!(packed, b"\x91\xd0\xdf");
//! assert_eq!(Reader::new(&packed).pull(), Ok(Some(Event::Array)));
//! # Ok::<(), String>(())
//! ```

mod writer;

pub use writer::Writer;

use crate::event::Event;
use crate::stack::Stack;
use crate::{Charset, Fault, MAX_DEPTH, charset};

/// Pulls the events of one msgpack value.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    start: usize,
    /// Items still to come of the innermost open container, or of the whole: one value.
    left: u64,
    /// The same of each container around it, and of the whole.
    stack: Stack<u64>,
    charset: Charset,
    /// Whether strings are given as the bytes they are, text or not.
    bytewise: bool,
    /// Where text in another charset is put, once it was given back.
    spare: String,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self::in_charset(Charset::Utf8, input)
    }

    /// A reader whose strings are in this charset.
    pub fn in_charset(charset: Charset, input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            start: 0,
            left: 1,
            stack: Stack::default(),
            charset,
            bytewise: false,
            spare: String::new(),
        }
    }

    /// Gives strings as the bytes they are, text or not.
    pub(crate) fn bytewise(self) -> Self {
        Self { bytewise: true, ..self }
    }

    /// Offset of the first byte of the last event, in bytes; an `End` has none of its own.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Offset just behind the last event, in bytes.
    pub fn end(&self) -> usize {
        self.at
    }

    /// A reader at the beginning of the same input.
    pub fn rewound(&self) -> Self {
        Self::in_charset(self.charset, self.input)
    }

    /// The next event; `None` once the value is complete, whatever follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] where the input ends too early, claims more than it holds, uses the
    /// reserved marker, or nests too deep.
    #[inline(always)]
    pub fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        self.start = self.at;
        if self.left == 0 {
            let Some(left) = self.stack.pop() else { return Ok(None) };
            self.left = left;
            return Ok(Some(Event::End));
        }
        self.left -= 1;
        let event = self.token()?;
        Ok(Some(event))
    }

    /// Reads to the end of the list or map that began last, and makes nothing of what is in it.
    pub(crate) fn skip_rest(&mut self) -> Result<(), Fault> {
        let around = self.stack.len().saturating_sub(1);
        loop {
            self.skip_small();
            self.start = self.at;
            if self.left > 0 {
                self.left -= 1;
                self.skip_token()?;
                continue;
            }
            self.left = self.stack.pop().unwrap_or_default();
            if self.stack.len() <= around {
                return Ok(());
            }
        }
    }

    /// Steps over what is whole, holds nothing else, and tells its size by its first byte.
    fn skip_small(&mut self) {
        let (mut at, mut left) = (self.at, self.left);
        while left > 0 {
            let behind = match self.input.get(at) {
                Some(0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff) => at + 1,
                Some(marker @ 0xa0..=0xbf) => at + 1 + usize::from(marker & 31),
                Some(marker @ 0xcc..=0xd3) => at + 1 + (1 << (marker & 3)),
                Some(0xca) => at + 5,
                Some(0xcb) => at + 9,
                _ => break,
            };
            if behind > self.input.len() {
                break;
            }
            (at, left) = (behind, left - 1);
        }
        (self.at, self.left) = (at, left);
    }

    fn skip_token(&mut self) -> Result<(), Fault> {
        let [marker] = self.be()?;
        let len = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => return Ok(()),
            0xc1 => return Err(Fault::malformed(self.start, "the reserved marker c1")),
            0x80..=0x8f => return self.open(u64::from(marker & 15), true).map(drop),
            0x90..=0x9f => return self.open(u64::from(marker & 15), false).map(drop),
            0xdc..=0xdd => {
                let len = self.uint(marker - 0xdc + 1)?;
                return self.open(len, false).map(drop);
            }
            0xde..=0xdf => {
                let len = self.uint(marker - 0xde + 1)?;
                return self.open(len, true).map(drop);
            }
            0xa0..=0xbf => u64::from(marker & 31),
            0xca => 4,
            0xcb => 8,
            0xcc..=0xcf => 1 << (marker - 0xcc),
            0xd0..=0xd3 => 1 << (marker - 0xd0),
            0xd4..=0xd8 => 1 + (1 << (marker - 0xd4)),
            0xc4..=0xc6 => self.uint(marker - 0xc4)?,
            0xc7..=0xc9 => 1 + self.uint(marker - 0xc7)?,
            0xd9..=0xdb => self.uint(marker - 0xd9)?,
        };
        self.take(len).map(drop)
    }

    /// Takes an event back that is no longer needed, so that its memory serves again.
    #[inline]
    pub fn reuse(&mut self, event: Event<'a>) {
        charset::reuse(event, &mut self.spare);
    }

    /// Checks that the value is complete and nothing follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] at the first byte behind the value.
    pub fn finish(self) -> Result<(), Fault> {
        if self.left > 0 || self.stack.len() > 0 {
            return Err(Fault::malformed(self.at, "the input ends inside the value"));
        }
        match self.input.get(self.at) {
            Some(_) => Err(Fault::malformed(self.at, "bytes behind the value")),
            None => Ok(()),
        }
    }

    // else each event is copied once more
    #[inline(always)]
    fn token(&mut self) -> Result<Event<'a>, Fault> {
        let [marker] = self.be()?;
        Ok(match marker {
            0x00..=0x7f => Event::Int(i64::from(marker)),
            0x80..=0x8f => self.open(u64::from(marker & 15), true)?,
            0x90..=0x9f => self.open(u64::from(marker & 15), false)?,
            0xa0..=0xbf => self.string(u64::from(marker & 31))?,
            0xe0..=0xff => Event::Int(i64::from(marker.cast_signed())),
            0xc0 => Event::Null,
            0xc1 => return Err(Fault::malformed(self.start, "the reserved marker c1")),
            0xc2 => Event::Bool(false),
            0xc3 => Event::Bool(true),
            0xca => Event::Float(f64::from(f32::from_be_bytes(self.be()?))),
            0xcb => Event::Float(f64::from_be_bytes(self.be()?)),
            0xcc..=0xcf => unsigned(self.uint(marker - 0xcc)?),
            0xd0 => Event::Int(i64::from(i8::from_be_bytes(self.be()?))),
            0xd1 => Event::Int(i64::from(i16::from_be_bytes(self.be()?))),
            0xd2 => Event::Int(i64::from(i32::from_be_bytes(self.be()?))),
            0xd3 => Event::Int(i64::from_be_bytes(self.be()?)),
            0xd4..=0xd8 => self.ext(1 << (marker - 0xd4))?,
            0xc4..=0xc6 | 0xc7..=0xc9 | 0xd9..=0xdf => self.sized(marker)?,
        })
    }

    /// What begins with a length, of one byte or more.
    fn sized(&mut self, marker: u8) -> Result<Event<'a>, Fault> {
        let width = match marker {
            0xc4..=0xc6 => marker - 0xc4,
            0xc7..=0xc9 => marker - 0xc7,
            0xdc..=0xdd => marker - 0xdc + 1,
            0xde..=0xdf => marker - 0xde + 1,
            _ => marker - 0xd9,
        };
        let len = self.uint(width)?;
        match marker {
            0xc7..=0xc9 => self.ext(len),
            0xdc..=0xdd => self.open(len, false),
            0xde..=0xdf => self.open(len, true),
            _ => self.string(len),
        }
    }

    /// An unsigned integer of `1 << width` bytes.
    fn uint(&mut self, width: u8) -> Result<u64, Fault> {
        match width {
            0 => self.be().map(|bytes| u64::from(u8::from_be_bytes(bytes))),
            1 => self.be().map(|bytes| u64::from(u16::from_be_bytes(bytes))),
            2 => self.be().map(|bytes| u64::from(u32::from_be_bytes(bytes))),
            _ => self.be().map(u64::from_be_bytes),
        }
    }

    fn be<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let bytes = rest.first_chunk().ok_or_else(|| self.short(N as u64))?;
        self.at += N;
        Ok(*bytes)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = rest.get(..size).ok_or_else(|| self.short(len))?;
        self.at += size;
        Ok(bytes)
    }

    #[cold]
    fn short(&self, wanted: u64) -> Fault {
        let left = self.input.len().saturating_sub(self.at);
        Fault::malformed(self.at, format!("{wanted} bytes wanted, {left} left"))
    }

    #[inline(always)]
    fn string(&mut self, len: u64) -> Result<Event<'a>, Fault> {
        let bytes = self.take(len)?;
        Ok(if self.bytewise { Event::Bytes(bytes) } else { self.charset.event(bytes, &mut self.spare) })
    }

    fn ext(&mut self, len: u64) -> Result<Event<'a>, Fault> {
        let [kind] = self.be()?;
        Ok(Event::Ext(kind.cast_signed(), self.take(len)?))
    }

    fn open(&mut self, len: u64, map: bool) -> Result<Event<'a>, Fault> {
        let items = if map { len * 2 } else { len };
        let left = self.input.len().saturating_sub(self.at) as u64;
        if items > left {
            let what = if map { "map" } else { "list" };
            let reason = format!("a {what} of {len} entries, cut short after {left} bytes");
            return Err(Fault::malformed(self.start, reason));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(Fault::malformed(self.start, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.stack.push(std::mem::replace(&mut self.left, items));
        Ok(if map { Event::Map } else { Event::Array })
    }
}

fn unsigned(value: u64) -> Event<'static> {
    match i64::try_from(value) {
        Ok(value) => Event::Int(value),
        Err(_) => Event::UInt(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the value ends, or the first byte that is wrong.
    fn ends(input: &[u8], skip: bool) -> Result<usize, usize> {
        let mut reader = Reader::new(input);
        let mut read = || -> Result<(), Fault> {
            let mut depth = 0;
            while let Some(event) = reader.pull()? {
                depth += usize::from(event.opens());
                if skip && event.opens() {
                    return reader.skip_rest();
                }
                depth -= usize::from(event == Event::End);
                if depth == 0 {
                    break;
                }
            }
            Ok(())
        };
        match read() {
            Ok(()) => Ok(reader.end()),
            Err(Fault::Malformed { at, .. }) => Err(at),
            Err(fault) => unreachable!("{fault}"),
        }
    }

    #[test]
    fn what_is_skipped_ends_where_it_would_if_it_were_read() {
        let mut rng = fastrand::Rng::with_seed(7);
        let markers: Vec<u8> = (0x80..=0xdf).filter(|marker| *marker != 0xc1).collect();
        let (mut whole, mut broken) = (0, 0);
        for _ in 0..200_000 {
            let mut input = vec![rng.choice([0x82, 0x93, 0xdc]).unwrap_or_default(), 0, 2];
            for _ in 0..rng.usize(..40) {
                // small numbers often: lengths that fit
                let marker = rng.choice(&markers).copied().filter(|_| rng.bool());
                input.push(marker.unwrap_or_else(|| rng.u8(..4)));
            }
            let end = ends(&input, true);
            assert_eq!(end.is_ok(), ends(&input, false).is_ok(), "{input:x?}");
            match end {
                Ok(end) => {
                    whole += 1;
                    assert_eq!(Ok(end), ends(&input, false), "{input:x?}");
                }
                Err(_) => broken += 1,
            }
        }
        assert!(whole > 10_000 && broken > 10_000, "{whole} {broken}");
    }
}
