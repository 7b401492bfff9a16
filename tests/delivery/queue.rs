//! The queue on the disk: what was answered OK arrives, once, in order, as whose it was.

use prost::Message as _;
use serde_json::json;
use tempfile::TempDir;
use tonic::Code;

use super::{came, files, keeping, kill, late, line, queued, send_named, wait_for_settled};
use crate::support::config::with;
use crate::support::proto::framed;
use crate::support::send::Call;
use crate::support::sink::Down;
use crate::support::spans::{names, spans};
use crate::support::{Reply, Setup, Sink, request, script, span, to, wait_for};

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

#[test]
fn a_sender_gets_its_ok_when_the_disk_has_its_spans_and_the_destination_gets_them_when_it_is_up() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let collector = line(folder.path(), down.address()).start();
    send_named(&collector, NAMES);
    let metrics = collector.metrics();
    assert_eq!(metrics.sum("otelcol_exporter_queue_size", &[("exporter", "otlp")]), 5);
    assert_eq!(metrics.sum("otelcol_exporter_queue_capacity", &[]), 1000);
    assert!(metrics.sum("vespid_exporter_queue_disk_bytes", &[("exporter", "otlp")]) > 5 * 100);
    let sink = down.up();
    sink.wait(5);
    assert_eq!(came(&sink), NAMES);
    collector.finish();
    assert_eq!(files(folder.path(), "log").len(), 0, "nothing is left");
}

#[test]
fn a_killed_collector_goes_on_in_order_where_it_was() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let setup = || line(folder.path(), down.address());
    let collector = setup().start();
    send_named(&collector, NAMES);
    kill(collector);
    // Once more, in the midst of its tries.
    let mut collector = setup().start();
    collector.wait_for_log("Will retry the request after interval.");
    send_named(&collector, ["six"]);
    kill(collector);
    let collector = setup().start();
    let sink = down.up();
    sink.wait(6);
    assert_eq!(came(&sink), [NAMES.as_slice(), &["six"]].concat());
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    collector.stop();
}

#[test]
fn what_was_delivered_before_a_kill_is_not_sent_again() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    sink.answer_next([late(), late()]);
    sink.answer(Reply::Hold);
    let collector = line(folder.path(), &sink).start();
    send_named(&collector, NAMES);
    sink.wait(3);
    wait_for_settled(folder.path(), 2);
    kill(collector);
    let other = Sink::start();
    let collector = line(folder.path(), &other).start();
    other.wait(3);
    assert_eq!(came(&other), NAMES[2..]);
    collector.stop();
}

#[test]
fn tenant_metadata_and_identity_are_kept_with_the_request() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let tenant = script(json!([{"op": "set-tenant", "rows": "all", "tenant": "blue"}]));
    let setup = || {
        let protocols = json!({"grpc": {
            "endpoint": "127.0.0.1:0", "include_metadata": true, "auth": {"authenticator": "basicauth"},
        }});
        let rules = json!([
            {"key": "x-team", "action": "upsert", "from_context": "x-team"},
            {"key": "x-user", "action": "upsert", "from_attribute": "username"},
        ]);
        let exporter = with(queued(down.address(), json!({})), [("auth.authenticator", json!("headers_setter"))]);
        keeping(folder.path())
            .set("receivers.otlp.protocols", protocols)
            .set("extensions.basicauth", json!({"htpasswd": {"inline": "ann:secret"}}))
            .set("extensions.headers_setter", json!({"headers": rules}))
            .set("service.extensions", json!(["health_check", "file_storage", "basicauth", "headers_setter"]))
            .processor("wasm/tenant", tenant.clone())
            .exporter("otlp", exporter)
    };
    let collector = setup().start();
    let call = Call::grpc(collector.grpc()).header("x-team", "wasps").header("authorization", "Basic YW5uOnNlY3JldA==");
    call.call(framed(&request(spans(1)).encode_to_vec())).expect_ok();
    kill(collector);
    let collector = setup().start();
    let sink = down.up();
    let received = sink.wait(1).pop().unwrap();
    assert_eq!(received.header("x-scope-orgid"), Some("blue"));
    assert_eq!(received.header("x-team"), Some("wasps"));
    assert_eq!(received.header("x-user"), Some("ann"));
    collector.stop();
}

