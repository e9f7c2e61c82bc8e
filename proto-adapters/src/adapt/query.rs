//! A Yar caller's parameters as the query of a URL.

use super::{Shape, shape};
use crate::Fault;
use crate::buffer::Buffer;
use crate::codec::{Reader, Wire};
use crate::event::{Event, Refusal};
use crate::{number, path};

/// Longest query written, in bytes: nested values repeat their keys, so a small message could
/// ask for an endless one.
const QUERY_MAX: usize = 64 * 1024;

/// The query for a provider that is called with GET, written as PHP's `http_build_query` does:
/// `a[0]=1&a[k]=v`, true is 1, false is 0, null is left out. Parameters take the names in order;
/// one map parameter brings its own keys.
///
/// # Errors
/// [`Fault::Malformed`] if `params` is not one value of `from`; [`Fault::Unadaptable`] if there
/// are more parameters than names, a value has no text, or the query would pass 64 KiB.
pub fn params_to_query(from: Wire, params: &[u8], names: &[String]) -> Result<String, Fault> {
    if params.is_empty() {
        return Ok(String::new());
    }
    let (value, root, names) = match shape(from, params)? {
        Shape::Map(range, root) => (params.get(range).unwrap_or_default(), root, None),
        Shape::List => (params, "$.p", Some(names)),
    };
    let mut reader = Reader::new(from, value);
    let mut builder = Builder { out: String::new(), stack: Vec::new(), key: String::new(), names };
    while let Some(event) = reader.pull()? {
        builder.push(&event).map_err(|refusal| path::explain(&reader, root, refusal))?;
    }
    reader.finish()?;
    Ok(builder.out)
}

struct Level {
    map: bool,
    /// Keys and values alike.
    items: usize,
    /// Length of the key that everything in this container begins with.
    prefix: usize,
}

/// Writes pairs, holding the key of the value at hand in its encoded form.
struct Builder<'n> {
    out: String,
    stack: Vec<Level>,
    key: String,
    /// What the items of the outermost list are called; `None` if it is a map.
    names: Option<&'n [String]>,
}

impl Builder<'_> {
    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        if *event == Event::End {
            self.stack.pop();
            return Ok(());
        }
        let outermost = self.stack.len() == 1;
        if let Some(Level { map, items, prefix }) = self.stack.last_mut() {
            let item = *items;
            *items += 1;
            if !*map || item % 2 == 0 {
                self.key.truncate(*prefix);
            }
            match (*map, outermost) {
                (true, _) if item % 2 == 0 => return self.map_key(event, item == 0),
                (true, _) => {}
                (false, true) => self.name(item)?,
                (false, false) => self.push_key(item.to_string().as_bytes()),
            }
        }
        self.value(event)
    }

    fn map_key(&mut self, event: &Event<'_>, first: bool) -> Result<(), Refusal> {
        match event {
            Event::Str(key) => self.push_key(key.as_bytes()),
            Event::Bytes(key) => self.push_key(key),
            Event::Int(key) => self.push_key(key.to_string().as_bytes()),
            Event::UInt(key) => self.push_key(key.to_string().as_bytes()),
            Event::Null if first => return Err(Refusal::Object("a query")),
            Event::Null
            | Event::Bool(_)
            | Event::Float(_)
            | Event::Beyond(_)
            | Event::Ext(..)
            | Event::Php(_)
            | Event::Array
            | Event::Map
            | Event::End => {
                return Err(Refusal::because(format!("{} as a key cannot become a query", event.kind())));
            }
        }
        Ok(())
    }

    /// Appends a key: bare in the outermost container, in brackets below.
    fn push_key(&mut self, key: &[u8]) {
        let nested = self.stack.len() > 1;
        self.key.push_str(if nested { "%5B" } else { "" });
        encode(&mut self.key, key);
        self.key.push_str(if nested { "%5D" } else { "" });
    }

    fn name(&mut self, item: usize) -> Result<(), Refusal> {
        let names = self.names.unwrap_or_default();
        let name = names.get(item).ok_or_else(|| {
            Refusal::because(format!("more parameters than the {} with a name", names.len()))
        })?;
        encode(&mut self.key, name.as_bytes());
        Ok(())
    }

    fn value(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        match event {
            Event::Null | Event::End => Ok(()),
            Event::Array | Event::Map => {
                self.stack.push(Level { map: *event == Event::Map, items: 0, prefix: self.key.len() });
                Ok(())
            }
            Event::Bool(value) => self.pair(if *value { b"1" } else { b"0" }),
            Event::Int(value) => self.pair(value.to_string().as_bytes()),
            Event::UInt(value) => self.pair(value.to_string().as_bytes()),
            Event::Float(value) if value.is_finite() => {
                let mut text = Buffer::default();
                number::push_php_number(&mut text, *value);
                self.pair(text.as_slice())
            }
            Event::Float(value) => {
                Err(Refusal::because(format!("the float {value} cannot become part of a query")))
            }
            Event::Beyond(number) => self.pair(number.as_bytes()),
            Event::Str(value) => self.pair(value.as_bytes()),
            Event::Bytes(value) => self.pair(value),
            Event::Ext(..) | Event::Php(_) => {
                Err(Refusal::because(format!("{} cannot become part of a query", event.kind())))
            }
        }
    }

    fn pair(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let too_long = || Refusal::because(format!("the query would pass {QUERY_MAX} bytes"));
        if self.out.len() + self.key.len() + value.len() > QUERY_MAX {
            return Err(too_long());
        }
        if !self.out.is_empty() {
            self.out.push('&');
        }
        self.out.push_str(&self.key);
        self.out.push('=');
        encode(&mut self.out, value);
        // encoding may have tripled the value
        if self.out.len() > QUERY_MAX { Err(too_long()) } else { Ok(()) }
    }
}

/// Appends `bytes` percent-encoded, with `+` for a space.
fn encode(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}
