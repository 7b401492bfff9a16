//! The collector's life: `Config` becomes a `Graph`, which cannot be invalid,
//! and a `Graph` becomes `Running`, which ends in a drain.

mod listeners;
mod telemetry;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::component::{Consumer, Extensions, Id, Processor};
use crate::config::{Component, ComponentId, Config, Problem, Problems, Reference, Secrets};
use crate::exporter::{Batching, BatchingSettings, Drain};
use crate::extension::health_check::{self, Health, Stage};
use crate::extension::memory_limiter::{Limiter, MemoryLimiter};
use crate::extension::{Overview, PipelineOverview, zpages};
use crate::pipeline::{FanOut, Pipeline};
use crate::plugin::{Clockwork, LoadError, Module};
use crate::receiver::otlp::{Door, OtlpReceiver, Protocol};
use crate::registry::{self, Blueprint, ExtensionSettings, ProcessorSettings, ReceiverSettings};
use crate::telemetry::Metrics;
use crate::transport::budget::Budget;
use crate::transport::listen::{Listener, Server};
use crate::transport::tls::TlsError;

use telemetry::{Push, Reader};

pub use telemetry::TelemetrySettings;

/// Everything that the config asks for, built and checked, with no port open.
pub struct Graph {
    receivers: Vec<(Id, OtlpReceiver, Arc<dyn Consumer>)>,
    extensions: Vec<(Id, ExtensionSettings)>,
    overview: Overview,
    metrics: Arc<Metrics>,
    telemetry: TelemetrySettings,
    drain: watch::Sender<bool>,
}

/// Reads the settings of all components: the part of a check that loads nothing.
pub fn read(config: &Config, problems: &Problems) -> (Blueprint, TelemetrySettings) {
    let blueprint = registry::blueprint(config, problems);
    let telemetry = TelemetrySettings::read(config.service.telemetry.as_ref(), problems);
    listeners::check(config, &blueprint, &telemetry, problems);
    (blueprint, telemetry)
}

impl Graph {
    /// Builds every component that a pipeline uses: plugins are compiled and
    /// configured. `workers` is how many batches may be processed at once.
    pub async fn build(
        config: &Config,
        mut blueprint: Blueprint,
        telemetry: TelemetrySettings,
        workers: usize,
        problems: &Problems,
    ) -> Option<Self> {
        let metrics = Arc::new(Metrics::new(telemetry.level));
        let (drain, drained) = Drain::new();
        let extensions = registry::extensions(config, &mut blueprint, problems);
        let mut exporters = HashMap::new();
        for component in used(&config.exporters, config, |pipeline| &pipeline.exporters) {
            let Some(settings) = blueprint.exporters.remove(&component.id) else { continue };
            match registry::exporter(component, settings, &metrics, drained.clone(), &extensions) {
                Ok(exporter) => drop(exporters.insert(component.id.clone(), exporter)),
                Err(problem) => problems.error(problem),
            }
        }
        let parts = load_processors(config, &mut blueprint, problems);
        // By receivers and connectors. What connectors lead to is built before them.
        let mut feeds: HashMap<&ComponentId, Vec<Arc<Pipeline>>> = HashMap::new();
        for pipeline in config.downstream_first() {
            let processors = steps(pipeline, &parts, &metrics, workers, problems).await;
            let batching = batching_of(pipeline, &parts, problems);
            let named = pipeline.exporters.iter().filter_map(|reference| exporters.get_key_value(&reference.id));
            let exporters = named.map(|(id, exporter)| match batching {
                None => Arc::clone(exporter),
                Some((by, settings)) => {
                    let (counters, told) = (metrics.exporter(&id.to_string()), metrics.batch(&by.to_string()));
                    let exporter = Arc::clone(exporter);
                    Arc::new(Batching::new(settings.clone(), exporter, counters, Some(told), drained.clone()))
                }
            });
            let exporters = exporters.collect();
            let behind = |reference: &Reference| {
                let is_connector = config.connectors.iter().any(|connector| connector.id == reference.id);
                let pipelines = feeds.get(&reference.id).filter(|_| is_connector)?;
                Some(Arc::new(FanOut(pipelines.clone())) as Arc<dyn Consumer>)
            };
            let next = pipeline.exporters.iter().filter_map(behind).collect();
            let built = Arc::new(Pipeline { processors, exporters, next });
            for reference in &pipeline.receivers {
                feeds.entry(&reference.id).or_default().push(Arc::clone(&built));
            }
        }
        let mut receivers = vec![];
        for component in used(&config.receivers, config, |pipeline| &pipeline.receivers) {
            let settings = blueprint.receivers.remove(&component.id);
            let (Some(ReceiverSettings::Otlp(settings)), Some(pipelines)) = (settings, feeds.remove(&component.id))
            else {
                continue;
            };
            let id: Id = component.id.to_string().into();
            let doors = [("grpc", &settings.grpc), ("http", &settings.http)].map(|(name, protocol)| {
                let path = format!("{}.protocols.{name}", component.path);
                protocol.as_ref().map(|protocol| door(&path, protocol, &extensions, problems)).unwrap_or_default()
            });
            match OtlpReceiver::new(id.clone(), *settings, doors) {
                Ok(receiver) => receivers.push((id, receiver, Arc::new(FanOut(pipelines)) as _)),
                Err(problem) => problems.error(problem.0.problem(&problem.1)),
            }
        }
        let enabled = config.service.extensions.iter();
        let enabled = enabled.filter_map(|reference| {
            blueprint.extensions.remove(&reference.id).map(|settings| (reference.id.to_string().into(), settings))
        });
        let mut extensions: Vec<(Id, ExtensionSettings)> = enabled.collect();
        for port in extensions.iter_mut().flat_map(|(_, settings)| settings.ports()) {
            port.load().unwrap_or_else(|problem| problems.error(problem));
        }
        let overview = overview(config, &metrics);
        (!problems.has_errors()).then_some(Self { receivers, extensions, overview, metrics, telemetry, drain })
    }

