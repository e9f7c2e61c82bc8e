//! `remora yar encode` and `remora yar call`, as a shell sees them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::remora::{remora, remora_with};
use support::{Conn, Peer, Remora, service, yar};

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// What a command that fails says.
fn refused(args: &[&str], input: &[u8]) -> String {
    let output = remora_with(args, input);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(output.stdout.is_empty(), "{told}");
    told
}

#[test]
fn what_decode_shows_encode_makes_again() {
    for message in [
        yar::msgpack_request("calc.add", &[0x92, 0x01, 0xcb, 0x40, 8, 0, 0, 0, 0, 0, 0]),
        yar::json_request("calc.add", r#"[1,3.0,{"a":[]}]"#),
    ] {
        for shown in [&["yar", "decode"][..], &["yar", "decode", "--typed"]] {
            let shown = remora_with(shown, &message).stdout;
            let made = remora_with(&["yar", "encode"], &shown);
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            assert_eq!(made.stdout, message);
            let hex = stdout(&remora_with(&["yar", "encode", "--hex"], &shown));
            assert_eq!(
                remora_with(&["yar", "decode", "--hex"], hex.as_bytes()).stdout,
                remora_with(&["yar", "decode"], &message).stdout
            );
        }
    }
    let told = refused(&["yar", "encode"], br#"{"packager":"JSON"}"#);
    assert!(told.contains("no description of a message: byte 19: there is no `body`"), "{told}");
}

/// A Yar server over HTTP that answers in the caller's packager by msgpack or JSON.
fn calc() -> Peer {
    Peer::http(|request| support::peer::answer(200, &[], &result(&request.body)))
}

fn result(message: &[u8]) -> Vec<u8> {
    if message[82..].starts_with(b"MSGPACK") {
        return yar::msgpack_answer(message, &[0x92, 0xcb, 0x40, 8, 0, 0, 0, 0, 0, 0, 0xa1, b'x']);
    }
    let asked: Value = serde_json::from_slice(&message[90..]).unwrap();
    let id = asked["i"].as_u64().unwrap();
    let payload = match asked["m"].as_str().unwrap() {
        "fail" => json!({"i": id, "s": 64, "e": {"message": "no more", "code": "HY000", "_type": "Oops"}}),
        "print" => json!({"i": id, "s": 0, "o": "printed", "r": null}),
        "quiet" => json!({"i": id, "s": 0, "o": "", "r": 7}),
        "exit" => json!({"i": id, "s": 0, "o": "bye"}),
        "other" => json!({"i": id / 2 + 1, "s": 0, "r": 1}),
        method => json!({"i": id, "s": 0, "r": [method, asked["p"]]}),
    };
    yar::with_id(yar::message("JSON", payload.to_string().as_bytes()), id as u32)
}

#[test]
fn a_server_is_called_over_http_tcp_and_a_unix_socket() {
    let calc = calc();
    let http = format!("http://{}/rpc?x=1", calc.address);
    assert_eq!(stdout(&remora(&["yar", "call", &http, "add", "[1]"])), r#"[3.0,"x"]"#);
    assert_eq!(calc.last().target, "/rpc?x=1");
    let json = ["yar", "call", "--packager", "json", "--provider", "web", "--token", "sesame"];
    assert_eq!(stdout(&remora(&[&json[..], &[&http, "add", "[1,{}]"]].concat())), r#"["add",[1,{}]]"#);
    let seen = calc.last().body;
    assert!(seen[14..].starts_with(b"web\0") && seen[46..].starts_with(b"sesame\0"), "{seen:02x?}");
    assert_eq!(stdout(&remora(&[&json[..], &[&http, "add", r#"{"a":1}"#]].concat())), r#"["add",[{"a":1}]]"#);
    assert_eq!(stdout(&remora(&[&json[..], &[&http, "add"]].concat())), r#"["add",[]]"#);

    let peer = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        while let Ok(message) = yar::read_raw(&mut conn) {
            conn.send(result(&message)).unwrap();
        }
    });
    let tcp = format!("tcp://{}", peer.address);
    assert_eq!(stdout(&remora(&[&json[..], &[&tcp, "add", "[1]"]].concat())), r#"["add",[1]]"#);

    let api = [("add", "{ encoding: yar-json, transport: tcp }")];
    let sidecar = Remora::embedded(&service("calc", &api, &[&peer.address])).start();
    for url in [format!("unix:{}", sidecar.socket.display()), format!("tcp://{}", sidecar.address)] {
        assert_eq!(stdout(&remora(&["yar", "call", &url, "calc.add", "[7]"])), r#"["add",[7]]"#, "{url}");
    }
    let url = sidecar.url("/calc");
    assert_eq!(stdout(&remora(&["yar", "call", &url, "add", "[7]"])), r#"["add",[7]]"#);
    let told = refused(&["yar", "call", &url, "nope"], b"");
    assert!(told.contains("Remora\\NoApi: ") && told.contains("(code 10405)"), "{told}");
}

#[test]
fn a_call_that_fails_says_why() {
    let calc = calc();
    let http = format!("http://{}/", calc.address);
    let call = |method: &str| refused(&["yar", "call", "--packager", "json", &http, method], b"");
    assert!(call("fail").contains("Oops: no more (code HY000)"), "{}", call("fail"));
    assert!(call("other").contains("the answer belongs to another request"));
    let quiet = remora(&["yar", "call", "--packager", "json", &http, "quiet"]);
    assert_eq!((stdout(&quiet), String::from_utf8_lossy(&quiet.stderr)), ("7".into(), "".into()));
    let printed = remora(&["yar", "call", "--packager", "json", &http, "print"]);
    assert_eq!(stdout(&printed), "null");
    assert!(String::from_utf8_lossy(&printed.stderr).contains("the function printed \"printed\""));

    let told = call("exit");
    assert!(told.contains("the function printed \"bye\""), "{told}");
    assert!(told.contains("the function ended without a result, as by exit()"), "{told}");

    let page = Peer::http(|_| support::peer::answer(404, &[], b"<html>nothing here</html>"));
    let told = refused(&["yar", "call", &format!("http://{}/", page.address), "add"], b"");
    assert!(told.contains("HTTP 404") && told.contains("nothing here"), "{told}");
    let closing = Peer::raw(|_, _| {});
    let told = refused(&["yar", "call", &format!("tcp://{}", closing.address), "add"], b"");
    assert!(told.contains("closed the connection") || told.contains("broke off"), "{told}");
    let silent = Peer::silent();
    let url = format!("http://{}/", silent.address);
    let told = refused(&["yar", "call", "--timeout", "200ms", &url, "add"], b"");
    assert!(told.contains("no answer within 200ms"), "{told}");
    let told = refused(&["yar", "call", &format!("tcp://{}", Peer::refusing()), "add"], b"");
    assert!(told.contains("can't be reached"), "{told}");
    let told = refused(&["yar", "call", &http, "add", "7"], b"");
    assert!(told.contains("the parameters: ") && told.contains("send an array or an object"), "{told}");
    let wrong = remora(&["yar", "call", "ftp://x", "add"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&wrong.stderr)
            .contains("write http://host/path, tcp://host:port or unix:/path")
    );
}
