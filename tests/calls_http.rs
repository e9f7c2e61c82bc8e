//! HTTP callers and JSON providers: what passes, what is kept back, how it streams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use support::http::request;
use support::peer::{self, answer, ok_json};
use support::php::{self, Php};
use support::{Conn, Peer, Remora, Request, assert_problem, at, eventually, service, service_with};

const GET_USER: (&str, &str) = ("getUser", "{ path: /user/get, encoding: json }");

fn sidecar(peer: &Peer) -> Remora {
    Remora::embedded(&service("user", &[GET_USER], &[&peer.address])).start()
}

#[test]
fn method_query_headers_and_body_pass_to_the_path_of_the_api() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = remora.call(
            method,
            "/user/getUser?a=1&b=%20x&c",
            &[("X-Mine", "yes"), ("Content-Type", "text/odd")],
            b"any bytes",
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = answer.json();
        assert_eq!(seen["method"], method);
        assert_eq!(seen["path"], "/user/get");
        assert_eq!(seen["query"], "a=1&b=%20x&c");
        assert_eq!(seen["body"], "any bytes");
        assert_eq!(seen["headers"]["x-mine"], "yes");
        assert_eq!(seen["headers"]["content-type"], "text/odd");
    }
    let seen = remora.get("/user/getUser").json();
    assert_eq!(seen["method"], "GET");
    assert_eq!(seen["body"], "");
}

#[test]
fn the_answers_status_headers_and_body_pass_back() {
    let peer = Peer::http(|_| answer(418, &[("X-Theirs", "1"), ("Set-Cookie", "a=b")], b"teapot"));
    let remora = sidecar(&peer);
    let answer = remora.get("/user/getUser");
    assert_eq!(answer.status, 418);
    assert_eq!(answer.header("x-theirs"), Some("1"));
    assert_eq!(answer.header("set-cookie"), Some("a=b"));
    assert_eq!(answer.text(), "teapot");
}

#[test]
fn hop_by_hop_headers_of_a_request_stay_behind() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let headers = [
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("X-End", "1"),
    ];
    let answer = remora.call("POST", "/user/getUser", &headers, b"x");
    let seen = answer.json();
    let seen = at(&seen, "/headers");
    for gone in ["x-hop", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(seen[gone], Value::Null, "{gone}: {seen}");
    }
    assert!(!seen["connection"].to_string().contains("X-Hop"), "{seen}");
    assert_eq!(seen["x-end"], "1");
}

#[test]
fn hop_by_hop_headers_of_an_answer_stay_behind() {
    let headers =
        [("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("X-End", "1")];
    let peer = Peer::http(move |_| answer(200, &headers, b"ok"));
    let remora = sidecar(&peer);
    let answer = remora.get("/user/getUser");
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("x-hop"), None);
    assert_eq!(answer.header("keep-alive"), None);
    assert_eq!(answer.header("x-end"), Some("1"));
}

#[test]
fn a_caller_that_expects_100_gets_it_and_then_the_answer() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    conn.send("POST /user/getUser HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .unwrap();
    assert_eq!(conn.head().unwrap().status, 100);
    conn.send("body").unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!(answer.json()["body"], "body");
}

#[test]
fn a_request_without_a_body_says_so_where_one_is_expected() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    for (method, told) in [("POST", Some("0")), ("PUT", Some("0")), ("PATCH", Some("0")), ("GET", None)] {
        assert_eq!(remora.call(method, "/user/getUser", &[], b"").status, 200);
        assert_eq!(peer.last().header("content-length"), told, "{method}");
    }
}

#[test]
fn a_caller_of_http_1_0_gets_no_100() {
    let (tell, told) = mpsc::channel();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        if let Ok(Some(mut request)) = Request::read_head(&mut conn) {
            tell.send(()).unwrap();
            let _ = request.read_body(&mut conn).and_then(|()| conn.send(answer(200, &[], &request.body)));
        }
    });
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    conn.send("PUT /user/getUser HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").unwrap();
    // its body is waited for now
    told.recv().unwrap();
    conn.send("body").unwrap();
    let mut answer = conn.head().unwrap();
    conn.body(&mut answer, false).unwrap();
    assert_eq!((answer.version.as_str(), answer.status, answer.text().as_str()), ("HTTP/1.0", 200, "body"));
}

