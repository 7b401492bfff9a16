//! `service.telemetry`: how the collector speaks of itself.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::Level;

use crate::config::{Node, Problems, Section};
use crate::telemetry::{LogSettings, Metrics};
use crate::transport::body::Ready;
use crate::transport::listen::{Listener, Server, Versions};

#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    pub logs: LogSettings,
    /// Where the metrics are served, `host:port`.
    pub metrics: Vec<String>,
}

const ENDPOINT: &str = "localhost:8888";

impl TelemetrySettings {
    pub fn read(node: Option<&Node>, problems: &Problems) -> Self {
        let standard = Self { logs: LogSettings::default(), metrics: vec![ENDPOINT.into()] };
        let Some(node) = node else { return standard };
        let mut section = Section::new(node, "service.telemetry", problems);
        let logs = section.section("logs").map_or(standard.logs, logs);
        let metrics = section.section("metrics").map_or(standard.metrics, metrics);
        // They describe the collector's own traces and metrics resource; harmless to leave out.
        let hint = "remove it, or leave it for the OpenTelemetry Collector";
        section.ignore_with_warning("resource", "has no effect", hint);
        section.ignore_with_warning("traces", "has no effect", hint);
        section.finish();
        Self { logs, metrics }
    }
}

fn logs(mut section: Section<'_>) -> LogSettings {
    let level = section.text_or("level", "info");
    let level = match level.to_ascii_lowercase().as_str() {
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" => Level::WARN,
        // What zap has above `error` is said at `error` here.
        "error" | "dpanic" | "panic" | "fatal" => Level::ERROR,
        _ => {
            section.problem_at("level", format!("`{level}` is not a log level"), "write debug, info, warn or error");
            Level::INFO
        }
    };
    let json = section.choice_or("encoding", &["console", "json"], "console") == "json";
    let hint = "remove it, or leave it for the OpenTelemetry Collector";
    for key in [
        "development",
        "disable_caller",
        "disable_stacktrace",
        "sampling",
        "output_paths",
        "error_output_paths",
        "initial_fields",
        "processors",
    ] {
        section.ignore_with_warning(key, "has no effect: logs go to standard error", hint);
    }
    section.finish();
    LogSettings { level, json }
}

fn metrics(mut section: Section<'_>) -> Vec<String> {
    let level = section.choice_or("level", &["none", "basic", "normal", "detailed"], "normal");
    let mut endpoints = vec![];
    let readers = section.sections("readers");
    let has_readers = section.has("readers");
    for mut reader in readers {
        if let Some(mut pull) = reader.section("pull") {
            let mut exporter = pull.section_or_default("exporter");
            match exporter.section("prometheus") {
                Some(prometheus) => endpoints.push(prometheus_endpoint(prometheus)),
                None => exporter.problem("names no exporter", "write `prometheus: {host: localhost, port: 8888}`"),
            }
            exporter.finish();
            pull.finish();
        }
        reader.refuse("periodic", "metrics cannot be pushed", "let a Prometheus scrape them: use `pull`");
        reader.finish();
    }
    section.ignore_with_warning("address", "has no effect since the Collector's v0.123", "use `readers`");
    section.ignore_with_warning("views", "has no effect", "remove it");
    section.finish();
    if level == "none" {
        vec![]
    } else if has_readers {
        endpoints
    } else {
        vec![ENDPOINT.into()]
    }
}

fn prometheus_endpoint(mut section: Section<'_>) -> String {
    let host = section.text_or("host", "localhost");
    let port = section.u64_or("port", 8888);
    if port > 65535 {
        section.problem_at("port", format!("`{port}` is not a port"), "");
    }
    for key in ["without_type_suffix", "without_units", "without_scope_info"] {
        if section.boolean(key) == Some(false) {
            section.warning_at(key, "has no effect: names carry no suffix", "");
        }
    }
    section.ignore("with_resource_constant_labels");
    section.finish();
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Serves the Prometheus text.
pub(super) fn serve(listener: Listener, metrics: Arc<Metrics>) -> Server {
    listener.serve(Versions::Any, move |request: Request<Incoming>| {
        let metrics = Arc::clone(&metrics);
        async move {
            if request.uri().path() != "/metrics" {
                let mut response = Response::new(Ready::new("404 page not found; metrics are at /metrics\n"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            }
            let mut response = Response::new(Ready::new(metrics.render()));
            let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, text);
            response
        }
    })
}
