//! The events that readers yield and writers take.
//!
//! A value is one scalar event, or `Array`/`Map`, its contents, and `End`. A map's contents
//! are key, value, key, value; a key is an event like any other.
//!
//! ```
//! use proto_adapters::event::Event;
//! use proto_adapters::json::Reader;
//!
//! let mut reader = Reader::new(br#"{"a":[1]}"#);
//! let mut seen = Vec::new();
//! while let Some(event) = reader.pull()? {
//!     seen.push(event);
//! }
//! assert_eq!(seen, [
//!     Event::Map, Event::Str("a".into()), Event::Array, Event::Int(1), Event::End, Event::End,
//! ]);
//! # Ok::<(), proto_adapters::Fault>(())
//! ```

use std::borrow::Cow;
use std::convert::Infallible;

use crate::{Charset, Fault, text};

/// One step through a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// Null or nil. As the first key of a map it says that the map is a PHP object, whose class is
    /// the value of this key.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer within 64 bits, signed.
    Int(i64),
    /// An integer above `i64::MAX`.
    UInt(u64),
    /// A float; msgpack and PHP may carry NaN and infinities, JSON cannot.
    Float(f64),
    /// A JSON number outside 64-bit integers, beyond the largest float, or nearer to 0 than any float, as
    /// written.
    Beyond(&'a str),
    /// Text, in whichever charset and family of msgpack it came.
    Str(Cow<'a, str>),
    /// A string that is no text in the charset it is read in.
    Bytes(&'a [u8]),
    /// A msgpack extension: its type and its bytes.
    Ext(i8, &'a [u8]),
    /// What only PHP's own format says.
    Php(Php<'a>),
    /// A list begins.
    Array,
    /// A map begins.
    Map,
    /// The innermost list or map ends.
    End,
}

/// Values that have a form in PHP's own format alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Php<'a> {
    /// A case of an enum, like `Suit:Hearts`.
    Enum(&'a [u8]),
    /// The same object, or the same variable, as the value of this number.
    Reference(u64),
    /// An object that packed itself: its class and its bytes.
    Custom(&'a [u8], &'a [u8]),
    /// A string with escapes, `\41` for `A`, as it is written; PHP reads it, and writes none.
    Escaped(&'a [u8]),
}

impl Event<'_> {
    /// Whether the event begins a list or a map.
    pub fn opens(&self) -> bool {
        matches!(self, Self::Array | Self::Map)
    }

    /// The kind of value, for messages: `a number`, `a list`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::UInt(_) | Self::Float(_) | Self::Beyond(_) => "a number",
            Self::Str(_) => "a string",
            Self::Bytes(_) => "a string that is not UTF-8",
            Self::Ext(..) => "a msgpack extension",
            Self::Php(Php::Enum(_)) => "a PHP enum",
            Self::Php(Php::Reference(_)) => "a PHP reference to an earlier value",
            Self::Php(Php::Escaped(_)) => "a PHP string with escapes",
            Self::Php(Php::Custom(..)) => "a PHP object that packed itself",
            Self::Array => "a list",
            Self::Map => "a map",
            Self::End => "an end",
        }
    }
}

/// Takes events where a reader finds them: one that is first given back costs more than to read it.
pub(crate) trait Sink<'a> {
    /// Why an event is not taken.
    type Refusal;

    /// Whether a step may hand over more than one event.
    const TAKES_MORE: bool;

    fn take(&mut self, event: Event<'a>) -> Result<(), Self::Refusal>;

    /// Takes text that is not in the input as it stands, or a copy; what memory is left serves again.
    fn take_text(&mut self, text: &mut String) -> Result<(), Self::Refusal>;
}

/// Where events come from.
pub(crate) trait Source<'a> {
    /// Hands the next event to `sink`, or some more, if it takes them, of which only the last may be an `End`; `false`
    /// once the value is complete.
    fn step<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<bool, Stop<S::Refusal>>;

    /// The next event, for one is what an `Option` takes at a step; `None` once the value is complete.
    #[inline(always)]
    fn next_event(&mut self) -> Result<Option<Event<'a>>, Fault> {
        let mut found = None;
        match self.step(&mut found) {
            Ok(_) => Ok(found),
            Err(Stop::Broken(fault)) => Err(fault),
            Err(Stop::Refused(never)) => match never {},
        }
    }
}

/// Reads to the end of the list or map that began last, and makes nothing of what is in it.
pub(crate) fn skip_rest<'a>(source: &mut impl Source<'a>) -> Result<(), Fault> {
    let mut depth = Depth(1);
    while depth.0 > 0 {
        match source.step(&mut depth) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Stop::Broken(fault)) => return Err(fault),
            Err(Stop::Refused(never)) => match never {},
        }
    }
    Ok(())
}

