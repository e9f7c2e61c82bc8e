//! Yar messages beyond the captured ones: odd heads, odd payloads, what is written.
use proto_adapters::yar::{self, Draft, HEAD};
use proto_adapters::{
    Charset, Code, Empty, Exception, Fault, Header, Options, Packager, Request, Response, Wire, adapt,
    body_to_params, transcode,
};

fn header(packager: Packager) -> Header {
    Header {
        id: 0x8000_0001,
        version: 0,
        reserved: 0,
        provider: b"shop".to_vec(),
        token: Vec::new(),
        body_len: 8,
        packager,
    }
}

/// The packager read from a head whose last 8 bytes are `field`.
fn packager(field: &[u8; 8]) -> Result<Packager, Fault> {
    let mut head = header(Packager::Json).encode(0);
    head[82..].copy_from_slice(field);
    Header::parse(&head).map(|header| header.packager)
}

fn request(packager: Packager, payload: &[u8]) -> Result<Request, String> {
    Request::read(packager, payload).map_err(|fault| fault.to_string())
}

fn response(packager: Packager, payload: &[u8]) -> Result<Response, String> {
    Response::read(packager, payload).map_err(|fault| fault.to_string())
}

fn out_of_stock() -> Exception {
    Exception {
        message: "no \"stock\" — sorry".to_owned(),
        code: Code::Int(10404),
        file: String::new(),
        line: 0,
        class: "Remora\\NoService".to_owned(),
    }
}

#[test]
fn a_header_survives_being_written_and_read() {
    let mut long = header(Packager::Msgpack);
    long.provider = vec![b'p'; 32];
    long.token = "schlüssel".into();
    long.reserved = 1;
    long.version = 10;
    long.body_len = 8 + 1000;
    assert_eq!(Header::parse(&long.encode(1000)).unwrap(), long);
}

#[test]
fn the_packager_is_read_up_to_its_nul_in_any_case() {
    assert_eq!(packager(b"JSON\0YAR"), Ok(Packager::Json));
    assert_eq!(packager(b"PHP\0YAR_"), Ok(Packager::Php));
    assert_eq!(packager(b"json\0\0\0\0"), Ok(Packager::Json));
    assert_eq!(packager(b"MSGPACK\0"), Ok(Packager::Msgpack));
    assert_eq!(packager(b"msgpackX"), Ok(Packager::Msgpack));
    for (field, name) in [
        (b"JSONABCD", "JSONABC"),
        (b"JSON    ", "JSON   "),
        (b"FOO\0\0\0\0\0", "FOO"),
        (b"\0\0\0\0\0\0\0\0", ""),
        (b"\xff\x01\0\0\0\0\0\0", "\\xff\\x01"),
    ] {
        let fault = packager(field).unwrap_err();
        assert_eq!(fault.to_string(), format!("byte 82: unknown packager '{name}'"));
    }
}

#[test]
fn without_its_magic_a_message_is_not_yar() {
    let mut head = header(Packager::Json).encode(0);
    assert!(yar::is_yar(&head[..10]));
    assert!(!yar::is_yar(&head[..9]));
    head[8] = 0;
    assert!(!yar::is_yar(&head));
    assert_eq!(Header::parse(&head).unwrap_err().to_string(), "byte 6: no Yar magic 80dfec60");
}

