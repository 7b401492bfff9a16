//! The settings of the `otlp` receiver.

use crate::config::Section;

#[derive(Debug, Clone)]
pub struct OtlpSettings {
    pub grpc: Option<Protocol>,
    pub http: Option<Protocol>,
}

#[derive(Debug, Clone)]
pub struct Protocol {
    /// `host:port`.
    pub endpoint: String,
    /// The largest request, in bytes after decompression.
    pub limit: usize,
    /// HTTP's path.
    pub path: String,
    /// Whether the sender's headers travel with the batch.
    pub include_metadata: bool,
}

/// What the specification recommends (OTLP 1.11, "Request size"). grpc-go's
/// 4 MiB refuses the batches that Alloy sends.
const LIMIT: usize = 64 << 20;

/// The largest limit: offsets into a request are 32-bit.
const MOST: usize = crate::traces::MESSAGE_LIMIT;

impl OtlpSettings {
    pub fn read(mut section: Section<'_>) -> Self {
        let mut protocols = section.section_or_default("protocols");
        let grpc = protocols.section("grpc").map(grpc);
        let http = protocols.section("http").map(http);
        if grpc.is_none() && http.is_none() {
            let hint = "write `protocols: {grpc: {}, http: {}}`, or one of the two";
            protocols.problem("must specify at least one protocol when using the OTLP receiver", hint);
        }
        protocols.finish();
        section.finish();
        Self { grpc, http }
    }
}

fn grpc(mut section: Section<'_>) -> Protocol {
    let endpoint = endpoint(&mut section, "localhost:4317");
    let mut limit = LIMIT;
    if let Some(mebibytes) = section.usize("max_recv_msg_size_mib").filter(|&size| size > 0) {
        limit = bounded(&section, "max_recv_msg_size_mib", mebibytes.saturating_mul(1 << 20));
    }
    let include_metadata = section.boolean_or("include_metadata", false);
    section.finish();
    Protocol { endpoint, limit, path: String::new(), include_metadata }
}

fn http(mut section: Section<'_>) -> Protocol {
    let endpoint = endpoint(&mut section, "localhost:4318");
    let mut limit = LIMIT;
    if let Some(bytes) = section.usize("max_request_body_size").filter(|&size| size > 0) {
        limit = bounded(&section, "max_request_body_size", bytes);
    }
    let path = section.text_or("traces_url_path", "/v1/traces");
    if !path.starts_with('/') {
        section.problem_at("traces_url_path", format!("`{path}` is not a path"), "begin it with `/`");
    }
    let include_metadata = section.boolean_or("include_metadata", false);
    section.finish();
    Protocol { endpoint, limit, path, include_metadata }
}

fn bounded(section: &Section<'_>, key: &str, bytes: usize) -> usize {
    if bytes > MOST {
        section.problem_at(key, "is larger than 2 GiB", "choose a smaller limit");
    }
    bytes.min(MOST)
}

/// `host:port`; the port must be a number.
pub fn endpoint(section: &mut Section<'_>, default: &str) -> String {
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
