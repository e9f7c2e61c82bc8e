//! One reader and one writer over the value codecs.
//!
//! ```
//! use proto_adapters::codec::{Reader, Wire};
//! use proto_adapters::event::Event;
//!
//! let mut reader = Reader::new(Wire::Msgpack, b"\x90");
//! assert_eq!(reader.pull()?, Some(Event::Array));
//! assert_eq!(reader.pull()?, Some(Event::End));
//! assert_eq!(reader.pull()?, None);
//! # Ok::<(), proto_adapters::Fault>(())
//! ```

use std::borrow::Cow;
use std::ops::Range;

use crate::buffer::Buffer;
use crate::event::{Bound, Event, Options, Refusal, skip_rest};
use crate::yar::JSON_DEPTH;
use crate::{Charset, Fault, json, msgpack, php};

/// Room that what is written may keep unused, in bytes, beside a quarter of it.
const SPARE: usize = 2 << 10;

/// The codecs of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// JSON text.
    Json,
    /// msgpack as php-msgpack speaks it.
    Msgpack,
    /// PHP's own `serialize` format.
    Php,
}

/// Pulls the events of one value in any codec.
#[derive(Debug)]
pub enum Reader<'a> {
    /// Over JSON.
    Json(json::Reader<'a>),
    /// Over msgpack.
    Msgpack(msgpack::Reader<'a>),
    /// Over PHP's own format.
    Php(php::Reader<'a>),
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `input`.
    pub fn new(wire: Wire, input: &'a [u8]) -> Self {
        Self::in_charset(wire, Charset::Utf8, input)
    }

    /// A reader at the beginning of a Yar message's payload, as deep as PHP reads it.
    pub(crate) fn of_payload(wire: Wire, input: &'a [u8]) -> Self {
        match wire {
            Wire::Json => Self::Json(json::Reader::new(input).at_most(JSON_DEPTH)),
            Wire::Msgpack | Wire::Php => Self::new(wire, input),
        }
    }

    /// A reader at the beginning of `input` whose strings are in this charset, unless it is JSON.
    pub fn in_charset(wire: Wire, charset: Charset, input: &'a [u8]) -> Self {
        match wire {
            Wire::Json => Self::Json(json::Reader::new(input)),
            Wire::Msgpack => Self::Msgpack(msgpack::Reader::in_charset(charset, input)),
            Wire::Php => Self::Php(php::Reader::in_charset(charset, input)),
        }
    }

    /// Gives strings as the bytes they are, text or not; those of JSON if that is text as a whole.
    pub(crate) fn bytewise(self) -> Self {
        match self {
            Self::Json(reader) => Self::Json(reader.bytewise()),
            Self::Msgpack(reader) => Self::Msgpack(reader.bytewise()),
            Self::Php(reader) => Self::Php(reader.bytewise()),
        }
    }

    /// The next event; `None` once the value is complete.
    ///
    /// # Errors
    /// [`Fault::Malformed`] where the bytes are not of this codec.
    pub fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        match self {
            Self::Json(reader) => reader.pull(),
            Self::Msgpack(reader) => reader.pull(),
            Self::Php(reader) => reader.pull(),
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        match self {
            Self::Json(_) => Wire::Json,
            Self::Msgpack(_) => Wire::Msgpack,
            Self::Php(_) => Wire::Php,
        }
    }

    /// Offset of the first byte of the last event.
    pub fn start(&self) -> usize {
        match self {
            Self::Json(reader) => reader.start(),
            Self::Msgpack(reader) => reader.start(),
            Self::Php(reader) => reader.start(),
        }
    }

    /// Offset just behind the last event.
    pub fn end(&self) -> usize {
        match self {
            Self::Json(reader) => reader.end(),
            Self::Msgpack(reader) => reader.end(),
            Self::Php(reader) => reader.end(),
        }
    }

    /// A reader at the beginning of the same input.
    pub fn rewound(&self) -> Self {
        match self {
            Self::Json(reader) => Self::Json(reader.rewound()),
            Self::Msgpack(reader) => Self::Msgpack(reader.rewound()),
            Self::Php(reader) => Self::Php(reader.rewound()),
        }
    }

    /// Checks that the value is complete and nothing follows it (JSON: but white space).
    ///
    /// # Errors
    /// [`Fault::Malformed`] at the first byte behind the value.
    pub fn finish(self) -> Result<(), Fault> {
        match self {
            Self::Json(reader) => reader.finish(),
            Self::Msgpack(reader) => reader.finish(),
            Self::Php(reader) => reader.finish(),
        }
    }

    /// The first event of a value; unlike [`Self::pull`] there always is one.
    pub(crate) fn first(&mut self) -> Result<Event<'a>, Fault> {
        let end = self.end();
        self.pull()?.ok_or_else(|| Fault::malformed(end, "no value"))
    }

    /// Reads on to the end of the value that `first` began; gives its place in the input.
    pub(crate) fn skip(&mut self, first: &Event<'a>) -> Result<Range<usize>, Fault> {
        let start = self.start();
        if first.opens() {
            match self {
                Self::Json(reader) => reader.skip_rest()?,
                Self::Msgpack(reader) => reader.skip_rest()?,
                Self::Php(reader) => skip_rest(reader)?,
            }
        }
        Ok(start..self.end())
    }

    /// The next entry of the map being read; `None` at its end.
    pub(crate) fn entry(&mut self) -> Result<Option<Entry<'a>>, Fault> {
        self.entry_ahead(|_, _| None)
    }

    /// The same, whose value is not read here if `ahead` does so: it is given the key and what begins with the value,
    /// and tells how long that is.
    pub(crate) fn entry_ahead(
        &mut self,
        ahead: impl FnOnce(&Event<'a>, &'a [u8]) -> Option<usize>,
    ) -> Result<Option<Entry<'a>>, Fault> {
        let key = self.first()?;
        if key == Event::End {
            return Ok(None);
        }
        self.skip(&key)?;
        let first = self.first()?;
        if let Self::Msgpack(reader) = self
            && let Some(len) = ahead(&key, reader.since_start())
        {
            let start = reader.start();
            reader.pass(&first, len);
            return Ok(Some(Entry { key, first, range: start..start + len }));
        }
        let range = self.skip(&first)?;
        Ok(Some(Entry { key, first, range }))
    }

    /// The next item of the list being read; `None` at its end.
    pub(crate) fn item(&mut self) -> Result<Option<(Event<'a>, Range<usize>)>, Fault> {
        let first = self.first()?;
        if first == Event::End {
            return Ok(None);
        }
        let range = self.skip(&first)?;
        Ok(Some((first, range)))
    }
}

