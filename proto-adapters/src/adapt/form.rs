//! Parameters out of a form or the query of a URL, read as PHP fills `$_POST` and `$_GET`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use super::{Named, positional, push, refused};
use crate::codec::{Wire, Writer};
use crate::event::{Event, Options};
use crate::{Fault, path, php, text};

/// Most fields of a form, as PHP's `max_input_vars`; PHP leaves out the rest.
const FIELDS_MAX: usize = 1000;
/// Most brackets behind a name, as PHP's `max_input_nesting_level`.
const BRACKETS_MAX: usize = 64;
/// Longest name shown in a message, in characters.
const NAME_SHOWN: usize = 64;

/// The parameters of a call out of an HTTP caller's form: the bytes of an
/// `application/x-www-form-urlencoded` body, or of a query.
///
/// Every value is a string, `a[]=1` and `a[k]=2` make lists and maps, and of a name that comes
/// twice the later one counts. Blanks before a name are not part of it, and `a[ ]` is `a[]`; unlike
/// in PHP other blanks and dots in a name stay. Names of parameters apply as in a body's object;
/// without them the form is one map parameter, and an empty form no parameters.
///
/// # Errors
/// [`Fault::Malformed`] for more than 1000 fields, and for names that are empty, hold a NUL, are not
/// UTF-8, have brackets that do not match, or more than 64 of them; [`Fault::Unadaptable`] for names
/// that are not in `names`, a name left out before one given, and values that are not UTF-8 where
/// they must be.
pub fn form_to_params(form: &[u8], to: Wire, names: &[String], o: Options) -> Result<Vec<u8>, Fault> {
    let mut writer = Writer::new(to, o);
    form_into(&mut writer, form, names)?;
    Ok(writer.finish())
}

/// The same where they belong.
///
/// # Errors
/// As [`form_to_params`].
pub fn form_into(writer: &mut Writer, form: &[u8], names: &[String]) -> Result<(), Fault> {
    let pairs = pairs(form)?;
    let fields = group(pairs.iter().map(Row::of).collect())?;
    if names.is_empty() {
        let none = fields.is_empty();
        return positional(writer, form.len(), |writer| if none { Ok(()) } else { one_map(writer, fields) });
    }
    let mut given = Named::new(names);
    for (key, field) in fields {
        given.set(&key.text(), (key, field))?;
    }
    let values = given.in_order()?;
    positional(writer, form.len(), |writer| {
        values.into_iter().try_for_each(|(_, (key, field))| write(writer, field, &mut vec![key]))
    })
}

/// One `name=value`, decoded.
struct Pair {
    /// Where it begins in the form.
    at: usize,
    name: String,
    value: Vec<u8>,
}

/// A pair on its way to its place.
struct Row<'f> {
    at: usize,
    /// What of its name is still to be followed: `name[k][]`, then `[k][]`, then `[]`.
    rest: &'f str,
    value: &'f [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'f> {
    Int(i64),
    Text(&'f str),
}

/// What stands under one key.
enum Field<'f> {
    Text(&'f [u8]),
    Rows(Vec<Row<'f>>),
}

fn pairs(form: &[u8]) -> Result<Vec<Pair>, Fault> {
    let mut pairs = Vec::new();
    let mut behind = 0;
    for pair in form.split(|byte| *byte == b'&') {
        let at = behind;
        behind += pair.len() + 1;
        if pair.is_empty() {
            continue;
        }
        if pairs.len() == FIELDS_MAX {
            return Err(Fault::malformed(at, format!("more than {FIELDS_MAX} fields; send them as JSON")));
        }
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(end) => (pair.get(..end), pair.get(end + 1..)),
            None => (Some(pair), None),
        };
        let mut name = decode(name.unwrap_or_default());
        let blanks = name.iter().take_while(|byte| **byte == b' ').count();
        name.drain(..blanks);
        let name = String::from_utf8(name).map_err(|bad| {
            let shown = text::shorten(&bad.as_bytes().escape_ascii().to_string(), NAME_SHOWN);
            Fault::malformed(at, format!("the name \"{shown}\" is not UTF-8"))
        })?;
        check(&name).map_err(|reason| wrong(at, &name, reason))?;
        pairs.push(Pair { at, name, value: decode(value.unwrap_or_default()) });
    }
    Ok(pairs)
}

fn wrong(at: usize, name: &str, reason: impl Display) -> Fault {
    Fault::malformed(at, format!("the name \"{}\" {reason}", text::shorten(name, NAME_SHOWN)))
}

/// Whether PHP would take the name as it is: one with only well-formed brackets behind it, not too many.
fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty, and PHP would leave the field out".to_owned());
    }
    if name.contains('\0') {
        return Err("holds a NUL, where PHP would cut it".to_owned());
    }
    let (name, mut rest) = name.split_at(name.find('[').unwrap_or(name.len()));
    let mut brackets = 0;
    while !rest.is_empty() {
        let inside = rest.strip_prefix('[').and_then(|inside| inside.split_once(']'));
        let Some((_, behind)) = inside.filter(|_| !name.is_empty()) else {
            return Err("has brackets that do not match; write them as in a[k][]".to_owned());
        };
        rest = behind;
        brackets += 1;
    }
    if brackets > BRACKETS_MAX { Err(format!("has more than {BRACKETS_MAX} brackets")) } else { Ok(()) }
}

