//! Words: which one a misspelled one was meant to be, and messages cut to what helps.

/// Longest message, in characters, and how much of it is its end.
const LONGEST: usize = 400;
const END: usize = 150;

/// The word of `known` that `word` was likely meant to be; none where nothing comes close.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (edits, name) = known.iter().map(|name| (edits(word, name), *name)).min()?;
    (edits <= 2.min(word.len() / 2)).then_some(name)
}

/// Letters to insert, drop or replace to make one word of the other.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (b, cell) in other.chars().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Longest piece of a text that is no JSON, in bytes.
const QUOTED: usize = 16;

/// Why `data` is no JSON, as far as its first bytes tell; they are quoted unless they are `secret`.
pub fn not_json(data: &[u8], error: &serde_json::Error, secret: bool) -> String {
    if data.starts_with(b"\xef\xbb\xbf") {
        return "it is not JSON: it starts with a byte order mark (BOM); write UTF-8 without one".into();
    }
    if is_serialized(data) {
        return "it is not JSON: it looks like PHP's serialize(); write it with json_encode()".into();
    }
    let first = data.get(..QUOTED).unwrap_or(data).escape_ascii();
    let more = if data.len() > QUOTED { "…" } else { "" };
    match secret {
        true => format!("it is not JSON: {error}"),
        false => format!("it is not JSON: {error}; it starts with \"{first}{more}\""),
    }
}

/// `a:2:{`, `O:8:"`, `s:3:"`, `i:7;` and the like.
fn is_serialized(data: &[u8]) -> bool {
    match data {
        [b'a' | b'O' | b's' | b'C' | b'E', b':', b'0'..=b'9', ..] => true,
        [b'i' | b'b' | b'd', b':', b'-' | b'0'..=b'9', ..] => true,
        _ => data == b"N;",
    }
}

/// What is wrong with a YAML text, and where: the lines below the first draw the place.
pub fn of_yaml(message: &str) -> &str {
    let first = message.lines().next().unwrap_or_default();
    // advice to whoever wrote the program, not to whoever wrote the file
    match first.split_once("set DuplicateKeyPolicy") {
        Some((before, _)) => before.trim_end_matches([' ', ',', ';', '(', '-', '—']),
        None => first,
    }
}

/// `message` as one line for people, whatever it quotes: a line break shows as `␊`. A long one lacks its middle,
/// because the way out stands at the end.
pub fn line(message: &str) -> String {
    let length = message.chars().count();
    if length <= LONGEST {
        return message.chars().map(visible).collect();
    }
    let (begin, end) = (message.chars().take(LONGEST - END - 1), message.chars().skip(length - END));
    begin.chain(['…']).chain(end).map(visible).collect()
}

/// The beginning of a foreign text for a message, `most` characters of it: control characters are escaped, all else
/// stays as its reader knows it.
pub fn quoted(text: &str, most: usize) -> String {
    let mut told = String::new();
    for c in text.chars().take(most) {
        if c.is_control() { told.extend(c.escape_default()) } else { told.push(c) }
    }
    told
}

/// The beginning of foreign bytes, `most` of them, fit for a message: breaks and tabs are blanks, and what is no text
/// is escaped.
pub fn beginning(bytes: &[u8], most: usize) -> String {
    let mut told = String::new();
    for part in bytes.get(..most).unwrap_or(bytes).utf8_chunks() {
        for c in part.valid().chars() {
            match u8::try_from(c).ok().filter(|_| c.is_control()) {
                _ if c.is_whitespace() => told.push(' '),
                Some(control) => told.extend(control.escape_ascii().map(char::from)),
                None => told.push(c),
            }
        }
        told.extend(part.invalid().escape_ascii().map(char::from));
    }
    told.trim().to_owned()
}

/// A control character as the picture of it.
fn visible(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        _ if c.is_control() => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_no_json_is_told_by_its_first_bytes() {
        let told = |data: &[u8], secret| {
            let error = serde_json::from_slice::<serde_json::Value>(data).unwrap_err();
            not_json(data, &error, secret)
        };
        assert!(told(b"\xef\xbb\xbf{}", false).contains("byte order mark"));
        for data in [&b"a:1:{i:0;i:1;}"[..], b"O:8:\"stdClass\":0:{}", b"s:1:\"a\";", b"i:-7;", b"N;"] {
            assert!(told(data, false).contains("PHP's serialize()"), "{}", data.escape_ascii());
        }
        let binary = told(&[0, 0xff, b'\n', b'"'].repeat(100), false);
        assert!(binary.len() < 160, "{binary}");
        assert!(binary.contains(r#"it starts with "\x00\xff\n\""#), "{binary}");
        assert!(!told(b"open-sesame", true).contains("open"));
    }

    #[test]
    fn a_typo_is_told_the_word_it_was_meant_to_be() {
        let known = ["registry", "listen", "drain"];
        assert_eq!(nearest("regstry", &known), Some("registry"));
        assert_eq!(nearest("lisetn", &known), Some("listen"));
        assert_eq!(nearest("quota", &known), None);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn a_foreign_text_is_quoted_as_its_reader_knows_it() {
        assert_eq!(quoted("用户\"é\n\u{1b}", 99), "用户\"é\\n\\u{1b}");
        assert_eq!(quoted("用户", 1), "用");
    }

    #[test]
    fn foreign_bytes_are_shown_as_text_as_far_as_they_are() {
        assert_eq!(beginning("\r\n<b>\t\"没有\"</b>\n".as_bytes(), 60), "<b> \"没有\"</b>");
        assert_eq!(beginning(b"\x16\x03\x01a\xff\xfe", 60), r"\x16\x03\x01a\xff\xfe");
        assert_eq!(beginning("\u{9b}没".as_bytes(), 3), r"\x9b\xe6");
        assert_eq!(beginning(b"", 3), "");
    }

    #[test]
    fn a_message_is_one_line_and_keeps_its_beginning_and_its_end() {
        assert_eq!(line("\"5\n\u{7f}\u{9b}\" is no ä"), "\"5␊␡�\" is no ä");
        let long = line(&format!("drain: \"{}\" is not a duration such as 10s", "ä".repeat(10_000)));
        assert_eq!(long.chars().count(), LONGEST);
        assert!(
            long.starts_with("drain: \"ä") && long.ends_with("ä\" is not a duration such as 10s"),
            "{long}"
        );
    }
}
