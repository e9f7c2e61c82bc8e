//! JSON text, one event at a time.

use std::borrow::Cow;

use crate::event::Event;
use crate::{Fault, MAX_DEPTH, charset, number, text};

/// Room for what follows the first escape of a string, in bytes.
const FIRST: usize = 64;

/// Bytes that are looked at together for whether they are UTF-8, at least.
const AHEAD: usize = 4 << 10;

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
    /// A part of it, as far as that is UTF-8: strings are parts of that, and need not be looked at one by one.
    text: &'a str,
    /// Where that part begins.
    text_at: usize,
    at: usize,
    start: usize,
    open: Open,
    state: State,
    /// Where text with escapes is put together, once it was given back.
    spare: String,
    /// Most lists and maps in each other.
    most: usize,
}

/// Of each open container whether it is a map: a bit.
#[derive(Debug, Default)]
struct Open {
    maps: [u64; MAX_DEPTH.div_ceil(64)],
    depth: usize,
    /// Whether the innermost one is a map.
    in_map: bool,
}

impl Open {
    fn push(&mut self, map: bool) {
        let bit = 1 << (self.depth % 64);
        if let Some(word) = self.maps.get_mut(self.depth / 64) {
            *word = if map { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
        self.in_map = map;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        let top = self.depth.wrapping_sub(1);
        self.in_map = self.maps.get(top / 64).is_some_and(|word| word >> (top % 64) & 1 == 1);
    }
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            text: "",
            text_at: 0,
            at: 0,
            start: 0,
            open: Open::default(),
            state: State::Value,
            spare: String::new(),
            most: MAX_DEPTH,
        }
    }

    /// Refuses more than so many lists and maps in each other.
    pub(crate) fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Offset of the first byte of the last event, in bytes.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Offset just behind the last event, in bytes.
    pub fn end(&self) -> usize {
        self.at
    }

    /// A reader at the beginning of the same input.
    pub fn rewound(&self) -> Self {
        Self::new(self.input)
    }

