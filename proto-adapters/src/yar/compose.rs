//! Messages out of the JSON that [`describe`](super::describe) shows.

use std::ops::Range;

use super::{Header, NAME, Packager};
use crate::codec::{Reader, Wire, Writer};
use crate::event::{BytesAs, Empty, Event, Options, Php};
use crate::{Charset, Fault, number, path};

/// An empty map stays one, bytes are never changed.
const EXACT: Options = Options {
    empty: Empty::Map,
    bytes: BytesAs::Fail,
    from: Charset::Utf8,
    to: Charset::Utf8,
    in_message: false,
    room: None,
};

/// The message that a JSON object `{id, version, provider, token, packager, body}` describes, its tags included.
///
/// `packager` and `body` have to be there; what else is left out is 0 or empty.
///
/// # Errors
/// [`Fault::Malformed`] at the place in `text` that is not of this form; [`Fault::Unadaptable`] for a value that
/// the packager has no form for, and for what only PHP makes: enums, references, objects that packed themselves.
pub fn compose(text: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut reader = Reader::new(Wire::Json, text);
    if reader.first()? != Event::Map {
        return Err(Fault::malformed(0, "no object of id, version, provider, token, packager and body"));
    }
    let (mut header, mut packager, mut body) = (blank(), None, None);
    while let Some(entry) = reader.entry()? {
        let (at, first) = (entry.range.start, &entry.first);
        match entry.name() {
            Some("id") => header.id = number(first, at)?,
            Some("version") => header.version = number(first, at)?,
            Some("provider") => header.provider = name(text, &entry.range)?,
            Some("token") => header.token = name(text, &entry.range)?,
            Some("packager") => packager = Some(named_packager(first, at)?),
            Some("body") => body = Some(entry.range),
            _ => {
                let known = "id, version, provider, token, packager, body";
                return Err(Fault::malformed(at, format!("a field that no message has; there are: {known}")));
            }
        }
    }
    let end = reader.end();
    reader.finish()?;
    let missing = |field| Fault::malformed(end, format!("there is no `{field}`"));
    header.packager = packager.ok_or_else(|| missing("packager"))?;
    let payload = value(text, body.ok_or_else(|| missing("body"))?, header.packager.wire())?;
    Ok([header.encode(payload.len()).as_slice(), &payload].concat())
}

fn blank() -> Header {
    Header {
        id: 0,
        version: 0,
        reserved: 0,
        provider: Vec::new(),
        token: Vec::new(),
        body_len: 0,
        packager: Packager::Json,
    }
}

fn number<T: TryFrom<i64>>(value: &Event<'_>, at: usize) -> Result<T, Fault> {
    let wrong = || {
        let bits = size_of::<T>() * 8;
        Fault::malformed(at, format!("{} that is no integer of {bits} bits without a sign", value.kind()))
    };
    if let Event::Int(number) = value { T::try_from(*number).map_err(|_| wrong()) } else { Err(wrong()) }
}

fn named_packager(value: &Event<'_>, at: usize) -> Result<Packager, Fault> {
    let known = [Packager::Msgpack, Packager::Json, Packager::Php];
    let named =
        |packager: &Packager| matches!(value, Event::Str(name) if name.eq_ignore_ascii_case(packager.name()));
    known
        .into_iter()
        .find(named)
        .ok_or_else(|| Fault::malformed(at, "no packager; there are: MSGPACK, JSON, PHP"))
}

/// A provider or token: text, or bytes in their tag.
fn name(text: &[u8], range: &Range<usize>) -> Result<Vec<u8>, Fault> {
    let wrong = |reason: &str| Fault::malformed(range.start, reason);
    let mut reader = Reader::new(Wire::Json, text.get(range.clone()).unwrap_or_default());
    let first = reader.first()?;
    let name = if let Event::Str(name) = first {
        name.into_owned().into_bytes()
    } else if first == Event::Map && reader.first()? == Event::Str("$bin".into()) {
        let Event::Str(hex) = reader.first()? else { return Err(wrong("$bin is no text")) };
        unhex(&hex).ok_or_else(|| wrong("$bin has no even number of hexadecimal digits"))?
    } else {
        return Err(wrong("neither text nor {\"$bin\":\"hex\"}"));
    };
    if name.len() > NAME {
        return Err(wrong(&format!("{} bytes, where Yar has room for {NAME}", name.len())));
    }
    Ok(name)
}

