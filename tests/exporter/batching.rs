//! Batches: requests that leave together, each answered for itself.

use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::collector::Collector;
use crate::support::config::with;
use crate::support::proto::framed;
use crate::support::send::{Call, GrpcAnswer, Pending};
use crate::support::spans::{Request, all, names, spans, text};
use crate::support::{Reply, Setup, Sink, request, script, span, to, wait_for};

const IN_FLIGHT: &str = "vespid_receiver_in_flight_spans";

/// Batches of that many spans; time alone completes none before the test gives up.
fn patient(size: usize) -> Value {
    json!({"timeout": "10m", "send_batch_size": size})
}

fn start(sink: &Sink, batch: Value) -> Collector {
    Setup::line(sink).processor("batch", batch).start()
}

/// Starts a request that is in the open batch when this returns.
#[track_caller]
fn join(collector: &Collector, count: usize, in_flight: u64) -> Pending<GrpcAnswer> {
    let pending = collector.start_send(&request(spans(count)));
    collector.wait_for_metric(IN_FLIGHT, &[], in_flight);
    pending
}

/// How many spans each request to the destination had, and that none came twice.
fn sizes(sink: &Sink, requests: usize) -> Vec<usize> {
    let requests: Vec<Request> = sink.wait(requests).iter().map(|received| received.request()).collect();
    let mut ids: Vec<_> = requests.iter().flat_map(all).map(|span| span.span_id.clone()).collect();
    let before = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), before, "a span came twice");
    requests.iter().map(|request| all(request).len()).collect()
}

#[test]
fn requests_leave_together_when_they_are_enough() {
    let sink = Sink::start();
    let collector = start(&sink, patient(6));
    let first = join(&collector, 2, 2);
    let second = join(&collector, 3, 5);
    assert!(!first.is_answered() && sink.received().is_empty());
    collector.send(&request(spans(1))).expect_ok();
    first.answer().expect_ok();
    second.answer().expect_ok();
    assert_eq!(sizes(&sink, 1), [6]);
    let metrics = collector.metrics();
    let of = |name: &str| metrics.sum(name, &[("processor", "batch")]);
    assert_eq!(of("otelcol_processor_batch_batch_size_trigger_send"), 1);
    assert_eq!(of("otelcol_processor_batch_timeout_trigger_send"), 0);
    assert_eq!(of("otelcol_processor_batch_batch_send_size_sum"), 6);
    assert_eq!(of("otelcol_processor_batch_batch_send_size_count"), 1);
    assert_eq!(of("otelcol_processor_batch_metadata_cardinality"), 0);
    collector.finish();
}

#[test]
fn requests_leave_when_they_have_waited_long_enough() {
    let sink = Sink::start();
    let collector = start(&sink, json!({"timeout": "50ms", "send_batch_size": 100}));
    collector.send(&request(spans(2))).expect_ok();
    collector.post(&request(spans(3))).expect_ok();
    assert_eq!(sizes(&sink, 2), [2, 3]);
    assert_eq!(collector.metrics().sum("otelcol_processor_batch_timeout_trigger_send", &[]), 2);
    collector.finish();
}

#[test]
fn without_a_timeout_nothing_waits() {
    let sink = Sink::start();
    let collector = start(&sink, json!({"timeout": "0s", "send_batch_size": 100}));
    collector.send(&request(spans(2))).expect_ok();
    assert_eq!(sizes(&sink, 1), [2]);
    collector.finish();
}

#[test]
fn nobody_hears_ok_before_the_destination_has_the_batch() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = start(&sink, patient(4));
    let (first, second) = (join(&collector, 2, 2), join(&collector, 2, 4));
    sink.wait(1);
    assert!(!first.is_answered() && !second.is_answered());
    sink.release();
    first.answer().expect_ok();
    second.answer().expect_ok();
    collector.finish();
}

#[test]
fn batches_are_cut_at_their_largest_size() {
    let sink = Sink::start();
    let collector = start(&sink, with(patient(4), [("send_batch_max_size", json!(5))]));
    collector.send(&request(spans(12))).expect_ok();
    let mut sizes = sizes(&sink, 3);
    sizes.sort();
    assert_eq!(sizes, [2, 5, 5]);
    collector.finish();
}

