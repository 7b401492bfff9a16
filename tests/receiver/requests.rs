//! What holds for both protocols: which requests are taken, and when the answer comes.

use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;
use serde_json::json;

use super::{LIMIT, limits};
use crate::support::config::with;
use crate::support::proto::{bytes, frame, framed, gzip};
use crate::support::send::Call;
use crate::support::spans::{Request, all, names, spans, text};
use crate::support::{Setup, Sink, request, span, to, wait_for};

#[test]
fn an_empty_request_succeeds_and_nothing_is_sent() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let empty_scope = ResourceSpans { scope_spans: vec![ScopeSpans::default()], ..ResourceSpans::default() };
    for resource_spans in [vec![], vec![ResourceSpans::default()], vec![empty_scope]] {
        let empty = Request { resource_spans };
        assert_eq!(collector.send(&empty).expect_ok().partial_success, None);
        assert_eq!(collector.post(&empty).expect_ok().partial_success, None);
    }
    collector.finish();
    assert_eq!(sink.received().len(), 0);
}

#[test]
fn spans_with_invalid_ids_are_told_and_the_others_are_delivered() {
    type Fault = (&'static str, fn(&mut crate::support::spans::Span));
    let wrong: [Fault; 8] = [
        ("short trace id", |span| span.trace_id = vec![1; 8]),
        ("no trace id", |span| span.trace_id.clear()),
        ("zero trace id", |span| span.trace_id = vec![0; 16]),
        ("long span id", |span| span.span_id = vec![1; 16]),
        ("no span id", |span| span.span_id.clear()),
        ("zero span id", |span| span.span_id = vec![0; 8]),
        ("short parent id", |span| span.parent_span_id = vec![1; 4]),
        ("wrong link", |span| span.links.push(Link { trace_id: vec![1; 16], span_id: vec![1], ..Link::default() })),
    ];
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    for (name, spoil) in wrong {
        let mut spans = vec![span("good"), span(name), span("also good")];
        spoil(&mut spans[1]);
        let mixed = request(spans);
        let before = sink.received().len();
        let told = collector.send(&mixed).expect_ok().partial_success.clone().unwrap_or_default();
        assert_eq!(told.rejected_spans, 1, "{name}");
        assert!(told.error_message.contains("trace id"), "{}", told.error_message);
        assert_eq!(collector.post(&mixed).expect_ok().partial_success.unwrap_or_default().rejected_spans, 1, "{name}");
        for received in &sink.wait(before + 2)[before..] {
            assert_eq!(names(&received.request()), ["good", "also good"], "{name}");
        }
    }
    assert_eq!(collector.metrics().sum("vespid_receiver_rejected_spans", &[("transport", "grpc")]), 8);
    assert_eq!(collector.metrics().sum("vespid_receiver_rejected_spans", &[("transport", "http")]), 8);
    collector.finish();
}

#[test]
fn a_request_of_invalid_spans_alone_is_answered_and_nothing_is_sent() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let mut bad = spans(3);
    bad.iter_mut().for_each(|span| span.trace_id.clear());
    let told = collector.send(&request(bad)).expect_ok().partial_success.clone().unwrap();
    assert_eq!(told.rejected_spans, 3);
    collector.finish();
    assert_eq!(sink.received().len(), 0);
}

#[test]
fn malformed_protobuf_is_refused_wherever_it_is_torn() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let mut torn = span("torn");
    torn.attributes = vec![text("key", "value")];
    let message = request(vec![torn]).encode_to_vec();
    for end in 1..message.len() {
        let answer = Call::grpc(collector.grpc()).call(framed(&message[..end]));
        assert_eq!(answer.code, tonic::Code::InvalidArgument, "cut at {end}: {}", answer.message);
        let status = Call::http(collector.http()).post(message[..end].to_vec()).expect(400, "");
        assert_eq!(status.message, answer.message);
    }
    collector.finish();
    assert_eq!(sink.received().len(), 0);
}