#[test]
fn a_full_queue_refuses_and_one_that_blocks_waits() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let queue = json!({"queue_size": 3, "sizer": "items"});
    let collector = keeping(folder.path()).exporter("otlp", queued(down.address(), queue)).start();
    collector.send(&request(spans(4))).expect(Code::Internal, "larger than the queue of exporter `otlp`");
    collector.send(&request(spans(2))).expect_ok();
    collector.send(&request(spans(2))).expect(Code::Unavailable, "sending queue is full");
    assert_eq!(collector.metrics().sum("otelcol_exporter_enqueue_failed_spans", &[]), 6);
    let sink = down.up();
    sink.wait(1);
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    collector.send(&request(spans(2))).expect_ok();
    collector.finish();

    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let queue = json!({"queue_size": 1, "block_on_overflow": true});
    let collector = keeping(folder.path()).exporter("otlp", queued(down.address(), queue)).start();
    collector.send(&request(spans(1))).expect_ok();
    let waiting = collector.start_send(&request(spans(1)));
    collector.wait_for_metric("vespid_receiver_in_flight_spans", &[], 1);
    assert!(!waiting.is_answered());
    let sink = down.up();
    waiting.answer().expect_ok();
    sink.wait(2);
    collector.finish();
}

#[test]
fn what_cannot_be_delivered_in_its_time_is_dropped_counted_and_told() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    sink.answer(Reply::grpc(Code::Unavailable, "still down"));
    let exporter = with(queued(&sink, json!({})), [("retry_on_failure.max_elapsed_time", json!("200ms"))]);
    let mut collector = keeping(folder.path()).exporter("otlp", exporter).start();
    collector.send(&request(spans(3))).expect_ok();
    let line = collector.wait_for_log("Exporting failed. Dropping data.");
    assert!(line.contains("\"dropped_items\": 3") && line.contains("still down"), "{line}");
    collector.wait_for_metric("otelcol_exporter_send_failed_spans", &[], 3);
    collector.finish();
    assert_eq!(files(folder.path(), "log").len(), 0);
}

#[test]
fn what_the_destination_will_never_take_is_dropped_at_once() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    sink.answer(Reply::grpc(Code::Unavailable, "not yet"));
    let mut collector = line(folder.path(), &sink).start();
    send_named(&collector, ["bad", "good"]);
    sink.answer_next([Reply::grpc(Code::InvalidArgument, "no")]);
    sink.answer(Reply::Accept);
    collector.wait_for_log("Exporting failed. Dropping data.");
    collector.wait_for_metric("otelcol_exporter_sent_spans", &[], 1);
    assert_eq!(came(&sink).last().unwrap(), "good");
    collector.finish();
}

#[test]
fn what_the_destination_takes_in_time_is_not_written_and_its_sender_hears_what_became_of_it() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    let collector = line(folder.path(), &sink).start();
    send_named(&collector, NAMES);
    // Without an OK the sender has it still, and nothing is lost.
    sink.answer_next([Reply::grpc(Code::InvalidArgument, "no"), Reply::Partial { rejected: 1, message: "late" }]);
    collector.send(&request(vec![span("bad")])).expect(Code::InvalidArgument, "no");
    let partly = collector.send(&request(spans(2))).expect_ok().partial_success.clone().unwrap();
    assert_eq!((partly.rejected_spans, partly.error_message.as_str()), (1, "late"));
    assert_eq!(files(folder.path(), "log").len(), 0, "nothing was written");
    assert_eq!(collector.account().sum("sent"), 6);
    kill(collector);
    let other = Sink::start();
    let collector = line(folder.path(), &other).start();
    send_named(&collector, ["new"]);
    assert_eq!(came(&other), ["new"]);
    collector.stop();
}

#[test]
fn a_part_of_a_request_that_is_refused_for_good_does_not_take_the_rest_with_it() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    let collector = line(folder.path(), &sink).start();
    let too_large = Reply::grpc(Code::ResourceExhausted, "RATE_LIMITED: batch size (9 bytes) exceeds ingestion limit");
    sink.answer_next([too_large, Reply::grpc(Code::PermissionDenied, "not these")]);
    collector.send(&request(NAMES.map(span).to_vec())).expect_ok();
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    // First comes the whole, then a part that is refused, then the others.
    assert_eq!(came(&sink)[NAMES.len()..], NAMES);
    let refused = names(&sink.received()[1].request()).len();
    assert_eq!(collector.metrics().sum("otelcol_exporter_send_failed_spans", &[]), refused as u64);
    collector.stop();
}

