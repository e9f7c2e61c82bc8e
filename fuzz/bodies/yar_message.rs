//! Takes any bytes for a Yar message, reads them every way there is, and asserts what must hold
//! of whatever was accepted. Shared by the fuzz target and by the test that runs the corpus.

use proto_adapters::yar::{self, HEAD};
use proto_adapters::{
    BytesAs, Empty, Exception, Header, Options, Packager, Request, Response, Wire, params_to_body,
    params_to_query, transcode,
};

/// Carries the most over: empty maps stay maps, bytes become base64.
const GENEROUS: Options = Options { empty: Empty::Map, bytes: BytesAs::Base64 };

/// Never panics, whatever `data` is, unless a promise is broken.
pub(crate) fn run(data: &[u8]) {
    let Ok(header) = Header::parse(data) else {
        assert!(!yar::is_yar(data) || yar::describe(data, true).is_err());
        return;
    };
    let payload = data.get(HEAD..).unwrap_or_default();
    let written = header.encode(payload.len());
    let again = Header::parse(&written);
    assert_eq!(
        again.map(|again| (again.id, again.provider, again.token)),
        Ok((header.id, header.provider, header.token))
    );
    let _ = yar::describe(data, false);
    let described = yar::describe(data, true);
    if let Ok(request) = Request::read(header.packager, payload) {
        assert!(described.is_ok(), "what reads as a request can be described");
        check_request(header.packager, payload, &request);
    }
    if let Ok(answer) = Response::read(header.packager, payload) {
        assert!(described.is_ok(), "what reads as a response can be described");
        let error = answer.error.and_then(|at| payload.get(at));
        let e = Exception::read(header.packager, answer.status, error);
        let message = yar::encode_exception(header.packager, header.id, &e);
        check_exception(header.packager, &message, &e);
    }
    for wire in [Wire::Json, Wire::Msgpack] {
        check_value(wire, payload);
    }
}

fn check_request(packager: Packager, payload: &[u8], request: &Request) {
    let params = payload.get(request.params.clone()).unwrap_or_default();
    let Some(wire) = packager.wire() else { return };
    let _ = params_to_body(wire, params, GENEROUS);
    let _ = params_to_query(wire, params, &["a".to_owned(), "b".to_owned()]);
    if let Ok(message) = yar::encode_request(packager, 1, b"", b"", &request.method, params) {
        let again = Request::read(packager, message.get(HEAD..).unwrap_or_default());
        assert_eq!(again.map(|again| again.method).as_ref(), Ok(&request.method));
    }
    if !params.is_empty() {
        check_value(wire, params);
    }
}

fn check_exception(packager: Packager, message: &[u8], e: &Exception) {
    let payload = message.get(HEAD..).unwrap_or_default();
    let at = Response::read(packager, payload).ok().and_then(|answer| answer.error);
    let read = Exception::read(packager, 64, at.and_then(|at| payload.get(at)));
    assert_eq!(&read, e, "an exception survives being written and read");
}

/// Whatever crossed once crosses back and forth without changing again.
fn check_value(wire: Wire, value: &[u8]) {
    let other = match wire {
        Wire::Json => Wire::Msgpack,
        Wire::Msgpack => Wire::Json,
    };
    let copied = transcode(wire, wire, value, "$", GENEROUS);
    let Ok(there) = transcode(wire, other, value, "$", GENEROUS) else { return };
    assert!(copied.is_ok(), "what crosses is well-formed");
    let back = transcode(other, wire, &there, "$", GENEROUS);
    assert!(back.is_ok(), "what crossed crosses back: {back:?}");
    let back = back.unwrap_or_default();
    let again = transcode(wire, other, &back, "$", GENEROUS);
    assert_eq!(again.as_ref(), Ok(&there));
    let plain = transcode(wire, other, value, "$", Options::default());
    assert!(plain.is_err() || wire == Wire::Json || plain.as_ref() == Ok(&there));
}
