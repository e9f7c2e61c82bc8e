//! Headers as they stand in a head: its bytes, where each line's parts are, and which of them say something here.
//!
//! A message has about seven, and most of them go on as they came: to find one by a look at each costs less than to
//! make a map of them.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

/// Headers in their order: those of a head as they were written, and behind them what was added.
#[derive(Clone, Default)]
pub struct Headers {
    /// The head they came in,
    head: Bytes,
    /// and lines that were added, as they are written.
    added: Vec<u8>,
    lines: Vec<Line>,
}

/// Where a line is, and the parts of it.
#[derive(Debug, Clone, Copy)]
struct Line {
    known: Known,
    is_added: bool,
    /// It stands there as it is written, behind its value a line's end.
    is_plain: bool,
    start: u32,
    /// Where the name ends, the value begins and it ends.
    name: u32,
    value: u32,
    end: u32,
}

/// A header that says something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Who calls.
    Caller,
    /// What stands for one connection.
    Connection,
    /// How many bytes the body has.
    ContentLength,
    /// When the answer was made.
    Date,
    /// How long the caller waits.
    Deadline,
    /// Whether the caller wants to be told to go on.
    Expect,
    /// Whether the caller wants to be told how its call went.
    Explain,
    /// Whom it goes to.
    Host,
    /// What its sender takes behind the body.
    Te,
    /// How the body is coded.
    TransferEncoding,
    /// Another that holds for one connection, is for this sidecar alone, or would pass for one that was checked.
    OneHop,
    /// All others.
    Other,
}

/// Behind a name, and behind a value.
const JOINT: &[u8] = b": ";
const END: &[u8] = b"\r\n";
/// Bytes that most of what is added to a head fits into.
const ROOM: usize = 128;

impl Headers {
    /// None yet; so many of so many bytes can be added at no cost.
    pub fn with_room(headers: usize, bytes: usize) -> Self {
        Self { head: Bytes::new(), added: Vec::with_capacity(bytes), lines: Vec::with_capacity(headers) }
    }

    /// Those that were found in these bytes, which are still to be given; `sees` is told each of them.
    pub(super) fn found(
        bytes: &[u8],
        found: &[httparse::Header<'_>],
        more: usize,
        mut sees: impl FnMut(Known, &[u8]),
    ) -> Self {
        let mut lines = Vec::with_capacity(found.len() + more);
        let at = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
        for one in found {
            let (name, start) = (one.name.as_bytes(), at(one.name.as_bytes()));
            let known = Known::of(name);
            sees(known, one.value);
            // an empty value may stand nowhere
            let value = if one.value.is_empty() { start + name.len() } else { at(one.value) };
            let (name, end) = (start + name.len(), value + one.value.len());
            let is_plain = bytes.get(name..value) == Some(JOINT) && bytes.get(end..end + 2) == Some(END);
            // a head has 64 KiB at most
            let [start, name, value, end] = [start, name, value, end].map(|at| at as u32);
            lines.push(Line { known, is_added: false, is_plain, start, name, value, end });
        }
        Self { head: Bytes::new(), added: Vec::new(), lines }
    }

    /// Gives the bytes in which they were found.
    pub(super) fn stand_in(&mut self, head: Bytes) {
        self.head = head;
    }

    /// Adds one behind the others. A control character in its value becomes a blank: a line break would begin another.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let (start, value) = (self.added.len(), value.as_ref());
        if self.added.is_empty() {
            self.added.reserve(ROOM);
        }
        line(&mut self.added, name.as_bytes(), value);
        let begins = start + name.len() + JOINT.len();
        let end = begins + value.len();
        let breaks = |byte: u8| !is_of_values(byte);
        // looked at without an end before the last byte, which is quicker
        if value.iter().fold(false, |any, byte| any | breaks(*byte)) {
            let value = self.added.get_mut(begins..end).unwrap_or_default();
            value.iter_mut().filter(|byte| breaks(**byte)).for_each(|byte| *byte = b' ');
        }
        // what is added to a head is short
        let [start, name_end, value, end] = [start, start + name.len(), begins, end].map(|at| at as u32);
        let known = Known::of(name.as_bytes());
        self.lines.push(Line { known, is_added: true, is_plain: true, start, name: name_end, value, end });
    }

