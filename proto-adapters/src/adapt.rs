//! Values from one codec to the other, and parameters between HTTP and Yar.
//!
//! ```
//! use proto_adapters::{Options, Wire, body_to_params, params_to_body};
//!
//! let names = ["id".to_owned(), "tags".to_owned()];
//! let options = Options::default();
//! let params = body_to_params(br#"{"tags":[],"id":7}"#, Wire::Msgpack, &names, options)?;
//! assert_eq!(params, b"\x92\x07\x90");
//! assert_eq!(params_to_body(Wire::Msgpack, &params, options)?, b"[7,[]]");
//! # Ok::<(), proto_adapters::Fault>(())
//! ```

mod form;
mod query;

use std::collections::BTreeMap;
use std::ops::Range;

pub use form::{form_into, form_to_params};
pub use query::params_to_query;

use crate::codec::{Reader, Wire, Writer};
use crate::event::{Empty, Event, Options, Refusal, Stop};
use crate::pump::{pump, room, to_json};
use crate::{Charset, Fault, path};

/// Carries exactly one value from one codec to another; within one codec and charset it is checked
/// and copied. `root` is what paths in faults begin with, as `$` or `$.r`.
///
/// # Errors
/// [`Fault::Malformed`] if `value` is not exactly one value (JSON may have white space around
/// it), [`Fault::Unadaptable`] if something in it has no form in `to`, [`Fault::TooLong`] if it
/// becomes longer than [`Options::room`].
pub fn transcode(from: Wire, to: Wire, value: &[u8], root: &str, o: Options) -> Result<Vec<u8>, Fault> {
    if to == Wire::Json
        && let Some((text, len)) = to_json(Reader::new(from, value), value.len(), o)
        && len == value.len()
    {
        return Ok(text);
    }
    let mut writer = Writer::new(to, o);
    writer.reserve(room(from, to, value.len()));
    carry(from, value, &mut writer, root, o.from)?;
    Ok(writer.finish())
}

/// Carries exactly one value over; within one codec and charset it is checked and copied as it is.
fn carry(from: Wire, value: &[u8], writer: &mut Writer, root: &str, read_in: Charset) -> Result<(), Fault> {
    let mut reader = Reader::in_charset(from, read_in, value);
    if from == Wire::Json && !writer.converts() {
        reader = reader.bytewise();
    }
    if from == writer.wire() && !writer.converts() {
        let range = match from {
            Wire::Json => skip_json(&mut reader, writer, root)?,
            Wire::Msgpack | Wire::Php => {
                let first = reader.first()?;
                reader.skip(&first)?
            }
        };
        reader.finish()?;
        writer.check_room(range.len()).map_err(|refusal| refused(root, refusal))?;
        writer.raw(value.get(range).unwrap_or_default());
        return Ok(());
    }
    pump(&mut reader, writer).map_err(|stop| match stop {
        Stop::Broken(fault) => fault,
        Stop::Refused(refusal) => path::explain(&reader, root, refusal),
    })?;
    reader.finish()
}

/// Reads one value of JSON and checks how deep it would go where `writer` is; gives its place.
fn skip_json(reader: &mut Reader<'_>, writer: &Writer, root: &str) -> Result<Range<usize>, Fault> {
    let (mut start, mut depth) = (None, 0);
    while let Some(event) = reader.pull()? {
        start.get_or_insert(reader.start());
        if event.opens() {
            writer.check_depth(depth).map_err(|refusal| path::explain(reader, root, refusal))?;
            depth += 1;
        } else if event == Event::End {
            depth -= 1;
        }
    }
    Ok(start.unwrap_or_default()..reader.end())
}

/// The parameters of a call out of an HTTP caller's JSON body.
///
/// A list is positional as it is; an object goes by `names`, or is the one parameter if there are
/// no names (an empty one then is what [`Options::empty`] says); no body is no parameters.
///
/// # Errors
/// [`Fault::Malformed`] if the body is not JSON; [`Fault::Unadaptable`] if it is neither list nor
/// object, has keys that are not in `names`, leaves out a name before one it gives, or holds a
/// value that has no form in `to`.
pub fn body_to_params(body: &[u8], to: Wire, names: &[String], o: Options) -> Result<Vec<u8>, Fault> {
    let mut writer = Writer::new(to, o);
    body_into(&mut writer, body, names, o)?;
    Ok(writer.finish())
}

/// The same where they belong; `o` is what the writer was made with.
///
/// # Errors
/// As [`body_to_params`].
pub fn body_into(writer: &mut Writer, body: &[u8], names: &[String], o: Options) -> Result<(), Fault> {
    if body.is_empty() {
        return positional(writer, 0, |_| Ok(()));
    }
    // a list is read once, as it is carried over
    if body.trim_ascii_start().starts_with(b"[") {
        writer.reserve(room(Wire::Json, writer.wire(), body.len()));
        return carry(Wire::Json, body, writer, "$", o.from);
    }
    let mut reader = Reader::new(Wire::Json, body);
    let first = reader.first()?;
    if first == Event::Map {
        return if names.is_empty() {
            one_map(writer, reader, body, o)
        } else {
            by_name(writer, reader, body, names, o)
        };
    }
    reader.finish()?;
    Err(not_params("$", &first, "; send an array or an object"))
}