#[test]
fn a_caller_that_expects_100_for_nothing_gets_the_refusal_first() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    conn.send("POST /nobody/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .unwrap();
    let mut answer = conn.head().unwrap();
    conn.body(&mut answer, false).unwrap();
    assert_problem(&answer, "no-service", 404);
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_chunked_request_arrives_whole() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    conn.send(
        "POST /user/getUser HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n",
    )
    .unwrap();
    conn.send("2\r\nde\r\n0\r\n\r\n").unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!(answer.json()["body"], "abcde");
}

#[test]
fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let peer = Peer::http(|request| match request.method.as_str() {
        "HEAD" => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Head: 1\r\n\r\n".to_vec(),
        "PUT" => answer(204, &[("X-Empty", "1")], b""),
        "POST" => answer(304, &[("ETag", "\"1\"")], b""),
        _ => answer(200, &[], b"hello"),
    });
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    for _ in 0..2 {
        let head = conn.request("HEAD", "/user/getUser", &[], b"").unwrap();
        assert_eq!((head.status, head.header("x-head")), (200, Some("1")));
        assert_eq!(head.header("content-length"), Some("5"));
        let empty = conn.request("PUT", "/user/getUser", &[], b"x").unwrap();
        assert_eq!((empty.status, empty.header("x-empty")), (204, Some("1")));
        let same = conn.request("POST", "/user/getUser", &[], b"x").unwrap();
        assert_eq!((same.status, same.header("etag")), (304, Some("\"1\"")));
        let got = conn.request("GET", "/user/getUser", &[], b"").unwrap();
        assert_eq!(got.text(), "hello");
    }
}

#[test]
fn trailers_of_an_answer_pass() {
    let peer = Peer::http(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
          3\r\nabc\r\n0\r\nX-Sum: 294\r\n\r\n"
            .to_vec()
    });
    let remora = sidecar(&peer);
    let answer = remora.call("GET", "/user/getUser", &[("TE", "trailers")], b"");
    assert_eq!(answer.text(), "abc");
    assert_eq!(answer.trailer("x-sum"), Some("294"));
    // And without asking for them, the body alone.
    let plain = remora.get("/user/getUser");
    assert_eq!((plain.text().as_str(), plain.trailer("x-sum")), ("abc", None));
}

#[test]
fn trailers_of_a_request_pass() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    let head = "POST /user/getUser HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    for body in ["longer than a look at it", "short", ""] {
        let chunk = if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
        let chunks = chunk + "0\r\nX-Sum: 294\r\n\r\n";
        conn.send(format!("{head}Trailer: X-Sum\r\n\r\n{chunks}")).unwrap();
        assert_eq!(conn.answer().unwrap().json()["body"], body);
        assert_eq!(peer.last().trailers, [("x-sum".to_owned(), "294".to_owned())], "{body:?}");
        // And unannounced, at least the body.
        conn.send(format!("{head}\r\n{chunks}")).unwrap();
        assert_eq!(conn.answer().unwrap().json()["body"], body);
    }
}

#[test]
fn keys_and_callers_do_not_pass_as_trailers() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let ours = ["X-Api-Key", "X-Caller", "X-Deadline-Ms", "X-Remora-Explain", "Connection"];
    let trailers: String = ours.iter().map(|name| format!("{name}: 1\r\n")).collect();
    let mut conn = remora.conn();
    conn.send(format!(
        "POST /user/getUser HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, {}\r\n\r\n\
         4\r\nbody\r\n0\r\n{trailers}X-Sum: 294\r\n\r\n",
        ours.join(", ")
    ))
    .unwrap();
    assert_eq!(conn.answer().unwrap().json()["body"], "body");
    assert_eq!(peer.last().trailers, [("x-sum".to_owned(), "294".to_owned())]);
}

#[test]
fn a_chunked_body_passes_whatever_the_method() {
    let peer = Peer::echo();
    let get = ("search", "{ path: /search, method: GET, encoding: json }");
    let remora = Remora::embedded(&service("user", &[GET_USER, get], &[&peer.address])).start();
    for (method, api) in [("GET", "getUser"), ("DELETE", "getUser"), ("PUT", "getUser"), ("POST", "search")] {
        let mut conn = remora.conn();
        let head = format!("{method} /user/{api} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        conn.send(head + "4\r\nbody\r\n0\r\n\r\n").unwrap();
        assert_eq!(conn.answer().unwrap().json()["body"], "body", "{method} {api}");
    }
}

#[test]
fn an_http_1_0_caller_gets_a_plain_body_and_a_close() {
    let peer = Peer::http(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec()
    });
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    conn.send("GET /user/getUser HTTP/1.0\r\n\r\n").unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.text(), "abcde");
    assert!(conn.is_closed());
}