impl<'f> Row<'f> {
    fn of(pair: &'f Pair) -> Self {
        Self { at: pair.at, rest: &pair.name, value: &pair.value }
    }

    /// Takes the next key off the name; `None` for `[]`, and with one blank in it as PHP has it.
    fn step(&mut self) -> Option<Key<'f>> {
        let inside = self.rest.strip_prefix('[').and_then(|inside| inside.split_once(']'));
        let (key, behind) =
            inside.unwrap_or_else(|| self.rest.split_at(self.rest.find('[').unwrap_or(self.rest.len())));
        self.rest = behind;
        let blank = matches!(key.as_bytes(), [] | [b' ' | b'\t'..=b'\r']);
        (inside.is_none() || !blank).then(|| Key::new(key))
    }
}

/// One level: the fields in the order in which their keys came first.
fn group(rows: Vec<Row<'_>>) -> Result<Vec<(Key<'_>, Field<'_>)>, Fault> {
    let mut fields: Vec<(Key<'_>, Field<'_>)> = Vec::new();
    let mut places = BTreeMap::new();
    let mut next = Some(0);
    for mut row in rows {
        let whole = row.rest;
        let key = row.step().or(next.map(Key::Int));
        let key = key.ok_or_else(|| wrong(row.at, whole, "comes behind the largest integer"))?;
        if let Key::Int(taken) = key
            && next.is_some_and(|next| taken >= next)
        {
            next = taken.checked_add(1);
        }
        let field = if row.rest.is_empty() { Field::Text(row.value) } else { Field::Rows(vec![row]) };
        let place = *places.entry(key).or_insert(fields.len());
        match (fields.get_mut(place), field) {
            (Some((_, Field::Rows(rows))), Field::Rows(more)) => rows.extend(more),
            (Some((_, known)), field) => *known = field,
            (None, field) => fields.push((key, field)),
        }
    }
    Ok(fields)
}

impl<'f> Key<'f> {
    /// As PHP takes it: text like `7` is an integer.
    fn new(text: &'f str) -> Self {
        php::integer_key(text.as_bytes()).map_or(Self::Text(text), Self::Int)
    }

    fn text(self) -> Cow<'f, str> {
        match self {
            Self::Int(key) => Cow::Owned(key.to_string()),
            Self::Text(key) => Cow::Borrowed(key),
        }
    }

    fn event(self) -> Event<'f> {
        match self {
            Self::Int(key) => Event::Int(key),
            Self::Text(key) => Event::Str(key.into()),
        }
    }
}

fn one_map(writer: &mut Writer, fields: Vec<(Key<'_>, Field<'_>)>) -> Result<(), Fault> {
    push(writer, &Event::Map)?;
    for (key, field) in fields {
        push(writer, &key.event())?;
        write(writer, field, &mut vec![key])?;
    }
    push(writer, &Event::End)
}

/// Writes a field, which stands at `path`.
fn write<'f>(writer: &mut Writer, field: Field<'f>, path: &mut Vec<Key<'f>>) -> Result<(), Fault> {
    let fields = match field {
        Field::Text(value) => {
            let event = str::from_utf8(value).map_or(Event::Bytes(value), |text| Event::Str(text.into()));
            return put(writer, &event, path);
        }
        Field::Rows(rows) => group(rows)?,
    };
    let list = (0..).zip(&fields).all(|(index, (key, _))| *key == Key::Int(index));
    put(writer, if list { &Event::Array } else { &Event::Map }, path)?;
    for (key, field) in fields {
        path.push(key);
        if !list {
            put(writer, &key.event(), path)?;
        }
        write(writer, field, path)?;
        path.pop();
    }
    put(writer, &Event::End, path)
}

fn put(writer: &mut Writer, event: &Event<'_>, path: &[Key<'_>]) -> Result<(), Fault> {
    writer.push(event).map_err(|refusal| refused(&shown(path), refusal))
}

fn shown(path: &[Key<'_>]) -> String {
    let mut shown = "$".to_owned();
    for key in path {
        match key {
            Key::Int(key) => shown.push_str(&format!("[{key}]")),
            Key::Text(key) => path::push_key(&mut shown, key),
        }
    }
    shown
}

/// Undoes percent encoding and `+`; a `%` without two hex digits stays, as in PHP.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = behind;
                }
                _ => out.push(b'%'),
            },
            _ => out.push(byte),
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