    /// The next event; `None` once the value is complete, whatever follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] at the first byte that is not JSON, or nests too deep.
    #[inline(always)]
    pub fn pull(&mut self) -> Result<Option<Event<'a>>, Fault> {
        if self.state == State::Done {
            return Ok(None);
        }
        let next = self.skip_space();
        self.start = self.at;
        let event = match (self.state, next) {
            (State::Next, Some(b',')) => {
                self.at += 1;
                let next = self.skip_space();
                self.start = self.at;
                if self.open.in_map { self.key(next)? } else { self.value(next)? }
            }
            (State::Next, Some(b'}')) if self.open.in_map => self.close(),
            (State::Next, Some(b']')) if !self.open.in_map => self.close(),
            (State::Next, _) if self.open.in_map => return Err(self.unexpected("',' or '}'")),
            (State::Next | State::Done, _) => return Err(self.unexpected("',' or ']'")),
            (State::FirstItem, Some(b']')) | (State::FirstKey, Some(b'}')) => self.close(),
            (State::FirstKey, _) => self.key(next)?,
            (State::Value | State::FirstItem, _) => self.value(next)?,
        };
        Ok(Some(event))
    }

    /// Takes an event back that is no longer needed, so that its memory serves again.
    #[inline]
    pub fn reuse(&mut self, event: Event<'a>) {
        charset::reuse(event, &mut self.spare);
    }

    /// Checks that the value is complete and nothing but white space follows it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] at the first byte behind the value.
    pub fn finish(mut self) -> Result<(), Fault> {
        self.skip_space();
        match self.peek() {
            None if self.state == State::Done => Ok(()),
            None => Err(self.fault("the text ends inside the value")),
            Some(_) => Err(self.fault("bytes behind the value")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault::malformed(self.at, reason)
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        match self.peek() {
            Some(byte) => self.fault(format!("'{}' where {wanted} belongs", byte.escape_ascii())),
            None => self.fault(format!("the text ends where {wanted} belongs")),
        }
    }

    /// Steps over white space; gives what follows it.
    #[inline]
    fn skip_space(&mut self) -> Option<u8> {
        loop {
            let next = self.peek();
            let Some(b' ' | b'\t' | b'\n' | b'\r') = next else { return next };
            self.at += 1;
        }
    }

    fn close(&mut self) -> Event<'a> {
        self.at += 1;
        self.open.pop();
        self.value_done();
        Event::End
    }

    fn value_done(&mut self) {
        self.state = if self.open.depth == 0 { State::Done } else { State::Next };
    }

    /// A key, whose first byte is at hand.
    #[inline(always)]
    fn key(&mut self, first: Option<u8>) -> Result<Event<'a>, Fault> {
        if first != Some(b'"') {
            return Err(self.unexpected("a key"));
        }
        let key = self.string()?;
        if self.skip_space() != Some(b':') {
            return Err(self.unexpected("':'"));
        }
        self.at += 1;
        self.state = State::Value;
        Ok(Event::Str(key))
    }

    /// A value, or its beginning, whose first byte is at hand.
    #[inline(always)]
    fn value(&mut self, first: Option<u8>) -> Result<Event<'a>, Fault> {
        let event = match first {
            Some(b'[') => return self.open(false),
            Some(b'{') => return self.open(true),
            Some(b'"') => Event::Str(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true", Event::Bool(true))?,
            Some(b'f') => self.word(b"false", Event::Bool(false))?,
            Some(b'n') => self.word(b"null", Event::Null)?,
            _ => return Err(self.unexpected("a value")),
        };
        self.value_done();
        Ok(event)
    }

    fn open(&mut self, map: bool) -> Result<Event<'a>, Fault> {
        if self.open.depth >= self.most {
            return Err(self.fault(format!("nested deeper than {}", self.most)));
        }
        self.at += 1;
        self.open.push(map);
        self.state = if map { State::FirstKey } else { State::FirstItem };
        Ok(if map { Event::Map } else { Event::Array })
    }

    fn word(&mut self, word: &[u8], event: Event<'a>) -> Result<Event<'a>, Fault> {
        if !self.input.get(self.at..).unwrap_or_default().starts_with(word) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(event)
    }

    fn number(&mut self) -> Result<Event<'a>, Fault> {
        let from = self.at;
        let negative = self.peek() == Some(b'-');
        let first = from + usize::from(negative);
        self.at = first;
        let mut value = 0_i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit & 15));
            self.at += 1;
        }
        if self.at == first {
            return Err(self.unexpected("a digit"));
        }
        if self.input.get(first) == Some(&b'0') {
            // no digit follows it
            (self.at, value) = (first + 1, 0);
        }
        match self.peek() {
            Some(b'.' | b'e' | b'E') => self.float(from),
            _ if self.at - first < 19 => Ok(Event::Int(if negative { -value } else { value })),
            _ => self.text(from, self.at).map(long),
        }
    }

    /// Reads on behind the digits of a number that has a fraction or an exponent.
    fn float(&mut self, from: usize) -> Result<Event<'a>, Fault> {
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.text(from, self.at)?;
        Ok(number::read_float(text).map_or(Event::Beyond(text), Event::Float))
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Fault> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == from { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    /// Reads the string whose opening quote is at hand; borrows it unless it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.at += 1;
        let plain = self.plain()?;
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        self.escaped(plain).map(Cow::Owned)
    }

    /// Text up to a quote, a backslash or what may not stand there.
    #[inline(always)]
    fn plain(&mut self) -> Result<&'a str, Fault> {
        let from = self.at;
        let end = from + text::plain(self.input.get(from..).unwrap_or_default());
        let plain = self.text(from, end)?;
        self.at = end;
        Ok(plain)
    }

    /// What stands from one place to another, later than what was asked for before.
    #[inline(always)]
    fn text(&mut self, from: usize, end: usize) -> Result<&'a str, Fault> {
        match self.text.get(from - self.text_at..end - self.text_at) {
            Some(text) => Ok(text),
            None => self.text_from(from, end),
        }
    }

    /// The same where it is not all in the part that is known to be UTF-8, which goes on from there.
    #[cold]
    fn text_from(&mut self, from: usize, end: usize) -> Result<&'a str, Fault> {
        let part = from..end.max(from + AHEAD).min(self.input.len());
        self.text = text::beginning(self.input.get(part).unwrap_or_default());
        self.text_at = from;
        let bad = || Fault::malformed(from + self.text.len(), "not UTF-8");
        self.text.get(..end - from).ok_or_else(bad)
    }

    /// Reads on in a string that has escapes; `begun` is what stands before the first one.
    fn escaped(&mut self, begun: &str) -> Result<String, Fault> {
        let mut text = std::mem::take(&mut self.spare);
        text.reserve(begun.len() + FIRST);
        text.push_str(begun);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(..0x20) => return Err(self.fault("a raw control character in a string")),
                Some(_) => text.push_str(self.plain()?),
                None => return Err(self.fault("the text ends inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let from = self.at;
        self.at += 1;
        let plain = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'u') => return self.unicode(from),
            _ => return Err(self.unexpected("an escape")),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode(&mut self, from: usize) -> Result<char, Fault> {
        let mut code = self.hex4()?;
        if let 0xd800..0xdc00 = code {
            let pair = self.input.get(self.at..).unwrap_or_default().starts_with(b"\\u");
            if !pair {
                return Err(Fault::malformed(from, "a lone surrogate"));
            }
            self.at += 1;
            let low = self.hex4()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(Fault::malformed(from, "a lone surrogate"));
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).ok_or_else(|| Fault::malformed(from, "a lone surrogate"))
    }

    /// The four digits behind the `u` at hand.
    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.unexpected("a hex digit"))?;
        }
        self.at += 1;
        Ok(code)
    }
}

/// An integer of so many digits that it may have more than 64 bits.
fn long(text: &str) -> Event<'_> {
    let signed = text.parse().map(Event::Int);
    signed.or_else(|_| text.parse().map(Event::UInt)).unwrap_or(Event::Beyond(text))
}
