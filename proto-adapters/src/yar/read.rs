//! Requests and responses: where their parts stand in a payload.

use std::ops::Range;

use super::Packager;
use crate::codec::{Entry, Reader};
use crate::event::{Event, Options};
use crate::pump::to_json;
use crate::{Fault, MAX_DEPTH, msgpack};

/// A request's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The payload's own id; 0 if it has none, or one that is no unsigned integer.
    pub id: u64,
    /// The method to call.
    pub method: String,
    /// Where the method's name stands in the payload, as it is packed.
    pub method_at: Range<usize>,
    /// Where the parameters stand in the payload; empty if there are none or they are null.
    pub params: Range<usize>,
}

impl Request {
    /// Reads a payload and checks it to its end. Keys may come in any order; of a key that comes
    /// twice the later one counts, as in PHP.
    ///
    /// # Errors
    /// [`Fault::Malformed`] if the payload is not well-formed, not a map, or has no text as `m`;
    /// a PHP object is no map.
    pub fn read(packager: Packager, payload: &[u8]) -> Result<Self, Fault> {
        let mut request = Self { id: 0, method: String::new(), method_at: 0..0, params: 0..0 };
        let mut named = false;
        plain_fields(Reader::of_payload(packager.wire(), payload), never, |entry| {
            match entry.name() {
                Some("i") => request.id = unsigned(&entry.first).unwrap_or(0),
                Some("m") => {
                    let method = entry.text().ok_or_else(|| {
                        Fault::malformed(
                            entry.range.start,
                            format!("`m` is {}, not a string", entry.first.kind()),
                        )
                    })?;
                    request.method = method.clone().into_owned();
                    request.method_at = entry.range;
                    named = true;
                }
                Some("p") if entry.first == Event::Null => request.params = 0..0,
                Some("p") => request.params = entry.range,
                _ => {}
            }
            Ok(())
        })?;
        if !named {
            return Err(Fault::malformed(payload.len(), "the request has no `m`"));
        }
        Ok(request)
    }
}

/// A response's payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The id the server repeats, also where it is spelled as text or as a float; `None` if it is no unsigned integer.
    pub id: Option<u64>,
    /// 0 for success, else the kind of failure; 64 is an exception of the method.
    pub status: i64,
    /// Where the method's printed output stands.
    pub output: Option<Range<usize>>,
    /// Where a scalar stands in place of that text, which no client prints and old ones crash on.
    pub odd_output: Option<Range<usize>>,
    /// Where the result stands; a PHP function that ended by `exit` has success and none.
    pub result: Option<Range<usize>>,
    /// Where the error stands.
    pub error: Option<Range<usize>>,
    /// Where the payload ends; PHP servers may leave junk behind one that is not JSON.
    pub end: usize,
}

impl Response {
    /// Reads a payload and checks it to its end.
    ///
    /// # Errors
    /// [`Fault::Malformed`] if the payload is not well-formed, not a map, or lacks `i` or an `s` that is an integer
    /// of 32 bits: PHP takes such an answer for success, this reader does not. A PHP object is no map. Also if `o` is
    /// neither text nor another scalar.
    pub fn read(packager: Packager, payload: &[u8]) -> Result<Self, Fault> {
        Self::read_by(packager, payload, never)
    }

