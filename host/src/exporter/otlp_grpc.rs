//! The `otlp` exporter: OTLP over gRPC.
//!
//! A call is one HTTP/2 request on hyper's pooled client: it connects, reconnects and
//! keeps alive. The body is the batch's own buffer, which a codec would copy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tonic::Code;

use super::answer::{self, Failure};
use super::backends::Backends;
use super::sending::{Destination, Drain, Sending};
use super::settings::read_compression;
use super::{ANSWER_LIMIT, ClientSettings, USER_AGENT, as_it_came, pack, root_cause};
use crate::component::{Authorizer, BoxFuture, ConsumeError, Exporter, Id, Outcome, Room};
use crate::config::Section;
use crate::telemetry::ExporterMetrics;
use crate::traces::{PREFIX, Parcel, write_prefix};
use crate::transport::body::Ready;
use crate::transport::compress::Codec;
use crate::transport::connect::{Connector, Target};
use crate::transport::status::RpcStatus;
use crate::transport::tls::{ClientTls, TlsError, TlsSettings};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// grpc-go pings no more often, whatever it is told, and servers count on it.
const LEAST_PING: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two attempts to connect of a request that waits for its destination.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct GrpcSettings {
    pub client: ClientSettings,
    target: Target,
    /// Host and port whose addresses take turns.
    balanced: Option<(String, u16)>,
    wait_for_ready: bool,
}

impl GrpcSettings {
    /// Whether what is sent does not leave this machine.
    fn is_local(&self) -> bool {
        match &self.target {
            Target::Unix(_) => true,
            Target::Name(name) => ["localhost:", "127.", "[::1]:"].iter().any(|local| name.starts_with(local)),
            _ => false,
        }
    }
}

/// An endpoint, as it was written.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    /// `Some` where a scheme decides about TLS.
    https: Option<bool>,
    target: Target,
    authority: String,
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let target = Target::Unix(path.into());
            return (!path.is_empty()).then(|| Self { https: None, target, authority: "localhost".into() });
        }
        let (https, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(false), rest.trim_end_matches('/')),
            Some(("https", rest)) => (Some(true), rest.trim_end_matches('/')),
            // Behind the second slash stands a name server, which is the system's here.
            Some(("dns" | "passthrough", rest)) => (None, rest.split_once('/')?.1),
            Some(_) => return None,
            None => (None, text.strip_prefix("dns:").unwrap_or(text)),
        };
        let (host, port) = rest.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let authority: http::uri::Authority = rest.parse().ok()?;
        let is_bare = authority.as_str() == rest && !host.is_empty() && !rest.contains('@');
        is_bare.then(|| Self { https, target: Target::Name(rest.to_owned()), authority: rest.to_owned() })
    }
}

/// Reads the exporter's section.
pub fn read(mut section: Section<'_>) -> Option<GrpcSettings> {
    let written = section.text("endpoint").unwrap_or_default();
    let tls = TlsSettings::read(section.section("tls"));
    let endpoint = Endpoint::parse(&written);
    if endpoint.is_none() {
        let message = if written.is_empty() { "has no endpoint".into() } else { format!("`{written}` is no endpoint") };
        section.problem_at("endpoint", message, "write `host:port`, such as `tempo:4317`");
    }
    let authority = section.text("authority").filter(|name| !name.is_empty());
    let url = endpoint.as_ref().and_then(|endpoint| {
        let scheme = if endpoint.https.unwrap_or(!tls.is_off()) { "https" } else { "http" };
        let authority = authority.as_ref().unwrap_or(&endpoint.authority);
        let url = format!("{scheme}://{authority}{EXPORT}").parse().ok();
        if url.is_none() {
            section.problem_at("authority", format!("`{authority}` is no host"), "");
        }
        url
    });
    let compression = read_compression(&mut section, &["gzip", "zstd", "snappy"], Codec::of_grpc);
    let client = ClientSettings::read(&mut section, url, tls, compression, Duration::from_secs(5));
    let takes_turns =
        section.choice_or("balancer_name", &["round_robin", "pick_first", ""], "round_robin") != "pick_first";
    let wait_for_ready = section.boolean_or("wait_for_ready", false);
    let (mut ping_after, mut ping_timeout, mut ping_while_idle) = (None, None, false);
    if let Some(mut keepalive) = section.section("keepalive") {
        ping_after = keepalive.duration("time").filter(|time| !time.is_zero()).map(|time| time.max(LEAST_PING));
        ping_timeout = keepalive.duration("timeout").filter(|timeout| !timeout.is_zero()).or(Some(PING_TIMEOUT));
        ping_while_idle = keepalive.boolean_or("permit_without_stream", false);
        keepalive.finish();
    }
    section.finish();
    let target = endpoint?.target;
    let balanced = match &target {
        Target::Name(name) if takes_turns => name
            .rsplit_once(':')
            .filter(|(host, _)| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err())
            .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?))),
        _ => None,
    };
    let client = ClientSettings { ping_after, ping_timeout, ping_while_idle, ..client? };
    Some(GrpcSettings { client, target, balanced, wait_for_ready })
}