#[test]
fn an_answer_of_unknown_length_that_ends_well_counts_as_good() {
    let peer = Peer::http(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()
    });
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    for _ in 0..2 {
        conn.send("GET /user/getUser HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(conn.answer().unwrap().text(), "abc");
    }
    let good = "remora_calls_total{api=\"getUser\",outcome=\"ok\",service=\"user\"} 2";
    eventually("both are counted", Duration::from_secs(5), || {
        remora.admin("GET", "/metrics").text().contains(good)
    });
}

#[test]
fn a_connection_whose_answer_came_before_the_request_had_left_is_not_used_again() {
    let peer = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        while Request::read_head(&mut conn).is_ok_and(|head| head.is_some()) {
            let _ = conn.send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno");
        }
    });
    let remora = sidecar(&peer);
    let mut early = remora.conn();
    early
        .send("POST /user/getUser HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .unwrap();
    assert_eq!(early.answer().unwrap().status, 413);
    let _ = early.send("0\r\n\r\n");
    assert_eq!(remora.get("/user/getUser").status, 413);
    assert_eq!(peer.connections(), 2);
}

#[test]
fn one_connection_serves_many_calls_over_one_connection_to_the_provider() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    for n in 0..3 {
        let body = format!("call {n}");
        let answer = conn.request("POST", "/user/getUser", &[], body.as_bytes()).unwrap();
        assert_eq!(answer.json()["body"], body);
    }
    assert_eq!(peer.connections(), 1);
}

#[test]
fn a_pooled_connection_that_the_provider_closed_costs_no_call() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    for n in 0..20 {
        let answer = conn.request("POST", "/user/getUser", &[], b"x").unwrap();
        assert_eq!(answer.status, 200, "call {n}: {}", answer.text());
        peer.cut_connections();
    }
    assert_eq!(peer.calls(), 20);
}

#[test]
fn pipelined_calls_are_answered_in_order() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    let mut both = request("POST", "/user/getUser", &[], b"first");
    both.extend(request("POST", "/user/getUser", &[], b"second"));
    conn.send(both).unwrap();
    assert_eq!(conn.answer().unwrap().json()["body"], "first");
    assert_eq!(conn.answer().unwrap().json()["body"], "second");
}

#[test]
fn absolute_form_names_the_service_by_its_host() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let answer = remora.call("GET", "http://user/getUser?x=1", &[("Host", "user")], b"");
    let seen = answer.json();
    assert_eq!((&seen["path"], &seen["query"]), (&json!("/user/get"), &json!("x=1")));
    let own = format!("http://{}/user/getUser", remora.address);
    let answer = remora.call("GET", &own, &[("Host", &remora.address)], b"");
    assert_eq!(answer.json()["path"], "/user/get");
    // another machine, and another program of this one, are no services either
    for other in ["http://192.0.2.7/user/getUser", "http://localhost:1/user/getUser"] {
        let answer = remora.call("GET", other, &[("Host", "x")], b"");
        assert_problem(&answer, "no-service", 404);
    }
}

#[test]
fn connect_is_refused() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let answer = remora.call("CONNECT", "user:80", &[("Host", "user:80")], b"");
    assert_eq!(answer.status, 405);
    assert_eq!(remora.get("/user/getUser").status, 200);
    // whatever body it tells of, and whether that comes
    for (told, sent) in
        [("Content-Length: 1", ""), ("Content-Length: 1", "x"), ("Transfer-Encoding: chunked", "1\r\nx\r\n")]
    {
        let mut conn = remora.conn();
        conn.send(format!("CONNECT user:80 HTTP/1.1\r\nHost: user:80\r\n{told}\r\n\r\n{sent}")).unwrap();
        assert_eq!(conn.answer().unwrap().status, 405);
        conn.half_close();
        assert!(conn.is_closed(), "{told} {sent}");
    }
}

#[test]
fn a_refused_body_that_came_is_read_over_and_one_that_did_not_ends_the_connection() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    for _ in 0..2 {
        let refused = conn.request("POST", "/nobody/x", &[], &[b'x'; 3000]).unwrap();
        assert_eq!((refused.status, refused.header("connection")), (404, None));
    }
    conn.send("POST /nobody/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome of it").unwrap();
    let refused = conn.answer().unwrap();
    assert_eq!((refused.status, refused.header("connection")), (404, Some("close")));
    assert!(conn.is_closed());
}