#[test]
fn a_request_that_fails_during_the_shutdown_stays_on_the_disk() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    sink.answer(Reply::grpc(Code::Unavailable, "still down"));
    let slow = json!({"initial_interval": "1h", "max_interval": "1h", "max_elapsed_time": "0s"});
    let exporter = with(queued(&sink, json!({"num_consumers": 1})), [("retry_on_failure", slow)]);
    let mut collector = keeping(folder.path()).exporter("otlp", exporter).start();
    send_named(&collector, NAMES);
    collector.wait_for_log("Will retry the request after interval.");
    assert_eq!(sink.received().len(), 1);
    let ended = collector.stop();
    assert!(!ended.log.contains("Dropping data"), "{}", ended.log);
    let line = ended.log.lines().find(|line| line.contains("these wait on the disk for the next start")).unwrap();
    assert!(line.contains("\"requests\": 5") && line.contains("exporter_otlp"), "{line}");
    let other = Sink::start();
    let collector = line_to(folder.path(), &other);
    other.wait(5);
    assert_eq!(came(&other), NAMES);
    collector.finish_with(5);
}

/// A collector whose account begins with what is in its queue.
struct Resumed(crate::support::Collector);

fn line_to(folder: &std::path::Path, sink: &Sink) -> Resumed {
    Resumed(line(folder, sink).start())
}

impl Resumed {
    #[track_caller]
    fn finish_with(self, spans: u64) {
        self.0.wait_for_metric("otelcol_exporter_sent_spans", &[], spans);
        self.0.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
        self.0.stop();
    }
}

#[test]
fn a_shutdown_sends_what_it_can_and_the_grace_periods_end_leaves_the_rest_on_the_disk() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    sink.answer_next([Reply::Hold, Reply::Accept, Reply::Accept]);
    let collector = line(folder.path(), &sink).start();
    send_named(&collector, NAMES[..3].iter().copied());
    sink.wait(1);
    collector.process.signal(libc::SIGTERM);
    sink.release();
    let ended = collector.process.wait();
    assert!(ended.log.contains("everything accepted has been answered for"), "{}", ended.log);
    assert_eq!(came(&sink), NAMES[..3]);

    let held = Sink::start();
    held.answer(Reply::Hold);
    let collector = line(folder.path(), &held).argument("--grace-period=300ms").start();
    send_named(&collector, NAMES);
    held.wait(1);
    let ended = collector.stop();
    assert!(ended.log.contains("these wait on the disk for the next start"), "{}", ended.log);
    let other = Sink::start();
    let collector = line_to(folder.path(), &other);
    other.wait(5);
    assert_eq!(came(&other), NAMES);
    collector.finish_with(5);
}

#[test]
fn batches_are_made_of_what_is_queued_and_each_request_is_settled_for_itself() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let batch = json!({"min_size": 5, "max_size": 5, "flush_timeout": "1h"});
    let queue = json!({"num_consumers": 1, "batch": batch});
    let setup = || keeping(folder.path()).exporter("otlp", queued(down.address(), queue.clone()));
    let collector = setup().start();
    for _ in 0..5 {
        collector.send(&request(spans(2))).expect_ok();
    }
    kill(collector);
    let collector = setup().start();
    collector.send(&request(spans(2))).expect_ok();
    let sink = down.up();
    wait_for("all spans", || (came(&sink).len() == 12).then_some(()));
    assert!(sink.received().iter().all(|it| crate::support::spans::all(&it.request()).len() <= 5));
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    let ended = collector.stop();
    assert!(!ended.log.contains("wait on the disk"), "{}", ended.log);
}

#[test]
fn a_queue_whose_exporter_has_left_the_config_is_told_and_kept() {
    let (folder, down) = (TempDir::new().unwrap(), Down::new());
    let collector = line(folder.path(), down.address()).start();
    send_named(&collector, ["kept"]);
    kill(collector);
    let (other, setup) = (Sink::start(), || keeping(folder.path()));
    let mut collector = setup().exporter("otlp/other", queued(&other, json!({}))).start();
    let line = collector.wait_for_log("a queue is kept here whose exporter this config does not have");
    assert!(line.contains("exporter_otlp"), "{line}");
    send_named(&collector, ["new"]);
    other.wait(1);
    collector.finish();
    assert_eq!(came(&other), ["new"]);
    let sink = down.up();
    let collector = setup().exporter("otlp", queued(&sink, json!({}))).start();
    sink.wait(1);
    assert_eq!(came(&sink), ["kept"]);
    collector.stop();
}

#[test]
fn one_slow_destination_with_a_storage_neither_blocks_another_one_nor_repeats_it() {
    let (folder, slow, fast) = (TempDir::new().unwrap(), Sink::start(), Sink::start());
    slow.answer(Reply::Hold);
    let collector =
        keeping(folder.path()).exporter("otlp", queued(&slow, json!({}))).exporter("otlp/fast", to(&fast)).start();
    send_named(&collector, NAMES);
    assert_eq!(came(&fast), NAMES);
    slow.release();
    slow.wait(5);
    assert_eq!(fast.received().len(), 5);
    collector.finish();
}

