//! The `otlp` receiver: gRPC and HTTP, protobuf and JSON.
//!
//! Its answer to a sender is its pipelines' answer. The walk that validates a
//! request also indexes it where a processor will look into it.

mod body;
mod cors;
mod grpc;
mod http;
mod settings;

use std::sync::Arc;

pub use settings::{Endpoint, OtlpSettings, Protocol};

use crate::component::{Authenticator, ConsumeError, Consumer, Gate, Id, Identity, Outcome, Unauthenticated};
use crate::telemetry::{Metrics, ReceiverMetrics};
use crate::traces::{Batch, Context, Message, WireError, countable_spans};
use crate::transport::budget::Budget;
use crate::transport::listen::{Listener, Server};
use crate::transport::stream::Peer;
use crate::transport::tls::ServerTls;
use crate::transport::tls::TlsError;

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
    door: Door,
    budget: Arc<Budget>,
    /// The context of requests that carry nothing of their own.
    context: Arc<Context>,
}

/// Who lets requests in.
#[derive(Clone, Default)]
pub struct Door {
    pub gates: Vec<Arc<dyn Gate>>,
    pub authenticator: Option<Arc<dyn Authenticator>>,
}

impl Intake {
    /// Whether requests are taken at all now.
    fn admit(&self) -> Result<(), ConsumeError> {
        let admitted = self.door.gates.iter().try_for_each(|gate| gate.admit());
        admitted.inspect_err(|_| self.failed(0))
    }

    /// Lets a request in by its headers.
    async fn authenticate(&self, headers: &::http::HeaderMap) -> Result<Identity, Unauthenticated> {
        match &self.door.authenticator {
            Some(authenticator) => authenticator.authenticate(headers).await,
            None => Ok(Identity::default()),
        }
    }

    /// Validates a request and hands it on; answers with the spans that were not taken.
    async fn accept(
        &self,
        message: Message,
        parts: &::http::request::Parts,
        identity: Identity,
    ) -> Result<Outcome, Refusal> {
        let context = self.context(parts, identity);
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
        let mut outcome = Outcome::default();
        if rejected > 0 {
            let why =
                "spans have a trace id that is not 16 bytes or a span, parent or link id that is not 8, or only zeros";
            outcome = Outcome::rejected(rejected, format!("{rejected} {why}"));
        }
        if batch.spans() > 0 {
            outcome = outcome.and(self.consumer.consume(batch).await.map_err(Refusal::Pipeline)?);
        }
        account.accepted = true;
        Ok(outcome)
    }

    /// Counts a request that did not come as far as the pipelines, and the spans known of it.
    fn failed(&self, spans: usize) {
        self.metrics.failed.inc_by(spans as u64);
        self.metrics.failed_requests.inc();
    }

    fn context(&self, parts: &::http::request::Parts, identity: Identity) -> Arc<Context> {
        // Only processors ask where a sender is.
        let client = parts.extensions.get::<Peer>().filter(|_| self.consumer.looks_inside()).map(|peer| peer.0);
        if !self.settings.include_metadata && identity.is_empty() && client.is_none() {
            return Arc::clone(&self.context);
        }
        let mut context = Context { auth: identity, client, ..Context::clone(&self.context) };
        if self.settings.include_metadata {
            let headers = &parts.headers;
            let text = |value: &::http::HeaderValue| value.to_str().ok().map(str::to_owned);
            let kept = headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)));
            context.metadata = kept.collect();
        }
        Arc::new(context)
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

/// A receiver whose settings and files are sound; no port is open yet.
pub struct OtlpReceiver {
    id: Id,
    grpc: Option<Port>,
    http: Option<Port>,
}

struct Port {
    settings: Protocol,
    tls: Option<ServerTls>,
    door: Door,
}

/// A file of a protocol that cannot be used, with the settings that name it.
pub type TlsProblem = (crate::transport::tls::ServerTlsSettings, TlsError);

impl OtlpReceiver {
    /// Reads the files that `tls` names. `doors` are those of the two
    /// protocols, gRPC's first.
    pub fn new(id: Id, settings: OtlpSettings, doors: [Door; 2]) -> Result<Self, Box<TlsProblem>> {
        let [grpc_door, http_door] = doors;
        let port = |settings: Option<Protocol>, door| -> Result<_, Box<TlsProblem>> {
            match settings {
                None => Ok(None),
                Some(settings) => {
                    let versions = settings.connections.versions;
                    let tls = settings
                        .tls
                        .clone()
                        .map(|tls| ServerTls::new(tls.clone(), versions).map_err(|error| Box::new((tls, error))));
                    Ok(Some(Port { tls: tls.transpose()?, settings, door }))
                }
            }
        };
        Ok(Self { id, grpc: port(settings.grpc, grpc_door)?, http: port(settings.http, http_door)? })
    }

    /// Opens the ports.
    pub async fn bind(self) -> Result<BoundReceiver, BindError> {
        let open = async |port: Option<Port>| match port {
            None => Ok(None),
            Some(port) => {
                let bound = match &port.settings.endpoint {
                    Endpoint::Tcp(address) => Listener::bind(address).await,
                    Endpoint::Unix(path) => Listener::bind_unix(path).await,
                };
                let failed = |source| BindError { endpoint: port.settings.endpoint.to_string(), source };
                Ok(Some((bound.map_err(failed)?, port)))
            }
        };
        Ok(BoundReceiver { id: self.id, grpc: open(self.grpc).await?, http: open(self.http).await? })
    }
}

/// A receiver whose ports are open but which takes nothing yet.
pub struct BoundReceiver {
    id: Id,
    grpc: Option<(Listener, Port)>,
    http: Option<(Listener, Port)>,
}

impl BoundReceiver {
    /// Begins to receive.
    pub fn serve(self, consumer: &Arc<dyn Consumer>, metrics: &Metrics, budget: &Arc<Budget>) -> Vec<Server> {
        let mut servers = vec![];
        let intake = |settings: &Protocol, door, transport: &'static str| {
            let context = Context { receiver: Arc::clone(&self.id), transport, ..Context::default() };
            Arc::new(Intake {
                consumer: Arc::clone(consumer),
                metrics: metrics.receiver(&self.id, transport),
                settings: settings.clone(),
                door,
                budget: Arc::clone(budget),
                context: Arc::new(context),
            })
        };
        if let Some((listener, Port { settings, tls, door })) = self.grpc {
            tracing::info!(receiver = %self.id, endpoint = %listener.address, "receiving OTLP over gRPC");
            let intake = intake(&settings, door, "grpc");
            let handle = move |request| grpc::handle(Arc::clone(&intake), request);
            servers.push(listener.serve_with(settings.connections, tls, handle));
        }
        if let Some((listener, Port { settings, tls, door })) = self.http {
            tracing::info!(receiver = %self.id, endpoint = %listener.address, "receiving OTLP over HTTP");
            let intake = intake(&settings, door, "http");
            let handle = move |request| http::handle(Arc::clone(&intake), request);
            servers.push(listener.serve_with(settings.connections, tls, handle));
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
