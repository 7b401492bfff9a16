//! Small web apps under zero-code instrumentation as senders: nothing in them
//! knows of OpenTelemetry. Scripts in `.ci` fetch what instruments them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::server::{cache, program, skipped};
use super::shop::tidy;
use crate::support::collector::Process;
use crate::support::send::Call;
use crate::support::spans::{Span, all, attribute};
use crate::support::{Collector, Setup, Sink, root, wait_for};

/// An app that takes `/orders` and `/healthz`, and logs where it listens.
struct App {
    command: Command,
    /// As the SDK calls its language.
    language: &'static str,
}

impl App {
    fn python() -> Option<Self> {
        let programs = cache().join("python/bin");
        if !programs.join("opentelemetry-instrument").is_file() {
            skipped("no Python with OpenTelemetry; make it with .ci/python.sh");
            return None;
        }
        let mut command = Command::new(programs.join("opentelemetry-instrument"));
        command.arg(programs.join("python")).arg(source("python/app.py"));
        Some(Self { command, language: "python" })
    }

    fn node() -> Option<Self> {
        let register = cache().join("node/node_modules/@opentelemetry/auto-instrumentations-node/dist/register.cjs");
        let (true, Some(node)) = (register.is_file(), program("NODE_BIN", "node")) else {
            skipped("no Node with OpenTelemetry; make it with .ci/node.sh");
            return None;
        };
        let mut command = Command::new(node);
        command.arg("--require").arg(register).arg(source("node/app.js"));
        command.env("OTEL_NODE_ENABLED_INSTRUMENTATIONS", "http");
        Some(Self { command, language: "nodejs" })
    }

    fn java() -> Option<Self> {
        let agent = cache().join("java/opentelemetry-javaagent.jar");
        let (true, Some(java)) = (agent.is_file(), program("JAVA_BIN", "java")) else {
            skipped("no Java with OpenTelemetry's agent; fetch it with .ci/java.sh");
            return None;
        };
        let mut command = Command::new(java);
        command.arg(format!("-javaagent:{}", agent.display())).args(["-XX:TieredStopAtLevel=1", "-Xmx256m"]);
        // Compiled when it is run, by what the agent would take for a tool of the JDK.
        command.arg(source("java/App.java")).env("OTEL_JAVAAGENT_ENABLED", "true");
        Some(Self { command, language: "java" })
    }
}

fn source(file: &str) -> PathBuf {
    root().join("tests/clients").join(file)
}

fn arrives_tidied(app: Option<App>, protocol: &str, endpoint: impl FnOnce(&Collector) -> SocketAddr) {
    let Some(App { mut command, language }) = app else { return };
    let sink = Sink::start();
    let collector = Setup::line(&sink).processor("wasm/tidy", tidy(language)).start();
    let settings = [
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", endpoint(&collector))),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let mut process = Process::spawn(command.envs(settings));
    let line = process.wait_for_log("listening on ");
    let address: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(Call::get(address, "/healthz").text(), "ok");
    let order = Call::http(address).method(http::Method::GET).path("/orders");
    assert_eq!(order.header("user-agent", "shop of ada@example.org").post("").text(), "taken");

    // An app may have spans of its own beside those of its two requests.
    let servers = |spans: Vec<Span>| spans.into_iter().filter(|span| span.kind == 2).collect::<Vec<_>>();
    let found = wait_for("the order's span at the destination", || {
        let requests: Vec<_> = sink.received().iter().map(|received| received.request()).collect();
        let found = servers(requests.iter().flat_map(|request| all(request).into_iter().cloned()).collect());
        (!found.is_empty()).then_some(found)
    });
    // The probe's span ended before the order's, and would have come first.
    let [order] = found.as_slice() else { panic!("one server's span was expected: {found:?}") };
    assert_eq!(attribute(order, "deployment.environment.name"), Some(language));
    assert!(holds(order, "****"), "{order:?}");
    assert!(!holds(order, "@example.org"), "{order:?}");
    let request = sink.received()[0].request();
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    let sdk = resource.attributes.iter().find(|pair| pair.key == "telemetry.sdk.language").expect("an SDK's resource");
    assert_eq!(sdk.value.as_ref().unwrap().value, Some(Value::StringValue(language.to_owned())));
    // How many spans came is up to the app: the collector counts for itself.
    let settled = || {
        let metrics = collector.metrics();
        let (came, sent) = (
            metrics.sum("otelcol_receiver_accepted_spans", &[]),
            metrics.sum("otelcol_exporter_sent_spans", &[]) + metrics.sum("vespid_processor_dropped_spans", &[]),
        );
        (came >= 2 && came == sent).then_some(came)
    };
    let came = wait_for("the account of what came", settled);
    drop(process);
    collector.offer(came as usize);
    collector.finish();
}

/// Whether a text attribute of the span holds this.
fn holds(span: &Span, part: &str) -> bool {
    let texts = span.attributes.iter().filter_map(|pair| pair.value.as_ref()?.value.as_ref());
    texts.into_iter().any(|value| matches!(value, Value::StringValue(text) if text.contains(part)))
}

#[test]
fn a_python_app_without_code_for_it_exports_over_grpc() {
    arrives_tidied(App::python(), "grpc", Collector::grpc);
}

#[test]
fn a_python_app_without_code_for_it_exports_over_http() {
    arrives_tidied(App::python(), "http/protobuf", Collector::http);
}

#[test]
fn a_node_app_without_code_for_it_exports_over_grpc() {
    arrives_tidied(App::node(), "grpc", Collector::grpc);
}

#[test]
fn a_node_app_without_code_for_it_exports_over_http() {
    arrives_tidied(App::node(), "http/protobuf", Collector::http);
}

#[test]
fn a_node_app_without_code_for_it_exports_as_json() {
    arrives_tidied(App::node(), "http/json", Collector::http);
}

#[test]
fn a_java_app_without_code_for_it_exports_over_grpc() {
    arrives_tidied(App::java(), "grpc", Collector::grpc);
}

#[test]
fn a_java_app_without_code_for_it_exports_over_http() {
    arrives_tidied(App::java(), "http/protobuf", Collector::http);
}