    /// Opens all ports, then begins to receive.
    pub async fn start(self) -> Result<Running, StartError> {
        let Self { receivers, extensions, overview, metrics, telemetry, drain } = self;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "Starting vespid...");
        let health = Health::new();
        let overview = Arc::new(overview);
        let mut pages = vec![];
        for (id, settings) in extensions {
            match settings {
                ExtensionSettings::Health(settings) => {
                    for server in settings.0 {
                        let listener = bind(&id, &server.port.endpoint).await?;
                        tracing::info!(extension = %id, endpoint = %listener.address, "answering health checks");
                        pages.push(health_check::serve(listener, server, health.clone(), Arc::clone(&overview)));
                    }
                }
                ExtensionSettings::Zpages(settings) => {
                    let listener = bind(&id, &settings.port.endpoint).await?;
                    tracing::info!(extension = %id, endpoint = %listener.address, "serving pages at /debug/servicez");
                    pages.push(zpages::serve(listener, settings, Arc::clone(&overview)));
                }
                // The others have been built before: they open no port.
                ExtensionSettings::Pprof
                | ExtensionSettings::BasicAuth(_)
                | ExtensionSettings::BearerToken(_)
                | ExtensionSettings::HeadersSetter(_)
                | ExtensionSettings::MemoryLimiter(_) => {}
            }
        }
        let (readers, pushes) = read_metrics(telemetry, &metrics).await?;
        pages.extend(readers);
        let budget = Budget::of_process();
        let mut bound = vec![];
        for (id, receiver, consumer) in receivers {
            let receiver = receiver.bind().await.map_err(|error| StartError::Bind {
                what: format!("receivers.{id}"),
                endpoint: error.endpoint,
                source: error.source,
            })?;
            bound.push((receiver, consumer));
        }
        let servers =
            bound.into_iter().flat_map(|(receiver, consumer)| receiver.serve(&consumer, &metrics, &budget)).collect();
        health.set(Stage::Ready);
        tracing::info!("Everything is ready. Begin running and processing data.");
        Ok(Running { servers, pages, pushes, health, metrics, drain })
    }
}

/// Serves the metrics, and pushes them.
async fn read_metrics(
    telemetry: TelemetrySettings,
    metrics: &Arc<Metrics>,
) -> Result<(Vec<Server>, Vec<Push>), StartError> {
    let (mut pages, mut pushes) = (vec![], vec![]);
    for reader in telemetry.readers {
        let (resource, metrics) = (telemetry.resource.clone(), Arc::clone(metrics));
        match reader {
            Reader::Pull(settings) => {
                let listener = bind("service.telemetry.metrics", &settings.endpoint).await?;
                tracing::info!(endpoint = %listener.address, "serving metrics at /metrics");
                pages.push(telemetry::serve(listener, settings, resource, metrics));
            }
            Reader::Push(settings) => pushes.push(Push::start(*settings, resource, metrics)?),
        }
    }
    Ok((pages, pushes))
}

