//! Exporters: spans go out.

pub mod debug;
pub mod otlp_grpc;
pub mod otlp_http;
mod sending;

pub use sending::{Drain, SendingSettings};

use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_rustls::builderstates::WantsProtocols1;

use crate::component::Outcome;
use crate::config::{Reference, Section};
use crate::transport::compress::{Codec, Compression};
use crate::transport::tls::{TlsError, TlsSettings};

/// What both OTLP exporters are told of their destination.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `http://…` or `https://…`.
    pub endpoint: http::Uri,
    pub tls: TlsSettings,
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub compression: Option<Compression>,
    pub timeout: Duration,
    /// The extension that gives requests their credentials.
    pub auth: Option<Reference>,
    pub sending: SendingSettings,
}

impl ClientSettings {
    /// Reads what is left of a section whose `endpoint` and `tls` were read, to its end.
    fn read(
        mut section: Section<'_>,
        endpoint: Option<http::Uri>,
        tls: TlsSettings,
        timeout: Duration,
    ) -> Option<Self> {
        let headers = read_headers(&mut section);
        let codec = Codec::of_grpc(section.choice_or("compression", &["gzip", "zstd", "snappy", "none", ""], "gzip"));
        let compression = codec.map(|codec| Compression { codec, level: None });
        let timeout = section.duration_or("timeout", timeout);
        let auth = section.section("auth").and_then(|mut auth| {
            let named = auth.reference("authenticator");
            if named.is_none() && !auth.has("authenticator") {
                auth.problem("has no authenticator", "write `authenticator: basicauth`, or remove `auth`");
            }
            auth.finish();
            named
        });
        let sending = SendingSettings::read(&mut section);
        section.finish();
        Some(Self { endpoint: endpoint?, tls, headers, compression, timeout, auth, sending })
    }

    fn is_https(&self) -> bool {
        self.endpoint.scheme_str() == Some("https")
    }

    /// A connector that looks at the URL's scheme. The system's certificates are
    /// read only where the scheme asks for TLS.
    fn connector(&self) -> Result<HttpsConnectorBuilder<WantsProtocols1>, TlsError> {
        let tls = if self.is_https() { self.tls.client()? } else { TlsSettings::unused().client()? };
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        Ok(match self.tls.server_name.clone().map(TryInto::try_into) {
            Some(Ok(name)) => builder.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name)),
            Some(Err(_)) => return Err(TlsError::ServerName),
            None => builder,
        })
    }
}

/// The innermost reason of an error.
fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

/// Tempo's tenant.
const TENANT: http::HeaderName = http::HeaderName::from_static("x-scope-orgid");

const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-Vespid/", env!("CARGO_PKG_VERSION"));

/// No answer of a destination is read beyond this.
const ANSWER_LIMIT: usize = 4 << 20;

fn read_headers(section: &mut Section<'_>) -> Vec<(http::HeaderName, http::HeaderValue)> {
    let mut headers = vec![];
    for (name, value) in section.headers("headers") {
        match (name.parse(), http::HeaderValue::from_str(&value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            (Err(_), _) => section.problem_at("headers", format!("`{name}` is not a header name"), ""),
            (_, Err(_)) => {
                let message = format!("the value of `{name}` cannot stand in a header");
                section.problem_at("headers", message, "is there a line break at its end?");
            }
        }
    }
    headers
}

/// The tenant that a plugin set, as a header.
fn tenant(parcel: &crate::traces::Parcel) -> Option<http::HeaderValue> {
    parcel.context.tenant.as_deref().and_then(|tenant| http::HeaderValue::from_str(tenant).ok())
}

/// Says what the destination refused within an accepted request, and counts it.
fn note_partial_success(id: &str, answer: &[u8], spans: usize, metrics: &crate::telemetry::ExporterMetrics) -> Outcome {
    use prost::Message as _;
    let response = crate::transport::status::ExportResponse::decode(answer).unwrap_or_default();
    let partial = response.partial_success.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_spans).unwrap_or_default().min(spans as u64);
    if rejected > 0 || !partial.error_message.is_empty() {
        let message = &partial.error_message;
        tracing::warn!(exporter = id, dropped_spans = rejected, message, "Partial success response");
    }
    metrics.partial.inc_by(rejected);
    metrics.sent.inc_by(spans as u64 - rejected);
    Outcome::rejected(rejected as usize, partial.error_message)
}
