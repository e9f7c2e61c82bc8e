//! Whole messages: requests, results, exceptions.

use std::ops::Range;

use super::{Code, Exception, HEAD, Header, NAME, Packager, Request};
use crate::Fault;
use crate::codec::{Reader, Wire, Writer};
use crate::event::{Event, Options};
use crate::pump::room;

/// Name in the provider field of the answers written here.
const SERVER: &[u8] = b"remora";
/// Bytes that a payload mostly needs besides its parameters or result.
const AROUND: usize = 80;
/// Status of an answer that carries an exception.
const EXCEPTION: i64 = 64;

/// A request of `method` with `params`, which are in the packager already: a list, or a map. No
/// bytes at all, or an empty msgpack map (it crashes PHP workers), become an empty list.
///
/// # Errors
/// [`Fault::Malformed`] as [`has_params`]; [`Fault::Unadaptable`] if provider or token are longer than 32 bytes.
pub fn encode_request(
    packager: Packager,
    id: u32,
    provider: &[u8],
    token: &[u8],
    method: &str,
    params: &[u8],
) -> Result<Vec<u8>, Fault> {
    let wire = packager.wire();
    let params = if has_params(wire, params)? { params } else { no_params(wire) };
    let o = Options::default();
    let draft = Draft::with_room(packager, id, [provider, token], method, params.len(), o)?;
    let fill = |writer: &mut Writer| {
        writer.raw(params);
        Ok(())
    };
    draft.finish(fill).map(|(message, _)| message)
}

/// A request whose parameters are still to be written.
pub struct Draft {
    map: MapWriter,
    header: Header,
    options: Options,
}

impl Draft {
    /// A request of `method`, with room for parameters out of `len` bytes of text; in its header stand
    /// `[provider, token]`.
    ///
    /// # Errors
    /// [`Fault::Unadaptable`] if provider or token are longer than 32 bytes.
    pub fn new(
        packager: Packager,
        id: u32,
        names: [&[u8]; 2],
        method: &str,
        len: usize,
        o: Options,
    ) -> Result<Self, Fault> {
        Self::with_room(packager, id, names, method, room(Wire::Json, packager.wire(), len), o)
    }

    fn with_room(
        packager: Packager,
        id: u32,
        [provider, token]: [&[u8]; 2],
        method: &str,
        room: usize,
        options: Options,
    ) -> Result<Self, Fault> {
        for (field, value) in [("provider", provider), ("token", token)] {
            if value.len() > NAME {
                let reason = format!("{} bytes, where Yar has room for {NAME}", value.len());
                return Err(Fault::unadaptable(field, reason));
            }
        }
        let (provider, token) = (provider.to_vec(), token.to_vec());
        let header = Header { id, version: 0, reserved: 0, provider, token, body_len: 0, packager };
        let mut map = MapWriter::new(packager.wire(), method.len() + room, options);
        map.put("i", &Event::Int(i64::from(id)));
        map.put("m", &Event::Str(method.into()));
        map.push(&Event::Str("p".into()));
        Ok(Self { map, header, options })
    }

    /// The message with the parameters that `fill` writes, one list or nothing, and where they stand in it.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn finish<E>(
        self,
        fill: impl FnOnce(&mut Writer) -> Result<(), E>,
    ) -> Result<(Vec<u8>, Range<usize>), E> {
        let Self { mut map, header, options } = self;
        let begin = map.0.len();
        map.0.heed(options);
        fill(&mut map.0)?;
        map.0.unbound();
        if map.0.len() == begin {
            map.0.raw(no_params(header.packager.wire()));
        }
        let written = map.0.len();
        map.push(&Event::End);
        let behind = map.0.len() - written;
        let message = map.message(&header);
        // lengths within the parameters may have taken more room
        let params = begin..message.len() - behind;
        Ok((message, params))
    }
}

/// `payload` with another method; all its other bytes stay as they are.
///
/// # Errors
/// [`Fault::Malformed`] if `request` was not read from `payload`.
pub fn rename(packager: Packager, payload: &[u8], request: &Request, method: &str) -> Result<Vec<u8>, Fault> {
    let foreign = || Fault::malformed(request.method_at.start, "the payload ends before its method");
    let before = payload.get(..request.method_at.start).ok_or_else(foreign)?;
    let behind = payload.get(request.method_at.end..).ok_or_else(foreign)?;
    let mut name = Writer::new(packager.wire(), Options::default());
    let taken = name.push(&Event::Str(method.into()));
    debug_assert!(taken.is_ok(), "text has a form everywhere");
    Ok([before, &name.finish(), behind].concat())
}

