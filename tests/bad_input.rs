//! Rubbish from callers, providers and files: a clear answer, bounded memory, and the next call works.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::http::request;
use support::peer::ok_json;
use support::php;
use support::remora::BINARY;
use support::{Answer, Conn, Peer, Port, Remora, assert_problem, assert_thrown, eventually, service, yar};

const JSON: &str = "{ path: /x, encoding: json }";
const YAR: &str = "{ encoding: yar-msgpack }";

/// What one bad call may cost at most beside its own 10 MiB.
const COST: u64 = 64 << 20;

/// A sidecar with a JSON api `user/x` and a Yar api `calc/x`.
struct Scene {
    remora: Remora,
    _json: Peer,
    _yar: Peer,
    before: u64,
}

impl Scene {
    fn new() -> Scene {
        let json = Peer::http(|_| ok_json(&json!({"fine": true})));
        let calc = Peer::http(|request| {
            support::peer::answer(200, &[], &yar::msgpack_answer(&request.body, &[0xc3]))
        });
        let entries = service("user", &[("x", JSON)], &[&json.address])
            + &service("calc", &[("x", YAR)], &[&calc.address]);
        let remora = Remora::embedded(&entries).start();
        let mut scene = Scene { remora, _json: json, _yar: calc, before: 0 };
        scene.still_works();
        scene.before = scene.remora.peak_memory();
        scene
    }

    fn conn(&self) -> Conn {
        self.remora.conn()
    }

    /// The next calls work, by HTTP and by Yar.
    fn still_works(&self) {
        assert_eq!(self.remora.post("/user/x", "{}").json()["fine"], true);
        let answer = yar::send(&self.remora, "/calc", &yar::json_request("x", "[]"));
        assert_eq!(yar::json_payload(&answer)["r"], true);
    }

    fn unharmed(&self) {
        self.still_works();
        let grown = self.remora.peak_memory().saturating_sub(self.before);
        assert!(grown < COST, "{} KiB more than before", grown >> 10);
    }

    /// Sends from a thread, since the answer may come before the end.
    fn flood(&self, bytes: Vec<u8>) -> Option<Answer> {
        let mut conn = self.conn();
        let mut writer = conn.writer();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = writer.write_all(&bytes);
            });
            conn.answer().ok()
        })
    }
}

#[test]
fn half_a_head() {
    let scene = Scene::new();
    let mut waiting = Vec::new();
    for part in ["", "P", "POST /user/x HTTP/1.1", "POST /user/x HTTP/1.1\r\nHost: a\r\nX"] {
        let mut left = scene.conn();
        left.send(part).unwrap();
        drop(left);
        let mut half = scene.conn();
        half.send(part).unwrap();
        half.half_close();
        if let Ok(answer) = half.answer() {
            assert!((400..500).contains(&answer.status), "{}", answer.status);
        }
        let mut silent = scene.conn();
        silent.send(part).unwrap();
        waiting.push(silent);
    }
    scene.unharmed();
}

