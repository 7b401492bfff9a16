//! Health, metrics and logs.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::send::Call;
use crate::support::spans::spans;
use crate::support::{Setup, Sink, plugin, request, script};

#[test]
fn the_health_check_answers_as_the_collectors_does() {
    let collector = Setup::new().exporter("debug", json!({})).start();
    let answer = collector.health();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!(body["status"], "Server available");
    assert!(body["upSince"].is_string() && body["uptime"].is_string());
    assert_eq!(Call::get(collector.health_address(), "/other").status, 404);
    collector.finish();
}

#[test]
fn the_health_checks_path_and_words_can_be_others() {
    let collector = Setup::new()
        .exporter("debug", json!({}))
        .set("extensions.health_check.path", json!("/live"))
        .set("extensions.health_check.response_body", json!({"healthy": "all is well"}))
        .start();
    let answer = Call::get(collector.health_address(), "/live");
    assert_eq!((answer.status, answer.text()), (200, "all is well"));
    assert_eq!(collector.health().status, 404);
    collector.finish();
}

#[test]
fn metrics_have_the_names_that_dashboards_use() {
    let sink = Sink::start();
    let edit = script(json!([{"op": "drop", "rows": [0], "reason": "noise"}]));
    let collector = Setup::line(&sink).processor("wasm/edit", edit).start();
    collector.send(&request(spans(3))).expect_ok();
    collector.post(&request(spans(2))).expect_ok();
    let metrics = collector.metrics();
    let receiver = |transport| [("receiver", "otlp"), ("transport", transport)];
    let (exporter, processor) = ([("exporter", "otlp")], [("processor", "wasm/edit"), ("otel_signal", "traces")]);
    assert_eq!(metrics.sum("otelcol_receiver_accepted_spans", &receiver("grpc")), 3);
    assert_eq!(metrics.sum("otelcol_receiver_accepted_spans", &receiver("http")), 2);
    assert_eq!(metrics.sum("otelcol_exporter_sent_spans", &exporter), 3);
    assert_eq!(metrics.sum("otelcol_processor_incoming_items", &processor), 5);
    assert_eq!(metrics.sum("otelcol_processor_outgoing_items", &processor), 3);
    for (name, kind) in [
        ("otelcol_receiver_refused_spans", "counter"),
        ("otelcol_exporter_send_failed_spans", "counter"),
        ("otelcol_exporter_enqueue_failed_spans", "counter"),
        ("otelcol_exporter_queue_size", "gauge"),
        ("otelcol_exporter_queue_capacity", "gauge"),
        ("otelcol_process_uptime", "gauge"),
        ("otelcol_process_cpu_seconds", "gauge"),
        ("otelcol_process_memory_rss", "gauge"),
        ("vespid_receiver_rejected_spans", "counter"),
        ("vespid_plugin_calls", "counter"),
        ("vespid_plugin_run_seconds", "counter"),
        ("vespid_plugin_instances_started", "counter"),
        ("vespid_processor_dropped_spans", "counter"),
    ] {
        assert_eq!(metrics.types.get(name).map(String::as_str), Some(kind), "{name}");
        assert!(metrics.matching(name, &[]).next().is_some(), "{name} has no series");
    }
    assert!(metrics.sum("otelcol_process_memory_rss", &[]) > 1 << 20);
    let answer = Call::get(collector.metrics_address(), "/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(Call::get(collector.metrics_address(), "/").status, 404);
    collector.finish();
}

#[test]
fn logs_may_be_json_lines() {
    let failing = plugin("hostile", json!({"mode": "panic"}));
    let mut collector = Setup::new()
        .exporter("debug", json!({}))
        .processor("wasm/hostile", failing)
        .set("service.telemetry.logs", json!({"encoding": "json", "level": "debug"}))
        .start();
    collector.wait_for_log("Everything is ready");
    let log = collector.log();
    for line in log.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            parsed["message"].is_string() && parsed["level"].is_string() && parsed["timestamp"].is_string(),
            "{line}"
        );
    }
    collector.stop();
}

#[test]
fn a_port_in_use_is_told_with_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (setting, what) in [
        ("receivers.otlp.protocols.grpc.endpoint", "receivers.otlp"),
        ("receivers.otlp.protocols.http.endpoint", "receivers.otlp"),
        ("extensions.health_check.endpoint", "health_check"),
    ] {
        let log = Setup::new().exporter("debug", json!({})).set(setting, json!(address.to_string())).refused();
        let expected = format!("error: {what}: `{address}` cannot be listened on: Address already in use");
        assert!(log.contains(&expected), "{log}");
    }
}