#[test]
fn a_batch_that_would_grow_too_large_to_send_leaves_before_it_does() {
    let sink = Sink::start();
    let collector = start(&sink, patient(100));
    let mut large = span("large");
    large.attributes = vec![text("key", &"x".repeat(40 << 20))];
    let large = request(vec![large]);
    let first = collector.start_send(&large);
    collector.wait_for_metric(IN_FLIGHT, &[], 1);
    let second = collector.start_send(&large);
    first.answer().expect_ok();
    collector.wait_for_metric(IN_FLIGHT, &[], 1);
    assert!(!second.is_answered());
    collector.stop();
    second.answer().expect_ok();
    assert_eq!(sink.received().len(), 2);
}

/// Batches of four, which leave one after the other.
fn fours(sink: &Sink, retry: bool) -> Collector {
    let one = json!({"num_consumers": 1});
    let exporter = with(to(sink), [("sending_queue", one), ("retry_on_failure.enabled", json!(retry))]);
    let batch = with(patient(4), [("send_batch_max_size", json!(4))]);
    Setup::new().processor("batch", batch).exporter("otlp", exporter).start()
}

#[test]
fn a_part_that_is_refused_fails_the_requests_that_have_spans_in_it_alone() {
    let sink = Sink::start();
    let collector = fours(&sink, false);
    // Three and one of five, then the other four.
    sink.answer_next([Reply::Accept, Reply::grpc(Code::InvalidArgument, "bad spans")]);
    let first = join(&collector, 3, 3);
    collector.send(&request(spans(5))).expect(Code::InvalidArgument, "bad spans");
    first.answer().expect_ok();
    sink.answer_next([Reply::grpc(Code::Unavailable, "busy"), Reply::Accept]);
    let first = join(&collector, 3, 3);
    collector.send(&request(spans(5))).expect(Code::Unavailable, "busy");
    first.answer().expect(Code::Unavailable, "busy");
    assert_eq!(sizes(&sink, 4), [4, 4, 4, 4]);
    collector.finish();
}

#[test]
fn a_batch_is_retried_as_a_whole() {
    let sink = Sink::start();
    let collector = fours(&sink, true);
    sink.answer_next([Reply::HangUp, Reply::grpc(Code::Unavailable, "busy")]);
    let first = join(&collector, 1, 1);
    collector.send(&request(spans(3))).expect_ok();
    first.answer().expect_ok();
    let received = sink.wait(3);
    assert_eq!(received[0].message, received[2].message);
    collector.finish();
}

#[test]
fn rejected_spans_of_a_batch_are_told_to_its_senders_once() {
    let sink = Sink::start();
    sink.answer(Reply::Partial { rejected: 4, message: "too old" });
    let collector = start(&sink, patient(8));
    let (first, second) = (join(&collector, 3, 3), join(&collector, 3, 6));
    let third = collector.send(&request(spans(2)));
    assert_eq!(third.expect_ok().partial_success, None);
    let told = |answer: GrpcAnswer| answer.expect_ok().partial_success.clone().unwrap();
    let (first, second) = (told(first.answer()), told(second.answer()));
    assert_eq!([first.rejected_spans, second.rejected_spans], [3, 1]);
    assert!(first.error_message.contains("too old") && second.error_message.contains("too old"));
    collector.finish();
}

#[test]
fn a_sender_that_goes_away_takes_its_spans_out_of_the_open_batch() {
    let sink = Sink::start();
    let collector = start(&sink, patient(6));
    let gone = join(&collector, 4, 4);
    drop(gone);
    collector.wait_for_metric(IN_FLIGHT, &[], 0);
    let stays = join(&collector, 3, 3);
    collector.send(&request(spans(3))).expect_ok();
    stays.answer().expect_ok();
    assert_eq!(sizes(&sink, 1), [6]);
    assert_eq!(collector.metrics().sum("otelcol_exporter_send_failed_spans", &[]), 4);
    collector.finish();
}

#[test]
fn the_sender_that_completes_a_batch_may_go_away_and_the_others_get_their_answer() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = start(&sink, patient(4));
    let first = join(&collector, 2, 2);
    let last = join(&collector, 2, 4);
    sink.wait(1);
    drop(last);
    collector.wait_for_metric(IN_FLIGHT, &[], 2);
    sink.release();
    first.answer().expect_ok();
    assert_eq!(sizes(&sink, 1), [4]);
    collector.finish();
}

#[test]
fn a_batch_whose_senders_have_all_gone_is_given_up() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = start(&sink, patient(4));
    let both = [join(&collector, 2, 2), join(&collector, 2, 4)];
    sink.wait(1);
    drop(both);
    collector.wait_for_metric("otelcol_exporter_queue_size", &[], 0);
    assert_eq!(collector.metrics().sum("otelcol_exporter_send_failed_spans", &[]), 4);
    collector.finish();
}

