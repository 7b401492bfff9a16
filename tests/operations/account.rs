//! The account: every span that came in is sent, dropped, rejected or in flight. The
//! harness checks that it balances after every test; these are about each kind of end.

use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::account::{Account, check_last_words};
use crate::support::config::with;
use crate::support::proto::framed;
use crate::support::send::Call;
use crate::support::spans::{spans, text};
use crate::support::{Collector, Reply, Setup, Sink, request, script, span, to, wait_for};

/// Waits until nothing is under way; answers with the account.
#[track_caller]
fn settled(collector: &Collector) -> Account {
    wait_for("the end of all spans", || Some(collector.account()).filter(|account| account.sum("in_flight") == 0))
}

fn without_retries(sink: &Sink) -> Value {
    with(to(sink), [("retry_on_failure", json!({"enabled": false}))])
}

/// An account with one span more or less than came.
fn unbalanced() -> Value {
    json!({
        "balances": true, "received": 3, "copied": 1, "recovered": 0, "sent": 2, "dropped": 0, "rejected": 1,
        "in_flight": 0, "lines": [],
    })
}

#[test]
#[should_panic(expected = "the account does not balance")]
fn an_account_that_lacks_a_span_fails_its_test() {
    Account(unbalanced()).check();
}

#[test]
#[should_panic(expected = "the last account does not balance")]
fn so_do_last_words_that_lack_one() {
    check_last_words(&format!("info\tThe account of all spans\t{}", unbalanced()));
}

#[test]
fn spans_are_in_flight_until_the_destination_has_them() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = Setup::line(&sink).start();
    let pending = collector.start_send(&request(spans(3)));
    sink.wait(1);
    let account = collector.account();
    assert_eq!((account.of("received", "receiver:otlp", None), account.sum("in_flight")), (3, 3));
    assert_eq!(account.sum("sent"), 0);
    assert_eq!(account.0["pipelines"][0]["id"], "traces");
    let delivery = json!([{"exporter": "otlp", "ok_when": "delivered"}]);
    assert_eq!(account.0["pipelines"][0]["delivery"], delivery);
    sink.release();
    pending.answer().expect_ok();
    let account = settled(&collector);
    assert_eq!(account.of("sent", "exporter:otlp", None), 3);
    let metrics = collector.metrics();
    let sent = [("state", "sent"), ("component", "exporter:otlp")];
    assert_eq!(metrics.sum("vespid_account_spans", &sent), 3);
    assert_eq!(metrics.types["vespid_account_in_flight_spans"], "gauge");
    collector.finish();
}

#[test]
fn exporters_on_this_machine_send_too() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Setup::new()
        .exporter("debug", json!({}))
        .exporter("nop", json!({}))
        .exporter("file", json!({"path": folder.path().join("spans.json")}))
        .start();
    collector.send(&request(spans(2))).expect_ok();
    let account = collector.account();
    for exporter in ["debug", "nop", "file"] {
        assert_eq!(account.of("sent", &format!("exporter:{exporter}"), None), 2, "{exporter}");
    }
    assert_eq!((account.sum("received"), account.sum("copied")), (2, 4));
    collector.finish();
}

#[test]
fn what_plugins_drop_and_refuse_is_counted_with_their_reasons() {
    let reject = json!([{"op": "reject", "message": "no"}]);
    for (on_error, state) in [("drop", "dropped"), ("refuse", "rejected")] {
        let sink = Sink::start();
        let drops = script(json!([{"op": "drop", "rows": [0, 2], "reason": "noise"}]));
        let fails = with(script(reject.clone()), [("on_error", json!(on_error))]);
        let collector = Setup::line(&sink).processor("wasm/drops", drops).processor("wasm/fails", fails).start();
        collector.send(&request(spans(5)));
        let account = settled(&collector);
        assert_eq!(account.of("dropped", "processor:wasm/drops", Some("noise")), 2);
        assert_eq!(account.of(state, "processor:wasm/fails", Some("on_error")), 3);
        collector.finish();
    }
}

#[test]
fn spans_without_valid_ids_are_received_and_rejected() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let mut all = spans(4);
    all[1].trace_id = vec![0; 16];
    all[2].span_id = vec![1; 5];
    collector.send(&request(all)).expect_ok();
    let account = settled(&collector);
    assert_eq!((account.sum("received"), account.sum("sent")), (4, 2));
    assert_eq!(account.of("rejected", "receiver:otlp", Some("invalid_ids")), 2);
    collector.finish();
}

#[test]
fn a_request_that_is_malformed_was_never_received() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).start();
    let mut torn = request(spans(2)).encode_to_vec();
    torn.truncate(torn.len() - 1);
    assert_eq!(Call::grpc(collector.grpc()).call(framed(&torn)).code, Code::InvalidArgument);
    assert_eq!(collector.account().sum("received"), 0);
    collector.finish();
}

