//! A plugin that misbehaves costs its turn, and no healthy span, no neighbour
//! and not the collector.

use serde_json::{Value as Json, json};

use crate::support::config::with;
use crate::support::spans::{Request, attribute, names, spans, text};
use crate::support::{Collector, Setup, Sink, plugin, request, script, span, to, wait_for};

const ID: [(&str, &str); 1] = [("processor", "wasm/hostile")];

/// The hostile guest, which misbehaves on batches with a span `poison`.
fn hostile(mode: &str) -> Json {
    with(plugin("hostile", json!({"mode": mode, "only_if_name": "poison"})), [("limits.deadline", json!("200ms"))])
}

fn poison() -> Request {
    let mut spans = vec![span("healthy"), span("poison")];
    spans[0].attributes.push(text("k", "as it came"));
    request(spans)
}

fn failures(collector: &Collector, reason: &str) -> u64 {
    collector.metrics().sum("vespid_plugin_failures", &[ID[0], ("reason", reason)])
}

/// With `on_error: pass` the batch goes on as it was, the failure is counted and
/// logged, and the next batches are processed again.
fn passes(mode: &str, reason: &str, logged: &[&str]) {
    let sink = Sink::start();
    let mut collector = Setup::line(&sink).processor("wasm/hostile", hostile(mode)).start();
    let batches = [request(spans(2)), poison(), request(spans(3)), poison()];
    for batch in &batches {
        assert_eq!(collector.send(batch).expect_ok().partial_success, None);
    }
    let arrived = sink.wait(4);
    for (received, sent) in arrived.iter().zip(&batches) {
        assert_eq!(received.request(), *sent, "the batch passes unedited");
    }
    let line = collector.wait_for_log("the plugin failed on a batch of 2 spans (on_error: pass)");
    assert!(line.contains("\"otelcol.component.id\": \"wasm/hostile\""), "{line}");
    for part in logged {
        collector.wait_for_log(part);
    }
    assert_eq!(failures(&collector, reason), 2, "{}", collector.log());
    assert_eq!(collector.metrics().sum("vespid_plugin_failures", &ID), 2);
    assert_eq!(collector.health().status, 200);
    collector.finish();
}

macro_rules! passes {
    ($($name:ident: $mode:literal, $reason:literal, [$($logged:literal),*];)*) => {
        $(#[test]
        fn $name() {
            passes($mode, $reason, &[$($logged),*]);
        })*
    };
}