#[test]
fn malformed_fields_are_refused() {
    let span_of = |fields: &[u8]| bytes(1, bytes(2, bytes(2, fields)));
    let cases: [(&str, Vec<u8>); 7] = [
        ("a name that is no UTF-8", span_of(&bytes(5, [0xff, 0xfe]))),
        ("a name that is a number", span_of(&[5 << 3, 1])),
        ("a start time that is a text", span_of(&bytes(7, "now"))),
        ("field number 0", vec![0, 1]),
        ("wire type 7", vec![1 << 3 | 7, 1]),
        ("a varint without end", vec![0xff; 16]),
        ("a group that does not end", vec![200, 62 | 3]),
    ];
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    for (name, message) in cases {
        let answer = Call::grpc(collector.grpc()).call(framed(&message));
        assert_eq!(answer.code, tonic::Code::InvalidArgument, "{name}: {}", answer.message);
        assert!(!answer.message.is_empty(), "{name}");
        Call::http(collector.http()).post(message).expect(400, "");
    }
    collector.finish();
    assert_eq!(sink.received().len(), 0);
}

#[test]
fn values_nested_without_end_are_refused() {
    let mut value = bytes(1, "deep");
    for _ in 0..10_000 {
        value = bytes(5, bytes(1, value));
    }
    let attribute = [bytes(1, "k"), bytes(2, value)].concat();
    let message = bytes(1, bytes(2, bytes(2, [bytes(2, [1; 8]), bytes(1, [1; 16]), bytes(9, attribute)].concat())));
    let collector = Setup::new().exporter("debug", json!({})).start();
    assert_eq!(Call::grpc(collector.grpc()).call(framed(&message)).code, tonic::Code::InvalidArgument);
    Call::http(collector.http()).post(message).expect(400, "");
    collector.finish();
}

/// A request a little larger than the limit.
fn too_large() -> Vec<u8> {
    let mut large = span("large");
    large.attributes = vec![text("key", &"x".repeat(LIMIT))];
    request(vec![large]).encode_to_vec()
}

fn limited(sink: &Sink) -> Setup {
    limits().into_iter().fold(Setup::line(sink), |setup, (key, value)| setup.set(key, value))
}

#[test]
fn a_request_over_the_limit_is_refused_and_not_to_be_retried() {
    let sink = Sink::start();
    let collector = limited(&sink).start();
    let large = too_large();
    let answer = Call::grpc(collector.grpc()).call(framed(&large));
    answer.expect(tonic::Code::ResourceExhausted, "larger than 1048576 bytes");
    assert_eq!(answer.details.retry_info(), None);
    let answer = Call::http(collector.http()).post(large);
    answer.expect(413, "larger than 1048576 bytes");
    assert_eq!(answer.header("retry-after"), None);
    collector.send(&request(spans(1))).expect_ok();
    collector.finish();
    assert_eq!(sink.received().len(), 1);
}

#[test]
fn the_limit_counts_after_decompression() {
    let sink = Sink::start();
    let collector = limited(&sink).start();
    let small = gzip(&too_large());
    assert!(small.len() < LIMIT / 10);
    let answer = Call::grpc(collector.grpc()).header("grpc-encoding", "gzip").call(frame(1, &small));
    answer.expect(tonic::Code::ResourceExhausted, "larger than 1048576 bytes");
    assert_eq!(answer.details.retry_info(), None);
    Call::http(collector.http())
        .header("content-encoding", "gzip")
        .post(small)
        .expect(413, "larger than 1048576 bytes");
    collector.finish();
    assert_eq!(sink.received().len(), 0);
}

#[test]
fn a_bomb_uses_bounded_memory() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let bomb = gzip(&vec![0; 512 << 20]);
    assert!(bomb.len() < 1 << 20);
    let (_, before) = collector.memory();
    let answer = Call::grpc(collector.grpc()).header("grpc-encoding", "gzip").call(frame(1, &bomb));
    answer.expect(tonic::Code::ResourceExhausted, "larger than 67108864 bytes");
    Call::http(collector.http()).header("content-encoding", "gzip").post(bomb).expect(413, "67108864 bytes");
    let (_, after) = collector.memory();
    // The limit of 64 MiB, a few times over while the buffer grows; the two bombs hold 1 GiB.
    assert!(after < before + (300 << 20), "from {before} to {after} bytes");
    collector.finish();
}

