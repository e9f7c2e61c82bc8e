//! Takes any bytes for a value of one codec and carries it to another and back. Shared by fuzz
//! targets and by the test that runs their corpus.

use proto_adapters::yar::{self, Draft, Packager};
use proto_adapters::{BytesAs, Charset, Empty, Options, Wire, adapt, body_to_params, transcode};

/// Carries the most over: empty maps stay maps, bytes become base64.
pub(crate) const GENEROUS: Options = Options {
    empty: Empty::Map,
    bytes: BytesAs::Base64,
    from: Charset::Utf8,
    to: Charset::Utf8,
    in_message: false,
    room: None,
};

/// Whatever crossed once crosses back and forth without changing again.
pub(crate) fn run(from: Wire, to: Wire, value: &[u8]) {
    if from == Wire::Json {
        drafted(to, value);
    }
    let copied = transcode(from, from, value, "$", GENEROUS);
    let Ok(there) = transcode(from, to, value, "$", GENEROUS) else { return };
    assert!(copied.is_ok(), "what crosses is well-formed");
    let back = transcode(to, from, &there, "$", GENEROUS);
    if to == Wire::Json
        && back.as_ref().is_err_and(|fault| fault.to_string().contains("PHP's signed 64 bits"))
    {
        // JSON has integers that PHP has not: they leave msgpack, and never enter it
        return;
    }
    assert!(back.is_ok(), "what crossed crosses back: {back:?}");
    let back = back.unwrap_or_default();
    let again = transcode(from, to, &back, "$", GENEROUS);
    assert_eq!(again.as_ref(), Ok(&there));
    let plain = transcode(from, to, value, "$", Options::default());
    assert!(plain.is_err() || from == Wire::Json || plain.as_ref() == Ok(&there));
    through_gbk(from, to, value, &back);
}

/// Parameters that are written where they belong are those that are made apart.
fn drafted(to: Wire, body: &[u8]) {
    let packager = if to == Wire::Php { Packager::Php } else { Packager::Msgpack };
    let o = Options { in_message: true, room: Some(body.len() + 20), ..GENEROUS };
    let draft = Draft::new(packager, 1, [b"", b""], "a", body.len(), o);
    let drafted = draft.and_then(|draft| draft.finish(|writer| adapt::body_into(writer, body, &[], o)));
    let apart = body_to_params(body, to, &[], o);
    let apart = apart.and_then(|params| yar::encode_request(packager, 1, b"", b"", "a", &params));
    assert_eq!(drafted.map(|(message, _)| message), apart);
}

/// What GBK can hold comes back from it as it does without.
fn through_gbk(from: Wire, to: Wire, value: &[u8], back: &[u8]) {
    let toward = Options { to: Charset::Gbk, ..GENEROUS };
    let Ok(there) = transcode(from, to, value, "$", toward) else { return };
    let away = Options { from: Charset::Gbk, ..GENEROUS };
    assert_eq!(transcode(to, from, &there, "$", away).as_deref(), Ok(back));
}