#[test]
fn the_unix_socket_serves_the_same() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let mut conn = Conn::open_unix(&remora.socket);
    for _ in 0..2 {
        let answer = conn.request("POST", "/user/getUser", &[], b"by unix").unwrap();
        assert_eq!(answer.json()["body"], "by unix");
    }
}

#[test]
fn php_calls_by_curl_directly_by_proxy_and_by_socket() {
    let provider = Php::json();
    let remora = Remora::embedded(&service("user", &[GET_USER], &[&provider.address])).start();
    let direct = json!({"url": remora.url("/user/getUser?id=5")});
    let proxy = json!({"url": "http://user/getUser?id=5", "proxy": remora.address});
    let socket = json!({"url": "http://localhost/user/getUser?id=5", "unix": remora.socket});
    let posted = json!({
        "url": remora.url("/user/getUser"),
        "method": "POST",
        "headers": ["Content-Type: application/json"],
        "body": r#"{"id":5}"#,
    });
    for how in [direct, proxy, socket, posted] {
        let seen = php::run("curl_call.php", &how).remove(0);
        assert_eq!(seen["status"], 200, "{how}: {seen}");
        let body: Value = serde_json::from_str(seen["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["name"], "user 5", "{how}");
    }
}

#[test]
fn the_first_bytes_of_an_answer_arrive_before_the_last_are_made() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = Request::read(&mut conn);
        let _ = conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        let _ = wait.lock().unwrap().recv();
        let _ = conn.send("4\r\nlast\r\n0\r\n\r\n");
    });
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/getUser", &[], b"")).unwrap();
    let mut answer = conn.head().unwrap();
    assert_eq!(conn.chunk().unwrap(), b"first");
    go.send(()).unwrap();
    conn.body(&mut answer, false).unwrap();
    assert_eq!(answer.text(), "last");
}

#[test]
fn the_first_bytes_of_a_request_arrive_before_the_last_are_sent() {
    let (tell, got) = mpsc::channel();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let Ok(Some(_)) = Request::read_head(&mut conn) else {
            return;
        };
        while let Ok(part) = conn.chunk() {
            if part.is_empty() {
                break;
            }
            let _ = tell.send(part);
        }
        let _ = conn.send(answer(200, &[], b"done"));
    });
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    // Ten bytes tell that it is no Yar message; fewer may have to wait.
    conn.send("POST /user/getUser HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nlong enough here\r\n")
        .unwrap();
    assert_eq!(got.recv_timeout(Duration::from_secs(10)).unwrap(), b"long enough here");
    conn.send("4\r\nlast\r\n0\r\n\r\n").unwrap();
    assert_eq!(got.recv_timeout(Duration::from_secs(10)).unwrap(), b"last");
    assert_eq!(conn.answer().unwrap().text(), "done");
}

#[test]
fn bodies_of_64_mib_stream_both_ways_in_constant_memory() {
    const PART: usize = 64 * 1024;
    const PARTS: usize = 1024;
    let peer = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        while let Ok(Some(_)) = Request::read_head(&mut conn) {
            let mut got = 0;
            while let Ok(part) = conn.chunk() {
                if part.is_empty() {
                    break;
                }
                got += part.len();
            }
            let _ = conn.line();
            let head = format!("HTTP/1.1 200 OK\r\nX-Got: {got}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let _ = conn.send(head);
            for _ in 0..got / PART {
                let _ = conn.send(chunk(PART));
            }
            let _ = conn.send("0\r\n\r\n");
        }
    });
    let entries =
        service_with("user", "policy: { max_body: 128MiB, timeout: 60s }", &[GET_USER], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let stream = |parts: usize| {
        let mut conn = remora.conn();
        conn.send("POST /user/getUser HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for _ in 0..parts {
            conn.send(chunk(PART)).unwrap();
        }
        conn.send("0\r\n\r\n").unwrap();
        let answer = conn.head().unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-got"), Some((parts * PART).to_string().as_str()));
        let mut got = 0;
        loop {
            match conn.chunk().unwrap().len() {
                0 => break,
                n => got += n,
            }
        }
        assert_eq!(got, parts * PART);
    };
    stream(8);
    let before = remora.peak_memory();
    stream(PARTS);
    let grown = remora.peak_memory() - before;
    assert!(grown < 16 << 20, "{} KiB more than before", grown >> 10);
}

