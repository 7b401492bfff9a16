//! Extensions: what runs beside the pipelines, and who may come in and go out.

pub mod basic_auth;
pub mod bearer_token;
pub mod headers_setter;
pub mod health_check;
mod health_grpc;
mod health_v2;
mod htpasswd;
pub mod pprof;
mod watched;
pub mod zpages;

pub use watched::FileError;

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use crate::config::Section;
use crate::telemetry::Metrics;
use crate::transport::body::Ready;

/// What the pages tell of the collector as it was built.
pub struct Overview {
    pub pipelines: Vec<PipelineOverview>,
    /// Ids of the enabled ones.
    pub extensions: Vec<String>,
    /// The merged config as JSON; secrets stand in it as they are.
    pub config: String,
    pub metrics: Arc<Metrics>,
}

/// Ids, each list in its order.
pub struct PipelineOverview {
    pub id: String,
    pub receivers: Vec<String>,
    pub processors: Vec<String>,
    pub exporters: Vec<String>,
}

impl PipelineOverview {
    /// All components with the names of their kinds.
    fn components(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let receivers = self.receivers.iter().map(|id| ("receiver", id));
        let processors = self.processors.iter().map(|id| ("processor", id));
        receivers.chain(processors).chain(self.exporters.iter().map(|id| ("exporter", id)))
    }
}

/// `endpoint`, and the keys of a server that pages like these have no use for.
fn read_endpoint(section: &mut Section<'_>, default: &str) -> String {
    let endpoint = section.text_or("endpoint", default);
    if !matches!(endpoint.rsplit_once(':').map(|(_, port)| port.parse::<u16>()), Some(Ok(_))) {
        let message = format!("`{endpoint}` is not `host:port`");
        section.problem_at("endpoint", message, format!("write it like `{default}`"));
    }
    let hint = "remove it, and let `endpoint` be one that only those can reach who may read it";
    section.refuse("tls", "this page is served as plain HTTP", hint);
    section.refuse("auth", "this page asks nobody who they are", hint);
    section.refuse("middlewares", "there are no middlewares", "remove it");
    for key in [
        "compression_algorithms",
        "cors",
        "idle_timeout",
        "include_metadata",
        "keep_alives_enabled",
        "max_request_body_size",
        "read_header_timeout",
        "read_timeout",
        "response_headers",
        "transport",
        "write_timeout",
    ] {
        section.ignore_with_warning(key, "has no effect", "remove it");
    }
    endpoint
}

/// A path that a page has.
fn read_path(section: &mut Section<'_>, default: &str) -> String {
    let path = section.text_or("path", default);
    if !path.starts_with('/') {
        section.problem_at("path", format!("`{path}` is not a path"), "begin it with `/`");
    }
    path
}

fn page(code: StatusCode, content_type: &'static str, body: impl Into<bytes::Bytes>) -> Response<Ready> {
    let mut response = Response::new(Ready::new(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn not_found() -> Response<Ready> {
    page(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found")
}

/// The value of a key in a query; of several the first. Ids need no escapes but `%2F`.
fn query<'a>(query: Option<&'a str>, key: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| match pair.split_once('=') {
        Some((name, value)) => (name == key).then_some(value),
        None => (pair == key).then_some(""),
    })
}