#[test]
fn slow_uploads_to_be_converted_are_held_within_buffers() {
    let calc =
        Peer::http(|request| support::peer::answer(200, &[], &yar::msgpack_answer(&request.body, &[0xc3])));
    let entries = service("calc", &[("x", YAR)], &[&calc.address]);
    let more = "buffers: 1MiB\ndefaults: { timeout: 30s }";
    let remora = Remora::embedded(&entries).with(more).start();
    let held = || {
        let metrics = remora.admin("GET", "/metrics").text();
        let sample = metrics.lines().find_map(|line| line.strip_prefix("remora_buffers_bytes "));
        sample.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{metrics}")) as u64
    };
    let slow = |bytes: usize| {
        let mut conn = remora.conn();
        conn.send(format!("POST /calc/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 2 * bytes))
            .unwrap();
        conn.send([&b"["[..], &vec![b' '; bytes - 1]].concat()).unwrap();
        conn
    };
    let waiting = [slow(500 << 10), slow(500 << 10)];
    eventually("both uploads are held", Duration::from_secs(10), || held() == 1000 << 10);
    let refused = remora.post("/calc/x", &format!("[{}1]", " ".repeat(100 << 10)));
    assert_problem(&refused, "overloaded", 503);
    assert!(refused.text().contains("its `buffers`"), "{}", refused.text());
    assert_eq!(remora.post("/calc/x", "[1]").text(), "true");
    drop(waiting);
    eventually("all is given back", Duration::from_secs(10), || held() == 0);
    assert_eq!(remora.post("/calc/x", &format!("[{}1]", " ".repeat(900 << 10))).text(), "true");
}

#[test]
fn a_head_that_is_not_http() {
    let scene = Scene::new();
    let rubbish: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello, more or less\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /user/x HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /user/x HTTP/1.1\r\nHost: a\r\nno colon here\r\n\r\n",
        b"POST /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
        b"POST /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ];
    for bytes in rubbish {
        let mut conn = scene.conn();
        conn.send(bytes).unwrap();
        let answer = conn.answer().unwrap();
        if bytes.windows(8).any(|part| part == b"no colon") {
            assert_eq!(answer.status, 200, "a line that says nothing is left out");
            continue;
        }
        assert_problem(&answer, "malformed-request", 400);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(conn.is_closed(), "what follows may be read as a request");
    }
    scene.unharmed();
}

#[test]
fn a_refused_head_is_logged_with_what_its_caller_was_sent() {
    let scene = Scene::new();
    let heads = ["CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /user/x HTTP/1.1\r\nX-Caller : a\r\n\r\n"];
    for head in heads {
        let mut conn = scene.conn();
        conn.send(head).unwrap();
        let answer = conn.answer().unwrap();
        let (status, bytes) = (answer.status, answer.body.len());
        let told = format!("\"status\":{status},");
        eventually("it is logged", Duration::from_secs(10), || scene.remora.log().contains(&told));
        let log = scene.remora.log();
        let line: Value =
            serde_json::from_str(log.lines().find(|line| line.contains(&told)).unwrap()).unwrap();
        assert_eq!(line["bytes"], bytes, "{line}");
    }
}

#[test]
fn two_hosts_are_not_one() {
    let scene = Scene::new();
    for (hosts, told) in
        [("Host: a\r\nHost: b", "\"a\" and \"b\""), ("host: a\r\nX: 1\r\nHOST: a", "send it once")]
    {
        for target in ["/user/x", "http://user/x"] {
            let mut conn = scene.conn();
            conn.send(format!("GET {target} HTTP/1.1\r\n{hosts}\r\n\r\n")).unwrap();
            let answer = conn.answer().unwrap();
            assert_problem(&answer, "malformed-request", 400);
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("Host") && detail.contains(told), "{detail}");
            assert!(conn.is_closed(), "what follows may be read as a request");
        }
    }
    // old clients tell none
    let mut conn = scene.conn();
    conn.send("GET /user/x HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(conn.answer().unwrap().status, 200);
    scene.unharmed();
}

#[test]
fn a_broken_name_or_key_is_not_taken_for_none() {
    let scene = Scene::new();
    for line in
        ["X-Caller : bob", "X-Caller: bo\x01b", "X-Api-Key: wro\x01ng", "X-Deadline-Ms : 5", "X-A: 1\r\n 2"]
    {
        let mut conn = scene.conn();
        conn.send(format!("GET /user/x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")).unwrap();
        let answer = conn.answer().unwrap();
        assert_problem(&answer, "malformed-request", 400);
        let name = line.split([' ', ':']).next().unwrap();
        assert!(answer.text().contains("is no header"), "{name}: {}", answer.text());
        assert!(!answer.text().contains("ng"), "a key is shown: {}", answer.text());
    }
    scene.unharmed();
}

#[test]
fn a_head_too_large_is_refused() {
    let scene = Scene::new();
    for more in ["X: 1\r\n".repeat(101), format!("X: {}\r\n", "x".repeat(64 << 10))] {
        let mut conn = scene.conn();
        let _ = conn.send(format!("GET /user/x HTTP/1.1\r\nHost: a\r\n{more}\r\n"));
        let answer = conn.answer().unwrap();
        assert_problem(&answer, "malformed-request", 431);
        assert!(answer.json()["detail"].as_str().unwrap().contains("more than"), "{}", answer.text());
    }
    scene.unharmed();
}

#[test]
fn a_body_shorter_than_announced() {
    let scene = Scene::new();
    for path in ["/user/x", "/calc/x"] {
        for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
            let mut conn = scene.conn();
            let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\n[1");
            conn.send(head).unwrap();
            conn.half_close();
            if let Ok(answer) = conn.answer() {
                assert!(answer.status >= 400, "{path} {framing}: {}", answer.text());
            }
        }
    }
    scene.unharmed();
}

#[test]
fn a_caller_that_leaves_in_its_request_is_told_from_one_that_sends_rubbish() {
    let scene = Scene::new();
    let counted = |outcome: &str| {
        let (metrics, outcome) =
            (scene.remora.admin("GET", "/metrics").text(), format!("outcome=\"{outcome}\""));
        let of_calls = metrics.lines().filter(|line| line.starts_with("remora_calls_total{"));
        let counts =
            of_calls.filter(|line| line.contains(&outcome)).filter_map(|line| line.split(' ').nth(1));
        counts.map(|count| count.parse::<u64>().unwrap()).sum::<u64>()
    };
    let http = |path: &str, framing: &str, begins: &[u8]| {
        [format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").as_bytes(), begins].concat()
    };
    let (message, raw) = (yar::json_request("x", "[]"), yar::json_request("calc.x", "[]"));
    let begun = [
        // before it shows whether it is Yar
        http("/user/x", "Content-Length: 1000", b"[1"),
        http("/user/x", "Content-Length: 1000", b"[1,2,3,4,5,6,7,8,9"),
        http("/user/x", "Transfer-Encoding: chunked", b"20\r\n[1,2,3,4,5,6,7"),
        http("/calc/x", "Content-Length: 1000", b"[1,2,3,4,5,6,7,8,9"),
        http("/calc", "Content-Length: 1000", &message),
        raw[..raw.len() - 1].to_vec(),
    ];
    let mut left = 0;
    for bytes in begun {
        for waits in [false, true] {
            let mut conn = scene.conn();
            conn.send(&bytes).unwrap();
            conn.half_close();
            if waits {
                assert!(conn.rest().unwrap().len() > 100, "whoever still reads is told");
            }
            left += 1;
            eventually("it is counted", Duration::from_secs(10), || counted("caller-gone") == left);
        }
    }
    assert_eq!(counted("malformed-request"), 0);
    let told = scene.remora.log().lines().filter(|line| line.contains("\"caller-gone\"")).count();
    assert!(told > 0, "{}", scene.remora.log());
    scene.unharmed();
}

#[test]
fn a_yar_message_shorter_than_its_own_header() {
    let scene = Scene::new();
    let whole = yar::json_request("x", "[]");
    for length in [10, 82, 89] {
        let answer = scene.remora.call("POST", "/calc", &[], &whole[..length]);
        assert!(answer.status >= 400 || answer.body.len() >= 90, "{length}: {}", answer.text());
    }
    let answer = yar::send(&scene.remora, "/calc", &whole[..90]);
    assert_eq!(yar::json_payload(&answer)["e"]["code"], 10400);
    scene.unharmed();
}

#[test]
fn a_body_longer_than_announced() {
    let scene = Scene::new();
    let mut conn = scene.conn();
    conn.send("POST /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}{\"and\":\"more\"}\r\n\r\n")
        .unwrap();
    assert_eq!(conn.answer().unwrap().json()["fine"], true);
    let answer = conn.answer().unwrap();
    assert_problem(&answer, "malformed-request", 400);
    assert!(answer.text().contains("what follows on the connection is no request"), "{}", answer.text());
    scene.unharmed();
}

#[test]
fn a_length_hidden_behind_a_blank_is_refused() {
    let scene = Scene::new();
    for hidden in ["Content-Length : 14", "Transfer-Encoding\t: chunked"] {
        let mut conn = scene.conn();
        conn.send(format!("POST /user/x HTTP/1.1\r\nHost: a\r\n{hidden}\r\n\r\n{{\"lost\":\"body\"}}"))
            .unwrap();
        assert_problem(&conn.answer().unwrap(), "malformed-request", 400);
        assert!(conn.is_closed(), "what follows may be read as a request");
        let mut conn = scene.conn();
        for part in format!("POST /user/x HTTP/1.1\r\nHost: a\r\n{hidden}\r\n\r\n").as_bytes().chunks(3) {
            conn.send(part).unwrap();
        }
        assert_problem(&conn.answer().unwrap(), "malformed-request", 400);
    }
    scene.unharmed();
}

#[test]
fn a_hidden_length_is_no_others_fault() {
    let scene = Scene::new();
    let body = "\nContent-Length : 7\n";
    let fine = format!("POST /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut conn = scene.conn();
    conn.send(format!("{fine}{fine}GET /user/x HTTP/1.1\r\nHost: a\r\n{}\r\n", &body[1..])).unwrap();
    assert_eq!([conn.answer().unwrap().status, conn.answer().unwrap().status], [200, 200]);
    assert_problem(&conn.answer().unwrap(), "malformed-request", 400);
    assert!(conn.is_closed(), "what follows may be read as a request");
    scene.unharmed();
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_call() {
    let peer = Peer::http(|_| ok_json(&json!({"fine": true})));
    let remora = Remora::embedded(&service("user", &[("x", JSON)], &[&peer.address])).unread_log().start();
    let mut conn = remora.conn();
    // more than a pipe and the queue hold
    for _ in 0..10_000 {
        assert_eq!(conn.request("GET", "/user/x", &[], b"").unwrap().status, 200);
    }
    let metrics = remora.admin("GET", "/metrics").text();
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("remora_log_lines_dropped_total "));
    assert_ne!(dropped.unwrap_or_else(|| panic!("{metrics}")), "0");
}

#[test]
fn two_framings_at_once_are_never_both_believed() {
    let scene = Scene::new();
    let mut conn = scene.conn();
    conn.send(
        "POST /user/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /nobody/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .unwrap();
    let first = conn.answer().unwrap();
    assert!(first.status == 400 || conn.is_closed(), "both were believed: {}", first.status);
    scene.unharmed();
}

#[test]
fn a_chunk_that_is_no_chunk() {
    let scene = Scene::new();
    let (size, longer) = ("a chunk's size can't be read", "a chunk is longer than its size");
    let chunks = [
        ("zz\r\nabc\r\n", size, "zz"),
        ("ffffffffffffffffff\r\nabc\r\n", size, "ffffffffffff"),
        ("3\r\nabcdef\r\n", longer, "def"),
        ("-1\r\n\r\n", size, "-1"),
        // behind more than is looked at before the call is
        ("a\r\n[123456789\r\nzz\r\n", size, "zz"),
        ("b\r\n[123456789]]\r\n", longer, "]"),
        ("2\r\n[]\r\n0\r\nno trailer\r\n\r\n", "its trailers can't be read", "no trailer"),
    ];
    for (chunk, why, there) in chunks {
        for path in ["/user/x", "/calc/x"] {
            let mut conn = scene.conn();
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
            conn.send(head).unwrap();
            let answer = conn.answer().unwrap();
            assert_problem(&answer, "malformed-request", 400);
            let told = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(told.contains(why) && told.contains(there), "{chunk:?}: {told}");
            conn.half_close();
            assert!(conn.is_closed(), "what follows may be read as a request");
        }
    }
    scene.unharmed();
}

#[test]
fn a_hundred_mebibytes_where_ten_are_allowed() {
    const SIZE: usize = 100 << 20;
    let scene = Scene::new();
    for path in ["/user/x", "/calc/x", "/calc"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
        // Announced: refused at its first bytes, which tell what kind of caller it is.
        let mut conn = scene.conn();
        conn.send(&head).unwrap();
        conn.send([b'x'; 100]).unwrap();
        if path != "/calc" {
            assert_problem(&conn.answer().unwrap(), "too-large", 413);
        }
        drop(conn);
        let mut bytes = head.into_bytes();
        bytes.resize(bytes.len() + SIZE, b'x');
        let answer = scene.flood(bytes).expect("the refusal is lost");
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);

        let mut bytes =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
        for _ in 0..SIZE >> 20 {
            bytes.extend_from_slice(b"100000\r\n");
            bytes.resize(bytes.len() + (1 << 20), b'x');
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        let answer = scene.flood(bytes).expect("the refusal is lost");
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
    }
    scene.unharmed();
}

#[test]
fn a_body_that_is_told_to_be_too_large_is_not_waited_for() {
    let (json, calc) = (Peer::named("one"), Peer::silent());
    let small = "policy: { max_body: 1KiB }";
    let json_api = format!("{{ path: /x, encoding: json, {small} }}");
    let yar_api = format!("{{ encoding: yar-msgpack, {small} }}");
    let entries = service("user", &[("x", &json_api), ("large", JSON)], &[&json.address])
        + &service("calc", &[("x", &yar_api), ("large", YAR)], &[&calc.address]);
    // longer than this test waits for an answer
    let remora = Remora::embedded(&entries).with("defaults: { timeout: 1h }").start();
    let begins = |path: &str, size: usize, more: &str, begins: &[u8]| {
        let mut conn = remora.conn();
        conn.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{more}Content-Length: {size}\r\n\r\n"))
            .unwrap();
        conn.send(begins).unwrap();
        conn.answer().unwrap()
    };
    for (path, size) in
        [("/user/x", 2000), ("/calc/x", 2000), ("/user/large", 99_999_999), ("/calc/large", 99_999_999)]
    {
        for (more, some) in [("", ""), ("Expect: 100-continue\r\n", ""), ("", "[1,")] {
            assert_problem(&begins(path, size, more, some.as_bytes()), "too-large", 413);
        }
    }
    let message = yar::json_request("x", "[]");
    for (path, size) in [("/user/x", 2000), ("/calc/x", 2000), ("/calc", 99_999_999)] {
        let seen = yar::json_payload(&begins(path, size, "", &message[..90]));
        assert_eq!(seen["e"]["code"], 10413, "{path}: {seen}");
    }
    assert_eq!((json.calls(), calc.calls()), (0, 0));
}

#[test]
fn a_yar_message_may_be_as_large_as_its_api_allows() {
    let scene = Scene::new();
    for (more, code) in [(0, Value::Null), (1, 10413.into())] {
        let empty = yar::json_request("x", "[\"\"]").len() - proto_adapters::yar::HEAD;
        let params = format!("[\"{}\"]", "x".repeat((10 << 20) - empty + more));
        let answer = yar::send(&scene.remora, "/calc/x", &yar::json_request("x", &params));
        let seen = yar::json_payload(&answer);
        assert_eq!(seen["e"]["code"], code, "{seen}");
    }
    scene.unharmed();
}

#[test]
fn a_hundred_mebibytes_of_yar() {
    let scene = Scene::new();
    let params = format!("[\"{}\"]", "x".repeat(100 << 20));
    let message = yar::json_request("x", &params);
    let bytes = request("POST", "/calc", &yar::HEADERS, &message);
    drop(message);
    let answer = scene.flood(bytes).expect("the refusal is lost");
    let seen = yar::json_payload(&answer);
    assert_eq!(seen["e"]["code"], 10413, "{seen}");
    assert_eq!(seen["i"], yar::ID);
    // PHP reads it as an exception, also when it sends first and reads then.
    let more = json!({"timeout_ms": 20000});
    let big = json!(["x".repeat(20 << 20)]);
    let seen = php::yar("msgpack", &scene.remora.url("/calc"), "x", big, more);
    assert_thrown(&seen, "TooLarge", 10413);
    scene.unharmed();
}

#[test]
fn a_thousand_headers() {
    let scene = Scene::new();
    let mut head = "GET /user/x HTTP/1.1\r\nHost: a\r\n".to_owned();
    for n in 0..1000 {
        head += &format!("X-Header-{n}: {n}\r\n");
    }
    head += "\r\n";
    let mut conn = scene.conn();
    let _ = conn.send(head);
    let answer = conn.answer().unwrap();
    assert!(answer.status == 431 || answer.status == 400, "{}", answer.status);
    // And one header without an end.
    let mut endless = b"GET /user/x HTTP/1.1\r\nHost: a\r\nX-Long: ".to_vec();
    endless.resize(64 << 20, b'x');
    if let Some(answer) = scene.flood(endless) {
        assert!((400..500).contains(&answer.status), "{}", answer.status);
    }
    scene.unharmed();
}

#[test]
fn a_yar_magic_with_rubbish_behind_it() {
    let scene = Scene::new();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for length in [0, 1, 7, 8, 9, 100, 5000] {
        let mut message = yar::message("JSON", b"");
        message.truncate(82);
        for _ in 0..length {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            message.push(seed as u8);
        }
        let answer = yar::send(&scene.remora, "/calc", &message);
        // In a packager that nobody can read, the answer is in JSON.
        assert!(answer.status == 200 || answer.status == 400, "{}", answer.text());
        if answer.status == 200 {
            assert_eq!(yar::json_payload(&answer)["e"]["code"], 10400);
        }
    }
    for packager in ["JSON", "MSGPACK", "PHP"] {
        let rubbish = yar::message(packager, &[0xc1; 64]);
        let answer = yar::send(&scene.remora, "/calc", &rubbish);
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("Remora\\"), "{}", answer.text());
    }
    scene.unharmed();
}

#[test]
fn a_body_len_of_4_gib() {
    let scene = Scene::new();
    let payload = format!(r#"{{"i":{},"m":"x","p":[]}}"#, yar::ID);
    let message = yar::message_with(b"JSON\0\0\0\0", payload.as_bytes(), u32::MAX);
    // The length of the HTTP body counts.
    let answer = yar::send(&scene.remora, "/calc", &message);
    assert_eq!(yar::json_payload(&answer)["r"], true);
    scene.unharmed();
}

#[test]
fn lengths_that_lie_inside_msgpack() {
    let scene = Scene::new();
    let lies: [&[u8]; 6] = [
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0x91, 0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0x91, 0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0x91, 0xc9, 0xff, 0xff, 0xff, 0xff, 5],
        &[0x95, 1, 2],
    ];
    for params in lies {
        // Toward JSON, so that all of it must be read.
        let message = yar::msgpack_request("x", params);
        let answer = yar::send(&scene.remora, "/user", &message);
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("MalformedRequest"), "{params:02x?}: {}", answer.text());
    }
    scene.unharmed();
}

#[test]
fn nesting_100_000_deep() {
    const DEEP: usize = 100_000;
    let scene = Scene::new();
    let lists = "[".repeat(DEEP) + &"]".repeat(DEEP);
    let maps = "{\"a\":".repeat(DEEP) + "1" + &"}".repeat(DEEP);
    for body in [&lists, &maps, &"[".repeat(DEEP)] {
        let answer = scene.remora.post("/calc/x", body);
        assert!(matches!(answer.status, 400 | 422), "{} {}", answer.status, answer.text());
        assert!(answer.kind().is_some(), "{}", answer.text());
        let message = yar::json_request("x", body);
        for service in ["/calc", "/user"] {
            let seen = yar::json_payload(&yar::send(&scene.remora, service, &message));
            assert_eq!(seen["s"], 64, "{seen}");
            let code = seen["e"]["code"].as_i64().unwrap();
            assert!(code == 10400 || code == 10422, "{seen}");
        }
    }
    let mut packed = vec![0x91; DEEP];
    packed.push(0xc0);
    let answer = yar::send(&scene.remora, "/user", &yar::msgpack_request("x", &packed));
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("Remora\\"), "{}", answer.text());
    scene.unharmed();
}

#[test]
fn a_provider_that_nests_100_000_deep() {
    let mut deep = vec![0x91; 100_000];
    deep.push(0xc0);
    let yar_peer = Peer::http(move |request| {
        support::peer::answer(200, &[], &yar::msgpack_answer(&request.body, &deep))
    });
    let text = "[".repeat(100_000) + &"]".repeat(100_000);
    let json_peer = Peer::http(move |_| support::peer::answer(200, &[], text.as_bytes()));
    let entries = service("calc", &[("x", YAR)], &[&yar_peer.address])
        + &service("user", &[("x", JSON)], &[&json_peer.address]);
    let remora = Remora::embedded(&entries).start();
    let answer = remora.post("/calc/x", "[]");
    assert_eq!(answer.status, 502, "{}", answer.text());
    let kind = answer.kind().unwrap();
    assert!(kind == "bad-answer" || kind == "unadaptable", "{kind}");
    let seen = yar::json_payload(&yar::send(&remora, "/user", &yar::json_request("x", "[]")));
    assert_eq!(seen["s"], 64, "{seen}");
    assert_eq!(remora.admin("GET", "/livez").status, 200);
}

#[test]
fn names_that_are_no_names() {
    let scene = Scene::new();
    let long = format!("/{}/x", "a".repeat(10_000));
    let long_api = format!("/user/{}", "a".repeat(10_000));
    let targets = [
        "/",
        "//",
        "/user",
        "/user/",
        "/../../etc/passwd",
        "/user/../calc/x",
        "/%2e%2e/x",
        "/user%2fx/x",
        "/user/%00",
        "/_hidden/x",
        "/.hidden/x",
        "/user/_x",
        "/user x/x",
        "/\u{7528}\u{6237}/x",
        "*",
        "user/x",
        &long,
        &long_api,
    ];
    for target in targets {
        let mut conn = scene.conn();
        let _ = conn.send(request("GET", target, &[], b""));
        let answer = conn.answer().unwrap_or_else(|e| panic!("{target:.40}: {e}"));
        assert!((400..500).contains(&answer.status), "{target:.40}: {}", answer.status);
        assert!(answer.body.len() < 2000, "{target:.40}: the name comes back whole");
    }
    let long = "a".repeat(10_000);
    for method in ["", "../x", "_x", "x y", &long] {
        let message = yar::json_request(method, "[]");
        let seen = yar::json_payload(&yar::send(&scene.remora, "/calc", &message));
        let code = seen["e"]["code"].as_i64().unwrap_or_default();
        assert!(code == 10400 || code == 10405, "{method:.40}: {code}");
    }
    for target in ["/../x", "/_hidden", long.as_str()] {
        let target = format!("/{}", target.trim_start_matches('/'));
        let message = yar::json_request("x", "[]");
        let seen = yar::json_payload(&yar::send(&scene.remora, &target, &message));
        assert_eq!(seen["s"], 64, "{target:.40}");
    }
    scene.unharmed();
}

#[test]
fn what_names_nothing_is_told_what_a_call_looks_like() {
    let scene = Scene::new();
    for (method, target, status) in [
        ("OPTIONS", "*", 404),
        ("GET", "*", 404),
        ("GET", "/", 404),
        ("GET", "user/x", 400),
        ("GET", "?a", 400),
    ] {
        let mut conn = scene.conn();
        conn.send(request(method, target, &[], b"")).unwrap();
        let answer = conn.answer().unwrap();
        assert_eq!(answer.status, status, "{method} {target}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("call /{service}/{api}, by Yar /{service}"), "{method} {target}: {detail}");
    }
}

#[test]
fn ten_thousand_names_that_nobody_has() {
    let scene = Scene::new();
    let mut conn = scene.conn();
    for n in 0..10_000 {
        let target = format!("/nobody-{n}/x");
        let answer = conn.request("GET", &target, &[], b"").unwrap();
        assert_eq!(answer.status, 404, "{target}");
    }
    scene.unharmed();
}

#[test]
fn a_provider_that_never_ends_its_head() {
    let head = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        let _ = conn.send("HTTP/1.1 200 OK\r\n");
        while conn.send(b"X-More: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").is_ok() {}
    });
    let entries = service("user", &[("x", JSON)], &[&head.address]);
    let remora = Remora::embedded(&entries).start();
    let before = remora.peak_memory();
    assert_eq!(remora.get("/user/x").status, 502);
    let grown = remora.peak_memory() - before;
    assert!(grown < COST, "{} KiB more than before", grown >> 10);
}

#[test]
fn a_provider_that_never_ends_its_body_for_a_yar_caller() {
    let body = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        let _ = conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(65536));
        while conn.send(&chunk).is_ok() {}
    });
    for encoding in [JSON, YAR] {
        let entries = service("user", &[("x", encoding)], &[&body.address]);
        let remora = Remora::embedded(&entries).start();
        let before = remora.peak_memory();
        let seen = php::yar("json", &remora.url("/user"), "x", json!([]), json!({}));
        assert_eq!(seen["exception"], "Yar_Server_Exception", "{seen}");
        assert!(seen["type"].as_str().unwrap().starts_with("Remora\\"), "{seen}");
        let grown = remora.peak_memory() - before;
        assert!(grown < 2 * COST, "{} KiB more than before", grown >> 10);
    }
}

