//! The `otlp` exporter: OTLP over gRPC.
//!
//! tonic's channel connects, reconnects and keeps alive; the request's body is
//! the batch's own buffer, which its codec would copy.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower_service::Service as _;

use super::sending::{Drain, Sending};
use super::{ANSWER_LIMIT, ClientSettings, TENANT, USER_AGENT, note_partial_success, root_cause};
use crate::component::{Authorizer, BoxFuture, ConsumeError, Exporter, Id, Outcome};
use crate::config::Section;
use crate::telemetry::ExporterMetrics;
use crate::traces::{PREFIX, Parcel};
use crate::transport::body::Ready;
use crate::transport::status::{RpcStatus, is_retryable};
use crate::transport::tls::{TlsError, TlsSettings};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const STREAM_WINDOW: u32 = 1 << 20;

/// Reads the exporter's section.
pub fn read(mut section: Section<'_>) -> Option<ClientSettings> {
    let written = section.text("endpoint").unwrap_or_default();
    let tls = TlsSettings::read(section.section("tls"));
    let bare = written.strip_prefix("dns:///").unwrap_or(&written);
    let (scheme, authority) = match bare.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest.trim_end_matches('/')),
        Some(_) => ("", bare),
        None => (if tls.insecure { "http" } else { "https" }, bare),
    };
    let uri = format!("{scheme}://{authority}").parse::<http::Uri>();
    let endpoint = uri.ok().filter(|uri| uri.port_u16().is_some() && uri.host().is_some_and(|host| !host.is_empty()));
    if endpoint.is_none() {
        let message = if written.is_empty() { "has no endpoint".into() } else { format!("`{written}` is no endpoint") };
        section.problem_at("endpoint", message, "write `host:port`, such as `tempo:4317`");
    }
    ClientSettings::read(section, endpoint, tls, std::time::Duration::from_secs(5))
}

pub struct OtlpGrpcExporter {
    id: Id,
    channel: Channel,
    settings: ClientSettings,
    auth: Option<Arc<dyn Authorizer>>,
    uri: http::Uri,
    sending: Sending,
}

impl OtlpGrpcExporter {
    pub fn new(
        id: Id,
        settings: ClientSettings,
        auth: Option<Arc<dyn Authorizer>>,
        metrics: ExporterMetrics,
        drain: Drain,
    ) -> Result<Self, TlsError> {
        let base = settings.endpoint.to_string();
        let invalid = |_| TlsError::Endpoint(base.clone());
        let endpoint = Endpoint::from_shared(base.clone()).map_err(invalid)?;
        let endpoint = endpoint
            .user_agent(USER_AGENT)
            .map_err(invalid)?
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW)
            .tcp_nodelay(true);
        let channel = if settings.is_https() {
            endpoint.connect_with_connector_lazy(settings.connector()?.enable_http2().build())
        } else {
            endpoint.connect_lazy()
        };
        let uri =
            format!("{}{EXPORT}", base.trim_end_matches('/')).parse().map_err(|_| TlsError::Endpoint(base.clone()))?;
        let sending = Sending::new(id.clone(), settings.sending.clone(), metrics, drain);
        Ok(Self { id, channel, settings, auth, uri, sending })
    }

    async fn send(&self, parcel: &Parcel, framed: &Bytes) -> Result<Outcome, ConsumeError> {
        let mut request = http::Request::new(tonic::body::Body::new(Ready::new(framed.clone())));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(compression) = self.settings.compression {
            headers.insert("grpc-encoding", HeaderValue::from_static(compression.codec.grpc_name()));
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
        let header = HeaderValue::from_str(&format!("{}m", timeout.as_millis().min(99_999_999)));
        if let Ok(header) = header {
            headers.insert("grpc-timeout", header);
        }
        let called = tokio::time::timeout(timeout, self.call(request, parcel.spans)).await;
        called.unwrap_or_else(|_| Err(self.timed_out()))
    }

    fn timed_out(&self) -> ConsumeError {
        let (endpoint, timeout) = (&self.settings.endpoint, self.settings.timeout);
        let message = format!("{endpoint} did not answer within {timeout:?}");
        ConsumeError::retryable(message).with_code(Code::DeadlineExceeded as i32)
    }

    async fn call(&self, request: http::Request<tonic::body::Body>, spans: usize) -> Result<Outcome, ConsumeError> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            let cause = root_cause(error);
            // tonic's channel keeps to `grpc-timeout` too, and may be the first to.
            if cause.is::<tonic::TimeoutExpired>() {
                return self.timed_out();
            }
            let message = format!("{} cannot be reached: {cause}", self.settings.endpoint);
            ConsumeError::retryable(message).with_code(Code::Unavailable as i32)
        };
        let mut channel = self.channel.clone();
        std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(|error| unreachable(&error))?;
        let response = channel.call(request).await.map_err(|error| unreachable(&error))?;
        let (parts, mut body) = response.into_parts();
        let mut status = Status::from_header_map(&parts.headers);
        let mut answer = vec![];
        while status.is_none() {
            let Some(frame) = body.frame().await else { break };
            let frame = frame.map_err(|error| unreachable(&error))?;
            match frame.into_data() {
                Ok(data) if answer.len() + data.len() > ANSWER_LIMIT => {
                    let message = format!("{} answered more than {ANSWER_LIMIT} bytes", self.settings.endpoint);
                    return Err(ConsumeError::permanent(message));
                }
                Ok(data) => answer.extend_from_slice(&data),
                Err(frame) => status = frame.trailers_ref().and_then(Status::from_header_map),
            }
        }
        match status {
            Some(status) if status.code() == Code::Ok => {
                let message = answer.get(PREFIX..).unwrap_or_default();
                Ok(note_partial_success(&self.id, message, spans, &self.sending.metrics))
            }
            Some(status) => Err(refused(&status)),
            // No gRPC status at all: a proxy, or something that is no gRPC server.
            None => Err(without_status(parts.status)),
        }
    }
}

fn refused(status: &Status) -> ConsumeError {
    let retry_after = RpcStatus::decode(status.details()).ok().and_then(|details| details.retry_after());
    let retryable = is_retryable(status.code(), retry_after.is_some());
    let name = format!("{:?}", status.code());
    let mut error = if retryable { ConsumeError::retryable } else { ConsumeError::permanent }(format!(
        "rpc error: code = {name} desc = {}",
        status.message()
    ));
    error.retry_after = retry_after;
    error.with_code(status.code() as i32)
}

/// gRPC's table for answers that carry only an HTTP status.
fn without_status(status: http::StatusCode) -> ConsumeError {
    let message = format!("the destination answered HTTP {status} and no gRPC status");
    match status.as_u16() {
        429 | 502 | 503 | 504 => ConsumeError::retryable(message),
        200 => ConsumeError::retryable(message),
        _ => ConsumeError::permanent(message),
    }
}

impl Exporter for OtlpGrpcExporter {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        Box::pin(async move {
            let framed = if let Some(compression) = self.settings.compression {
                let mut out = vec![1, 0, 0, 0, 0];
                let packed = compression.compress(&parcel.message.bytes(), &mut out);
                packed
                    .map_err(|error| ConsumeError::permanent(format!("the message cannot be compressed: {error}")))?;
                let length = (out.len() - PREFIX) as u32;
                if let Some(place) = out.get_mut(1..PREFIX) {
                    place.copy_from_slice(&length.to_be_bytes());
                }
                out.into()
            } else {
                parcel.message.framed()
            };
            self.sending.run(&parcel, || self.send(&parcel, &framed)).await
        })
    }
}
