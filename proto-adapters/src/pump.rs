//! All events of one value from a reader to a writer, compiled for every pair of the two: what is
//! known of the whole value is not asked again for each event.

use std::borrow::Cow;

use crate::codec::{Out, Reader, Writer};
use crate::event::{Event, Refusal};
use crate::{Fault, json, msgpack, php};

/// Why the events stopped before their end.
pub(crate) enum Stop {
    /// The reader met a fault.
    Broken(Fault),
    /// The writer refused the last event.
    Refused(Refusal),
}

/// Where events come from.
trait Source<'a> {
    fn pull(&mut self) -> Result<Option<Event<'a>>, Fault>;

    fn reuse(&mut self, event: Event<'a>);
}

/// Where events go.
trait Sink {
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal>;

    /// Bytes written so far, about.
    fn written(&self) -> usize;
}

/// Hands everything that is left in `reader` to `writer`.
pub(crate) fn pump(reader: &mut Reader<'_>, writer: &mut Writer) -> Result<(), Stop> {
    match reader {
        Reader::Json(reader) => into(reader, writer),
        Reader::Msgpack(reader) => into(reader, writer),
        Reader::Php(reader) => into(reader, writer),
    }
}

fn into<'a>(source: &mut impl Source<'a>, writer: &mut Writer) -> Result<(), Stop> {
    let room = writer.room;
    if writer.converts() {
        return drive(source, writer, room);
    }
    match &mut writer.out {
        Out::Json(writer) => drive(source, writer, room),
        Out::Msgpack(writer) => drive(source, writer, room),
        Out::Php(writer) => drive(source, writer, room),
    }
}

fn drive<'a>(source: &mut impl Source<'a>, sink: &mut impl Sink, room: usize) -> Result<(), Stop> {
    loop {
        // looked at where it is: to move an event costs more than to read it
        let pulled = source.pull();
        match &pulled {
            Ok(Some(event)) => sink.push(event).map_err(Stop::Refused)?,
            Ok(None) => return Ok(()),
            Err(_) => return pulled.map(drop).map_err(Stop::Broken),
        }
        if sink.written() > room {
            return Err(Stop::Refused(Refusal::Full(room)));
        }
        if let Ok(Some(event @ Event::Str(Cow::Owned(_)))) = pulled {
            source.reuse(event);
        }
    }
}

impl<'a> Source<'a> for json::Reader<'a> {
    #[inline(always)]
    fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        json::Reader::pull(self)
    }

    fn reuse(&mut self, event: Event<'a>) {
        json::Reader::reuse(self, event);
    }
}

impl<'a> Source<'a> for msgpack::Reader<'a> {
    #[inline(always)]
    fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        msgpack::Reader::pull(self)
    }

    fn reuse(&mut self, event: Event<'a>) {
        msgpack::Reader::reuse(self, event);
    }
}

impl<'a> Source<'a> for php::Reader<'a> {
    fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        php::Reader::pull(self)
    }

    fn reuse(&mut self, event: Event<'a>) {
        php::Reader::reuse(self, event);
    }
}

impl Sink for json::Writer {
    #[inline(always)]
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        json::Writer::push(self, event)
    }

    fn written(&self) -> usize {
        self.len()
    }
}

impl Sink for msgpack::Writer {
    #[inline(always)]
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        msgpack::Writer::push(self, event)
    }

    fn written(&self) -> usize {
        self.len()
    }
}

impl Sink for php::Writer {
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        php::Writer::push(self, event)
    }

    fn written(&self) -> usize {
        self.len()
    }
}

impl Sink for Writer {
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        Writer::push(self, event)
    }

    fn written(&self) -> usize {
        self.len()
    }
}
