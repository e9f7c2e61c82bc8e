//! Headers as they stand in a head: their text, and where its parts are.
//!
//! A message has about seven, and most of them go on as they came: to find one by a look at each costs less than to
//! make a map of them.

use std::fmt;
use std::ops::Range;

/// Headers in their order, names in lower case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Lines as they are written, `name: value` each with its end, one behind the other.
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// Where in the text a line begins, its value does, and it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    start: u32,
    value: u32,
    end: u32,
}

/// Behind a name, and behind a value.
const JOINT: &[u8] = b": ";
const END: &[u8] = b"\r\n";

impl Headers {
    /// None yet; so many headers of so many bytes can be added at no cost.
    pub fn with_room(headers: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), lines: Vec::with_capacity(headers) }
    }

    /// Adds one behind the others. A line break in its value becomes a blank, as it would begin another header.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let (value, line) = (value.as_ref(), self.text.len());
        self.push_checked(name, value);
        let value = line + name.len() + JOINT.len()..self.text.len() - END.len();
        let breaks = |byte: &&mut u8| matches!(**byte, b'\r' | b'\n' | b'\0');
        let value = self.text.get_mut(value).unwrap_or_default();
        value.iter_mut().filter(breaks).for_each(|byte| *byte = b' ');
    }

    /// The same of a value that has no line break.
    pub(super) fn push_checked(&mut self, name: &str, value: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        self.text.get_mut(start..).unwrap_or_default().make_ascii_lowercase();
        self.text.extend_from_slice(JOINT);
        let begins = self.text.len();
        for part in [value, END] {
            self.text.extend_from_slice(part);
        }
        // a head has 64 KiB at most, and what is added to it is short
        self.lines.push(Line { start: start as u32, value: begins as u32, end: self.text.len() as u32 });
    }

    /// Puts one in the place of all of its name.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Takes all of this name, in lower case, away; whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.retain(|other| other != name.as_bytes());
        self.lines.len() < before
    }

    /// Takes all away whose names are not wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&[u8]) -> bool) {
        let text = &self.text;
        self.lines.retain(|line| is_wanted(text.get(line.name()).unwrap_or_default()));
    }

    /// The first value of this name, in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The same, where it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of this name, in lower case.
    pub fn get_all<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.iter().filter(move |(other, _)| *other == name.as_bytes()).map(|(_, value)| value)
    }

    /// Whether there is one of this name, in lower case.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines().map(|(name, value, _)| (name, value))
    }

    /// Names, values, and the lines as they are written.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
        self.lines.iter().map(|line| {
            let part = |at: Range<usize>| self.text.get(at).unwrap_or_default();
            (part(line.name()), part(line.value()), part(line.whole()))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// As many bytes as they have on the wire, or more.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }
}

impl Line {
    fn whole(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    fn name(self) -> Range<usize> {
        self.start as usize..self.value as usize - JOINT.len()
    }

    fn value(self) -> Range<usize> {
        self.value as usize..self.end as usize - END.len()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, _): (&[u8], _)| name.escape_ascii().to_string();
        // values may be keys
        f.debug_list().entries(self.iter().map(shown)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        given.iter().for_each(|(name, value)| headers.push(name, value));
        headers
    }

    fn shown(headers: &Headers) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        headers.lines().map(|(_, _, line)| text(line)).collect()
    }

    #[test]
    fn all_stay_in_their_order_with_names_in_lower_case() {
        let headers = made(&[("X-B", "1"), ("Host", "a:80"), ("x-b", "Two"), ("x-empty", "")]);
        assert_eq!(shown(&headers), ["x-b: 1\r\n", "host: a:80\r\n", "x-b: Two\r\n", "x-empty: \r\n"]);
        assert_eq!(headers.get_all("x-b").collect::<Vec<_>>(), [&b"1"[..], b"Two"]);
        assert_eq!((headers.text("host"), headers.get("x-empty")), (Some("a:80"), Some(&b""[..])));
        assert_eq!((headers.get("x"), headers.has("x-b"), headers.len()), (None, true, 4));
    }

    #[test]
    fn one_that_is_set_stands_alone_and_behind_the_others() {
        let mut headers = made(&[("x-b", "1"), ("host", "a"), ("x-b", "2")]);
        headers.set("x-b", "3");
        assert_eq!(shown(&headers), ["host: a\r\n", "x-b: 3\r\n"]);
        assert!(headers.remove("host") && !headers.remove("host"));
        headers.retain(|name| name != b"x-b");
        assert!(headers.is_empty() && shown(&headers).is_empty());
    }

    #[test]
    fn no_value_begins_another_header() {
        let headers = made(&[("x-a", "1\r\nx-b: 2\n\0"), ("x-c", "3")]);
        assert_eq!(shown(&headers), ["x-a: 1  x-b: 2  \r\n", "x-c: 3\r\n"]);
    }

    #[test]
    fn values_are_not_shown_where_somebody_debugs() {
        assert_eq!(format!("{:?}", made(&[("x-api-key", "secret")])), "[\"x-api-key\"]");
    }
}