    /// The same, and in JSON the result of a success, where that is msgpack and goes there as it is: it is read once.
    /// `None`: what hinders it is still to be found out.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_to_json(
        packager: Packager,
        payload: &[u8],
        o: Options,
    ) -> Result<(Self, Option<Vec<u8>>), Fault> {
        let (mut is_first, mut json) = (true, None);
        let ahead = |key: &Event<'_>, rest: &[u8]| {
            if !matches!(key, Event::Str(key) if key == "r") {
                return None;
            }
            // the map is around it; of two results the later one counts, and is read as everything else
            let reader = msgpack::Reader::new(rest).at_most(MAX_DEPTH - 1);
            let first = std::mem::take(&mut is_first);
            json = if first { to_json(Reader::Msgpack(reader), rest.len(), o) } else { None };
            json.as_ref().map(|(_, len)| *len)
        };
        let read = Self::read_by(packager, payload, ahead)?;
        let json = json.filter(|_| read.status == 0).map(|(json, _)| json);
        Ok((read, json))
    }

    fn read_by<'a>(
        packager: Packager,
        payload: &'a [u8],
        ahead: impl FnMut(&Event<'a>, &'a [u8]) -> Option<usize>,
    ) -> Result<Self, Fault> {
        let mut answer = Self::default();
        let (mut has_id, mut status) = (false, None);
        answer.end = plain_fields(Reader::of_payload(packager.wire(), payload), ahead, |entry| {
            match entry.name() {
                Some("i") => {
                    has_id = true;
                    answer.id = unsigned(&entry.first).or_else(|| spelled(&entry.first));
                }
                Some("s") => status = Some(status_of(&entry)?),
                Some("o") => answer.take_output(entry)?,
                Some("r") => answer.result = Some(entry.range),
                Some("e") => answer.error = Some(entry.range),
                _ => {}
            }
            Ok(())
        })?;
        if !has_id {
            return Err(Fault::malformed(answer.end, "the response has no `i`"));
        }
        answer.status = status.ok_or_else(|| Fault::malformed(answer.end, "the response has no `s`"))?;
        Ok(answer)
    }

    fn take_output(&mut self, entry: Entry<'_>) -> Result<(), Fault> {
        (self.output, self.odd_output) = (None, None);
        match entry.first {
            Event::Str(_) | Event::Bytes(_) => self.output = Some(entry.range),
            Event::Null
            | Event::Bool(_)
            | Event::Int(_)
            | Event::UInt(_)
            | Event::Float(_)
            | Event::Beyond(_) => self.odd_output = Some(entry.range),
            Event::Ext(..) | Event::Php(_) | Event::Array | Event::Map | Event::End => {
                let reason = format!("`o` is {}, not a string", entry.first.kind());
                return Err(Fault::malformed(entry.range.start, reason));
            }
        }
        Ok(())
    }
}

fn status_of(entry: &Entry<'_>) -> Result<i64, Fault> {
    let wrong = |reason| Fault::malformed(entry.range.start, reason);
    let Event::Int(status) = entry.first else {
        return Err(wrong(format!("`s` is {}, not an integer", entry.first.kind())));
    };
    // PHP keeps the lower 32 bits, and takes 2^32 for success
    if i32::try_from(status).is_err() {
        return Err(wrong(format!("`s` is {status}, beyond the 32 bits that PHP reads")));
    }
    Ok(status)
}

/// An unsigned integer in another form that PHP takes for one.
fn spelled(event: &Event<'_>) -> Option<u64> {
    if let Event::Str(text) = event {
        return text.parse().ok();
    }
    if let Event::Float(value) = event
        && (0.0..=f64::from(u32::MAX)).contains(value)
        && value.fract() == 0.0
    {
        return Some(*value as u64);
    }
    None
}

fn unsigned(event: &Event<'_>) -> Option<u64> {
    match event {
        Event::Int(value) => u64::try_from(*value).ok(),
        Event::UInt(value) => Some(*value),
        Event::Null
        | Event::Bool(_)
        | Event::Float(_)
        | Event::Beyond(_)
        | Event::Str(_)
        | Event::Bytes(_)
        | Event::Ext(..)
        | Event::Php(_)
        | Event::Array
        | Event::Map
        | Event::End => None,
    }
}

/// As [`fields`], of a map that is no PHP object: PHP looks for no fields in one.
fn plain_fields<'a>(
    reader: Reader<'a>,
    ahead: impl FnMut(&Event<'a>, &'a [u8]) -> Option<usize>,
    mut take: impl FnMut(Entry<'a>) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let start = reader.end();
    fields(reader, ahead, |entry| {
        if entry.key == Event::Null {
            return Err(Fault::malformed(start, "the payload is a PHP object, not a map"));
        }
        take(entry)
    })
}

/// Reads no value before the others do.
pub(super) fn never(_: &Event<'_>, _: &[u8]) -> Option<usize> {
    None
}

/// Hands the entries of the payload's map to `take`, whose values `ahead` may read; gives the offset behind the payload.
pub(super) fn fields<'a>(
    mut reader: Reader<'a>,
    mut ahead: impl FnMut(&Event<'a>, &'a [u8]) -> Option<usize>,
    mut take: impl FnMut(Entry<'a>) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let first = reader.first()?;
    if first != Event::Map {
        return Err(Fault::malformed(reader.start(), format!("the payload is {}, not a map", first.kind())));
    }
    while let Some(entry) = reader.entry_ahead(&mut ahead)? {
        take(entry)?;
    }
    let end = reader.end();
    match reader {
        Reader::Json(_) => reader.finish()?,
        // what a PHP server prints behind its answer stands here
        Reader::Msgpack(_) | Reader::Php(_) => {}
    }
    Ok(end)
}
