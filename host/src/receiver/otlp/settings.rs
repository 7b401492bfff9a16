//! The settings of the `otlp` receiver: the Collector's keys.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::cors::Cors;
use crate::config::{Reference, Section, Toggle};
use crate::transport::compress::Codec;
use crate::transport::listen::{ConnectionSettings, Versions};
use crate::transport::tls::ServerTlsSettings;

#[derive(Debug, Clone)]
pub struct OtlpSettings {
    pub grpc: Option<Protocol>,
    pub http: Option<Protocol>,
}

/// Where a protocol is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `host:port`.
    Tcp(String),
    /// The path of a socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Protocol {
    pub endpoint: Endpoint,
    pub tls: Option<ServerTlsSettings>,
    pub connections: ConnectionSettings,
    /// The largest request, in bytes after decompression.
    pub limit: usize,
    /// Whether the sender's headers travel with the batch.
    pub include_metadata: bool,
    /// The extension that lets requests in.
    pub auth: Option<Reference>,
    /// The extensions that requests are led through, in this order.
    pub middlewares: Vec<Reference>,
    /// What only HTTP has.
    pub http: Http,
}

#[derive(Debug, Clone, Default)]
pub struct Http {
    pub path: String,
    pub cors: Option<Cors>,
    /// Goes with every answer.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// The encodings that are taken; `None` is all.
    pub encodings: Option<Vec<Codec>>,
    /// Reading a request may take so long.
    pub read_timeout: Option<Duration>,
    /// An answer may take so long.
    pub write_timeout: Option<Duration>,
}

/// What the specification recommends (OTLP 1.11, "Request size"). grpc-go's
/// 4 MiB refuses the batches that Alloy sends.
const LIMIT: usize = 64 << 20;

/// The largest limit: offsets into a request are 32-bit.
const MOST: usize = crate::traces::MESSAGE_LIMIT;

impl OtlpSettings {
    pub fn read(mut section: Section<'_>) -> Self {
        let mut protocols = section.section_or_default("protocols");
        let both = (protocols.toggle("grpc"), protocols.toggle("http"));
        let none_is_named = matches!(both, (Toggle::Absent | Toggle::Off, Toggle::Absent | Toggle::Off));
        let on = |toggle| if let Toggle::On(section) = toggle { Some(section) } else { None };
        let (grpc, http) = (on(both.0).map(grpc), on(both.1).map(http));
        if none_is_named {
            let hint = "write `protocols: {grpc: {}, http: {}}`, or one of the two";
            protocols.problem("must specify at least one protocol when using the OTLP receiver", hint);
        }
        protocols.finish();
        section.finish();
        Self { grpc, http }
    }
}

fn grpc(mut section: Section<'_>) -> Protocol {
    let mut connections = ConnectionSettings::new(Versions::Http2);
    let mut limit = LIMIT;
    if let Some(mebibytes) = section.usize("max_recv_msg_size_mib").filter(|&size| size > 0) {
        limit = bounded(&section, "max_recv_msg_size_mib", mebibytes.saturating_mul(1 << 20));
    }
    if let Some(streams) = section.u64("max_concurrent_streams").filter(|&streams| streams > 0) {
        connections.streams = u32::try_from(streams).unwrap_or(u32::MAX);
    }
    if let Some(keepalive) = section.section("keepalive") {
        read_keepalive(keepalive, &mut connections);
    }
    // HTTP/2 has windows of its own here; what the socket's buffers hold is the system's.
    section.ignore("read_buffer_size");
    section.ignore("write_buffer_size");
    shared(section, "localhost:4317", connections, limit, Http::default())
}

fn read_keepalive(mut section: Section<'_>, connections: &mut ConnectionSettings) {
    if let Some(mut server) = section.section("server_parameters") {
        let some = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
        connections.max_idle = some(server.duration("max_connection_idle"));
        connections.max_age = some(server.duration("max_connection_age"));
        connections.max_age_grace = some(server.duration("max_connection_age_grace"));
        if let Some(time) = some(server.duration("time")) {
            connections.ping_after = time;
        }
        if let Some(timeout) = some(server.duration("timeout")) {
            connections.ping_timeout = timeout;
        }
        server.finish();
    }
    if let Some(mut policy) = section.section("enforcement_policy") {
        // grpc-go hangs up on clients that ping more often. Here a ping costs nothing
        // worth a connection, and what floods is ended by the HTTP/2 library's own limits.
        policy.duration("min_time");
        policy.boolean("permit_without_stream");
        policy.finish();
    }
    section.finish();
}

