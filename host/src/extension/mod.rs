//! Extensions: what runs beside the pipelines, and who may come in and go out.

pub mod account;
pub mod basic_auth;
pub mod bearer_token;
pub mod file_storage;
pub mod headers_setter;
pub mod health_check;
mod health_grpc;
mod health_v2;
mod htpasswd;
pub mod memory_limiter;
pub mod pprof;
mod watched;
pub mod zpages;

pub use watched::FileError;

use std::future::Future;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::component::Delivery;
use crate::config::{Problem, Section};
use crate::telemetry::Metrics;
use crate::transport::body::Ready;
use crate::transport::listen::{ConnectionSettings, Listener, Server, Versions};
use crate::transport::tls::{ServerTls, ServerTlsSettings};

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
    /// What the `Ok` of each exporter means that is no connector.
    pub deliveries: Vec<(String, Delivery)>,
}

impl PipelineOverview {
    /// All components with the names of their kinds.
    fn components(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let receivers = self.receivers.iter().map(|id| ("receiver", id));
        let processors = self.processors.iter().map(|id| ("processor", id));
        receivers.chain(processors).chain(self.exporters.iter().map(|id| ("exporter", id)))
    }
}

/// Where pages are served, and whether over TLS.
pub struct Port {
    pub endpoint: String,
    tls: Option<Box<ServerTlsSettings>>,
    loaded: Option<Box<ServerTls>>,
    versions: Versions,
}

impl Port {
    /// Reads the files that `tls` names.
    pub fn load(&mut self) -> Result<(), Problem> {
        if let Some(settings) = &self.tls {
            let loaded = ServerTls::new(ServerTlsSettings::clone(settings), self.versions);
            self.loaded = Some(Box::new(loaded.map_err(|error| settings.problem(&error))?));
        }
        Ok(())
    }

    fn serve<H, F>(self, listener: Arc<Listener>, handle: H) -> Server
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Ready>> + Send + 'static,
    {
        listener.serve_with(ConnectionSettings::new(self.versions), self.loaded.map(|tls| *tls), handle)
    }
}

/// `endpoint` and `tls`; the keys of a server that pages like these have no use for
/// are taken too.
fn read_port(section: &mut Section<'_>, default: &str, versions: Versions) -> Port {
    let endpoint = section.text_or("endpoint", default);
    if !matches!(endpoint.rsplit_once(':').map(|(_, port)| port.parse::<u16>()), Some(Ok(_))) {
        let message = format!("`{endpoint}` is not `host:port`");
        section.problem_at("endpoint", message, format!("write it like `{default}`"));
    }
    let tls = section.optional("tls").and_then(ServerTlsSettings::read).map(Box::new);
    let hint = "remove it, and let `endpoint` be one that only those can reach who may read it";
    section.refuse("auth", "this page asks nobody who they are", hint);
    section.refuse_middlewares();
    for key in [
        "compression_algorithms",
        "cors",
        "dialer",
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
    Port { endpoint, tls, loaded: None, versions }
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
