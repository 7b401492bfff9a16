//! What is HTTP's own.

use http::Method;
use prost::Message as _;
use serde_json::json;

use super::LIMIT;
use crate::support::config::with;
use crate::support::proto::gzip;
use crate::support::send::{Call, PROTOBUF, pieces};
use crate::support::spans::spans;
use crate::support::{Collector, Reply, Setup, Sink, request, to};

fn discarding() -> Collector {
    Setup::new().exporter("debug", json!({})).start()
}

fn message() -> Vec<u8> {
    request(spans(1)).encode_to_vec()
}

#[test]
fn both_versions_of_http_and_both_kinds_of_length_are_taken() {
    let collector = discarding();
    collector.offer(3);
    Call::http(collector.http()).post(message()).expect_ok();
    Call::http(collector.http()).post_http2(message()).expect_ok();
    let (pieces, body) = pieces();
    let chunked = Call::http(collector.http()).start_post_of(body);
    for piece in message().chunks(7) {
        pieces.send(piece.to_vec());
    }
    drop(pieces);
    chunked.answer().expect_ok();
    collector.finish();
}

#[test]
fn the_content_type_may_carry_parameters_and_be_in_capitals() {
    let collector = discarding();
    for kind in [PROTOBUF, "application/x-protobuf; charset=utf-8", "Application/X-Protobuf"] {
        collector.offer(1);
        let answer = Call::http(collector.http()).header("content-type", kind).post(message());
        answer.expect_ok();
        assert_eq!(answer.header("content-type"), Some(PROTOBUF));
    }
    collector.finish();
}

#[test]
fn other_content_types_methods_and_paths_are_refused_in_plain_text() {
    let collector = discarding();
    let http = || Call::http(collector.http());
    for kind in ["text/plain", "application/octet-stream", ""] {
        let answer = http().header("content-type", kind).post(message());
        assert_eq!(answer.status, 415, "`{kind}`");
        assert!(answer.text().starts_with("415 unsupported media type, supported: ["), "{}", answer.text());
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = http().method(method.clone()).post(message());
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("POST"));
        assert_eq!(answer.text(), "405 method not allowed, supported: [POST]");
    }
    assert_eq!(http().path("/v1/metrics").post(message()).status, 404);
    assert_eq!(http().path("/").post(message()).status, 404);
    collector.finish();
}

#[test]
fn the_path_can_be_another() {
    let path = "receivers.otlp.protocols.http.traces_url_path";
    let collector = Setup::new().exporter("debug", json!({})).set(path, json!("/ingest")).start();
    collector.offer(1);
    Call::http(collector.http()).path("/ingest").post(message()).expect_ok();
    assert_eq!(Call::http(collector.http()).post(message()).status, 404);
    collector.finish();
}

#[test]
fn content_encodings_that_are_not_understood_are_refused_with_a_status() {
    let collector = discarding();
    let http = || Call::http(collector.http());
    http().header("content-encoding", "br").post(message()).expect(400, "unsupported Content-Encoding: br");
    http().header("content-encoding", "gzip").post(message()).expect(400, "is not gzip");
    let torn = gzip(&message());
    http().header("content-encoding", "gzip").post(torn[..torn.len() - 6].to_vec()).expect(400, "is not gzip");
    collector.offer(1);
    http().header("content-encoding", "identity").post(message()).expect_ok();
    collector.finish();
}

#[test]
fn a_body_over_the_limit_is_refused_before_its_end() {
    let limit = "receivers.otlp.protocols.http.max_request_body_size";
    let collector = Setup::new().exporter("debug", json!({})).set(limit, json!(LIMIT)).start();
    let (pieces, body) = pieces();
    let post = Call::http(collector.http()).start_post_of(body);
    for _ in 0..=16 {
        pieces.send(vec![0; LIMIT / 16]);
    }
    // The body has not ended, and the answer is there.
    post.answer().expect(413, "larger than 1048576 bytes");
    collector.finish();
}

#[test]
fn overload_is_told_with_the_destinations_retry_after() {
    let sink = Sink::start();
    let retry = Some(std::time::Duration::from_secs(7));
    sink.answer(Reply::Grpc { code: 14, message: "busy", retry });
    let exporter = with(to(&sink), [("retry_on_failure", json!({"enabled": false}))]);
    let collector = Setup::new().exporter("otlp", exporter).start();
    let answer = collector.post(&request(spans(1)));
    let status = answer.expect(503, "busy");
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(status.retry_info(), retry);
    assert_eq!(collector.send(&request(spans(1))).details.retry_info(), retry);
    collector.finish();
}