passes! {
    an_endless_loop_is_ended: "loop", "deadline", ["ran longer than its deadline of 200ms"];
    a_memory_hog_is_ended: "allocate", "memory", ["needed more than its 67108864 bytes of memory"];
    a_trap_is_logged_with_its_backtrace: "trap", "trap", ["wasm `unreachable` instruction executed; in "];
    a_panic_is_logged_with_its_message_and_line:
        "panic", "trap", ["the hostile guest panics", "panicked at hostile/src/lib.rs:", "; in "];
    a_rejection_is_logged_with_its_text: "error", "rejection", ["rejected: no, thanks"];
    edits_before_a_rejection_do_not_count: "edit-then-error", "rejection", ["rejected: no, thanks"];
    edits_before_a_trap_do_not_count: "edit-then-trap", "trap", ["unreachable"];
    a_row_past_the_last_is_refused: "bad-row", "fault", ["`edits.set-attribute` named Span row 2, and there are 2"];
    fewer_values_than_rows_are_refused: "short-values", "fault", ["gave 2 rows and 1 values"];
    fewer_names_than_rows_are_refused: "short-names", "fault", ["`edits.set-names` gave 2 rows and 1 values"];
    fewer_codes_than_rows_are_refused: "short-codes", "fault", ["gave 2 rows and 1 values"];
    a_code_past_the_dictionary_is_refused: "bad-codes", "fault", ["gave code 7, and the dictionary has 2 texts"];
    packed_ends_that_descend_are_refused: "bad-packed-descending", "fault", ["whose ends do not fit their data"];
    packed_ends_past_the_data_are_refused: "bad-packed-beyond", "fault", ["whose ends do not fit their data"];
    a_packed_end_within_a_character_is_refused: "bad-packed-split", "fault", ["whose ends do not fit their data"];
    packed_data_that_is_no_utf8_is_refused: "bad-packed-not-utf8", "fault", ["gave a text that is not UTF-8"];
    a_string_that_is_no_utf8_is_refused: "not-utf8", "trap", ["utf-8"];
    a_string_outside_of_the_memory_is_refused: "out-of-bounds", "trap", ["out of bounds"];
    a_status_that_otlp_does_not_know_is_refused: "bad-status", "fault", ["`edits.set-status` gave code 3"];
    a_nested_value_that_is_no_json_is_refused: "bad-json", "fault", ["gave a value that is no OTLP JSON"];
    a_pattern_that_was_not_compiled_is_refused: "bad-pattern", "fault", ["pattern 4096 was not compiled"];
    a_pattern_is_compiled_in_configure_only: "late-compile", "fault", ["was called outside `configure`"];
    an_endless_sleep_is_ended: "sleep", "deadline", ["ran longer than its deadline of 200ms"];
    an_endless_recursion_is_ended: "recurse", "trap", ["trapped: wasm trap: ", "in hostile::recurse < hostile::recurse"];
    an_exit_ends_the_call_and_not_the_collector: "exit", "exit", ["exited with status"];
}

#[test]
fn ten_thousand_reads_of_everything_run_into_the_deadline() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/hostile", hostile("huge-batch-read")).start();
    let mut batch = spans(500);
    for span in &mut batch {
        span.attributes = (0..10).map(|key| text(&format!("key{key}"), &"x".repeat(100))).collect();
    }
    batch[0].name = "poison".into();
    let batch = request(batch);
    collector.send(&batch).expect_ok();
    assert_eq!(sink.only(), batch);
    assert_eq!(failures(&collector, "deadline"), 1, "{}", collector.log());
    let (_, most) = collector.memory();
    assert!(most < 400 << 20, "{most} bytes");
    collector.finish();
}

#[test]
fn a_huge_key_is_an_edit_like_any_other_and_more_than_the_limit_is_refused() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/hostile", hostile("huge-key")).start();
    collector.send(&poison()).expect_ok();
    let arrived = sink.only();
    let spans = &arrived.resource_spans[0].scope_spans[0].spans;
    assert_eq!(attribute(&spans[1], &"k".repeat(1 << 20)), Some("v"));
    let mut many = vec![span("poison")];
    many.extend((0..99).map(|_| span("other")));
    let many = request(many);
    collector.send(&many).expect_ok();
    assert_eq!(sink.wait(2)[1].request(), many, "100 MiB of keys are more than a plugin may add");
    assert_eq!(failures(&collector, "fault"), 1, "{}", collector.log());
    collector.finish();
}

#[test]
fn a_counter_takes_no_negative_and_no_nan() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/hostile", hostile("bad-counter")).start();
    collector.send(&poison()).expect_ok();
    sink.wait(1);
    let metrics = collector.metrics();
    assert_eq!(metrics.sum("vespid_plugin_metrics_refused", &ID), 2);
    assert_eq!(metrics.sum("plugin_hostile", &ID), 0);
    assert_eq!(metrics.sum("vespid_plugin_failures", &ID), 0);
    collector.finish();
}

#[test]
fn what_a_plugin_prints_is_in_the_log() {
    let sink = Sink::start();
    let mut collector = Setup::line(&sink).processor("wasm/hostile", hostile("print")).start();
    collector.send(&poison()).expect_ok();
    let line = collector.wait_for_log("stdout: the hostile guest prints");
    assert!(line.contains("wasm/hostile"));
    collector.wait_for_log("stderr: the hostile guest prints an error");
    collector.finish();
}

