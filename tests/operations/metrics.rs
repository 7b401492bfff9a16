//! The collector's metrics: names, types, labels and levels.

use std::collections::BTreeMap;

use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::config::with;
use crate::support::metrics::Metrics;
use crate::support::proto::{framed, gunzip};
use crate::support::send::Call;
use crate::support::spans::spans;
use crate::support::{Collector, Reply, Setup, Sink, request, script, to, wait_for};

/// All families at level `normal`, with what `_total` and units make of their names.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("otelcol_exporter_enqueue_failed_spans", "otelcol_exporter_enqueue_failed_spans_total", "counter"),
    ("otelcol_exporter_in_flight_requests", "otelcol_exporter_in_flight_requests", "gauge"),
    ("otelcol_exporter_queue_batch_send_size", "otelcol_exporter_queue_batch_send_size", "histogram"),
    ("otelcol_exporter_queue_capacity", "otelcol_exporter_queue_capacity", "gauge"),
    ("otelcol_exporter_queue_size", "otelcol_exporter_queue_size", "gauge"),
    ("otelcol_exporter_send_failed_spans", "otelcol_exporter_send_failed_spans_total", "counter"),
    ("otelcol_exporter_sent_spans", "otelcol_exporter_sent_spans_total", "counter"),
    ("otelcol_process_cpu_seconds", "otelcol_process_cpu_seconds_total", "counter"),
    ("otelcol_process_memory_rss", "otelcol_process_memory_rss_bytes", "gauge"),
    ("otelcol_process_runtime_total_sys_memory_bytes", "otelcol_process_runtime_total_sys_memory_bytes", "gauge"),
    ("otelcol_process_uptime", "otelcol_process_uptime_seconds_total", "counter"),
    ("otelcol_processor_incoming_items", "otelcol_processor_incoming_items_total", "counter"),
    ("otelcol_processor_outgoing_items", "otelcol_processor_outgoing_items_total", "counter"),
    ("otelcol_receiver_accepted_spans", "otelcol_receiver_accepted_spans_total", "counter"),
    ("otelcol_receiver_failed_spans", "otelcol_receiver_failed_spans_total", "counter"),
    ("otelcol_receiver_refused_spans", "otelcol_receiver_refused_spans_total", "counter"),
    ("otelcol_receiver_requests", "otelcol_receiver_requests_total", "counter"),
    ("plugin_seen", "plugin_seen_total", "counter"),
    ("target_info", "target_info", "gauge"),
    ("vespid_account_in_flight_spans", "vespid_account_in_flight_spans", "gauge"),
    ("vespid_account_spans", "vespid_account_spans_total", "counter"),
    (
        "vespid_config_last_reload_success_timestamp_seconds",
        "vespid_config_last_reload_success_timestamp_seconds",
        "gauge",
    ),
    ("vespid_config_last_reload_successful", "vespid_config_last_reload_successful", "gauge"),
    ("vespid_config_reloads", "vespid_config_reloads_total", "counter"),
    ("vespid_exporter_rejected_spans", "vespid_exporter_rejected_spans_total", "counter"),
    ("vespid_plugin_calls", "vespid_plugin_calls_total", "counter"),
    ("vespid_plugin_instances_recycled", "vespid_plugin_instances_recycled_total", "counter"),
    ("vespid_plugin_instances_started", "vespid_plugin_instances_started_total", "counter"),
    ("vespid_plugin_metrics_refused", "vespid_plugin_metrics_refused_total", "counter"),
    ("vespid_plugin_run_seconds", "vespid_plugin_run_seconds_total", "counter"),
    ("vespid_processor_dropped_spans", "vespid_processor_dropped_spans_total", "counter"),
    ("vespid_receiver_in_flight_spans", "vespid_receiver_in_flight_spans", "gauge"),
    ("vespid_receiver_rejected_spans", "vespid_receiver_rejected_spans_total", "counter"),
];

