//! When a sender gets its OK, and where that is shown.

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use super::{came, keeping, queued, send_named};
use crate::support::collector::{Process, vespid};
use crate::support::config::with;
use crate::support::sink::Down;
use crate::support::spans::spans;
use crate::support::{Reply, Setup, Sink, request, to, wait_for};

fn early(address: impl ToString, queue: Value) -> Value {
    let mut queue = queue;
    queue["wait_for_result"] = json!(false);
    with(to(address), [("sending_queue", queue)])
}

#[test]
fn an_early_ok_comes_only_where_it_was_asked_for() {
    let down = Down::new();
    let mut collector = Setup::new().exporter("otlp", early(down.address(), json!({"num_consumers": 1}))).start();
    collector.wait_for_log("early OK: senders are answered before the destination has their spans");
    send_named(&collector, ["one", "two", "three"]);
    let queue = || collector.metrics().sum("otelcol_exporter_queue_size", &[("exporter", "otlp")]);
    assert_eq!(queue(), 3);
    let sink = down.up();
    sink.wait(3);
    assert_eq!(came(&sink), ["one", "two", "three"]);
    wait_for("an empty queue", || (queue() == 0).then_some(()));
    collector.finish();

    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = Setup::line(&sink).start();
    let waiting = collector.start_send(&request(spans(1)));
    sink.wait(1);
    assert!(!waiting.is_answered(), "nobody asked for an early OK");
    sink.release();
    waiting.answer().expect_ok();
    collector.finish();
}

#[test]
fn an_early_queue_is_bounded_and_what_it_loses_is_told() {
    let sink = Sink::start();
    sink.answer(Reply::grpc(Code::Unavailable, "still down"));
    let retry = ("retry_on_failure", json!({"initial_interval": "1h", "max_interval": "1h", "max_elapsed_time": "0s"}));
    let exporter = with(early(&sink, json!({"queue_size": 2, "num_consumers": 1})), [retry]);
    let mut collector = Setup::new().exporter("otlp", exporter).start();
    collector.send(&request(spans(2))).expect_ok();
    collector.send(&request(spans(2))).expect_ok();
    collector.send(&request(spans(2))).expect(Code::Unavailable, "sending queue is full");
    collector.wait_for_log("Will retry the request after interval.");
    let ended = collector.stop();
    let line = ended.log.lines().find(|line| line.contains("Dropping data")).expect(&ended.log);
    assert!(line.contains("\"dropped_items\": 4"), "{line}");
}

#[test]
fn an_early_queue_is_sent_out_at_the_shutdown() {
    let sink = Sink::start();
    sink.answer_next([Reply::Hold]);
    let collector = Setup::new().exporter("otlp", early(&sink, json!({"num_consumers": 1}))).start();
    send_named(&collector, ["one", "two", "three"]);
    sink.wait(1);
    collector.process.signal(libc::SIGTERM);
    sink.release();
    let ended = collector.process.wait();
    assert_eq!(came(&sink), ["one", "two", "three"]);
    assert!(!ended.log.contains("Dropping data"), "{}", ended.log);
}

#[test]
fn a_sender_that_gives_up_takes_its_request_out_of_the_queue() {
    let sink = Sink::start();
    sink.answer_next([Reply::Hold]);
    let queue = ("sending_queue", json!({"num_consumers": 1}));
    let collector = Setup::new().exporter("otlp", with(to(&sink), [queue])).start();
    let first = collector.start_send(&request(vec![crate::support::span("first")]));
    sink.wait(1);
    let second = collector.start_send(&request(vec![crate::support::span("second")]));
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 2);
    drop(second);
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 1);
    sink.release();
    first.answer().expect_ok();
    send_named(&collector, ["third"]);
    assert_eq!(came(&sink), ["first", "third"]);
    collector.stop();
}

#[test]
fn validate_shows_the_mode_of_each_pipeline_in_a_line() {
    let folder = TempDir::new().unwrap();
    let text = keeping(folder.path())
        .exporter("otlp", to("tempo:4317"))
        .exporter("otlp/disk", queued("tempo:4317", json!({})))
        .exporter("otlp/early", early("tempo:4317", json!({})))
        .pipeline("traces/a", &["otlp"], &[], &["otlp"])
        .pipeline("traces/b", &["otlp"], &[], &["otlp", "otlp/disk"])
        .pipeline("traces/c", &["otlp"], &[], &["otlp/early", "otlp/disk"])
        .pipeline("traces/d", &["otlp"], &[], &["otlp/early"])
        .text();
    let ended = Process::spawn(&mut vespid(&["validate", &format!("--config=yaml:{text}")])).wait();
    assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""));
    let expected = "\
traces/a: otlp → otlp; a sender gets its OK when every exporter's destination has the spans
traces/b: otlp → otlp, otlp/disk; a sender gets its OK when the destination of otlp has the spans and the destination of otlp/disk has them or they are synced to file_storage
traces/c: otlp → otlp/early, otlp/disk; a sender gets its OK when the destination of otlp/disk has them or they are synced to file_storage; early OK from otlp/early: a crash loses what they have not sent
traces/d: otlp → otlp/early; early OK from otlp/early: a crash loses what they have not sent
";
    let mut lines: Vec<&str> = ended.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
}
