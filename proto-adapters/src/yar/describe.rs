//! Messages as JSON for people.

use super::{HEAD, Header};
use crate::buffer::Buffer;
use crate::codec::{Reader, Wire};
use crate::event::{Event, Php, Refusal};
use crate::{Fault, number, path, text};

/// What a map's first key says of it where it is a tag.
const TAGS: [&str; 10] =
    ["$map", "$object", "$float", "$bin", "$number", "$ext", "$enum", "$reference", "$custom", "$escaped"];
/// What a key begins with that stands for bytes.
const BIN: &str = "$bin:";

/// One JSON object `{id, version, provider, token, packager, body}` that shows a message.
///
/// With `typed`, the body keeps every difference PHP makes: `{"$map":[[key,value],…]}`,
/// `{"$object":class,"props":[[key,value],…]}`, `{"$float":"3.0"}`, `{"$bin":"hex"}`,
/// `{"$ext":[type,"hex"]}`, `{"$number":"…"}` for a JSON number no type holds. Without, maps are
/// JSON objects, tags only stand for what JSON cannot say, and a key that looks like a tag is
/// `$bin:` with its bytes in hex. What only PHP's own format says is
/// `{"$enum":"Suit:Hearts"}`, `{"$reference":5}`, `{"$custom":class,"data":…}`,
/// and for a string with escapes `{"$escaped":"as written"}`.
///
/// # Errors
/// [`Fault::Malformed`] if the message is not well-formed; [`Fault::Unadaptable`] for a key that
/// is a list or a map, unless `typed`.
pub fn describe(message: &[u8], typed: bool) -> Result<String, Fault> {
    let header = Header::parse(message)?;
    let payload = message.get(HEAD..).unwrap_or_default();
    let wire = header.packager.wire();
    let mut shown = Describer { out: Buffer::default(), stack: Vec::new(), typed };
    shown.word(&format!("{{\"id\":{},\"version\":{},\"provider\":", header.id, header.version));
    shown.name(&header.provider);
    shown.word(",\"token\":");
    shown.name(&header.token);
    shown.word(&format!(",\"packager\":\"{}\",\"body\":", header.packager.name()));
    let mut reader = Reader::new(wire, payload);
    while let Some(event) = reader.pull()? {
        shown.push(&event).map_err(|refusal| path::explain(&reader, "$", refusal))?;
    }
    if wire == Wire::Json {
        reader.finish()?;
    }
    shown.word("}");
    Ok(String::from_utf8_lossy(shown.out.as_slice()).into_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    /// A map of which nothing is known yet: a first key of nil makes it an object.
    Fresh,
    Map,
    Object,
}

struct Frame {
    kind: Kind,
    /// Keys and values alike.
    items: usize,
}

struct Describer {
    out: Buffer,
    stack: Vec<Frame>,
    typed: bool,
}

impl Describer {
    fn word(&mut self, word: &str) {
        self.out.append(word.as_bytes());
    }

    fn name(&mut self, name: &[u8]) {
        match str::from_utf8(name) {
            Ok(_) => text::push_json_string(&mut self.out, name),
            Err(_) => self.bytes(name),
        }
    }

    fn push(&mut self, event: &Event<'_>) -> Result<(), Refusal> {
        if *event == Event::End {
            self.close();
            return Ok(());
        }
        let Some(Frame { kind, items }) = self.stack.last_mut() else {
            self.value(event);
            return Ok(());
        };
        let before = *items;
        *items += 1;
        if *kind == Kind::Fresh {
            *kind = if *event == Event::Null { Kind::Object } else { Kind::Map };
            let kind = *kind;
            self.begin(kind);
            if kind == Kind::Object {
                return Ok(());
            }
        }
        self.item(event, before)
    }

    /// The first bytes of a map, now that its first key is known.
    fn begin(&mut self, kind: Kind) {
        self.word(match (kind, self.typed) {
            (Kind::Object, _) => "{\"$object\":",
            (_, true) => "{\"$map\":[",
            (_, false) => "{",
        });
    }

    /// The item number `before` of the innermost container; an object's class is number 1.
    fn item(&mut self, event: &Event<'_>, before: usize) -> Result<(), Refusal> {
        let kind = self.stack.last().map_or(Kind::List, |frame| frame.kind);
        let first = before == if kind == Kind::Object { 2 } else { 0 };
        match kind {
            Kind::List => {
                self.word(if first { "" } else { "," });
                self.value(event);
            }
            Kind::Object if before == 1 => self.value(event),
            Kind::Fresh | Kind::Map | Kind::Object if before % 2 == 1 => {
                self.word(if self.typed { "," } else { ":" });
                self.value(event);
            }
            Kind::Fresh | Kind::Map | Kind::Object => {
                self.word(if first { "" } else { "," });
                return self.key(event, first);
            }
        }
        Ok(())
    }

    fn key(&mut self, event: &Event<'_>, first: bool) -> Result<(), Refusal> {
        if self.typed {
            self.word("[");
            self.value(event);
            return Ok(());
        }
        let key = match event {
            Event::Str(key) if key.starts_with(BIN) || (first && TAGS.contains(&key.as_ref())) => {
                format!("{BIN}{}", hex(key.as_bytes()))
            }
            Event::Str(key) => key.clone().into_owned(),
            Event::Int(key) => key.to_string(),
            Event::UInt(key) => key.to_string(),
            Event::Float(key) => php_float(*key),
            Event::Bool(key) => key.to_string(),
            Event::Beyond(key) => (*key).to_owned(),
            Event::Null => String::new(),
            Event::Bytes(bytes) | Event::Ext(_, bytes) => format!("{BIN}{}", hex(bytes)),
            Event::Array | Event::Map | Event::Php(_) | Event::End => {
                return Err(Refusal::because(format!("{} as a key cannot become JSON", event.kind())));
            }
        };
        text::push_json_string(&mut self.out, key.as_bytes());
        Ok(())
    }

    fn value(&mut self, event: &Event<'_>) {
        match event {
            Event::Null => self.word("null"),
            Event::Bool(value) => self.word(if *value { "true" } else { "false" }),
            Event::Int(value) => number::push_int(&mut self.out, *value),
            Event::UInt(value) => number::push_int(&mut self.out, *value),
            Event::Float(value) if self.typed || !value.is_finite() => {
                self.word(&format!("{{\"$float\":\"{}\"}}", php_float(*value)));
            }
            Event::Float(value) => number::push_json_float(&mut self.out, *value),
            Event::Beyond(number) if self.typed => self.word(&format!("{{\"$number\":\"{number}\"}}")),
            Event::Beyond(number) => self.word(number),
            Event::Str(value) => text::push_json_string(&mut self.out, value.as_bytes()),
            Event::Bytes(value) => self.bytes(value),
            Event::Ext(kind, value) => self.word(&format!("{{\"$ext\":[{kind},\"{}\"]}}", hex(value))),
            Event::Php(value) => self.php(*value),
            Event::Array => {
                self.word("[");
                self.stack.push(Frame { kind: Kind::List, items: 0 });
            }
            Event::Map => self.stack.push(Frame { kind: Kind::Fresh, items: 0 }),
            Event::End => {}
        }
        if !event.opens() {
            self.value_done();
        }
    }

    fn php(&mut self, value: Php<'_>) {
        match value {
            Php::Enum(case) => {
                self.word("{\"$enum\":");
                self.name(case);
            }
            Php::Reference(number) => self.word(&format!("{{\"$reference\":{number}")),
            Php::Escaped(raw) => {
                self.word("{\"$escaped\":");
                self.name(raw);
            }
            Php::Custom(class, data) => {
                self.word("{\"$custom\":");
                self.name(class);
                self.word(",\"data\":");
                self.name(data);
            }
        }
        self.word("}");
    }

    /// What has to follow a value that is now complete.
    fn value_done(&mut self) {
        let typed = self.typed;
        let after = match self.stack.last() {
            Some(Frame { kind: Kind::Object, items: 2 }) if typed => ",\"props\":[",
            Some(Frame { kind: Kind::Object, items: 2 }) => ",\"props\":{",
            Some(Frame { kind: Kind::Map | Kind::Object, items }) if typed && items % 2 == 0 => "]",
            _ => "",
        };
        self.word(after);
    }

    fn close(&mut self) {
        let kind = self.stack.pop().map_or(Kind::List, |frame| frame.kind);
        if kind == Kind::Fresh {
            self.begin(kind);
        }
        self.word(match (kind, self.typed) {
            (Kind::List, _) => "]",
            (_, true) => "]}",
            (Kind::Object, false) => "}}",
            (_, false) => "}",
        });
        self.value_done();
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(&format!("{{\"$bin\":\"{}\"}}", hex(bytes)));
    }
}

fn php_float(value: f64) -> String {
    let mut out = Buffer::default();
    number::push_php_float(&mut out, value);
    String::from_utf8_lossy(out.as_slice()).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    let mut out = Buffer::default();
    text::push_hex(&mut out, bytes);
    String::from_utf8_lossy(out.as_slice()).into_owned()
}
