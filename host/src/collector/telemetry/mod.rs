//! `service.telemetry`: how the collector speaks of itself.

mod logs;
mod push;
mod readers;

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;

pub use push::{Push, PushSettings, Pusher};
pub use readers::{PullSettings, Reader};

use crate::config::{Node, Problems, Section, Value};
use crate::telemetry::{Level, LogSettings, Metrics, Resource};
use crate::transport::body::Ready;
use crate::transport::compress::{Codec, Compression};
use crate::transport::listen::{Listener, Server, Versions};

#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    pub logs: LogSettings,
    pub level: Level,
    /// Who reads the metrics; nobody at level `none`.
    pub readers: Vec<Reader>,
    pub resource: Resource,
}

impl TelemetrySettings {
    pub fn read(node: Option<&Node>, problems: &Problems) -> Self {
        let null = Node::new(Value::Null, crate::config::Position::new("", 1, 1));
        let mut section = Section::new(node.unwrap_or(&null), "service.telemetry", problems);
        let logs = section.section("logs").map_or_else(LogSettings::default, logs::read);
        let (level, readers) = readers::read(section.section_or_default("metrics"));
        let mut resource = Resource::standard();
        if let Some(section) = section.section("resource") {
            read_resource(section, &mut resource);
        }
        // They describe the collector's own traces; harmless to leave out.
        let hint = "remove it, or leave it for the OpenTelemetry Collector";
        section.ignore_with_warning("traces", "has no effect", hint);
        section.finish();
        Self { logs, level, readers, resource }
    }
}

/// A mapping of names and values, where null takes a default away, or the
/// declarative form `attributes: [{name, value}]`.
fn read_resource(mut section: Section<'_>, resource: &mut Resource) {
    let is_declarative = matches!(section.node("attributes").map(|node| &node.value), Some(Value::List(_)));
    if !is_declarative {
        for (key, node) in section.entries() {
            match (node.as_text(), &node.value) {
                (Some(text), _) => resource.set(&key.name, text.to_owned()),
                (None, Value::Null) => resource.remove(&key.name),
                (None, _) => {
                    let hint = "write one value, or `attributes: [{name: …, value: …}]`";
                    section.problem_at(&key.name, "is not a single value", hint);
                }
            }
        }
        return;
    }
    for mut attribute in section.sections("attributes") {
        let name = attribute.text("name").filter(|name| !name.is_empty());
        let value = attribute.text("value");
        // All of them are texts here, as labels are.
        attribute.ignore("type");
        match name {
            Some(name) => resource.set(&name, value.unwrap_or_default()),
            None => attribute.problem("an attribute has no name", "write `name: …`"),
        }
        attribute.finish();
    }
    if let Some(list) = section.text("attributes_list") {
        for (name, value) in list.split(',').filter_map(|pair| pair.split_once('=')) {
            resource.set(name.trim(), value.trim().to_owned());
        }
    }
    section.ignore("schema_url");
    for key in ["detectors", "detection/development"] {
        section.ignore_with_warning(key, "has no effect: nothing is detected", "write the attributes down");
    }
    section.finish();
}

/// Serves the Prometheus text.
pub(super) fn serve(
    listener: Arc<Listener>,
    settings: PullSettings,
    resource: Resource,
    metrics: Arc<Metrics>,
) -> Server {
    let shared = Arc::new((settings, resource, metrics));
    listener.serve(Versions::Any, move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let (settings, resource, metrics) = &*shared;
            if request.uri().path() != "/metrics" {
                let mut response = Response::new(Ready::new("404 page not found; metrics are at /metrics\n"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            }
            let text = settings.exposition.render(&metrics.gather(), resource);
            let mut packed = vec![];
            let is_packed = takes_gzip(request.headers())
                && Compression { codec: Codec::Gzip, level: None }.compress(text.as_bytes(), &mut packed).is_ok();
            let mut response = Response::new(Ready::new(if is_packed { packed } else { text.into_bytes() }));
            let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, text);
            response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            if is_packed {
                response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
    })
}

/// Whether a scraper asks for gzip, as Prometheus does; weights other than none are all the same.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.parse::<f64>() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}