async fn bind(what: &str, endpoint: &str) -> Result<Listener, StartError> {
    let failed = |source| StartError::Bind { what: what.to_owned(), endpoint: endpoint.to_owned(), source };
    Listener::bind(endpoint).await.map_err(failed)
}

/// Why a collector whose config is sound does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{what}: `{endpoint}` cannot be listened on: {source}")]
    Bind { what: String, endpoint: String, source: std::io::Error },
    #[error("service.telemetry.metrics: the metrics cannot be pushed")]
    Push(#[from] TlsError),
}

/// What the pages tell of the config.
fn overview(config: &Config, metrics: &Arc<Metrics>) -> Overview {
    let ids = |references: &[crate::config::Reference]| references.iter().map(|it| it.id.to_string()).collect();
    let pipelines = config.service.pipelines.iter().map(|pipeline| PipelineOverview {
        id: pipeline.id.to_string(),
        receivers: ids(&pipeline.receivers),
        processors: ids(&pipeline.processors),
        exporters: ids(&pipeline.exporters),
    });
    // What JSON cannot say is null on a page.
    let printed = config.merged(Secrets::Hidden).to_json("", &Problems::new());
    Overview {
        pipelines: pipelines.collect(),
        extensions: ids(&config.service.extensions),
        config: printed.to_string(),
        metrics: Arc::clone(metrics),
    }
}

/// The components of one kind that some pipeline names.
fn used<'a>(
    components: &'a [Component],
    config: &'a Config,
    of: impl Fn(&'a crate::config::Pipeline) -> &'a Vec<crate::config::Reference>,
) -> impl Iterator<Item = &'a Component> {
    components.iter().filter(move |component| {
        let named = |pipeline| of(pipeline).iter().any(|reference| reference.id == component.id);
        config.service.pipelines.iter().any(named)
    })
}

/// A processor that pipelines name, as far as all of them share it.
enum Part {
    Batch(BatchingSettings),
    /// It measures once for all pipelines.
    Limiter(Arc<Limiter>),
    Plugin(Module),
}

type Parts<'a> = HashMap<&'a ComponentId, (&'a Component, Part)>;

fn load_processors<'a>(config: &'a Config, blueprint: &mut Blueprint, problems: &Problems) -> Parts<'a> {
    let mut parts = HashMap::new();
    let mut clockwork = None;
    for component in used(&config.processors, config, |pipeline| &pipeline.processors) {
        let settings = match blueprint.processors.remove(&component.id) {
            None => continue,
            Some(ProcessorSettings::Batch(settings)) => {
                parts.insert(&component.id, (component, Part::Batch(settings)));
                continue;
            }
            Some(ProcessorSettings::MemoryLimiter(settings)) => {
                let limiter = Arc::new(Limiter::new(component.id.to_string().into(), &settings));
                parts.insert(&component.id, (component, Part::Limiter(limiter)));
                continue;
            }
            Some(ProcessorSettings::Plugin(settings)) => settings,
        };
        let engine = clockwork.get_or_insert_with(|| {
            Clockwork::new().map(Arc::new).map_err(|error| LoadError::Engine(error.to_string()))
        });
        let loaded = match engine {
            Ok(clockwork) => registry::module(clockwork, component.id.to_string().into(), settings),
            Err(error) => Err(LoadError::Engine(error.to_string())),
        };
        match loaded {
            Ok(module) => drop(parts.insert(&component.id, (component, Part::Plugin(module)))),
            Err(error) => report(component, &error, problems),
        }
    }
    parts
}

/// What a pipeline's batches go through, in order.
async fn steps(
    pipeline: &crate::config::Pipeline,
    parts: &Parts<'_>,
    metrics: &Metrics,
    workers: usize,
    problems: &Problems,
) -> Vec<Box<dyn Processor>> {
    let mut steps: Vec<Box<dyn Processor>> = vec![];
    for reference in &pipeline.processors {
        match parts.get(&reference.id) {
            // Batches are made behind all steps.
            None | Some((_, Part::Batch(_))) => {}
            Some((_, Part::Limiter(limiter))) => {
                let (id, limiter) = (reference.id.to_string(), Arc::clone(limiter));
                let (processor_metrics, metrics) = (metrics.processor(&id), metrics.limiter(&id));
                steps.push(Box::new(MemoryLimiter { limiter, processor_metrics, metrics }));
            }
            Some((component, Part::Plugin(module))) => {
                match module.plugin(&pipeline.id.to_string(), metrics, workers).await {
                    Ok(plugin) => steps.push(Box::new(plugin)),
                    Err(error) => report(component, &error, problems),
                }
            }
        }
    }
    steps
}