#[test]
fn many_silent_connections() {
    let scene = Scene::new();
    let silent: Vec<Conn> = (0..500).map(|_| scene.conn()).collect();
    scene.unharmed();
    drop(silent);
    scene.unharmed();
}

/// Runs `remora run` that must not come up, and gives its code and what it said.
fn refused(config: &str) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("remora.yaml");
    fs::write(&file, config).unwrap();
    let mut child = Command::new(BINARY)
        .args(["run", "--config"])
        .arg(&file)
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it ends by itself", Duration::from_secs(20), || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text.into_owned())
}

#[test]
fn a_configuration_with_a_typo() {
    let (admin, listen) = (Port::free(), Port::free());
    let good = format!("admin: \"{}\"\n", admin.address());
    let (code, text) = refused(&format!("{good}lisen: [\"{}\"]\n", listen.address()));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("lisen") && text.contains("listen"), "{text}");
    for (typo, named) in [
        ("defaults: { timeout: soon }\n", "timeout"),
        ("drain: 10\n", "drain"),
        ("workers: many\n", "workers"),
        ("registry: { layout: bush }\n", "bush"),
        ("listen: [\"nowhere\"]\n", "nowhere"),
        ("drain: [\n", "remora.yaml"),
        ("caller: { name: web, key_file: /nowhere/key }\n", "/nowhere/key"),
        ("defaults: { timeout: \"${NOT_SET_ANYWHERE}\" }\n", "NOT_SET_ANYWHERE"),
    ] {
        let (code, text) = refused(&format!("{good}{typo}"));
        assert_eq!(code, 1, "{typo}: {text}");
        assert!(text.contains(named), "{typo}: {text}");
        assert!(!text.contains("panicked"), "{typo}: {text}");
    }
}