/// A reader of its own port, with these options.
fn reader(options: Value) -> Value {
    let mut prometheus = json!({"host": "127.0.0.1", "port": 0});
    prometheus.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    json!({"pull": {"exporter": {"prometheus": prometheus}}})
}

/// What each reader sees, in the order of the config.
fn scrapes(collector: &Collector) -> Vec<Metrics> {
    let log = collector.log();
    let lines = log.lines().filter(|line| line.contains("serving metrics"));
    let address = regex::Regex::new(r"127\.0\.0\.1:\d+").unwrap();
    let texts = lines.map(|line| Call::get(address.find(line).unwrap().as_str().parse().unwrap(), "/metrics"));
    texts.map(|answer| Metrics::parse(answer.text())).collect()
}

/// A collector whose plugin drops and counts, and these readers.
fn counting(sink: &Sink, readers: Value) -> Collector {
    let steps = json!([
        {"op": "drop", "rows": [0], "reason": "noise"},
        {"op": "count", "name": "seen", "labels": {}, "amount": 1},
    ]);
    let collector = Setup::line(sink)
        .processor("wasm/edit", script(steps))
        .set("service.telemetry.metrics.readers", readers)
        .start();
    collector.send(&request(spans(3))).expect_ok();
    collector.post(&request(spans(2))).expect_ok();
    collector
}

#[test]
fn metrics_have_the_names_and_types_that_dashboards_use() {
    let sink = Sink::start();
    let suffixed = json!({"without_type_suffix": false, "without_units": false, "without_scope_info": false});
    let collector = counting(&sink, json!([reader(json!({})), reader(suffixed)]));
    let [plain, suffixed] = scrapes(&collector).try_into().expect("there are two readers");
    let owned = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    let names: BTreeMap<_, _> = FAMILIES.iter().map(|(name, _, kind)| owned(name, kind)).collect();
    assert_eq!(plain.types, names);
    let names: BTreeMap<_, _> = FAMILIES.iter().map(|(_, name, kind)| owned(name, kind)).collect();
    assert_eq!(suffixed.types, names);
    for series in &plain.series {
        assert!(!series.labels.contains_key("otel_scope_name"), "{series:?}");
    }
    for series in suffixed.series.iter().filter(|series| series.name != "target_info") {
        assert_eq!(series.labels["otel_scope_name"], "vespid", "{series:?}");
        assert_eq!(series.labels["otel_scope_version"], env!("CARGO_PKG_VERSION"), "{series:?}");
    }
    collector.finish();
}