/// A collector whose batches are kept apart by team, and which tells the team on.
fn teams(sink: &Sink, keys: Value) -> Collector {
    let headers = json!({"headers": [
        {"key": "x-team", "from_context": "x-team", "action": "upsert"},
        {"key": "x-user", "from_context": "x-user", "action": "upsert"},
    ]});
    let batch = with(patient(4), [("metadata_keys", keys), ("metadata_cardinality_limit", json!(2))]);
    Setup::new()
        .set("receivers.otlp.protocols.grpc.include_metadata", json!(true))
        .set("extensions.headers_setter", headers)
        .set("service.extensions", json!(["health_check", "headers_setter"]))
        .processor("batch", batch)
        .exporter("otlp", with(to(sink), [("auth.authenticator", json!("headers_setter"))]))
        .start()
}

fn start_for(collector: &Collector, team: &str, user: &str, count: usize) -> Pending<GrpcAnswer> {
    collector.offer(count);
    let call = Call::grpc(collector.grpc()).header("x-team", team).header("x-user", user);
    call.start_call(framed(&request(spans(count)).encode_to_vec()))
}

#[test]
fn batches_are_kept_apart_by_the_named_metadata() {
    let sink = Sink::start();
    let collector = teams(&sink, json!(["X-Team"]));
    let red = start_for(&collector, "red", "ann", 1);
    collector.wait_for_metric(IN_FLIGHT, &[], 1);
    let blue = start_for(&collector, "blue", "bob", 3);
    collector.wait_for_metric(IN_FLIGHT, &[], 4);
    assert_eq!(collector.metrics().sum("otelcol_processor_batch_metadata_cardinality", &[]), 2);
    let green = start_for(&collector, "green", "cid", 1);
    green.answer().expect(Code::Unavailable, "too many batcher metadata-value combinations");
    start_for(&collector, "red", "dan", 3).answer().expect_ok();
    red.answer().expect_ok();
    start_for(&collector, "blue", "eve", 1).answer().expect_ok();
    blue.answer().expect_ok();
    assert_eq!(sizes(&sink, 2), [4, 4]);
    let received = sink.received();
    let teams: Vec<_> = received.iter().map(|received| received.header("x-team")).collect();
    assert_eq!(teams, [Some("red"), Some("blue")]);
    // Whose the spans were is nobody's any more.
    assert!(received.iter().all(|received| received.header("x-user").is_none_or(str::is_empty)));
    collector.finish();
}

#[test]
fn batches_are_kept_apart_by_tenant() {
    let sink = Sink::start();
    let steps = json!([
        {"op": "set-tenant", "rows": [0, 1], "tenant": "blue"},
        {"op": "set-tenant", "rows": [2, 3], "tenant": "green"},
    ]);
    let collector = Setup::line(&sink).processor("wasm", script(steps)).processor("batch", patient(4)).start();
    let first = join(&collector, 4, 4);
    collector.send(&request(spans(4))).expect_ok();
    first.answer().expect_ok();
    assert_eq!(sizes(&sink, 2), [4, 4]);
    let received = sink.received();
    let mut found: Vec<_> = received.iter().map(|it| (it.header("x-scope-orgid"), it.request())).collect();
    found.sort_by_key(|(tenant, _)| *tenant);
    let [(blue, first), (green, second)] = found.as_slice() else { panic!("there are two") };
    assert_eq!((*blue, *green), (Some("blue"), Some("green")));
    assert_eq!(names(first), ["span 0", "span 1", "span 0", "span 1"]);
    assert_eq!(names(second), ["span 2", "span 3", "span 2", "span 3"]);
    collector.finish();
}

