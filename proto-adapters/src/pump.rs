//! All events of one value from a reader to a writer, compiled for every pair of the two: what is
//! known of the whole value is not asked again for each event.

use std::borrow::Cow;

use crate::codec::{Out, Reader, Writer};
use crate::event::{Event, Refusal, Sink, Source, Stop};
use crate::{json, msgpack, php};

/// Hands everything that is left in `reader` to `writer`.
pub(crate) fn pump(reader: &mut Reader<'_>, writer: &mut Writer) -> Result<(), Stop<Refusal>> {
    match reader {
        Reader::Json(reader) => into(reader, writer),
        Reader::Msgpack(reader) => into(reader, writer),
        Reader::Php(reader) => into(reader, writer),
    }
}

fn into<'a>(source: &mut impl Source<'a>, writer: &mut Writer) -> Result<(), Stop<Refusal>> {
    let room = writer.room;
    if writer.converts() {
        return drain(source, &mut Bounded { writer, room });
    }
    match &mut writer.out {
        Out::Json(writer) => drain(source, &mut Bounded { writer, room }),
        Out::Msgpack(writer) => drain(source, &mut Bounded { writer, room }),
        Out::Php(writer) => drain(source, &mut Bounded { writer, room }),
    }
}

fn drain<'a, S: Sink<'a>>(source: &mut impl Source<'a>, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
    while source.step(sink)? {}
    Ok(())
}

/// Where events go.
trait Target {
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal>;

    /// Bytes written so far, about.
    fn written(&self) -> usize;
}

/// A target for so many bytes, about.
struct Bounded<'w, T> {
    writer: &'w mut T,
    room: usize,
}

impl<T: Target> Bounded<'_, T> {
    #[inline(always)]
    fn put(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        self.writer.push(event)?;
        if self.writer.written() > self.room { Err(Refusal::Full(self.room)) } else { Ok(()) }
    }
}

impl<'a, T: Target> Sink<'a> for Bounded<'_, T> {
    type Refusal = Refusal;

    const TAKES_MORE: bool = true;

    #[inline(always)]
    fn take(&mut self, event: Event<'a>) -> Result<(), Refusal> {
        self.put(&event)
    }

    #[inline(always)]
    fn take_text(&mut self, text: &mut String) -> Result<(), Refusal> {
        self.put(&Event::Str(Cow::Borrowed(text)))
    }
}

impl Target for json::Writer {
    #[inline(always)]
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        json::Writer::push(self, event)
    }

    fn written(&self) -> usize {
        self.len()
    }
}

impl Target for msgpack::Writer {
    #[inline(always)]
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        msgpack::Writer::push(self, event)
    }

    fn written(&self) -> usize {
        self.len()
    }
}

impl Target for php::Writer {
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        php::Writer::push(self, event)
    }

    fn written(&self) -> usize {
        self.len()
    }
}

impl Target for Writer {
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        Writer::push(self, event)
    }

    fn written(&self) -> usize {
        self.len()
    }
}
