//! Numbers as JSON and PHP spell them.

use std::iter::repeat_n;

/// Appends an integer in decimal.
pub(crate) fn push_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The float that a number is; `None` for one beyond all floats, and for one that would become 0.
pub(crate) fn read_float(text: &str) -> Option<f64> {
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
    if value != 0.0 {
        return Some(value);
    }
    let digits = text.split(['e', 'E']).next().unwrap_or_default();
    (!digits.contains(|c: char| matches!(c, '1'..='9'))).then_some(value)
}

/// Appends the shortest text that reads back as the same float and stays one: `3.0`, `1e25`. JSON
/// has none for NaN and infinities.
pub(crate) fn push_json_float(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    if !text.contains('e') {
        return out.extend_from_slice(text.as_bytes());
    }
    let decimal = Decimal::new(value);
    let (first, rest) = decimal.split(1);
    out.extend_from_slice(decimal.sign());
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    out.push(b'e');
    push_int(out, decimal.exponent);
}

/// Appends a float as PHP's `var_export` spells it: `3.0`, `1.0E+25`, `NAN`.
pub(crate) fn push_php_float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"NAN");
    }
    let decimal = Decimal::new(value);
    if value.is_infinite() {
        out.extend_from_slice(decimal.sign());
        return out.extend_from_slice(b"INF");
    }
    if (-4..17).contains(&decimal.exponent) {
        return decimal.push_plain(out);
    }
    let (first, rest) = decimal.split(1);
    out.extend_from_slice(decimal.sign());
    out.extend_from_slice(first);
    out.push(b'.');
    out.extend_from_slice(if rest.is_empty() { b"0" } else { rest });
    out.extend_from_slice(if decimal.exponent < 0 { b"E" } else { b"E+" });
    push_int(out, decimal.exponent);
}

/// A whole float without its `.0`, any other as it is: what `serialize` and query strings want.
pub(crate) fn push_php_number(out: &mut Vec<u8>, value: f64) {
    push_php_float(out, value);
    if out.ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
}

/// Longest run of digits that tells floats apart.
const DIGITS: usize = 17;

/// The fewest digits that read back as the same float; of two that are equally near the even one,
/// as PHP has it.
struct Decimal {
    negative: bool,
    digits: [u8; DIGITS],
    len: usize,
    /// Of ten, for the first digit.
    exponent: i32,
}

impl Decimal {
    fn new(value: f64) -> Self {
        let mut decimal =
            Self { negative: value.is_sign_negative(), digits: [b'0'; DIGITS], len: 0, exponent: 0 };
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format(value.abs());
        let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let point = digits.find('.').unwrap_or(digits.len());
        let mut before = 0;
        for digit in digits.bytes().filter(u8::is_ascii_digit) {
            if decimal.len == 0 && digit == b'0' {
                before += 1;
            } else if let Some(place) = decimal.digits.get_mut(decimal.len) {
                *place = digit;
                decimal.len += 1;
            }
        }
        if decimal.len == 0 {
            decimal.len = 1;
            return decimal;
        }
        decimal.exponent = exponent.parse().unwrap_or(0) + point as i32 - before - 1;
        while decimal.len > 1 && decimal.digits.get(decimal.len - 1) == Some(&b'0') {
            decimal.len -= 1;
        }
        decimal
    }

    fn sign(&self) -> &'static [u8] {
        if self.negative { b"-" } else { b"" }
    }

    /// The digits before and behind a place; no more than there are.
    fn split(&self, at: usize) -> (&[u8], &[u8]) {
        let digits = self.digits.get(..self.len).unwrap_or_default();
        digits.split_at(at.min(self.len))
    }

    /// Appends it without an exponent.
    fn push_plain(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.sign());
        let whole = usize::try_from(self.exponent + 1).unwrap_or_default();
        let (before, after) = self.split(whole);
        if before.is_empty() {
            out.push(b'0');
        }
        out.extend_from_slice(before);
        out.extend(repeat_n(b'0', whole - before.len()));
        out.push(b'.');
        out.extend(repeat_n(b'0', usize::try_from(-self.exponent - 1).unwrap_or_default()));
        out.extend_from_slice(if after.is_empty() { b"0" } else { after });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(push: impl Fn(&mut Vec<u8>, f64), value: f64) -> String {
        let mut out = Vec::new();
        push(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_spelled_as_php_spells_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (3.0, "3.0"),
            (-12.5, "-12.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.000_123_4, "0.0001234"),
            (1e-5, "1.0E-5"),
            (1.5e-7, "1.5E-7"),
            (1e15, "1000000000000000.0"),
            (1e16, "10000000000000000.0"),
            (8.072_813_342_780_278e16, "80728133427802780.0"),
            (1e17, "1.0E+17"),
            (1.234_567_890_123_456_8e17, "1.2345678901234568E+17"),
            (1e100, "1.0E+100"),
            (5e-324, "5.0E-324"),
            // exactly between two: the even one
            (8_855_332_885_884_505.0 / 4.0, "2213833221471126.2"),
            (8_855_332_885_884_507.0 / 4.0, "2213833221471126.8"),
            (f64::NEG_INFINITY, "-INF"),
            (f64::NAN, "NAN"),
        ] {
            assert_eq!(spelled(push_php_float, value), text);
        }
    }

    #[test]
    fn floats_are_the_shortest_json_that_reads_back() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (0.00001, "0.00001"),
            (0.0000015, "1.5e-6"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e16"),
            (1e25, "1e25"),
            (-1.5e-300, "-1.5e-300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e308"),
        ] {
            assert_eq!(spelled(push_json_float, value), text);
        }
    }
}
