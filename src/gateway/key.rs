//! The part of a call that stands for it where the same caller should meet the same provider.

use std::borrow::Cow;

use proto_adapters::Wire;
use proto_adapters::codec::Reader;
use proto_adapters::event::Event;

use super::call::{Body, Read};
use crate::balance;
use crate::model::{Balance, HashOn, Policy};

/// Its place on the ring of providers; `None` where the policy asks for none or the call has no such part.
pub(super) fn of(policy: &Policy, call: &Read) -> Option<u64> {
    if policy.balance != Balance::Hash {
        return None;
    }
    match policy.hash_on.as_ref()? {
        HashOn::Header(name) => call.head.headers.get(name).map(balance::key),
        HashOn::Query(name) => {
            in_query(call.head.uri.query()?, name).map(|value| balance::key(value.as_bytes()))
        }
        HashOn::Param(index) => match &call.body {
            Body::Yar(message) => param(message.header.packager.wire(), message.params(), *index),
            // its body is still on the wire; where it becomes parameters, `of_params` finds the one
            Body::Http(_) => None,
        },
    }
}

/// The same of parameters that were made of a call.
pub(super) fn of_params(policy: &Policy, wire: Wire, params: &[u8]) -> Option<u64> {
    match (policy.balance, &policy.hash_on) {
        (Balance::Hash, Some(HashOn::Param(index))) => param(wire, params, *index),
        (Balance::Hash | Balance::P2c | Balance::Random | Balance::RoundRobin, _) => None,
    }
}

/// The value as it is written.
fn in_query<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|field| field.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

/// A parameter by position: text and whole numbers by what they say, so that `7` and `"7"` are one and so are
/// packagers; all else by its bytes.
fn param(wire: Wire, params: &[u8], index: usize) -> Option<u64> {
    let mut reader = Reader::new(wire, params);
    let list = reader.pull().ok()??;
    if !list.opens() {
        return None;
    }
    let is_map = list == Event::Map;
    for _ in 0..index {
        if is_map {
            skip(&mut reader)?;
        }
        skip(&mut reader)?;
    }
    if is_map {
        skip(&mut reader)?;
    }
    let value = reader.pull().ok()??;
    if value == Event::End {
        return None;
    }
    let start = reader.start();
    close(&mut reader, &value)?;
    let written = params.get(start..reader.end())?;
    let said: Option<Cow<'_, str>> = match &value {
        Event::Str(text) => Some(Cow::Borrowed(&**text)),
        Event::Int(number) => Some(number.to_string().into()),
        Event::UInt(number) => Some(number.to_string().into()),
        Event::Null | Event::Bool(_) | Event::Float(_) | Event::Beyond(_) => None,
        Event::Bytes(_) | Event::Ext(..) | Event::Php(_) | Event::Array | Event::Map | Event::End => None,
    };
    Some(balance::key(said.as_ref().map_or(written, |said| said.as_bytes())))
}

/// Reads over one value; `None` at the end of what holds it, or where it can't be read.
fn skip(reader: &mut Reader<'_>) -> Option<()> {
    let event = reader.pull().ok()??;
    if event == Event::End { None } else { close(reader, &event) }
}

/// Reads to the end of the value that `event` began.
fn close(reader: &mut Reader<'_>, event: &Event<'_>) -> Option<()> {
    let mut depth = u32::from(event.opens());
    while depth > 0 {
        let event = reader.pull().ok()??;
        depth = depth + u32::from(event.opens()) - u32::from(event == Event::End);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_adapters::{Options, transcode};

    fn params(wire: Wire, list: &str) -> Vec<u8> {
        transcode(Wire::Json, wire, list.as_bytes(), "$", Options::default()).unwrap()
    }

    #[test]
    fn a_parameter_is_found_by_its_place_on_every_wire() {
        let wanted = [Some(balance::key(b"7")), Some(balance::key("b\u{e9}".as_bytes())), None];
        for wire in [Wire::Json, Wire::Msgpack, Wire::Php] {
            for (list, at) in
                [(r#"[7,[1,{"x":[2]}],"bé"]"#, [0, 2, 3]), (r#"["7",{"a":[]},"bé"]"#, [0, 2, 9])]
            {
                let params = params(wire, list);
                assert_eq!(at.map(|index| param(wire, &params, index)), wanted, "{wire:?} {list}");
                assert!(param(wire, &params, 1).is_some());
            }
        }
        assert_eq!(param(Wire::Json, b"[]", 0), None);
    }

    #[test]
    fn parameters_are_looked_at_only_where_the_policy_says_so() {
        let by_param =
            Policy { balance: Balance::Hash, hash_on: Some(HashOn::Param(0)), ..Policy::default() };
        assert_eq!(of_params(&by_param, Wire::Json, b"[7]"), Some(balance::key(b"7")));
        let by_header = Policy { hash_on: Some(HashOn::Header("x-user".into())), ..by_param.clone() };
        let in_turn = Policy { balance: Balance::RoundRobin, ..by_param };
        assert_eq!([by_header, in_turn].map(|policy| of_params(&policy, Wire::Json, b"[7]")), [None; 2]);
    }

    #[test]
    fn a_query_is_read_field_by_field() {
        assert_eq!(in_query("a=1&uid=7&uid=8", "uid"), Some("7"));
        assert_eq!(in_query("xuid=7&uid", "uid"), None);
    }
}