#[test]
fn what_a_destination_refuses_is_rejected_for_its_reason() {
    let sink = Sink::start();
    let collector = Setup::new().exporter("otlp", without_retries(&sink)).start();
    sink.answer_next([
        Reply::grpc(Code::InvalidArgument, "no"),
        Reply::grpc(Code::Unavailable, "later"),
        Reply::Partial { rejected: 3, message: "old" },
    ]);
    for count in [1, 2, 5] {
        collector.send(&request(spans(count)));
    }
    let account = settled(&collector);
    let rejected = |reason| account.of("rejected", "exporter:otlp", Some(reason));
    assert_eq!(rejected("permanent_error: InvalidArgument"), 1);
    assert_eq!(rejected("retries_exhausted: Unavailable"), 2);
    assert_eq!(rejected("partial_success"), 3);
    assert_eq!(account.sum("sent"), 2, "what was refused was not sent");
    collector.finish();
}

#[test]
fn what_finds_no_room_is_rejected_and_what_waits_is_in_flight() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let queue = json!({"queue_size": 10, "num_consumers": 1, "sizer": "items"});
    let collector = Setup::new().exporter("otlp", with(to(&sink), [("sending_queue", queue)])).start();
    let first = collector.start_send(&request(spans(2)));
    sink.wait(1);
    let second = collector.start_send(&request(spans(7)));
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 9);
    collector.send(&request(spans(4))).expect(Code::Unavailable, "sending queue is full");
    collector.send(&request(spans(11))).expect(Code::Internal, "larger than the queue");
    let account = collector.account();
    assert_eq!((account.sum("received"), account.sum("in_flight")), (24, 9));
    assert_eq!(account.of("rejected", "exporter:otlp", Some("queue_full")), 4);
    assert_eq!(account.of("rejected", "exporter:otlp", Some("too_large")), 11);
    sink.release();
    first.answer().expect_ok();
    second.answer().expect_ok();
    collector.finish();
}

#[test]
fn a_memory_limiter_rejects() {
    let sink = Sink::start();
    let limiter = json!({"check_interval": "10m", "limit_mib": 1});
    let collector = Setup::line(&sink).processor("memory_limiter", limiter).start();
    collector.send(&request(spans(2)));
    assert_eq!(settled(&collector).of("rejected", "processor:memory_limiter", Some("memory_limit")), 2);
    collector.finish();
}

#[test]
fn spans_of_senders_who_go_away_are_canceled_where_they_were() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = Setup::line(&sink).start();
    let gone = collector.start_send(&request(spans(4)));
    sink.wait(1);
    assert_eq!(collector.account().sum("in_flight"), 4);
    drop(gone);
    assert_eq!(settled(&collector).of("rejected", "exporter:otlp", Some("canceled")), 4);
    collector.finish();
    // In an open batch, of which the rest goes on.
    let sink = Sink::start();
    let batch = json!({"timeout": "10m", "send_batch_size": 6});
    let collector = Setup::line(&sink).processor("batch", batch).start();
    let gone = collector.start_send(&request(spans(2)));
    wait_for("the first request", || (collector.account().sum("in_flight") == 2).then_some(()));
    let stays = collector.start_send(&request(spans(3)));
    wait_for("the second request", || (collector.account().sum("in_flight") == 5).then_some(()));
    drop(gone);
    wait_for("the first to leave", || (collector.account().sum("in_flight") == 3).then_some(()));
    collector.send(&request(spans(3))).expect_ok();
    stays.answer().expect_ok();
    let account = settled(&collector);
    assert_eq!(account.of("rejected", "exporter:otlp", Some("canceled")), 2);
    assert_eq!((account.sum("received"), account.sum("sent")), (8, 6));
    collector.finish();
}

#[test]
fn a_copy_for_each_destination_is_a_delivery_of_its_own() {
    let [up, down, beside] = [Sink::start(), Sink::start(), Sink::start()];
    down.answer(Reply::grpc(Code::InvalidArgument, "no"));
    let collector = Setup::new()
        .set("connectors", json!({"forward": {}}))
        .exporter("otlp/up", to(&up))
        .exporter("otlp/down", without_retries(&down))
        .exporter("otlp/beside", to(&beside))
        .pipeline("traces/first", &["otlp"], &[], &["otlp/up", "otlp/down", "forward"])
        .pipeline("traces/behind", &["forward"], &[], &["otlp/up"])
        .pipeline("traces/beside", &["otlp"], &[], &["otlp/beside"])
        .start();
    collector.send(&request(spans(3))).expect(Code::InvalidArgument, "no");
    let account = settled(&collector);
    assert_eq!((account.sum("received"), account.sum("copied")), (3, 9));
    assert_eq!(account.of("sent", "exporter:otlp/up", None), 6);
    assert_eq!(account.of("sent", "exporter:otlp/beside", None), 3);
    assert_eq!(account.of("rejected", "exporter:otlp/down", None), 3);
    collector.finish();
}