    /// Puts one in the place of all of its name.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Takes all of this name away; whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.retain(|_, other| !other.eq_ignore_ascii_case(name.as_bytes()));
        self.lines.len() < before
    }

    /// Takes all away that are not wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(Known, &[u8]) -> bool) {
        let (head, added) = (&self.head, &self.added);
        self.lines.retain(|line| {
            let bytes = if line.is_added { &added[..] } else { head };
            is_wanted(line.known, bytes.get(line.name()).unwrap_or_default())
        });
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The same, where it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of this name.
    pub fn get_all<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        let all = self.lines.iter().filter(move |line| {
            let other = self.part(line, line.name());
            other.eq_ignore_ascii_case(name.as_bytes())
        });
        all.map(|line| self.part(line, line.value()))
    }

    /// All values of a known one.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.known().filter(move |(other, _)| *other == known).map(|(_, value)| value)
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (self.part(line, line.name()), self.part(line, line.value())))
    }

    /// Those that are known, with their values.
    pub fn known(&self) -> impl Iterator<Item = (Known, &[u8])> {
        let known = self.lines.iter().filter(|line| line.known != Known::Other);
        known.map(|line| (line.known, self.part(line, line.value())))
    }

    /// Writes those that pass.
    pub(super) fn write(&self, out: &mut Vec<u8>, mut passes: impl FnMut(Known) -> bool) {
        // those that stand behind each other are copied at once
        let (mut run, mut is_added) = (0..0, false);
        for line in self.lines.iter().filter(|line| passes(line.known)) {
            if line.is_plain && line.is_added == is_added && line.start as usize == run.end {
                run.end = line.whole().end;
                continue;
            }
            out.extend_from_slice(self.bytes(is_added).get(run).unwrap_or_default());
            (run, is_added) = (line.whole(), line.is_added);
            if !line.is_plain {
                run = 0..0;
                self::line(out, self.part(line, line.name()), self.part(line, line.value()));
            }
        }
        out.extend_from_slice(self.bytes(is_added).get(run).unwrap_or_default());
    }

    /// About as many bytes as they have on the wire.
    pub(super) fn size(&self) -> usize {
        self.head.len() + self.added.len()
    }

    fn bytes(&self, is_added: bool) -> &[u8] {
        if is_added { &self.added } else { &self.head }
    }

    fn part(&self, line: &Line, at: Range<usize>) -> &[u8] {
        self.bytes(line.is_added).get(at).unwrap_or_default()
    }
}

impl Line {
    fn whole(&self) -> Range<usize> {
        self.start as usize..self.end as usize + END.len()
    }

    fn name(&self) -> Range<usize> {
        self.start as usize..self.name as usize
    }

    fn value(&self) -> Range<usize> {
        self.value as usize..self.end as usize
    }
}

impl Known {
    /// Which one has this name.
    pub fn of(name: &[u8]) -> Self {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        let one_hop = |is: bool| if is { Self::OneHop } else { Self::Other };
        // few names are as long as one of these
        match name.len() {
            2 if is(b"te") => Self::Te,
            4 if is(b"host") => Self::Host,
            4 if is(b"date") => Self::Date,
            6 if is(b"expect") => Self::Expect,
            7 => one_hop(is(b"upgrade")),
            8 if is(b"x-caller") => Self::Caller,
            8 => one_hop(php_reads(b"x-caller", name)),
            9 => one_hop(php_reads(b"x-api-key", name)),
            10 if is(b"connection") => Self::Connection,
            10 => one_hop(is(b"keep-alive")),
            13 if is(b"x-deadline-ms") => Self::Deadline,
            14 if is(b"content-length") => Self::ContentLength,
            14 => one_hop(is(b"http2-settings")),
            16 if is(b"x-remora-explain") => Self::Explain,
            16 => one_hop(is(b"proxy-connection")),
            17 if is(b"transfer-encoding") => Self::TransferEncoding,
            18 => one_hop(is(b"proxy-authenticate")),
            19 => one_hop(is(b"proxy-authorization")),
            _ => Self::Other,
        }
    }

    /// Whether it stays behind: it holds for one connection, is for this sidecar alone, or would pass for one that was
    /// checked.
    pub fn is_one_hop(self) -> bool {
        let is_named = matches!(self, Self::Connection | Self::Expect | Self::Te | Self::TransferEncoding);
        is_named || matches!(self, Self::Explain | Self::OneHop)
    }
}

/// Writes one header.
pub(super) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, JOINT, value, END] {
        out.extend_from_slice(part);
    }
}

/// Whether a value may have this byte (RFC 9110, 5.5).
pub fn is_of_values(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether PHP takes a name for this one: with `_` and `.` in the places of `-`.
fn php_reads(ours: &[u8], name: &[u8]) -> bool {
    let is_like = |(ours, other): (&u8, &u8)| {
        *ours == other.to_ascii_lowercase() || (*ours == b'-' && matches!(other, b'_' | b'.'))
    };
    name.len() == ours.len() && ours.iter().zip(name).all(is_like)
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, _): (&[u8], _)| name.escape_ascii().to_string();
        // values may be keys
        f.debug_list().entries(self.iter().map(shown)).finish()
    }
}

#[cfg(test)]
mod tests;
