//! Strings in GBK: every code, every character, and values on their way.
//!
//! A failure names its seed: `CHARSET_SEED=n cargo test -p proto-adapters --test charset` runs the
//! same values again.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::process::Command;

use proto_adapters::yar::{Code, Exception, Packager};
use proto_adapters::{BytesAs, Charset, Options, Wire, form_to_params, transcode};

mod dice;

use dice::Random;

const AWAY: Options = Options {
    empty: proto_adapters::Empty::List,
    bytes: BytesAs::Fail,
    from: Charset::Gbk,
    to: Charset::Utf8,
    in_message: false,
    room: None,
};
const TOWARD: Options = Options { from: Charset::Utf8, to: Charset::Gbk, ..AWAY };

/// Every character that GBK has, beyond ASCII.
fn characters() -> Vec<char> {
    ('\u{80}'..=char::MAX).filter(|c| Charset::Gbk.encode(c.encode_utf8(&mut [0; 4])).is_ok()).collect()
}

#[test]
fn every_code_that_is_read_is_written_the_same() {
    let mut codes = 0;
    for first in 0..=u8::MAX {
        let alone = [first];
        if let Some(text) = Charset::Gbk.decode(&alone) {
            assert_eq!(Charset::Gbk.encode(&text).unwrap(), &alone[..]);
            assert_eq!(text.chars().count(), 1);
            codes += 1;
        }
        for second in (0..=u8::MAX).filter(|_| first > 0x80) {
            let pair = [first, second];
            if let Some(text) = Charset::Gbk.decode(&pair) {
                assert_eq!(Charset::Gbk.encode(&text).unwrap(), &pair[..], "{first:02x}{second:02x}");
                assert_eq!(text.chars().count(), 1);
                codes += 1;
            }
        }
    }
    // ASCII and the euro sign; all of 126 × 190 but two second places
    assert_eq!(codes, 128 + 1 + 126 * 190 - 2);
}

#[test]
fn every_character_that_is_written_is_read_the_same() {
    for c in characters() {
        let text = c.to_string();
        let bytes = Charset::Gbk.encode(&text).unwrap();
        assert!(bytes.len() == 2 || c == '€', "{c:?}");
        assert_eq!(Charset::Gbk.decode(&bytes).as_deref(), Some(text.as_str()), "{c:?}");
    }
    assert_eq!(characters().len(), 1 + 126 * 190 - 2);
}

#[test]
fn phps_iconv_agrees_on_every_code_it_knows() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/gbk.php");
    let out = Command::new("php").arg(script).output();
    let out = out.unwrap_or_else(|error| panic!("php: {error}; run tests/setup"));
    let lines = String::from_utf8(out.stdout).unwrap();
    for line in lines.lines() {
        let (code, text) = line.split_once(' ').unwrap();
        let code = u16::from_str_radix(code, 16).unwrap().to_be_bytes();
        assert_eq!(Charset::Gbk.decode(&code).as_deref(), Some(text), "{line}");
        assert_eq!(Charset::Gbk.encode(text).as_deref(), Ok(&code[..]), "{line}");
    }
    assert!(lines.lines().count() > 21_000, "{}", lines.lines().count());
}

#[test]
fn what_would_come_back_otherwise_is_no_text() {
    for bytes in [
        &b"\xff"[..],
        b"\xc4",
        b"a\xc4",
        b"\xc4\x20",
        b"\xc4\x7f",
        b"\xc4\xff",
        // GB 18030 alone has characters of four bytes
        b"\x81\x30\x81\x30",
        b"\xc4\xe3\x81\x39\xef\x30",
        // the second places of the euro sign and the wide blank
        b"\xa2\xe3",
        b"a\xa3\xa0",
    ] {
        assert_eq!(Charset::Gbk.decode(bytes), None, "{}", bytes.escape_ascii());
    }
    for c in ['😀', '\u{e78d}', '\u{e864}', '\u{fffd}', '\u{10ffff}'] {
        assert_eq!(Charset::Gbk.encode(&format!("你a{c}😀")), Err(c));
    }
    // bytes that would be UTF-8 are GBK all the same, also where a code ends like an escape
    assert_eq!(Charset::Gbk.decode("é".as_bytes()).as_deref(), Some("茅"));
    assert_eq!(Charset::Gbk.decode(b"\x95\\\x81\x7c\0").as_deref(), Some("昞亅\0"));
}

