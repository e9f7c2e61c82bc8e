//! Small text forms: JSON strings, hex, base64.

use std::fmt::Display;
use std::io::Write as _;

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex_digit(nibble: u8) -> u8 {
    HEX.get(usize::from(nibble & 15)).copied().unwrap_or_default()
}

/// Appends `bytes` as lower-case hex.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.extend([hex_digit(byte >> 4), hex_digit(*byte)]);
    }
}

/// Appends `text` as a JSON string; only what JSON forbids is escaped.
pub(crate) fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(run) = rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\') {
        let (plain, tail) = rest.split_at(run);
        out.extend_from_slice(plain);
        if let Some((&byte, tail)) = tail.split_first() {
            push_escape(out, byte);
            rest = tail;
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            push_hex(out, &[byte]);
            return;
        }
    };
    out.extend([b'\\', short]);
}

/// Appends the display form of `value`.
pub(crate) fn push_display(out: &mut Vec<u8>, value: impl Display) {
    // writing into a vector cannot fail
    let _ = write!(out, "{value}");
}

/// Appends the shortest text that reads back as the same float and stays one: `3.0`, `1e25`.
pub(crate) fn push_float(out: &mut Vec<u8>, value: f64) {
    let _ = write!(out, "{value:?}");
}

/// A float as PHP's `var_export` spells it: `3.0`, `1.0E+25`, `NAN`.
pub(crate) fn php_float(value: f64) -> String {
    if value.is_nan() {
        return "NAN".to_owned();
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return format!("{sign}INF");
    }
    let (digits, exponent) = shortest(value.abs());
    let whole = usize::try_from(exponent + 1).unwrap_or_default();
    match digits.split_at_checked(whole) {
        Some((before, after)) if (0..17).contains(&exponent) => {
            let after = if after.is_empty() { "0" } else { after };
            format!("{sign}{before}.{after}")
        }
        None if exponent < 17 => format!("{sign}{digits:0<whole$}.0"),
        _ if (-4..0).contains(&exponent) => {
            let width = digits.len() + exponent.unsigned_abs() as usize - 1;
            format!("{sign}0.{digits:0>width$}")
        }
        _ => {
            let (first, rest) = digits.split_at_checked(1).unwrap_or_default();
            let rest = if rest.is_empty() { "0" } else { rest };
            format!("{sign}{first}.{rest}E{exponent:+}")
        }
    }
}

/// The fewest digits that read back as the same float, and the exponent of the first one. Of two
/// that are equally near PHP takes the even one.
fn shortest(value: f64) -> (String, i32) {
    let split = |text: String| {
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        (digits.replace('.', ""), exponent.parse().unwrap_or_default())
    };
    let (mut digits, exponent) = split(format!("{value:e}"));
    let last = digits.bytes().last().unwrap_or_default();
    // with fewer digits no other is as near
    if digits.len() < 15 || last % 2 == 0 {
        return (digits, exponent);
    }
    let (exact, _) = split(format!("{value:.60e}"));
    let (begin, rest) = exact.split_at_checked(digits.len()).unwrap_or_default();
    if rest.bytes().next() == Some(b'5') && rest.bytes().skip(1).all(|digit| digit == b'0') {
        let mut even = digits.clone();
        even.pop();
        even.push(char::from(if begin == digits { last + 1 } else { last - 1 }));
        // at a power of two the other one may belong to the float's neighbour
        if format!("0.{even}e{}", exponent + 1).parse() == Ok(value) {
            digits = even;
        }
    }
    (digits, exponent)
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = 0u32;
        for at in 0..3 {
            group = group << 8 | u32::from(chunk.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let index = (group >> (18 - 6 * at)) & 63;
            let symbol = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            out.push(if at > chunk.len() { '=' } else { char::from(symbol) });
        }
    }
    out
}

/// `text` shortened to `limit` characters, for messages.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
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
            assert_eq!(php_float(value), text);
        }
    }

    #[test]
    fn only_what_json_forbids_is_escaped() {
        let mut out = Vec::new();
        push_json_string(&mut out, "a\"\\\n\0\u{1f}/é\u{7f}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0000\\u001f/é\u{7f}\"".as_bytes());
    }
}