#[test]
fn a_flood_of_log_lines_is_thinned_and_counted() {
    let sink = Sink::start();
    let mut collector = Setup::line(&sink).processor("wasm/hostile", hostile("log-flood")).start();
    let began = std::time::Instant::now();
    wait_for("the word about what was held back", || {
        collector.send(&poison()).expect_ok();
        collector.log().contains("more than `limits.log_rate` lets through").then_some(())
    });
    collector.wait_for_log("\"held_back\": ");
    let lines = collector.log().lines().filter(|line| line.contains("of a flood")).count();
    let allowed = 10 * (began.elapsed().as_secs() as usize + 2);
    assert!(lines <= allowed, "{lines} lines of the flood");
    collector.finish();
}

#[test]
fn a_flood_of_metrics_is_bounded_and_counted() {
    let sink = Sink::start();
    let patient = with(hostile("metric-flood"), [("limits.deadline", json!("20s"))]);
    let collector = Setup::line(&sink).processor("wasm/hostile", patient).start();
    collector.send(&poison()).expect_ok();
    let metrics = collector.metrics();
    assert_eq!(metrics.series.iter().filter(|series| series.name.starts_with("plugin_hostile_")).count(), 1000);
    assert_eq!(metrics.sum("vespid_plugin_metrics_refused", &ID), 99_000);
    collector.finish();
}

/// A collector whose plugin fails, and its sink.
fn failing(mode: &str, on_error: &str) -> (Collector, Sink) {
    let sink = Sink::start();
    let settings = with(hostile(mode), [("on_error", json!(on_error))]);
    (Setup::line(&sink).processor("wasm/hostile", settings).start(), sink)
}

#[test]
fn on_error_drop_drops_the_batch_and_counts_its_spans() {
    for mode in ["trap", "loop", "error", "bad-row", "allocate"] {
        let (mut collector, sink) = failing(mode, "drop");
        collector.send(&poison()).expect_ok();
        collector.post(&poison()).expect_ok();
        collector.send(&request(vec![span("healthy")])).expect_ok();
        assert_eq!(names(&sink.only()), ["healthy"], "{mode}");
        let dropped = [ID[0], ("reason", "on_error")];
        assert_eq!(collector.metrics().sum("vespid_processor_dropped_spans", &dropped), 4, "{mode}");
        collector.wait_for_log("(on_error: drop)");
        collector.finish();
    }
}

#[test]
fn on_error_refuse_tells_the_sender_to_try_again() {
    for mode in ["trap", "loop", "error", "bad-row", "allocate"] {
        let (mut collector, sink) = failing(mode, "refuse");
        collector.send(&poison()).expect(tonic::Code::Unavailable, "processor `wasm/hostile`");
        collector.post(&poison()).expect(503, "processor `wasm/hostile`");
        collector.send(&request(vec![span("healthy")])).expect_ok();
        assert_eq!(names(&sink.only()), ["healthy"], "{mode}");
        assert_eq!(collector.metrics().sum("otelcol_receiver_refused_spans", &[]), 4, "{mode}");
        collector.wait_for_log("(on_error: refuse)");
        collector.finish();
    }
}

#[test]
fn a_failure_on_every_third_call_loses_no_span() {
    let sink = Sink::start();
    let every = plugin("hostile", json!({"mode": "error", "every": 3}));
    let edit = script(json!([{"op": "set", "owner": "span", "rows": "all", "key": "k", "value": {"int": 1}}]));
    let collector = Setup::line(&sink).processor("wasm/hostile", every).processor("wasm/edit", edit).start();
    for _ in 0..9 {
        collector.send(&request(spans(4))).expect_ok();
    }
    for received in sink.wait(9) {
        let arrived = received.request();
        assert!(arrived.resource_spans[0].scope_spans[0].spans.iter().all(|span| span.attributes.len() == 1));
    }
    assert!(failures(&collector, "rejection") >= 2);
    collector.finish();
}