pub(crate) fn not_params(path: &str, value: &Event<'_>, advice: &str) -> Fault {
    Fault::unadaptable(path, format!("{} cannot be the parameters of a call{advice}", value.kind()))
}

fn one_map(writer: &mut Writer, mut reader: Reader<'_>, body: &[u8], o: Options) -> Result<(), Fault> {
    let empty = reader.entry()?.is_none();
    positional(writer, body.len(), |writer| {
        if empty {
            reader.finish()?;
            let event = if o.empty == Empty::Map { Event::Map } else { Event::Array };
            push(writer, &event)?;
            return push(writer, &Event::End);
        }
        carry(Wire::Json, body, writer, "$", o.from)
    })
}

fn by_name(
    writer: &mut Writer,
    mut reader: Reader<'_>,
    body: &[u8],
    names: &[String],
    o: Options,
) -> Result<(), Fault> {
    let mut given = Named::new(names);
    while let Some(entry) = reader.entry()? {
        given.set(entry.name().unwrap_or_default(), entry.range.clone())?;
    }
    reader.finish()?;
    let values = given.in_order()?;
    positional(writer, body.len(), |writer| {
        for (name, range) in values {
            let mut root = "$".to_owned();
            path::push_key(&mut root, name);
            carry(Wire::Json, body.get(range).unwrap_or_default(), writer, &root, o.from)?;
        }
        Ok(())
    })
}

/// A list whose items `fill` writes, out of `len` bytes of text.
fn positional(
    writer: &mut Writer,
    len: usize,
    fill: impl FnOnce(&mut Writer) -> Result<(), Fault>,
) -> Result<(), Fault> {
    writer.reserve(room(Wire::Json, writer.wire(), len));
    push(writer, &Event::Array)?;
    fill(writer)?;
    push(writer, &Event::End)
}

/// Pushes an event of our own making, outside of any input.
fn push(writer: &mut Writer, event: &Event<'_>) -> Result<(), Fault> {
    writer.push(event).map_err(|refusal| refused("$", refusal))
}

fn refused(path: &str, refusal: Refusal) -> Fault {
    let reason = match refusal {
        Refusal::Because(reason) => reason,
        Refusal::Full(most) => return Fault::TooLong { most },
        Refusal::Object(target) => format!("a PHP object cannot become {target}"),
    };
    Fault::unadaptable(path, reason)
}

/// Values given by name, to be put in the order of the names.
struct Named<'n, T> {
    names: &'n [String],
    given: BTreeMap<usize, T>,
}

impl<'n, T> Named<'n, T> {
    fn new(names: &'n [String]) -> Self {
        Self { names, given: BTreeMap::new() }
    }

    fn set(&mut self, key: &str, value: T) -> Result<(), Fault> {
        let place = self.names.iter().position(|name| name == key).ok_or_else(|| {
            let mut path = "$".to_owned();
            path::push_key(&mut path, key);
            Fault::unadaptable(
                path,
                format!("no parameter of that name; there are: {}", self.names.join(", ")),
            )
        })?;
        self.given.insert(place, value);
        Ok(())
    }

    /// The values up to the last one given.
    fn in_order(self) -> Result<Vec<(&'n str, T)>, Fault> {
        let mut values = Vec::with_capacity(self.given.len());
        for (place, value) in self.given {
            let name = self.names.get(values.len()).map_or("", String::as_str);
            if place != values.len() {
                let last = self.names.get(place).map_or("", String::as_str);
                let all = self.names.join(", ");
                let reason =
                    format!("the parameter `{name}` is missing before `{last}`; the order is: {all}");
                return Err(Fault::unadaptable("$", reason));
            }
            values.push((name, value));
        }
        Ok(values)
    }
}

/// The JSON body for a provider that speaks JSON, out of a Yar caller's parameters.
///
/// A map, or a list of exactly one map, is that object; else the list; no bytes are `[]`.
///
/// # Errors
/// [`Fault::Malformed`] if `params` is not one value of `from`; [`Fault::Unadaptable`] if it is a
/// scalar or holds what JSON cannot say.
pub fn params_to_body(from: Wire, params: &[u8], o: Options) -> Result<Vec<u8>, Fault> {
    if params.is_empty() {
        return Ok(b"[]".to_vec());
    }
    match shape(from, params)? {
        Shape::Map(range, root) => {
            transcode(from, Wire::Json, params.get(range).unwrap_or_default(), root, o)
        }
        Shape::List => transcode(from, Wire::Json, params, "$.p", o),
    }
}

/// What a call's parameters are.
enum Shape {
    /// One map: where it stands in the parameters, and its path.
    Map(Range<usize>, &'static str),
    List,
}

fn shape(from: Wire, params: &[u8]) -> Result<Shape, Fault> {
    let mut reader = Reader::new(from, params);
    let first = reader.first()?;
    if first == Event::Map {
        let range = reader.skip(&first)?;
        reader.finish()?;
        return Ok(Shape::Map(range, "$.p"));
    }
    if first != Event::Array {
        return Err(not_params("$.p", &first, ""));
    }
    let Some((Event::Map, range)) = reader.item()? else { return Ok(Shape::List) };
    if reader.item()?.is_some() {
        return Ok(Shape::List);
    }
    reader.finish()?;
    Ok(Shape::Map(range, "$.p[0]"))
}
