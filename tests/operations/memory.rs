//! `memory_limiter`: nothing is taken while the process has too much memory.

use prost::Message as _;
use serde_json::json;
use std::time::Duration;
use tonic::Code;

use crate::support::proto::framed;
use crate::support::send::{Call, pieces};
use crate::support::spans::{spans, text};
use crate::support::{Reply, Setup, Sink, request, span, wait_for};

const REFUSED: &str = "data refused due to high memory usage";
const ABOVE: &str = "Memory usage is above soft limit. Refusing data.";
const WITHIN: &str = "Memory usage back within limits. Resuming normal operation.";

#[test]
fn above_its_limit_a_limiter_refuses_for_now() {
    let sink = Sink::start();
    // Less than the process has anyway.
    let limiter = json!({"check_interval": "10m", "limit_mib": 1});
    let mut collector = Setup::line(&sink).processor("memory_limiter", limiter).start();
    let answer = collector.send(&request(spans(2)));
    answer.expect(Code::Unavailable, REFUSED);
    assert_eq!(answer.details.retry_info(), Some(Duration::from_secs(1)));
    let answer = collector.post(&request(spans(3)));
    answer.expect(503, REFUSED);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let metrics = collector.metrics();
    let of = |name: &str| metrics.sum(name, &[("processor", "memory_limiter")]);
    assert_eq!(of("otelcol_processor_memory_limiter_refused_spans"), 5);
    assert_eq!(of("otelcol_processor_memory_limiter_accepted_spans"), 0);
    assert!(collector.wait_for_log(ABOVE).contains("\"cur_mem_mib\""));
    assert!(sink.received().is_empty());
    collector.finish();
}

#[test]
fn below_its_limit_a_limiter_takes_everything() {
    let sink = Sink::start();
    // A number alone is nanoseconds to Go, and taken with a word about it.
    let limiter = json!({"check_interval": 1, "limit_percentage": 100, "spike_limit_percentage": 1});
    let mut collector = Setup::line(&sink).processor("memory_limiter", limiter).start();
    collector.send(&request(spans(4))).expect_ok();
    assert_eq!(collector.metrics().sum("otelcol_processor_memory_limiter_accepted_spans", &[]), 4);
    collector.wait_for_log("which the Collector reads as nanoseconds");
    assert!(!collector.finish().log.contains(ABOVE));
}

#[test]
fn a_limiter_refuses_while_there_is_too_much_and_takes_more_when_there_is_not() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let limiter = json!({"check_interval": "10ms", "limit_mib": 300, "spike_limit_mib": 260});
    let free = json!({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}});
    let mut collector = Setup::line(&sink)
        .receiver("otlp/free", free)
        .processor("memory_limiter", limiter)
        .pipeline("traces/limited", &["otlp"], &["memory_limiter"], &["otlp"])
        .pipeline("traces/free", &["otlp/free"], &[], &["otlp"])
        .start();
    // More than the soft limit is held by a pipeline that has none, and less than an eighth
    // of the limit, which is all that requests get.
    let mut large = span("large");
    large.attributes = vec![text("key", &"x".repeat(17 << 20))];
    let large = framed(&request(vec![large]).encode_to_vec());
    let free = collector.grpc_of("otlp/free");
    collector.offer(2);
    let held: Vec<_> = (0..2).map(|_| Call::grpc(free).start_call(large.clone())).collect();
    sink.wait(2);
    collector.wait_for_log(ABOVE);
    collector.send(&request(spans(1))).expect(Code::Unavailable, REFUSED);
    sink.release();
    held.into_iter().for_each(|pending| drop(pending.answer().expect_ok().clone()));
    collector.wait_for_log(WITHIN);
    sink.answer(Reply::Accept);
    wait_for("a request that is taken", || (collector.send(&request(spans(1))).code == Code::Ok).then_some(()));
    collector.finish();
}

#[test]
fn a_limiter_before_a_receiver_refuses_before_the_body_is_read() {
    let sink = Sink::start();
    let through = json!([{"id": "memory_limiter"}]);
    let collector = Setup::line(&sink)
        .set("extensions.memory_limiter", json!({"check_interval": "10m", "limit_mib": 1}))
        .set("service.extensions", json!(["health_check", "memory_limiter"]))
        .set("receivers.otlp.protocols.grpc.middlewares", through.clone())
        .set("receivers.otlp.protocols.http.middlewares", through)
        .start();
    // Of neither body anything comes.
    let (_grpc_pieces, body) = pieces();
    let answer = Call::grpc(collector.grpc()).start_call_of(body).answer();
    answer.expect(Code::Unavailable, REFUSED);
    assert_eq!(answer.details.retry_info(), Some(Duration::from_secs(1)));
    let (_http_pieces, body) = pieces();
    let answer = Call::http(collector.http()).start_post_of(body).answer();
    answer.expect(503, REFUSED);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(collector.metrics().sum("otelcol_receiver_requests", &[("outcome", "failure")]), 2);
    collector.finish();
}

#[test]
fn an_idle_limiter_before_a_receiver_lets_requests_in() {
    let sink = Sink::start();
    let collector = Setup::line(&sink)
        .set("extensions.memory_limiter/in", json!({"check_interval": "1s", "limit_percentage": 90}))
        .set("service.extensions", json!(["health_check", "memory_limiter/in"]))
        .set("receivers.otlp.protocols.grpc.middlewares", json!([{"id": "memory_limiter/in"}]))
        .start();
    collector.offer(1);
    Call::grpc(collector.grpc()).call(framed(&request(spans(1)).encode_to_vec())).expect_ok();
    collector.finish();
}
