//! There and back again: what `docs/values.md` calls exact comes back byte for byte, between any two wires; so do
//! messages and their parts.
//!
//! A failure names its seed: `ROUND_TRIPS_SEED=n cargo test -p proto-adapters --test round_trips` runs the same
//! values again; `ROUND_TRIPS_VALUES` says how many.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what does not come back must stop the test")]

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proto_adapters::yar::{self, HEAD, Stream};
use proto_adapters::{Code, Exception, Fault, Header, Options, Packager, Request, Response, Wire, transcode};

mod dice;
#[path = "differential/random.rs"]
mod random;
#[path = "differential/value.rs"]
mod value;

use dice::Random;
use value::{Key, Value, is_list, read, written};

const WIRES: [Wire; 3] = [Wire::Json, Wire::Msgpack, Wire::Php];
const PACKAGERS: [Packager; 3] = [Packager::Json, Packager::Msgpack, Packager::Php];

/// Runs `check` with chance of its own for each number below `count`, and tells the seed of what fails.
fn for_many(count: usize, mut check: impl FnMut(&mut Random)) {
    let seed: Option<u64> = env::var("ROUND_TRIPS_SEED").ok().map(|seed| seed.parse().unwrap());
    let count = env::var("ROUND_TRIPS_VALUES").map_or(count, |count| count.parse().unwrap());
    let first = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    for n in 0..if seed.is_some() { 1 } else { count as u64 } {
        let seed = first.wrapping_add(n);
        let done = catch_unwind(AssertUnwindSafe(|| check(&mut Random::new(seed))));
        if let Err(panic) = done {
            println!("ROUND_TRIPS_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Whether a part of `value` is one that `what` looks for.
fn holds(value: &Value, what: &dyn Fn(&Value) -> bool) -> bool {
    let is_below = |(key, value): &(Key, Value)| {
        let key = match key {
            Key::Int(_) => false,
            Key::Str(key) => what(&Value::Str(key.clone())),
        };
        key || holds(value, what)
    };
    what(value) || matches!(value, Value::Array(entries) if entries.iter().any(is_below))
}

/// What the table refuses toward JSON, and nothing else.
fn is_beyond_json(value: &Value) -> bool {
    holds(value, &|part| match part {
        Value::Float(value) => !value.is_finite(),
        Value::Str(bytes) => str::from_utf8(bytes).is_err(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Array(_) => false,
    })
}

/// JSON has no integers as keys: msgpack gets them back as text.
fn has_integer_keys(value: &Value) -> bool {
    let is_sparse = |entries: &[(Key, Value)]| {
        !is_list(entries) && entries.iter().any(|(key, _)| matches!(key, Key::Int(_)))
    };
    holds(value, &|part| matches!(part, Value::Array(entries) if is_sparse(entries)))
}

/// PHP has one NaN, msgpack as many as there are bits.
fn has_odd_nan(value: &Value) -> bool {
    holds(
        value,
        &|part| matches!(part, Value::Float(value) if value.is_nan() && value.to_bits() != f64::NAN.to_bits()),
    )
}

fn carried(from: Wire, to: Wire, value: &[u8]) -> Result<Vec<u8>, Fault> {
    transcode(from, to, value, "$", Options::default())
}

#[test]
fn a_value_comes_back_from_every_wire_as_it_was() {
    for_many(3_000, |random| {
        let value = random.value(0);
        for from in WIRES {
            let Some(bytes) = written(from, &value) else {
                assert!(from == Wire::Json && is_beyond_json(&value), "{from:?} has no {value:?}");
                continue;
            };
            for to in WIRES {
                there_and_back(from, to, &value, &bytes);
            }
        }
    });
}

fn there_and_back(from: Wire, to: Wire, value: &Value, bytes: &[u8]) {
    let there = match carried(from, to, bytes) {
        Ok(there) => there,
        Err(Fault::Unadaptable { .. }) if to == Wire::Json && is_beyond_json(value) => return,
        Err(fault) => panic!("{from:?} to {to:?}: {fault}: {value:?}"),
    };
    assert!(to != Wire::Json || !is_beyond_json(value), "{from:?} to {to:?} took {value:?}");
    let back = carried(to, from, &there).unwrap();
    if (from, to) == (Wire::Msgpack, Wire::Json) && has_integer_keys(value) {
        assert_eq!(read(from, &back), *value, "PHP makes integers of such keys");
        assert_eq!(carried(from, to, &back).unwrap(), there, "and from then on it stays");
    } else if (from, to) == (Wire::Msgpack, Wire::Php) && has_odd_nan(value) {
        assert_eq!(read(from, &back), *value);
    } else {
        let (was, is) = (bytes.escape_ascii(), back.escape_ascii());
        assert!(back == bytes, "{from:?} to {to:?} and back: {value:?}\nwas {was}\nis {is}");
    }
}

#[test]
fn a_value_that_went_round_all_wires_is_the_same() {
    for_many(2_000, |random| {
        let value = random.value(0);
        if is_beyond_json(&value) {
            return;
        }
        for start in 0..3 {
            let mut bytes = written(WIRES[start], &value).unwrap();
            for step in 0..6 {
                let (from, to) = (WIRES[(start + step) % 3], WIRES[(start + step + 1) % 3]);
                bytes = carried(from, to, &bytes).unwrap();
            }
            assert_eq!(read(WIRES[start], &bytes), value);
        }
    });
}

#[test]
fn integers_beyond_phps_leave_msgpack_for_json_alone() {
    for_many(1_000, |random| {
        let number = u64::MAX >> random.below(3) | 1 << 63;
        let number = number - random.below(1 << 62);
        let text = number.to_string().into_bytes();
        let packed = [&[0xcf][..], &number.to_be_bytes()].concat();
        assert_eq!(carried(Wire::Msgpack, Wire::Json, &packed).as_ref(), Ok(&text));
        for (from, to, value) in [
            (Wire::Msgpack, Wire::Php, &packed),
            (Wire::Json, Wire::Php, &text),
            (Wire::Json, Wire::Msgpack, &text),
        ] {
            assert!(matches!(carried(from, to, value), Err(Fault::Unadaptable { .. })));
        }
    });
}

impl Random {
    /// At most `most` bytes, none of them the NUL that a field ends with.
    fn name(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| 1 + self.below(255) as u8).collect()
    }

    fn words(&mut self) -> String {
        let pieces = ["", "x", "Biz\\", "é", "你好", "\0", "\"", "\n", "unknown error, status 4"];
        (0..self.below(5)).map(|_| self.one_of(&pieces)).collect()
    }

    /// Parameters in the form of this wire: a list, or a map that is not empty.
    fn params(&mut self, wire: Wire) -> Vec<u8> {
        loop {
            let value = self.value(3);
            if matches!(value, Value::Array(_))
                && let Some(params) = written(wire, &value)
            {
                return params;
            }
        }
    }

    fn any(&mut self, wire: Wire) -> Vec<u8> {
        loop {
            let value = self.value(3);
            if let Some(bytes) = written(wire, &value) {
                return bytes;
            }
        }
    }
}

#[test]
fn a_header_is_read_as_it_was_written() {
    for_many(2_000, |random| {
        let length = random.below(1 << 31) as usize;
        let header = Header {
            id: random.next() as u32,
            version: random.next() as u16,
            reserved: random.next() as u32,
            provider: random.name(32),
            token: random.name(32),
            body_len: length as u32 + 8,
            packager: random.one_of(&PACKAGERS),
        };
        assert_eq!(Header::parse(&header.encode(length)).unwrap(), header);
    });
}

#[test]
fn a_request_is_read_as_it_was_written_also_under_another_name() {
    for_many(1_000, |random| {
        let (packager, id) = (random.one_of(&PACKAGERS), random.next() as u32);
        let (provider, token, method) = (random.name(32), random.name(32), random.words());
        let params = random.params(packager.wire());
        let message = yar::encode_request(packager, id, &provider, &token, &method, &params).unwrap();
        let header = Header::parse(&message).unwrap();
        assert_eq!(
            (header.id, header.packager, header.provider, header.token),
            (id, packager, provider, token)
        );
        assert_eq!(header.body_len as usize, message.len() - 82);
        let payload = &message[HEAD..];
        let request = Request::read(packager, payload).unwrap();
        assert_eq!((request.id, &request.method), (u64::from(id), &method));
        assert_eq!(payload[request.params.clone()], params);
        let other = yar::rename(packager, payload, &request, "other").unwrap();
        let read = Request::read(packager, &other).unwrap();
        assert_eq!((read.id, read.method.as_str()), (u64::from(id), "other"));
        assert_eq!(other[read.params.clone()], params);
        assert_eq!(yar::rename(packager, &other, &read, &method).unwrap(), payload);
    });
}

#[test]
fn a_result_is_read_as_it_was_written() {
    for_many(1_000, |random| {
        let (packager, id) = (random.one_of(&PACKAGERS), random.next() as u32);
        let result = random.any(packager.wire());
        // what the function printed is text, or it is nothing to anybody
        let printed = format!("\"line {}\"", random.below(1000));
        let output = (random.below(2) == 0).then(|| there(printed.as_bytes(), packager.wire()));
        let message = yar::encode_result(packager, id, &result, output.as_deref());
        let payload = &message[HEAD..];
        let read = Response::read(packager, payload).unwrap();
        assert_eq!((read.id, read.status, read.end), (Some(u64::from(id)), 0, payload.len()));
        assert_eq!(payload[read.result.unwrap()], result);
        assert_eq!(read.output.map(|at| payload[at].to_vec()), output);
    });
}

#[test]
fn an_exception_is_read_as_it_was_written() {
    for_many(1_000, |random| {
        let (packager, id) = (random.one_of(&PACKAGERS), random.next() as u32);
        let code = if random.below(2) == 0 {
            Code::Int(random.next().cast_signed())
        } else {
            Code::Str(random.words())
        };
        let line = i64::from(random.next() as u32);
        let (message, file, class) = (random.words(), random.words(), random.words());
        let thrown = Exception { message, code, file, line, class };
        let message = yar::encode_exception(packager, id, &thrown);
        let payload = &message[HEAD..];
        let read = Response::read(packager, payload).unwrap();
        assert_eq!((read.id, read.status), (Some(u64::from(id)), 64));
        assert_eq!(Exception::read(packager, 64, read.error.map(|at| &payload[at])), thrown);
    });
}

#[test]
fn what_describes_a_message_makes_it_again() {
    for_many(1_000, |random| {
        let (packager, id) = (random.one_of(&PACKAGERS), random.next() as u32);
        let message = yar::encode_result(packager, id, &random.any(packager.wire()), None);
        let shown = yar::describe(&message, true).unwrap();
        let made = yar::compose(shown.as_bytes()).unwrap();
        assert_eq!(made.escape_ascii().to_string(), message.escape_ascii().to_string(), "{shown}");
    });
}

#[test]
fn messages_come_out_of_a_stream_as_they_went_in_however_it_is_cut() {
    for_many(300, |random| {
        let messages: Vec<_> = (0..1 + random.below(4))
            .map(|id| {
                let packager = random.one_of(&PACKAGERS);
                let params = random.params(packager.wire());
                yar::encode_request(packager, id as u32, b"", b"", "any", &params).unwrap()
            })
            .collect();
        let (bytes, mut stream, mut taken) = (messages.concat(), Stream::default(), Vec::new());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at((1 + random.below(200) as usize).min(rest.len()));
            stream.room().extend_from_slice(part);
            rest = behind;
            while let Some(message) = stream.take().unwrap() {
                taken.push(message);
            }
        }
        assert_eq!(taken, messages);
        assert!(stream.ahead().is_empty());
    });
}

/// JSON in another form.
fn there(json: &[u8], wire: Wire) -> Vec<u8> {
    transcode(Wire::Json, wire, json, "$", Options::default()).unwrap()
}
