//! The `otlp` receiver: gRPC and HTTP, protobuf and JSON.
//!
//! Its answer to a sender is its pipelines' answer. The walk that validates a
//! request also indexes it where a processor will look into it.

mod body;
mod cors;
mod grpc;
mod http;
mod settings;

use std::sync::{Arc, PoisonError, RwLock};

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
        let (mut batch, invalid) = received.map_err(|error| {
            self.failed(countable_spans(&wire));
            Refusal::Malformed(error)
        })?;
        drop(wire);
        batch.held.received(&self.metrics.clerk, &invalid);
        let rejected = invalid.len();
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
    /// One for each protocol.
    pub ports: Vec<Port>,
}

/// One protocol of a receiver.
pub struct Port {
    pub id: Id,
    pub transport: &'static str,
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
        let protocols = [("grpc", settings.grpc, grpc_door), ("http", settings.http, http_door)];
        let mut ports = vec![];
        for (transport, settings, door) in protocols {
            let Some(settings) = settings else { continue };
            let versions = settings.connections.versions;
            let load = |tls: &crate::transport::tls::ServerTlsSettings| {
                ServerTls::new(tls.clone(), versions).map_err(|error| Box::new((tls.clone(), error)))
            };
            let tls = settings.tls.as_ref().map(load).transpose()?;
            ports.push(Port { id: Arc::clone(&id), transport, settings, tls, door });
        }
        Ok(Self { ports })
    }
}

/// What stands behind a port: it is the same for all ports of a receiver.
pub struct Line<'a> {
    pub consumer: &'a Arc<dyn Consumer>,
    pub metrics: &'a Metrics,
    pub budget: &'a Arc<Budget>,
}

impl Port {
    pub fn endpoint(&self) -> &Endpoint {
        &self.settings.endpoint
    }

    /// Opens the socket; nothing is taken from it yet.
    pub async fn bind(&self) -> std::io::Result<Listener> {
        match &self.settings.endpoint {
            Endpoint::Tcp(address) => Listener::bind(address).await,
            Endpoint::Unix(path) => Listener::bind_unix(path).await,
        }
    }

    /// Begins to receive.
    pub fn serve(self, listener: Arc<Listener>, line: &Line<'_>) -> OpenPort {
        let protocol = if self.transport == "grpc" { "gRPC" } else { "HTTP" };
        tracing::info!(receiver = %self.id, endpoint = %listener.address, "receiving OTLP over {protocol}");
        let (id, transport, endpoint) = (Arc::clone(&self.id), self.transport, self.settings.endpoint.clone());
        let connections = self.settings.connections.clone();
        let (intake, tls) = self.intake(line);
        let switch = Arc::new(Switch(RwLock::new(intake)));
        let behind = Arc::clone(&switch);
        let server = match transport {
            "grpc" => listener.serve_with(connections, tls, move |request| grpc::handle(behind.intake(), request)),
            _ => listener.serve_with(connections, tls, move |request| http::handle(behind.intake(), request)),
        };
        OpenPort { id, transport, endpoint, server, switch }
    }

    fn intake(self, line: &Line<'_>) -> (Arc<Intake>, Option<ServerTls>) {
        let Self { id, transport, settings, tls, door } = self;
        let metrics = line.metrics.receiver(&id, transport);
        let context = Arc::new(Context { receiver: id, transport, ..Context::default() });
        let (consumer, budget) = (Arc::clone(line.consumer), Arc::clone(line.budget));
        (Arc::new(Intake { consumer, metrics, settings, door, budget, context }), tls)
    }
}

/// Leads each request to the intake of this moment; those under way stay with theirs.
struct Switch(RwLock<Arc<Intake>>);

impl Switch {
    fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, intake: Arc<Intake>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = intake;
    }
}

/// A port that receives.
pub struct OpenPort {
    pub id: Id,
    pub transport: &'static str,
    pub endpoint: Endpoint,
    pub server: Server,
    switch: Arc<Switch>,
}

impl OpenPort {
    /// Puts what a reload has built behind the connections there are. `port` has the
    /// same settings as this one, though its files may hold something else by now.
    pub fn change(&self, port: Port, line: &Line<'_>) {
        let (intake, tls) = port.intake(line);
        self.server.renew(tls);
        self.switch.set(intake);
    }

    /// Gives way to a port of the same receiver and protocol with other settings: the
    /// connections there are lead to it, too, until they are gone.
    pub fn give_way(self, to: &OpenPort) -> Server {
        self.switch.set(to.switch.intake());
        self.server.leave();
        self.server
    }
}