#[test]
fn batches_that_are_merged_and_cut_keep_the_account() {
    let sink = Sink::start();
    sink.answer_next([Reply::Accept, Reply::grpc(Code::InvalidArgument, "no")]);
    let batch = json!({"timeout": "10m", "send_batch_size": 10, "send_batch_max_size": 10});
    let one_by_one = json!({"sizer": "items", "queue_size": 100});
    let exporter = with(without_retries(&sink), [("sending_queue", one_by_one)]);
    let collector = Setup::new().processor("batch", batch).exporter("otlp", exporter).start();
    let first = collector.start_send(&request(spans(7)));
    wait_for("the first request", || (collector.account().sum("in_flight") == 7).then_some(()));
    // Twenty-four spans leave as ten, ten and four.
    let second = collector.start_send(&request(spans(17)));
    first.answer().expect_ok();
    second.answer();
    let account = settled(&collector);
    assert_eq!((account.sum("received"), account.sum("sent")), (24, 14));
    assert_eq!(account.of("rejected", "exporter:otlp", Some("permanent_error: InvalidArgument")), 10);
    collector.finish();
}

#[test]
fn a_batch_of_several_tenants_is_several_deliveries() {
    let sink = Sink::start();
    let steps = json!([
        {"op": "set-tenant", "rows": [0, 2], "tenant": "a"},
        {"op": "set-tenant", "rows": [1], "tenant": "b"},
        {"op": "drop", "rows": [4], "reason": "noise"},
    ]);
    sink.answer_next([Reply::Partial { rejected: 1, message: "old" }]);
    let collector = Setup::line(&sink).processor("wasm/tenants", script(steps)).start();
    collector.send(&request(spans(6))).expect_ok();
    assert_eq!(sink.received().len(), 3);
    let account = settled(&collector);
    assert_eq!((account.sum("sent"), account.sum("dropped"), account.sum("rejected")), (4, 1, 1));
    collector.finish();
}

#[test]
fn a_request_that_goes_in_parts_and_a_span_that_never_fits_are_told_apart() {
    let sink = Sink::start();
    let limit = || Reply::grpc(Code::ResourceExhausted, "grpc: received message larger than max (90000 vs. 50000)");
    sink.answer_next([limit(), limit()]);
    let collector = Setup::line(&sink).start();
    let mut large = span("large");
    large.attributes = vec![text("key", &"x".repeat(60_000))];
    let mut all = vec![large];
    all.extend(spans(3));
    collector.send(&request(all)).expect_ok();
    let account = settled(&collector);
    assert_eq!(account.of("rejected", "exporter:otlp", Some("too_large")), 1);
    assert_eq!(account.sum("sent"), 3);
    collector.finish();
}

#[test]
fn every_reading_balances_while_spans_come_and_go_in_all_ways() {
    let [sink, other] = [Sink::start(), Sink::start()];
    let drops = script(json!([{"op": "drop", "rows": [0], "reason": "noise"}]));
    let batch = json!({"timeout": "5ms", "send_batch_size": 20, "send_batch_max_size": 30});
    let collector = Setup::new()
        .processor("wasm/drops", drops)
        .processor("batch", batch)
        .exporter("otlp/one", without_retries(&sink))
        .exporter("otlp/other", without_retries(&other))
        .start();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..4)
            .map(|number: usize| {
                let (collector, sink) = (&collector, &sink);
                scope.spawn(move || {
                    for round in 0..40 {
                        sink.answer_next(match (number + round) % 4 {
                            0 => vec![Reply::Partial { rejected: 2, message: "old" }],
                            1 => vec![Reply::grpc(Code::InvalidArgument, "no")],
                            2 => vec![Reply::grpc(Code::Unavailable, "later")],
                            _ => vec![],
                        });
                        let pending = collector.start_send(&request(spans(1 + round % 9)));
                        // Some go away before they are answered.
                        if round % 5 > 0 {
                            pending.answer();
                        }
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut readings = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || readings < 20 {
                collector.account();
                readings += 1;
            }
        });
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
    });
    let account = settled(&collector);
    assert!(account.of("sent", "exporter:otlp/other", None) > 0, "{:#}", account.0);
    assert!(account.of("rejected", "exporter:otlp/one", Some("partial_success")) > 0, "{:#}", account.0);
    // Of those who went away it is not known whether their spans had come.
    collector.stop();
}
