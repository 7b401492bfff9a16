//! The whole line: OTLP in, plugins, OTLP out.

use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message as _;
use serde_json::json;

use crate::support::config::{to_http, with};
use crate::support::proto::{bytes, frame, framed, gzip, unknown};
use crate::support::send::Call;
use crate::support::spans::{attribute, names, spans, text};
use crate::support::{Collector, Setup, Sink, plugin, request, root, runtime, script, span, to};

/// Sends one request each over gRPC and HTTP, plain and compressed.
fn sends_of_every_kind(collector: &Collector, message: &[u8], spans: usize) {
    let ok = |response: &ExportTraceServiceResponse| assert_eq!(response.partial_success, None);
    collector.offer(spans * 4);
    ok(Call::grpc(collector.grpc()).call(framed(message)).expect_ok());
    let compressed = frame(1, &gzip(message));
    ok(Call::grpc(collector.grpc()).header("grpc-encoding", "gzip").call(compressed).expect_ok());
    ok(&Call::http(collector.http()).post(message.to_vec()).expect_ok());
    ok(&Call::http(collector.http()).header("content-encoding", "gzip").post(gzip(message)).expect_ok());
}

fn arrives_untouched(setup: Setup, sink: &Sink, compressed: bool, path: &str) {
    let collector = setup.start();
    let message = request(spans(20)).encode_to_vec();
    sends_of_every_kind(&collector, &message, 20);
    for received in sink.wait(4) {
        assert_eq!(received.message, message);
        assert_eq!(received.was_compressed, compressed);
        assert_eq!(received.path, path);
        assert!(received.header("user-agent").unwrap().starts_with("OTel-OTLP-Exporter-Vespid/"));
    }
    collector.finish();
}

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[test]
fn grpc_and_http_come_in_and_go_out_over_grpc() {
    let sink = Sink::start();
    let exporter = with(to(&sink), [("compression", json!("none"))]);
    arrives_untouched(Setup::new().exporter("otlp", exporter), &sink, false, GRPC_PATH);
}

#[test]
fn grpc_and_http_come_in_and_go_out_over_grpc_as_gzip() {
    let sink = Sink::start();
    arrives_untouched(Setup::new().exporter("otlp_grpc", to(&sink)), &sink, true, GRPC_PATH);
}

#[test]
fn grpc_and_http_come_in_and_go_out_over_http() {
    let sink = Sink::start();
    let exporter = with(to_http(&sink), [("compression", json!("none"))]);
    arrives_untouched(Setup::new().exporter("otlphttp", exporter), &sink, false, "/v1/traces");
}

#[test]
fn grpc_and_http_come_in_and_go_out_over_http_as_gzip() {
    let sink = Sink::start();
    arrives_untouched(Setup::new().exporter("otlp_http", to_http(&sink)), &sink, true, "/v1/traces");
}

#[test]
fn an_exact_traces_endpoint_is_called_as_it_is_written() {
    let sink = Sink::start();
    let exporter = json!({"traces_endpoint": format!("http://{sink}/ingest/otlp"), "compression": "none"});
    let collector = Setup::new().exporter("otlphttp", exporter).start();
    collector.post(&request(spans(1))).expect_ok();
    assert_eq!(sink.wait(1)[0].path, "/ingest/otlp");
    collector.finish();
}

/// A server as tonic makes it, so that not only our own sink understands the exporter.
struct Strict(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Strict {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[test]
fn a_server_made_with_tonic_understands_the_exporter() {
    let seen = Arc::new(Mutex::new(vec![]));
    let listener = runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let service = TraceServiceServer::new(Strict(Arc::clone(&seen)));
    let server = runtime().spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        builder.http2();
        let _ = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
    });
    let exporter = with(to(address), [("compression", json!("none"))]);
    let collector = Setup::new().exporter("otlp", exporter).start();
    let sent = request(spans(3));
    collector.send(&sent).expect_ok();
    assert_eq!(*seen.lock().unwrap(), [sent]);
    collector.finish();
    server.abort();
}