pub struct OtlpGrpcExporter {
    caller: Caller,
    sending: Sending,
}

/// Makes the calls.
struct Caller {
    id: Id,
    backends: Backends,
    settings: GrpcSettings,
    auth: Option<Arc<dyn Authorizer>>,
    /// Those that every call has.
    headers: HeaderMap,
    metrics: ExporterMetrics,
}

impl OtlpGrpcExporter {
    pub fn new(
        id: Id,
        settings: GrpcSettings,
        auth: Option<Arc<dyn Authorizer>>,
        metrics: ExporterMetrics,
        drain: Drain,
    ) -> Result<Self, TlsError> {
        let client = &settings.client;
        let tls = client.is_https().then(|| ClientTls::new(client.tls.clone(), &[b"h2"])).transpose()?;
        let proxies = client.proxies();
        let mut builder = client.builder();
        builder.http2_only(true);
        // A proxy looks names up itself.
        let balanced =
            settings.balanced.clone().filter(|(host, port)| proxies.of(Some("https"), host, *port).is_none());
        let target = settings.target.clone();
        let connector = Connector { target, tls: tls.map(Arc::new), proxies, always_tunnel: true };
        let backends = match balanced {
            Some((host, port)) => Backends::each(host, port, builder, connector),
            None => Backends::One(Box::new(builder.build(connector))),
        };
        if auth.as_ref().is_some_and(|auth| auth.shows_secrets()) && !client.is_https() && !settings.is_local() {
            let endpoint = client.url.authority().map(|authority| authority.as_str());
            tracing::warn!(exporter = %id, endpoint, "credentials go to the destination without TLS, for all to read");
        }
        let sending = Sending::new(id.clone(), client.sending.clone(), metrics.clone(), drain);
        let headers = headers(client);
        Ok(Self { caller: Caller { id, backends, settings, auth, headers, metrics }, sending })
    }
}

fn headers(settings: &ClientSettings) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(compression) = settings.compression {
        headers.insert("grpc-encoding", HeaderValue::from_static(compression.codec.grpc_name()));
    }
    if !settings.timeout.is_zero()
        && let Ok(value) = HeaderValue::from_str(&format!("{}m", settings.timeout.as_millis().min(99_999_999)))
    {
        headers.insert("grpc-timeout", value);
    }
    for (name, value) in &settings.headers {
        headers.insert(name, value.clone());
    }
    headers
}

impl Caller {
    fn endpoint(&self) -> String {
        match &self.settings.target {
            Target::Unix(path) => format!("unix://{}", path.display()),
            _ => {
                let url = &self.settings.client.url;
                let name = if let Target::Name(name) = &self.settings.target { name } else { "" };
                format!("{}://{name}", url.scheme_str().unwrap_or_default())
            }
        }
    }

    fn timed_out(&self) -> Failure {
        let message = format!("{} did not answer within {:?}", self.endpoint(), self.settings.client.timeout);
        ConsumeError::retryable(message).with_code(Code::DeadlineExceeded as i32).into()
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        self.unreachable_for(&root_cause(error).to_string())
    }

    fn unreachable_for(&self, cause: &str) -> Failure {
        let message = format!("{} cannot be reached: {cause}", self.endpoint());
        ConsumeError::retryable(message).with_code(Code::Unavailable as i32).into()
    }