#[test]
fn two_collectors_do_not_share_a_queue() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    let first = line(folder.path(), &sink).start();
    let log = line(folder.path(), &sink).set("extensions.file_storage.timeout", json!("50ms")).refused();
    assert!(log.contains("exporters.otlp.sending_queue: the queue cannot be kept in file_storage"), "{log}");
    assert!(log.contains("is in use by another process") && log.contains("`directory` of its own"), "{log}");
    // A check of the same config is no second collector.
    let text = line(folder.path(), &sink).text();
    let mut check = crate::support::collector::vespid(&["validate", &format!("--config=yaml:{text}")]);
    assert_eq!(crate::support::collector::Process::spawn(&mut check).wait().code, Some(0));
    first.finish();
}

#[test]
fn a_storage_is_found_or_its_lack_is_told() {
    let sink = Sink::start();
    let unlisted = Setup::new().exporter("otlp", queued(&sink, json!({}))).refused();
    assert!(unlisted.contains("exporters.otlp.sending_queue.storage"), "{unlisted}");
    assert!(unlisted.contains("storage not found"), "{unlisted}");
    let folder = TempDir::new().unwrap();
    let missing = line(&folder.path().join("missing"), &sink).refused();
    assert!(missing.contains("extensions.file_storage.directory: directory must exist"), "{missing}");
    let waits = keeping(folder.path()).exporter("otlp", queued(&sink, json!({"wait_for_result": true}))).refused();
    assert!(waits.contains("is not supported with `storage`"), "{waits}");
    let made =
        line(&folder.path().join("a/b"), &sink).set("extensions.file_storage.create_directory", json!(true)).start();
    made.send(&request(vec![span("made")])).expect_ok();
    sink.wait(1);
    made.finish();
}

#[test]
fn what_a_queue_holds_goes_to_the_destination_of_the_next_config() {
    let folder = TempDir::new().unwrap();
    let (down, up) = (Down::new(), Sink::start());
    let collector = line(folder.path(), down.address()).start();
    send_named(&collector, ["one", "two"]);
    collector.reload(line(folder.path(), &up));
    send_named(&collector, ["three"]);
    wait_for("all of it at the new destination", || (came(&up).len() == 3).then_some(()));
    let mut names = came(&up);
    names.sort();
    assert_eq!(names, ["one", "three", "two"]);
    collector.stop();
}

/// Sends all names to a collector whose destination is down, leads it to another one, and
/// expects each there once.
fn reloads_to_another_destination(setup: impl Fn(String) -> Setup) {
    let (down, sink) = (Down::new(), Sink::start());
    let mut collector = setup(down.address().to_string()).argument("--grace-period=500ms").start();
    send_named(&collector, NAMES[..4].iter().copied());
    collector.wait_for_log("Will retry the request after interval.");
    collector.reload(setup(sink.to_string()));
    send_named(&collector, NAMES[4..].iter().copied());
    // The former exporter's tries end with its grace; the new one has what that had.
    sink.wait(5);
    let mut came = came(&sink);
    came.sort_unstable();
    let mut expected = NAMES;
    expected.sort_unstable();
    assert_eq!(came, expected);
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    collector.finish();
}

#[test]
fn a_reload_goes_on_with_the_same_queue_and_sends_nothing_twice() {
    let folder = TempDir::new().unwrap();
    reloads_to_another_destination(|address| line(folder.path(), address));
    assert_eq!(files(folder.path(), "log").len(), 0);
}

#[test]
fn a_reload_keeps_what_is_in_an_early_queue() {
    let early = json!({"wait_for_result": false, "num_consumers": 1});
    reloads_to_another_destination(|address| {
        Setup::new().exporter("otlp", with(to(address), [("sending_queue", early.clone())]))
    });
}

#[test]
fn keys_without_a_meaning_here_are_taken_with_a_warning() {
    let (folder, sink) = (TempDir::new().unwrap(), Sink::start());
    let collector = line(folder.path(), &sink)
        .set("extensions.file_storage.fsync", json!(false))
        .set("extensions.file_storage.recreate", json!(true))
        .set(
            "extensions.file_storage.compaction",
            json!({"on_start": true, "directory": "/tmp", "check_interval": "5s"}),
        )
        .start();
    for key in ["fsync", "recreate", "compaction"] {
        let told = format!("extensions.file_storage.{key}: has no effect");
        assert!(collector.log().contains(&told), "{}", collector.log());
    }
    collector.finish();
}
