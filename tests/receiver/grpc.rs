//! What is gRPC's own.

use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use tonic::Code;

use crate::support::proto::{frame, framed};
use crate::support::send::{Call, GrpcAnswer, export_call, http2, whole};
use crate::support::spans::spans;
use crate::support::{Collector, Reply, Setup, Sink, request};

fn discarding() -> Collector {
    Setup::new().exporter("debug", json!({})).start()
}

fn message() -> Vec<u8> {
    request(spans(1)).encode_to_vec()
}

#[test]
fn other_services_and_methods_are_unimplemented() {
    let collector = discarding();
    for path in [
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/",
    ] {
        let answer = Call::grpc(collector.grpc()).path(path).call(framed(&[]));
        answer.expect(Code::Unimplemented, "traces only");
    }
    collector.finish();
}

#[test]
fn a_call_carries_one_message_exactly() {
    let collector = discarding();
    let call = |body: Vec<u8>| Call::grpc(collector.grpc()).call(body);
    call(vec![]).expect(Code::InvalidArgument, "before a whole message came");
    call(vec![0, 0]).expect(Code::InvalidArgument, "before a whole message came");
    call(framed(&message())[..20].to_vec()).expect(Code::InvalidArgument, "before a whole message came");
    call([framed(&message()), framed(&message())].concat()).expect(Code::InvalidArgument, "more than one message");
    call([framed(&message()), vec![0]].concat()).expect(Code::InvalidArgument, "more than one message");
    collector.finish();
}

#[test]
fn a_message_that_claims_more_than_the_limit_is_refused_before_it_comes() {
    let collector = discarding();
    let (pieces, body) = crate::support::send::pieces();
    let call = Call::grpc(collector.grpc()).start_call_of(body);
    pieces.send(vec![0, 0xff, 0xff, 0xff, 0xff]);
    call.answer().expect(Code::ResourceExhausted, "larger than 67108864 bytes");
    collector.finish();
}

#[test]
fn compression_that_is_not_understood_is_told_so() {
    let collector = discarding();
    let call = |encoding: &str, flag, content: &[u8]| -> GrpcAnswer {
        Call::grpc(collector.grpc()).header("grpc-encoding", encoding).call(frame(flag, content))
    };
    call("br", 1, b"xxxx").expect(Code::Unimplemented, "`br` is not a compression");
    call("", 1, b"xxxx").expect(Code::Internal, "no `grpc-encoding`");
    call("gzip", 1, b"xxxx").expect(Code::InvalidArgument, "is not gzip");
    let torn = crate::support::proto::gzip(&message());
    call("gzip", 1, &torn[..torn.len() - 6]).expect(Code::InvalidArgument, "is not gzip");
    call("gzip", 2, &message()).expect(Code::InvalidArgument, "neither 0 nor 1");
    collector.offer(1);
    call("gzip", 0, &message()).expect_ok();
    collector.finish();
}

#[test]
fn the_calls_deadline_ends_the_wait_for_the_destination() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = Setup::line(&sink).start();
    collector.offer(1);
    let began = std::time::Instant::now();
    let answer = Call::grpc(collector.grpc()).header("grpc-timeout", "300m").call(framed(&message()));
    answer.expect(Code::DeadlineExceeded, "deadline passed");
    assert!(began.elapsed() >= Duration::from_millis(300));
    sink.wait(1);
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    sink.release();
    collector.finish();
}

#[test]
fn calls_on_one_connection_are_handled_at_once() {
    let sink = Sink::start();
    sink.answer_next([Reply::Hold]);
    let collector = Setup::line(&sink).start();
    collector.offer(2);
    crate::support::runtime().block_on(async {
        let (sender, _connection) = http2(collector.grpc()).await;
        let call = || {
            let call = export_call(whole(framed(&message())));
            let mut sender = sender.clone();
            async move { sender.send_request(call).await.unwrap() }
        };
        let first = tokio::spawn(call());
        while sink.received().is_empty() {
            tokio::task::yield_now().await;
        }
        call().await;
        assert!(!first.is_finished());
        sink.release();
        first.await.unwrap();
    });
    collector.finish();
}

#[test]
fn what_is_no_grpc_is_told_so() {
    let collector = discarding();
    let answer = Call::http(collector.grpc()).post_http2("");
    assert_eq!(answer.status, 415);
    collector.finish();
}
