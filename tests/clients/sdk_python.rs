//! A small web app in Python under zero-code instrumentation as the sender:
//! nothing in it knows of OpenTelemetry. `.ci/python.sh` makes its environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::server::{cache, skipped};
use super::shop::tidy;
use crate::support::collector::Process;
use crate::support::send::Call;
use crate::support::spans::{Span, all, attribute, names};
use crate::support::{Collector, Setup, Sink, root, wait_for};

fn environment() -> Option<PathBuf> {
    let programs = cache().join("python/bin");
    if !programs.join("opentelemetry-instrument").is_file() {
        skipped("no Python with OpenTelemetry; make it with .ci/python.sh");
        return None;
    }
    Some(programs)
}

fn arrives_tidied(protocol: &str, endpoint: impl FnOnce(&Collector) -> SocketAddr) {
    let Some(programs) = environment() else { return };
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/tidy", tidy("python")).start();
    let mut command = Command::new(programs.join("opentelemetry-instrument"));
    command.arg(programs.join("python")).arg(root().join("tests/clients/python/app.py"));
    let settings = [
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", endpoint(&collector))),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let mut app = Process::spawn(command.envs(settings));
    let line = app.wait_for_log("listening on ");
    let address: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(Call::get(address, "/healthz").text(), "ok");
    assert_eq!(Call::get(address, "/orders?by=ada@example.org").text(), "taken");

    let requests = wait_for("the order's span at the destination", || {
        let requests: Vec<_> = sink.received().iter().map(|received| received.request()).collect();
        requests.iter().any(|request| names(request).contains(&"GET /orders")).then_some(requests)
    });
    // The probe's span ended before the order's, and would have come first.
    let found: Vec<&str> = requests.iter().flat_map(names).collect();
    assert_eq!(found, ["GET /orders"]);
    let order = all(requests.last().unwrap())[0];
    assert_eq!(order.kind, 2, "a server's span");
    assert_eq!(attribute(order, "deployment.environment.name"), Some("python"));
    assert!(holds(order, "****"), "{order:?}");
    assert!(!holds(order, "@example.org"), "{order:?}");
    let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
    let sdk = resource.attributes.iter().find(|pair| pair.key == "telemetry.auto.version");
    assert!(sdk.is_some(), "it comes of zero-code instrumentation: {resource:?}");
    // How many spans came is up to the app: the collector counts for itself.
    collector.wait_for_metric("otelcol_receiver_accepted_spans", &[], 2);
    collector.wait_for_metric("otelcol_exporter_sent_spans", &[], 1);
    collector.offer(2);
    collector.finish();
}

/// Whether a text attribute of the span holds this.
fn holds(span: &Span, part: &str) -> bool {
    let texts = span.attributes.iter().filter_map(|pair| pair.value.as_ref()?.value.as_ref());
    texts.into_iter().any(|value| matches!(value, Value::StringValue(text) if text.contains(part)))
}

#[test]
fn a_python_app_without_code_for_it_exports_over_grpc() {
    arrives_tidied("grpc", Collector::grpc);
}

#[test]
fn a_python_app_without_code_for_it_exports_over_http() {
    arrives_tidied("http/protobuf", Collector::http);
}
