//! The `otlp` receiver: gRPC and HTTP, protobuf.
//!
//! Its answer to a sender is its pipelines' answer. The walk that validates a
//! request also indexes it where a processor will look into it.

mod grpc;
mod http;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;

pub use settings::{OtlpSettings, Protocol};

use crate::component::{ConsumeError, Consumer, Id};
use crate::telemetry::{Metrics, ReceiverMetrics};
use crate::traces::{Batch, Context, Message, WireError, countable_spans};
use crate::transport::listen::{Listener, Server, Versions};

/// Why a request was not accepted, before a protocol puts it in its words.
#[derive(Debug)]
enum Refusal {
    Malformed(WireError),
    Pipeline(ConsumeError),
}

/// One protocol of one receiver: what both have in common.
struct Intake {
    consumer: Arc<dyn Consumer>,
    metrics: ReceiverMetrics,
    settings: Protocol,
    /// The context of requests that carry no metadata of their own.
    context: Arc<Context>,
}

impl Intake {
    /// Validates a request and hands it on; answers how many spans had to be taken out.
    async fn accept(&self, message: Message, headers: &::http::HeaderMap) -> Result<usize, Refusal> {
        let context = self.context(headers);
        let wire = message.bytes();
        let received = Batch::receive(message, context, self.consumer.looks_inside());
        let (batch, rejected) = received.map_err(|error| {
            self.failed(countable_spans(&wire));
            Refusal::Malformed(error)
        })?;
        drop(wire);
        self.metrics.rejected.inc_by(rejected as u64);
        let mut account = Account { spans: batch.spans() as u64, metrics: &self.metrics, accepted: false };
        self.metrics.in_flight.add(batch.spans() as i64);
        if batch.spans() > 0 {
            self.consumer.consume(batch).await.map_err(Refusal::Pipeline)?;
        }
        account.accepted = true;
        Ok(rejected)
    }

    /// Counts a request that did not come as far as the pipelines, and the spans known of it.
    fn failed(&self, spans: usize) {
        self.metrics.failed.inc_by(spans as u64);
        self.metrics.failed_requests.inc();
    }

    fn context(&self, headers: &::http::HeaderMap) -> Arc<Context> {
        if !self.settings.include_metadata {
            return Arc::clone(&self.context);
        }
        let text = |value: &::http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let kept = headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)));
        Arc::new(Context { metadata: kept.collect(), ..Context::clone(&self.context) })
    }
}

/// Counts the spans of a request once, also when its sender goes away and the
/// request is dropped half-way.
struct Account<'a> {
    spans: u64,
    metrics: &'a ReceiverMetrics,
    accepted: bool,
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        let Self { metrics, .. } = self;
        let (spans, requests) = match self.accepted {
            true => (&metrics.accepted, &metrics.succeeded_requests),
            false => (&metrics.refused, &metrics.refused_requests),
        };
        spans.inc_by(self.spans);
        requests.inc();
        self.metrics.in_flight.sub(self.spans as i64);
    }
}

/// A receiver whose ports are open but which takes nothing yet.
pub struct BoundReceiver {
    id: Id,
    settings: OtlpSettings,
    grpc: Option<Listener>,
    http: Option<Listener>,
}

impl BoundReceiver {
    /// Opens the ports.
    pub async fn bind(id: Id, settings: OtlpSettings) -> Result<Self, BindError> {
        let open = async |protocol: &Option<Protocol>| match protocol {
            None => Ok(None),
            Some(protocol) => {
                let bound = Listener::bind(&protocol.endpoint).await;
                bound.map(Some).map_err(|source| BindError { endpoint: protocol.endpoint.clone(), source })
            }
        };
        let (grpc, http) = (open(&settings.grpc).await?, open(&settings.http).await?);
        Ok(Self { id, settings, grpc, http })
    }

    /// Begins to receive.
    pub fn serve(self, consumer: &Arc<dyn Consumer>, metrics: &Metrics) -> Vec<Server> {
        let intake = |settings: Protocol, transport: &'static str| {
            let context = Context { receiver: Arc::clone(&self.id), transport, ..Context::default() };
            let metrics = metrics.receiver(&self.id, transport);
            Arc::new(Intake { consumer: Arc::clone(consumer), metrics, settings, context: Arc::new(context) })
        };
        let mut servers = vec![];
        if let (Some(listener), Some(settings)) = (self.grpc, self.settings.grpc.clone()) {
            tracing::info!(receiver = %self.id, endpoint = %listener.address, "receiving OTLP over gRPC");
            let intake = intake(settings, "grpc");
            let handle = move |request| grpc::handle(Arc::clone(&intake), request);
            servers.push(listener.serve(Versions::Http2, handle));
        }
        if let (Some(listener), Some(settings)) = (self.http, self.settings.http.clone()) {
            tracing::info!(receiver = %self.id, endpoint = %listener.address, "receiving OTLP over HTTP");
            let intake = intake(settings, "http");
            let handle = move |request| http::handle(Arc::clone(&intake), request);
            servers.push(listener.serve(Versions::Any, handle));
        }
        servers
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{endpoint}` cannot be listened on")]
pub struct BindError {
    pub endpoint: String,
    #[source]
    pub source: std::io::Error,
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the request is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the request's body broke off: {0}")]
    Broken(hyper::Error),
    #[error("the sender paused for more than {0:?}")]
    Slow(Duration),
}

/// Between two pieces of a body a sender may pause for so long.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// The next piece of a body.
async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    use http_body_util::BodyExt as _;
    loop {
        let frame = tokio::time::timeout(BODY_PAUSE, body.frame()).await.map_err(|_| BodyError::Slow(BODY_PAUSE))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(BodyError::Broken(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