/// A request as no encoder of today writes it: unknown fields at every level,
/// fields in descending order, zeros and empty messages written out.
fn unusual_request() -> Vec<u8> {
    let with_unknown = |fields: &[Vec<u8>], mark: &str| [unknown(mark), fields.concat()].concat();
    let pair = |key: &str, value: &str| {
        let value = with_unknown(&[bytes(1, value)], "in-value");
        with_unknown(&[bytes(2, value), bytes(1, key)], "in-pair")
    };
    let event = with_unknown(&[bytes(3, pair("event.key", "v")), bytes(2, "event")], "in-event");
    let link = with_unknown(&[bytes(2, [3; 8]), bytes(1, [4; 16])], "in-link");
    let status = with_unknown(&[vec![3 << 3, 0]], "in-status");
    let span = with_unknown(
        &[
            bytes(15, status),
            bytes(13, link),
            bytes(11, event),
            vec![10 << 3, 0],
            bytes(9, pair("mail", "ada@example.org")),
            bytes(9, pair("mail", "twice@example.org")),
            vec![6 << 3, 2],
            bytes(5, "unusual"),
            bytes(2, [1; 8]),
            bytes(1, [2; 16]),
        ],
        "in-span",
    );
    let scope = with_unknown(&[bytes(1, "scope")], "in-scope");
    let scope_spans = with_unknown(&[bytes(3, "schema"), bytes(2, span), bytes(1, scope)], "in-scope-spans");
    let resource = with_unknown(&[bytes(1, pair("service.name", "shop"))], "in-resource");
    let resource_spans = with_unknown(&[bytes(2, scope_spans), bytes(1, resource)], "in-resource-spans");
    [unknown("in-request"), bytes(1, resource_spans), bytes(1, [])].concat()
}

const MARKS: [&str; 11] = [
    "in-value",
    "in-pair",
    "in-event",
    "in-link",
    "in-status",
    "in-span",
    "in-scope",
    "in-scope-spans",
    "in-resource",
    "in-resource-spans",
    "in-request",
];

fn holds(message: &[u8], mark: &str) -> bool {
    message.windows(mark.len()).any(|window| window == mark.as_bytes())
}

#[test]
fn a_request_that_no_plugin_edits_leaves_as_the_bytes_that_came() {
    let sink = Sink::start();
    // A plugin looks at everything and edits nothing.
    let idle = script(json!([{"op": "log", "level": "info", "message": "seen"}]));
    let mut collector = Setup::line(&sink).processor("wasm/idle", idle).start();
    let message = unusual_request();
    sends_of_every_kind(&collector, &message, 1);
    for received in sink.wait(4) {
        assert_eq!(received.message, message);
    }
    collector.wait_for_log("seen");
    collector.finish();
}

#[test]
fn requests_of_real_clients_leave_as_the_bytes_that_came() {
    let folder = root().parent().unwrap().join("shared/corpus/payloads");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: there is no {}", folder.display());
        return;
    };
    let sink = Sink::start();
    let idle = script(json!([{"op": "log", "level": "info", "message": "seen"}]));
    let collector = Setup::line(&sink).processor("wasm/idle", idle).start();
    let mut count = 0;
    for path in files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|it| it == "pb")) {
        let message = std::fs::read(&path).unwrap();
        let decoded = ExportTraceServiceRequest::decode(message.as_slice()).unwrap();
        collector.offer(names(&decoded).len());
        Call::grpc(collector.grpc()).call(framed(&message)).expect_ok();
        count += 1;
        assert_eq!(sink.wait(count).pop().unwrap().message, message, "{}", path.display());
    }
    assert!(count > 5);
    collector.finish();
}

#[test]
fn a_plugins_edits_arrive_and_unknown_fields_survive_them() {
    let sink = Sink::start();
    let steps = json!([
        {"op": "replace-matches", "owner": "span", "patterns": ["[a-z]+@[a-z.]+"], "replacement": "****"},
        {"op": "set", "owner": "resource", "rows": "all", "key": "team", "value": {"text": "blue"}},
        {"op": "set", "owner": "event", "rows": "all", "key": "event.key", "value": {"int": 7}},
        {"op": "set-names", "rows": [0], "names": ["renamed"]},
    ]);
    let collector = Setup::line(&sink).processor("wasm/edit", script(steps)).start();
    let message = unusual_request();
    collector.offer(1);
    Call::grpc(collector.grpc()).call(framed(&message)).expect_ok();
    let received = sink.wait(1).pop().unwrap();
    // A value that was replaced takes its own unknown fields with it, and no others go.
    for mark in MARKS {
        assert!(holds(&received.message, mark), "the unknown field {mark} is gone");
    }
    let arrived = received.request();
    let span = &arrived.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.name, "renamed");
    assert_eq!(span.attributes, [text("mail", "****"), text("mail", "****")], "each in its own place");
    assert_eq!(arrived.resource_spans[0].resource.as_ref().unwrap().attributes.len(), 2);
    assert!(!holds(&received.message, "example.org"));
    collector.finish();
}