#[test]
fn a_port_already_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (admin, listen) = (Port::free(), Port::free());
    for config in [
        format!("listen: [\"{address}\"]\nadmin: \"{}\"\n", admin.address()),
        format!("listen: [\"{}\"]\nadmin: \"{address}\"\n", listen.address()),
    ] {
        let (code, text) = refused(&config);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(&address), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn a_registry_file_cut_in_half() {
    let peer = Peer::named("a");
    let whole = service("user", &[("x", JSON)], &[&peer.address]);
    // In the middle of a value, so that it is no YAML.
    let half = &whole[..whole.find("encoding").unwrap() + 4];
    let remora = Remora::embedded(&whole).start();
    assert_eq!(remora.get("/user/x").status, 200);
    remora.edit_registry(half);
    eventually("the log names the file", Duration::from_secs(5), || remora.log().contains("registry.yaml"));
    assert_eq!(remora.get("/user/x").status, 200, "the last good view is gone");
    let second = Peer::named("b");
    remora.edit_registry(&service("user", &[("x", JSON)], &[&second.address]));
    eventually("the mended file is followed", Duration::from_secs(5), || {
        remora.get("/user/x").json()["peer"] == "b"
    });

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.yaml");
    fs::write(&file, half).unwrap();
    let (admin, listen) = (Port::free(), Port::free());
    let (code, text) = refused(&format!(
        "registry: {{ embedded: {{ file: {} }} }}\nlisten: [\"{}\"]\nadmin: \"{}\"\n",
        file.display(),
        listen.address(),
        admin.address(),
    ));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("registry.yaml"), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), half, "the file was overwritten");
}

