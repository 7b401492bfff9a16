//! HTTP/1.1 as nobody's library writes it: what is odd and allowed is taken, what is
//! broken costs its own connection alone.

use std::io::{Read as _, Write as _};

use prost::Message as _;
use serde_json::json;

use crate::support::send::{Call, PROTOBUF, idle_connection};
use crate::support::spans::spans;
use crate::support::{Collector, Setup, request};

fn message() -> Vec<u8> {
    request(spans(1)).encode_to_vec()
}

fn chunked(message: &[u8]) -> Vec<u8> {
    [format!("{:x};an=extension\r\n", message.len()).as_bytes(), message, b"\r\n0\r\nA-Trailer: x\r\n\r\n"].concat()
}

/// All that the collector answers until it hangs up, which `Connection: close` asks for.
fn exchange(collector: &Collector, line: &str, headers: &str, body: &[u8]) -> String {
    let mut stream = idle_connection(collector.http());
    let head = format!("{line}\r\nHost: x\r\nConnection: close\r\nContent-Type: {PROTOBUF}\r\n{headers}\r\n");
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn odd_requests_that_http_allows_are_taken() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let message = message();
    let length = format!("Content-Length: {}\r\n", message.len());
    let chunks = chunked(&message);
    let usual = "POST /v1/traces HTTP/1.1";
    for (line, headers, body) in [
        ("POST http://collector.test/v1/traces HTTP/1.1", length.as_str(), &message),
        ("POST /v1/traces?a=b HTTP/1.1", &length, &message),
        ("POST /v1/traces HTTP/1.0", &length, &message),
        (usual, "Transfer-Encoding: Chunked\r\n", &chunks),
        // The chunks count, and nothing more is read from the connection.
        (usual, "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", &chunks),
        (usual, &format!("Expect: 100-continue\r\n{length}"), &message),
        (usual, &format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{length}"), &message),
        (usual, &format!("{length}{length}"), &message),
    ] {
        collector.offer(1);
        let answer = exchange(&collector, line, headers, body);
        assert!(answer.contains(" 200 OK\r\n"), "{line}, {headers}: {answer}");
    }
    collector.finish();
}

#[test]
fn who_waits_to_be_asked_for_the_body_is_asked_or_refused_at_once() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let ask = |length: usize| {
        let mut stream = idle_connection(collector.http());
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        (stream, String::from_utf8(start.to_vec()).unwrap())
    };
    let message = message();
    let (mut stream, start) = ask(message.len());
    assert_eq!(start, "HTTP/1.1 100");
    collector.offer(1);
    stream.write_all(&message).unwrap();
    let mut rest = [0; 40];
    stream.read_exact(&mut rest).unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 200 OK"));
    assert_eq!(ask(1 << 40).1, "HTTP/1.1 413");
    drop(stream);
    collector.finish();
}

#[test]
fn broken_requests_are_refused_and_cost_nobody_else_anything() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let message = message();
    let usual = "POST /v1/traces HTTP/1.1";
    for (line, headers, body) in [
        (usual, "Content-Length: -1\r\n", &b""[..]),
        (usual, "Content-Length: 99999999999999999999\r\n", b""),
        (usual, "Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd"),
        (usual, "Transfer-Encoding: chunked, identity\r\n", b"abcd"),
        (usual, "Transfer-Encoding: chunked\r\n", b"zz\r\n"),
        (usual, "Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\n"),
        (usual, "Transfer-Encoding: chunked\r\n", b"1\r\nab\r\n"),
        (usual, "A header: x\r\n", b""),
        (usual, "X: a\0b\r\n", b""),
        ("POST /v1/traces HTTP/3.0", "", b""),
        ("\x16\x03\x01\x02", "", b""),
    ] {
        let answer = exchange(&collector, line, headers, body);
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{line}, {headers}: {answer}");
        collector.offer(1);
        Call::http(collector.http()).post(message.clone()).expect_ok();
    }
    let many = "X: y\r\n".repeat(100_000);
    assert!(exchange(&collector, usual, &many, b"").starts_with("HTTP/1.1 431 "));
    collector.finish();
}

#[test]
fn answers_are_never_packed() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let call = || Call::http(collector.http()).header("accept-encoding", "gzip, zstd").header("accept", "*/*");
    collector.offer(1);
    let (taken, refused) = (call().post(message()), call().post("\n"));
    taken.expect_ok();
    refused.expect(400, "ends inside");
    assert!(taken.header("content-encoding").is_none() && refused.header("content-encoding").is_none());
    collector.finish();
}
