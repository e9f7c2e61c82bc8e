//! JSON text, one event at a time.

use std::borrow::Cow;

use super::number::{self, Number, long};
use super::open::Open;
use crate::event::{Event, Sink, Source, Stop, skip_rest};
use crate::{Fault, MAX_DEPTH, text};

/// Room for what follows the first escape of a string, in bytes.
const FIRST: usize = 64;

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    FirstItem,
    FirstKey,
    Next,
    Done,
}

/// Pulls the events of one JSON value out of a text.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    /// What of it is not read yet.
    rest: &'a [u8],
    start: usize,
    open: Open,
    state: State,
    /// Whether strings without escapes are given as the bytes they are.
    bytewise: bool,
    /// The input, if it is text; unless nobody has looked yet.
    text: Option<Option<&'a str>>,
    /// Where text with escapes is put together.
    spare: String,
    /// Most lists and maps in each other.
    most: usize,
}

/// A string, as far as it is read.
enum Text<'a> {
    Bytes(&'a [u8]),
    Str(&'a str),
    /// It is in `spare`.
    Unescaped,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            rest: input,
            start: 0,
            open: Open::default(),
            state: State::Value,
            bytewise: false,
            text: None,
            spare: String::new(),
            most: MAX_DEPTH,
        }
    }

    /// Refuses more than so many lists and maps in each other.
    pub(crate) fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Gives strings as the bytes they are, unless they have escapes; if the input is text as a whole.
    pub(crate) fn bytewise(mut self) -> Self {
        self.bytewise = self.is_text();
        self
    }

    fn is_text(&mut self) -> bool {
        self.text.get_or_insert_with(|| str::from_utf8(self.input).ok()).is_some()
    }

    /// Offset of the first byte of the last event, in bytes.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Offset just behind the last event, in bytes.
    pub fn end(&self) -> usize {
        self.input.len() - self.rest.len()
    }

    /// A reader at the beginning of the same input.
    pub fn rewound(&self) -> Self {
        Self::new(self.input)
    }

    /// The next event; `None` once the value is complete, whatever follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] at the first byte that is not JSON, or nests too deep.
    pub fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        self.next_event()
    }

    /// Reads to the end of the list or map that began last, whose strings are looked at all at once.
    pub(crate) fn skip_rest(&mut self) -> Result<(), Fault> {
        let is_text = self.is_text();
        let bytewise = std::mem::replace(&mut self.bytewise, is_text);
        let skipped = skip_rest(self);
        self.bytewise = bytewise;
        skipped
    }

    /// Checks that the value is complete and nothing but white space follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] at the first byte behind the value.
    pub fn finish(mut self) -> Result<(), Fault> {
        self.skip_space();
        match self.rest {
            [] if self.state == State::Done => Ok(()),
            [] => Err(self.fault("the text ends inside the value")),
            _ => Err(self.fault("bytes behind the value")),
        }
    }

    fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault::malformed(self.end(), reason)
    }

    #[cold]
    fn unexpected(&self, wanted: &str) -> Fault {
        match self.rest {
            [byte, ..] => self.fault(format!("'{}' where {wanted} belongs", byte.escape_ascii())),
            [] => self.fault(format!("the text ends where {wanted} belongs")),
        }
    }

    #[inline(always)]
    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    #[inline(always)]
    fn skip_space(&mut self) {
        let mut rest = self.rest;
        while let [b' ' | b'\t' | b'\n' | b'\r', behind @ ..] = rest {
            rest = behind;
        }
        self.rest = rest;
    }

    /// Steps over white space to where the next event begins; gives its first byte.
    #[inline(always)]
    fn begin(&mut self) -> Option<u8> {
        self.skip_space();
        self.start = self.end();
        self.rest.first().copied()
    }

    fn close<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<bool, Stop<S::Refusal>> {
        self.advance(1);
        self.open.pop();
        self.value_done();
        sink.take(Event::End).map_err(Stop::Refused)?;
        Ok(true)
    }

    #[inline(always)]
    fn value_done(&mut self) {
        self.state = if self.open.depth == 0 { State::Done } else { State::Next };
    }

    #[inline(always)]
    fn key<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        let [b'"', rest @ ..] = self.rest else { return Err(self.unexpected("a key").into()) };
        let plain = self.string(rest)?;
        if !matches!(self.rest, [b':', ..]) {
            self.skip_space();
        }
        let [b':', rest @ ..] = self.rest else { return Err(self.unexpected("':'").into()) };
        self.rest = rest;
        self.state = State::Value;
        self.give(plain, sink)
    }

    /// A value, or its beginning.
    #[inline(always)]
    fn value<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        match self.rest {
            [b'"', rest @ ..] => {
                let plain = self.string(rest)?;
                self.value_done();
                self.give(plain, sink)
            }
            [b'-' | b'0'..=b'9', ..] => {
                let read = number::read(self.rest);
                let (Ok((_, rest)) | Err(rest)) = read;
                self.rest = rest;
                let Ok((number, _)) = read else { return Err(self.unexpected("a digit").into()) };
                self.value_done();
                match number {
                    Number::Int(value) => sink.take(Event::Int(value)),
                    Number::Float(value) => sink.take(Event::Float(value)),
                    Number::Long(text) => sink.take(long(text)),
                }
                .map_err(Stop::Refused)
            }
            [b'[', ..] => self.open(false, sink),
            [b'{', ..] => self.open(true, sink),
            [b't', b'r', b'u', b'e', rest @ ..] => self.word(rest, Event::Bool(true), sink),
            [b'f', b'a', b'l', b's', b'e', rest @ ..] => self.word(rest, Event::Bool(false), sink),
            [b'n', b'u', b'l', b'l', rest @ ..] => self.word(rest, Event::Null, sink),
            _ => Err(self.unexpected("a value").into()),
        }
    }

    #[inline(always)]
    fn word<S: Sink<'a>>(
        &mut self,
        rest: &'a [u8],
        word: Event<'a>,
        sink: &mut S,
    ) -> Result<(), Stop<S::Refusal>> {
        self.rest = rest;
        self.value_done();
        sink.take(word).map_err(Stop::Refused)
    }

    fn open<S: Sink<'a>>(&mut self, map: bool, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        if self.open.depth >= self.most {
            return Err(self.fault(format!("nested deeper than {}", self.most)).into());
        }
        self.advance(1);
        self.open.push(map);
        self.state = if map { State::FirstKey } else { State::FirstItem };
        sink.take(if map { Event::Map } else { Event::Array }).map_err(Stop::Refused)
    }

    /// Reads a string behind its opening quote; escapes in it are resolved in `spare`.
    #[inline(always)]
    fn string(&mut self, text: &'a [u8]) -> Result<Text<'a>, Fault> {
        self.rest = text;
        let (plain, behind) = text.split_at(text::plain(text));
        let begun = if self.bytewise { Text::Bytes(plain) } else { Text::Str(self.text(plain)?) };
        let [b'"', behind @ ..] = behind else { return self.escaped(plain, behind) };
        self.rest = behind;
        Ok(begun)
    }

    /// The bytes at hand as text.
    #[inline]
    fn text(&self, bytes: &'a [u8]) -> Result<&'a str, Fault> {
        let at = self.end();
        match self.text.flatten().and_then(|text| text.get(at..at + bytes.len())) {
            Some(text) => Ok(text),
            None => str::from_utf8(bytes)
                .map_err(|broken| Fault::malformed(at + broken.valid_up_to(), "not UTF-8")),
        }
    }

    #[inline(always)]
    fn give<S: Sink<'a>>(&mut self, text: Text<'a>, sink: &mut S) -> Result<(), Stop<S::Refusal>> {
        let taken = match text {
            Text::Bytes(text) => sink.take(Event::Bytes(text)),
            Text::Str(text) => sink.take(Event::Str(Cow::Borrowed(text))),
            Text::Unescaped => sink.take_text(&mut self.spare),
        };
        taken.map_err(Stop::Refused)
    }

    /// Reads on in a string that has escapes; what is at hand begins with `begun`.
    fn escaped(&mut self, begun: &'a [u8], behind: &'a [u8]) -> Result<Text<'a>, Fault> {
        self.spare.clear();
        self.spare.reserve(begun.len() + FIRST);
        self.spare.push_str(self.text(begun)?);
        self.rest = behind;
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Ok(Text::Unescaped);
                }
                [b'\\', ..] => {
                    let escaped = self.escape()?;
                    self.spare.push(escaped);
                }
                [..0x20, ..] => return Err(self.fault("a raw control character in a string")),
                [] => return Err(self.fault("the text ends inside a string")),
                text => {
                    let (plain, behind) = text.split_at(text::plain(text));
                    self.spare.push_str(self.text(plain)?);
                    self.rest = behind;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let from = self.end();
        self.advance(1);
        let plain = match self.rest {
            [byte @ (b'"' | b'\\' | b'/'), ..] => char::from(*byte),
            [b'n', ..] => '\n',
            [b'r', ..] => '\r',
            [b't', ..] => '\t',
            [b'b', ..] => '\u{8}',
            [b'f', ..] => '\u{c}',
            [b'u', ..] => return self.unicode(from),
            _ => return Err(self.unexpected("an escape")),
        };
        self.advance(1);
        Ok(plain)
    }

    fn unicode(&mut self, from: usize) -> Result<char, Fault> {
        let lone = || Fault::malformed(from, "a lone surrogate");
        let mut code = self.hex4()?;
        if let 0xd800..0xdc00 = code {
            if !self.rest.starts_with(b"\\u") {
                return Err(lone());
            }
            self.advance(1);
            let low = self.hex4()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(lone());
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).ok_or_else(lone)
    }

    /// The four digits behind the `u` at hand.
    fn hex4(&mut self) -> Result<u32, Fault> {
        self.advance(1);
        let (mut code, mut rest) = (0, self.rest);
        for _ in 0..4 {
            let digit = rest.first().and_then(|byte| char::from(*byte).to_digit(16));
            let (Some(digit), [_, behind @ ..]) = (digit, rest) else {
                self.rest = rest;
                return Err(self.unexpected("a hex digit"));
            };
            (code, rest) = (code << 4 | digit, behind);
        }
        self.rest = rest;
        Ok(code)
    }
}

