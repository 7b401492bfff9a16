//! The `otlphttp` exporter: OTLP over HTTP, protobuf or JSON.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION,
    RETRY_AFTER,
};
use http::{StatusCode, Uri};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use super::answer::{self, Failure};
use super::backends::HttpClient;
use super::sending::{Destination, Drain, Sending};
use super::settings::read_compression;
use super::{ANSWER_LIMIT, ClientSettings, USER_AGENT, as_it_came, pack, root_cause};
use crate::component::{Authorizer, BoxFuture, ConsumeError, Exporter, Id, Outcome, Room};
use crate::config::{Section, Toggle};
use crate::telemetry::ExporterMetrics;
use crate::traces::{PREFIX, Parcel, encode_request};
use crate::transport::body::Ready;
use crate::transport::compress::Codec;
use crate::transport::connect::{Connector, Target};
use crate::transport::status::parse_retry_after;
use crate::transport::tls::{ClientTls, TlsError, TlsSettings};

/// As many as Go's client follows.
const REDIRECTS: usize = 10;

#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub client: ClientSettings,
    json: bool,
    max_idle: usize,
    idle_timeout: Option<Duration>,
    max_connections: Option<usize>,
    keep_alive: bool,
    try_http2: bool,
}

/// Reads the exporter's section.
pub fn read(mut section: Section<'_>) -> Option<HttpSettings> {
    let url = read_url(&mut section);
    for other_signal in ["metrics_endpoint", "logs_endpoint", "profiles_endpoint"] {
        section.ignore(other_signal);
    }
    let tls = TlsSettings::read(section.section("tls"));
    let names: Vec<&str> = Codec::http_names().collect();
    let compression = read_compression(&mut section, &names, Codec::of_http);
    let json = section.choice_or("encoding", &["proto", "json"], "proto") == "json";
    let client = ClientSettings::read(&mut section, url, tls, compression, Duration::from_secs(30));
    let some = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
    let idle = section.usize("max_idle_conns").filter(|&most| most > 0);
    let idle_per_host = section.usize("max_idle_conns_per_host").filter(|&most| most > 0);
    let max_idle = idle.unwrap_or(usize::MAX).min(idle_per_host.unwrap_or(usize::MAX));
    let max_connections = section.usize("max_conns_per_host").filter(|&most| most > 0);
    let idle_timeout = match section.duration("idle_conn_timeout") {
        None => Some(Duration::from_secs(90)),
        written => some(written),
    };
    let keep_alive = !section.boolean_or("disable_keep_alives", false);
    let try_http2 = section.boolean_or("force_attempt_http2", true);
    let ping_after = some(section.duration("http2_read_idle_timeout"));
    let ping_timeout = some(section.duration("http2_ping_timeout"));
    if let Toggle::On(mut cookies) = section.toggle("cookies") {
        if cookies.boolean_or("enabled", false) {
            cookies.problem_at("enabled", "cookies are not kept", "remove it");
        }
        cookies.finish();
    }
    section.finish();
    // Go pings idle connections too.
    let client = ClientSettings { ping_after, ping_timeout, ping_while_idle: true, ..client? };
    Some(HttpSettings { client, json, max_idle, idle_timeout, max_connections, keep_alive, try_http2 })
}

/// `traces_endpoint` as it is, or `endpoint` with the path of traces behind it.
fn read_url(section: &mut Section<'_>) -> Option<Uri> {
    let base = section.text("endpoint").filter(|text| !text.is_empty());
    let exact = section.text("traces_endpoint").filter(|text| !text.is_empty());
    let written = exact.clone().or_else(|| Some(format!("{}/v1/traces", base.as_ref()?.trim_end_matches('/'))));
    let uri = written.as_ref().and_then(|text| text.parse::<Uri>().ok());
    let url = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if url.is_none() {
        let key = if exact.is_some() { "traces_endpoint" } else { "endpoint" };
        let shown = exact.as_ref().or(base.as_ref());
        let message = shown.map_or("has no endpoint".into(), |text| format!("`{text}` is no URL"));
        section.problem_at(key, message, "write a URL, such as `http://tempo:4318`");
    }
    url
}

pub struct OtlpHttpExporter {
    poster: Poster,
    sending: Sending,
}

/// Makes the requests.
struct Poster {
    id: Id,
    client: HttpClient,
    settings: HttpSettings,
    auth: Option<Arc<dyn Authorizer>>,
    /// Those that every request has.
    headers: HeaderMap,
    /// `max_conns_per_host`: without TLS a request has a connection to itself.
    connections: Option<Semaphore>,
    metrics: ExporterMetrics,
}

impl OtlpHttpExporter {
    pub fn new(
        id: Id,
        settings: HttpSettings,
        auth: Option<Arc<dyn Authorizer>>,
        metrics: ExporterMetrics,
        drain: Drain,
    ) -> Result<Self, TlsError> {
        let client = &settings.client;
        let protocols: &'static [&'static [u8]] =
            if settings.try_http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let tls = client.is_https().then(|| ClientTls::new(client.tls.clone(), protocols)).transpose()?;
        let proxies = client.proxies();
        let mut headers = headers(&settings);
        let port = client.url.port_u16().unwrap_or(80);
        // A proxy that sees the request itself wants its credentials in there.
        if !client.is_https()
            && let Some(proxy) = proxies.of(Some("http"), client.url.host().unwrap_or_default(), port)
            && let Some(credentials) = proxy.basic_auth()
        {
            headers.insert(PROXY_AUTHORIZATION, credentials.clone());
        }
        let mut builder = client.builder();
        builder.pool_max_idle_per_host(if settings.keep_alive { settings.max_idle } else { 0 });
        builder.pool_idle_timeout(settings.idle_timeout);
        let tls = tls.map(Arc::new);
        let connector = Connector { target: Target::OfRequest, tls, proxies, always_tunnel: false };
        let sending = Sending::new(id.clone(), client.sending.clone(), metrics.clone(), drain);
        let connections = settings.max_connections.filter(|_| !client.is_https());
        let connections = connections.map(|most| Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let client = builder.build(connector);
        Ok(Self { poster: Poster { id, client, settings, auth, headers, connections, metrics }, sending })
    }
}

