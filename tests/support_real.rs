//! The tests' own parts are as strict and as real as they claim.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use support::peer::answer;
use support::php::{self, Php};
use support::zookeeper::{Kazoo, ZooKeeper};
use support::{Conn, Peer, eventually};

#[test]
fn a_php_caller_reaches_a_php_provider_in_every_packager() {
    let provider = Php::yar();
    let url = format!("http://{}/", provider.address);
    for packager in ["msgpack", "json", "php"] {
        let sum = php::yar_value(packager, &url, "add", json!([1, 2]));
        assert_eq!(sum, json!(3), "{packager}");
        let args = json!(["a", {"k": [1, null, true]}, 1.5, -7]);
        assert_eq!(php::yar_value(packager, &url, "echo", args.clone()), args);
    }
}

#[test]
fn an_exception_keeps_its_class_message_and_code() {
    let provider = Php::yar();
    let url = format!("http://{}/", provider.address);
    for packager in ["msgpack", "json", "php"] {
        let thrown = php::yar(packager, &url, "throw", json!(["no more", 77]), json!({}));
        assert_eq!(thrown["exception"], "Yar_Server_Exception", "{thrown}");
        assert_eq!(thrown["message"], "no more", "{thrown}");
        assert_eq!(thrown["code"], 77, "{thrown}");
        assert_eq!(thrown["type"], "BizException", "{thrown}");
    }
    let unknown = php::yar("json", &url, "nope", json!([]), json!({}));
    assert_eq!(unknown["exception"], "Yar_Client_Exception", "{unknown}");
    assert_eq!(unknown["code"], 4, "{unknown}");
}

#[test]
fn the_caller_prints_and_returns_what_the_provider_did() {
    let provider = Php::yar();
    let url = format!("http://{}/", provider.address);
    let text = php::yar("msgpack", &url, "text", json!([]), json!({}));
    assert_eq!(text["value"], "returned", "{text}");
    assert_eq!(text["output"], "printed", "{text}");
    let float = php::yar("msgpack", &url, "float", json!([]), json!({}));
    assert_eq!(float["type"], "float", "{float}");
    let float = php::yar("json", &url, "float", json!([]), json!({}));
    assert_eq!(float["type"], "int", "PHP's own JSON loses it: {float}");
}

#[test]
fn the_caller_is_as_strict_as_the_extension() {
    let cases: [(Vec<u8>, &str, &str); 5] = [
        (answer(503, &[], b"busy"), "Yar_Client_Transport_Exception", "server responsed non-200 code '503'"),
        (
            answer(200, &[], b"short"),
            "Yar_Client_Protocol_Exception",
            "malformed response, 82 bytes expected at least",
        ),
        (
            answer(200, &[], &[b'<'; 100]),
            "Yar_Client_Protocol_Exception",
            "malformed response header '<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<'",
        ),
        (
            answer(200, &[], &message(b"FOO\0\0\0\0\0", b"{}")),
            "Yar_Client_Packager_Exception",
            "unsupported packager 'FOO'",
        ),
        (
            answer(200, &[], &message(b"JSON\0\0\0\0", b"{\"i\":")),
            "Yar_Client_Packager_Exception",
            "json unpack error",
        ),
    ];
    for (bytes, class, text) in cases {
        let peer = Peer::cutting(bytes);
        let url = format!("http://{}/", peer.address);
        let seen = php::yar("json", &url, "any", json!([]), json!({}));
        assert_eq!(seen["exception"], class, "{seen}");
        assert_eq!(seen["message"], text, "{seen}");
    }
}

#[test]
fn the_caller_waits_for_the_close_as_the_extension_does() {
    let peer = Peer::http(|_| answer(200, &[], &message(b"JSON\0\0\0\0", br#"{"i":0,"s":0,"r":1}"#)));
    let url = format!("http://{}/", peer.address);
    let seen = php::yar("json", &url, "any", json!([]), json!({"timeout_ms": 300}));
    assert_eq!(seen["exception"], "Yar_Client_Transport_Exception", "{seen}");
    let kept = php::yar("json", &url, "any", json!([]), json!({"keep_alive": true}));
    assert_eq!(kept["value"], 1, "{kept}");
}

#[test]
#[should_panic(expected = "no word of a failure")]
fn an_answer_without_a_status_is_noticed() {
    let peer = Peer::cutting(answer(200, &[], &message(b"JSON\0\0\0\0", br#"{"r":1}"#)));
    let url = format!("http://{}/", peer.address);
    php::yar("json", &url, "any", json!([]), json!({}));
}

fn message(packager: &[u8; 8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 82];
    bytes[6..10].copy_from_slice(&[0x80, 0xdf, 0xec, 0x60]);
    bytes.extend_from_slice(packager);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn php_json_answers_by_curl() {
    let provider = Php::json();
    let url = format!("http://{}/user/get?id=7", provider.address);
    let seen = php::run("curl_call.php", &json!({"url": url})).remove(0);
    assert_eq!(seen["status"], 200, "{seen}");
    let body: serde_json::Value = serde_json::from_str(seen["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["name"], "user 7");
}

#[test]
fn zookeeper_keeps_its_nodes_over_a_restart() {
    let mut zk = ZooKeeper::start();
    let mut client = zk.client();
    client.create("/service/user", r#"{"access":"open"}"#);
    let mut holder = zk.client();
    holder.ephemeral("/address/user/127.0.0.1:1", "{}");
    assert!(zk.knows_session(&holder.session()));
    assert_eq!(client.ls("/address/user"), ["127.0.0.1:1"]);
    assert_eq!(client.owner("/address/user/127.0.0.1:1"), Some(holder.session()));
    drop(holder);
    eventually("the ephemeral node leaves", Duration::from_secs(5), || client.ls("/address/user").is_empty());
    zk.restart();
    assert_eq!(client.data("/service/user"), Some(json!({"access": "open"})));
    client.rm("/service");
    assert!(client.get("/service/user").is_none());
}

#[test]
fn the_client_reads_chunks_and_trailers() {
    let peer = Peer::raw(|mut stream, _| {
        let _ = stream.write_all(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n",
        );
    });
    let answer = Conn::open(&peer.address).answer().unwrap();
    assert_eq!(answer.text(), "abcde");
    assert_eq!(answer.trailer("x-sum"), Some("5"));
}

#[test]
fn an_operation_that_zookeeper_took_and_never_finishes_is_given_up() {
    // a session that outlasts the silence, so that the connection stands
    let zk = ZooKeeper::with("maxSessionTimeout=600000\n");
    let mut client = Kazoo::connect_within(&zk.connect, 300, 5);
    client.put("/before", "{}");
    zk.pause();
    let answer = client.ask(&json!(["put", "/after", "{}"]));
    assert_eq!((&answer["ok"], client.is_stuck()), (&json!(false), true), "{answer}");
    assert_eq!(client.get("/before"), None, "nothing more is asked");
    drop(client);
    zk.resume();
    assert!(zk.client().get("/before").is_some());
}