#[test]
fn spans_are_counted_where_dashboards_look_for_them() {
    let sink = Sink::start();
    let collector = counting(&sink, json!([reader(json!({}))]));
    let metrics = collector.metrics();
    let receiver = |transport| [("receiver", "otlp"), ("transport", transport)];
    let (exporter, processor) = ([("exporter", "otlp")], [("processor", "wasm/edit"), ("otel_signal", "traces")]);
    let queue = [("exporter", "otlp"), ("data_type", "traces")];
    assert_eq!(metrics.sum("otelcol_receiver_accepted_spans", &receiver("grpc")), 3);
    assert_eq!(metrics.sum("otelcol_receiver_accepted_spans", &receiver("http")), 2);
    assert_eq!(metrics.sum("otelcol_exporter_sent_spans", &exporter), 3);
    assert_eq!(metrics.sum("otelcol_exporter_queue_capacity", &queue), 1000);
    assert_eq!(metrics.sum("otelcol_exporter_in_flight_requests", &queue), 0);
    assert_eq!(metrics.sum("otelcol_exporter_queue_batch_send_size_sum", &queue), 3);
    assert_eq!(metrics.sum("otelcol_exporter_queue_batch_send_size_count", &queue), 2);
    let inside = [queue[0], queue[1], ("le", "10")];
    assert_eq!(metrics.sum("otelcol_exporter_queue_batch_send_size_bucket", &inside), 2);
    assert_eq!(metrics.sum("otelcol_processor_incoming_items", &processor), 5);
    assert_eq!(metrics.sum("otelcol_processor_outgoing_items", &processor), 3);
    assert!(metrics.sum("otelcol_process_memory_rss", &[]) > 1 << 20);
    assert!(metrics.sum("otelcol_process_runtime_total_sys_memory_bytes", &[]) > 1 << 20);
    let answer = Call::get(collector.metrics_address(), "/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("content-encoding"), None);
    let asking = |coding: &str| {
        let call = Call::http(collector.metrics_address()).path("/metrics").method(http::Method::GET);
        call.header("accept-encoding", coding).post("")
    };
    let packed = asking("deflate, gzip;q=0.5");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let text = String::from_utf8(gunzip(&packed.body)).unwrap();
    assert_eq!(Metrics::parse(&text).types, Metrics::parse(answer.text()).types);
    assert_eq!(asking("gzip;q=0").header("content-encoding"), None);
    assert_eq!(Call::get(collector.metrics_address(), "/").status, 404);
    collector.finish();
}

#[test]
fn requests_are_counted_by_what_became_of_them() {
    let sink = Sink::start();
    let collector = Setup::line(&sink)
        .set("receivers.otlp.protocols.http.max_request_body_size", json!(2000))
        .set("exporters.otlp.retry_on_failure", json!({"enabled": false}))
        .start();
    collector.send(&request(spans(1))).expect_ok();
    sink.answer_next([Reply::grpc(Code::InvalidArgument, "no")]);
    assert_eq!(collector.send(&request(spans(4))).code, Code::InvalidArgument);
    // Two whole spans, then a resource that is torn.
    let mut torn = request(spans(2)).encode_to_vec();
    torn.extend([0x0a, 0x7f, 0x01]);
    assert_eq!(Call::grpc(collector.grpc()).call(framed(&torn)).code, Code::InvalidArgument);
    assert_eq!(Call::http(collector.http()).post(torn).status, 400);
    assert_eq!(Call::http(collector.http()).post(vec![0; 3000]).status, 413);
    let metrics = collector.metrics();
    let of = |transport: &'static str, outcome: &'static str| {
        metrics.sum("otelcol_receiver_requests", &[("transport", transport), ("outcome", outcome)])
    };
    assert_eq!((of("grpc", "success"), of("grpc", "refused"), of("grpc", "failure")), (1, 1, 1));
    assert_eq!((of("http", "success"), of("http", "refused"), of("http", "failure")), (0, 0, 2));
    let spans = |name: &str, transport: &'static str| {
        metrics.sum(&format!("otelcol_receiver_{name}_spans"), &[("receiver", "otlp"), ("transport", transport)])
    };
    assert_eq!((spans("accepted", "grpc"), spans("refused", "grpc"), spans("failed", "grpc")), (1, 4, 2));
    assert_eq!(spans("failed", "http"), 2, "nothing is known of the one that was too large");
    collector.finish();
}

#[test]
fn every_series_says_whose_it_is() {
    let sink = Sink::start();
    let excluding = json!({"with_resource_constant_labels": {"included": ["service.*"], "excluded": ["*.version"]}});
    let resource = json!({"service.name": "gateway", "deployment.environment": "a \"b\"", "service.instance.id": null});
    let collector = Setup::line(&sink)
        .set("service.telemetry.metrics.readers", json!([reader(json!({})), reader(excluding)]))
        .set("service.telemetry.resource", resource)
        .start();
    let [all, some] = scrapes(&collector).try_into().expect("there are two readers");
    for series in &all.series {
        assert_eq!(series.labels["service_name"], "gateway", "{series:?}");
        assert_eq!(series.labels["service_version"], env!("CARGO_PKG_VERSION"), "{series:?}");
        assert_eq!(series.labels["deployment_environment"], "a \"b\"", "{series:?}");
        assert!(!series.labels.contains_key("service_instance_id"), "{series:?}");
    }
    for series in some.series.iter().filter(|series| series.name != "target_info") {
        let labels: Vec<_> = series.labels.keys().filter(|name| name.contains("service_")).collect();
        assert_eq!(labels, ["service_name"], "{series:?}");
    }
    let target = some.matching("target_info", &[("deployment_environment", "a \"b\"")]).next().unwrap();
    assert_eq!(target.value, 1.0);
    collector.finish();

    let attributes = json!([{"name": "service.name", "value": "declared"}, {"name": "pod", "value": 7}]);
    let collector = Setup::line(&sink).set("service.telemetry.resource.attributes", attributes).start();
    for series in &collector.metrics().series {
        assert_eq!((series.labels["service_name"].as_str(), series.labels["pod"].as_str()), ("declared", "7"));
        assert_eq!(series.labels["service_instance_id"].len(), 36, "{series:?}");
    }
    collector.finish();
}

