//! `periodic` readers: the collector's metrics go out by themselves, as OTLP or
//! onto standard output.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::{Method, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::component::shortened;
use crate::config::Section;
use crate::telemetry::{Exposition, Metrics, Resource, encode_otlp};
use crate::transport::body::Ready;
use crate::transport::compress::{Codec, Compression};
use crate::transport::connect::{Connector, Target};
use crate::transport::proxy::Proxies;
use crate::transport::status::RpcStatus;
use crate::transport::tls::{ClientTls, TlsError, TlsSettings};

#[derive(Debug, Clone)]
pub struct PushSettings {
    interval: Duration,
    /// How long one push may take.
    timeout: Duration,
    exporter: Exporter,
}

#[derive(Debug, Clone)]
enum Exporter {
    Console,
    Otlp(Box<OtlpSettings>),
}

#[derive(Debug, Clone)]
struct OtlpSettings {
    is_grpc: bool,
    endpoint: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    gzip: bool,
    tls: TlsSettings,
}

const GRPC_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const HTTP_PATH: &str = "/v1/metrics";
/// No answer is read beyond this.
const ANSWER_LIMIT: usize = 64 << 10;

impl PushSettings {
    pub fn read(mut section: Section<'_>) -> Option<Self> {
        let interval = milliseconds(&mut section, "interval", 60_000);
        let timeout = milliseconds(&mut section, "timeout", 30_000);
        let mut exporters = section.section_or_default("exporter");
        let console = exporters.section("console");
        let otlp: Vec<_> = ["otlp", "otlp_grpc", "otlp_http"]
            .into_iter()
            .filter_map(|name| exporters.section(name).map(|section| (name, section)))
            .collect();
        if usize::from(console.is_some()) + otlp.len() != 1 {
            let hint = "write `otlp: {protocol: http/protobuf, endpoint: …}`, or `console: {}`";
            exporters.problem("does not name one exporter", hint);
        }
        exporters.finish();
        section.finish();
        if let Some(console) = console {
            console.finish();
            return Some(Self { interval, timeout, exporter: Exporter::Console });
        }
        let (name, section) = otlp.into_iter().next()?;
        let exporter = Exporter::Otlp(Box::new(read_otlp(name, section)?));
        Some(Self { interval, timeout, exporter })
    }
}

/// The declarative configuration has whole milliseconds.
fn milliseconds(section: &mut Section<'_>, key: &str, default: u64) -> Duration {
    let value = section.u64_or(key, default);
    if value == 0 {
        section.problem_at(key, "must be larger than 0", "write milliseconds, such as 60000");
    }
    Duration::from_millis(value.max(1))
}

fn read_otlp(name: &str, mut section: Section<'_>) -> Option<OtlpSettings> {
    let is_grpc = match name {
        "otlp_grpc" => true,
        "otlp_http" => false,
        _ => section.choice_or("protocol", &["http/protobuf", "grpc"], "http/protobuf") == "grpc",
    };
    let default = if is_grpc { "http://localhost:4317" } else { "http://localhost:4318" };
    let written = section.text_or("endpoint", default);
    let is_insecure = section.boolean_or("insecure", false);
    let mut tls = TlsSettings::read(section.section("tls"));
    tls.insecure |= is_insecure;
    let endpoint = endpoint(&written, is_grpc, tls.insecure);
    if endpoint.is_none() {
        let hint = format!("write a URL, such as `{default}`");
        section.problem_at("endpoint", format!("`{written}` is no URL"), hint);
    }
    let mut headers = vec![];
    for (name, value) in section.headers("headers") {
        match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            _ => section.problem_at("headers", format!("`{name}` and its value are no header"), ""),
        }
    }
    let gzip = section.choice_or("compression", &["none", "gzip"], "none") == "gzip";
    section.choice("temporality_preference", &["cumulative"]);
    section.choice("default_histogram_aggregation", &["explicit_bucket_histogram"]);
    for key in ["certificate", "client_key", "client_certificate"] {
        section.refuse(key, "is not read here", "use `tls: {ca_file: …, cert_file: …, key_file: …}`");
    }
    section.refuse("headers_list", "is not read here", "use `headers`");
    // The reader's own time limit holds for all of a push.
    section.ignore("timeout");
    section.finish();
    Some(OtlpSettings { is_grpc, endpoint: endpoint?, headers, gzip, tls })
}

/// The URL of the service; without a scheme it is https unless it is to be insecure.
fn endpoint(written: &str, is_grpc: bool, insecure: bool) -> Option<Uri> {
    let scheme = if insecure { "http" } else { "https" };
    let full = if written.contains("://") { written.to_owned() } else { format!("{scheme}://{written}") };
    let uri = full.parse::<Uri>().ok()?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return None;
    }
    let path = match uri.path() {
        _ if is_grpc => GRPC_PATH,
        "" | "/" => HTTP_PATH,
        path => path,
    };
    format!("{}://{}{path}", uri.scheme_str()?, uri.authority()?).parse().ok()
}

