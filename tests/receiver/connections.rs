//! Connections: what carries them, how long they live, and what floods cost.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use prost::Message as _;
use serde_json::{Value, json};

use crate::support::proto::framed;
use crate::support::send::{Call, PROTOBUF, export_call, http2, idle_connection, whole};
use crate::support::spans::spans;
use crate::support::{Collector, Setup, Sink, request, runtime, wait_for};

fn message() -> Vec<u8> {
    request(spans(1)).encode_to_vec()
}

fn with(key: &str, value: Value) -> Collector {
    Setup::new().exporter("debug", json!({})).set(&format!("receivers.otlp.protocols.{key}"), value).start()
}

#[test]
fn both_protocols_can_be_received_through_sockets_of_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // What a collector that was killed left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(path("grpc.sock")).unwrap());
    let collector = Setup::new()
        .exporter("debug", json!({}))
        .set("receivers.otlp.protocols.grpc", json!({"transport": "unix", "endpoint": path("grpc.sock")}))
        .set("receivers.otlp.protocols.http", json!({"transport": "unix", "endpoint": path("http.sock")}))
        .start();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    collector.offer(2);
    Call::grpc(nowhere).unix(path("grpc.sock")).call(framed(&message())).expect_ok();
    Call::http(nowhere).unix(path("http.sock")).post(message()).expect_ok();
    collector.finish();
    assert!(!path("grpc.sock").exists() && !path("http.sock").exists(), "the sockets are gone with the collector");
}

#[test]
fn a_socket_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken.sock");
    let _taken = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let log = Setup::new()
        .exporter("debug", json!({}))
        .set("receivers.otlp.protocols.grpc", json!({"transport": "unix", "endpoint": path}))
        .refused();
    assert!(
        log.contains("receivers.otlp.protocols.grpc.endpoint: `") && log.contains("Address already in use"),
        "{log}"
    );
    assert!(path.exists());
}

/// An HTTP/2 connection that has made one call; answers when the other side has ended it.
async fn connection_after_a_call(address: SocketAddr) -> impl Future<Output = ()> {
    let (mut sender, connection) = http2(address).await;
    let answer = sender.send_request(export_call(whole(framed(&message())))).await.unwrap();
    assert_eq!(answer.status(), 200);
    async move {
        let _ended = connection.await;
        drop(sender);
    }
}

#[test]
fn connections_end_when_they_are_old_or_idle_and_clients_come_again() {
    for (key, value) in [("max_connection_age", "200ms"), ("max_connection_idle", "100ms")] {
        let collector = with("grpc.keepalive", json!({"server_parameters": {key: value}}));
        for _ in 0..2 {
            collector.offer(1);
            runtime().block_on(async {
                let ended = connection_after_a_call(collector.grpc()).await;
                tokio::time::timeout(Duration::from_secs(20), ended).await.expect(key);
            });
        }
        collector.finish();
    }
}

#[test]
fn what_is_under_way_on_an_old_connection_is_answered() {
    let sink = Sink::start();
    sink.answer(crate::support::Reply::Hold);
    let age = json!({"server_parameters": {"max_connection_age": "50ms", "max_connection_idle": "50ms"}});
    let collector = Setup::line(&sink).set("receivers.otlp.protocols.grpc.keepalive", age).start();
    let pending = collector.start_send(&request(spans(1)));
    sink.wait(1);
    // A younger connection is ended meanwhile, so the clock has run for the older one too.
    runtime().block_on(async {
        let (_sender, connection) = http2(collector.grpc()).await;
        let _ended = tokio::time::timeout(Duration::from_secs(20), connection).await.expect("it is ended");
    });
    assert!(!pending.is_answered());
    sink.release();
    pending.answer().expect_ok();
    collector.finish();
}

/// Sends a request on a connection, and reads the answer's head and all that follows.
fn exchange(stream: &mut TcpStream, extra: &str) -> String {
    let body = message();
    let length = body.len();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\n{extra}content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = vec![];
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn connections_of_http_are_kept_or_not_as_the_config_says() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let mut stream = idle_connection(collector.http());
    for _ in 0..3 {
        collector.offer(1);
        assert!(exchange(&mut stream, "").starts_with("HTTP/1.1 200 OK\r\n"), "the next request has its turn");
    }
    drop(stream);
    collector.finish();
    let collector = with("http.keep_alives_enabled", json!(false));
    let mut stream = idle_connection(collector.http());
    collector.offer(1);
    assert!(exchange(&mut stream, "").to_lowercase().contains("connection: close"));
    assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0);
    collector.finish();
    let collector = with("http.idle_timeout", json!("100ms"));
    let mut stream = idle_connection(collector.http());
    collector.offer(1);
    assert!(exchange(&mut stream, "").starts_with("HTTP/1.1 200"));
    assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0, "an idle connection is closed");
    collector.finish();
}