#[test]
fn a_registry_file_emptied_while_it_is_followed_is_being_written() {
    let peer = Peer::named("a");
    let whole = service("user", &[("x", JSON)], &[&peer.address]);
    let remora = Remora::embedded(&whole).start();
    let problems = || remora.page("/registry")["problems"].to_string();
    for empty in ["", " \n\n"] {
        // in place, as `: > registry.yaml` does
        fs::write(&remora.registry_file, empty).unwrap();
        eventually("it is told", Duration::from_secs(5), || problems().contains("it is empty"));
        assert_eq!(remora.get("/user/x").status, 200);
        fs::write(&remora.registry_file, &whole).unwrap();
        eventually("it is written", Duration::from_secs(5), || problems() == "[]");
    }
    fs::write(&remora.registry_file, "{}\n").unwrap();
    remora.until_status("/user/x", 404, Duration::from_secs(5));
    assert_eq!(problems(), "[]");
}

#[test]
fn rubbish_in_entries_of_the_registry_file() {
    let peer = Peer::named("a");
    let entries = service("user", &[("x", JSON)], &[&peer.address])
        + "/api/user/broken: [1, 2]\n\
           /api/user/odd: { path: 7 }\n\
           /nowhere/at/all: {}\n\
           \"/address/user/no-port\": {}\n";
    let remora = Remora::embedded(&entries).start();
    assert_eq!(remora.get("/user/x").status, 200);
    let page = remora.page("/services/user").to_string();
    for path in ["/api/user/broken", "/api/user/odd", "/address/user/no-port"] {
        assert!(page.contains(path), "no {path} in {page}");
    }
}

