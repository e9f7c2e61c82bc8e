//! Random values, with the edges where codecs go wrong.

use std::collections::BTreeSet;

use super::dice::Random;
use super::value::{Key, Value};

/// Deepest nesting that is made.
const DEPTH: u32 = 6;

const INTS: [i64; 16] = [
    0,
    -1,
    -32,
    -33,
    127,
    128,
    -128,
    255,
    32767,
    65535,
    i32::MIN as i64,
    i32::MAX as i64,
    u32::MAX as i64,
    1 << 53,
    i64::MIN,
    i64::MAX,
];

const FLOATS: [f64; 22] = [
    0.0,
    -0.0,
    3.0,
    0.1,
    1.0 / 3.0,
    1e-4,
    1e-5,
    1.5e-7,
    1e15,
    123_456_789_012_345_680.0,
    1e16,
    1e17,
    1e18,
    1e22,
    1e23,
    1e25,
    5e-324,
    f64::MIN_POSITIVE,
    f64::MAX,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

const PIECES: [&str; 18] = [
    "a", "Z", "0", " ", "\"", "'", "\\", "/", "\0", "\n", "\u{1f}", "\u{7f}", "é", "你", "😀", "\u{2028}",
    "};", "s:1:\"",
];

const KEYS: [&str; 16] = [
    "",
    "0",
    "1",
    "7",
    "-3",
    "-0",
    "08",
    "+1",
    "1.5",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551617",
    "k",
    "\0*\0k",
];

impl Random {
    pub(crate) fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth < DEPTH { 16 } else { 11 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2..=4 => Value::Int(self.int()),
            5..=7 => Value::Float(self.float()),
            8..=10 => Value::Str(self.text()),
            11..=13 => Value::Array(self.list(depth)),
            _ => Value::Array(self.map(depth)),
        }
    }

    fn int(&mut self) -> i64 {
        match self.below(3) {
            0 => self.one_of(&INTS),
            1 => self.one_of(&INTS).wrapping_add(self.below(5) as i64 - 2),
            _ => (self.next() >> self.below(64)).cast_signed(),
        }
    }

    fn float(&mut self) -> f64 {
        match self.below(5) {
            0 => self.one_of(&FLOATS),
            1 => f64::from_bits(self.next()),
            2 => self.int() as f64,
            // often exactly between two spellings
            3 => (self.next() >> 13) as f64 / 4.0,
            _ => (self.int() >> 20) as f64 / 10_f64.powi(self.below(8) as i32),
        }
    }

    fn text(&mut self) -> Vec<u8> {
        let pieces = match self.below(200) {
            0 => 300 + self.below(70_000),
            1..=20 => 20 + self.below(20),
            _ => self.below(12),
        };
        let plain = self.below(2) == 0;
        let mut text = Vec::new();
        for _ in 0..pieces {
            let piece = if plain { self.one_of(&PIECES[..4]) } else { self.one_of(&PIECES) };
            text.extend_from_slice(piece.as_bytes());
        }
        if self.below(20) == 0 {
            text.push(0x80 | self.below(128) as u8);
        }
        text
    }

    fn size(&mut self) -> u64 {
        match self.below(400) {
            0 => 1000 + self.below(66_000),
            1..=20 => 8 + self.below(12),
            _ => self.below(5),
        }
    }

    fn list(&mut self, depth: u32) -> Vec<(Key, Value)> {
        let size = self.size();
        // a long list of long lists would never end
        let depth = if size > 30 { DEPTH } else { depth + 1 };
        let value = |index| (Key::Int(index), if size > 30 { Value::Int(index) } else { self.value(depth) });
        (0..size.cast_signed()).map(value).collect()
    }

    fn map(&mut self, depth: u32) -> Vec<(Key, Value)> {
        let (mut seen, mut entries) = (BTreeSet::new(), Vec::new());
        for _ in 0..self.size().min(40) {
            let key = self.key();
            if seen.insert(key.clone()) {
                entries.push((key, self.value(depth + 1)));
            }
        }
        entries
    }

    fn key(&mut self) -> Key {
        match self.below(5) {
            0 => Key::Int(self.int()),
            1 => Key::Int(self.below(4).cast_signed()),
            2 | 3 => Key::of(self.one_of(&KEYS).as_bytes()),
            _ => Key::of(&self.text()),
        }
    }
}
