//! The queue and the retries before a destination.

use serde_json::{Value, json};
use tonic::Code;

use crate::support::config::{to_http, with};
use crate::support::sink::Down;
use crate::support::spans::spans;
use crate::support::{Collector, Reply, Setup, Sink, request, to};

/// Each exporter, and what makes its settings.
/// An exporter's type, and its settings for a sink's address.
type Protocol = (&'static str, fn(String) -> Value);

const PROTOCOLS: [Protocol; 2] = [("otlp", to), ("otlphttp", to_http)];

fn start<const N: usize>(sink: &Sink, keys: [(&str, Value); N]) -> Collector {
    Setup::new().exporter("otlp", with(to(sink), keys)).start()
}

#[test]
fn a_destination_that_does_not_answer_in_time_is_given_up_on() {
    let off = ("retry_on_failure", json!({"enabled": false}));
    let slow = ("timeout", json!("100ms"));
    for (id, settings) in PROTOCOLS {
        let sink = Sink::start();
        sink.answer(Reply::Hold);
        let settings = with(settings(sink.to_string()), [off.clone(), slow.clone()]);
        let collector = Setup::new().exporter(id, settings).start();
        collector.send(&request(spans(1))).expect(Code::Unavailable, "did not answer within 100ms");
        collector.finish();
    }
}

#[test]
fn a_timeout_is_retried() {
    let sink = Sink::start();
    sink.answer_next([Reply::Hold]);
    let collector = start(&sink, [("timeout", json!("100ms"))]);
    collector.send(&request(spans(1))).expect_ok();
    sink.wait(2);
    collector.finish();
}

fn comes_up((id, settings): Protocol) {
    let down = Down::new();
    let mut collector = Setup::new().exporter(id, settings(down.address().to_string())).start();
    let pending = collector.start_send(&request(spans(3)));
    let line = collector.wait_for_log("Will retry the request after interval.");
    assert!(line.contains("cannot be reached") && line.contains("efused"), "{line}");
    assert!(!pending.is_answered());
    let sink = down.up();
    pending.answer().expect_ok();
    sink.wait(1);
    collector.finish();
}

#[test]
fn a_destination_that_comes_up_gets_what_waited_over_grpc() {
    comes_up(PROTOCOLS[0]);
}

#[test]
fn a_destination_that_comes_up_gets_what_waited_over_http() {
    comes_up(PROTOCOLS[1]);
}

#[test]
fn a_destination_that_hangs_up_is_tried_again() {
    for (id, settings) in PROTOCOLS {
        let sink = Sink::start();
        sink.answer_next([Reply::HangUp, Reply::HangUp]);
        let collector = Setup::new().exporter(id, settings(sink.to_string())).start();
        collector.send(&request(spans(2))).expect_ok();
        assert_eq!(sink.wait(3).len(), 3, "{id}");
        collector.finish();
    }
}

#[test]
fn retries_end_after_their_time_and_the_sender_hears_it() {
    let sink = Sink::start();
    sink.answer(Reply::grpc(Code::Unavailable, "still down"));
    let collector = start(&sink, [("retry_on_failure.max_elapsed_time", json!("200ms"))]);
    collector.send(&request(spans(4))).expect(Code::Unavailable, "still down");
    assert!(sink.received().len() > 1);
    assert_eq!(collector.metrics().sum("otelcol_exporter_send_failed_spans", &[]), 4);
    assert!(collector.log().contains("Exporting failed. Rejecting data."));
    collector.finish();
}

#[test]
fn a_full_queue_is_told_and_counted() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = start(&sink, [("sending_queue", json!({"queue_size": 2, "num_consumers": 1}))]);
    let first = collector.start_send(&request(spans(1)));
    sink.wait(1);
    let second = collector.start_send(&request(spans(1)));
    collector.wait_for_metric("otelcol_exporter_queue_size", &[("exporter", "otlp")], 2);
    assert_eq!(collector.metrics().sum("otelcol_exporter_queue_capacity", &[]), 2);
    collector.send(&request(spans(3))).expect(Code::Unavailable, "sending queue is full");
    collector.post(&request(spans(4))).expect(503, "sending queue is full");
    assert_eq!(collector.metrics().sum("otelcol_exporter_enqueue_failed_spans", &[]), 7);
    sink.release();
    first.answer().expect_ok();
    second.answer().expect_ok();
    collector.finish();
}

#[test]
fn a_queue_that_blocks_makes_senders_wait() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let queue = json!({"queue_size": 1, "num_consumers": 1, "block_on_overflow": true});
    let collector = start(&sink, [("sending_queue", queue)]);
    let first = collector.start_send(&request(spans(1)));
    sink.wait(1);
    let second = collector.start_send(&request(spans(2)));
    collector.wait_for_metric("vespid_receiver_in_flight_spans", &[], 3);
    assert!(!second.is_answered());
    sink.release();
    first.answer().expect_ok();
    second.answer().expect_ok();
    collector.finish();
}

#[test]
fn a_queue_may_count_spans() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = start(&sink, [("sending_queue", json!({"queue_size": 10, "sizer": "items"}))]);
    collector.send(&request(spans(11))).expect(Code::Internal, "larger than the queue of exporter `otlp`");
    let first = collector.start_send(&request(spans(8)));
    sink.wait(1);
    collector.send(&request(spans(3))).expect(Code::Unavailable, "sending queue is full");
    sink.release();
    collector.send(&request(spans(2))).expect_ok();
    first.answer().expect_ok();
    collector.finish();
}

#[test]
fn one_slow_destination_does_not_hold_another_up() {
    let (slow, fast) = (Sink::start(), Sink::start());
    slow.answer(Reply::Hold);
    let collector = Setup::new()
        .receiver("otlp/fast", json!({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}))
        .exporter("otlp/slow", to(&slow))
        .exporter("otlp/fast", to(&fast))
        .pipeline("traces/slow", &["otlp"], &[], &["otlp/slow"])
        .pipeline("traces/fast", &["otlp/fast"], &[], &["otlp/fast"])
        .start();
    let waiting: Vec<_> = (0..20).map(|_| collector.start_send(&request(spans(1)))).collect();
    slow.wait(10);
    for _ in 0..5 {
        use prost::Message as _;
        collector.offer(1);
        let message = crate::support::proto::framed(&request(spans(1)).encode_to_vec());
        crate::support::send::Call::grpc(collector.grpc_of("otlp/fast")).call(message).expect_ok();
    }
    assert_eq!(slow.received().len(), 10, "at most `num_consumers` at once");
    slow.release();
    waiting.into_iter().for_each(|pending| drop(pending.answer().expect_ok().clone()));
    collector.finish();
}

#[test]
fn headers_of_the_config_go_with_every_request() {
    let headers = json!({"X-Scope-OrgID": "blue", "authorization": "Bearer s3cret"});
    for (id, settings) in PROTOCOLS {
        let sink = Sink::start();
        let settings = with(settings(sink.to_string()), [("headers", headers.clone())]);
        let collector = Setup::new().exporter(id, settings).start();
        collector.send(&request(spans(1))).expect_ok();
        let received = sink.wait(1).pop().unwrap();
        assert_eq!(received.header("x-scope-orgid"), Some("blue"));
        assert_eq!(received.header("authorization"), Some("Bearer s3cret"));
        let ended = collector.finish();
        assert!(!ended.log.contains("s3cret"), "a secret is in the log");
    }
}