/// Counts the lists and maps that are open.
struct Depth(usize);

impl Sink<'_> for Depth {
    type Refusal = Infallible;

    const TAKES_MORE: bool = true;

    #[inline(always)]
    fn take(&mut self, event: Event<'_>) -> Result<(), Infallible> {
        self.0 = if matches!(event, Event::End) {
            self.0.saturating_sub(1)
        } else {
            self.0 + usize::from(event.opens())
        };
        Ok(())
    }

    #[inline(always)]
    fn take_text(&mut self, _: &mut String) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Why the events stopped before their end.
pub(crate) enum Stop<R> {
    /// The reader met a fault.
    Broken(Fault),
    /// The sink refused the last event.
    Refused(R),
}

impl<R> From<Fault> for Stop<R> {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault)
    }
}

impl<'a> Sink<'a> for Option<Event<'a>> {
    type Refusal = Infallible;

    const TAKES_MORE: bool = false;

    #[inline(always)]
    fn take(&mut self, event: Event<'a>) -> Result<(), Infallible> {
        *self = Some(event);
        Ok(())
    }

    fn take_text(&mut self, text: &mut String) -> Result<(), Infallible> {
        *self = Some(Event::Str(Cow::Owned(std::mem::take(text))));
        Ok(())
    }
}

/// How values are adapted where the two sides differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// What an empty JSON object becomes in msgpack; PHP's own format has one empty array.
    pub empty: Empty,
    /// What a string that is no text becomes in JSON.
    pub bytes: BytesAs,
    /// The charset of strings that are read.
    pub from: Charset,
    /// The charset of strings that are written.
    pub to: Charset,
    /// Whether the value becomes part of a Yar message, in whose map it stands one level deeper.
    pub in_message: bool,
    /// Most bytes that are written, about; where they would be more it is [`Fault::TooLong`](crate::Fault).
    pub room: Option<usize>,
}

/// What an empty JSON object becomes in msgpack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Empty {
    /// An empty list: PHP reads an empty array.
    #[default]
    List,
    /// An empty map: PHP reads a `stdClass` object.
    Map,
}

/// What a string that is no text becomes in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BytesAs {
    /// Nothing: the value is refused.
    #[default]
    Fail,
    /// Its base64 text, with padding. A key is refused all the same.
    Base64,
}

/// Most bytes that are written, about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Where they end.
    end: usize,
    /// How many they are.
    room: usize,
}

impl Bound {
    pub(crate) const NONE: Self = Self { end: usize::MAX, room: usize::MAX };

    /// So many more than are written by now.
    pub(crate) fn behind(written: usize, room: usize) -> Self {
        Self { end: written.saturating_add(room), room }
    }

    /// Refuses where so many bytes are too many.
    #[inline(always)]
    pub(crate) fn check(self, written: usize) -> Result<(), Refusal> {
        if written > self.end { Err(Refusal::Full(self.room)) } else { Ok(()) }
    }
}

/// Why a writer did not take an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The map just begun is a PHP object, which cannot become this.
    Object(&'static str),
    /// The value has no form, for this reason.
    Because(String),
    /// More than so many bytes would be written.
    Full(usize),
}

impl Refusal {
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self::Because(reason.into())
    }

    /// For a character that a charset does not have.
    pub(crate) fn uncoded(character: char, charset: Charset) -> Self {
        let (point, charset) = (u32::from(character), charset.name());
        Self::Because(format!("the character {character} (U+{point:04X}) cannot become {charset}"))
    }

    /// For bytes that are no text in the charset they are read in.
    pub(crate) fn undecoded(bytes: &[u8], charset: Charset, target: &str) -> Self {
        let (len, charset) = (bytes.len(), charset.name());
        Self::Because(format!("{len} bytes that are not {charset} cannot become {target}"))
    }

    /// For an integer that PHP has no type for.
    pub(crate) fn unsigned(value: u64) -> Self {
        Self::Because(format!("the integer {value} does not fit into PHP's signed 64 bits"))
    }

    /// For a number that no type of 64 bits comes near.
    pub(crate) fn beyond(number: &str) -> Self {
        let shown = text::shorten(number, 40);
        if number.contains(['.', 'e', 'E']) {
            let zero = number.parse() == Ok(0.0);
            let what = if zero { "nearer to 0 than any float" } else { "beyond the largest float" };
            return Self::Because(format!("the number {shown} is {what}"));
        }
        Self::Because(format!("the integer {shown} does not fit into 64 bits"))
    }
}
