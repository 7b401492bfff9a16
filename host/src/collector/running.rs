//! A collector that takes spans: from its start through any number of reloads to
//! the drain at its end.
//!
//! A new graph is taken in two steps. All that can fail comes first, and leaves what
//! runs as it is; then the ways into the old graph are led into the new one, at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Graph;
use super::base::{Base, BuiltExporter, Life};
use super::listeners;
use super::sockets::{self, Held, Socket};
use super::telemetry::{self, Push, PushSettings, Pusher, Reader, TelemetrySettings};
use crate::component::{Consumer, Delivery, Id, OpenError, StoragePlace};
use crate::config::{Component, ComponentId, Node, Problem};
use crate::exporter::abandoned;
use crate::extension::health_check::{self, Health, Stage};
use crate::extension::{Overview, zpages};
use crate::receiver::otlp::{Endpoint, Line, OpenPort, OtlpReceiver, Port};
use crate::registry::ExtensionSettings;
use crate::telemetry::{Account, LogError, Logging, State};
use crate::transport::budget::Budget;
use crate::transport::listen::Server;
use crate::transport::tls::TlsError;

/// Why a collector whose config is sound does not start, or a reload changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Bind(Box<Problem>),
    #[error("exporters.{exporter}.sending_queue: {source}")]
    Open { exporter: ComponentId, source: OpenError },
    #[error("service.telemetry.metrics: the metrics cannot be pushed")]
    Push(#[from] TlsError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// One protocol of a receiver, and where its spans go.
pub(super) struct Entrance {
    port: Port,
    /// The protocol's section as it is written.
    written: Option<Node>,
    consumer: Arc<dyn Consumer>,
}

impl Entrance {
    pub fn of(receiver: OtlpReceiver, component: &Component, consumer: &Arc<dyn Consumer>) -> Vec<Self> {
        let entrance = |port: Port| {
            let written = listeners::node(&component.settings, &["protocols", port.transport]).cloned();
            Self { port, written, consumer: Arc::clone(consumer) }
        };
        receiver.ports.into_iter().map(entrance).collect()
    }

    fn owner(&self) -> String {
        format!("receivers.{}.{}", self.port.id, self.port.transport)
    }
}

/// An entrance that is open.
struct Open {
    port: OpenPort,
    written: Option<Node>,
}

impl Open {
    /// Whether the same clients come in at both.
    fn is_before(&self, entrance: &Entrance) -> bool {
        self.port.transport == entrance.port.transport
            && (self.port.id == entrance.port.id || self.port.endpoint == *entrance.port.endpoint())
    }

    /// Whether its connections can stay as they are.
    fn fits(&self, entrance: &Entrance) -> bool {
        let same = match (&self.written, &entrance.written) {
            (Some(one), Some(other)) => one.says_the_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same && self.port.id == entrance.port.id && self.port.endpoint == *entrance.port.endpoint()
    }
}

/// A page to be served.
struct PagePlan {
    owner: String,
    endpoint: Endpoint,
    serve: Box<dyn FnOnce(Socket) -> Server + Send>,
}

struct Page {
    owner: String,
    endpoint: Endpoint,
    server: Server,
}

/// All of a graph that a start or a reload can fail with, got.
struct Prepared {
    entrances: Vec<(Entrance, Socket)>,
    pages: Vec<(PagePlan, Socket)>,
    /// `None` where those that there are go on.
    pushers: Option<Vec<Pusher>>,
}

/// A shutdown waits so long for those who are sent the collector's metrics, though
/// never longer than the grace period and this part of it.
const LAST_PUSH: Duration = Duration::from_secs(1);

/// A collector that takes spans.
pub struct Running {
    entrances: Vec<Open>,
    pages: Vec<Page>,
    pushes: Vec<Push>,
    /// `service.telemetry` as it was written.
    told: Option<Node>,
    health: Health,
    base: Base,
    budget: Arc<Budget>,
    life: Option<Life>,
    /// So long a former graph may take for what it has under way.
    grace: Duration,
    /// What former graphs have under way.
    retired: JoinSet<()>,
    /// Ends their grace.
    hurry: watch::Sender<bool>,
}

impl Graph {
    /// Opens all ports, then begins to receive. A graph that a later one replaces
    /// has `grace` for its requests.
    pub async fn start(self, grace: Duration) -> Result<Running, StartError> {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "Starting vespid...");
        let mut running = Running {
            entrances: vec![],
            pages: vec![],
            pushes: vec![],
            told: None,
            health: Health::new(),
            base: self.base.clone(),
            budget: Budget::of_process(),
            life: None,
            grace,
            retired: JoinSet::new(),
            hurry: watch::Sender::new(false),
        };
        running.take(self).await?;
        running.health.set(Stage::Ready);
        tracing::info!("Everything is ready. Begin running and processing data.");
        Ok(running)
    }
}

impl Running {
    /// What the next graph is to be built upon.
    pub fn base(&self) -> Base {
        self.base.with(self.life.as_ref())
    }

    /// Counts a reload that came no further than its config.
    pub fn reload_failed(&self) {
        self.base.metrics.reloads.failed();
    }

    /// Leads everything into another graph. What is under way comes to its end in the
    /// graph it is in. If this fails, nothing has changed.
    pub async fn reload(&mut self, graph: Graph) -> Result<(), StartError> {
        let (level, logs) = (graph.telemetry.level, graph.telemetry.logs.clone());
        let taken = match Logging::open(&logs) {
            Ok(logging) => self.take(graph).await.map(|()| logging.start()),
            Err(error) => Err(error.into()),
        };
        taken.inspect_err(|_| self.reload_failed())?;
        self.base.metrics.reloads.succeeded();
        if level != self.base.metrics.level() {
            tracing::warn!(
                "service.telemetry.metrics.level has changed, which a reload cannot apply: restart the collector \
                 for it; everything else of the config is in effect"
            );
        }
        Ok(())
    }

    /// Not to be cancelled: all of it that waits is in `prepare`, which changes nothing.
    async fn take(&mut self, graph: Graph) -> Result<(), StartError> {
        let Graph { entrances, extensions, storages, overview, base, telemetry, told, claims, life } = graph;
        life.open().await.map_err(|(exporter, source)| StartError::Open { exporter, source })?;
        let pages = self.plan_pages(extensions, overview, &telemetry);
        let pushers = if self.says_the_same(told.as_ref()) { None } else { Some(self.pushers(&telemetry)?) };
        let held = self.held();
        let mut prepared = Prepared { entrances: vec![], pages: vec![], pushers };
        for plan in pages {
            let socket = sockets::open(&held, &plan.owner, &plan.endpoint, &claims).await?;
            prepared.pages.push((plan, socket));
        }
        for entrance in entrances {
            let socket = sockets::open(&held, &entrance.owner(), entrance.port.endpoint(), &claims).await?;
            prepared.entrances.push((entrance, socket));
        }
        drop((held, base));
        self.told = told;
        tell_abandoned(&storages, &life);
        self.switch(prepared, life);
        Ok(())
    }

    fn says_the_same(&self, told: Option<&Node>) -> bool {
        match (&self.told, told) {
            (Some(one), Some(other)) => self.life.is_some() && one.says_the_same(other),
            (one, other) => self.life.is_some() && one.is_none() && other.is_none(),
        }
    }

    /// The sockets that are open.
    fn held(&self) -> Vec<Held> {
        let entrance = |open: &Open| Held {
            owner: format!("receivers.{}.{}", open.port.id, open.port.transport),
            endpoint: open.port.endpoint.clone(),
            listener: open.port.server.listener(),
        };
        let page = |page: &Page| Held {
            owner: page.owner.clone(),
            endpoint: page.endpoint.clone(),
            listener: page.server.listener(),
        };
        self.entrances.iter().map(entrance).chain(self.pages.iter().map(page)).collect()
    }

    fn plan_pages(
        &self,
        extensions: Vec<(Id, ExtensionSettings)>,
        overview: Overview,
        telemetry: &TelemetrySettings,
    ) -> Vec<PagePlan> {
        let overview = Arc::new(overview);
        let mut plans = vec![];
        for (id, settings) in extensions {
            match settings {
                ExtensionSettings::Health(settings) => {
                    for (at, server) in settings.0.into_iter().enumerate() {
                        let (id, health, overview) = (Arc::clone(&id), self.health.clone(), Arc::clone(&overview));
                        let endpoint = Endpoint::Tcp(server.port.endpoint.clone());
                        let owner = format!("extensions.{id}.{at}");
                        let serve = move |Socket { listener, is_new }| {
                            if is_new {
                                tracing::info!(extension = %id, endpoint = %listener.address, "answering health checks");
                            }
                            health_check::serve(listener, server, health, overview)
                        };
                        plans.push(PagePlan { owner, endpoint, serve: Box::new(serve) });
                    }
                }
                ExtensionSettings::Zpages(settings) => {
                    let (owner, endpoint) = (format!("extensions.{id}"), Endpoint::Tcp(settings.port.endpoint.clone()));
                    let overview = Arc::clone(&overview);
                    let serve = move |Socket { listener, is_new }: Socket| {
                        if is_new {
                            let endpoint = &listener.address;
                            tracing::info!(extension = %id, %endpoint, "serving pages at /debug/servicez");
                        }
                        zpages::serve(listener, settings, overview)
                    };
                    plans.push(PagePlan { owner, endpoint, serve: Box::new(serve) });
                }
                // The others have been built before: they open no port.
                ExtensionSettings::Pprof
                | ExtensionSettings::BasicAuth(_)
                | ExtensionSettings::BearerToken(_)
                | ExtensionSettings::FileStorage(_)
                | ExtensionSettings::HeadersSetter(_)
                | ExtensionSettings::MemoryLimiter(_) => {}
            }
        }
        plans.extend(self.plan_readers(telemetry));
        plans
    }

    /// Those who come for the metrics.
    fn plan_readers(&self, telemetry: &TelemetrySettings) -> Vec<PagePlan> {
        let mut plans = vec![];
        for (at, reader) in telemetry.readers.iter().enumerate() {
            let Reader::Pull(settings) = reader else { continue };
            let (settings, resource) = (settings.clone(), telemetry.resource.clone());
            let metrics = Arc::clone(&self.base.metrics);
            let (owner, endpoint) = (format!("service.telemetry.{at}"), Endpoint::Tcp(settings.endpoint.clone()));
            let serve = move |Socket { listener, is_new }: Socket| {
                if is_new {
                    tracing::info!(endpoint = %listener.address, "serving metrics at /metrics");
                }
                telemetry::serve(listener, settings, resource, metrics)
            };
            plans.push(PagePlan { owner, endpoint, serve: Box::new(serve) });
        }
        plans
    }

    /// Those who are sent the metrics.
    fn pushers(&self, telemetry: &TelemetrySettings) -> Result<Vec<Pusher>, TlsError> {
        let pushes = telemetry.readers.iter().filter_map(|reader| match reader {
            Reader::Push(settings) => Some(settings.as_ref()),
            Reader::Pull(_) => None,
        });
        let pusher = |settings: &PushSettings| {
            let metrics = Arc::clone(&self.base.metrics);
            Pusher::new(settings.clone(), telemetry.resource.clone(), metrics)
        };
        pushes.map(pusher).collect()
    }

    /// Nothing here fails, and nothing waits.
    fn switch(&mut self, prepared: Prepared, life: Life) {
        life.begin();
        let mut leaving = vec![];
        let mut before = std::mem::take(&mut self.entrances);
        // Who has the same name comes before who has the same place.
        for (entrance, socket) in prepared.entrances {
            let own = before.iter().position(|open| open.port.id == entrance.port.id && open.is_before(&entrance));
            let at = own.or_else(|| before.iter().position(|open| open.is_before(&entrance)));
            let former = at.map(|at| before.swap_remove(at));
            self.entrances.push(self.admit(entrance, socket, former, &mut leaving));
        }
        for gone in before {
            gone.port.server.leave();
            leaving.push(gone.port.server);
        }
        for page in std::mem::take(&mut self.pages) {
            page.server.leave();
            leaving.push(page.server);
        }
        for (PagePlan { owner, endpoint, serve }, socket) in prepared.pages {
            self.pages.push(Page { owner, endpoint, server: serve(socket) });
        }
        if let Some(pushers) = prepared.pushers {
            for push in std::mem::take(&mut self.pushes) {
                self.retired.spawn(push.finish());
            }
            self.pushes = pushers.into_iter().map(Pusher::start).collect();
        }
        if let Some(former) = self.life.replace(life) {
            self.retire(former, leaving);
        }
    }

    /// Opens an entrance, in the place of the former one if there was one.
    fn admit(&self, entrance: Entrance, socket: Socket, former: Option<Open>, leaving: &mut Vec<Server>) -> Open {
        let line = Line { consumer: &entrance.consumer, metrics: &self.base.metrics, budget: &self.budget };
        match former {
            Some(open) if open.fits(&entrance) => {
                open.port.change(entrance.port, &line);
                open
            }
            former => {
                let port = entrance.port.serve(socket.listener, &line);
                leaving.extend(former.map(|former| former.port.give_way(&port)));
                Open { port, written: entrance.written }
            }
        }
    }

    /// Lets a former graph come to its end.
    fn retire(&mut self, mut life: Life, leaving: Vec<Server>) {
        while self.retired.try_join_next().is_some() {}
        // What the new graph has kept is not the old one's any more.
        if let Some(now) = &self.life {
            life.exporters.retain(|id, built| now.exporters.get(id).is_none_or(|kept| !kept.is(built)));
        }
        let (grace, mut hurry) = (self.grace, self.hurry.subscribe());
        self.retired.spawn(async move {
            life.flush();
            let (over, is_over) = watch::channel(false);
            let leaving = join_all(leaving.into_iter().map(|server| server.gone_or_hurried(told(is_over.clone()))));
            let end = async {
                tokio::select! {
                    () = tokio::time::sleep(grace) => tracing::info!(
                        "the former config's grace period is over: its requests are not tried again"
                    ),
                    _ = hurry.wait_for(|hurry| *hurry) => {}
                }
            };
            let mut leaving = std::pin::pin!(leaving);
            tokio::select! {
                () = async { tokio::join!(leaving.as_mut(), life.unused()); life.drain().await } => {
                    life.close().await;
                    return;
                }
                () = end => {}
            }
            life.end();
            over.send_replace(true);
            tokio::join!(leaving, life.unused());
            life.drain().await;
            life.close().await;
        });
    }

    /// Stops to accept, and waits until what is under way has been answered, for
    /// at most `grace`; says what had not.
    pub async fn shut_down(mut self, grace: Duration) {
        tracing::info!(?grace, "shutting down: no more spans are accepted");
        let end = Instant::now() + grace;
        self.health.set(Stage::Stopping);
        self.hurry.send_replace(true);
        if let Some(life) = &self.life {
            life.end();
        }
        let drained = join_all(self.entrances.into_iter().map(|open| open.port.server.drain()));
        let retired = async { while self.retired.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout_at(end, async { tokio::join!(drained, retired) }).await.is_ok();
        if let Some(life) = &self.life {
            // Nothing comes any more; what queues cannot send now, they tell of by themselves.
            let _ = tokio::time::timeout_at(end, life.drain()).await;
            life.close().await;
        }
        let pushed = join_all(self.pushes.into_iter().map(Push::finish));
        if tokio::time::timeout_at(end.max(Instant::now() + LAST_PUSH), pushed).await.is_err() {
            tracing::warn!("the collector's own metrics were not pushed a last time");
        }
        let spans = self.base.metrics.in_flight_spans();
        tell(&self.base.metrics.ledger.read());
        if in_time {
            tracing::info!("Shutdown complete: everything accepted has been answered for.");
        } else {
            tracing::warn!(
                spans,
                "the grace period is over: these spans were not delivered, and their senders have no OK for them"
            );
        }
        drop(self.pages);
    }
}

/// Queues that this config has no exporter for.
fn tell_abandoned(storages: &[StoragePlace], life: &Life) {
    let on_disk = |(id, built): (&ComponentId, &BuiltExporter)| {
        matches!(built.exporter.delivery(), Delivery::Synced(_)).then(|| id.to_string())
    };
    let kept: Vec<String> = life.exporters.iter().filter_map(on_disk).collect();
    for place in storages {
        for folder in abandoned(&place.directory, kept.iter().map(String::as_str)) {
            let (extension, folder) = (&place.id, folder.display());
            tracing::warn!(
                extension, %folder,
                "a queue is kept here whose exporter this config does not have: it stays until the exporter is back"
            );
        }
    }
}

/// The last word on what became of every span.
fn tell(account: &Account) {
    let [received, copied, recovered, sent, dropped, rejected] = State::ALL.map(|state| account.sum(state));
    let in_flight = account.in_flight;
    tracing::info!(received, copied, recovered, sent, dropped, rejected, in_flight, "The account of all spans");
}

async fn told(mut of: watch::Receiver<bool>) {
    let _ = of.wait_for(|told| *told).await;
}