#[test]
fn a_number_that_is_none_spoils_its_own_entry_and_no_further_edit() {
    let (peer, second) = (Peer::named("a"), Peer::named("b"));
    let entries = |peer: &Peer, policy: &str| {
        service("user", &[("x", JSON)], &[&peer.address])
            + "/access/user/web: { quota: { rate: .nan } }\n"
            + &format!("/service/shop: {{ policy: {policy} }}\n")
    };
    let remora = Remora::embedded(&entries(&peer, "{ timeout: 2s }")).start();
    assert_eq!(remora.get("/user/x").status, 200);
    let told = |service: &str| remora.page(&format!("/services/{service}"))["skipped"].to_string();
    assert!(told("user").contains("quota.rate: \\\".nan\\\" is not a whole number"), "{}", told("user"));
    assert_eq!(told("shop"), "[]");
    remora.edit_registry(&entries(&second, "{ timeout: -.inf }"));
    eventually("the edit is followed", Duration::from_secs(5), || {
        remora.get("/user/x").json()["peer"] == "b"
    });
    eventually("the other service's, too", Duration::from_secs(5), || {
        told("shop").contains("policy.timeout: \\\"-.inf\\\" is not")
    });
    assert_eq!(remora.page("/services/shop")["policy"]["timeout"], "2s");
}

#[test]
fn a_registry_file_that_is_missing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let remora = Remora::embedded("{}").start();
    assert_eq!(remora.get("/user/x").status, 404);
    drop(remora);
    let file = dir.path().join("made.yaml");
    let remora =
        Remora::embedded("{}").env("REMORA_REGISTRY__EMBEDDED__FILE", file.to_str().unwrap()).start();
    assert!(file.exists());
    assert_eq!(remora.get("/user/x").status, 404);
}

#[test]
fn a_stale_unix_socket_is_no_obstacle() {
    let peer = Peer::echo();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stale.sock");
    // Bound and left behind, as by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let remora = Remora::embedded(&service("user", &[("x", JSON)], &[&peer.address]))
        .env("REMORA_LISTEN", &format!("[\"unix:{}\"]", path.display()))
        .start();
    let answer: Value = Conn::open_unix(&path).request("GET", "/user/x", &[], b"").unwrap().json();
    assert_eq!(answer["method"], "GET");
    drop(remora);
}