/// Who lets requests of a protocol in.
fn door(path: &str, protocol: &Protocol, extensions: &Extensions, problems: &Problems) -> Door {
    let told = |problem| problems.error(problem);
    let named = protocol.auth.as_ref();
    let authenticator = named
        .and_then(|named| extensions.authenticator(&format!("{path}.auth.authenticator"), named).map_err(told).ok());
    let named = protocol.middlewares.iter().enumerate();
    let gates = named
        .filter_map(|(at, named)| extensions.gate(&format!("{path}.middlewares[{at}].id"), named).map_err(told).ok());
    Door { gates: gates.collect(), authenticator }
}

/// How a pipeline makes batches. Of several `batch` processors the last is the one
/// whose batches the exporters would get.
fn batching_of<'a>(
    pipeline: &'a crate::config::Pipeline,
    parts: &'a Parts<'_>,
    problems: &Problems,
) -> Option<(&'a ComponentId, &'a BatchingSettings)> {
    let batches = |reference: &'a Reference| match parts.get(&reference.id) {
        Some((_, Part::Batch(settings))) => Some((reference, settings)),
        _ => None,
    };
    let mut found: Vec<_> = pipeline.processors.iter().filter_map(batches).collect();
    let (last, settings) = found.pop()?;
    for (other, _) in found {
        let message = format!("`{}` has no effect before `{}`", other.id, last.id);
        let problem = Problem::new(format!("service.pipelines.{}.processors", pipeline.id), message);
        problems.warning(problem.at(&other.at).hint("batches are made once, in front of the exporters: remove it"));
    }
    Some((&last.id, settings))
}

/// A plugin's mistakes, those that were not told for another pipeline.
fn report(component: &Component, error: &LoadError, problems: &Problems) {
    let found = registry::problems_of(component, error);
    found.into_iter().filter(|it| !problems.has_error_of(&it.path)).for_each(|it| problems.error(it));
}

/// A shutdown waits so long for those who are sent the collector's metrics.
const LAST_PUSH: Duration = Duration::from_secs(5);

/// A collector that takes spans.
pub struct Running {
    servers: Vec<Server>,
    pages: Vec<Server>,
    pushes: Vec<Push>,
    health: Health,
    metrics: Arc<Metrics>,
    drain: watch::Sender<bool>,
}

impl Running {
    /// Stops to accept, and waits until what is under way has been answered, for
    /// at most `grace`; says what had not.
    pub async fn shut_down(self, grace: Duration) {
        tracing::info!(?grace, "shutting down: no more spans are accepted");
        self.health.set(Stage::Stopping);
        self.drain.send_replace(true);
        let drained = futures_util::future::join_all(self.servers.into_iter().map(Server::drain));
        let in_time = tokio::time::timeout(grace, drained).await.is_ok();
        let pushed = futures_util::future::join_all(self.pushes.into_iter().map(Push::finish));
        if tokio::time::timeout(LAST_PUSH, pushed).await.is_err() {
            tracing::warn!("the collector's own metrics were not pushed a last time");
        }
        let spans = self.metrics.in_flight_spans();
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

/// How the pipelines are built, for `validate` to show.
pub fn describe(config: &Config) -> String {
    let mut out = String::new();
    for pipeline in &config.service.pipelines {
        let names = |references: &[crate::config::Reference]| -> String {
            references.iter().map(|reference| reference.id.to_string()).collect::<Vec<_>>().join(", ")
        };
        // Batches are made behind all other processors.
        let (batches, processors): (Vec<_>, Vec<_>) =
            pipeline.processors.iter().partition(|it| it.id.kind.as_str() == "batch");
        let steps = processors.into_iter().chain(batches.last().copied());
        let steps: String = steps.map(|it| format!(" → {}", it.id)).collect();
        let merged = if batches.is_empty() { "" } else { " of its request, whatever batch they went in" };
        out.push_str(&format!(
            "{}: {}{steps} → {}; a sender gets its OK when every exporter's destination has the spans{merged}\n",
            pipeline.id,
            names(&pipeline.receivers),
            names(&pipeline.exporters),
        ));
    }
    out
}