#[test]
fn the_level_decides_what_is_told() {
    let detailed = ["otelcol_exporter_queue_batch_send_size_bytes", "otelcol_processor_internal_duration"];
    let sink = Sink::start();
    for (level, normal_ones, detailed_ones) in
        [("basic", false, false), ("normal", true, false), ("detailed", true, true)]
    {
        let setup = Setup::line(&sink).set("service.telemetry.metrics.level", json!(level));
        let collector = setup.processor("wasm/edit", script(json!([]))).start();
        collector.send(&request(spans(1))).expect_ok();
        let metrics = collector.metrics();
        let told = |name: &str| metrics.types.contains_key(name);
        assert!(told("otelcol_receiver_accepted_spans"), "{level}");
        assert_eq!(told("otelcol_exporter_queue_batch_send_size"), normal_ones, "{level}");
        for name in detailed {
            assert_eq!(told(name), detailed_ones, "{name} at {level}");
            assert_eq!(metrics.sum(&format!("{name}_count"), &[]), u64::from(detailed_ones), "{name} at {level}");
        }
        collector.finish();
    }
    let collector = Setup::line(&sink).set("service.telemetry.metrics.level", json!("none")).start();
    assert!(!collector.log().contains("serving metrics"));
    collector.send(&request(spans(1))).expect_ok();
    collector.stop();
}

#[test]
fn the_reason_of_a_failure_is_told_at_level_detailed() {
    let sink = Sink::start();
    let exporter = with(to(&sink), [("retry_on_failure", json!({"enabled": false}))]);
    let setup = Setup::new().exporter("otlp", exporter);
    let collector = setup.set("service.telemetry.metrics.level", json!("detailed")).start();
    sink.answer_next([
        Reply::grpc(Code::InvalidArgument, "no"),
        Reply::grpc(Code::Unavailable, "later"),
        Reply::grpc(Code::Unavailable, "later"),
    ]);
    for count in [1, 2, 3] {
        collector.send(&request(spans(count)));
    }
    let metrics = collector.metrics();
    let failed = |reason: &'static str, permanent: &'static str| {
        let labels = [("exporter", "otlp"), ("error_type", reason), ("error_permanent", permanent)];
        metrics.sum("otelcol_exporter_send_failed_spans", &labels)
    };
    assert_eq!((failed("InvalidArgument", "true"), failed("Unavailable", "false")), (1, 5));
    collector.finish();
}

#[test]
fn what_is_under_way_is_counted_while_it_is() {
    let sink = Sink::start();
    sink.answer(Reply::Hold);
    let collector = Setup::line(&sink).start();
    let pending = collector.start_send(&request(spans(2)));
    sink.wait(1);
    collector.wait_for_metric("otelcol_exporter_in_flight_requests", &[("exporter", "otlp")], 1);
    sink.release();
    pending.answer().expect_ok();
    wait_for("the end of it", || {
        (collector.metrics().sum("otelcol_exporter_in_flight_requests", &[]) == 0).then_some(())
    });
    collector.finish();
}