#[test]
fn a_request_just_under_the_usual_limit_is_taken() {
    let sink = Sink::start();
    let exporter = with(to(&sink), [("compression", json!("none"))]);
    let collector = Setup::new().exporter("otlp", exporter).start();
    let mut large = span("large");
    large.attributes = vec![text("key", &"x".repeat((64 << 20) - 1000))];
    let large = request(vec![large]);
    collector.send(&large).expect_ok();
    assert_eq!(all(&sink.only()).len(), 1);
    collector.finish();
}

#[test]
fn the_answer_comes_when_the_destination_has_the_spans() {
    let sink = Sink::start();
    sink.answer(crate::support::Reply::Hold);
    let collector = Setup::line(&sink).start();
    let grpc = collector.start_send(&request(spans(2)));
    let http = collector.start_post(&request(spans(3)));
    sink.wait(2);
    collector.wait_for_metric("vespid_receiver_in_flight_spans", &[], 5);
    assert!(!grpc.is_answered() && !http.is_answered());
    assert_eq!(collector.metrics().sum("otelcol_receiver_accepted_spans", &[]), 0);
    sink.release();
    grpc.answer().expect_ok();
    http.answer().expect_ok();
    collector.finish();
}

#[test]
fn a_slow_sender_holds_nobody_up() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let message = request(spans(1)).encode_to_vec();
    let (grpc_pieces, body) = crate::support::send::pieces();
    let grpc = Call::grpc(collector.grpc()).start_call_of(body);
    let (http_pieces, body) = crate::support::send::pieces();
    let http = Call::http(collector.http()).start_post_of(body);
    let idle = [collector.grpc(), collector.http()].map(crate::support::send::idle_connection);
    for (count, (one, other)) in framed(&message).into_iter().zip(&message).enumerate() {
        grpc_pieces.send(vec![one]);
        http_pieces.send(vec![*other]);
        if count % 20 == 0 {
            collector.send(&request(spans(1))).expect_ok();
        }
    }
    assert!(!grpc.is_answered() && !http.is_answered());
    grpc_pieces.send(message[message.len() - 5..].to_vec());
    drop((grpc_pieces, http_pieces, idle));
    collector.offer(2);
    grpc.answer().expect_ok();
    http.answer().expect_ok();
    collector.finish();
}

#[test]
fn a_connection_that_breaks_within_a_request_costs_that_request_alone() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let message = request(spans(2)).encode_to_vec();
    let half = message.len() / 2;
    let (pieces, body) = crate::support::send::pieces();
    let _grpc = Call::grpc(collector.grpc()).start_call_of(body);
    pieces.send(framed(&message)[..half].to_vec());
    pieces.break_off();
    let (pieces, body) = crate::support::send::pieces();
    let _http = Call::http(collector.http()).start_post_of(body);
    pieces.send(message[..half].to_vec());
    pieces.break_off();
    for _ in 0..3 {
        collector.send(&request(spans(1))).expect_ok();
        collector.post(&request(spans(1))).expect_ok();
    }
    collector.finish();
    assert_eq!(sink.received().len(), 6);
}

#[test]
fn a_sender_that_goes_away_leaves_the_queue() {
    let sink = Sink::start();
    sink.answer(crate::support::Reply::Hold);
    let one = with(to(&sink), [("sending_queue", json!({"num_consumers": 1, "queue_size": 10}))]);
    let collector = Setup::new().exporter("otlp", one).start();
    let first = collector.start_send(&request(spans(1)));
    sink.wait(1);
    let (grpc, http) = (collector.start_send(&request(spans(2))), collector.start_post(&request(spans(3))));
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 3);
    drop((grpc, http));
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 1);
    collector.wait_for_metric("otelcol_receiver_refused_spans", &[], 5);
    sink.release();
    first.answer().expect_ok();
    wait_for("an empty queue", || (collector.metrics().sum("otelcol_exporter_queue_size", &[]) == 0).then_some(()));
    collector.finish();
    assert_eq!(sink.received().len(), 1, "what nobody waits for is not sent");
}