/// A value in JSON whose strings and keys GBK can hold.
fn value(random: &mut Random, characters: &[char], depth: u32) -> String {
    match random.below(if depth < 4 { 6 } else { 4 }) {
        0 => (random.next().cast_signed() >> random.below(60)).to_string(),
        1..=3 => text(random, characters),
        4 => {
            let items: Vec<_> = (0..random.below(5)).map(|_| value(random, characters, depth + 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let size = 1 + random.below(4);
            // no two keys alike, and none that PHP takes for an integer
            let entry = |index| {
                let key = text(random, characters).replacen('"', &format!("\"{index}k"), 1);
                format!("{key}:{}", value(random, characters, depth + 1))
            };
            let entries: Vec<_> = (0..size).map(entry).collect();
            format!("{{{}}}", entries.join(","))
        }
    }
}

/// A JSON string of characters that need no escape.
fn text(random: &mut Random, characters: &[char]) -> String {
    let size = if random.below(50) == 0 { 3000 } else { random.below(30) };
    let ascii = [' ', 'a', 'Z', '0', '/', '~', ':', '}'];
    let one = |random: &mut Random| match random.below(3) {
        0 => random.one_of(&ascii),
        _ => random.one_of(characters),
    };
    format!("\"{}\"", (0..size).map(|_| one(random)).collect::<String>())
}

#[test]
fn values_go_into_gbk_and_come_back_as_they_were() {
    let seed = env::var("CHARSET_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("CHARSET_SEED={seed}");
    let (mut random, characters) = (Random::new(seed), characters());
    for _ in 0..500 {
        let json = value(&mut random, &characters, 0);
        for wire in [Wire::Msgpack, Wire::Php] {
            let there = transcode(Wire::Json, wire, json.as_bytes(), "$", TOWARD).unwrap();
            let back = transcode(wire, Wire::Json, &there, "$", AWAY).unwrap();
            assert_eq!(String::from_utf8(back).unwrap(), json);
            for other in [Wire::Msgpack, Wire::Php] {
                let plain = transcode(Wire::Json, other, json.as_bytes(), "$", Options::default()).unwrap();
                assert!(transcode(wire, other, &there, "$", AWAY).unwrap() == plain, "{json}");
                assert!(transcode(other, wire, &plain, "$", TOWARD).unwrap() == there, "{json}");
            }
        }
    }
}

#[test]
fn keys_and_places_are_converted_too() {
    let packed = transcode(Wire::Json, Wire::Php, r#"{"键":{"7":"值"}}"#.as_bytes(), "$", TOWARD).unwrap();
    assert_eq!(packed, b"a:1:{s:2:\"\xbc\xfc\";a:1:{i:7;s:2:\"\xd6\xb5\";}}");
    let json = transcode(Wire::Php, Wire::Json, &packed, "$", AWAY).unwrap();
    assert_eq!(String::from_utf8(json).unwrap(), r#"{"键":{"7":"值"}}"#);
    let fault = |wire, bytes: &[u8], to| transcode(wire, to, bytes, "$", AWAY).unwrap_err().to_string();
    assert_eq!(
        fault(Wire::Msgpack, b"\x81\xa2\xbc\xfc\x91\xa1\xff", Wire::Json),
        "$.键[0]: 1 bytes that are not GBK cannot become JSON"
    );
    assert_eq!(
        fault(Wire::Msgpack, b"\x81\xa1\xff\x01", Wire::Json),
        "$: a string that is not GBK as a key cannot become JSON"
    );
    assert_eq!(
        fault(Wire::Php, b"a:1:{s:1:\"\xff\";i:1;}", Wire::Msgpack),
        "$: 1 bytes that are not GBK cannot become UTF-8"
    );
    assert_eq!(
        fault(Wire::Php, b"a:1:{i:0;O:4:\"\xc8\xb1\xbb\xf5\":0:{}}", Wire::Json),
        "$[0]: a PHP object of class 缺货 cannot become JSON"
    );
}

#[test]
fn a_form_becomes_gbk() {
    let params = form_to_params("键=值".as_bytes(), Wire::Msgpack, &[], TOWARD).unwrap();
    assert_eq!(params, b"\x91\x81\xa2\xbc\xfc\xa2\xd6\xb5");
    let refused = form_to_params("a[k]=😀".as_bytes(), Wire::Msgpack, &[], TOWARD).unwrap_err();
    assert_eq!(refused.to_string(), "$.a.k: the character 😀 (U+1F600) cannot become GBK");
}

#[test]
fn within_one_codec_strings_are_converted_where_the_charsets_differ() {
    let away = transcode(Wire::Msgpack, Wire::Msgpack, b"\xd9\x02\xc4\xe3", "$", AWAY).unwrap();
    assert_eq!(away, b"\xa3\xe4\xbd\xa0");
    let copied = transcode(Wire::Msgpack, Wire::Msgpack, b"\xd9\x02\xc4\xe3", "$", Options::default());
    assert_eq!(copied.unwrap(), b"\xd9\x02\xc4\xe3");
}

#[test]
fn an_exception_in_gbk_is_read_and_what_is_no_text_in_it_replaced() {
    let e = b"\x82\xa7message\xa5\xc4\xe3\xffok\xa5_type\xa2\xc8\xb1";
    let read = Exception::read_in(Charset::Gbk, Packager::Msgpack, 64, Some(e));
    assert_eq!((read.message.as_str(), read.class.as_str()), ("你\u{fffd}ok", "缺"));
    let text = Exception::read_in(Charset::Gbk, Packager::Php, 4, Some(b"s:2:\"\xc8\xb1\";"));
    assert_eq!((text.message.as_str(), text.code), ("缺", Code::Int(4)));
    let json = Exception::read_in(Charset::Gbk, Packager::Json, 4, Some("\"缺\"".as_bytes()));
    assert_eq!(json.message, "缺");
}
