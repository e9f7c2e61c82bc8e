//! Numbers in JSON text.

use crate::event::Event;
use crate::number;

/// Most digits that surely fit into 64 bits; with a sign one less.
const DIGITS: usize = 19;

/// A number as it is read.
pub(super) enum Number<'a> {
    Int(i64),
    Float(f64),
    /// What may be more than 64 bits hold, as written.
    Long(&'a [u8]),
}

/// Reads a number with or without a sign; gives what is behind it, too. Fails with what stands where a digit belongs.
#[inline(always)]
pub(super) fn read(text: &[u8]) -> Result<(Number<'_>, &[u8]), &[u8]> {
    let (negative, first) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut value = 0;
    let rest = match first {
        // no digit follows it
        [b'0', rest @ ..] => rest,
        _ => digits(first, &mut value)?,
    };
    if let [b'.' | b'e' | b'E', ..] = rest {
        return float(text, negative, value, first.len() - rest.len(), rest);
    }
    let number = if first.len() - rest.len() < DIGITS {
        let value = value.cast_signed();
        Number::Int(if negative { -value } else { value })
    } else {
        Number::Long(before(text, rest))
    };
    Ok((number, rest))
}

/// Reads on behind the `whole` digits of a number that has a fraction or an exponent.
fn float<'a>(
    text: &'a [u8],
    negative: bool,
    mut value: u64,
    whole: usize,
    mut rest: &'a [u8],
) -> Result<(Number<'a>, &'a [u8]), &'a [u8]> {
    // whether neither the digits nor those of the exponent are too many
    let (mut fits, mut exponent) = (whole <= DIGITS, 0_i64);
    if let [b'.', fraction @ ..] = rest {
        rest = digits(fraction, &mut value)?;
        let places = fraction.len() - rest.len();
        fits = whole + places <= DIGITS;
        exponent = -(places as i64);
    }
    if let [b'e' | b'E', power @ ..] = rest {
        let (down, power) = match power {
            [b'-', power @ ..] => (true, power),
            [b'+', power @ ..] => (false, power),
            _ => (false, power),
        };
        let mut given = 0;
        rest = digits(power, &mut given)?;
        fits &= power.len() - rest.len() < DIGITS;
        let given = if fits { given.cast_signed() } else { 0 };
        exponent = exponent.saturating_add(if down { -given } else { given });
    }
    let number = match fits.then(|| number::exact_float(value, exponent)).flatten() {
        Some(value) => Number::Float(if negative { -value } else { value }),
        None => {
            let text = before(text, rest);
            number::read_float(as_text(text)).map_or(Number::Long(text), Number::Float)
        }
    };
    Ok((number, rest))
}

/// Appends the digits at the beginning of `text`, at least one, to `value`, which overflows if they are many; gives
/// what is behind them.
#[inline(always)]
fn digits<'a>(text: &'a [u8], value: &mut u64) -> Result<&'a [u8], &'a [u8]> {
    let mut rest = text;
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit & 15));
        rest = behind;
    }
    if rest.len() == text.len() { Err(rest) } else { Ok(rest) }
}

fn before<'a>(text: &'a [u8], rest: &[u8]) -> &'a [u8] {
    text.get(..text.len() - rest.len()).unwrap_or_default()
}

fn as_text(number: &[u8]) -> &str {
    str::from_utf8(number).unwrap_or_default()
}

/// The event of a number that may be more than 64 bits hold.
pub(super) fn long(number: &[u8]) -> Event<'_> {
    let text = as_text(number);
    let signed = text.parse().map(Event::Int);
    signed.or_else(|_| text.parse().map(Event::UInt)).unwrap_or(Event::Beyond(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_digits_than_are_counted_do_no_harm() {
        let many = "1234567890".repeat(30);
        for (text, value) in [
            ("1e-9223372036854775808", None),
            ("1e9223372036854775808", None),
            ("0e99999999999999999999", Some(0.0)),
            ("-0.0e-18446744073709551616", Some(-0.0)),
            ("1e000000000000000000000000002", Some(100.0)),
            ("0.5000000000000000000000000000", Some(0.5)),
            (&format!("{many}e-299"), Some(1.234_567_890_123_456_8)),
            (&format!("0.{many}"), Some(0.123_456_789_012_345_68)),
        ] {
            let read = match read(text.as_bytes()) {
                Ok((Number::Float(value), [])) => Some(value.to_bits()),
                _ => None,
            };
            assert_eq!(read, value.map(f64::to_bits), "{text}");
        }
    }

    #[test]
    fn a_float_is_the_one_nearest_to_its_digits() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut long = 0;
        for _ in 0..500_000 {
            let [whole, fraction, power] = [60, 64, 11].map(|most| {
                let bits = rng.u32(1..most);
                rng.u64(..1 << bits)
            });
            let sign = rng.choice(["", "-"]).unwrap_or_default();
            let text = match rng.u32(..4) {
                0 => format!("{sign}{whole}.{:02}", fraction % 100),
                1 => format!("{sign}{}.{fraction}", whole % 1000),
                2 => format!("{sign}{whole}E{sign}{power:03}"),
                _ => format!("{sign}0.000{fraction}e-{power}"),
            };
            let nearest: f64 = text.parse().unwrap();
            let is_read = match read(text.as_bytes()) {
                Ok((Number::Float(value), [])) => value.to_bits() == nearest.to_bits(),
                Ok((Number::Long(_), [])) => {
                    long += 1;
                    nearest.is_infinite() || nearest == 0.0
                }
                _ => false,
            };
            assert!(is_read, "{text}");
        }
        assert!((100..100_000).contains(&long), "{long}");
    }
}