#[test]
fn the_example_plugin_drops_marks_and_masks() {
    let sink = Sink::start();
    let config = json!({"set": {"key": "deployment.environment.name", "value": "test"}});
    let collector = Setup::line(&sink).processor("wasm/tidy", plugin("tidy", config)).start();
    let mut order = span("POST /orders");
    order.attributes.push(text("user.email", "ada@example.org"));
    collector.send(&request(vec![order, span("GET /healthz")])).expect_ok();
    let arrived = sink.only();
    assert_eq!(names(&arrived), ["POST /orders"]);
    let order = &arrived.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(attribute(order, "user.email"), Some("****"));
    assert_eq!(attribute(order, "deployment.environment.name"), Some("test"));
    let dropped = [("processor", "wasm/tidy"), ("reason", "health check")];
    assert_eq!(collector.metrics().sum("vespid_processor_dropped_spans", &dropped), 1);
    collector.finish();
}

#[test]
fn a_second_plugin_sees_the_firsts_edits() {
    let sink = Sink::start();
    let first = json!([
        {"op": "drop", "rows": [1], "reason": "noise"},
        {"op": "set", "owner": "span", "rows": [0], "key": "step", "value": {"text": "one 1"}},
        {"op": "set-names", "rows": [2], "names": ["third"]},
    ]);
    let second = json!([
        {"op": "replace-matches", "owner": "span", "patterns": ["[0-9]"], "replacement": "#"},
        {"op": "dump", "key": "seen"},
    ]);
    let setup = Setup::line(&sink).processor("wasm/first", script(first));
    let collector = setup.processor("wasm/second", script(second)).start();
    collector.send(&request(spans(3))).expect_ok();
    let arrived = sink.only();
    assert_eq!(names(&arrived), ["span 0", "third"]);
    let span = &arrived.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(attribute(span, "step"), Some("one #"));
    let seen: serde_json::Value = serde_json::from_str(attribute(span, "seen").unwrap()).unwrap();
    assert_eq!(seen["names"], json!(["span 0", "third"]));
    assert_eq!(seen["owners"]["span"]["keys"]["step"]["text"], json!([[0, "one 1"]]));
    collector.finish();
}

#[test]
fn two_pipelines_of_one_receiver_have_their_own_plugin_and_destination() {
    let (blue, green) = (Sink::start(), Sink::start());
    let rename = |name: &str| script(json!([{"op": "set-names", "rows": [0], "names": [name]}]));
    let collector = Setup::new()
        .processor("wasm/blue", rename("blue"))
        .processor("wasm/green", rename("green"))
        .exporter("otlp/blue", to(&blue))
        .exporter("otlphttp/green", to_http(&green))
        .pipeline("traces/blue", &["otlp"], &["wasm/blue"], &["otlp/blue"])
        .pipeline("traces/green", &["otlp"], &["wasm/green"], &["otlphttp/green"])
        .start();
    collector.send(&request(spans(2))).expect_ok();
    assert_eq!(names(&blue.only()), ["blue", "span 1"]);
    assert_eq!(names(&green.only()), ["green", "span 1"]);
    collector.finish();
}

#[test]
fn one_pipeline_sends_to_all_its_exporters() {
    let (one, other) = (Sink::start(), Sink::start());
    let setup = Setup::new().exporter("otlp/one", to(&one)).exporter("otlp/other", to(&other));
    let collector = setup.start();
    let sent = request(spans(2));
    collector.send(&sent).expect_ok();
    assert_eq!(one.only(), sent);
    assert_eq!(other.only(), sent);
    collector.finish();
}

#[test]
fn a_batch_of_which_everything_is_dropped_is_answered_ok_and_nothing_is_sent() {
    let sink = Sink::start();
    let all = script(json!([{"op": "drop", "rows": "all", "reason": "noise"}]));
    let collector = Setup::line(&sink).processor("wasm/all", all).start();
    assert_eq!(collector.send(&request(spans(5))).expect_ok().partial_success, None);
    assert_eq!(collector.post(&request(spans(5))).expect_ok().partial_success, None);
    assert_eq!(collector.metrics().sum("vespid_processor_dropped_spans", &[("reason", "noise")]), 10);
    assert_eq!(collector.metrics().sum("otelcol_exporter_sent_spans", &[]), 0);
    collector.finish();
    assert_eq!(sink.received().len(), 0);
}

#[test]
fn many_senders_at_once_each_get_their_own_answer() {
    let sink = Sink::start();
    let mark = script(json!([{"op": "set", "owner": "span", "rows": "all", "key": "k", "value": {"boolean": true}}]));
    let collector = Setup::line(&sink).processor("wasm/mark", mark).start();
    let pending: Vec<_> = (0..100).map(|size| collector.start_send(&request(spans(size % 7 + 1)))).collect();
    for answer in pending {
        answer.answer().expect_ok();
    }
    let arrived: usize = sink.wait(100).iter().map(|received| names(&received.request()).len()).sum();
    assert_eq!(arrived, (0..100).map(|size| size % 7 + 1).sum::<usize>());
    collector.finish();
}
