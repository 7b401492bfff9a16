//! The collector's life: `Config` becomes a `Graph`, which cannot be invalid,
//! and a `Graph` becomes `Running`, which ends in a drain.

mod telemetry;

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::component::{Consumer, Id, Processor};
use crate::config::{Component, ComponentId, Config, Problem, Problems, Reference};
use crate::exporter::Drain;
use crate::extension::health_check::{self, Health, HealthSettings};
use crate::pipeline::{FanOut, Pipeline};
use crate::plugin::{Clockwork, LoadError, Module};
use crate::receiver::otlp::OtlpReceiver;
use crate::registry::{self, Blueprint, ReceiverSettings};
use crate::telemetry::Metrics;
use crate::transport::budget::Budget;
use crate::transport::listen::{Listener, Server};

pub use telemetry::TelemetrySettings;

/// Everything that the config asks for, built and checked, with no port open.
pub struct Graph {
    receivers: Vec<(Id, OtlpReceiver, Arc<dyn Consumer>)>,
    health: Vec<HealthSettings>,
    metrics: Arc<Metrics>,
    telemetry: TelemetrySettings,
    drain: watch::Sender<bool>,
}

/// Reads the settings of all components: the part of a check that loads nothing.
pub fn read(config: &Config, problems: &Problems) -> (Blueprint, TelemetrySettings) {
    let blueprint = registry::blueprint(config, problems);
    let telemetry = TelemetrySettings::read(config.service.telemetry.as_ref(), problems);
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
        let metrics = match Metrics::new() {
            Ok(metrics) => Arc::new(metrics),
            Err(error) => {
                problems.error(Problem::new("service.telemetry.metrics", error.to_string()));
                return None;
            }
        };
        let (drain, drained) = Drain::new();
        let mut exporters = HashMap::new();
        for component in used(&config.exporters, config, |pipeline| &pipeline.exporters) {
            let Some(settings) = blueprint.exporters.remove(&component.id) else { continue };
            let id: Id = component.id.to_string().into();
            match registry::exporter(id, settings, &metrics, drained.clone()) {
                Ok(exporter) => drop(exporters.insert(component.id.clone(), exporter)),
                Err(error) => {
                    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                    let problem = Problem::new(format!("{}.tls", component.path), format!("{error}{cause}"));
                    problems.error(problem.at(registry::place(component, "tls")));
                }
            }
        }
        let modules = load_modules(config, &mut blueprint, problems);
        // By receivers and connectors. What connectors lead to is built before them.
        let mut feeds: HashMap<&ComponentId, Vec<Arc<Pipeline>>> = HashMap::new();
        for pipeline in config.downstream_first() {
            let mut processors: Vec<Box<dyn Processor>> = vec![];
            for reference in &pipeline.processors {
                let Some((component, module)) = modules.get(&reference.id) else { continue };
                match module.plugin(&metrics, workers).await {
                    Ok(plugin) => processors.push(Box::new(plugin)),
                    Err(error) => problems.error(load_problem(component, &error)),
                }
            }
            let exporters =
                pipeline.exporters.iter().filter_map(|reference| exporters.get(&reference.id)).cloned().collect();
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
            match OtlpReceiver::new(id.clone(), settings, [None, None]) {
                Ok(receiver) => receivers.push((id, receiver, Arc::new(FanOut(pipelines)) as _)),
                Err(problem) => problems.error(problem.0.problem(&problem.1)),
            }
        }
        let enabled = config.service.extensions.iter();
        let health = enabled.filter_map(|reference| blueprint.extensions.remove(&reference.id)).collect();
        (!problems.has_errors()).then_some(Self { receivers, health, metrics, telemetry, drain })
    }

    /// Opens all ports, then begins to receive.
    pub async fn start(self) -> Result<Running, StartError> {
        let Self { receivers, health: probes, metrics, telemetry, drain } = self;
        let health = Health::new();
        let mut pages = vec![];
        for settings in probes {
            let listener = bind("health_check", &settings.endpoint).await?;
            tracing::info!(endpoint = %listener.address, "answering health checks");
            pages.push(health_check::serve(listener, settings, health.clone()));
        }
        for endpoint in &telemetry.metrics {
            let listener = bind("service.telemetry.metrics", endpoint).await?;
            tracing::info!(endpoint = %listener.address, "serving metrics at /metrics");
            pages.push(telemetry::serve(listener, Arc::clone(&metrics)));
        }
        let budget = Budget::of_process();
        let mut bound = vec![];
        for (id, receiver, consumer) in receivers {
            let receiver = receiver.bind().await.map_err(|error| StartError {
                what: format!("receivers.{id}"),
                endpoint: error.endpoint,
                source: error.source,
            })?;
            bound.push((receiver, consumer));
        }
        let servers =
            bound.into_iter().flat_map(|(receiver, consumer)| receiver.serve(&consumer, &metrics, &budget)).collect();
        health.set(true);
        tracing::info!("Everything is ready. Begin running and processing data.");
        Ok(Running { servers, pages, health, metrics, drain })
    }
}