fn value(text: &[u8], range: Range<usize>, wire: Wire) -> Result<Vec<u8>, Fault> {
    let start = range.start;
    let mut composer = Composer {
        reader: Reader::new(Wire::Json, text.get(range).unwrap_or_default()),
        writer: Writer::new(wire, EXACT),
    };
    let done = composer.reader.first().and_then(|first| composer.value(&first));
    match done {
        Ok(()) => Ok(composer.writer.finish()),
        Err(Fault::Malformed { at, reason }) => Err(Fault::malformed(start + at, reason)),
        Err(other @ (Fault::Unadaptable { .. } | Fault::TooLong { .. })) => Err(other),
    }
}

/// Carries a value over, tag by tag; the reader bounds how deep it goes.
struct Composer<'a> {
    reader: Reader<'a>,
    writer: Writer,
}

impl<'a> Composer<'a> {
    fn value(&mut self, first: &Event<'a>) -> Result<(), Fault> {
        if *first == Event::Map {
            return self.map();
        }
        self.push(first)?;
        if *first != Event::Array {
            return Ok(());
        }
        loop {
            let item = self.reader.first()?;
            if item == Event::End {
                return self.push(&item);
            }
            self.value(&item)?;
        }
    }

    /// A map as JSON has it, or whatever its first key says.
    fn map(&mut self) -> Result<(), Fault> {
        let first = self.reader.first()?;
        let tag = if let Event::Str(key) = &first { key.as_ref() } else { "" };
        match tag {
            "$map" => {
                self.push(&Event::Map)?;
                self.expect(&Event::Array, "a list of [key, value]")?;
                self.pairs()?;
            }
            "$object" => self.object()?,
            "$float" => {
                let text = self.text()?;
                let float =
                    float(&text).ok_or_else(|| self.wrong("no float such as 3.0, 1.0E+25, NAN or -INF"))?;
                self.push(&Event::Float(float))?;
            }
            "$bin" => {
                let bytes = self.hex()?;
                self.push(&Event::Bytes(&bytes))?;
            }
            "$number" => self.number()?,
            // refused by every writer
            "$enum" => self.push(&Event::Php(Php::Enum(b"")))?,
            "$reference" => self.push(&Event::Php(Php::Reference(0)))?,
            "$escaped" => self.push(&Event::Php(Php::Escaped(b"")))?,
            "$custom" => self.push(&Event::Php(Php::Custom(b"", b"")))?,
            "$ext" => self.extension()?,
            _ => {
                self.push(&Event::Map)?;
                return self.entries(first);
            }
        }
        self.expect(&Event::End, "nothing more; a map with such a key is {\"$map\":[[key,value]]}")
    }

    /// Entries of a JSON object up to its end, the key of the first one given.
    fn entries(&mut self, mut key: Event<'a>) -> Result<(), Fault> {
        while key != Event::End {
            let bytes =
                if let Event::Str(text) = &key { text.strip_prefix("$bin:").and_then(unhex) } else { None };
            match bytes.as_deref().map(|bytes| (bytes, str::from_utf8(bytes))) {
                Some((_, Ok(text))) => self.push(&Event::Str(text.into()))?,
                Some((bytes, Err(_))) => self.push(&Event::Bytes(bytes))?,
                None => self.push(&key)?,
            }
            let first = self.reader.first()?;
            self.value(&first)?;
            key = self.reader.first()?;
        }
        self.push(&Event::End)
    }

    /// Entries as `[[key,value],…]` up to the end of the list.
    fn pairs(&mut self) -> Result<(), Fault> {
        loop {
            let pair = self.reader.first()?;
            if pair == Event::End {
                return self.push(&pair);
            }
            if pair != Event::Array {
                return Err(self.wrong("not [key, value]"));
            }
            for _ in 0..2 {
                let part = self.reader.first()?;
                if part == Event::End {
                    return Err(self.wrong("not [key, value]"));
                }
                self.value(&part)?;
            }
            self.expect(&Event::End, "the end of [key, value]")?;
        }
    }