#[test]
fn a_request_is_read_in_any_order_with_the_later_of_two_keys() {
    let payload = br#" {"p":[1],"x":{"m":"inner"},"m":"a","p":{"b":2},"i":5,"m":"add"} "#;
    let read = request(Packager::Json, payload).unwrap();
    assert_eq!((read.id, read.method.as_str()), (5, "add"));
    assert_eq!(&payload[read.params], br#"{"b":2}"#);
}

#[test]
fn a_request_without_parameters_has_an_empty_range() {
    for payload in [&br#"{"m":"a","i":1}"#[..], br#"{"m":"a","p":null}"#, br#"{"p":[1],"m":"a","p":null}"#] {
        assert!(request(Packager::Json, payload).unwrap().params.is_empty());
    }
    let read = request(Packager::Msgpack, b"\x82\xa1m\xa1a\xa1p\xc0").unwrap();
    assert!(read.params.is_empty());
}

#[test]
fn an_odd_request_id_reads_as_zero() {
    for (id, read) in [("-1", 0), ("\"7\"", 0), ("1.5", 0), ("[1]", 0), ("1099511627781", 1_099_511_627_781)]
    {
        let payload = format!(r#"{{"i":{id},"m":"a"}}"#);
        assert_eq!(request(Packager::Json, payload.as_bytes()).unwrap().id, read);
    }
}

#[test]
fn a_payload_that_is_no_request_is_malformed() {
    for (payload, fault) in [
        (&b""[..], "byte 0: the text ends where a value belongs"),
        (b"[1]", "byte 0: the payload is a list, not a map"),
        (br#"{"i":1}"#, "byte 7: the request has no `m`"),
        (br#"{"m":5}"#, "byte 5: `m` is a number, not a string"),
        (br#"{"m":"a"}x"#, "byte 9: bytes behind the value"),
        (br#"{"m":"a","p":[1}"#, "byte 15: '}' where ',' or ']' belongs"),
    ] {
        assert_eq!(request(Packager::Json, payload).unwrap_err(), fault);
    }
    assert_eq!(
        request(Packager::Msgpack, b"\x81\xa1m\xa1\xff").unwrap_err(),
        "byte 3: `m` is a string that is not UTF-8, not a string"
    );
}

#[test]
fn bytes_behind_a_msgpack_or_php_payload_are_left_alone() {
    assert!(request(Packager::Msgpack, b"\x81\xa1m\xa1a<br>").is_ok());
    let read = response(Packager::Msgpack, b"\x82\xa1i\x01\xa1s\x00<br>").unwrap();
    assert_eq!(read.end, 7);
    assert!(request(Packager::Php, br#"a:1:{s:1:"m";s:1:"a";}<br>"#).is_ok());
    let read = response(Packager::Php, br#"a:2:{s:1:"i";i:1;s:1:"s";i:0;}<br>"#).unwrap();
    assert_eq!(read.end, 30);
}

#[test]
fn a_payload_that_is_a_php_object_is_no_message() {
    let fault = "byte 0: the payload is a PHP object, not a map";
    let msgpack = b"\x84\xc0\xa1X\xa1i\x01\xa1s\x00\xa1m\xa1a";
    let php = br#"O:1:"X":3:{s:1:"i";i:1;s:1:"s";i:0;s:1:"m";s:1:"a";}"#;
    for (packager, payload) in [(Packager::Msgpack, &msgpack[..]), (Packager::Php, php)] {
        assert_eq!(response(packager, payload).unwrap_err(), fault);
        assert_eq!(request(packager, payload).unwrap_err(), fault);
    }
}

#[test]
fn keys_in_msgpack_may_be_bin() {
    let read = request(Packager::Msgpack, b"\x81\xc4\x01m\xc4\x01a").unwrap();
    assert_eq!(read.method, "a");
}

#[test]
fn a_response_without_id_or_status_is_never_a_success() {
    for (payload, fault) in [
        (&br#"{"s":0,"r":1}"#[..], "byte 13: the response has no `i`"),
        (br#"{"i":1,"r":1}"#, "byte 13: the response has no `s`"),
        (br#"{"i":1,"s":"0"}"#, "byte 11: `s` is a string, not an integer"),
        (br#"{"i":1,"s":null}"#, "byte 11: `s` is null, not an integer"),
        (br#"{"i":1,"s":0.0}"#, "byte 11: `s` is a number, not an integer"),
        (br#"{"i":1,"s":4294967296}"#, "byte 11: `s` is 4294967296, beyond the 32 bits that PHP reads"),
        (br#"{"i":1,"s":-2147483649}"#, "byte 11: `s` is -2147483649, beyond the 32 bits that PHP reads"),
        (b"[]", "byte 0: the payload is a list, not a map"),
    ] {
        assert_eq!(response(Packager::Json, payload).unwrap_err(), fault);
    }
}

#[test]
fn the_id_of_a_response_may_be_spelled_otherwise() {
    for (id, read) in [
        ("7", Some(7)),
        (r#""4294967295""#, Some(0xffff_ffff)),
        ("7.0", Some(7)),
        ("7.5", None),
        ("-7", None),
        (r#""7x""#, None),
        ("1e300", None),
        ("null", None),
        ("true", None),
        ("[7]", None),
    ] {
        let payload = format!(r#"{{"i":{id},"s":0,"r":1}}"#);
        assert_eq!(response(Packager::Json, payload.as_bytes()).unwrap().id, read, "{id}");
    }
}

#[test]
fn a_response_gives_the_places_of_its_parts() {
    let payload = br#"{"r":null,"s":0,"o":"hi","i":"odd","x":[]}"#;
    let read = response(Packager::Json, payload).unwrap();
    assert_eq!((read.id, read.status, read.error), (None, 0, None));
    assert_eq!(&payload[read.result.unwrap()], b"null");
    assert_eq!(&payload[read.output.unwrap()], br#""hi""#);
}

#[test]
fn printed_output_is_text_or_told_apart() {
    let read = |o: &str| response(Packager::Json, format!(r#"{{"i":1,"s":0,"o":{o}}}"#).as_bytes());
    for (o, text) in [(r#""hi""#, true), (r#""""#, true), ("null", false), ("7", false), ("1.5", false)] {
        let (at, read) = (Some(17..17 + o.len()), read(o).unwrap());
        assert_eq!((read.output, read.odd_output), if text { (at, None) } else { (None, at) }, "{o}");
    }
    let later = read(r#"7,"o":"hi""#).unwrap();
    assert_eq!((later.output.is_some(), later.odd_output), (true, None));
    assert_eq!(read("[1]").unwrap_err(), "byte 17: `o` is a list, not a string");
}

#[test]
fn an_error_that_is_text_gets_the_class_php_would_throw() {
    for (status, class) in [
        (1, "Yar_Client_Packager_Exception"),
        (2, "Yar_Client_Protocol_Exception"),
        (4, "Yar_Client_Exception"),
        (16, "Yar_Client_Transport_Exception"),
        (32, "Yar_Client_Exception"),
        (64, "Yar_Server_Exception"),
        (-1, "Yar_Client_Exception"),
    ] {
        let e = Exception::read(Packager::Json, status, Some(br#""broken""#));
        assert_eq!((e.message.as_str(), e.class.as_str()), ("broken", class));
        assert_eq!(e.code, Code::Int(status));
    }
    let lossy = Exception::read(Packager::Msgpack, 64, Some(b"\xa2a\xff"));
    assert_eq!(lossy.message, "a\u{fffd}");
}

#[test]
fn an_error_that_says_nothing_is_unknown() {
    for e in [None, Some(&b"5"[..]), Some(b"null"), Some(b"[]"), Some(b""), Some(b"{")] {
        assert_eq!(Exception::read(Packager::Json, 4, e).message, "unknown error, status 4");
    }
}

#[test]
fn an_exception_takes_what_its_map_has() {
    let text = br#"{"message":5,"code":"HY000","line":"12","file":null,"_type":"PDOException","x":[1]}"#;
    let e = Exception::read(Packager::Json, 64, Some(text));
    assert_eq!(e.message, "5");
    assert_eq!(e.code, Code::Str("HY000".to_owned()));
    assert_eq!((e.file.as_str(), e.line, e.class.as_str()), ("", 12, "PDOException"));
    let bare = Exception::read(Packager::Json, 64, Some(b"{}"));
    assert_eq!((bare.code, bare.class.as_str()), (Code::Int(0), "Yar_Server_Exception"));
}

#[test]
fn an_exception_survives_being_written_and_read() {
    for packager in [Packager::Json, Packager::Msgpack, Packager::Php] {
        for code in [Code::Int(-1), Code::Str("HY000".to_owned())] {
            let e = Exception { code, line: 7, file: "a.php".to_owned(), ..out_of_stock() };
            let message = yar::encode_exception(packager, 0xffff_ffff, &e);
            let header = Header::parse(&message).unwrap();
            assert_eq!((header.id, header.packager), (0xffff_ffff, packager));
            assert_eq!(header.provider, b"remora");
            assert_eq!(header.body_len as usize, message.len() - 82);
            let read = Response::read(packager, &message[HEAD..]).unwrap();
            assert_eq!((read.id, read.status), (Some(0xffff_ffff), 64));
            assert_eq!(Exception::read(packager, 64, read.error.map(|at| &message[HEAD..][at])), e);
        }
    }
}

#[test]
fn an_exception_reaches_a_caller_of_the_php_packager_in_his_own() {
    let message = yar::encode_exception(Packager::Php, 7, &out_of_stock());
    assert_eq!(Header::parse(&message).unwrap().packager, Packager::Php);
    let payload = concat!(
        r#"a:3:{s:1:"i";i:7;s:1:"s";i:64;s:1:"e";a:5:{s:7:"message";s:20:"no "stock" — sorry";"#,
        r#"s:4:"code";i:10404;s:4:"file";s:0:"";s:4:"line";i:0;s:5:"_type";s:16:"Remora\NoService";}}"#
    );
    assert_eq!(String::from_utf8_lossy(&message[HEAD..]), payload);
}

#[test]
fn a_result_is_written_with_its_output_before_it() {
    let message = yar::encode_result(Packager::Json, 7, b"[1]", Some(br#""hi""#));
    assert_eq!(&message[HEAD..], br#"{"i":7,"s":0,"o":"hi","r":[1]}"#);
    let message = yar::encode_result(Packager::Msgpack, 200, b"\x91\x01", None);
    assert_eq!(&message[HEAD..], b"\x83\xa1i\xcc\xc8\xa1s\x00\xa1r\x91\x01");
    let message = yar::encode_result(Packager::Php, 7, b"b:1;", None);
    assert_eq!(&message[HEAD..], br#"a:3:{s:1:"i";i:7;s:1:"s";i:0;s:1:"r";b:1;}"#);
}

#[test]
fn a_request_never_carries_parameters_that_crash_php() {
    let payload = |packager, params: &[u8]| {
        yar::encode_request(packager, 1, b"", b"", "a", params).map(|message| message[HEAD..].to_vec())
    };
    let none = b"\x83\xa1i\x01\xa1m\xa1a\xa1p\x90";
    for params in [&b""[..], b"\x80", b"\xde\0\0", b"\x90"] {
        assert_eq!(payload(Packager::Msgpack, params).unwrap(), none);
    }
    assert_eq!(payload(Packager::Json, b"{ }").unwrap(), br#"{"i":1,"m":"a","p":[]}"#);
    assert_eq!(
        payload(Packager::Msgpack, b"\xc0").unwrap_err().to_string(),
        "byte 0: `p` is null, not the list of the call's parameters"
    );
    for params in [&b""[..], b"a:0:{}"] {
        assert_eq!(
            payload(Packager::Php, params).unwrap(),
            br#"a:3:{s:1:"i";i:1;s:1:"m";s:1:"a";s:1:"p";a:0:{}}"#
        );
    }
    for (packager, object) in
        [(Packager::Msgpack, &b"\x81\xc0\xa1X"[..]), (Packager::Php, br#"O:1:"X":0:{}"#)]
    {
        assert_eq!(
            payload(packager, object).unwrap_err().to_string(),
            "byte 0: `p` is a PHP object, not the list of the call's parameters"
        );
    }
}

/// A request whose parameters are written where they belong, and where they stand in it.
fn drafted(packager: Packager, body: &[u8], o: Options) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let draft = Draft::new(packager, 7, [b"shop", b""], "取", body.len(), o)?;
    let (message, params) = draft.finish(|writer| adapt::body_into(writer, body, &[], o))?;
    let params = message[params].to_vec();
    Ok((message, params))
}

#[test]
fn parameters_are_written_where_they_belong_as_they_are_apart() {
    let list = format!("[[{}], \"你好\", 1.5, {{}}]", ["{\"a\":[]}"; 40].join(","));
    for packager in [Packager::Msgpack, Packager::Json, Packager::Php] {
        for charset in [Charset::Utf8, Charset::Gbk] {
            for body in [&b""[..], b"[]", b"{}", b"{\"id\": 7}", list.as_bytes()] {
                let o = Options { to: charset, in_message: true, empty: Empty::Map, ..Options::default() };
                let params = body_to_params(body, packager.wire(), &[], o).unwrap();
                let message = yar::encode_request(packager, 7, b"shop", b"", "取", &params).unwrap();
                assert_eq!(drafted(packager, body, o), Ok((message, params)));
            }
        }
    }
}

#[test]
fn a_request_whose_parameters_nobody_wrote_has_none() {
    for packager in [Packager::Msgpack, Packager::Json, Packager::Php] {
        let draft = Draft::new(packager, 7, [b"", b""], "a", 0, Options::default()).unwrap();
        let (message, _) = draft.finish(|_| Ok::<(), Fault>(())).unwrap();
        assert_eq!(Ok(message), yar::encode_request(packager, 7, b"", b"", "a", b""));
    }
}

#[test]
fn parameters_in_a_request_have_the_room_and_the_depth_they_have_apart() {
    let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
    for packager in [Packager::Msgpack, Packager::Json, Packager::Php] {
        for depth in [1, 500, 511, 512, 513] {
            for room in
                [None, Some(0), Some(1), Some(depth - 1), Some(depth), Some(2 * depth), Some(9 * depth)]
            {
                let o = Options { in_message: true, room, ..Options::default() };
                let body = nested(depth);
                let apart = body_to_params(body.as_bytes(), packager.wire(), &[], o);
                let drafted = drafted(packager, body.as_bytes(), o).map(|(_, params)| params);
                assert_eq!(drafted, apart, "{packager:?} {depth} {room:?}");
            }
        }
    }
}

#[test]
fn a_result_that_is_read_ahead_ends_where_it_would_otherwise() {
    for (payload, result) in [
        (&b"\x83\xa1i\x07\xa1s\x00\xa1r\x92\x01\x81\xa1a\x90"[..], Some("[1,{\"a\":[]}]")),
        (b"\x83\xa1r\x05\xa1i\x07\xa1s\x00 and junk", Some("5")),
        (b"\x84\xa1i\x07\xa1r\x91\xc0\xa1s\x00\xa1o\xa2hi", Some("[null]")),
        // of two the later one counts, and is left to others
        (b"\x84\xa1i\x07\xa1r\x91\xc0\xa1s\x00\xa1r\xc2", None),
        // no result of a success
        (b"\x83\xa1i\x07\xa1s\x40\xa1r\x91\x05", None),
        // no text: left to whoever can say so
        (b"\x83\xa1i\x07\xa1s\x00\xa1r\x91\xa1\xff", None),
        (b"\x84\xa1i\x07\xa1r\xc2\xa1s\x00\xa1r\x81\xc0\xa1X", None),
    ] {
        let (read, json) = Response::read_to_json(Packager::Msgpack, payload, Options::default()).unwrap();
        assert_eq!(read, Response::read(Packager::Msgpack, payload).unwrap());
        assert_eq!(json.as_deref(), result.map(str::as_bytes), "{payload:x?}");
    }
}

#[test]
fn a_result_that_is_read_ahead_is_as_deep_as_one_that_is_not() {
    for depth in 509..=513 {
        let result = [vec![0x91; depth], vec![0xc0]].concat();
        let payload = [&b"\x83\xa1i\x07\xa1s\x00\xa1r"[..], &result].concat();
        let read = Response::read(Packager::Msgpack, &payload);
        let ahead = Response::read_to_json(Packager::Msgpack, &payload, Options::default());
        assert_eq!(ahead.clone().map(|(ahead, _)| ahead), read);
        assert_eq!(ahead.is_ok_and(|(_, json)| json.is_some()), depth < 512, "{depth}");
    }
}

#[test]
fn many_results_are_not_each_read_with_all_that_follows() {
    let payload = [&b"\xde\x40\x02\xa1i\x07\xa1s\x00"[..], &b"\xa1r\x90".repeat(0x4000)].concat();
    let read = |payload: &[u8]| Response::read_to_json(Packager::Msgpack, payload, Options::default());
    let allocated = allocation_counter::measure(|| drop(read(&payload))).bytes_total;
    assert!(allocated < 2 * payload.len() as u64, "{allocated} bytes for {}", payload.len());
    assert_eq!(read(&payload).map(|(_, json)| json), Ok(None));
}

#[test]
fn a_message_keeps_little_room_that_it_does_not_need() {
    let body = format!("[{}1]", " ".repeat(1 << 20));
    let payload =
        [&b"\x84\xa1i\x07\xa1s\x00\xa1r\x01\xa1o\xdb\x00\x10\x00\x00"[..], &vec![b'o'; 1 << 20]].concat();
    let (_, json) = Response::read_to_json(Packager::Msgpack, &payload, Options::default()).unwrap();
    assert!(json.unwrap().capacity() < 4 << 10);
    for packager in [Packager::Msgpack, Packager::Json, Packager::Php] {
        let (message, _) = drafted(packager, body.as_bytes(), Options::default()).unwrap();
        let spare = message.capacity() - message.len();
        assert!(spare <= (2 << 10) + message.len() / 4, "{packager:?}: {spare}");
    }
}

#[test]
fn a_provider_or_token_that_does_not_fit_is_refused_not_cut() {
    let long = [b'x'; 33];
    let request = |provider: &[u8], token: &[u8]| {
        yar::encode_request(Packager::Json, 1, provider, token, "a", b"").map_err(|fault| fault.to_string())
    };
    assert!(request(&long[..32], &long[..32]).is_ok());
    assert_eq!(request(&long, b"").unwrap_err(), "provider: 33 bytes, where Yar has room for 32");
    assert_eq!(request(b"", &long).unwrap_err(), "token: 33 bytes, where Yar has room for 32");
}

#[test]
fn a_message_is_described_with_tags_only_where_json_has_no_form() {
    let value = b"\x86\xa1a\xa2\xff\xfe\x07\xcb\x7f\xf8\0\0\0\0\0\0\xa1b\xcb\x40\x08\0\0\0\0\0\0\xa1c\x82\xc0\xa1X\xa1k\x01\xa1d\x80\xa1e\xd4\x01\xff";
    let message = yar::encode_result(Packager::Msgpack, 7, value, None);
    assert_eq!(
        yar::describe(&message, false).unwrap(),
        concat!(
            r#"{"id":7,"version":0,"provider":"remora","token":"","packager":"MSGPACK","body":"#,
            r#"{"i":7,"s":0,"r":{"a":{"$bin":"fffe"},"7":{"$float":"NAN"},"b":3.0,"#,
            r#""c":{"$object":"X","props":{"k":1}},"d":{},"e":{"$ext":[1,"ff"]}}}}"#
        )
    );
    assert_eq!(
        yar::describe(&message, true).unwrap(),
        concat!(
            r#"{"id":7,"version":0,"provider":"remora","token":"","packager":"MSGPACK","body":"#,
            r#"{"$map":[["i",7],["s",0],["r",{"$map":[["a",{"$bin":"fffe"}],[7,{"$float":"NAN"}],["b",{"$float":"3.0"}],"#,
            r#"["c",{"$object":"X","props":[["k",1]]}],["d",{"$map":[]}],["e",{"$ext":[1,"ff"]}]]}]]}}"#
        )
    );
}

#[test]
fn what_only_php_says_is_described_with_tags_of_its_own() {
    let value = br#"a:4:{i:0;E:6:"Suit:H";i:1;R:2;i:2;C:1:"X":2:{a"}i:3;O:1:"Y":1:{s:4:"\0*\0k";i:1;}}"#;
    let value = String::from_utf8_lossy(value).replace("\\0", "\0");
    let message = yar::encode_result(Packager::Php, 7, value.as_bytes(), None);
    assert_eq!(
        yar::describe(&message, true).unwrap(),
        concat!(
            r#"{"id":7,"version":0,"provider":"remora","token":"","packager":"PHP","body":"#,
            r#"{"$map":[["i",7],["s",0],["r",[{"$enum":"Suit:H"},{"$reference":2},{"$custom":"X","data":"a\""},"#,
            r#"{"$object":"Y","props":[["\u0000*\u0000k",1]]}]]]}}"#
        )
    );
}

#[test]
fn a_described_message_is_made_again_byte_by_byte() {
    let value = b"\x88\xa1a\xa2\xff\xfe\x07\xcb\x7f\xf8\0\0\0\0\0\0\xa1b\xcb\x40\x08\0\0\0\0\0\0\xa1c\x82\xc0\xa1X\xa1k\x01\xa1d\x80\xa1e\xd4\x01\xff\xa1f\xc7\x03\x05abc\xa1g\x90";
    let message = yar::encode_result(Packager::Msgpack, 7, value, Some(b"\xa2hi"));
    let shown = yar::describe(&message, true).unwrap();
    assert_eq!(yar::compose(shown.as_bytes()), Ok(message));
}

#[test]
fn what_only_php_makes_is_refused_and_does_not_become_an_array() {
    for (value, kind) in [
        ("E:6:\"Suit:H\";", "a PHP enum"),
        ("R:1;", "a PHP reference to an earlier value"),
        ("r:1;", "a PHP reference to an earlier value"),
        ("C:1:\"X\":1:{a}", "a PHP object that packed itself"),
        ("S:1:\"\\41\";", "a PHP string with escapes"),
    ] {
        let message = yar::encode_result(Packager::Php, 7, value.as_bytes(), None);
        for (typed, place) in [(false, "$.body.r"), (true, "$.body.$map[2][1]")] {
            let shown = yar::describe(&message, typed).unwrap();
            let told = yar::compose(shown.as_bytes()).unwrap_err().to_string();
            let place = place.replace(".$map", "[\"$map\"]");
            let wanted =
                format!("{place}: {kind} cannot become serialized PHP, where only plain values are made");
            assert_eq!(told, wanted);
        }
    }
}

#[test]
fn a_map_whose_keys_look_like_tags_stays_that_map() {
    for (value, shown) in [
        (r#"{"$bin":"ff"}"#, r#"{"$bin:2462696e":"ff"}"#),
        (r#"{"$float":"3.0"}"#, r#"{"$bin:24666c6f6174":"3.0"}"#),
        (r#"{"$map":[[1,2]]}"#, r#"{"$bin:246d6170":[[1,2]]}"#),
        (r#"{"$enum":1}"#, r#"{"$bin:24656e756d":1}"#),
        (r#"{"a":1,"$bin:00":2}"#, r#"{"a":1,"$bin:2462696e3a3030":2}"#),
        (r#"{"a":1,"$bin":"ff","$x":{"$y":1}}"#, r#"{"a":1,"$bin":"ff","$x":{"$y":1}}"#),
    ] {
        for packager in [Packager::Msgpack, Packager::Json, Packager::Php] {
            let o = Options::default();
            let value = transcode(Wire::Json, packager.wire(), value.as_bytes(), "$", o).unwrap();
            let message = yar::encode_result(packager, 7, &value, None);
            let told = yar::describe(&message, false).unwrap();
            assert!(told.ends_with(&format!("\"r\":{shown}}}}}")), "{told}");
            assert_eq!(yar::compose(told.as_bytes()).as_ref(), Ok(&message), "{told}");
            let typed = yar::describe(&message, true).unwrap();
            assert_eq!(yar::compose(typed.as_bytes()).as_ref(), Ok(&message), "{typed}");
        }
    }
}

#[test]
fn a_number_is_made_as_it_is_written() {
    let body = |packager: &str, value: &str| {
        let text = format!(r#"{{"packager":"{packager}","body":{value}}}"#);
        yar::compose(text.as_bytes()).map(|made| made[HEAD..].to_vec()).map_err(|fault| fault.to_string())
    };
    for digits in ["1e999", "1e-400", "123456789012345678901", "-0.50"] {
        let number = format!(r#"{{"$number":"{digits}"}}"#);
        assert_eq!(body("JSON", &number).unwrap(), digits.as_bytes());
    }
    assert_eq!(body("MSGPACK", r#"{"$number":"7"}"#).unwrap(), b"\x07");
    assert_eq!(body("MSGPACK", "18446744073709551615").unwrap(), b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
    for text in ["1]", "[1]", "NaN", "", " 1", "1 ", "0x1", "1,2", "01"] {
        let told = body("JSON", &format!(r#"{{"$number":"{text}"}}"#)).unwrap_err();
        assert!(told.ends_with("no JSON number"), "{text}: {told}");
    }
    for text in ["1e999", "1e-400"] {
        let told = body("MSGPACK", &format!(r#"{{"$float":"{text}"}}"#)).unwrap_err();
        assert!(told.ends_with("no float such as 3.0, 1.0E+25, NAN or -INF"), "{text}: {told}");
    }
}

#[test]
fn a_message_is_made_from_its_least_parts() {
    let made = yar::compose(br#" {"body":{"i":1,"m":"add","p":[1]},"packager":"json"} "#).unwrap();
    let header = Header::parse(&made).unwrap();
    assert_eq!((header.id, header.provider.len(), header.packager), (0, 0, Packager::Json));
    assert_eq!(&made[HEAD..], br#"{"i":1,"m":"add","p":[1]}"#);
}

#[test]
fn what_describes_no_message_is_told_with_its_place() {
    let told = |text: &str| yar::compose(text.as_bytes()).unwrap_err().to_string();
    let body = |value: &str| told(&format!(r#"{{"packager":"MSGPACK","body":{value}}}"#));
    for (told, wanted) in [
        (told("[]"), "byte 0: no object of id, version, provider, token, packager and body"),
        (told(r#"{"body":{}}"#), "byte 11: there is no `packager`"),
        (told(r#"{"packager":"JSON"}"#), "byte 19: there is no `body`"),
        (told(r#"{"packager":"FOO","body":{}}"#), "byte 12: no packager; there are: MSGPACK, JSON, PHP"),
        (told(r#"{"id":4294967296}"#), "byte 6: a number that is no integer of 32 bits without a sign"),
        (told(r#"{"version":-1}"#), "byte 11: a number that is no integer of 16 bits without a sign"),
        (told(r#"{"token":7}"#), r#"byte 9: neither text nor {"$bin":"hex"}"#),
        (
            told(r#"{"ids":7}"#),
            "byte 7: a field that no message has; there are: id, version, provider, token, packager, body",
        ),
        (body(r#"{"$bin":"f"}"#), "byte 37: no even number of hexadecimal digits"),
        (body(r#"{"$float":"nan"}"#), "byte 39: no float such as 3.0, 1.0E+25, NAN or -INF"),
        (body(r#"{"$map":[[1]]}"#), "byte 40: not [key, value]"),
        (
            body(r#"{"$map":[],"x":1}"#),
            r#"byte 40: here has to be nothing more; a map with such a key is {"$map":[[key,value]]}"#,
        ),
        (body(r#"{"$ext":[200,"ff"]}"#), "byte 38: no extension type from -128 to 127"),
        (body(r#"{"$object":"X"}"#), "byte 43: here has to be props"),
        (body("{"), "byte 31: the text ends where ',' or '}' belongs"),
    ] {
        assert_eq!(told, wanted);
    }
    let json = r#"{"packager":"JSON","body":{"a":[{"$bin":"ff"}]}}"#;
    assert!(told(json).contains("1 bytes that are not UTF-8 cannot become JSON"), "{}", told(json));
}

#[test]
fn floats_are_described_as_php_spells_them() {
    for (value, text) in [
        (1e15, "1000000000000000.0"),
        (1e16, "10000000000000000.0"),
        (1e17, "1.0E+17"),
        (123_456_789_012_345_678.0, "1.2345678901234568E+17"),
        (0.0001, "0.0001"),
        (1e-5, "1.0E-5"),
        (1.5e-7, "1.5E-7"),
        (-0.0, "-0.0"),
        (f64::NEG_INFINITY, "-INF"),
    ] {
        let mut packed = vec![0xcb];
        packed.extend(f64::to_be_bytes(value));
        let shown = yar::describe(&yar::encode_result(Packager::Msgpack, 7, &packed, None), true).unwrap();
        assert!(shown.contains(&format!(r#"{{"$float":"{text}"}}"#)), "{shown}");
    }
}
