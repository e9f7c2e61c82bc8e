//! Takes any bytes for a Yar message, reads them every way there is, and asserts what must hold
//! of whatever was accepted. Shared by the fuzz target and by the test that runs the corpus.

use proto_adapters::yar::{self, HEAD};
use proto_adapters::{
    Exception, Fault, Header, Options, Packager, Request, Response, Wire, params_to_body, params_to_query,
    transcode,
};

#[path = "crossing.rs"]
pub(crate) mod crossing;

use crossing::GENEROUS;

/// Never panics, whatever `data` is, unless a promise is broken.
pub(crate) fn run(data: &[u8]) {
    let _ = yar::compose(data);
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
    // one level of a value is three of its description, which may be too deep to be read back
    if let Some((shown, made)) =
        described.as_ref().ok().and_then(|d| Some((d, yar::compose(d.as_bytes()).ok()?)))
    {
        assert_eq!(yar::describe(&made, true).as_ref(), Ok(shown), "what describes a message makes it again");
    }
    if let Ok(request) = Request::read(header.packager, payload) {
        assert!(described.is_ok(), "what reads as a request can be described");
        check_request(header.packager, payload, &request);
    }
    let read = Response::read(header.packager, payload);
    check_ahead(header.packager, payload, &read);
    if let Ok(answer) = read {
        assert!(described.is_ok(), "what reads as a response can be described");
        let error = answer.error.and_then(|at| payload.get(at));
        let e = Exception::read(header.packager, answer.status, error);
        let message = yar::encode_exception(header.packager, header.id, &e);
        check_exception(header.packager, &message, &e);
    }
    for wire in [Wire::Json, Wire::Msgpack, Wire::Php] {
        check_value(wire, payload);
    }
}

/// What is read ahead is what is read, and what the result becomes.
fn check_ahead(packager: Packager, payload: &[u8], read: &Result<Response, Fault>) {
    let ahead = Response::read_to_json(packager, payload, Options::default());
    assert_eq!(ahead.as_ref().map(|(ahead, _)| ahead), read.as_ref());
    let Ok((Response { result: Some(result), .. }, Some(json))) = ahead else { return };
    let result = payload.get(result).unwrap_or_default();
    assert_eq!(transcode(packager.wire(), Wire::Json, result, "$", Options::default()), Ok(json));
}

fn check_request(packager: Packager, payload: &[u8], request: &Request) {
    let params = payload.get(request.params.clone()).unwrap_or_default();
    let wire = packager.wire();
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

fn check_value(wire: Wire, value: &[u8]) {
    for other in [Wire::Json, Wire::Msgpack, Wire::Php].into_iter().filter(|other| *other != wire) {
        crossing::run(wire, other, value);
    }
}
