//! The collector's life: `Config` becomes a `Graph`, which cannot be invalid,
//! and a `Graph` becomes `Running`, which ends in a drain.

mod base;
mod describe;
mod listeners;
mod running;
mod sockets;
mod telemetry;

use std::collections::HashMap;
use std::sync::Arc;

use crate::component::{Extensions, Id, Processor, StoragePlace};
use crate::config::{Component, ComponentId, Config, Node, Problem, Problems, Reference, Secrets};
use crate::exporter::{Batching, BatchingSettings, Drain};
use crate::extension::memory_limiter::{Limiter, MemoryLimiter};
use crate::extension::{Overview, PipelineOverview};
use crate::pipeline::{Destination, FanOut, Pipeline};
use crate::plugin::{LoadError, Module};
use crate::receiver::otlp::{Door, OtlpReceiver, Protocol};
use crate::registry::{self, Blueprint, ExtensionSettings, ProcessorSettings, ReceiverSettings};
use crate::telemetry::Metrics;

use base::{BuiltExporter, Exporters, Life, Plugins, Shared};
use listeners::Claim;
use running::Entrance;

pub use base::Base;
pub use describe::delivery;
pub use running::{Running, StartError};
pub use telemetry::TelemetrySettings;

/// Everything that the config asks for, built and checked, with no port open.
pub struct Graph {
    entrances: Vec<Entrance>,
    extensions: Vec<(Id, ExtensionSettings)>,
    /// Where queues are kept.
    storages: Vec<StoragePlace>,
    overview: Overview,
    base: Base,
    telemetry: TelemetrySettings,
    /// `service.telemetry` as it is written.
    told: Option<Node>,
    claims: Vec<Claim>,
    life: Life,
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
    /// configured. `workers` is how many batches may be processed at once. What `base`
    /// has is taken over where the config still says the same of it.
    pub async fn build(
        config: &Config,
        mut blueprint: Blueprint,
        telemetry: TelemetrySettings,
        workers: usize,
        base: Base,
        problems: &Problems,
    ) -> Option<Self> {
        let metrics = Arc::clone(&base.metrics);
        let claims = listeners::claims(config, &blueprint, &telemetry);
        let (drain, drained) = Drain::new();
        let extensions = registry::extensions(config, &mut blueprint, problems);
        let mut exporters = HashMap::new();
        for component in used(&config.exporters, config, |pipeline| &pipeline.exporters) {
            let Some(settings) = blueprint.exporters.remove(&component.id) else { continue };
            let built = match base.exporter(component, config) {
                Some(same) => Ok(same),
                None => BuiltExporter::new(component, config, |drained| {
                    registry::exporter(component, settings, &metrics, drained, &extensions)
                }),
            };
            match built {
                Ok(exporter) => drop(exporters.insert(component.id.clone(), exporter)),
                Err(problem) => problems.error(problem),
            }
        }
        let storages = extensions.storages().cloned().collect();
        let repeats = Arc::clone(&base.repeats);
        let parts = load_processors(config, &mut blueprint, &base, problems);
        let mut plugins = Plugins::default();
        // By receivers and connectors. What connectors lead to is built before them.
        let mut feeds: HashMap<&ComponentId, Vec<Arc<Pipeline>>> = HashMap::new();
        for pipeline in config.downstream_first() {
            let processors = steps(pipeline, &parts, &base, &mut plugins, workers, problems).await;
            let batching = batching_of(pipeline, &parts, problems);
            let named = pipeline.exporters.iter().filter_map(|reference| exporters.get_key_value(&reference.id));
            let behind_batches = named.map(|(id, built)| {
                let (counters, number) = (metrics.exporter(&id.to_string()), repeats.destination());
                let (mut exporter, clerk) = (Arc::clone(&built.exporter), counters.clerk.clone());
                if let Some((by, settings)) = batching {
                    let told = Some(metrics.batch(&by.to_string()));
                    exporter = Arc::new(Batching::new(settings.clone(), exporter, counters, told, drained.clone()));
                }
                Destination { exporter, number, clerk }
            });
            let behind_batches = behind_batches.collect();
            let behind = |reference: &Reference| {
                let is_connector = config.connectors.iter().any(|connector| connector.id == reference.id);
                let pipelines = feeds.get(&reference.id).filter(|_| is_connector)?;
                Some(Arc::new(FanOut::new(pipelines.clone(), Arc::clone(&repeats))))
            };
            let next = pipeline.exporters.iter().filter_map(behind).collect();
            let built = Arc::new(Pipeline { processors, exporters: behind_batches, next });
            for reference in &pipeline.receivers {
                feeds.entry(&reference.id).or_default().push(Arc::clone(&built));
            }
        }
        let (life, mut entrances) = (Life::new(drain, exporters, plugins), vec![]);
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
            match OtlpReceiver::new(id, *settings, doors) {
                Ok(receiver) => {
                    let consumer = life.consumer(FanOut::new(pipelines, Arc::clone(&repeats)));
                    entrances.extend(Entrance::of(receiver, component, &consumer));
                }
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
        let (overview, told) = (overview(config, &life.exporters, &metrics), config.service.telemetry.clone());
        let graph = Self { entrances, extensions, storages, overview, base, telemetry, told, claims, life };
        (!problems.has_errors()).then_some(graph)
    }
}

/// What the pages tell of the config.
fn overview(config: &Config, exporters: &Exporters, metrics: &Arc<Metrics>) -> Overview {
    let ids = |references: &[crate::config::Reference]| references.iter().map(|it| it.id.to_string()).collect();
    let pipelines = config.service.pipelines.iter().map(|pipeline| PipelineOverview {
        id: pipeline.id.to_string(),
        receivers: ids(&pipeline.receivers),
        processors: ids(&pipeline.processors),
        exporters: ids(&pipeline.exporters),
        deliveries: pipeline
            .exporters
            .iter()
            .filter_map(|it| Some((it.id.to_string(), exporters.get(&it.id)?.exporter.delivery())))
            .collect(),
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
    Plugin(Arc<Module>),
}

type Parts<'a> = HashMap<&'a ComponentId, (&'a Component, Part)>;

fn load_processors<'a>(config: &'a Config, blueprint: &mut Blueprint, base: &Base, problems: &Problems) -> Parts<'a> {
    let mut parts = HashMap::new();
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
        let load = |clockwork| registry::module(&clockwork, component.id.to_string().into(), settings).map(Arc::new);
        let loaded = match base.module(component) {
            Some(same) => Ok(same),
            None => base.clockwork().and_then(load),
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
    base: &Base,
    plugins: &mut Plugins,
    workers: usize,
    problems: &Problems,
) -> Vec<Box<dyn Processor>> {
    let (metrics, mut steps) = (&*base.metrics, Vec::<Box<dyn Processor>>::new());
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
                let plugin = match base.plugin(&pipeline.id, &component.id, module) {
                    Some(same) => Ok(same),
                    None => module.plugin(&pipeline.id.to_string(), metrics, workers).await.map(Arc::new),
                };
                match plugin {
                    Ok(plugin) => {
                        plugins.insert(pipeline, component, module, &plugin);
                        steps.push(Box::new(Shared(plugin)));
                    }
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
