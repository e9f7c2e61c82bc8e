//! What happens to single values on their way from one codec to the other.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a value that is not as expected must stop the test")]

use proto_adapters::{
    BytesAs, Empty, Fault, MAX_DEPTH, Options, Wire, body_to_params, form_to_params, transcode,
};

fn pack(json: &str) -> Result<Vec<u8>, Fault> {
    transcode(Wire::Json, Wire::Msgpack, json.as_bytes(), "$", Options::default())
}

fn unpack(packed: &[u8]) -> Result<String, Fault> {
    transcode(Wire::Msgpack, Wire::Json, packed, "$", Options::default())
        .map(|text| String::from_utf8(text).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(|byte| *byte != b' ').collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn refused(json: &str) -> String {
    match pack(json) {
        Err(fault @ Fault::Unadaptable { .. }) => fault.to_string(),
        other => panic!("{json}: {other:?}"),
    }
}

fn malformed(json: &[u8]) -> usize {
    let one = transcode(Wire::Json, Wire::Msgpack, json, "$", Options::default());
    let copied = transcode(Wire::Json, Wire::Json, json, "$", Options::default());
    assert_eq!(one, copied, "{}", json.escape_ascii());
    match one {
        Err(Fault::Malformed { at, .. }) => at,
        other => panic!("{}: {other:?}", json.escape_ascii()),
    }
}

#[test]
fn every_value_is_packed_as_php_msgpack_packs_it() {
    let cases = [
        ("null", "c0"),
        ("true", "c3"),
        ("false", "c2"),
        ("0", "00"),
        ("127", "7f"),
        ("128", "cc80"),
        ("255", "ccff"),
        ("256", "cd0100"),
        ("65535", "cdffff"),
        ("65536", "ce00010000"),
        ("4294967295", "ceffffffff"),
        ("4294967296", "cf0000000100000000"),
        ("9223372036854775807", "cf7fffffffffffffff"),
        ("-1", "ff"),
        ("-32", "e0"),
        ("-33", "d0df"),
        ("-128", "d080"),
        ("-129", "d1ff7f"),
        ("-32768", "d18000"),
        ("-32769", "d2ffff7fff"),
        ("-2147483648", "d280000000"),
        ("-2147483649", "d3ffffffff7fffffff"),
        ("-9223372036854775808", "d38000000000000000"),
        ("1.5", "cb3ff8000000000000"),
        ("0.1", "cb3fb999999999999a"),
        ("[]", "90"),
        ("[1,2]", "920102"),
        (r#"{"a":1}"#, "81a16101"),
        (r#"{"7":"a"}"#, "81a137a161"),
        (r#""""#, "a0"),
        ("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "dc00100102030405060708090a0b0c0d0e0f10"),
    ];
    for (json, packed) in cases {
        assert_eq!(hex(&pack(json).unwrap()), packed, "{json}");
        assert_eq!(unpack(&unhex(packed)).unwrap(), json);
    }
}

#[test]
fn strings_take_the_shortest_head_of_their_family() {
    for (len, head) in [(31, "bf"), (32, "d920"), (255, "d9ff"), (256, "da0100"), (65536, "db00010000")] {
        let json = format!("\"{}\"", "a".repeat(len));
        let packed = pack(&json).unwrap();
        assert_eq!(hex(&packed[..packed.len() - len]), head);
        assert_eq!(unpack(&packed).unwrap(), json);
    }
}

#[test]
fn a_float_that_is_whole_stays_a_float() {
    for (json, packed, back) in [
        ("3.0", "cb4008000000000000", "3.0"),
        ("-0.0", "cb8000000000000000", "-0.0"),
        ("1e25", "cb45208b2a2c280291", "1e25"),
        ("1e2", "cb4059000000000000", "100.0"),
        ("5e-324", "cb0000000000000001", "5e-324"),
        ("1.7976931348623157e308", "cb7fefffffffffffff", "1.7976931348623157e308"),
    ] {
        assert_eq!(hex(&pack(json).unwrap()), packed, "{json}");
        assert_eq!(unpack(&unhex(packed)).unwrap(), back);
    }
}

#[test]
fn minus_zero_without_a_point_is_the_integer_zero() {
    assert_eq!(hex(&pack("-0").unwrap()), "00");
}

#[test]
fn a_float32_is_widened_exactly() {
    assert_eq!(unpack(&unhex("ca3dcccccd")).unwrap(), "0.10000000149011612");
    assert_eq!(unpack(&unhex("ca3fc00000")).unwrap(), "1.5");
}

#[test]
fn numbers_beyond_both_types_are_refused_and_never_rounded() {
    assert_eq!(
        refused(r#"{"a":[18446744073709551616]}"#),
        "$.a[0]: the integer 18446744073709551616 does not fit into 64 bits"
    );
    assert_eq!(
        refused("-9223372036854775809"),
        "$: the integer -9223372036854775809 does not fit into 64 bits"
    );
    assert_eq!(refused("[1,1e400]"), "$[1]: the number 1e400 is beyond the largest float");
    for tiny in ["1e-400", "-0.001E-322", "2e-324"] {
        assert_eq!(refused(tiny), format!("$: the number {tiny} is nearer to 0 than any float"));
    }
    for zero in ["0e-400", "0.000", "0E9"] {
        assert_eq!(hex(&pack(zero).unwrap()), "cb0000000000000000", "{zero}");
    }
    assert_eq!(hex(&pack("3e-324").unwrap()), "cb0000000000000001");
}

#[test]
fn an_integer_that_php_would_read_as_text_leaves_msgpack_and_never_enters_it() {
    for (packed, digits) in
        [("cf8000000000000000", "9223372036854775808"), ("cfffffffffffffffff", "18446744073709551615")]
    {
        assert_eq!(unpack(&unhex(packed)).unwrap(), digits);
        assert_eq!(
            refused(&format!(r#"{{"a":[{digits}]}}"#)),
            format!("$.a[0]: the integer {digits} does not fit into PHP's signed 64 bits")
        );
        let copied = transcode(Wire::Msgpack, Wire::Msgpack, &unhex(packed), "$", Options::default());
        assert_eq!(copied.unwrap(), unhex(packed));
    }
}

#[test]
fn within_json_a_number_of_any_size_is_copied() {
    let text = b"[1e400,1e-400,123456789012345678901234567890]";
    assert_eq!(transcode(Wire::Json, Wire::Json, text, "$", Options::default()).unwrap(), text);
}

#[test]
fn within_one_codec_the_bytes_stay_as_they_are() {
    let spaced = b" { \"a\" : [ 1e2 ] }\n";
    let copied = transcode(Wire::Json, Wire::Json, spaced, "$", Options::default()).unwrap();
    assert_eq!(copied, b"{ \"a\" : [ 1e2 ] }");
    // an object, an extension, a long head and bytes that are not UTF-8
    let packed = unhex("94 82c0a8737464436c617373a16101 d401ff dc000100 a2fffe");
    assert_eq!(transcode(Wire::Msgpack, Wire::Msgpack, &packed, "$", Options::default()).unwrap(), packed);
}

#[test]
fn an_empty_object_becomes_an_empty_list_unless_a_map_is_asked_for() {
    assert_eq!(hex(&pack(r#"{"a":{}}"#).unwrap()), "81a16190");
    let map = Options { empty: Empty::Map, ..Options::default() };
    let packed = transcode(Wire::Json, Wire::Msgpack, br#"[{},[]]"#, "$", map).unwrap();
    assert_eq!(hex(&packed), "928090");
    assert_eq!(unpack(&packed).unwrap(), "[{},[]]");
}

#[test]
fn a_key_that_comes_twice_is_passed_on_twice_in_order() {
    assert_eq!(hex(&pack(r#"{"a":1,"b":2,"a":3}"#).unwrap()), "83a16101a16202a16103");
    assert_eq!(unpack(&unhex("82a16101a16103")).unwrap(), r#"{"a":1,"a":3}"#);
}

#[test]
fn strings_keep_nul_quotes_and_every_script() {
    let json = r#""a\u0000b\"\\\n\u001f/é😀""#;
    let packed = pack(json).unwrap();
    assert_eq!(&packed[1..], "a\0b\"\\\n\u{1f}/é😀".as_bytes());
    assert_eq!(unpack(&packed).unwrap(), json);
}

#[test]
fn escapes_are_decoded_and_surrogate_pairs_joined() {
    assert_eq!(&pack(r#""\ud83d\ude00\/\b\f\r\t\u00e9""#).unwrap()[1..], "😀/\u{8}\u{c}\r\té".as_bytes());
}

#[test]
fn what_php_does_not_read_as_json_is_malformed_here_too() {
    let cases: [(&[u8], usize); 30] = [
        (b"", 0),
        (b" ", 1),
        (b"\xef\xbb\xbf1", 0),
        (b"NaN", 0),
        (b"[1,]", 3),
        (b"[,1]", 1),
        (b"[1 2]", 3),
        (b"{\"a\" 1}", 5),
        (b"{\"a\":1,}", 7),
        (b"{a:1}", 1),
        (b"[1}", 2),
        (b"{\"a\":1]", 6),
        (b"01", 1),
        (b"1.", 2),
        (b".5", 0),
        (b"-", 1),
        (b"1e", 2),
        (b"\"\\ud83d\"", 1),
        (b"\"\\ude00\"", 1),
        (b"\"\\ud83d\\u0041\"", 1),
        (b"\"a\x01\"", 2),
        (b"\"a\xff\"", 2),
        (b"\"\\x\"", 2),
        (b"[1] 2", 4),
        (b"[\"ab\xffc\"]", 4),
        (b"{\"\xc3\":1}", 2),
        (b"[\"a\\n\xc3\xa9\xed\xa0\x80\"]", 7),
        (b"[1,] \xff", 3),
        (b"[\"a\"]\xff", 5),
        (b"[-\xff]", 2),
    ];
    for (json, at) in cases {
        assert_eq!(malformed(json), at, "{}", json.escape_ascii());
    }
}

#[test]
fn text_of_any_length_is_carried_and_its_first_bad_byte_found() {
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..300 {
        // where one part that is looked at ends and the next begins, a character may be cut
        let strings: Vec<String> = (0..rng.usize(1..40))
            .map(|_| (0..rng.usize(..1500)).map(|_| rng.choice(['a', 'é', '你', '😀']).unwrap()).collect())
            .collect();
        let mut json = format!("[\"{}\"]", strings.join("\",\"")).into_bytes();
        let packed = transcode(Wire::Json, Wire::Msgpack, &json, "$", Options::default()).unwrap();
        let again = transcode(Wire::Msgpack, Wire::Json, &packed, "$", Options::default()).unwrap();
        assert_eq!(again, json);
        let at = rng.usize(2..json.len() - 2);
        json[at] = 0xff;
        let valid = str::from_utf8(&json).unwrap_err().valid_up_to();
        // outside of a string it is no value
        assert!(malformed(&json) <= valid, "{valid} of {}", json.len());
        let in_string = json[..valid].iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        assert!(!in_string || malformed(&json) == valid);
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_with_their_place() {
    let packed = unhex("81a475736572 81a570686f746f ac ffd8ffe000104a4649460001");
    assert_eq!(
        unpack(&packed).unwrap_err().to_string(),
        "$.user.photo: 12 bytes that are not UTF-8 cannot become JSON"
    );
}

#[test]
fn of_all_faults_of_a_value_the_first_is_told() {
    // halves of an é in two strings are none; NaN, an extension or a broken end behind bytes come later than these
    for rest in ["a1a9", "cb7ff8000000000000", "d401ff", "c1"] {
        let told = unpack(&unhex(&format!("92a1c3{rest}"))).unwrap_err().to_string();
        assert_eq!(told, "$[0]: 1 bytes that are not UTF-8 cannot become JSON", "{rest}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_become_base64_if_asked_for() {
    let base64 = Options { bytes: BytesAs::Base64, ..Options::default() };
    let text = transcode(Wire::Msgpack, Wire::Json, &unhex("92a2fffec402fffe"), "$", base64).unwrap();
    assert_eq!(text, br#"["//4=","//4="]"#);
}

#[test]
fn a_bin_that_is_utf_8_is_a_string() {
    assert_eq!(unpack(&unhex("c403616263")).unwrap(), "\"abc\"");
}

#[test]
fn integer_keys_become_strings_in_json() {
    let packed = unhex("84 00a161 ffa162 cf8000000000000000c3 a17801");
    assert_eq!(unpack(&packed).unwrap(), r#"{"0":"a","-1":"b","9223372036854775808":true,"x":1}"#);
}

#[test]
fn a_php_object_is_refused_by_its_class() {
    let packed = unhex("92 01 81 a16b 82c0a5506f696e74a17801");
    assert_eq!(
        unpack(&packed).unwrap_err().to_string(),
        "$[1].k: a PHP object of class Point cannot become JSON"
    );
    assert_eq!(
        unpack(&unhex("9182c0040003")).unwrap_err().to_string(),
        "$[0]: a PHP reference to an earlier value cannot become JSON"
    );
}

#[test]
fn keys_that_are_no_keys_in_json_are_refused() {
    for (packed, reason) in [
        ("81cb3ff800000000000001", "$: a number as a key cannot become JSON"),
        ("81c301", "$: a boolean as a key cannot become JSON"),
        ("819001", "$: a list as a key cannot become JSON"),
        ("82a16101c001", "$: null as a key cannot become JSON"),
        ("81a2fffe01", "$: a string that is not UTF-8 as a key cannot become JSON"),
    ] {
        assert_eq!(unpack(&unhex(packed)).unwrap_err().to_string(), reason);
    }
}

#[test]
fn nan_infinities_and_extensions_have_no_json() {
    for (packed, reason) in [
        ("cb7ff8000000000000", "$: the float NaN cannot become JSON"),
        ("cb7ff0000000000000", "$: the float inf cannot become JSON"),
        ("ca ff800000", "$: the float -inf cannot become JSON"),
        ("91d6ff00000000", "$[0]: a msgpack extension cannot become JSON"),
        ("c7030161 6263", "$: a msgpack extension cannot become JSON"),
    ] {
        assert_eq!(unpack(&unhex(packed)).unwrap_err().to_string(), reason);
    }
}

#[test]
fn paths_quote_keys_that_are_no_words() {
    let json = r#"{"plain":{"a b":{"":[{"é":[0,1e999]}]}}}"#;
    assert_eq!(refused(json), r#"$.plain["a b"][""][0].é[1]: the number 1e999 is beyond the largest float"#);
    let root = transcode(Wire::Json, Wire::Msgpack, b"[1e999]", "$.r", Options::default());
    assert_eq!(root.unwrap_err().to_string(), "$.r[0]: the number 1e999 is beyond the largest float");
}

#[test]
fn of_a_deep_path_the_middle_is_left_out() {
    let json = "[".repeat(100) + "1e999" + &"]".repeat(100);
    let ends = "[0]".repeat(16);
    let fault = format!("${ends}…{ends}: the number 1e999 is beyond the largest float");
    assert_eq!(refused(&json), fault);
}

#[test]
fn malformed_msgpack_is_named_by_its_offset() {
    for (packed, fault) in [
        ("", "byte 0: 1 bytes wanted, 0 left"),
        ("92c0c1", "byte 2: the reserved marker c1"),
        ("ddffffffff", "byte 0: a list of 4294967295 entries, cut short after 0 bytes"),
        ("dfffffffff0000", "byte 0: a map of 4294967295 entries, cut short after 2 bytes"),
        ("dbffffffff61", "byte 5: 4294967295 bytes wanted, 1 left"),
        ("c6ffffffff61", "byte 5: 4294967295 bytes wanted, 1 left"),
        ("c9ffffffff0161", "byte 6: 4294967295 bytes wanted, 1 left"),
        ("cd00", "byte 1: 2 bytes wanted, 1 left"),
        ("8101", "byte 0: a map of 1 entries, cut short after 1 bytes"),
        ("0000", "byte 1: bytes behind the value"),
    ] {
        assert_eq!(unpack(&unhex(packed)).unwrap_err().to_string(), fault, "{packed}");
    }
}

fn nested(depth: usize) -> (Vec<u8>, Vec<u8>) {
    let json = "[".repeat(depth) + &"]".repeat(depth);
    let mut packed = vec![0x91; depth - 1];
    packed.push(0x90);
    (json.into_bytes(), packed)
}

#[test]
fn nesting_is_carried_to_512_and_refused_beyond() {
    let (json, packed) = nested(MAX_DEPTH);
    assert_eq!(transcode(Wire::Json, Wire::Msgpack, &json, "$", Options::default()).unwrap(), packed);
    assert_eq!(transcode(Wire::Msgpack, Wire::Json, &packed, "$", Options::default()).unwrap(), json);
    for deep in [MAX_DEPTH + 1, 100_000] {
        let (json, packed) = nested(deep);
        for (wire, bytes) in [(Wire::Json, json), (Wire::Msgpack, packed)] {
            for to in [Wire::Json, Wire::Msgpack] {
                let fault = transcode(wire, to, &bytes, "$", Options::default()).unwrap_err();
                assert_eq!(fault.to_string(), "byte 512: nested deeper than 512");
            }
        }
    }
}

#[test]
fn lists_and_maps_of_every_size_get_the_right_head() {
    for count in [0_usize, 1, 15, 16, 17, 65535, 65536] {
        let items: Vec<_> = (0..count).map(|item| (item % 128).to_string()).collect();
        let json = format!("[[7],[{}],[8]]", items.join(","));
        let packed = pack(&json).unwrap();
        assert_eq!(unpack(&packed).unwrap(), json);
        let head = match count {
            0..16 => format!("{:02x}", 0x90 | count),
            16..65536 => format!("dc{count:04x}"),
            _ => format!("dd{count:08x}"),
        };
        assert_eq!(hex(&packed[3..3 + head.len() / 2]), head);

        let pairs: Vec<_> = (0..count.max(1)).map(|item| format!("\"{item}\":[{item}]")).collect();
        let json = format!("{{{}}}", pairs.join(","));
        assert_eq!(unpack(&pack(&json).unwrap()).unwrap(), json);
    }
}

#[test]
fn long_heads_at_every_level_cost_no_more_than_their_bytes() {
    let row = "0,".repeat(15);
    let mut json = "7".to_owned();
    for _ in 0..MAX_DEPTH {
        json = format!("[{row}{json}]");
    }
    let packed = pack(&json).unwrap();
    assert_eq!(packed.len(), MAX_DEPTH * 18 + 1);
    assert_eq!(unpack(&packed).unwrap(), json);
}

#[test]
fn what_becomes_longer_than_it_may_be_is_refused() {
    let o = Options::default();
    let json = format!("[{}\"{}\"]", "[],".repeat(1000), "x".repeat(1000));
    let wires = [Wire::Json, Wire::Msgpack, Wire::Php];
    for (from, to) in wires.into_iter().flat_map(|from| wires.map(|to| (from, to))) {
        let value = transcode(Wire::Json, from, json.as_bytes(), "$", o).unwrap();
        let whole = transcode(from, to, &value, "$", o).unwrap();
        let within = |room| transcode(from, to, &value, "$", Options { room: Some(room), ..o });
        assert_eq!(within(whole.len()).as_ref(), Ok(&whole));
        for most in [0, 1, 500, whole.len() / 2, whole.len() - 10] {
            assert_eq!(within(most), Err(Fault::TooLong { most }), "{from:?} {to:?}");
        }
    }
    let form = "a[]=&".repeat(900);
    let short = Options { room: Some(100), ..o };
    let told = form_to_params(form.as_bytes(), Wire::Php, &[], short);
    assert_eq!(told, Err(Fault::TooLong { most: 100 }));
    assert_eq!(body_to_params(json.as_bytes(), Wire::Php, &[], short), Err(Fault::TooLong { most: 100 }));
}