    /// What follows `"$object":` a class, then `props` in either form.
    fn object(&mut self) -> Result<(), Fault> {
        self.push(&Event::Map)?;
        if self.writer.wire() == Wire::Msgpack {
            // the writer makes no objects, since a call's values must never become one
            self.writer.raw(b"\xc0");
        } else {
            self.push(&Event::Null)?;
        }
        let class = self.reader.first()?;
        self.value(&class)?;
        self.expect(&Event::Str("props".into()), "props")?;
        let props = self.reader.first()?;
        if props == Event::Array {
            return self.pairs();
        }
        if props != Event::Map {
            return Err(self.wrong("props is neither a list of [key, value] nor an object"));
        }
        let key = self.reader.first()?;
        self.entries(key)
    }

    fn extension(&mut self) -> Result<(), Fault> {
        self.expect(&Event::Array, "[type, hex]")?;
        let kind = self.reader.first()?;
        let kind = if let Event::Int(kind) = kind { i8::try_from(kind).ok() } else { None };
        let kind = kind.ok_or_else(|| self.wrong("no extension type from -128 to 127"))?;
        let bytes = self.hex()?;
        self.expect(&Event::End, "the end of [type, hex]")?;
        if self.writer.wire() == Wire::Msgpack {
            self.writer.raw(&msgpack_extension(kind, &bytes));
            return Ok(());
        }
        self.push(&Event::Ext(kind, &bytes))
    }

    /// What follows `"$number":` in JSON, as it is written there.
    fn number(&mut self) -> Result<(), Fault> {
        let digits = self.text()?;
        let mut reader = Reader::new(Wire::Json, digits.as_bytes());
        let number = reader.first().ok().filter(|first| reader.start() == 0 && first.kind() == "a number");
        let whole = reader.end() == digits.len() && reader.finish().is_ok();
        let number = number.filter(|_| whole).ok_or_else(|| self.wrong("no JSON number"))?;
        let as_written = self.writer.wire() == Wire::Json;
        self.push(&if as_written { Event::Beyond(&digits) } else { number })
    }

    fn text(&mut self) -> Result<String, Fault> {
        let text = self.reader.first()?;
        if let Event::Str(text) = text {
            return Ok(text.into_owned());
        }
        Err(self.wrong(&format!("{}, not text", text.kind())))
    }

    fn hex(&mut self) -> Result<Vec<u8>, Fault> {
        let text = self.text()?;
        unhex(&text).ok_or_else(|| self.wrong("no even number of hexadecimal digits"))
    }

    fn expect(&mut self, wanted: &Event<'_>, what: &str) -> Result<(), Fault> {
        let found = self.reader.first()?;
        if found == *wanted { Ok(()) } else { Err(self.wrong(&format!("here has to be {what}"))) }
    }

    fn push(&mut self, event: &Event<'_>) -> Result<(), Fault> {
        if let (Event::UInt(value), Wire::Msgpack) = (event, self.writer.wire()) {
            // the writer makes none, since PHP would read a string
            self.writer.raw(&[&[0xcf], &value.to_be_bytes()[..]].concat());
            return Ok(());
        }
        self.writer.push(event).map_err(|refusal| path::explain(&self.reader, "$.body", refusal))
    }

    fn wrong(&self, reason: &str) -> Fault {
        Fault::malformed(self.reader.start(), reason)
    }
}

/// An extension; the msgpack writer has none, for PHP reads null in its place.
fn msgpack_extension(kind: i8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 6);
    match bytes.len() {
        1 => out.push(0xd4),
        2 => out.push(0xd5),
        4 => out.push(0xd6),
        8 => out.push(0xd7),
        16 => out.push(0xd8),
        len @ 0..=0xff => out.extend([0xc7, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xc8);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0xc9);
            out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.push(kind.cast_unsigned());
    out.extend_from_slice(bytes);
    out
}

fn float(text: &str) -> Option<f64> {
    match text {
        "NAN" => Some(f64::NAN),
        "INF" => Some(f64::INFINITY),
        "-INF" => Some(f64::NEG_INFINITY),
        // what else Rust reads as one, such as `nan` or `infinity`, PHP never wrote
        digits if digits.contains(|c: char| c.is_ascii_digit()) => number::read_float(digits),
        _ => None,
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}