/// A reader that pushes, until it is finished.
pub struct Push {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Push {
    fn start(pusher: Pusher) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let start = tokio::time::Instant::now() + pusher.settings.interval;
            let mut ticks = tokio::time::interval_at(start, pusher.settings.interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => pusher.push().await,
                    _ = stopped.changed() => break,
                }
            }
            pusher.push().await;
        });
        Self { stop, task }
    }

    /// Pushes once more, and ends.
    pub async fn finish(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

type HttpClient = Client<Connector, Ready>;

fn client(settings: &OtlpSettings) -> Result<HttpClient, TlsError> {
    let is_https = settings.endpoint.scheme_str() == Some("https");
    let protocols: &'static [&'static [u8]] = if settings.is_grpc { &[b"h2"] } else { &[b"h2", b"http/1.1"] };
    let tls = if is_https { Some(Arc::new(ClientTls::new(settings.tls.clone(), protocols)?)) } else { None };
    let proxies = Arc::new(Proxies::of_environment());
    let connector = Connector { target: Target::OfRequest, tls, proxies, always_tunnel: settings.is_grpc };
    Ok(Client::builder(TokioExecutor::new()).http2_only(settings.is_grpc).build(connector))
}

/// A reader that is ready to push.
pub struct Pusher {
    settings: PushSettings,
    client: Option<HttpClient>,
    resource: Resource,
    metrics: Arc<Metrics>,
    started: SystemTime,
}

impl Pusher {
    /// Reads the files that its settings name.
    pub fn new(settings: PushSettings, resource: Resource, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let client = match &settings.exporter {
            Exporter::Console => None,
            Exporter::Otlp(otlp) => Some(client(otlp)?),
        };
        let now = SystemTime::now();
        // The counters began with the process, and not with the config that asks for them.
        let started = now.checked_sub(metrics.started().elapsed()).unwrap_or(now);
        Ok(Self { settings, client, resource, metrics, started })
    }

    pub fn start(self) -> Push {
        Push::start(self)
    }

    async fn push(&self) {
        let (Exporter::Otlp(settings), Some(client)) = (&self.settings.exporter, &self.client) else {
            let text = Exposition::default().render(&self.metrics.gather(), &self.resource);
            if let Err(error) = std::io::stdout().lock().write_all(text.as_bytes()) {
                tracing::warn!(%error, "the metrics cannot be written to standard output");
            }
            return;
        };
        let message = encode_otlp(self.metrics.gather(), &self.resource, self.started);
        let pushed = tokio::time::timeout(self.settings.timeout, settings.send(client, &message)).await;
        let pushed = pushed.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.settings.timeout)));
        if let Err(error) = pushed {
            tracing::warn!(endpoint = %settings.endpoint, error, "the collector's own metrics were not taken");
        }
    }
}

impl OtlpSettings {
    async fn send(&self, client: &HttpClient, message: &[u8]) -> Result<(), String> {
        let mut body = vec![];
        if self.is_grpc {
            body.extend_from_slice(&[u8::from(self.gzip), 0, 0, 0, 0]);
        }
        match self.gzip.then_some(Codec::Gzip) {
            Some(codec) => {
                let packed = Compression { codec, level: None }.compress(message, &mut body);
                packed.map_err(|error| format!("the metrics cannot be compressed: {error}"))?;
            }
            None => body.extend_from_slice(message),
        }
        if self.is_grpc {
            let length = u32::try_from(body.len() - 5).map_err(|_| "the metrics are too many".to_owned())?;
            if let Some(place) = body.get_mut(1..5) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        let mut request = http::Request::new(Ready::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        let headers = request.headers_mut();
        let kind = if self.is_grpc { "application/grpc" } else { "application/x-protobuf" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.is_grpc {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if self.gzip {
            let name = if self.is_grpc { HeaderName::from_static("grpc-encoding") } else { CONTENT_ENCODING };
            headers.insert(name, HeaderValue::from_static("gzip"));
        }
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let response = client.request(request).await.map_err(|error| chain(&error))?;
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            return Err(format!("it answered HTTP {}", parts.status.as_u16()));
        }
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| error.to_string())?;
        if !self.is_grpc {
            return Ok(());
        }
        let status = body.trailers().and_then(RpcStatus::of_headers);
        match status.or_else(|| RpcStatus::of_headers(&parts.headers)) {
            Some(status) if status.code == tonic::Code::Ok as i32 => Ok(()),
            Some(status) => {
                let code = tonic::Code::from_i32(status.code);
                Err(shortened(format!("rpc error: code = {code:?} desc = {}", status.message)))
            }
            None => Err("it gave no gRPC status".into()),
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_get_the_path_and_scheme_that_they_lack() {
        let of = |written, is_grpc, insecure| endpoint(written, is_grpc, insecure).map(|uri| uri.to_string());
        assert_eq!(of("http://a:4318", false, false).unwrap(), "http://a:4318/v1/metrics");
        assert_eq!(of("https://a/otlp", false, false).unwrap(), "https://a/otlp");
        assert_eq!(of("a:4317", true, true).unwrap(), format!("http://a:4317{GRPC_PATH}"));
        assert_eq!(of("a:4317", true, false).unwrap(), format!("https://a:4317{GRPC_PATH}"));
        for nonsense in ["ftp://a", "http://", "a b", ""] {
            assert_eq!(of(nonsense, false, false), None, "{nonsense}");
        }
    }
}