fn http(mut section: Section<'_>) -> Protocol {
    let mut connections = ConnectionSettings::new(Versions::Any);
    let mut limit = LIMIT;
    if let Some(bytes) = section.usize("max_request_body_size").filter(|&size| size > 0) {
        limit = bounded(&section, "max_request_body_size", bytes);
    }
    let path = section.text_or("traces_url_path", "/v1/traces");
    if !path.starts_with('/') {
        section.problem_at("traces_url_path", format!("`{path}` is not a path"), "begin it with `/`");
    }
    for other_signal in ["metrics_url_path", "logs_url_path", "profiles_url_path"] {
        section.ignore(other_signal);
    }
    let some = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
    let read_timeout = some(section.duration("read_timeout"));
    let write_timeout = some(section.duration("write_timeout"));
    let header_timeout = some(section.duration("read_header_timeout"));
    connections.max_idle = some(section.duration("idle_timeout"));
    if let Some(timeout) = header_timeout {
        connections.header_timeout = timeout.max(connections.max_idle.unwrap_or_default());
    }
    connections.keep_alive = section.boolean_or("keep_alives_enabled", true);
    let cors = section.section("cors").map(Cors::read);
    let response_headers = read_response_headers(&mut section);
    let encodings = read_encodings(&mut section);
    let http = Http { path, cors, response_headers, encodings, read_timeout, write_timeout };
    shared(section, "localhost:4318", connections, limit, http)
}

/// What both protocols have, to the section's end.
fn shared(
    mut section: Section<'_>,
    default: &str,
    connections: ConnectionSettings,
    limit: usize,
    http: Http,
) -> Protocol {
    let endpoint = match section.choice_or("transport", &["tcp", "tcp4", "tcp6", "unix"], "tcp") {
        "unix" => unix(&mut section),
        _ => Endpoint::Tcp(endpoint(&mut section, default)),
    };
    let tls = section.optional("tls").and_then(ServerTlsSettings::read);
    let include_metadata = section.boolean_or("include_metadata", false);
    let mut auth = None;
    if let Some(mut part) = section.optional("auth") {
        auth = part.reference("authenticator");
        if auth.is_none() && !part.has("authenticator") {
            part.problem("names no authenticator", "write `authenticator: basicauth/name`, an extension's id");
        }
        if !part.texts_or("request_params", &[]).is_empty() {
            let hint = "let clients send their credentials in a header";
            part.refuse("request_params", "credentials in a URL end in logs and are not taken", hint);
        }
        part.finish();
    }
    let middlewares = section.sections("middlewares").into_iter().filter_map(middleware).collect();
    // Part of every address in the Collector, and of use to who dials alone.
    section.ignore("dialer");
    section.finish();
    Protocol { endpoint, tls, connections, limit, include_metadata, auth, middlewares, http }
}

fn middleware(mut section: Section<'_>) -> Option<Reference> {
    let named = section.reference("id");
    if named.is_none() && !section.has("id") {
        section.problem("names no extension", "write `id: memory_limiter`");
    }
    let named = named.filter(|named| {
        let fits = named.id.kind.as_str() == "memory_limiter";
        if !fits {
            let message = format!("requests cannot be led through `{}`", named.id);
            section.problem_at("id", message, "remove it: only a `memory_limiter` can stand here");
        }
        fits
    });
    section.finish();
    named
}

fn unix(section: &mut Section<'_>) -> Endpoint {
    /// What the system's address structure holds.
    const LONGEST: usize = 107;
    let path = section.text("endpoint").unwrap_or_default();
    let path = path.strip_prefix("unix://").or(path.strip_prefix("unix:")).unwrap_or(&path).to_owned();
    if path.is_empty() || path.len() > LONGEST {
        let message = format!("`{path}` is no path of a socket");
        section.problem_at("endpoint", message, "write a path of at most 107 bytes, such as `/run/vespid/otlp.sock`");
    }
    Endpoint::Unix(path.into())
}

fn bounded(section: &Section<'_>, key: &str, bytes: usize) -> usize {
    if bytes > MOST {
        section.problem_at(key, "is larger than 2 GiB", "choose a smaller limit");
    }
    bytes.min(MOST)
}

/// `host:port`; the port must be a number.
fn endpoint(section: &mut Section<'_>, default: &str) -> String {
    let endpoint = section.text_or("endpoint", default);
    let port = endpoint.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        section.problem_at(
            "endpoint",
            format!("`{endpoint}` is not `host:port`"),
            format!("write it like `{default}`"),
        );
    }
    endpoint
}

fn read_response_headers(section: &mut Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = vec![];
    for (name, value) in section.headers("response_headers") {
        match (name.parse(), HeaderValue::from_str(&value)) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => section.problem_at("response_headers", format!("`{name}` cannot be a header with this value"), ""),
        }
    }
    headers
}

fn read_encodings(section: &mut Section<'_>) -> Option<Vec<Codec>> {
    let names = section.texts("compression_algorithms")?;
    let mut codecs = vec![];
    // The empty name is no compression, which is taken always.
    for name in names.iter().filter(|name| !name.is_empty()) {
        match Codec::of_http(name) {
            Some(codec) => codecs.push(codec),
            None => {
                let known: Vec<&str> = Codec::http_names().collect();
                section.problem_at(
                    "compression_algorithms",
                    format!("`{name}` is no compression that is understood here"),
                    format!("choose from {}", known.join(", ")),
                );
            }
        }
    }
    Some(codecs)
}
