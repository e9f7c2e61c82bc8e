//! What Yar servers, and whoever answers in their place, get wrong: every caller gets the value or a failure that has
//! a name. Nobody gets a null that was not sent, nor a failure that an old client can't read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use proto_adapters::yar::{self as wire, HEAD, Header};
use serde_json::Value;
use support::peer::{Request, answer};
use support::{Answer, Conn, Peer, Remora, assert_problem, http, service_with, yar};

/// What a caller must see.
#[derive(Debug, Clone, Copy)]
enum Seen {
    /// A success with this JSON.
    Value(&'static str),
    /// A failure that remora names.
    Refused(&'static str),
    /// The provider's own failure, with this message.
    Thrown(&'static str),
}

use Seen::{Refused, Thrown, Value as Is};

const OK: Seen = Is(r#""ok""#);
const BAD: Seen = Refused("bad-answer");
const CUT: Seen = Refused("cut");
/// All answers but one are bad here, which must not keep the next call from its provider.
const POLICY: &str = "policy: { circuit: { consecutive: 10000, min_calls: 1000000 } }";

/// Payloads in JSON; `$id` is the request's, `$other` is not.
const PAYLOADS: [(&str, &str, Seen); 50] = [
    ("whole", r#"{"i":$id,"s":0,"r":"ok"}"#, OK),
    ("null", r#"{"i":$id,"s":0,"r":null}"#, Is("null")),
    ("id-zero", r#"{"i":0,"s":0,"r":"ok"}"#, OK),
    ("id-text", r#"{"i":"$id","s":0,"r":"ok"}"#, OK),
    ("id-float", r#"{"i":$id.0,"s":0,"r":"ok"}"#, OK),
    ("id-missing", r#"{"s":0,"r":"ok"}"#, BAD),
    ("id-missing-failed", r#"{"s":64,"e":"no stock"}"#, BAD),
    ("id-other", r#"{"i":$other,"s":0,"r":"ok"}"#, BAD),
    ("id-other-failed", r#"{"i":$other,"s":64,"e":"no stock"}"#, BAD),
    ("id-other-text", r#"{"i":"$other","s":0,"r":"ok"}"#, BAD),
    ("id-other-float", r#"{"i":$other.0,"s":0,"r":"ok"}"#, BAD),
    ("id-negative", r#"{"i":-1,"s":0,"r":"ok"}"#, BAD),
    ("id-null", r#"{"i":null,"s":0,"r":"ok"}"#, BAD),
    ("id-list", r#"{"i":[$id],"s":0,"r":"ok"}"#, BAD),
    ("status-missing", r#"{"i":$id,"r":"ok"}"#, BAD),
    ("status-text", r#"{"i":$id,"s":"64","e":"no stock"}"#, BAD),
    ("status-true", r#"{"i":$id,"s":true,"e":"no stock"}"#, BAD),
    ("status-null", r#"{"i":$id,"s":null,"r":"ok"}"#, BAD),
    ("status-float", r#"{"i":$id,"s":0.0,"r":"ok"}"#, BAD),
    // PHP keeps 32 bits of it, which are 0, and returns null
    ("status-2-to-32", r#"{"i":$id,"s":4294967296,"e":"no stock"}"#, BAD),
    ("status-2-to-32-and-64", r#"{"i":$id,"s":4294967360,"e":"no stock"}"#, BAD),
    ("status-minus-2-to-32", r#"{"i":$id,"s":-4294967296,"e":"no stock"}"#, BAD),
    ("result-missing", r#"{"i":$id,"s":0}"#, BAD),
    ("all-missing", "{}", BAD),
    ("list", r#"[$id,0,"ok"]"#, BAD),
    ("list-of-it", r#"[{"i":$id,"s":0,"r":"ok"}]"#, BAD),
    ("text", r#""ok""#, BAD),
    ("number", "0", BAD),
    ("nothing", "null", BAD),
    ("empty", "", BAD),
    ("more-keys", r#"{"i":$id,"s":0,"r":"ok","x":[1,{"s":64}]}"#, OK),
    ("other-order", r#"{"r":"ok","s":0,"i":$id}"#, OK),
    ("printed", r#"{"i":$id,"s":0,"o":"<br>","r":"ok"}"#, OK),
    ("printed-number", r#"{"i":$id,"s":0,"o":5,"r":"ok"}"#, OK),
    ("result-and-error", r#"{"i":$id,"s":0,"r":"ok","e":"no stock"}"#, OK),
    ("cut-off", r#"{"i":$id,"s":0,"r":["o"#, BAD),
    ("mark", "\u{feff}{\"i\":$id,\"s\":0,\"r\":\"ok\"}", BAD),
    ("printed-and-failed", r#"{"i":$id,"s":64,"o":"<br>","e":"no stock"}"#, Thrown("no stock")),
    (
        "thrown",
        r#"{"i":$id,"s":64,"e":{"message":"no stock","code":7,"file":"a","line":1,"_type":"T"}}"#,
        Thrown("no stock"),
    ),
    ("thrown-message", r#"{"i":$id,"s":64,"e":{"message":"no stock"}}"#, Thrown("no stock")),
    ("thrown-code", r#"{"i":$id,"s":64,"e":{"message":"no stock","code":"HY000"}}"#, Thrown("no stock")),
    ("thrown-odd", r#"{"i":$id,"s":64,"e":{"message":5,"file":null,"line":"x"}}"#, Thrown("5")),
    ("thrown-map", r#"{"i":$id,"s":64,"e":{}}"#, Thrown("")),
    ("thrown-list", r#"{"i":$id,"s":64,"e":[]}"#, Thrown("unknown error, status 64")),
    ("thrown-null", r#"{"i":$id,"s":64,"e":null}"#, Thrown("unknown error, status 64")),
    ("thrown-number", r#"{"i":$id,"s":64,"e":5}"#, Thrown("unknown error, status 64")),
    ("thrown-nothing", r#"{"i":$id,"s":64}"#, Thrown("unknown error, status 64")),
    // a map with any other status ends an old client
    ("map-4", r#"{"i":$id,"s":4,"e":{"message":"no stock","code":7}}"#, Thrown("no stock")),
    ("map-16", r#"{"i":$id,"s":16,"e":{"message":"no stock"}}"#, Thrown("no stock")),
    ("nothing-4", r#"{"i":$id,"s":4}"#, Thrown("unknown error, status 4")),
];

/// Failures whose `e` is text; not all of them have a name.
const STATUSES: [i64; 15] = [1, 2, 4, 8, 16, 32, 64, 128, 3, 100, 429, 503, 1001, -1, i32::MAX as i64];

type Change = fn(Vec<u8>) -> Vec<u8>;

/// What becomes of a good message; what is seen of it over HTTP, and over TCP, where the connection then ends.
const MESSAGES: [(&str, Change, Seen, Seen); 23] = [
    ("head-id", |m| yar::with_id(m, 5), OK, OK),
    ("head-version", |m| put(m, 4, &[0, 10]), OK, OK),
    ("head-reserved", |m| put(m, 10, &[0, 0, 0, 9]), OK, OK),
    ("head-magic", |m| put(m, 8, &[0]), BAD, BAD),
    ("length-0", |m| put(m, 78, &[0; 4]), OK, BAD),
    ("length-huge", |m| put(m, 78, &[0xff; 4]), OK, BAD),
    ("length-without-packager", |m| sized(m, |length| length - 8), OK, BAD),
    ("length-over", |m| sized(m, |length| length + 100), OK, CUT),
    ("cut-10", |m| m[..10].to_vec(), BAD, CUT),
    ("cut-81", |m| m[..81].to_vec(), BAD, CUT),
    ("cut-89", |m| m[..89].to_vec(), BAD, CUT),
    ("cut-90", |m| m[..90].to_vec(), BAD, CUT),
    ("cut-last", |m| m[..m.len() - 1].to_vec(), BAD, CUT),
    ("cut-and-told", |m| sized(m[..m.len() - 1].to_vec(), |length| length - 1), BAD, BAD),
    ("trailing", |m| [&m, &b"<br>"[..]].concat(), BAD, OK),
    ("packager-unknown", |m| put(m, 82, b"FOO\0\0\0\0\0"), BAD, BAD),
    ("packager-none", |m| put(m, 82, &[0; 8]), BAD, BAD),
    ("packager-blanks", |m| put(m, 82, b"JSON    "), BAD, BAD),
    ("packager-long", |m| put(m, 82, b"JSONABCD"), BAD, BAD),
    ("packager-lower", |m| put(m, 82, b"json\0\0\0\0"), OK, OK),
    ("packager-junk", |m| put(m, 82, b"JSON\0YAR"), OK, OK),
    ("nothing", |_| Vec::new(), BAD, CUT),
    ("page", |_| b"<html><body>Fatal error</body></html>".to_vec(), BAD, BAD),
];

/// Whole answers over HTTP around a good message; the connection ends behind them.
const ANSWERS: [(&str, Change, Seen); 27] = [
    ("plain", |m| answer(200, &[], &m), OK),
    ("html", |m| answer(200, &[("Content-Type", "text/html")], &m), OK),
    ("201", |m| answer(201, &[], &m), BAD),
    ("202", |m| answer(202, &[], &m), BAD),
    ("204", |_| answer(204, &[], b""), BAD),
    ("206", |m| answer(206, &[], &m), BAD),
    ("301", |m| answer(301, &[("Location", "/")], &m), BAD),
    ("302", |m| answer(302, &[("Location", "/")], &m), BAD),
    ("307", |m| answer(307, &[("Location", "/")], &m), BAD),
    ("401", |m| answer(401, &[], &m), BAD),
    ("404", |m| answer(404, &[], &m), BAD),
    ("429", |m| answer(429, &[], &m), BAD),
    ("500", |m| answer(500, &[], &m), BAD),
    ("503", |m| answer(503, &[], &m), BAD),
    ("503-failed", |_| answer(503, &[], &failed()), Thrown("no stock")),
    ("503-page", |_| answer(503, &[], b"<html>"), BAD),
    ("silent", |_| Vec::new(), CUT),
    ("no-http", |_| b"220 mail ready\r\n\r\n".to_vec(), BAD),
    ("length-over", |m| head(m.len() + 10, m), CUT),
    ("length-under", |m| head(m.len() - 10, m), BAD),
    ("chunked", |m| chunked(&m, "0\r\n\r\n"), OK),
    ("chunked-cut", |m| chunked(&m, ""), CUT),
    ("old", |m| [&b"HTTP/1.0 200 OK\r\n\r\n"[..], &m].concat(), OK),
    ("interim-100", |m| [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), answer(200, &[], &m)].concat(), OK),
    ("interim-103", |m| [b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), answer(200, &[], &m)].concat(), OK),
    ("gzip", |m| answer(200, &[("Content-Encoding", "gzip")], &m), BAD),
    ("identity", |m| answer(200, &[("Content-Encoding", "Identity")], &m), OK),
];

/// Payloads of the other packagers behind `i`, which is the request's.
const MSGPACK: [(&str, &[u8], Seen); 11] = [
    ("whole", b"\x83$id\xa1s\0\xa1r\xa2ok", OK),
    ("trailing", b"\x83$id\xa1s\0\xa1r\xa2ok<br>", OK),
    ("cut-off", b"\x83$id\xa1s\0\xa1r\xa2o", BAD),
    ("empty", b"", BAD),
    ("never-used", b"\x83$id\xa1s\0\xa1r\xc1", BAD),
    ("list", b"\x90", BAD),
    ("no-result", b"\x82$id\xa1s\0", BAD),
    ("status-2-to-32", b"\x83$id\xa1s\xcf\0\0\0\x01\0\0\0\0\xa1e\xa1E", BAD),
    ("thrown-bin", b"\x83$id\xa1s\x40\xa1e\xc4\x08no stock", Thrown("no stock")),
    // objects to PHP, and no map
    ("thrown-empty", b"\x83$id\xa1s\x40\xa1e\x80", Thrown("")),
    ("thrown-object", b"\x83$id\xa1s\x40\xa1e\x82\xc0\xa1T\xa7message\xa1x", Thrown("x")),
];

const PHP: [(&str, &[u8], Seen); 9] = [
    ("whole", br#"a:3:{$ids:1:"s";i:0;s:1:"r";s:2:"ok";}"#, OK),
    ("trailing", br#"a:3:{$ids:1:"s";i:0;s:1:"r";s:2:"ok";}<br>"#, OK),
    ("cut-off", br#"a:3:{$ids:1:"s";i:0;s:1:"r";s:2:"ok""#, BAD),
    ("empty", b"", BAD),
    // what serialize makes of a closure
    ("closure", br#"a:3:{$ids:1:"s";i:0;s:1:"r";}"#, BAD),
    ("list", b"a:0:{}", BAD),
    ("no-result", br#"a:2:{$ids:1:"s";i:0;}"#, BAD),
    ("status-2-to-32", br#"a:3:{$ids:1:"s";i:4294967296;s:1:"e";s:1:"E";}"#, BAD),
    ("thrown-object", br#"a:3:{$ids:1:"s";i:64;s:1:"e";O:1:"T":1:{s:7:"message";s:1:"x";}}"#, Thrown("x")),
];

fn put(mut message: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

/// With another `body_len`.
fn sized(message: Vec<u8>, length: fn(u32) -> u32) -> Vec<u8> {
    let told = u32::from_be_bytes(*message[78..].first_chunk().unwrap());
    put(message, 78, &length(told).to_be_bytes())
}

/// An answer of any length, whatever it says.
fn head(length: usize, body: Vec<u8>) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), &body].concat()
}

fn chunked(body: &[u8], end: &str) -> Vec<u8> {
    let (length, head) = (body.len(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked");
    [format!("{head}\r\n\r\n{length:x}\r\n").as_bytes(), body, b"\r\n", end.as_bytes()].concat()
}

/// A failure under the id that everyone takes.
fn failed() -> Vec<u8> {
    yar::message("JSON", br#"{"i":0,"s":64,"e":"no stock"}"#)
}

/// What a provider was asked: its method names the row to answer by.
struct Asked {
    row: String,
    id: u32,
}

impl Asked {
    fn of(message: &[u8]) -> Asked {
        let header = Header::parse(message).unwrap();
        let request = wire::Request::read(header.packager, &message[HEAD..]).unwrap();
        Asked { row: request.method, id: u32::try_from(request.id).unwrap() }
    }

    fn message(&self, packager: &str, payload: &[u8]) -> Vec<u8> {
        yar::with_id(yar::message(packager, payload), self.id)
    }

    fn good(&self) -> Vec<u8> {
        self.message("JSON", format!(r#"{{"i":{},"s":0,"r":"ok"}}"#, self.id).as_bytes())
    }

    /// By the table of payloads.
    fn payload(&self) -> Vec<u8> {
        let failed;
        let payload = match self.row.strip_prefix("status-is-") {
            Some(status) => {
                failed = format!(r#"{{"i":$id,"s":{status},"e":"no stock"}}"#);
                &failed
            }
            None => PAYLOADS.iter().find(|(name, ..)| *name == self.row).unwrap().1,
        };
        let (id, other) = (self.id.to_string(), (self.id ^ 1).to_string());
        self.message("JSON", payload.replace("$id", &id).replace("$other", &other).as_bytes())
    }

    /// By a table of another packager.
    fn packed(&self, packager: &str, rows: &[(&str, &[u8], Seen)]) -> Vec<u8> {
        let template = rows.iter().find(|(name, ..)| *name == self.row).unwrap().1;
        let id = match packager {
            "PHP" => format!(r#"s:1:"i";i:{};"#, self.id).into_bytes(),
            _ => [b"\xa1i\xce", &self.id.to_be_bytes()[..]].concat(),
        };
        let payload = match template.windows(3).position(|part| part == b"$id") {
            Some(at) => [&template[..at], &id, &template[at + 3..]].concat(),
            None => template.to_vec(),
        };
        self.message(packager, &payload)
    }
}

/// A provider over HTTP whose whole answers `reply` gives; `true`: it ends behind one.
fn over_http(reply: fn(&Asked) -> (Vec<u8>, bool)) -> Peer {
    Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        while let Ok(Some(request)) = Request::read(&mut conn) {
            let (bytes, ends) = reply(&Asked::of(&request.body));
            if conn.send(bytes).is_err() || ends {
                return;
            }
        }
    })
}

/// A provider over TCP whose messages `reply` gives, one for each connection.
fn over_tcp(reply: fn(&Asked) -> Vec<u8>) -> Peer {
    Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        if let Ok(message) = yar::read_raw(&mut conn) {
            let _ = conn.send(reply(&Asked::of(&message)));
        }
    })
}

/// Services by name, each with its API and its provider.
fn remora(services: &[(&str, &str, &Peer)]) -> Remora {
    let entries = services.iter().map(|(name, api, peer)| {
        let api = format!("{{ encoding: {api} }}");
        service_with(name, &format!("access: open, {POLICY}"), &[("*", &api)], &[&peer.address])
    });
    Remora::embedded(&entries.collect::<String>()).start()
}

/// One row as callers of HTTP and of Yar in these packagers see it.
fn check(remora: &Remora, service: &str, row: &str, seen: Seen, packagers: &[&str]) {
    let what = format!("{service} {row}");
    check_http(&remora.post(&format!("/{service}/{row}"), "[1]"), seen, &what);
    for packager in packagers {
        let request = match *packager {
            "JSON" => yar::json_request(row, "[1]"),
            "MSGPACK" => yar::msgpack_request(row, &[0x91, 1]),
            _ => yar::php_request(row, "a:1:{i:0;i:1;}"),
        };
        let answer = yar::send(remora, &format!("/{service}"), &request);
        check_yar(&answer, packager, seen, &format!("{what} to {packager}"));
    }
}

fn check_http(answer: &Answer, seen: Seen, what: &str) {
    let text = answer.text();
    match seen {
        Is(value) => {
            assert_eq!(answer.status, 200, "{what}: {text}");
            assert_eq!(answer.json(), serde_json::from_str::<Value>(value).unwrap(), "{what}");
        }
        Refused(kind) => {
            assert_eq!(answer.kind().as_deref(), Some(kind), "{what}: {text}");
            assert_problem(answer, kind, 502);
        }
        Thrown(message) => {
            assert_eq!(answer.kind().as_deref(), Some("provider-exception"), "{what}: {text}");
            assert!(answer.json()["detail"].as_str().unwrap().contains(message), "{what}: {text}");
        }
    }
}

fn check_yar(answer: &Answer, packager: &str, seen: Seen, what: &str) {
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    let shown: Value = serde_json::from_str(&wire::describe(&answer.body, false).unwrap()).unwrap();
    assert_eq!((&shown["id"], &shown["packager"]), (&yar::ID.into(), &packager.into()), "{what}: {shown}");
    let (body, e) = (&shown["body"], &shown["body"]["e"]);
    match seen {
        Is(value) => {
            assert_eq!(body["s"], 0, "{what}: {shown}");
            assert_eq!(body.get("r"), Some(&serde_json::from_str(value).unwrap()), "{what}: {shown}");
        }
        Refused(kind) => {
            let (class, code) = if kind == "cut" { ("Cut", 10507) } else { ("BadAnswer", 10508) };
            assert_eq!(e["_type"], format!("Remora\\{class}"), "{what}: {shown}");
            yar::assert_refused(body, class, code);
        }
        Thrown(message) => {
            let status = body["s"].as_i64().unwrap();
            let sound = status != 0 && (e.is_string() || (status == 64 && e.is_object()));
            assert!(sound && e.get("$object").is_none(), "{what}: an old client ends by this: {shown}");
            let told = if e.is_string() { e } else { &e["message"] };
            let told = told.as_str().map_or_else(|| told.to_string(), str::to_owned);
            assert_eq!(told, message, "{what}: {shown}");
        }
    }
}

#[test]
fn a_payload_is_a_value_or_a_failure_over_http_and_tcp() {
    let http = over_http(|asked| (answer(200, &[], &asked.payload()), false));
    let tcp = over_tcp(Asked::payload);
    let remora = remora(&[("http", "yar-json", &http), ("tcp", "yar-json, transport: tcp", &tcp)]);
    for service in ["http", "tcp"] {
        for (row, _, seen) in PAYLOADS {
            check(&remora, service, row, seen, &["JSON", "MSGPACK"]);
        }
        for status in STATUSES {
            let row = format!("status-is-{status}");
            check(&remora, service, &row, Thrown("no stock"), &["JSON", "MSGPACK", "PHP"]);
        }
    }
}

#[test]
fn a_payload_in_msgpack_or_php_is_a_value_or_a_failure() {
    let msgpack = over_http(|asked| (answer(200, &[], &asked.packed("MSGPACK", &MSGPACK)), false));
    let php = over_http(|asked| (answer(200, &[], &asked.packed("PHP", &PHP)), false));
    let remora = remora(&[("msgpack", "yar-msgpack", &msgpack), ("php", "yar-php", &php)]);
    for (service, rows) in [("msgpack", &MSGPACK[..]), ("php", &PHP)] {
        for (row, _, seen) in rows {
            check(&remora, service, row, *seen, &["JSON", "MSGPACK", "PHP"]);
        }
    }
}

#[test]
fn a_changed_message_is_read_whole_or_not_at_all() {
    fn changed(asked: &Asked) -> Vec<u8> {
        MESSAGES.iter().find(|(name, ..)| *name == asked.row).unwrap().1(asked.good())
    }
    let http = over_http(|asked| (answer(200, &[], &changed(asked)), false));
    let tcp = over_tcp(changed);
    let remora = remora(&[("http", "yar-json", &http), ("tcp", "yar-json, transport: tcp", &tcp)]);
    for (row, _, by_http, by_tcp) in MESSAGES {
        check(&remora, "http", row, by_http, &["JSON", "MSGPACK"]);
        check(&remora, "tcp", row, by_tcp, &["JSON", "MSGPACK"]);
    }
    assert!(remora.peak_memory() < 120 << 20, "a length is no reason to hold as much");
}

#[test]
fn an_answer_over_http_is_whole_and_200_or_a_failure() {
    let provider = over_http(|asked| {
        let change = ANSWERS.iter().find(|(name, ..)| *name == asked.row);
        (change.unwrap().1(asked.good()), asked.row != "plain")
    });
    let remora = remora(&[("calc", "yar-json", &provider)]);
    for (row, _, seen) in ANSWERS {
        check(&remora, "calc", row, seen, &["JSON", "MSGPACK"]);
        // nothing of it is left for the next call
        check(&remora, "calc", "plain", OK, &["JSON"]);
    }
}

/// As servers do that compress for everybody; the bytes stand for it, since nobody unpacks them.
#[test]
fn a_compressed_answer_that_nobody_asked_for_is_refused_by_name() {
    const COMPRESSED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabV\xca\xcfV\xb2*)*M\xad\x05\0";
    let provider = Peer::http(|request| {
        let encoding = [("Content-Encoding", if request.target == "/br" { "br" } else { "gzip" })];
        answer(if request.target == "/failed" { 500 } else { 200 }, &encoding, COMPRESSED)
    });
    let apis = ["ok", "br", "failed"].map(|name| (name, format!("{{ path: /{name}, encoding: json }}")));
    let apis: Vec<_> = apis.iter().map(|(name, data)| (*name, data.as_str())).collect();
    let remora = Remora::embedded(&service_with("user", "access: open", &apis, &[&provider.address])).start();
    for (method, encoding) in [("ok", "gzip"), ("br", "br")] {
        let mut conn = remora.conn();
        let headers = [&yar::HEADERS[..], &[("Accept-Encoding", "gzip, br")]].concat();
        let message = yar::json_request(method, "[1]");
        conn.send(http::request("POST", "/user", &headers, &message)).unwrap();
        let thrown = yar::json_payload(&conn.answer().unwrap());
        yar::assert_refused(&thrown, "BadAnswer", 10508);
        let said = thrown["e"]["message"].as_str().unwrap();
        assert!(said.contains(&format!("Content-Encoding \"{encoding}\"")), "{said}");
        assert_eq!(provider.last().header("accept-encoding"), None, "nobody reads what we would ask for");
    }
    let thrown = yar::json_payload(&yar::send(&remora, "/user", &yar::json_request("failed", "[1]")));
    assert_eq!((&thrown["e"]["_type"], &thrown["e"]["code"]), (&"Remora\\ProviderError".into(), &500.into()));
    let said = thrown["e"]["message"].as_str().unwrap();
    assert!(said.contains("Content-Encoding \"gzip\"") && !said.contains('\u{fffd}'), "{said}");
    // what an HTTP caller asked for is the caller's to read
    let passed = remora.call("GET", "/user/ok", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!((passed.status, passed.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(passed.body, COMPRESSED);
    assert_eq!(provider.last().header("accept-encoding"), Some("gzip"));
}
