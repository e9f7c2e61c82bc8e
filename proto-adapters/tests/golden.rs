//! Every captured message of `testdata/yar/samples.json`, against the value it is known to carry.
#![expect(clippy::unwrap_used, reason = "a sample that is not as expected must stop the test")]

use proto_adapters::codec::{Reader, Writer};
use proto_adapters::yar::{self, HEAD, Header, Packager, Request, Response};
use proto_adapters::{Exception, Fault, Options, Wire, params_to_body, transcode};
use serde_json::{Value, json};

struct Sample {
    name: String,
    packager: Packager,
    is_request: bool,
    bytes: Vec<u8>,
    decoded: Value,
    all: Value,
}

impl Sample {
    fn payload(&self) -> &[u8] {
        &self.bytes[HEAD..]
    }

    /// A client's JSON that broke off at bytes that are not UTF-8.
    fn is_broken(&self) -> bool {
        self.all.get("decode_failed").is_some()
    }
}

fn samples() -> Vec<Sample> {
    let file: Value = serde_json::from_str(include_str!("../testdata/yar/samples.json")).unwrap();
    let samples: Vec<_> = file["samples"].as_array().unwrap().iter().map(sample).collect();
    assert_eq!(samples.len(), 226);
    samples
}

fn sample(all: &Value) -> Sample {
    let packager = match all["packager"].as_str().unwrap() {
        "MSGPACK" => Packager::Msgpack,
        "JSON" => Packager::Json,
        _ => Packager::Php,
    };
    Sample {
        name: format!("{} {}", all["name"].as_str().unwrap(), all["direction"].as_str().unwrap()),
        packager,
        is_request: all["direction"] == "request",
        bytes: unhex(all["hex"].as_str().unwrap()),
        decoded: all["decoded"].clone(),
        all: all.clone(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The known value as `describe` shows it: JSON's keys are text, which PHP turns into integers;
/// the samples spell the NUL of property names `\0`.
fn expected(value: &Value, packager: Packager) -> Value {
    if let Value::Array(items) = value {
        return items.iter().map(|item| expected(item, packager)).collect();
    }
    let mut value = value.clone();
    for tag in ["$map", "props"] {
        let pairs = value.get_mut(tag).and_then(Value::as_array_mut).into_iter().flatten();
        for pair in pairs {
            let key = &pair[0];
            let key = if packager == Packager::Json && key.is_number() {
                json!(key.to_string())
            } else {
                key.as_str().map_or_else(|| key.clone(), |text| json!(text.replace("\\0", "\0")))
            };
            *pair = json!([key, expected(&pair[1], packager)]);
        }
    }
    value
}

#[test]
fn every_sample_is_described_as_the_value_it_carries() {
    let mut seen = 0;
    for sample in samples().into_iter().filter(|sample| !sample.is_broken()) {
        // a back reference to an object is not resolved
        if sample.name.ends_with("-ret-sameobj response") && sample.packager != Packager::Json {
            continue;
        }
        let text = yar::describe(&sample.bytes, true).unwrap();
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(shown["body"], expected(&sample.decoded, sample.packager), "{}", sample.name);
        seen += 1;
    }
    assert_eq!(seen, 222);
}

#[test]
fn a_second_sight_of_one_php_object_is_shown_as_its_back_reference() {
    for (name, shown) in [
        ("http-msgpack-ret-sameobj response", json!({"$object": 4, "props": [[0, 3]]})),
        ("http-php-ret-sameobj response", json!({"$reference": 5})),
    ] {
        let sample = samples().into_iter().find(|sample| sample.name == name).unwrap();
        let text = yar::describe(&sample.bytes, true).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(all["body"]["$map"][2][1][1], shown);
    }
}

#[test]
fn every_sample_is_described_plainly_as_json() {
    for sample in samples().into_iter().filter(|sample| !sample.is_broken()) {
        let shown: Value = serde_json::from_str(&yar::describe(&sample.bytes, false).unwrap()).unwrap();
        assert!(shown["body"].is_object(), "{}", sample.name);
    }
}

#[test]
fn what_describes_a_sample_makes_a_message_of_the_same_value() {
    for sample in samples().into_iter().filter(|sample| !sample.is_broken()) {
        for typed in [false, true] {
            let shown = yar::describe(&sample.bytes, typed).unwrap();
            let composed = match yar::compose(shown.as_bytes()) {
                // what only PHP's own format says is shown, and never made
                Err(Fault::Unadaptable { .. }) if sample.packager == Packager::Php => continue,
                composed => composed.unwrap(),
            };
            assert_eq!(yar::describe(&composed, typed).unwrap(), shown, "{} {typed}", sample.name);
            if typed && sample.packager == Packager::Msgpack {
                assert_eq!(&composed[90..], sample.payload(), "{}", sample.name);
            }
        }
    }
}

#[test]
fn a_json_payload_that_breaks_off_at_bytes_that_are_not_utf_8_is_malformed() {
    for sample in samples().into_iter().filter(Sample::is_broken) {
        let read = Request::read(sample.packager, sample.payload());
        assert!(matches!(read, Err(Fault::Malformed { .. })), "{}", sample.name);
        assert!(yar::describe(&sample.bytes, true).is_err(), "{}", sample.name);
    }
}

#[test]
fn every_header_gives_its_fields() {
    for sample in samples() {
        let known = &sample.all["yar_header"];
        let header = Header::parse(&sample.bytes).unwrap();
        assert!(yar::is_yar(&sample.bytes));
        assert_eq!(json!(header.id), known["id"], "{}", sample.name);
        assert_eq!(json!(header.version), known["version"], "{}", sample.name);
        assert_eq!(json!(header.reserved), known["reserved"], "{}", sample.name);
        assert_eq!(json!(header.body_len), known["body_len"], "{}", sample.name);
        assert_eq!(json!(String::from_utf8_lossy(&header.provider)), known["provider"], "{}", sample.name);
        assert_eq!(json!(String::from_utf8_lossy(&header.token)), known["token"], "{}", sample.name);
        assert_eq!(header.packager, sample.packager, "{}", sample.name);
    }
}

#[test]
fn every_header_is_written_as_php_writes_it() {
    for sample in samples() {
        let header = Header::parse(&sample.bytes).unwrap();
        let head = header.encode(sample.payload().len());
        // Yar 2.3 leaves junk behind the packager's name
        let name = 82 + sample.packager.name().len();
        assert_eq!(head[..name], sample.bytes[..name], "{}", sample.name);
        assert!(head[name..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn every_cut_of_a_header_is_malformed() {
    for sample in samples() {
        for cut in 0..HEAD {
            let parsed = Header::parse(&sample.bytes[..cut]);
            assert!(matches!(parsed, Err(Fault::Malformed { .. })), "{} at {cut}", sample.name);
        }
    }
}

#[test]
fn every_cut_of_a_payload_is_malformed() {
    for sample in samples().into_iter().filter(|sample| !sample.is_broken() && sample.bytes.len() < 1000) {
        for cut in HEAD..sample.bytes.len() {
            let described = yar::describe(&sample.bytes[..cut], true);
            assert!(matches!(described, Err(Fault::Malformed { .. })), "{} at {cut}", sample.name);
        }
    }
}

#[test]
fn every_request_gives_its_method_and_parameters() {
    for sample in samples().into_iter().filter(|sample| sample.is_request && !sample.is_broken()) {
        let request = Request::read(sample.packager, sample.payload()).unwrap();
        let known = sample.decoded["$map"].as_array().unwrap();
        assert_eq!(json!(request.id), known[0][1], "{}", sample.name);
        assert_eq!(json!(request.method), known[1][1], "{}", sample.name);
        let params = &sample.payload()[request.params.clone()];
        assert_eq!(
            typed(sample.packager, params),
            expected(&known[2][1], sample.packager),
            "{}",
            sample.name
        );
    }
}

#[test]
fn every_response_gives_its_parts() {
    for sample in samples().into_iter().filter(|sample| !sample.is_request) {
        let answer = Response::read(sample.packager, sample.payload()).unwrap();
        let part = |key: &str| {
            let fields = sample.decoded["$map"].as_array().unwrap();
            fields.iter().find(|field| field[0] == key).map(|field| field[1].clone())
        };
        assert_eq!(answer.id.map(|id| json!(id)), part("i"), "{}", sample.name);
        assert_eq!(Some(json!(answer.status)), part("s"), "{}", sample.name);
        assert_eq!(answer.output.is_some(), part("o").is_some(), "{}", sample.name);
        assert_eq!(answer.result.is_some(), part("r").is_some(), "{}", sample.name);
        assert_eq!(answer.end, sample.payload().len(), "{}", sample.name);
        if let Some(known) = part("e") {
            let e = Exception::read(
                sample.packager,
                answer.status,
                answer.error.map(|range| &sample.payload()[range]),
            );
            let message = if known.is_string() { known } else { known["$map"][0][1].clone() };
            assert_eq!(json!(e.message), message, "{}", sample.name);
        }
    }
}

/// A bare value in its typed form.
fn typed(packager: Packager, value: &[u8]) -> Value {
    let message = yar::encode_result(packager, 0, value, None);
    let shown: Value = serde_json::from_str(&yar::describe(&message, true).unwrap()).unwrap();
    shown["body"]["$map"][2][1].clone()
}

#[test]
fn requests_are_encoded_byte_for_byte_as_php_encodes_them() {
    for sample in samples().into_iter().filter(|sample| sample.is_request && !sample.is_broken()) {
        let header = Header::parse(&sample.bytes).unwrap();
        if (header.version, header.reserved) != (0, 0) {
            continue;
        }
        let request = Request::read(sample.packager, sample.payload()).unwrap();
        let encoded = yar::encode_request(
            sample.packager,
            header.id,
            &header.provider,
            &header.token,
            &request.method,
            &sample.payload()[request.params],
        );
        assert_eq!(encoded.unwrap()[HEAD..], *sample.payload(), "{}", sample.name);
    }
}

/// What a codec's own writer makes of what its reader reads; `None` where it takes no objects.
fn rewritten(wire: Wire, value: &[u8]) -> Option<Vec<u8>> {
    let (mut reader, mut writer) = (Reader::new(wire, value), Writer::new(wire, Options::default()));
    while let Some(event) = reader.pull().unwrap() {
        writer.push(&event).ok()?;
    }
    Some(writer.finish())
}

#[test]
fn plain_values_are_written_byte_for_byte_as_php_wrote_them() {
    let mut objects = Vec::new();
    for sample in samples().into_iter().filter(|sample| sample.packager != Packager::Json) {
        match rewritten(sample.packager.wire(), sample.payload()) {
            Some(again) => assert_eq!(again, sample.payload(), "{}", sample.name),
            None => objects.push(sample),
        }
    }
    assert_eq!(objects.len(), 14);
    assert!(objects.iter().all(|sample| sample.all.to_string().contains("$object")));
}

#[test]
fn what_stands_behind_a_value_is_never_read() {
    for mut sample in samples().into_iter().filter(|sample| sample.packager != Packager::Json) {
        let (length, shown) = (sample.bytes.len(), yar::describe(&sample.bytes, true));
        for junk in [&b"}"[..], b"i:0;", b"\x80", b"<br>"] {
            sample.bytes.truncate(length);
            sample.bytes.extend_from_slice(junk);
            assert_eq!(yar::describe(&sample.bytes, true), shown, "{}", sample.name);
        }
    }
}

#[test]
fn msgpack_that_json_can_say_comes_back_byte_for_byte() {
    let mut seen = 0;
    for sample in samples().into_iter().filter(|sample| sample.packager == Packager::Msgpack) {
        let Ok(text) = transcode(Wire::Msgpack, Wire::Json, sample.payload(), "$", Options::default()) else {
            continue;
        };
        // integer keys become text and stay it
        if sample.name.contains("mixedkeys") {
            continue;
        }
        let back = transcode(Wire::Json, Wire::Msgpack, &text, "$", Options::default()).unwrap();
        assert_eq!(back, sample.payload(), "{}", sample.name);
        seen += 1;
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn php_that_json_can_say_comes_back_byte_for_byte() {
    let mut seen = 0;
    for sample in samples().into_iter().filter(|sample| sample.packager == Packager::Php) {
        let Ok(text) = transcode(Wire::Php, Wire::Json, sample.payload(), "$", Options::default()) else {
            continue;
        };
        let back = transcode(Wire::Json, Wire::Php, &text, "$", Options::default()).unwrap();
        assert_eq!(back, sample.payload(), "{}", sample.name);
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn one_value_crosses_between_msgpack_and_php_to_the_bytes_php_gave_the_other() {
    let all = samples();
    let params = |sample: &Sample| {
        let request = Request::read(sample.packager, sample.payload()).unwrap();
        sample.payload()[request.params].to_vec()
    };
    let mut seen = 0;
    for one in all.iter().filter(|sample| sample.is_request && sample.packager == Packager::Php) {
        let twin = one.name.replace("-php-", "-msgpack-");
        let Some(other) = all.iter().find(|sample| sample.name == twin) else { continue };
        let (serialized, packed) = (params(one), params(other));
        let there = transcode(Wire::Php, Wire::Msgpack, &serialized, "$", Options::default());
        if one.name.contains("stdclass") {
            let refusal = "$[0]: a PHP object of class stdClass cannot become msgpack";
            assert_eq!(there.unwrap_err().to_string(), refusal);
            continue;
        }
        assert_eq!(there.unwrap(), packed, "{}", one.name);
        let back = transcode(Wire::Msgpack, Wire::Php, &packed, "$", Options::default());
        assert_eq!(back.unwrap(), serialized, "{}", one.name);
        seen += 1;
    }
    assert_eq!(seen, 19);
}

#[test]
fn json_keeps_its_value_through_msgpack() {
    for sample in
        samples().into_iter().filter(|sample| sample.packager == Packager::Json && !sample.is_broken())
    {
        let packed = transcode(Wire::Json, Wire::Msgpack, sample.payload(), "$", Options::default()).unwrap();
        let text = transcode(Wire::Msgpack, Wire::Json, &packed, "$", Options::default()).unwrap();
        let (before, after): (Value, Value) =
            (serde_json::from_slice(sample.payload()).unwrap(), serde_json::from_slice(&text).unwrap());
        assert_eq!(before, after, "{}", sample.name);
    }
}

#[test]
fn what_json_cannot_say_is_refused_with_its_place() {
    let refusals: Vec<_> = samples()
        .into_iter()
        .filter(|sample| sample.is_request)
        .filter_map(|sample| {
            let request = Request::read(sample.packager, sample.payload()).ok()?;
            let params = &sample.payload()[request.params];
            let wire = sample.packager.wire();
            let fault = params_to_body(wire, params, Options::default()).err()?;
            Some(format!("{}: {fault}", sample.name))
        })
        .collect();
    assert_eq!(
        refusals,
        [
            "http-msgpack-echo-nan request: $.p[0]: the float NaN cannot become JSON",
            "http-msgpack-echo-point request: $.p[0]: a PHP object of class Point cannot become JSON",
            "http-php-echo-nan request: $.p[0]: the float NaN cannot become JSON",
            "http-php-echo-stdclass-empty request: $.p[0]: a PHP object of class stdClass cannot become JSON",
            "http-php-echo-stdclass request: $.p[0]: a PHP object of class stdClass cannot become JSON",
            "http-php-echo-str-badutf8 request: $.p[0]: 6 bytes that are not UTF-8 cannot become JSON",
            "v233-http-msgpack-echo-stdclass request: $.p[0]: a PHP object of class stdClass cannot become JSON",
            "v233-http-php-echo-stdclass-empty request: $.p[0]: a PHP object of class stdClass cannot become JSON",
            "v233-http-php-echo-stdclass request: $.p[0]: a PHP object of class stdClass cannot become JSON",
            "v233-http-php-echo-str-badutf8 request: $.p[0]: 6 bytes that are not UTF-8 cannot become JSON",
        ]
    );
}
