//! The examples do what they say.
#![allow(dead_code, reason = "what an example reads and prints is not run here")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto_adapters::yar::{self, HEAD};
use proto_adapters::{Code, Exception, Packager, Response};

#[path = "../examples/answer_with_exception.rs"]
mod answer_with_exception;
#[path = "../examples/decode_yar.rs"]
mod decode_yar;
#[path = "../examples/json_to_msgpack.rs"]
mod json_to_msgpack;

const PACKAGERS: [(Packager, &[u8]); 3] = [
    (Packager::Json, br#"[7,{"tags":[]}]"#),
    (Packager::Msgpack, b"\x92\x07\x81\xa4tags\x90"),
    (Packager::Php, br#"a:2:{i:0;i:7;i:1;a:1:{s:4:"tags";a:0:{}}}"#),
];

#[test]
fn a_request_of_every_packager_is_told_in_a_line() {
    for (packager, params) in PACKAGERS {
        let message = yar::encode_request(packager, 9, b"shop", b"", "find", params).unwrap();
        let line = decode_yar::summary(&message).unwrap();
        assert_eq!(line, format!(r#"9 find [7,{{"tags":[]}}] ({})"#, packager.name()));
    }
    assert_eq!(
        decode_yar::summary(b"GET / HTTP/1.1").unwrap_err().to_string(),
        "byte 6: no Yar magic 80dfec60"
    );
}

#[test]
fn json_becomes_msgpack_or_the_place_is_told() {
    let packed = json_to_msgpack::convert(br#"{"id":7,"price":3.0}"#).unwrap();
    assert_eq!(packed, b"\x82\xa2id\x07\xa5price\xcb\x40\x08\0\0\0\0\0\0");
    let told = json_to_msgpack::convert(br#"{"big":[18446744073709551616]}"#).unwrap_err();
    assert!(told.starts_with("$.big[0] has no form in msgpack: "), "{told}");
    assert!(json_to_msgpack::convert(b"[1").unwrap_err().starts_with("no JSON: "));
}

#[test]
fn an_answer_throws_in_the_callers_packager_under_its_id() {
    for (packager, params) in PACKAGERS {
        let request = yar::encode_request(packager, 0x9a3c_0001, b"", b"", "find", params).unwrap();
        let thrown = thrown(&answer_with_exception::answer(&request), packager, 0x9a3c_0001);
        assert_eq!((thrown.message.as_str(), thrown.code), ("there is no find()", Code::Int(404)));
    }
    let thrown = thrown(&answer_with_exception::answer(b"GET / HTTP/1.1"), Packager::Json, 0);
    assert_eq!((thrown.class.as_str(), thrown.code), ("Shop\\NotServed", Code::Int(400)));
}

fn thrown(answer: &[u8], packager: Packager, id: u32) -> Exception {
    let header = yar::Header::parse(answer).unwrap();
    assert_eq!((header.packager, header.id), (packager, id));
    let payload = &answer[HEAD..];
    let read = Response::read(packager, payload).unwrap();
    assert_eq!((read.status, read.id), (64, Some(u64::from(id))));
    Exception::read(packager, 64, read.error.map(|at| &payload[at]))
}
