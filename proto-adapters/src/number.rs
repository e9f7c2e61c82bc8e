//! Numbers as JSON and PHP spell them.

use std::iter::repeat_n;

use crate::buffer::Buffer;

/// Appends an integer in decimal.
pub(crate) fn push_int(out: &mut Buffer, value: impl itoa::Integer) {
    out.append(itoa::Buffer::new().format(value).as_bytes());
}

/// Powers of ten that floats hold exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// `value` times a power of ten, where floats hold both, so that it is rounded once, as it is by whoever reads the
/// digits.
pub(crate) fn exact_float(value: u64, exponent: i64) -> Option<f64> {
    if value > 1 << f64::MANTISSA_DIGITS {
        return None;
    }
    let ten = TENS.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
    Some(if exponent < 0 { value as f64 / ten } else { value as f64 * ten })
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
pub(crate) fn push_json_float(out: &mut Buffer, value: f64) {
    if let Some(thousandths) = thousandths(value) {
        return push_thousandths(out, value.is_sign_negative(), thousandths);
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    if !text.as_bytes().contains(&b'e') {
        return out.append(text.as_bytes());
    }
    let decimal = Decimal::new(value);
    let (first, rest) = decimal.split(1);
    out.append(decimal.sign());
    out.append(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.append(rest);
    }
    out.push(b'e');
    push_int(out, decimal.exponent);
}

/// How many thousandths a float is, as prices and places are, if so many read back as the same one. Of fewer than 16
/// digits no others do, so these are the shortest.
fn thousandths(value: f64) -> Option<u64> {
    let value = value.abs();
    let thousandths = (value * 1e3 + 0.5) as u64;
    (thousandths < 1_000_000_000_000_000 && thousandths as f64 / 1e3 == value).then_some(thousandths)
}

fn push_thousandths(out: &mut Buffer, negative: bool, thousandths: u64) {
    let mut whole = itoa::Buffer::new();
    let whole = whole.format(thousandths / 1000).as_bytes();
    let digit = |by: u64| b'0' + (thousandths / by % 10) as u8;
    let [a, b, c] = [100, 10, 1].map(digit);
    if negative {
        out.push(b'-');
    }
    out.put_between([], whole, [b'.', a, b, c]);
    let zeros = match [b, c] {
        [b'0', b'0'] => 2,
        [_, b'0'] => 1,
        _ => 0,
    };
    out.truncate(out.len() - zeros);
}

/// Appends a float as PHP's `var_export` spells it: `3.0`, `1.0E+25`, `NAN`.
pub(crate) fn push_php_float(out: &mut Buffer, value: f64) {
    if value.is_nan() {
        return out.append(b"NAN");
    }
    let decimal = Decimal::new(value);
    if value.is_infinite() {
        out.append(decimal.sign());
        return out.append(b"INF");
    }
    if (-4..17).contains(&decimal.exponent) {
        return decimal.push_plain(out);
    }
    let (first, rest) = decimal.split(1);
    out.append(decimal.sign());
    out.append(first);
    out.push(b'.');
    out.append(if rest.is_empty() { b"0" } else { rest });
    out.append(if decimal.exponent < 0 { b"E" } else { b"E+" });
    push_int(out, decimal.exponent);
}

/// A whole float without its `.0`, any other as it is: what `serialize` and query strings want.
pub(crate) fn push_php_number(out: &mut Buffer, value: f64) {
    push_php_float(out, value);
    if out.as_slice().ends_with(b".0") {
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
    fn push_plain(&self, out: &mut Buffer) {
        out.append(self.sign());
        let whole = usize::try_from(self.exponent + 1).unwrap_or_default();
        let (before, after) = self.split(whole);
        if before.is_empty() {
            out.push(b'0');
        }
        out.append(before);
        repeat_n(b'0', whole - before.len()).for_each(|zero| out.push(zero));
        out.push(b'.');
        repeat_n(b'0', usize::try_from(-self.exponent - 1).unwrap_or_default())
            .for_each(|zero| out.push(zero));
        out.append(if after.is_empty() { b"0" } else { after });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(push: impl Fn(&mut Buffer, f64), value: f64) -> String {
        let mut out = Buffer::default();
        push(&mut out, value);
        String::from_utf8(out.into_vec()).unwrap()
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
    fn thousandths_are_spelled_as_any_other_float() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut short = 0;
        for _ in 0..500_000 {
            let most = 1 << rng.u32(1..60);
            let value = rng.i64(-9..most) as f64 / rng.choice([1.0, 4.0, 100.0, 1e3, 1e4]).unwrap();
            if thousandths(value).is_some() {
                short += 1;
                assert_eq!(spelled(push_json_float, value), zmij::Buffer::new().format(value));
            }
        }
        assert!((100_000..400_000).contains(&short), "{short}");
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
