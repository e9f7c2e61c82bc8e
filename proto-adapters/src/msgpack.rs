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

use crate::event::{Event, Sink, Source, Stop};
use crate::stack::Stack;
use crate::{Charset, Fault, MAX_DEPTH};

/// Pulls the events of one msgpack value.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    /// What of it is not read yet.
    rest: &'a [u8],
    start: usize,
    /// Items still to come of the innermost open container, or of the whole: one value.
    left: u64,
    /// The same of each container around it, and of the whole.
    stack: Stack<u64>,
    charset: Charset,
    /// Whether strings are given as the bytes they are, text or not.
    bytewise: bool,
    /// Where text in another charset is put.
    spare: String,
    /// Most lists and maps in each other.
    most: usize,
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
            rest: input,
            start: 0,
            left: 1,
            stack: Stack::default(),
            charset,
            bytewise: false,
            spare: String::new(),
            most: MAX_DEPTH,
        }
    }

    /// Gives strings as the bytes they are, text or not.
    pub(crate) fn bytewise(self) -> Self {
        Self { bytewise: true, ..self }
    }

    /// Refuses more than so many lists and maps in each other.
    pub(crate) fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Offset of the first byte of the last event, in bytes; an `End` has none of its own.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Offset just behind the last event, in bytes.
    pub fn end(&self) -> usize {
        self.input.len() - self.rest.len()
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
    pub fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        self.next_event()
    }

    /// The input from the last event on.
    pub(crate) fn since_start(&self) -> &'a [u8] {
        self.input.get(self.start..).unwrap_or_default()
    }

    /// Goes on behind a value of `len` bytes that `first`, the last event, began and somebody else has read.
    pub(crate) fn pass(&mut self, first: &Event<'a>, len: usize) {
        if first.opens() {
            self.left = self.stack.pop().unwrap_or_default();
        }
        self.rest = self.since_start().get(len..).unwrap_or_default();
    }

    /// Reads to the end of the list or map that began last, and makes nothing of what is in it.
    pub(crate) fn skip_rest(&mut self) -> Result<(), Fault> {
        let around = self.stack.len().saturating_sub(1);
        loop {
            self.skip_small();
            self.start = self.end();
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
    #[inline(always)]
    fn skip_small(&mut self) {
        let (mut rest, mut left) = (self.rest, self.left);
        while left > 0
            && let [marker, ..] = rest
        {
            let size = match marker {
                0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 1,
                0xa0..=0xbf => 1 + usize::from(marker & 31),
                0xcc..=0xd3 => 1 + (1 << (marker & 3)),
                0xca => 5,
                0xcb => 9,
                _ => break,
            };
            let Some(behind) = rest.get(size..) else { break };
            (rest, left) = (behind, left - 1);
        }
        (self.rest, self.left) = (rest, left);
    }

    #[inline(always)]
    fn skip_token(&mut self) -> Result<(), Fault> {
        let [marker] = self.be()?;
        let len = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => return Ok(()),
            0xc1 => return Err(Fault::malformed(self.start, "the reserved marker c1")),
            0x80..=0x8f => return self.enter(u64::from(marker & 15), true),
            0x90..=0x9f => return self.enter(u64::from(marker & 15), false),
            0xdc..=0xdd => {
                let len = self.uint(marker - 0xdc + 1)?;
                return self.enter(len, false);
            }
            0xde..=0xdf => {
                let len = self.uint(marker - 0xde + 1)?;
                return self.enter(len, true);
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

    /// Checks that the value is complete and nothing follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] at the first byte behind the value.
    pub fn finish(self) -> Result<(), Fault> {
        let broken = match self.rest {
            _ if self.left > 0 || self.stack.len() > 0 => "the input ends inside the value",
            [] => return Ok(()),
            _ => "bytes behind the value",
        };
        Err(Fault::malformed(self.end(), broken))
    }

    #[inline(always)]
    fn token<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        let [marker] = self.be()?;
        match marker {
            0x00..=0x7f => sink.take(Event::Int(i64::from(marker))),
            0xe0..=0xff => sink.take(Event::Int(i64::from(marker.cast_signed()))),
            0xa0..=0xbf => return self.string(u64::from(marker & 31), sink),
            0xd9..=0xdb => {
                let len = self.uint(marker - 0xd9)?;
                return self.string(len, sink);
            }
            0x80..=0x8f => return self.open(u64::from(marker & 15), true, sink),
            0x90..=0x9f => return self.open(u64::from(marker & 15), false, sink),
            0xc0 => sink.take(Event::Null),
            0xc2 | 0xc3 => sink.take(Event::Bool(marker == 0xc3)),
            0xca => sink.take(Event::Float(f64::from(f32::from_be_bytes(self.be()?)))),
            0xcb => sink.take(Event::Float(f64::from_be_bytes(self.be()?))),
            0xcc..=0xce => sink.take(Event::Int(self.uint(marker - 0xcc)?.cast_signed())),
            _ => return self.rare(marker, sink),
        }
        .map_err(Stop::Refused)
    }

    /// What stands seldom in a message.
    fn rare<S: Sink<'a>>(&mut self, marker: u8, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        let event = match marker {
            0xc1 => return Err(Fault::malformed(self.start, "the reserved marker c1").into()),
            0xcf => unsigned(self.uint(3)?),
            0xd0 => Event::Int(i64::from(i8::from_be_bytes(self.be()?))),
            0xd1 => Event::Int(i64::from(i16::from_be_bytes(self.be()?))),
            0xd2 => Event::Int(i64::from(i32::from_be_bytes(self.be()?))),
            0xd3 => Event::Int(i64::from_be_bytes(self.be()?)),
            0xd4..=0xd8 => self.ext(1 << (marker - 0xd4))?,
            0xc7..=0xc9 => {
                let len = self.uint(marker - 0xc7)?;
                self.ext(len)?
            }
            0xc4..=0xc6 => {
                let len = self.uint(marker - 0xc4)?;
                return self.string(len, sink);
            }
            0xdc..=0xdd => {
                let len = self.uint(marker - 0xdc + 1)?;
                return self.open(len, false, sink);
            }
            _ => {
                let len = self.uint(marker - 0xde + 1)?;
                return self.open(len, true, sink);
            }
        };
        sink.take(event).map_err(Stop::Refused)
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

    #[inline(always)]
    fn be<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else { return Err(self.short(N as u64)) };
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline(always)]
    fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        let Some((bytes, rest)) = self.rest.split_at_checked(size) else { return Err(self.short(len)) };
        self.rest = rest;
        Ok(bytes)
    }

    #[cold]
    fn short(&self, wanted: u64) -> Fault {
        Fault::malformed(self.end(), format!("{wanted} bytes wanted, {} left", self.rest.len()))
    }

    #[inline(always)]
    fn string<S: Sink<'a>>(&mut self, len: u64, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        let bytes = self.take(len)?;
        if self.bytewise {
            return sink.take(Event::Bytes(bytes)).map_err(Stop::Refused);
        }
        self.charset.give(bytes, &mut self.spare, sink).map_err(Stop::Refused)
    }

    fn ext(&mut self, len: u64) -> Result<Event<'a>, Fault> {
        let [kind] = self.be()?;
        Ok(Event::Ext(kind.cast_signed(), self.take(len)?))
    }

    #[inline(always)]
    fn open<S: Sink<'a>>(&mut self, len: u64, map: bool, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        self.enter(len, map)?;
        sink.take(if map { Event::Map } else { Event::Array }).map_err(Stop::Refused)
    }

    #[inline(always)]
    fn enter(&mut self, len: u64, map: bool) -> Result<(), Fault> {
        let items = if map { len * 2 } else { len };
        if items > self.rest.len() as u64 || self.stack.len() >= self.most {
            return Err(self.unfit(len, map, items));
        }
        self.stack.push(std::mem::replace(&mut self.left, items));
        Ok(())
    }

    #[cold]
    fn unfit(&self, len: u64, map: bool, items: u64) -> Fault {
        let left = self.rest.len();
        if items <= left as u64 {
            return Fault::malformed(self.start, format!("nested deeper than {}", self.most));
        }
        let what = if map { "map" } else { "list" };
        Fault::malformed(self.start, format!("a {what} of {len} entries, cut short after {left} bytes"))
    }
}

impl<'a> Source<'a> for Reader<'a> {
    #[inline(always)]
    fn step<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<bool, Stop<S::Refusal>> {
        self.start = self.end();
        if self.left == 0 {
            let Some(left) = self.stack.pop() else { return Ok(false) };
            self.left = left;
            sink.take(Event::End).map_err(Stop::Refused)?;
            return Ok(true);
        }
        self.left -= 1;
        self.token(sink)?;
        Ok(true)
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