fn headers(settings: &HttpSettings) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let kind = if settings.json { "application/json" } else { "application/x-protobuf" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(compression) = settings.client.compression {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(compression.codec.http_name()));
    }
    if !settings.keep_alive && !settings.client.is_https() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in &settings.client.headers {
        headers.insert(name, value.clone());
    }
    headers
}

impl Poster {
    async fn post(&self, headers: &HeaderMap, body: &Bytes, spans: usize) -> Result<Outcome, Failure> {
        let _connection = match &self.connections {
            Some(connections) => connections.acquire().await.ok(),
            None => None,
        };
        let mut url = self.settings.client.url.clone();
        for _ in 0..=REDIRECTS {
            let broken = |error: &(dyn std::error::Error + 'static)| {
                Failure::retryable(format!("{url} cannot be reached: {}", root_cause(error)))
            };
            let mut request = http::Request::new(Ready::new(body.clone()));
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = url.clone();
            *request.headers_mut() = headers.clone();
            let response = self.client.request(request).await.map_err(|error| broken(&error))?;
            let (parts, mut body) = response.into_parts();
            if let Some(next) = redirect(&url, parts.status, &parts.headers) {
                url = next;
                continue;
            }
            let mut answer = vec![];
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
                if answer.len() + data.len() > ANSWER_LIMIT {
                    let message = format!("{url} answered more than {ANSWER_LIMIT} bytes");
                    return Err(ConsumeError::permanent(message).into());
                }
                answer.extend_from_slice(&data);
            }
            let is_json =
                parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
            let answer = if is_json { answer::json_to_wire(&answer, parts.status.is_success()) } else { answer };
            if parts.status.is_success() {
                return Ok(answer::accepted(&self.id, &answer, spans, &self.metrics));
            }
            let header = parts.headers.get(RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?));
            return Err(answer::of_http(&url, parts.status.as_u16(), &answer, header));
        }
        Err(ConsumeError::permanent(format!("{url} leads on and on: more than {REDIRECTS} redirects")).into())
    }
}

/// Whither the destination sends us. Only to the same host, and never from TLS to
/// plain text: the request carries credentials.
fn redirect(from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<Uri> {
    if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return None;
    }
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let to: Uri = if location.starts_with('/') && !location.starts_with("//") {
        format!("{}://{}{location}", from.scheme_str()?, from.authority()?).parse().ok()?
    } else {
        location.parse().ok()?
    };
    let is_scheme_fine = to.scheme_str() == from.scheme_str() || to.scheme_str() == Some("https");
    (is_scheme_fine && to.host().is_some() && to.host() == from.host()).then_some(to)
}

impl Destination for Poster {
    async fn body(&self, parcel: &Parcel) -> Result<Bytes, ConsumeError> {
        let message: Bytes = if self.settings.json {
            let json = encode_request(&parcel.message);
            json.map_err(|error| ConsumeError::permanent(format!("the request is no JSON: {error}")))?.into()
        } else {
            parcel.message.bytes()
        };
        match self.settings.client.compression {
            Some(compression)
                if !self.settings.json
                    && let Some(framed) = as_it_came(compression, &parcel.message) =>
            {
                Ok(framed.slice(PREFIX..))
            }
            Some(compression) => pack(compression, message, 0).await.map(Bytes::from),
            None => Ok(message),
        }
    }

    async fn attempt(&self, parcel: &Parcel, body: &Bytes) -> Result<Outcome, Failure> {
        let headers = super::headers(&self.headers, self.auth.as_deref(), parcel)?;
        let timeout = self.settings.client.timeout;
        let posted = self.post(&headers, body, parcel.spans);
        if timeout.is_zero() {
            return posted.await;
        }
        tokio::time::timeout(timeout, posted).await.unwrap_or_else(|_| {
            Err(Failure::retryable(format!("{} did not answer within {timeout:?}", self.settings.client.url)))
        })
    }
}

impl Exporter for OtlpHttpExporter {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        Box::pin(self.sending.run(parcel, &self.poster))
    }

    fn room(&self) -> Room {
        self.sending.room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_the_same_host_only_and_never_out_of_tls() {
        let to = |from: &str, status: u16, location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            let status = StatusCode::from_u16(status).unwrap();
            redirect(&from.parse().unwrap(), status, &headers).map(|uri| uri.to_string())
        };
        let from = "http://tempo:4318/v1/traces";
        assert_eq!(to(from, 308, "/otlp/v1/traces").as_deref(), Some("http://tempo:4318/otlp/v1/traces"));
        assert_eq!(to(from, 307, "https://tempo/v1/traces").as_deref(), Some("https://tempo/v1/traces"));
        assert_eq!(to(from, 301, "/otlp/v1/traces"), None);
        assert_eq!(to(from, 307, "http://other:4318/v1/traces"), None);
        assert_eq!(to(from, 307, "//other/v1/traces"), None);
        assert_eq!(to("https://tempo/v1/traces", 307, "http://tempo/v1/traces"), None);
    }
}