impl<'a> Source<'a> for Reader<'a> {
    #[inline(always)]
    fn step<S: Sink<'a>>(&mut self, sink: &mut S) -> Result<bool, Stop<S::Refusal>> {
        if self.state == State::Done {
            return Ok(false);
        }
        let next = self.begin();
        let mut is_key = match (self.state, next) {
            (State::Next, Some(b',')) => {
                self.advance(1);
                self.begin();
                self.open.in_map
            }
            (State::Next, Some(b'}')) if self.open.in_map => return self.close(sink),
            (State::Next, Some(b']')) if !self.open.in_map => return self.close(sink),
            (State::Next, _) if self.open.in_map => return Err(self.unexpected("',' or '}'").into()),
            (State::Next | State::Done, _) => return Err(self.unexpected("',' or ']'").into()),
            (State::FirstItem, Some(b']')) | (State::FirstKey, Some(b'}')) => return self.close(sink),
            (State::FirstKey, _) => true,
            (State::Value | State::FirstItem, _) => false,
        };
        loop {
            if is_key {
                self.key(sink)?;
                if !S::TAKES_MORE {
                    return Ok(true);
                }
                self.begin();
            }
            self.value(sink)?;
            // mostly a comma follows; found by the next step, as one behind a blank is, a text costs a twentieth more
            let (true, State::Next, [b',', rest @ ..]) = (S::TAKES_MORE, self.state, self.rest) else {
                return Ok(true);
            };
            self.rest = rest;
            self.begin();
            is_key = self.open.in_map;
        }
    }
}
