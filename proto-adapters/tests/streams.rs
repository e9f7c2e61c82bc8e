//! Raw Yar: messages out of a stream, and the method rewritten.
#![expect(clippy::unwrap_used, reason = "a message that breaks a promise must stop the test")]

use std::fs;
use std::path::Path;

use proto_adapters::yar::{self, HEAD, Packager, Request, Stream};

#[path = "../../fuzz/bodies/yar_stream.rs"]
mod yar_stream;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/yar_stream");
    fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_stream_of_the_corpus_reads_the_same_however_it_is_cut() {
    let corpus = corpus();
    assert!(corpus.len() >= 12);
    for mut stream in corpus {
        for seed in 0..=255 {
            *stream.first_mut().unwrap() = seed;
            yar_stream::run(&stream);
        }
    }
}

#[test]
fn every_single_changed_byte_is_read_without_panic() {
    for stream in corpus() {
        for at in 0..stream.len().min(400) {
            for change in [0x01, 0x10, 0x80, 0xff] {
                let mut changed = stream.clone();
                changed.get_mut(at).map(|byte| *byte ^= change).unwrap();
                yar_stream::run(&changed);
            }
        }
    }
}

fn request(packager: Packager, method: &str) -> Vec<u8> {
    let params: &[u8] = if packager == Packager::Json { b"[1, 2]" } else { b"\x92\xd1\x00\x01\x02" };
    yar::encode_request(packager, 7, b"web", b"", method, params).unwrap()
}

#[test]
fn a_length_is_known_with_the_head_and_too_short_a_one_is_told() {
    let message = request(Packager::Json, "user.get");
    let mut stream = Stream::new(message.get(..HEAD - 1).unwrap());
    assert_eq!(stream.length(), Ok(None));
    stream.room().push(0);
    assert_eq!(stream.length(), Ok(Some(message.len())));
    let mut short = message;
    short.get_mut(78..82).unwrap().copy_from_slice(&[0, 0, 0, 7]);
    let told = Stream::new(&short).length().unwrap_err().to_string();
    assert_eq!(told, "byte 78: body_len is 7, below the 8 bytes of the packager's name");
    assert_eq!(Stream::new(b"GET / HTTP").length().unwrap_err().to_string(), "byte 6: no Yar magic 80dfec60");
}

#[test]
fn a_method_is_found_before_the_message_is_whole() {
    for packager in [Packager::Json, Packager::Msgpack] {
        let message = request(packager, "user.get");
        let found = |cut: usize| yar::early_method(message.get(..cut).unwrap());
        assert_eq!(found(message.len() - 3), Some("user.get".to_owned()));
        assert_eq!(found(HEAD + 5), None);
        assert_eq!(found(50), None);
    }
}

#[test]
fn a_rewritten_method_leaves_every_other_byte() {
    for packager in [Packager::Json, Packager::Msgpack] {
        let message = request(packager, "user.get");
        let payload = message.get(HEAD..).unwrap();
        let read = Request::read(packager, payload).unwrap();
        let renamed = yar::rename(packager, payload, &read, "get").unwrap();
        assert_eq!(renamed, request(packager, "get").get(HEAD..).unwrap());
        assert!(yar::rename(packager, b"", &read, "get").is_err());
    }
    // white space and the order of keys are the caller's
    let payload = br#" {"p": [3.0], "m" : "a.b.\u0063", "x": 1e2} "#;
    let read = Request::read(Packager::Json, payload).unwrap();
    assert_eq!(read.method, "a.b.c");
    let renamed = yar::rename(Packager::Json, payload, &read, "c").unwrap();
    assert_eq!(renamed, br#" {"p": [3.0], "m" : "c", "x": 1e2} "#);
}

#[test]
fn a_message_is_marked_as_of_a_caller_that_stays() {
    let mut message = request(Packager::Json, "get");
    assert!(!yar::is_persistent(&message));
    yar::mark_persistent(&mut message);
    assert!(yar::is_persistent(&message));
    assert_eq!(yar::Header::parse(&message).unwrap().reserved, 1);
    yar::mark_persistent(&mut []);
    assert!(!yar::is_persistent(&[]));
}
