//! The OpenTelemetry SDK for Rust as the sender.

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::shop::tidy;
use crate::support::spans::{all, attribute, names};
use crate::support::{Collector, Setup, Sink, runtime};

/// An application's day: one order and one probe, then a clean end.
fn application(exporter: SpanExporter) {
    let resource = Resource::builder_empty().with_service_name("shop").build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let tracer = provider.tracer("orders");
    let mut order = tracer.span_builder("POST /orders").with_kind(SpanKind::Server).start(&tracer);
    order.set_attribute(KeyValue::new("user.email", "ada@example.org"));
    order.add_event("mail", vec![KeyValue::new("message", "sent to ada@example.org")]);
    order.set_status(Status::error("the card of ada@example.org was refused"));
    order.end();
    tracer.span_builder("GET /healthz").with_kind(SpanKind::Server).start(&tracer).end();
    provider.shutdown().expect("the collector has taken all spans");
}

fn arrives_tidied(export: impl FnOnce(&Collector) -> SpanExporter) {
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/tidy", tidy("rust")).start();
    collector.offer(2);
    application(export(&collector));
    let request = sink.only();
    assert_eq!(names(&request), ["POST /orders"], "the health check is gone");
    let order = all(&request)[0];
    assert_eq!(attribute(order, "user.email"), Some("****"));
    assert_eq!(attribute(order, "deployment.environment.name"), Some("rust"));
    assert_eq!(order.events.len(), 1);
    assert_eq!(order.status.as_ref().unwrap().code, 2);
    collector.finish();
}

#[test]
fn the_rust_sdk_exports_over_grpc() {
    arrives_tidied(|collector| {
        // tonic's client lives on the runtime in which it is made.
        let _inside = runtime().enter();
        let endpoint = format!("http://{}", collector.grpc());
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().unwrap()
    });
}

#[test]
fn the_rust_sdk_exports_over_http() {
    arrives_tidied(|collector| {
        let endpoint = format!("http://{}/v1/traces", collector.http());
        SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_endpoint(endpoint).build().unwrap()
    });
}