async fn bind(what: &str, endpoint: &str) -> Result<Listener, StartError> {
    let failed = |source| StartError { what: what.to_owned(), endpoint: endpoint.to_owned(), source };
    Listener::bind(endpoint).await.map_err(failed)
}

/// A port that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{what}: `{endpoint}` cannot be listened on: {source}")]
pub struct StartError {
    pub what: String,
    pub endpoint: String,
    pub source: std::io::Error,
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

fn load_modules<'a>(
    config: &'a Config,
    blueprint: &mut Blueprint,
    problems: &Problems,
) -> HashMap<&'a ComponentId, (&'a Component, Module)> {
    let mut modules = HashMap::new();
    let mut clockwork = None;
    for component in used(&config.processors, config, |pipeline| &pipeline.processors) {
        let Some(settings) = blueprint.processors.remove(&component.id) else { continue };
        let engine = clockwork.get_or_insert_with(|| {
            Clockwork::new().map(Arc::new).map_err(|error| LoadError::Engine(error.to_string()))
        });
        let loaded = match engine {
            Ok(clockwork) => registry::module(clockwork, component.id.to_string().into(), settings),
            Err(error) => Err(LoadError::Engine(error.to_string())),
        };
        match loaded {
            Ok(module) => drop(modules.insert(&component.id, (component, module))),
            Err(error) => problems.error(load_problem(component, &error)),
        }
    }
    modules
}

/// A plugin's error at the setting that it is about.
fn load_problem(component: &Component, error: &LoadError) -> Problem {
    let (key, hint) = error.place();
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let problem = Problem::new(format!("{}.{key}", component.path), format!("{error}{cause}"));
    problem.at(registry::place(component, key)).hint(hint)
}

/// A collector that takes spans.
pub struct Running {
    servers: Vec<Server>,
    pages: Vec<Server>,
    health: Health,
    metrics: Arc<Metrics>,
    drain: watch::Sender<bool>,
}

impl Running {
    /// Stops to accept, and waits until what is under way has been answered, for
    /// at most `grace`; says what had not.
    pub async fn shut_down(self, grace: Duration) {
        tracing::info!(?grace, "shutting down: no more spans are accepted");
        self.health.set(false);
        self.drain.send_replace(true);
        let drained = futures_util::future::join_all(self.servers.into_iter().map(Server::drain));
        let in_time = tokio::time::timeout(grace, drained).await.is_ok();
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
        let processors = if pipeline.processors.is_empty() {
            String::new()
        } else {
            format!(" → {}", pipeline.processors.iter().map(|it| it.id.to_string()).collect::<Vec<_>>().join(" → "))
        };
        out.push_str(&format!(
            "{}: {}{processors} → {}; a sender gets its OK when every exporter's destination has the spans\n",
            pipeline.id,
            names(&pipeline.receivers),
            names(&pipeline.exporters),
        ));
    }
    out
}