fn chunk(size: usize) -> Vec<u8> {
    let mut bytes = format!("{size:x}\r\n").into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[test]
fn an_answer_before_the_end_of_the_request_reaches_the_caller() {
    let peer = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        if let Ok(Some(_)) = Request::read_head(&mut conn) {
            let _ = conn.send(answer(413, &[("Connection", "close"), ("X-Early", "1")], b"too much"));
            conn.half_close();
            let _ = conn.rest();
        }
    });
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    conn.send("POST /user/getUser HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n").unwrap();
    conn.send(vec![b'x'; 65536]).unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!((answer.status, answer.header("x-early")), (413, Some("1")));
    assert_eq!(answer.text(), "too much");
}

#[test]
fn an_early_answer_and_a_reset_cost_no_other_call() {
    let peer = Peer::raw(|stream, _| {
        let socket = stream.try_clone().unwrap();
        let mut conn = Conn::over(stream);
        while let Ok(Some(head)) = Request::read_head(&mut conn) {
            if head.method == "POST" {
                let _ = conn.send(answer(413, &[("X-Early", "1")], b"too much"));
                // The close is a reset, and throws away what was not read.
                let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                return;
            }
            let _ = conn.send(answer(200, &[], b"next"));
        }
    });
    let remora = sidecar(&peer);
    for size in [10, 65_536, 8_000_000] {
        for _ in 0..10 {
            let mut conn = remora.conn();
            conn.send(format!("POST /user/getUser HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"))
                .unwrap();
            let mut writer = conn.writer();
            // Remora may have answered and closed before it has all.
            let body = std::thread::spawn(move || drop(writer.write_all(&vec![b'x'; size])));
            let early = conn.answer().unwrap();
            match early.status {
                413 => assert_eq!((early.header("x-early"), early.text().as_str()), (Some("1"), "too much")),
                _ => assert_problem(&early, "cut", 502),
            }
            assert_eq!(remora.get("/user/getUser").text(), "next");
            drop(conn);
            body.join().unwrap();
        }
    }
}

#[test]
fn keys_are_consumed_and_what_belongs_to_the_app_passes() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let headers = [("X-Api-Key", "sesame"), ("Authorization", "Bearer abc"), ("Cookie", "session=1")];
    let seen = remora.call("GET", "/user/getUser", &headers, b"").json();
    let seen = at(&seen, "/headers");
    assert_eq!(seen["x-api-key"], Value::Null, "{seen}");
    assert_eq!(seen["authorization"], "Bearer abc");
    assert_eq!(seen["cookie"], "session=1");
}

#[test]
fn a_deadline_of_the_caller_is_passed_on_less_what_is_spent() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    let seen = remora.call("GET", "/user/getUser", &[("X-Deadline-Ms", "2000")], b"").json();
    let left: u64 = at(&seen, "/headers/x-deadline-ms").as_str().unwrap().parse().unwrap();
    assert!((1..=2000).contains(&left), "{left} ms");
}

#[test]
fn a_deadline_of_the_caller_shortens_the_timeout() {
    let peer = Peer::silent();
    let remora = sidecar(&peer);
    let answer = remora.call("GET", "/user/getUser", &[("X-Deadline-Ms", "200")], b"");
    assert_problem(&answer, "deadline", 504);
    assert!(answer.text().contains("no answer within 200ms"), "{}", answer.text());
}

#[test]
fn the_api_star_passes_the_rest_of_the_path() {
    let peer = Peer::echo();
    let entries = service("files", &[("*", "{ path: /, encoding: json }")], &[&peer.address])
        + &service("deep", &[("*", "{ path: /base, encoding: json }")], &[&peer.address]);
    let remora = Remora::embedded(&entries).start();
    let seen = remora.get("/files/a/b/c.txt?v=2").json();
    assert_eq!((&seen["path"], &seen["query"]), (&json!("/a/b/c.txt"), &json!("v=2")));
    let seen = remora.get("/deep/one/two").json();
    assert_eq!(seen["path"], "/base/one/two");
}

#[test]
fn more_segments_need_the_api_star() {
    let peer = Peer::echo();
    let remora = sidecar(&peer);
    assert_problem(&remora.get("/user/getUser/more"), "no-api", 404);
}

#[test]
fn the_method_of_the_api_replaces_the_callers() {
    let peer = Peer::echo();
    let api = ("make", "{ path: /make, encoding: json, method: POST }");
    let remora = Remora::embedded(&service("user", &[api], &[&peer.address])).start();
    assert_eq!(remora.get("/user/make").json()["method"], "POST");
}