fn no_params(wire: Wire) -> &'static [u8] {
    match wire {
        Wire::Json => b"[]",
        Wire::Msgpack => b"\x90",
        Wire::Php => b"a:0:{}",
    }
}

/// Whether there are parameters in `p`: not where it is empty, or a map without entries, by which PHP workers crash as by
/// anything that is neither list nor map.
///
/// # Errors
/// [`Fault::Malformed`] if `p` can't be read, or is neither.
pub fn has_params(wire: Wire, p: &[u8]) -> Result<bool, Fault> {
    let unfit = |what| Fault::malformed(0, format!("`p` is {what}, not the list of the call's parameters"));
    if p.is_empty() {
        return Ok(false);
    }
    let mut reader = Reader::new(wire, p);
    let first = reader.first()?;
    if !first.opens() {
        return Err(unfit(first.kind()));
    }
    let second = reader.first()?;
    if first == Event::Map && second == Event::Null {
        return Err(unfit("a PHP object"));
    }
    Ok(first == Event::Array || second != Event::End)
}

/// The answer to request `id`: a result, and what the method printed; both are in the packager
/// already.
pub fn encode_result(packager: Packager, id: u32, result: &[u8], output: Option<&[u8]>) -> Vec<u8> {
    let len = result.len() + output.map_or(0, <[u8]>::len);
    let mut map = MapWriter::new(packager.wire(), len, Options::default());
    map.put("i", &Event::Int(i64::from(id)));
    map.put("s", &Event::Int(0));
    if let Some(output) = output {
        map.raw("o", output);
    }
    map.raw("r", result);
    map.finish(&server(packager, id))
}

/// The answer to request `id` that throws `e` at the caller.
pub fn encode_exception(packager: Packager, id: u32, e: &Exception) -> Vec<u8> {
    let len = e.message.len() + e.file.len() + e.class.len();
    let mut map = MapWriter::new(packager.wire(), len, Options::default());
    map.put("i", &Event::Int(i64::from(id)));
    map.put("s", &Event::Int(EXCEPTION));
    map.open("e");
    map.put("message", &Event::Str(e.message.as_str().into()));
    match &e.code {
        Code::Int(code) => map.put("code", &Event::Int(*code)),
        Code::Str(code) => map.put("code", &Event::Str(code.as_str().into())),
    }
    map.put("file", &Event::Str(e.file.as_str().into()));
    map.put("line", &Event::Int(e.line));
    map.put("_type", &Event::Str(e.class.as_str().into()));
    map.push(&Event::End);
    map.finish(&server(packager, id))
}

fn server(packager: Packager, id: u32) -> Header {
    let provider = SERVER.to_vec();
    Header { id, version: 0, reserved: 0, provider, token: Vec::new(), body_len: 0, packager }
}

/// Writes a message whose payload is a map with keys that are known and values that no codec
/// refuses, behind the place of its head.
struct MapWriter(Writer);

impl MapWriter {
    /// For a map with values of `len` bytes.
    fn new(wire: Wire, len: usize, o: Options) -> Self {
        let mut map = Self(Writer::of_message(wire, o));
        map.0.reserve(HEAD + AROUND + len);
        map.0.leave(HEAD);
        map.push(&Event::Map);
        map
    }

    fn put(&mut self, key: &str, value: &Event<'_>) {
        self.push(&Event::Str(key.into()));
        self.push(value);
    }

    fn open(&mut self, key: &str) {
        self.put(key, &Event::Map);
    }

    fn raw(&mut self, key: &str, value: &[u8]) {
        self.push(&Event::Str(key.into()));
        self.0.raw(value);
    }

    fn push(&mut self, event: &Event<'_>) {
        let taken = self.0.push(event);
        debug_assert!(taken.is_ok(), "integers and text have a form everywhere");
    }

    fn finish(mut self, header: &Header) -> Vec<u8> {
        self.push(&Event::End);
        self.message(header)
    }

    /// The message of a map that is at its end.
    fn message(self, header: &Header) -> Vec<u8> {
        let mut message = self.0.finish();
        let payload = message.len().saturating_sub(HEAD);
        if let Some(head) = message.first_chunk_mut() {
            *head = header.encode(payload);
        }
        message
    }
}
