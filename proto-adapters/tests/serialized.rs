//! PHP's `serialize` format: what is read, what is written, what is refused.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a value that is not as expected must stop the test")]

use proto_adapters::{BytesAs, Empty, Fault, MAX_DEPTH, Options, Wire, transcode};

fn to_php(json: &str) -> String {
    let packed = transcode(Wire::Json, Wire::Php, json.as_bytes(), "$", Options::default()).unwrap();
    String::from_utf8(packed).unwrap()
}

fn to_json(serialized: &[u8]) -> Result<String, Fault> {
    transcode(Wire::Php, Wire::Json, serialized, "$", Options::default())
        .map(|text| String::from_utf8(text).unwrap())
}

fn fault(from: Wire, to: Wire, value: &[u8]) -> String {
    match transcode(from, to, value, "$", Options::default()) {
        Err(fault) => fault.to_string(),
        Ok(other) => panic!("{}: {}", value.escape_ascii(), other.escape_ascii()),
    }
}

#[test]
fn every_value_is_serialized_as_php_serializes_it() {
    for (json, serialized) in [
        ("null", "N;"),
        ("true", "b:1;"),
        ("false", "b:0;"),
        ("0", "i:0;"),
        ("-9223372036854775808", "i:-9223372036854775808;"),
        ("9223372036854775807", "i:9223372036854775807;"),
        ("3.0", "d:3;"),
        ("-0.0", "d:-0;"),
        ("0.1", "d:0.1;"),
        ("1e25", "d:1.0E+25;"),
        ("1.5e-7", "d:1.5E-7;"),
        ("10000000000000000.0", "d:10000000000000000;"),
        ("1e17", "d:1.0E+17;"),
        ("0.0001", "d:0.0001;"),
        (r#""""#, r#"s:0:"";"#),
        (r#""é\"x""#, r#"s:4:"é"x";"#),
        ("[]", "a:0:{}"),
        ("[7,[true]]", "a:2:{i:0;i:7;i:1;a:1:{i:0;b:1;}}"),
        (r#"{"a":{"b":null}}"#, r#"a:1:{s:1:"a";a:1:{s:1:"b";N;}}"#),
        (
            r#"{"7":1,"-3":2,"08":3,"-0":4,"9223372036854775808":5}"#,
            r#"a:5:{i:7;i:1;i:-3;i:2;s:2:"08";i:3;s:2:"-0";i:4;s:19:"9223372036854775808";i:5;}"#,
        ),
    ] {
        assert_eq!(to_php(json), serialized, "{json}");
        let back = to_json(serialized.as_bytes()).unwrap();
        assert_eq!(to_php(&back), serialized, "{json} came back as {back}");
    }
}

#[test]
fn a_float_never_becomes_an_integer() {
    for (serialized, json) in [
        ("d:3;", "3.0"),
        ("d:-0;", "-0.0"),
        ("d:1.0E+25;", "1e25"),
        ("d:0.10000000000000001;", "0.1"),
        ("d:1.;", "1.0"),
        ("d:.5;", "0.5"),
        ("d:5.0E-324;", "5e-324"),
        ("d:4.9406564584124654E-324;", "5e-324"),
        ("d:1.7976931348623157E+308;", "1.7976931348623157e308"),
    ] {
        assert_eq!(to_json(serialized.as_bytes()).unwrap(), json);
    }
}

#[test]
fn keys_in_order_from_zero_make_a_list_and_all_others_a_map() {
    for (serialized, json) in [
        ("a:0:{}", "[]"),
        ("a:1:{i:0;N;}", "[null]"),
        ("a:1:{i:1;N;}", r#"{"1":null}"#),
        ("a:2:{i:0;i:5;i:1;i:6;}", "[5,6]"),
        ("a:2:{i:1;i:5;i:0;i:6;}", r#"{"1":5,"0":6}"#),
        ("a:2:{i:0;i:5;i:2;i:6;}", r#"{"0":5,"2":6}"#),
        ("a:2:{i:0;i:5;i:-1;i:6;}", r#"{"0":5,"-1":6}"#),
        ("a:2:{i:0;i:5;i:0;i:6;}", r#"{"0":5,"0":6}"#),
        (r#"a:2:{i:0;i:5;s:1:"k";i:6;}"#, r#"{"0":5,"k":6}"#),
        // PHP takes such text for the integer
        (r#"a:2:{s:1:"0";i:5;s:1:"1";i:6;}"#, "[5,6]"),
        (r#"a:1:{s:2:"00";i:5;}"#, r#"{"00":5}"#),
        ("a:2:{i:0;a:2:{i:0;N;i:2;N;}i:1;a:2:{i:0;N;i:1;N;}}", r#"[{"0":null,"2":null},[null,null]]"#),
        ("a:2:{i:0;a:2:{i:0;N;i:1;N;}i:2;a:2:{i:0;N;i:1;N;}}", r#"{"0":[null,null],"2":[null,null]}"#),
        (
            r#"a:2:{s:1:"a";a:2:{i:0;N;i:1;a:2:{i:0;N;i:1;N;}}s:1:"b";a:2:{i:0;N;i:9;N;}}"#,
            r#"{"a":[null,[null,null]],"b":{"0":null,"9":null}}"#,
        ),
    ] {
        assert_eq!(to_json(serialized.as_bytes()).unwrap(), json, "{serialized}");
    }
}

#[test]
fn an_empty_map_is_the_empty_array_whatever_is_asked_for() {
    for empty in [Empty::List, Empty::Map] {
        let options = Options { empty, ..Options::default() };
        assert_eq!(transcode(Wire::Json, Wire::Php, b"{}", "$", options).unwrap(), b"a:0:{}");
        assert_eq!(transcode(Wire::Msgpack, Wire::Php, b"\x80", "$", options).unwrap(), b"a:0:{}");
        assert_eq!(transcode(Wire::Php, Wire::Msgpack, b"a:0:{}", "$", options).unwrap(), b"\x90");
    }
}

#[test]
fn a_key_that_comes_twice_is_passed_on_twice_in_order() {
    assert_eq!(to_php(r#"{"a":1,"a":2}"#), r#"a:2:{s:1:"a";i:1;s:1:"a";i:2;}"#);
    assert_eq!(to_json(br#"a:2:{s:1:"a";i:1;s:1:"a";i:2;}"#).unwrap(), r#"{"a":1,"a":2}"#);
}

#[test]
fn strings_keep_every_byte_where_the_other_side_can_hold_it() {
    let value = b"a:2:{s:2:\"\xff\x00\";s:4:\"\x00\";\xfe\";i:1;N;}";
    let packed = transcode(Wire::Php, Wire::Msgpack, value, "$", Options::default()).unwrap();
    assert_eq!(packed, b"\x82\xa2\xff\x00\xa4\x00\";\xfe\x01\xc0");
    assert_eq!(transcode(Wire::Msgpack, Wire::Php, &packed, "$", Options::default()).unwrap(), value);
    assert_eq!(
        fault(Wire::Php, Wire::Json, b"s:1:\"\xff\";"),
        "$: 1 bytes that are not UTF-8 cannot become JSON"
    );
    let base64 = Options { bytes: BytesAs::Base64, ..Options::default() };
    assert_eq!(transcode(Wire::Php, Wire::Json, b"s:1:\"\xff\";", "$", base64).unwrap(), b"\"/w==\"");
}

#[test]
fn what_is_more_than_a_plain_value_is_refused_with_its_place() {
    for (value, place, what) in [
        (&br#"a:1:{s:1:"k";O:5:"Point":1:{s:1:"x";i:1;}}"#[..], "$.k", "a PHP object of class Point"),
        (b"a:1:{i:0;O:2:\"\xffA\":0:{}}", "$[0]", "a PHP object of class \u{fffd}A"),
        (br#"a:2:{i:0;N;i:1;E:6:"Suit:H";}"#, "$[1]", "a PHP enum"),
        (br#"a:2:{i:0;i:5;i:1;R:2;}"#, "$[1]", "a PHP reference to an earlier value"),
        (br#"a:2:{i:0;i:5;i:1;r:2;}"#, "$[1]", "a PHP reference to an earlier value"),
        (br#"C:1:"X":3:{a:1}"#, "$", "a PHP object that packed itself"),
    ] {
        for (to, target) in [(Wire::Json, "JSON"), (Wire::Msgpack, "msgpack")] {
            assert_eq!(fault(Wire::Php, to, value), format!("{place}: {what} cannot become {target}"));
        }
    }
    assert_eq!(
        fault(Wire::Msgpack, Wire::Php, b"\x91\x82\xc0\xa5Point\xa1x\x01"),
        "$[0]: a PHP object of class Point cannot become serialized PHP, where only plain values are made"
    );
}

#[test]
fn what_php_has_no_value_for_is_refused_with_its_place() {
    for (from, value, reason) in [
        (
            Wire::Json,
            &b"[18446744073709551615]"[..],
            "$[0]: the integer 18446744073709551615 does not fit into PHP's signed 64 bits",
        ),
        (
            Wire::Json,
            b"[18446744073709551616]",
            "$[0]: the integer 18446744073709551616 does not fit into 64 bits",
        ),
        (Wire::Json, b"[1e400]", "$[0]: the number 1e400 is beyond the largest float"),
        (Wire::Msgpack, b"\x91\xd4\x05\x09", "$[0]: a msgpack extension cannot become PHP"),
        (
            Wire::Msgpack,
            b"\x81\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "$: a number as a key cannot become PHP",
        ),
        (Wire::Msgpack, b"\x81\xc3\x01", "$: a boolean as a key cannot become PHP"),
        (Wire::Msgpack, b"\x82\xa1a\x01\xc0\x01", "$: null as a key cannot become PHP"),
        (Wire::Msgpack, b"\x81\x90\x01", "$: a list as a key cannot become PHP"),
    ] {
        assert_eq!(fault(from, Wire::Php, value), reason);
    }
}

#[test]
fn a_string_with_escapes_passes_php_and_is_refused_elsewhere_unless_it_has_none() {
    let value = b"a:2:{S:1:\"\\41\";S:2:\"\\c3\\A9\";s:1:\"b\";i:1;}";
    assert_eq!(transcode(Wire::Php, Wire::Php, value, "$", Options::default()).unwrap(), value);
    let told = fault(Wire::Php, Wire::Msgpack, value);
    assert_eq!(told, "$: a PHP string with escapes cannot become msgpack");
    let told = fault(Wire::Php, Wire::Json, b"a:1:{s:1:\"k\";S:1:\"\\00\";}");
    assert_eq!(told, "$.k: a PHP string with escapes cannot become JSON");
    assert_eq!(
        to_json(b"a:2:{S:1:\"a\";S:2:\"\xc3\xa9\";S:1:\"7\";N;}").unwrap(),
        "{\"a\":\"\u{e9}\",\"7\":null}"
    );
}

#[test]
fn malformed_bytes_are_named_by_their_offset() {
    for (value, reason) in [
        (&b""[..], "byte 0: the input ends where a value belongs"),
        (b"N", "byte 1: the input ends where ';' belongs"),
        (b"x:1;", "byte 0: 'x' where a value belongs"),
        (b"b:2;", "byte 2: '2' where 0 or 1 belongs"),
        (b"i:;", "byte 2: ';' where an integer of 64 bits belongs"),
        (b"i:9223372036854775808;", "byte 2: 9223372036854775808 where an integer of 64 bits belongs"),
        (b"i:1-;", "byte 2: 1- where an integer of 64 bits belongs"),
        (b"d:1e400;", "byte 2: 1e400 where a float of 64 bits belongs"),
        (b"d:-NAN;", "byte 2: -NAN where a float of 64 bits belongs"),
        (b"d:inf;", "byte 2: 'i' where a float of 64 bits belongs"),
        (b"s:-1:\"\";", "byte 2: '-' where a count belongs"),
        (b"s:9:\"abc\";", "byte 5: 9 bytes wanted, 5 left"),
        (b"s:18446744073709551615:\"\";", "byte 24: 18446744073709551615 bytes wanted, 2 left"),
        (b"s:99999999999999999999:\"\";", "byte 2: 99999999999999999999 where a count belongs"),
        (b"s:2:\"abc\";", "byte 7: 'c' where '\"' belongs"),
        (b"S:3:\"a\\62\";", "byte 10: ';' where '\"' belongs"),
        (b"S:1:\"\\4\";", "byte 5: '\\\\' where an escape such as \\41 belongs"),
        (b"S:2:\"a", "byte 6: the input ends where a byte of the string belongs"),
        (b"a:1:{}", "byte 2: an array of 1 entries, cut short after 1 bytes"),
        (b"a:4294967295:{i:0;N;}", "byte 2: an array of 4294967295 entries, cut short after 7 bytes"),
        (
            b"a:18446744073709551615:{}",
            "byte 2: an array of 18446744073709551615 entries, cut short after 1 bytes",
        ),
        (b"a:1:{i:0;N;i:1;N;}", "byte 11: 'i' where '}' belongs"),
        (b"a:2:{i:0;N;}      ", "byte 11: '}' where a key belongs"),
        (b"a:1:{N;i:1;}", "byte 5: 'N' where a key belongs"),
        (b"a:1:{d:0;i:1;}", "byte 5: 'd' where a key belongs"),
        (b"O:1:\"X\":9:{}", "byte 8: an object of 9 entries, cut short after 1 bytes"),
        (b"o:0:{}", "byte 0: 'o' where a value belongs"),
        (b"N;N;", "byte 2: bytes behind the value"),
    ] {
        for to in [Wire::Json, Wire::Php] {
            assert_eq!(fault(Wire::Php, to, value), reason, "{}", value.escape_ascii());
        }
    }
}

#[test]
fn nesting_is_carried_to_512_and_refused_beyond() {
    let json = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let php = |depth: usize| "a:1:{i:0;".repeat(depth - 1) + "a:0:{}" + &"}".repeat(depth - 1);
    assert_eq!(to_php(&json(MAX_DEPTH)), php(MAX_DEPTH));
    assert_eq!(to_json(php(MAX_DEPTH).as_bytes()).unwrap(), json(MAX_DEPTH));
    let too_deep = format!("byte {}: nested deeper than 512", MAX_DEPTH * 9);
    for deep in [MAX_DEPTH + 1, 100_000] {
        assert_eq!(fault(Wire::Php, Wire::Json, php(deep).as_bytes()), too_deep);
        let pair = "a:2:{i:0;".repeat(deep) + &"N;i:1;N;}".repeat(deep);
        assert_eq!(fault(Wire::Php, Wire::Json, pair.as_bytes()), too_deep);
        let objects = "O:1:\"X\":1:{i:0;".repeat(deep) + &"N;}".repeat(deep);
        assert!(fault(Wire::Php, Wire::Php, objects.as_bytes()).contains("nested deeper than 512"));
    }
}

#[test]
fn counts_of_every_length_at_every_level_are_right() {
    for entries in [9_usize, 10, 11, 99, 100, 12345] {
        let items = vec!["0"; entries - 1].join(",");
        let mut json = "7".to_owned();
        for _ in 0..4 {
            json = format!("[{items},{json}]");
        }
        let serialized = to_php(&json);
        assert_eq!(serialized.matches(&format!("a:{entries}:{{")).count(), 4);
        assert_eq!(to_json(serialized.as_bytes()).unwrap(), json);
    }
}
