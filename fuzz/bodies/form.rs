//! Takes any bytes for a form. Shared by the fuzz target and by the test that runs its corpus.

use proto_adapters::{BytesAs, Fault, Options, Wire, form_to_params, transcode};

/// Most bytes that one of a form becomes: a nameless field in PHP's own format.
const GROWTH: usize = 12;
/// What is around the fields.
const AROUND: usize = 32;

/// A form is refused alike in every codec, or becomes a bounded value of each.
pub(crate) fn run(form: &[u8]) {
    let o = Options { bytes: BytesAs::Base64, ..Options::default() };
    let read = |wire| form_to_params(form, wire, &[], o);
    let json = read(Wire::Json);
    for wire in [Wire::Msgpack, Wire::Php] {
        match (read(wire), &json) {
            (Ok(params), Ok(json)) => {
                assert!(params.len().max(json.len()) <= AROUND + GROWTH * form.len(), "{}", params.len());
                // PHP's own format has one form for a list and a map with its keys
                let same = transcode(Wire::Json, wire, json, "$", o).unwrap_or_default();
                let shown = |packed: &[u8]| transcode(wire, Wire::Json, packed, "$", o);
                assert_eq!(shown(&params), shown(&same));
            }
            (Err(fault), Err(same)) => {
                assert!(matches!(fault, Fault::Malformed { .. }) && fault == *same, "{fault}");
            }
            (one, other) => assert_eq!(one.is_ok(), other.is_ok()),
        }
    }
}
