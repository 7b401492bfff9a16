//! The `otlphttp` exporter: OTLP over HTTP, protobuf.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http_body_util::BodyExt as _;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message as _;

use super::sending::{Drain, Sending};
use super::{ANSWER_LIMIT, ClientSettings, TENANT, USER_AGENT, note_partial_success, root_cause};
use crate::component::{Authorizer, BoxFuture, ConsumeError, Exporter, Id, Outcome};
use crate::config::Section;
use crate::telemetry::ExporterMetrics;
use crate::traces::Parcel;
use crate::transport::body::Ready;
use crate::transport::status::{RpcStatus, is_retryable_http, parse_retry_after};
use crate::transport::tls::{TlsError, TlsSettings};

/// Reads the exporter's section.
pub fn read(mut section: Section<'_>) -> Option<ClientSettings> {
    let base = section.text("endpoint");
    let exact = section.text("traces_endpoint");
    let written = exact.clone().or_else(|| Some(format!("{}/v1/traces", base.as_ref()?.trim_end_matches('/'))));
    let tls = TlsSettings::read(section.section("tls"));
    let uri = written.as_ref().and_then(|text| text.parse::<http::Uri>().ok());
    let endpoint = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if endpoint.is_none() {
        let key = if exact.is_some() { "traces_endpoint" } else { "endpoint" };
        let shown = if exact.is_some() { &exact } else { &base };
        let message = shown.as_ref().map_or("has no endpoint".into(), |text| format!("`{text}` is no URL"));
        section.problem_at(key, message, "write a URL, such as `http://tempo:4318`");
    }
    ClientSettings::read(section, endpoint, tls, std::time::Duration::from_secs(30))
}

pub struct OtlpHttpExporter {
    id: Id,
    client: Client<HttpsConnector<HttpConnector>, Ready>,
    settings: ClientSettings,
    auth: Option<Arc<dyn Authorizer>>,
    sending: Sending,
}

impl OtlpHttpExporter {
    pub fn new(
        id: Id,
        settings: ClientSettings,
        auth: Option<Arc<dyn Authorizer>>,
        metrics: ExporterMetrics,
        drain: Drain,
    ) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = settings.connector()?.enable_http1().enable_http2().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        let sending = Sending::new(id.clone(), settings.sending.clone(), metrics, drain);
        Ok(Self { id, client, settings, auth, sending })
    }

    async fn send(&self, parcel: &Parcel, body: &Bytes) -> Result<Outcome, ConsumeError> {
        let mut request = http::Request::new(Ready::new(body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.settings.endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(compression) = self.settings.compression {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(compression.codec.http_name()));
        }
        for (name, value) in &self.settings.headers {
            headers.insert(name, value.clone());
        }
        if let Some(auth) = &self.auth {
            auth.authorize(headers, &parcel.context)?;
        }
        // What a plugin decided counts before what the config says.
        if let Some(tenant) = super::tenant(parcel) {
            headers.insert(TENANT, tenant);
        }
        let timeout = self.settings.timeout;
        if timeout.is_zero() {
            return self.call(request, parcel.spans).await;
        }
        tokio::time::timeout(timeout, self.call(request, parcel.spans)).await.unwrap_or_else(|_| {
            Err(ConsumeError::retryable(format!("{} did not answer within {timeout:?}", self.settings.endpoint)))
        })
    }

    async fn call(&self, request: http::Request<Ready>, spans: usize) -> Result<Outcome, ConsumeError> {
        let url = &self.settings.endpoint;
        let broken = |error: &(dyn std::error::Error + 'static)| {
            ConsumeError::retryable(format!("{url} cannot be reached: {}", root_cause(error)))
        };
        let response = self.client.request(request).await.map_err(|error| broken(&error))?;
        let (parts, mut body) = response.into_parts();
        let mut answer = vec![];
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            if answer.len() + data.len() > ANSWER_LIMIT {
                return Err(ConsumeError::permanent(format!("{url} answered more than {ANSWER_LIMIT} bytes")));
            }
            answer.extend_from_slice(&data);
        }
        if parts.status.is_success() {
            return Ok(note_partial_success(&self.id, &answer, spans, &self.sending.metrics));
        }
        let status = RpcStatus::decode(answer.as_slice()).unwrap_or_default();
        let said = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
        let message = format!("{url} answered HTTP {}{said}", parts.status.as_u16());
        let header = parts.headers.get(RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?));
        Err(if is_retryable_http(parts.status.as_u16()) {
            ConsumeError::retryable(message).after(header.or_else(|| status.retry_after()))
        } else {
            let error = ConsumeError::permanent(message);
            if status.code > 0 { error.with_code(status.code) } else { error }
        })
    }
}

impl Exporter for OtlpHttpExporter {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        Box::pin(async move {
            let body = if let Some(compression) = self.settings.compression {
                let mut out = vec![];
                let packed = compression.compress(&parcel.message.bytes(), &mut out);
                packed
                    .map_err(|error| ConsumeError::permanent(format!("the message cannot be compressed: {error}")))?;
                out.into()
            } else {
                parcel.message.bytes()
            };
            self.sending.run(&parcel, || self.send(&parcel, &body)).await
        })
    }
}
