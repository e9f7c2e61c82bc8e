//! PHP's `serialize` format, one event at a time.

use super::shape::Shapes;
use super::token::{Key, Token, Tokens};
use crate::event::{Event, Php, Sink, Source, Stop};
use crate::{Charset, Fault, MAX_DEPTH};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Map,
    Object,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// Entries still to come.
    left: u64,
    /// Whether a key was given whose value comes next.
    keyed: bool,
}

/// What is still to be said of an object that has just begun.
#[derive(Debug)]
enum Head<'a> {
    /// The nil that marks it, then its class, which stands at this offset.
    Mark(&'a [u8], usize),
    Class(&'a [u8], usize),
}

/// Pulls the events of one serialized value.
///
/// An object comes as a map whose first key is null and whose first value is the class, as
/// msgpack for PHP has it.
#[derive(Debug)]
pub struct Reader<'a> {
    tokens: Tokens<'a>,
    start: usize,
    stack: Vec<Frame>,
    shapes: Shapes,
    head: Option<Head<'a>>,
    begun: bool,
    charset: Charset,
    /// Whether strings are given as the bytes they are, text or not.
    bytewise: bool,
    /// Where text in another charset is put.
    spare: String,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self::in_charset(Charset::Utf8, input)
    }

    /// A reader whose strings are in this charset.
    pub fn in_charset(charset: Charset, input: &'a [u8]) -> Self {
        Self {
            tokens: Tokens::new(input),
            start: 0,
            stack: Vec::new(),
            shapes: Shapes::default(),
            head: None,
            begun: false,
            charset,
            bytewise: false,
            spare: String::new(),
        }
    }

    /// Gives strings as the bytes they are, text or not.
    pub(crate) fn bytewise(self) -> Self {
        Self { bytewise: true, ..self }
    }

    /// Offset of the first byte of the last event, in bytes.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Offset just behind the last event, in bytes.
    pub fn end(&self) -> usize {
        self.tokens.at
    }

    /// A reader at the beginning of the same input.
    pub fn rewound(&self) -> Self {
        Self::in_charset(self.charset, self.tokens.input())
    }

    /// The next event; `None` once the value is complete, whatever follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] where the input ends too early, claims more than it holds, is not of
    /// the format, or nests too deep.
    pub fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        self.next_event()
    }

    /// Checks that the value is complete and nothing follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] at the first byte behind the value.
    pub fn finish(self) -> Result<(), Fault> {
        let at = self.tokens.at;
        if !self.begun || !self.stack.is_empty() {
            return Err(Fault::malformed(at, "the input ends inside the value"));
        }
        match self.tokens.input().get(at) {
            Some(_) => Err(Fault::malformed(at, "bytes behind the value")),
            None => Ok(()),
        }
    }

    fn value<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        let event = match self.tokens.value()? {
            Token::Str(value) => return self.text(value, sink).map_err(Stop::Refused),
            Token::Null => Event::Null,
            Token::Bool(value) => Event::Bool(value),
            Token::Int(value) => Event::Int(value),
            Token::Float(value) => Event::Float(value),
            Token::Escaped(raw) => Event::Php(Php::Escaped(raw)),
            Token::Enum(case) => Event::Php(Php::Enum(case)),
            Token::Reference(number) => Event::Php(Php::Reference(number)),
            Token::Custom { class, data } => Event::Php(Php::Custom(class, data)),
            Token::Array(entries) => {
                self.check_depth()?;
                let list = self.shapes.is_list(&self.tokens, entries, self.stack.len());
                let (kind, event) = if list { (Kind::List, Event::Array) } else { (Kind::Map, Event::Map) };
                self.stack.push(Frame { kind, left: entries, keyed: false });
                event
            }
            Token::Object { class, at, properties } => {
                self.check_depth()?;
                self.stack.push(Frame { kind: Kind::Object, left: properties, keyed: false });
                self.head = Some(Head::Mark(class, at));
                Event::Map
            }
        };
        sink.take(event).map_err(Stop::Refused)
    }

    fn text<S: Sink<'a>>(&mut self, bytes: &'a [u8], sink: &mut S) -> Result<(), S::Refusal> {
        if self.bytewise {
            return sink.take(Event::Bytes(bytes));
        }
        self.charset.give(bytes, &mut self.spare, sink)
    }

    fn check_depth(&self) -> Result<(), Fault> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(Fault::malformed(self.start, format!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }

    fn object_head<S: Sink<'a>>(&mut self, head: Head<'a>, sink: &mut S) -> Result<(), S::Refusal> {
        match head {
            Head::Mark(class, at) => {
                // between the letter and the class, so that every event starts later than the one before
                self.start += 1;
                self.head = Some(Head::Class(class, at));
                sink.take(Event::Null)
            }
            Head::Class(class, at) => {
                self.start = at;
                self.text(class, sink)
            }
        }
    }
}

impl<'a> Source<'a> for Reader<'a> {
    fn step<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<bool, Stop<S::Refusal>> {
        if let Some(head) = self.head.take() {
            return self.object_head(head, sink).map(|()| true).map_err(Stop::Refused);
        }
        self.start = self.tokens.at;
        let Some(frame) = self.stack.last_mut() else {
            if self.begun {
                return Ok(false);
            }
            self.begun = true;
            return self.value(sink).map(|()| true);
        };
        if frame.keyed {
            frame.keyed = false;
            return self.value(sink).map(|()| true);
        }
        if frame.left == 0 {
            self.tokens.close()?;
            self.stack.pop();
            return sink.take(Event::End).map(|()| true).map_err(Stop::Refused);
        }
        frame.left -= 1;
        frame.keyed = frame.kind != Kind::List;
        let key = match frame.kind {
            Kind::List => {
                self.tokens.key()?;
                self.start = self.tokens.at;
                return self.value(sink).map(|()| true);
            }
            Kind::Map => self.tokens.key()?,
            Kind::Object => self.tokens.name()?,
        };
        match key {
            Key::Int(key) => sink.take(Event::Int(key)),
            Key::Str(key) => self.text(key, sink),
            Key::Escaped(raw) => sink.take(Event::Php(Php::Escaped(raw))),
        }
        .map(|()| true)
        .map_err(Stop::Refused)
    }
}
