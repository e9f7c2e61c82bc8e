//! What a conversion allocates: as much for a thousand values as for one, but for what grows with the output.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto_adapters::{BytesAs, Charset, Options, Wire, transcode};

/// For the output, and for the stacks of reader and writer.
const FIXED: u64 = 8;
/// One after the other, as each is twice the one before: the output, lengths in it that were not
/// known before, and which arrays of PHP's are lists.
const GROWING: u64 = 3;

const WIRES: [Wire; 3] = [Wire::Json, Wire::Msgpack, Wire::Php];

/// What values may be, in JSON; all but numbers have escapes, lengths or kinds of their own.
const VALUES: [&str; 10] = [
    "null",
    "-1234567",
    "12.625",
    r#""plain""#,
    r#""a \"quoted\" line\nand \u4f60\u597d""#,
    "[1,2]",
    "[[],[true,false]]",
    r#"{"7":"a key that PHP takes for a number","name":[1,2,3]}"#,
    r#"{"a \"quoted\" key":1}"#,
    r#"{"a":{"list of more than nine":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}}"#,
];

fn json(value: &str, times: usize) -> Vec<u8> {
    format!("[{}]", vec![value; times].join(",")).into_bytes()
}

fn allocated(from: Wire, to: Wire, input: &[u8], o: Options) -> u64 {
    let mut converted = None;
    let counted = allocation_counter::measure(|| converted = Some(transcode(from, to, input, "$", o)));
    converted.unwrap().unwrap();
    counted.count_total
}

fn assert_not_per_value(from: Wire, to: Wire, input: &[u8], o: Options) {
    let allocated = allocated(from, to, input, o);
    let most = FIXED + GROWING * u64::from(input.len().ilog2());
    let begins = String::from_utf8_lossy(input).chars().take(60).collect::<String>();
    assert!(
        allocated <= most,
        "{from:?} → {to:?}, {} bytes: {allocated} allocations, over {most}: {begins}",
        input.len()
    );
}

#[test]
fn no_value_has_an_allocation_of_its_own() {
    let o = Options::default();
    for value in VALUES {
        for times in [1, 4_000] {
            let json = json(value, times);
            for from in WIRES {
                let input = transcode(Wire::Json, from, &json, "$", o).unwrap();
                for to in WIRES.into_iter().filter(|to| *to != from) {
                    assert_not_per_value(from, to, &input, o);
                }
            }
        }
    }
}

#[test]
fn keys_that_are_numbers_and_bytes_as_base64_have_none_either() {
    let o = Options { bytes: BytesAs::Base64, ..Options::default() };
    // 4,000 times {300: two bytes that are no text}
    let input = [&b"\xdc\x0f\xa0"[..], &b"\x81\xcd\x01\x2c\xa2\xff\xfe".repeat(4_000)].concat();
    assert_not_per_value(Wire::Msgpack, Wire::Json, &input, o);
}

#[test]
fn a_small_message_is_written_once_into_the_room_it_needs() {
    let json = br#"[{"id":7919,"name":"Jane","active":true,"tags":["a","b"],"note":"calls \"often\""}]"#;
    let o = Options::default();
    // the output, and text with escapes
    assert!(allocated(Wire::Json, Wire::Msgpack, json, o) <= 2);
    let packed = transcode(Wire::Json, Wire::Msgpack, json, "$", o).unwrap();
    // the output
    assert!(allocated(Wire::Msgpack, Wire::Json, &packed, o) <= 1);
}

#[test]
fn strings_in_another_charset_have_none_either() {
    let json = json(r#""你好, \"PHP\"""#, 4_000);
    for wire in [Wire::Msgpack, Wire::Php] {
        let to_gbk = Options { to: Charset::Gbk, ..Options::default() };
        assert_not_per_value(Wire::Json, wire, &json, to_gbk);
        let packed = transcode(Wire::Json, wire, &json, "$", to_gbk).unwrap();
        let from_gbk = Options { from: Charset::Gbk, ..Options::default() };
        assert_not_per_value(wire, Wire::Json, &packed, from_gbk);
    }
}