/// An entry of a map: its key, the first event of its value, and where the value stands.
pub(crate) struct Entry<'a> {
    pub(crate) key: Event<'a>,
    pub(crate) first: Event<'a>,
    pub(crate) range: Range<usize>,
}

impl<'a> Entry<'a> {
    /// The key, if it is text.
    pub(crate) fn name(&self) -> Option<&str> {
        if let Event::Str(name) = &self.key { Some(name) } else { None }
    }

    /// The value, if it is text.
    pub(crate) fn text(&self) -> Option<&Cow<'a, str>> {
        if let Event::Str(text) = &self.first { Some(text) } else { None }
    }
}

/// Takes the events of one value in any codec.
#[derive(Debug)]
pub struct Writer {
    pub(crate) out: Out,
    /// What strings are read from and written in, where they have to be converted.
    charsets: Option<(Charset, Charset)>,
    /// The last string in the other charset; kept for its memory.
    coded: Vec<u8>,
    pub(crate) bound: Bound,
}

#[derive(Debug)]
pub(crate) enum Out {
    Json(json::Writer),
    Msgpack(msgpack::Writer),
    Php(php::Writer),
}

impl Writer {
    /// An empty writer.
    pub fn new(wire: Wire, options: Options) -> Self {
        let mut writer = Self::within(wire, options, 1);
        writer.heed(options);
        writer
    }

    /// An empty writer of a whole message, which takes strings as they are, and without end, until it shall
    /// [`Self::heed`] the options.
    pub(crate) fn of_message(wire: Wire, options: Options) -> Self {
        Self::within(wire, Options { in_message: true, ..options }, 0)
    }