#[test]
fn among_many_senders_each_hears_what_became_of_its_own_spans() {
    let sink = Sink::start();
    let exporter = with(to(&sink), [("retry_on_failure.enabled", json!(false))]);
    let batch = json!({"timeout": "20ms", "send_batch_size": 40, "send_batch_max_size": 50});
    let collector = Setup::new().processor("batch", batch).exporter("otlp", exporter).start();
    // A third of the first batches does not arrive.
    let taken = |number: usize| number >= 40 || !number.is_multiple_of(3);
    let refused = || Reply::grpc(Code::Unavailable, "busy");
    sink.answer_next((0..40).map(|number| if !taken(number) { refused() } else { Reply::Accept }));
    let requests: Vec<Request> = (0..300).map(|number| request(spans(1 + number % 7))).collect();
    let mut pending: Vec<_> = requests.iter().map(|request| (request, collector.start_send(request))).collect();
    // Some do not wait for the answer.
    let mut number = 0;
    pending.retain(|_| {
        number += 1;
        number % 10 != 0
    });
    let answers: Vec<_> = pending.into_iter().map(|(request, pending)| (request, pending.answer())).collect();
    let received = sink.received();
    let (mut arrived, mut not) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for (number, received) in received.iter().enumerate() {
        let request = received.request();
        let ids = all(&request).into_iter().map(|span| span.span_id.clone());
        if taken(number) { arrived.extend(ids) } else { not.extend(ids) }
    }
    for (request, answer) in answers {
        let spans = all(request);
        if answer.code == Code::Ok {
            assert!(spans.iter().all(|span| arrived.contains(&span.span_id)), "an OK for spans that did not arrive");
        } else {
            assert!(spans.iter().any(|span| not.contains(&span.span_id)), "a refusal of spans that did arrive");
        }
    }
    // Which of those that went away came as far as the collector, it alone knows.
    wait_for("the account", || {
        let metrics = collector.metrics();
        let of = |names: [&str; 2]| names.iter().map(|name| metrics.sum(name, &[])).sum::<u64>();
        let received = of(["otelcol_receiver_accepted_spans", "otelcol_receiver_refused_spans"]);
        let done = of(["otelcol_exporter_sent_spans", "otelcol_exporter_send_failed_spans"]);
        (of([IN_FLIGHT, "otelcol_exporter_queue_size"]) == 0 && received == done).then_some(())
    });
    collector.stop();
}

#[test]
fn a_shutdown_sends_what_waits() {
    let sink = Sink::start();
    let collector = start(&sink, patient(100));
    let pending = join(&collector, 2, 2);
    let ended = collector.stop();
    pending.answer().expect_ok();
    assert!(ended.log.contains("everything accepted has been answered for"), "{}", ended.log);
    assert_eq!(sizes(&sink, 1), [2]);
}

#[test]
fn a_queue_makes_batches_too() {
    let sink = Sink::start();
    let batch = json!({"batch": {"flush_timeout": "10m", "min_size": 4, "max_size": 5}});
    let collector = Setup::new().exporter("otlp", with(to(&sink), [("sending_queue", batch)])).start();
    let first = join(&collector, 3, 3);
    collector.send(&request(spans(4))).expect_ok();
    first.answer().expect_ok();
    let mut sizes = sizes(&sink, 2);
    sizes.sort();
    assert_eq!(sizes, [2, 5]);
    collector.finish();
}

#[test]
fn a_queue_may_count_bytes_and_so_do_its_batches() {
    let sink = Sink::start();
    let bytes = request(spans(10)).encode_to_vec().len();
    let queue = json!({"sizer": "bytes", "queue_size": 100 * bytes, "batch": {
        "flush_timeout": "10m", "min_size": 2 * bytes, "max_size": 2 * bytes,
    }});
    let collector = Setup::new().exporter("otlp", with(to(&sink), [("sending_queue", queue)])).start();
    let first = join(&collector, 10, 10);
    assert!(sink.received().is_empty());
    collector.send(&request(spans(40))).expect_ok();
    first.answer().expect_ok();
    wait_for("all spans", || {
        (sink.received().iter().map(|it| all(&it.request()).len()).sum::<usize>() == 50).then_some(())
    });
    assert!(sink.received().iter().all(|received| received.message.len() <= 2 * bytes));
    collector.finish();
}

#[test]
fn no_batch_is_larger_than_the_queue_behind_it() {
    let sink = Sink::start();
    let exporter = with(to(&sink), [("sending_queue", json!({"sizer": "items", "queue_size": 4}))]);
    let collector = Setup::new().processor("batch", patient(10)).exporter("otlp", exporter).start();
    collector.send(&request(spans(10))).expect_ok();
    assert_eq!(sizes(&sink, 3), [4, 4, 2]);
    collector.finish();
}

#[test]
fn batches_are_made_behind_all_processors_wherever_batch_stands() {
    let sink = Sink::start();
    let collector = Setup::line(&sink)
        .processor("batch", patient(4))
        .processor("wasm", script(json!([{"op": "drop", "rows": [0], "reason": "test"}])))
        .start();
    let first = join(&collector, 3, 3);
    collector.send(&request(spans(3))).expect_ok();
    first.answer().expect_ok();
    let received = sink.only();
    assert_eq!(names(&received), ["span 1", "span 2", "span 1", "span 2"]);
    collector.finish();
}
