//! Single tokens of the format, without any nesting.

use crate::Fault;
use crate::text;

use super::integer_key;

/// Fewest bytes of an entry: `i:0;N;`.
const ENTRY: u64 = 6;

/// A value, or the beginning of one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a [u8]),
    /// A string with escapes (`S:1:"\41";`), as it is written between its quotes.
    Escaped(&'a [u8]),
    /// An array of so many entries begins.
    Array(u64),
    /// An object of this class, whose name stands at `at`, with so many properties, begins.
    Object {
        class: &'a [u8],
        at: usize,
        properties: u64,
    },
    /// Class and case, like `Suit:Hearts`.
    Enum(&'a [u8]),
    /// The number of the value that is meant.
    Reference(u64),
    /// An object that packed itself.
    Custom {
        class: &'a [u8],
        data: &'a [u8],
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Int(i64),
    Str(&'a [u8]),
    /// As [`Token::Escaped`].
    Escaped(&'a [u8]),
}

/// A place in the input.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    input: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    pub(super) fn input(&self) -> &'a [u8] {
        self.input
    }

    /// Reads a scalar, or what an array or object begins with.
    pub(super) fn value(&mut self) -> Result<Token<'a>, Fault> {
        let kind = self.peek();
        if let Some(b'N') = kind {
            return self.expect(b"N;").map(|()| Token::Null);
        }
        let (Some(kind), Some(b':')) = (kind, self.input.get(self.at + 1)) else {
            return Err(self.unexpected("a value"));
        };
        let start = self.at;
        self.at += 2;
        match kind {
            b'b' => self.boolean(),
            b'i' => self.integer().map(Token::Int),
            b'd' => self.float(),
            b's' => self.string().map(Token::Str),
            b'a' => self.count("array").map(Token::Array),
            b'O' => self.object(),
            b'C' => self.custom(),
            b'E' => self.string().map(Token::Enum),
            b'r' | b'R' => self.reference(),
            b'S' => {
                let raw = self.escaped()?;
                Ok(if raw.contains(&b'\\') { Token::Escaped(raw) } else { Token::Str(raw) })
            }
            _ => {
                self.at = start;
                Err(self.unexpected("a value"))
            }
        }
    }

    /// Reads the key of an array's entry, as PHP takes it: text like `7` is an integer.
    pub(super) fn key(&mut self) -> Result<Key<'a>, Fault> {
        Ok(match self.name()? {
            Key::Str(text) => integer_key(text).map_or(Key::Str(text), Key::Int),
            key @ (Key::Int(_) | Key::Escaped(_)) => key,
        })
    }

    /// Reads the name of a property.
    pub(super) fn name(&mut self) -> Result<Key<'a>, Fault> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        if rest.starts_with(b"i:") {
            self.at += 2;
            return self.integer().map(Key::Int);
        }
        if rest.starts_with(b"s:") {
            self.at += 2;
            return self.string().map(Key::Str);
        }
        if rest.starts_with(b"S:") {
            self.at += 2;
            let raw = self.escaped()?;
            return Ok(if raw.contains(&b'\\') { Key::Escaped(raw) } else { Key::Str(raw) });
        }
        Err(self.unexpected("a key"))
    }

    /// Reads the end of an array or object.
    pub(super) fn close(&mut self) -> Result<(), Fault> {
        self.expect(b"}")
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let reason = match self.peek() {
            Some(byte) => format!("'{}' where {wanted} belongs", byte.escape_ascii()),
            None => format!("the input ends where {wanted} belongs"),
        };
        Fault::malformed(self.at, reason)
    }

    fn expect(&mut self, word: &[u8]) -> Result<(), Fault> {
        for byte in word {
            if self.peek() != Some(*byte) {
                return Err(self.unexpected(&format!("'{}'", char::from(*byte))));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn boolean(&mut self) -> Result<Token<'a>, Fault> {
        let value = match self.peek() {
            Some(b'0') => false,
            Some(b'1') => true,
            _ => return Err(self.unexpected("0 or 1")),
        };
        self.at += 1;
        self.expect(b";")?;
        Ok(Token::Bool(value))
    }

    fn integer(&mut self) -> Result<i64, Fault> {
        let start = self.at;
        let digits = self.run(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+'));
        let value = digits.parse().map_err(|_| self.bad_number(start, digits, "an integer of 64 bits"))?;
        self.expect(b";")?;
        Ok(value)
    }

    fn float(&mut self) -> Result<Token<'a>, Fault> {
        let start = self.at;
        let digits = self.run(|byte| {
            matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E' | b'N' | b'A' | b'I' | b'F')
        });
        let value = match digits {
            "NAN" => f64::NAN,
            "INF" => f64::INFINITY,
            "-INF" => f64::NEG_INFINITY,
            _ => match digits.parse::<f64>() {
                Ok(value) if value.is_finite() => value,
                _ => return Err(self.bad_number(start, digits, "a float of 64 bits")),
            },
        };
        self.expect(b";")?;
        Ok(Token::Float(value))
    }

    fn bad_number(&self, start: usize, digits: &str, wanted: &str) -> Fault {
        if digits.is_empty() {
            return self.unexpected(wanted);
        }
        Fault::malformed(start, format!("{} where {wanted} belongs", text::shorten(digits, 40)))
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len());
        self.at += len;
        str::from_utf8(rest.get(..len).unwrap_or_default()).unwrap_or_default()
    }

    fn number(&mut self) -> Result<u64, Fault> {
        let start = self.at;
        let digits = self.run(|byte| byte.is_ascii_digit());
        digits.parse().map_err(|_| self.bad_number(start, digits, "a count"))
    }

    /// Reads `3:` and a string of so many bytes in its quotes.
    fn quoted(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.number()?;
        self.expect(b":\"")?;
        let bytes = self.take(len)?;
        self.expect(b"\"")?;
        Ok(bytes)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|len| rest.get(..len))
            .ok_or_else(|| Fault::malformed(self.at, format!("{len} bytes wanted, {} left", rest.len())))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], Fault> {
        let bytes = self.quoted()?;
        self.expect(b";")?;
        Ok(bytes)
    }

    /// Reads a string whose length counts `\41` as one byte; what is between its quotes comes as it is written.
    fn escaped(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.number()?;
        self.expect(b":\"")?;
        let start = self.at;
        for _ in 0..len {
            match self.input.get(self.at..).unwrap_or_default() {
                [b'\\', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => self.at += 3,
                [b'\\', ..] => return Err(self.unexpected("an escape such as \\41")),
                [_, ..] => self.at += 1,
                [] => return Err(self.unexpected("a byte of the string")),
            }
        }
        let raw = self.input.get(start..self.at).unwrap_or_default();
        self.expect(b"\";")?;
        Ok(raw)
    }

    /// Reads `2:{`; a count of more entries than the input can hold is never believed.
    fn count(&mut self, what: &str) -> Result<u64, Fault> {
        let start = self.at;
        let count = self.number()?;
        self.expect(b":{")?;
        let left = self.input.len().saturating_sub(self.at) as u64;
        if count.saturating_mul(ENTRY) > left {
            let reason = format!("an {what} of {count} entries, cut short after {left} bytes");
            return Err(Fault::malformed(start, reason));
        }
        Ok(count)
    }

    fn object(&mut self) -> Result<Token<'a>, Fault> {
        let class = self.quoted()?;
        let at = self.at.saturating_sub(class.len() + 2);
        self.expect(b":")?;
        Ok(Token::Object { class, at, properties: self.count("object")? })
    }

    fn custom(&mut self) -> Result<Token<'a>, Fault> {
        let class = self.quoted()?;
        self.expect(b":")?;
        let len = self.number()?;
        self.expect(b":{")?;
        let data = self.take(len)?;
        self.close()?;
        Ok(Token::Custom { class, data })
    }

    fn reference(&mut self) -> Result<Token<'a>, Fault> {
        let number = self.number()?;
        self.expect(b";")?;
        Ok(Token::Reference(number))
    }
}
