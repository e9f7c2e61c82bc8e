//! Small text forms: JSON strings, hex, base64.

use crate::buffer::Buffer;

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex_digit(nibble: u8) -> u8 {
    HEX.get(usize::from(nibble & 15)).copied().unwrap_or_default()
}

/// Appends `bytes` as lower-case hex.
pub(crate) fn push_hex(out: &mut Buffer, bytes: &[u8]) {
    for byte in bytes {
        out.put([hex_digit(byte >> 4), hex_digit(*byte)]);
    }
}

/// Appends `text` as a JSON string; only what JSON forbids is escaped.
pub(crate) fn push_json_string(out: &mut Buffer, text: &[u8]) {
    if plain(text) == text.len() {
        return out.put_between([b'"'], text, [b'"']);
    }
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// The same without quotes.
#[inline(never)]
pub(crate) fn push_escaped(out: &mut Buffer, text: &[u8]) {
    let mut rest = text;
    loop {
        let (run, tail) = rest.split_at(plain(rest));
        out.append(run);
        let Some((&byte, tail)) = tail.split_first() else { return };
        push_escape(out, byte);
        rest = tail;
    }
}

/// How many bytes from the beginning stand in a JSON string as they are.
#[inline(always)]
pub(crate) fn plain(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return at * 8 + first(marks);
        }
    }
    match (rest, bytes.last_chunk()) {
        ([], _) => bytes.len(),
        // those of them that were looked at have no marks
        (_, Some(last)) => bytes.len() - 8 + first(marks(u64::from_le_bytes(*last))),
        (_, None) => few(bytes),
    }
}

/// The same of fewer than eight bytes.
fn few(bytes: &[u8]) -> usize {
    let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
        return bytes.iter().position(special).unwrap_or(bytes.len());
    };
    // the halves of a word, which may have bytes in common
    let word = u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32;
    match first(marks(word)) {
        at @ ..4 => at,
        at => bytes.len() + at - 8,
    }
}

/// Which byte of a word is marked first; 8: none.
fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Eight bytes at once: the lowest bit that is set is the highest of the first byte that a JSON
/// string can't hold as it is. Bits above it may be wrong, since a subtraction borrows upward.
fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & (ONES * 0x80);
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | is(b'"') | is(b'\\')
}

fn push_escape(out: &mut Buffer, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.put(*b"\\u00");
            push_hex(out, &[byte]);
            return;
        }
    };
    out.put([b'\\', short]);
}

/// Appends standard base64 with padding.
pub(crate) fn push_base64(out: &mut Buffer, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = 0u32;
        for at in 0..3 {
            group = group << 8 | u32::from(chunk.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let index = (group >> (18 - 6 * at)) & 63;
            let symbol = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            out.push(if at > chunk.len() { b'=' } else { symbol });
        }
    }
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
            let mut out = Buffer::default();
            push_base64(&mut out, plain.as_bytes());
            assert_eq!(out.as_slice(), coded.as_bytes());
        }
    }

    #[test]
    fn only_what_json_forbids_is_escaped() {
        let mut out = Buffer::default();
        push_json_string(&mut out, "a\"\\\n\0\u{1f}/é\u{7f}".as_bytes());
        assert_eq!(out.as_slice(), "\"a\\\"\\\\\\n\\u0000\\u001f/é\u{7f}\"".as_bytes());
    }

    #[test]
    fn the_first_byte_to_escape_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for len in 1..=20 {
                for at in 0..len {
                    // another one behind it, and bytes around it that differ in one bit
                    for around in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                        let mut bytes = [vec![around; at], vec![byte], vec![around; len - at - 1]].concat();
                        assert_eq!(plain(&bytes), if special { at } else { len }, "{bytes:x?}");
                        bytes.push(b'"');
                        assert_eq!(plain(&bytes), if special { at } else { len }, "{bytes:x?}");
                    }
                }
            }
        }
    }
}