#[test]
fn the_tree_layout_joins_the_context_path_and_the_path() {
    let peer = Peer::echo();
    let entries = format!(
        "/dada/services/category1: {{ contextPath: /ctx, name: one }}\n\
         /dada/services/category1/helloworld: {{ path: /hello, encoding: json }}\n\
         \"/dada/services/category1/helloworld/providers/{}\": {{ weight: 10 }}\n",
        peer.address
    );
    let remora = Remora::embedded(&entries).layout("tree", "/dada").start();
    let seen = remora.get("/category1/helloworld?x=1");
    assert_eq!(seen.status, 200, "{}", seen.text());
    assert_eq!(seen.json()["path"], "/ctx/hello");
}

#[test]
fn an_edited_registry_file_is_followed() {
    let (old, new) = (Peer::named("old"), Peer::named("new"));
    let remora = sidecar(&old);
    assert_eq!(remora.get("/user/getUser").json()["peer"], "old");
    remora.edit_registry(&service("user", &[GET_USER], &[&new.address]));
    eventually("calls go to the new provider", Duration::from_secs(5), || {
        remora.get("/user/getUser").json()["peer"] == "new"
    });
}

#[test]
fn a_caller_that_leaves_takes_its_call_with_it() {
    let (tell, left) = mpsc::channel();
    let peer = Peer::raw(move |stream, _| {
        let mut conn = Conn::over(stream);
        let _ = Request::read(&mut conn);
        // Ends when remora gives the connection up.
        let _ = conn.rest();
        let _ = tell.send(());
    });
    let remora = sidecar(&peer);
    let mut conn = remora.conn();
    conn.send(request("GET", "/user/getUser", &[], b"")).unwrap();
    eventually("the call reaches the provider", Duration::from_secs(5), || peer.connections() == 1);
    drop(conn);
    assert!(left.recv_timeout(Duration::from_secs(3)).is_ok(), "the provider still works for nobody");
}

#[test]
fn many_callers_at_once_get_their_own_answers() {
    let peer = Peer::http(|request| ok_json(&json!({ "body": request.text() })));
    let remora = sidecar(&peer);
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let remora = &remora;
            scope.spawn(move || {
                let mut conn = remora.conn();
                for n in 0..50 {
                    let body = format!("{caller}/{n}");
                    let answer = conn.request("POST", "/user/getUser", &[], body.as_bytes()).unwrap();
                    assert_eq!(answer.json()["body"], body);
                }
            });
        }
    });
    assert_eq!(peer.calls(), 16 * 50);
}

#[test]
fn parallel_calls_of_one_php_script_get_their_own_answers() {
    const CALLS: usize = 32;
    // Nobody is answered before all have asked.
    let all = std::sync::Barrier::new(CALLS);
    let peer = Peer::http(move |request| {
        all.wait();
        ok_json(&json!({ "body": request.text(), "target": request.target }))
    });
    let provider = Php::json();
    // So many PHP calls take a while on a busy machine.
    let patient = "policy: { timeout: 20s }";
    let entries = service_with("user", patient, &[GET_USER], &[&peer.address])
        + &service_with("php", patient, &[GET_USER], &[&provider.address]);
    let remora = Remora::embedded(&entries).start();
    let calls = |service: &str| -> Vec<Value> {
        let call = |n| json!({"url": remora.url(&format!("/{service}/getUser?id={n}")), "body": format!("body {n}")});
        php::run("curl_multi.php", &(0..CALLS).map(call).collect())
    };
    let bodies = |service: &str| -> Vec<Value> {
        let seen = calls(service);
        assert_eq!(seen.len(), CALLS);
        let body = |answer: &Value| {
            assert_eq!(answer["status"], 200, "{answer}");
            serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
        };
        seen.iter().map(body).collect()
    };
    for (n, seen) in bodies("user").iter().enumerate() {
        assert_eq!(*seen, json!({"body": format!("body {n}"), "target": format!("/user/get?id={n}")}));
    }
    for (n, seen) in bodies("php").iter().enumerate() {
        assert_eq!(seen["name"], format!("user {n}"));
    }
}

#[test]
fn interim_answers_of_a_provider_do_not_end_the_call() {
    let peer = Peer::raw(|stream, _| {
        let mut conn = Conn::over(stream);
        let _ = Request::read(&mut conn);
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
        let _ = bytes.write_all(&peer::answer(200, &[], b"whole"));
        let _ = conn.send(bytes);
    });
    let remora = sidecar(&peer);
    assert_eq!(remora.get("/user/getUser").text(), "whole");
}