#[test]
fn a_neighbour_and_the_health_check_are_not_disturbed_while_plugins_loop() {
    let (slow, fast) = (Sink::start(), Sink::start());
    let looping = with(hostile("loop"), [("limits.deadline", json!("4s"))]);
    let edit = script(json!([{"op": "set-names", "rows": [0], "names": ["edited"]}]));
    let collector = Setup::new()
        .receiver("otlp/neighbour", json!({"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}))
        .processor("wasm/hostile", looping)
        .processor("wasm/edit", edit)
        .exporter("otlp/slow", to(&slow))
        .exporter("otlp/fast", to(&fast))
        .pipeline("traces/slow", &["otlp"], &["wasm/hostile"], &["otlp/slow"])
        .pipeline("traces/fast", &["otlp/neighbour"], &["wasm/edit"], &["otlp/fast"])
        .start();
    // More of them than the collector has workers.
    let looping: Vec<_> = (0..4).map(|_| collector.start_send(&poison())).collect();
    collector.wait_for_metric("vespid_receiver_in_flight_spans", &[("receiver", "otlp")], 8);
    let neighbour = collector.grpc_of("otlp/neighbour");
    for count in 1..=20 {
        use prost::Message as _;
        collector.offer(1);
        let message = crate::support::proto::framed(&request(spans(1)).encode_to_vec());
        crate::support::send::Call::grpc(neighbour).call(message).expect_ok();
        assert_eq!(names(&fast.wait(count)[count - 1].request()), ["edited"]);
        assert_eq!(collector.health().status, 200);
    }
    assert!(looping.iter().all(|pending| !pending.is_answered()), "the neighbour was faster than the deadline");
    for pending in looping {
        pending.answer().expect_ok();
    }
    assert_eq!(slow.wait(4)[0].request().resource_spans.len(), 1);
    collector.finish();
}

#[test]
fn the_collectors_memory_stays_bounded_whatever_plugins_take() {
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/hostile", hostile("allocate")).start();
    collector.send(&poison()).expect_ok();
    let (_, after_one) = collector.memory();
    let pending: Vec<_> = (0..40).map(|_| collector.start_send(&poison())).collect();
    for answer in pending {
        answer.answer().expect_ok();
    }
    let (_, after_all) = collector.memory();
    assert_eq!(failures(&collector, "memory"), 41);
    // One instance of 64 MiB for each worker, and some room.
    let workers = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(after_all < after_one + ((workers * 64 + 100) << 20), "from {after_one} to {after_all} bytes");
    collector.finish();
}

/// What a collector says that does not start because of its plugin.
fn refuses(mode: &str) -> String {
    Setup::new().exporter("debug", json!({})).processor("wasm/hostile", hostile(mode)).refused()
}

#[test]
fn a_plugin_that_refuses_its_config_keeps_the_collector_from_starting() {
    let log = refuses("configure-error");
    let message =
        "error: processors.wasm/hostile.config: the plugin refused its configuration: this config is not for me";
    assert!(log.contains(message), "{log}");
    assert!(log.contains("collector.yaml:"), "{log}");
}

#[test]
fn a_plugin_that_traps_at_the_start_keeps_the_collector_from_starting() {
    let log = refuses("configure-trap");
    assert!(log.contains("error: processors.wasm/hostile.module: "), "{log}");
    assert!(log.contains("cannot be started: trapped: wasm trap: wasm `unreachable` instruction executed"), "{log}");
}

#[test]
fn a_plugin_that_reads_a_batch_at_the_start_is_told_that_there_is_none() {
    let log = refuses("read-in-configure");
    assert!(log.contains("`batch.span-count` was called outside `process`"), "{log}");
}

#[test]
fn a_plugin_that_never_ends_its_start_keeps_the_collector_from_starting() {
    let log = refuses("configure-loop");
    assert!(log.contains("cannot be started: ran longer than its deadline of 10s"), "{log}");
}
