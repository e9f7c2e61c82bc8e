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

use crate::event::{Event, Options, Refusal};
use crate::{Fault, json, msgpack, php};

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
        match wire {
            Wire::Json => Self::Json(json::Reader::new(input)),
            Wire::Msgpack => Self::Msgpack(msgpack::Reader::new(input)),
            Wire::Php => Self::Php(php::Reader::new(input)),
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
        let mut depth = usize::from(first.opens());
        while depth > 0 {
            let event = self.first()?;
            if event == Event::End {
                depth -= 1;
            } else if event.opens() {
                depth += 1;
            }
        }
        Ok(start..self.end())
    }

    /// The next entry of the map being read; `None` at its end.
    pub(crate) fn entry(&mut self) -> Result<Option<Entry<'a>>, Fault> {
        let key = self.first()?;
        if key == Event::End {
            return Ok(None);
        }
        self.skip(&key)?;
        let first = self.first()?;
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
pub enum Writer {
    /// Toward JSON.
    Json(json::Writer),
    /// Toward msgpack.
    Msgpack(msgpack::Writer),
    /// Toward PHP's own format.
    Php(php::Writer),
}

impl Writer {
    /// An empty writer.
    pub fn new(wire: Wire, options: Options) -> Self {
        match wire {
            Wire::Json => Self::Json(json::Writer::new(options.bytes)),
            Wire::Msgpack => Self::Msgpack(msgpack::Writer::new(options.empty)),
            Wire::Php => Self::Php(php::Writer::new()),
        }
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// A [`Refusal`] where the codec has no form for it.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        match self {
            Self::Json(writer) => writer.push(event),
            Self::Msgpack(writer) => writer.push(event),
            Self::Php(writer) => writer.push(event),
        }
    }

    /// Appends a value that is in this codec already.
    pub fn raw(&mut self, value: &[u8]) {
        match self {
            Self::Json(writer) => writer.raw(value),
            Self::Msgpack(writer) => writer.raw(value),
            Self::Php(writer) => writer.raw(value),
        }
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Json(writer) => writer.finish(),
            Self::Msgpack(writer) => writer.finish(),
            Self::Php(writer) => writer.finish(),
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        match self {
            Self::Json(_) => Wire::Json,
            Self::Msgpack(_) => Wire::Msgpack,
            Self::Php(_) => Wire::Php,
        }
    }
}
