//! Values as PHP holds them, and what our codecs make of them.

use std::borrow::Cow;

use proto_adapters::codec::{Reader, Writer};
use proto_adapters::event::Event;
use proto_adapters::{Options, Wire};

/// A value as PHP holds it: an array's keys are unique, and no text that is an integer.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Vec<u8>),
    Array(Vec<(Key, Value)>),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Int(i64),
    Str(Vec<u8>),
}

impl PartialEq for Value {
    /// Tells -0.0 from 0.0; NaN is NaN.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            _ => false,
        }
    }
}

impl Key {
    /// As PHP takes it.
    pub(crate) fn of(text: &[u8]) -> Self {
        let number = str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        match number.filter(|number| number.to_string().as_bytes() == text) {
            Some(number) => Self::Int(number),
            None => Self::Str(text.to_vec()),
        }
    }
}

fn text(bytes: &[u8]) -> Event<'_> {
    match str::from_utf8(bytes) {
        Ok(text) => Event::Str(Cow::Borrowed(text)),
        Err(_) => Event::Bytes(bytes),
    }
}

pub(crate) fn is_list(entries: &[(Key, Value)]) -> bool {
    (0..).zip(entries).all(|(index, (key, _))| *key == Key::Int(index))
}

fn events<'a>(value: &'a Value, out: &mut Vec<Event<'a>>) {
    match value {
        Value::Null => out.push(Event::Null),
        Value::Bool(value) => out.push(Event::Bool(*value)),
        Value::Int(value) => out.push(Event::Int(*value)),
        Value::Float(value) => out.push(Event::Float(*value)),
        Value::Str(value) => out.push(text(value)),
        Value::Array(entries) => {
            let list = is_list(entries);
            out.push(if list { Event::Array } else { Event::Map });
            for (key, value) in entries {
                match key {
                    _ if list => {}
                    Key::Int(key) => out.push(Event::Int(*key)),
                    Key::Str(key) => out.push(text(key)),
                }
                events(value, out);
            }
            out.push(Event::End);
        }
    }
}

/// What our writer makes of a value; `None` where it refuses.
pub(crate) fn written(wire: Wire, value: &Value) -> Option<Vec<u8>> {
    let mut steps = Vec::new();
    events(value, &mut steps);
    let mut writer = Writer::new(wire, Options::default());
    for event in &steps {
        writer.push(event).ok()?;
    }
    Some(writer.finish())
}

/// What our reader takes these bytes for.
pub(crate) fn read(wire: Wire, bytes: &[u8]) -> Value {
    let mut reader = Reader::new(wire, bytes);
    let first = reader.pull().unwrap().unwrap();
    let value = read_on(&mut reader, first);
    assert_eq!(reader.pull(), Ok(None));
    reader.finish().unwrap();
    value
}

fn read_on(reader: &mut Reader<'_>, first: Event<'_>) -> Value {
    match first {
        Event::Null => Value::Null,
        Event::Bool(value) => Value::Bool(value),
        Event::Int(value) => Value::Int(value),
        Event::Float(value) => Value::Float(value),
        Event::Str(value) => Value::Str(value.as_bytes().to_vec()),
        Event::Bytes(value) => Value::Str(value.to_vec()),
        Event::Array | Event::Map => {
            let (map, mut entries) = (first == Event::Map, Vec::new());
            loop {
                let next = reader.pull().unwrap().unwrap();
                if next == Event::End {
                    return Value::Array(entries);
                }
                let (key, value) = if map {
                    let key = match read_on(reader, next) {
                        Value::Int(key) => Key::Int(key),
                        Value::Str(key) => Key::of(&key),
                        other @ (Value::Null | Value::Bool(_) | Value::Float(_) | Value::Array(_)) => {
                            panic!("{other:?} as a key")
                        }
                    };
                    (key, reader.pull().unwrap().unwrap())
                } else {
                    (Key::Int(i64::try_from(entries.len()).unwrap()), next)
                };
                entries.push((key, read_on(reader, value)));
            }
        }
        Event::UInt(_) | Event::Beyond(_) | Event::Ext(..) | Event::Php(_) | Event::End => {
            panic!("{first:?} in a value of PHP's")
        }
    }
}
