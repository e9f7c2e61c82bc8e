//! Yar messages by the byte, for what no real client would send.

use super::http::{self, Conn};
use super::{Answer, Remora};

pub const ID: u32 = 0x9a3c_0001;

/// A message with these parts; `packager` is padded with NUL.
pub fn message(packager: &str, payload: &[u8]) -> Vec<u8> {
    let mut field = [0; 8];
    field[..packager.len()].copy_from_slice(packager.as_bytes());
    message_with(&field, payload, 8 + payload.len() as u32)
}

pub fn message_with(packager: &[u8; 8], payload: &[u8], body_len: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(90 + payload.len());
    bytes.extend_from_slice(&ID.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0x80, 0xdf, 0xec, 0x60, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0; 64]);
    bytes.extend_from_slice(&body_len.to_be_bytes());
    bytes.extend_from_slice(packager);
    bytes.extend_from_slice(payload);
    bytes
}

/// `{"i":ID,"m":method,"p":params}` with `params` as raw JSON.
pub fn json_request(method: &str, params: &str) -> Vec<u8> {
    json_request_as(ID, method, params)
}

pub fn json_request_as(id: u32, method: &str, params: &str) -> Vec<u8> {
    let payload = format!(r#"{{"i":{id},"m":"{method}","p":{params}}}"#);
    with_id(message("JSON", payload.as_bytes()), id)
}

/// The same in msgpack with `params` as raw msgpack; `method` of at most 31 bytes.
pub fn msgpack_request(method: &str, params: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x83, 0xa1, b'i', 0xce];
    payload.extend_from_slice(&ID.to_be_bytes());
    payload.extend_from_slice(&[0xa1, b'm', 0xa0 | method.len() as u8]);
    payload.extend_from_slice(method.as_bytes());
    payload.extend_from_slice(&[0xa1, b'p']);
    payload.extend_from_slice(params);
    message("MSGPACK", &payload)
}

/// The same in PHP's own format with `params` serialized.
pub fn php_request(method: &str, params: &str) -> Vec<u8> {
    let length = method.len();
    let payload = format!(r#"a:3:{{s:1:"i";i:{ID};s:1:"m";s:{length}:"{method}";s:1:"p";{params}}}"#);
    message("PHP", payload.as_bytes())
}

/// A provider's answer in PHP's own format: the request's id, status 0, `r` serialized.
pub fn php_answer(request: &[u8], result: &str) -> Vec<u8> {
    let id = request.first_chunk::<4>().map_or(0, |id| u32::from_be_bytes(*id));
    let payload = format!(r#"a:3:{{s:1:"i";i:{id};s:1:"s";i:0;s:1:"r";{result}}}"#);
    let mut bytes = message("PHP", payload.as_bytes());
    bytes[..4].copy_from_slice(&id.to_be_bytes());
    bytes
}

/// Payload of an answer in the PHP packager, after a look at its header.
pub fn php_payload(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = &answer.body;
    assert!(body.len() >= 90, "not a Yar message: {}", answer.text());
    assert_eq!(body[6..10], [0x80, 0xdf, 0xec, 0x60], "{}", answer.text());
    assert_eq!(&body[82..90], b"PHP\0\0\0\0\0", "{}", answer.text());
    assert_eq!(body[78..82], (body.len() as u32 - 82).to_be_bytes(), "body_len");
    String::from_utf8_lossy(&body[90..]).into_owned()
}

/// A provider's answer in msgpack: the request's id, status 0, `r` as raw msgpack.
pub fn msgpack_answer(request: &[u8], result: &[u8]) -> Vec<u8> {
    let id = request.get(..4).unwrap_or(&[0; 4]);
    let mut payload = vec![0x83, 0xa1, b'i', 0xce];
    payload.extend_from_slice(id);
    payload.extend_from_slice(&[0xa1, b's', 0x00, 0xa1, b'r']);
    payload.extend_from_slice(result);
    let mut bytes = message("MSGPACK", &payload);
    bytes[..4].copy_from_slice(id);
    bytes
}

/// The same message from a client that keeps its connection.
pub fn persistent(mut message: Vec<u8>) -> Vec<u8> {
    message[10..14].copy_from_slice(&1_u32.to_be_bytes());
    message
}

/// The same message under another id, in its header alone.
pub fn with_id(mut message: Vec<u8>, id: u32) -> Vec<u8> {
    message[..4].copy_from_slice(&id.to_be_bytes());
    message
}

/// The next whole message of a raw connection, by its `body_len`.
pub fn read_raw(conn: &mut Conn) -> std::io::Result<Vec<u8>> {
    let mut message = conn.exactly(90)?;
    let body_len = u32::from_be_bytes([message[78], message[79], message[80], message[81]]);
    message.extend(conn.exactly(body_len as usize - 8)?);
    Ok(message)
}

/// One raw call in JSON as a client makes it that does not keep its connection.
pub fn call_raw(mut conn: Conn, message: &[u8]) -> serde_json::Value {
    conn.send(message).unwrap();
    conn.half_close();
    let answer = read_raw(&mut conn).unwrap();
    assert_eq!(answer[..4], message[..4], "the id of the request");
    assert!(conn.is_closed(), "nothing follows");
    raw_payload(&answer)
}

/// Payload of a raw answer in the JSON packager.
pub fn raw_payload(answer: &[u8]) -> serde_json::Value {
    let whole = Answer { status: 200, body: answer.to_vec(), ..Answer::default() };
    json_payload(&whole)
}

/// What a raw caller in JSON must see of a call that was not carried.
pub fn assert_refused(seen: &serde_json::Value, kind: &str, code: i64) {
    assert_eq!(seen["s"], 64, "{seen}");
    assert_eq!(seen["e"]["_type"], format!("Remora\\{kind}"), "{seen}");
    assert_eq!(seen["e"]["code"], code, "{seen}");
    assert!(call_named(seen).is_some(), "{seen}");
    assert_eq!((&seen["e"]["file"], &seen["e"]["line"]), (&"".into(), &0.into()), "{seen}");
}

/// The id of the call that an exception of remora's own names at the end of its message.
pub fn call_named(seen: &serde_json::Value) -> Option<&str> {
    let id = seen["e"]["message"].as_str()?.strip_suffix(')')?.rsplit_once(" (call ")?.1;
    (id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

pub const HEADERS: [(&str, &str); 3] = [
    ("User-Agent", "PHP Yar RPC-2.4.1-dev"),
    ("Connection", "close"),
    ("Content-Type", "application/x-www-form-urlencoded"),
];

/// Sends a message as the extension's HTTP client does, reading up to the close.
pub fn send(remora: &Remora, target: &str, message: &[u8]) -> Answer {
    send_over(&mut remora.conn(), target, message)
}

pub fn send_over(conn: &mut Conn, target: &str, message: &[u8]) -> Answer {
    conn.send(http::request("POST", target, &HEADERS, message)).unwrap();
    let answer = conn.answer().unwrap();
    assert!(conn.is_closed(), "the caller asked for `Connection: close`");
    answer
}

/// Payload of an answer in the JSON packager, after a look at its header.
pub fn json_payload(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = &answer.body;
    assert!(body.len() >= 90, "not a Yar message: {}", answer.text());
    assert_eq!(body[6..10], [0x80, 0xdf, 0xec, 0x60], "{}", answer.text());
    assert_eq!(&body[82..86], b"JSON", "{}", answer.text());
    assert_eq!(body[78..82], (body.len() as u32 - 82).to_be_bytes(), "body_len");
    serde_json::from_slice(&body[90..])
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body[90..])))
}