    /// If it is for a message, `around` of its maps are not written here.
    fn within(wire: Wire, o: Options, around: usize) -> Self {
        let out = match wire {
            Wire::Json => {
                let writer = json::Writer::new(o.bytes, o.from);
                Out::Json(if o.in_message { writer.at_most(JSON_DEPTH, around) } else { writer })
            }
            Wire::Msgpack => Out::Msgpack(msgpack::Writer::new(o.empty)),
            Wire::Php => Out::Php(php::Writer::new()),
        };
        Self { out, charsets: None, coded: Vec::new(), bound: Bound::NONE }
    }

    /// Converts strings and bounds what is written, from here on.
    pub(crate) fn heed(&mut self, options: Options) {
        let differ = self.wire() != Wire::Json && options.from != options.to;
        self.charsets = differ.then_some((options.from, options.to));
        self.bound = options.room.map_or(Bound::NONE, |room| Bound::behind(self.len(), room));
    }

    /// Takes what may be needed to end what was begun, whatever room is left.
    pub(crate) fn unbound(&mut self) {
        self.bound = Bound::NONE;
    }

    /// Takes bytes for text where it writes JSON; whoever has the whole finds out whether they are.
    pub(crate) fn trusting(self) -> Self {
        let Out::Json(writer) = self.out else { return self };
        Self { out: Out::Json(writer.trusting()), ..self }
    }

    /// Makes room for so many bytes more, so that what is written does not move until they are used up.
    pub fn reserve(&mut self, bytes: usize) {
        self.out().reserve(bytes);
    }

    /// Leaves so many bytes zero.
    pub(crate) fn leave(&mut self, bytes: usize) {
        self.out().leave(bytes);
    }

    fn out(&mut self) -> &mut Buffer {
        match &mut self.out {
            Out::Json(writer) => writer.out(),
            Out::Msgpack(writer) => writer.out(),
            Out::Php(writer) => writer.out(),
        }
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// A [`Refusal`] where the codec or its charset has no form for it, or [`Options::room`] is used up.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        match (self.charsets, event) {
            (Some((_, to)), Event::Str(text)) => {
                let mut coded = std::mem::take(&mut self.coded);
                coded.clear();
                to.encode_to(text, &mut coded).map_err(|c| Refusal::uncoded(c, to))?;
                let taken = self.take(&Event::Bytes(&coded));
                self.coded = coded;
                taken
            }
            (Some((from, to)), Event::Bytes(bytes)) => Err(Refusal::undecoded(bytes, from, to.name())),
            _ => self.take(event),
        }
    }

    fn take(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        match &mut self.out {
            Out::Json(writer) => writer.push(event),
            Out::Msgpack(writer) => writer.push(event),
            Out::Php(writer) => writer.push(event),
        }?;
        self.check_room(0)
    }

    /// Bytes written so far, about: lengths may still take more.
    pub(crate) fn len(&self) -> usize {
        match &self.out {
            Out::Json(writer) => writer.len(),
            Out::Msgpack(writer) => writer.len(),
            Out::Php(writer) => writer.len(),
        }
    }

    /// Refuses where so many bytes more would be too many.
    pub(crate) fn check_room(&self, more: usize) -> Result<(), Refusal> {
        self.bound.check(self.len().saturating_add(more))
    }

    /// Appends a value that is in this codec already.
    pub fn raw(&mut self, value: &[u8]) {
        match &mut self.out {
            Out::Json(writer) => writer.raw(value),
            Out::Msgpack(writer) => writer.raw(value),
            Out::Php(writer) => writer.raw(value),
        }
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = match self.out {
            Out::Json(writer) => writer.finish(),
            Out::Msgpack(writer) => writer.finish(),
            Out::Php(writer) => writer.finish(),
        };
        if bytes.capacity() - bytes.len() > SPARE + bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        bytes
    }

    pub(crate) fn wire(&self) -> Wire {
        match self.out {
            Out::Json(_) => Wire::Json,
            Out::Msgpack(_) => Wire::Msgpack,
            Out::Php(_) => Wire::Php,
        }
    }

    /// Whether the event just copied goes deeper than this codec may, with `depth` lists and maps of
    /// the same value around it.
    pub(crate) fn check_depth(&self, depth: usize) -> Result<(), Refusal> {
        match &self.out {
            Out::Json(writer) => writer.check_depth(depth),
            Out::Msgpack(_) | Out::Php(_) => Ok(()),
        }
    }

    /// Whether a value in the same codec may still have to be written otherwise.
    pub(crate) fn converts(&self) -> bool {
        self.charsets.is_some()
    }
}