    async fn call(&self, headers: HeaderMap, body: &Bytes, spans: usize) -> Result<Outcome, Failure> {
        let response = self.exchange(headers, body).await?;
        let (parts, mut body) = response.into_parts();
        let mut status = RpcStatus::of_headers(&parts.headers);
        let mut answer = vec![];
        while status.is_none() {
            let Some(frame) = body.frame().await else { break };
            let frame = frame.map_err(|error| self.unreachable(&error))?;
            match frame.into_data() {
                Ok(data) if answer.len() + data.len() > ANSWER_LIMIT => {
                    let message = format!("{} answered more than {ANSWER_LIMIT} bytes", self.endpoint());
                    return Err(ConsumeError::permanent(message).into());
                }
                Ok(data) => answer.extend_from_slice(&data),
                Err(frame) => status = frame.trailers_ref().and_then(RpcStatus::of_headers),
            }
        }
        match status {
            Some(status) if status.code == Code::Ok as i32 => {
                let message = answer.get(PREFIX..).unwrap_or_default();
                Ok(answer::accepted(&self.id, message, spans, &self.metrics))
            }
            Some(status) => {
                let retry_exhausted = self.settings.client.sending.retry_exhausted;
                Err(answer::of_grpc(&status, retry_exhausted))
            }
            // No gRPC status at all: a proxy, or something that is no gRPC server.
            None => Err(answer::without_grpc_status(parts.status)),
        }
    }

    /// Sends the request to whoever takes the connection.
    async fn exchange(&self, headers: HeaderMap, body: &Bytes) -> Result<http::Response<Incoming>, Failure> {
        let (mut tried, mut pause) = (vec![], FIRST_PAUSE);
        loop {
            let failure = match self.backends.pick(&tried).await {
                Ok((client, address)) => {
                    let mut request = http::Request::new(Ready::new(body.clone()));
                    *request.method_mut() = http::Method::POST;
                    *request.uri_mut() = self.settings.client.url.clone();
                    *request.version_mut() = http::Version::HTTP_2;
                    *request.headers_mut() = headers.clone();
                    match client.request(request).await {
                        Ok(response) => {
                            self.backends.worked(address);
                            return Ok(response);
                        }
                        Err(error) if !error.is_connect() => return Err(self.unreachable(&error)),
                        Err(_) if self.backends.failed(address, &mut tried) => continue,
                        Err(error) => self.unreachable(&error),
                    }
                }
                Err(cause) => self.unreachable_for(&cause),
            };
            if !self.settings.wait_for_ready {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            tried.clear();
        }
    }
}

impl Destination for Caller {
    async fn body(&self, parcel: &Parcel) -> Result<Bytes, ConsumeError> {
        let Some(compression) = self.settings.client.compression else { return Ok(parcel.message.framed()) };
        if let Some(framed) = as_it_came(compression, &parcel.message) {
            return Ok(framed);
        }
        let mut out = pack(compression, parcel.message.bytes(), PREFIX).await?;
        write_prefix(true, &mut out);
        Ok(out.into())
    }

    async fn attempt(&self, parcel: &Parcel, body: &Bytes) -> Result<Outcome, Failure> {
        let headers = super::headers(&self.headers, self.auth.as_deref(), parcel)?;
        let timeout = self.settings.client.timeout;
        let call = self.call(headers, body, parcel.spans);
        if timeout.is_zero() {
            return call.await;
        }
        tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| Err(self.timed_out()))
    }
}

impl Exporter for OtlpGrpcExporter {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        Box::pin(self.sending.run(parcel, &self.caller))
    }

    fn room(&self) -> Room {
        self.sending.room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_in_every_form() {
        let name = |text: &str| Target::Name(text.to_owned());
        for (text, https, target) in [
            ("tempo:4317", None, name("tempo:4317")),
            ("[::1]:4317", None, name("[::1]:4317")),
            ("dns:///tempo.svc:4317", None, name("tempo.svc:4317")),
            ("dns://10.0.0.1/tempo:4317", None, name("tempo:4317")),
            ("dns:tempo:4317", None, name("tempo:4317")),
            ("passthrough:///tempo:4317", None, name("tempo:4317")),
            ("http://tempo:4317/", Some(false), name("tempo:4317")),
            ("https://tempo:443", Some(true), name("tempo:443")),
            ("unix:///run/tempo.sock", None, Target::Unix("/run/tempo.sock".into())),
            ("unix:tempo.sock", None, Target::Unix("tempo.sock".into())),
        ] {
            let found = Endpoint::parse(text).unwrap();
            assert_eq!((found.https, found.target), (https, target), "{text}");
        }
        for text in
            ["", "tempo", "tempo:", ":4317", "tempo:http", "tempo:70000", "ftp://tempo:1", "http://tempo", "unix:"]
        {
            assert_eq!(Endpoint::parse(text), None, "{text}");
        }
        for text in ["http://tempo:4317/path", "user@tempo:4317", "a b:4317"] {
            assert_eq!(Endpoint::parse(text), None, "{text}");
        }
    }
}