#[test]
fn a_request_that_does_not_come_in_time_is_given_up() {
    let collector = with("http.read_timeout", json!("100ms"));
    let (pieces, body) = crate::support::send::pieces();
    let post = Call::http(collector.http()).start_post_of(body);
    pieces.send(vec![1; 10]);
    post.answer().expect(408, "did not come within 100ms");
    drop(pieces);
    let collector2 = with("http.read_header_timeout", json!("100ms"));
    let mut stream = idle_connection(collector2.http());
    stream.write_all(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n").unwrap();
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    collector.finish();
    collector2.finish();
}

#[test]
fn headers_of_the_configs_own_go_with_every_answer() {
    let collector = with("http.response_headers", json!({"X-Served-By": "vespid", "Cache-Control": "no-store"}));
    collector.offer(1);
    for answer in [Call::http(collector.http()).post(message()), Call::get(collector.http(), "/nowhere")] {
        assert_eq!(answer.header("x-served-by"), Some("vespid"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    collector.finish();
}

#[test]
fn a_flood_of_headers_is_refused_and_nobody_else_notices() {
    let collector = with("http", json!({"endpoint": "127.0.0.1:0"}));
    let long = "x".repeat(1 << 20);
    let many: String = (0..5000).map(|number| format!("x-{number}: y\r\n")).collect();
    for flood in [format!("x-long: {long}\r\n"), many] {
        let mut stream = idle_connection(collector.http());
        let head = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\n{flood}content-length: 0\r\n\r\n");
        // The collector may hang up before it has read all.
        let _ = stream.write_all(head.as_bytes());
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    runtime().block_on(async {
        let (mut sender, _connection) = http2(collector.grpc()).await;
        let mut call = export_call(whole(""));
        for number in 0..200 {
            let name: http::HeaderName = format!("x-{number}").parse().unwrap();
            call.headers_mut().insert(name, "y".repeat(1000).parse().unwrap());
        }
        match sender.send_request(call).await {
            Ok(answer) => assert_eq!(answer.status(), 431),
            Err(error) => assert!(!error.is_parse(), "{error}"),
        }
    });
    collector.offer(2);
    Call::grpc(collector.grpc()).call(framed(&message())).expect_ok();
    Call::http(collector.http()).post(message()).expect_ok();
    collector.finish();
}

#[test]
fn ten_thousand_streams_that_wait_hold_nobody_up_and_take_little_memory() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let (_, before) = collector.memory();
    let address = collector.grpc();
    let mut connections = vec![];
    let mut bodies = vec![];
    runtime().block_on(async {
        for _ in 0..10 {
            let (mut sender, connection) = http2(address).await;
            connections.push(connection);
            // By its answer the client knows how many streams it may open.
            collector.offer(1);
            sender.send_request(export_call(whole(framed(&message())))).await.unwrap();
            for _ in 0..1000 {
                let (pieces, body) = crate::support::send::pieces();
                let call = export_call(body);
                // A claim of a mebibyte, and a byte of it.
                pieces.send(vec![0, 0, 16, 0, 0, 10]);
                connections.push(tokio::spawn({
                    let answer = sender.send_request(call);
                    async move { answer.await.map(drop) }
                }));
                bodies.push(pieces);
            }
        }
    });
    for _ in 0..20 {
        collector.send(&request(spans(2))).expect_ok();
        collector.post(&request(spans(2))).expect_ok();
    }
    let (_, after) = collector.memory();
    assert!(after < before + (150 << 20), "from {before} to {after} bytes");
    connections.iter().for_each(|task| task.abort());
    drop(bodies);
    collector.finish();
}

#[test]
fn more_streams_than_a_connection_may_have_wait_for_their_turn() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).set("receivers.otlp.protocols.grpc.max_concurrent_streams", json!(2)).start();
    collector.offer(5);
    let address = collector.grpc();
    runtime().block_on(async {
        let (sender, _connection) = http2(address).await;
        let call = || {
            let call = export_call(whole(framed(&message())));
            let mut sender = sender.clone();
            async move {
                sender.ready().await.unwrap();
                sender.send_request(call).await
            }
        };
        // By its answer the client knows the limit: streams beyond it would be refused.
        call().await.unwrap();
        sink.answer(crate::support::Reply::Hold);
        let calls: Vec<_> = (0..4).map(|_| tokio::spawn(call())).collect();
        while sink.received().len() < 3 {
            tokio::task::yield_now().await;
        }
        sink.release();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().status(), 200);
        }
    });
    sink.wait(5);
    collector.finish();
}

#[test]
fn reset_floods_end_the_connection_and_nothing_else() {
    let collector = with("grpc", json!({"endpoint": "127.0.0.1:0"}));
    let address = collector.grpc();
    runtime().block_on(async {
        let (mut sender, connection) = http2(address).await;
        for _ in 0..5000 {
            let (_pieces, body) = crate::support::send::pieces();
            let call = export_call(body);
            if sender.ready().await.is_err() {
                break;
            }
            // Dropping the answer's future resets the stream.
            let answer = sender.send_request(call);
            tokio::task::yield_now().await;
            drop(answer);
        }
        connection.abort();
    });
    collector.offer(1);
    Call::grpc(address).call(framed(&message())).expect_ok();
    wait_for("no span under way", || {
        (collector.metrics().sum("vespid_receiver_in_flight_spans", &[]) == 0).then_some(())
    });
    collector.finish();
}
