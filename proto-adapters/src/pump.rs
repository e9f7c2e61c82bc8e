//! All events of one value from a reader to a writer, compiled for every pair of the two: what is
//! known of the whole value is not asked again for each event.

use std::borrow::Cow;

use crate::codec::{Out, Reader, Wire, Writer};
use crate::event::{Bound, BytesAs, Event, Options, Refusal, Sink, Source, Stop};
use crate::{Charset, json, msgpack, php};

/// Hands everything that is left in `reader` to `writer`.
pub(crate) fn pump(reader: &mut Reader<'_>, writer: &mut Writer) -> Result<(), Stop<Refusal>> {
    match reader {
        Reader::Json(reader) => into(reader, writer),
        Reader::Msgpack(reader) => into(reader, writer),
        Reader::Php(reader) => into(reader, writer),
    }
}

/// The value in the next `len` bytes of `reader` as JSON, and how long it is there; `None` where something is wrong with
/// it, it is JSON already, or has to be converted in parts. Its strings, which must be UTF-8, are looked at all at
/// once, which costs less than one by one.
pub(crate) fn to_json(reader: Reader<'_>, len: usize, o: Options) -> Option<(Vec<u8>, usize)> {
    let from = reader.wire();
    // where bytes may become base64, they are there
    let may_be_text = o.from == Charset::Utf8 && o.bytes == BytesAs::Fail;
    if from == Wire::Json || !may_be_text {
        return None;
    }
    let mut reader = reader.bytewise();
    let mut writer = Writer::new(Wire::Json, o).trusting();
    writer.reserve(room(from, Wire::Json, len));
    pump(&mut reader, &mut writer).ok()?;
    let text = writer.finish();
    str::from_utf8(&text).is_ok().then(|| (text, reader.end()))
}

/// Bytes that a value of `len` bytes mostly needs in the other codec, so that what is written
/// need not move as it grows.
pub(crate) fn room(from: Wire, to: Wire, len: usize) -> usize {
    match to {
        Wire::Php if from != to => len.saturating_mul(2),
        // small ones are mostly keys, each with two quotes, a colon and a comma
        Wire::Json if from == Wire::Msgpack => len.saturating_add(len / 2 + 64),
        Wire::Json | Wire::Msgpack | Wire::Php => len,
    }
}

fn into<'a>(source: &mut impl Source<'a>, writer: &mut Writer) -> Result<(), Stop<Refusal>> {
    let bound = writer.bound;
    if writer.converts() {
        return drain(source, &mut Bounded { writer, bound });
    }
    match &mut writer.out {
        Out::Json(writer) => drain(source, &mut Bounded { writer, bound }),
        Out::Msgpack(writer) => drain(source, &mut Bounded { writer, bound }),
        Out::Php(writer) => drain(source, &mut Bounded { writer, bound }),
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
    bound: Bound,
}

impl<T: Target> Bounded<'_, T> {
    #[inline(always)]
    fn put(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        self.writer.push(event)?;
        self.bound.check(self.writer.written())
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
