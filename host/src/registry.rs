//! The component types that exist, and the settings that each is read with.
//! One `match` per kind of component maps a type's name to its constructor.

mod hints;

use std::collections::HashMap;
use std::sync::Arc;

use crate::component::{Exporter, Id};
use crate::config::{Component, ComponentId, Config, Position, Problem, Problems, Section, Value};
use crate::connector::forward;
use crate::exporter::debug::{self, DebugExporter, Verbosity};
use crate::exporter::otlp_grpc::{self, OtlpGrpcExporter};
use crate::exporter::otlp_http::{self, OtlpHttpExporter};
use crate::exporter::{ClientSettings, Drain};
use crate::extension::health_check::HealthSettings;
use crate::plugin::{Clockwork, LoadError, Module, PluginSettings};
use crate::receiver::nop;
use crate::receiver::otlp::OtlpSettings;
use crate::telemetry::Metrics;
use crate::transport::tls::TlsError;

pub const RECEIVERS: &[&str] = &["nop", "otlp"];
pub const PROCESSORS: &[&str] = &["wasm"];
pub const EXPORTERS: &[&str] = &["debug", "otlp", "otlp_grpc", "otlp_http", "otlphttp"];
pub const CONNECTORS: &[&str] = &["forward"];
pub const EXTENSIONS: &[&str] = &["health_check"];

/// Old names that still work, and the new ones.
pub const ALIASES: &[(&str, &str)] = &[("otlp", "otlp_grpc"), ("otlphttp", "otlp_http")];

/// All settings, read and checked; nothing is opened or loaded yet.
#[derive(Default)]
pub struct Blueprint {
    pub receivers: HashMap<ComponentId, ReceiverSettings>,
    pub processors: HashMap<ComponentId, PluginSettings>,
    pub exporters: HashMap<ComponentId, ExporterSettings>,
    pub extensions: HashMap<ComponentId, HealthSettings>,
}

pub enum ReceiverSettings {
    Nop,
    Otlp(OtlpSettings),
}

pub enum ExporterSettings {
    Debug(Verbosity),
    Grpc(ClientSettings),
    Http(ClientSettings),
}

/// Reads every component's settings; what is wrong is in `problems`, all of it.
pub fn blueprint(config: &Config, problems: &Problems) -> Blueprint {
    let mut blueprint = Blueprint::default();
    for (component, section) in sections(&config.receivers, problems) {
        let settings = match component.id.kind.as_str() {
            "nop" => {
                nop::read(section);
                ReceiverSettings::Nop
            }
            "otlp" => ReceiverSettings::Otlp(OtlpSettings::read(section)),
            _ => {
                unknown("receiver", component, RECEIVERS, problems);
                continue;
            }
        };
        blueprint.receivers.insert(component.id.clone(), settings);
    }
    for (component, section) in sections(&config.processors, problems) {
        match component.id.kind.as_str() {
            "wasm" => drop(blueprint.processors.insert(component.id.clone(), PluginSettings::read(section))),
            _ => unknown("processor", component, PROCESSORS, problems),
        }
    }
    for (component, section) in sections(&config.exporters, problems) {
        let settings = match component.id.kind.as_str() {
            "debug" => Some(ExporterSettings::Debug(debug::read(section))),
            "otlp" | "otlp_grpc" => otlp_grpc::read(section).map(ExporterSettings::Grpc),
            "otlphttp" | "otlp_http" => otlp_http::read(section).map(ExporterSettings::Http),
            _ => {
                unknown("exporter", component, EXPORTERS, problems);
                None
            }
        };
        if let Some(settings) = settings {
            blueprint.exporters.insert(component.id.clone(), settings);
        }
    }
    for (component, section) in sections(&config.extensions, problems) {
        match component.id.kind.as_str() {
            "health_check" => drop(blueprint.extensions.insert(component.id.clone(), HealthSettings::read(section))),
            _ => unknown("extension", component, EXTENSIONS, problems),
        }
    }
    for (component, section) in sections(&config.connectors, problems) {
        match component.id.kind.as_str() {
            "forward" => forward::read(section),
            _ => unknown("connector", component, CONNECTORS, problems),
        }
    }
    blueprint
}

fn sections<'a>(
    components: &'a [Component],
    problems: &'a Problems,
) -> impl Iterator<Item = (&'a Component, Section<'a>)> {
    components.iter().map(|it| (it, Section::new(&it.settings, it.path.as_str(), problems)))
}

fn unknown(kind: &str, component: &Component, known: &[&str], problems: &Problems) {
    let id = &component.id;
    let valid = known.join(" ");
    let message = format!("unknown type: \"{}\" for id: \"{id}\" (valid values: [{valid}])", id.kind);
    let hint = match hints::of(kind, &id.kind) {
        _ if component.elsewhere => {
            "only pipelines of other signals name it: start with `--traces-only`, which leaves both out".to_owned()
        }
        Some(hint) => hint.to_owned(),
        None if kind == "processor" => "any processor can be a plugin: `wasm/name: {module: ./name.wasm}`".to_owned(),
        None => format!("remove it, or use one of: {}", known.join(", ")),
    };
    problems.error(Problem::new(&component.path, message).at(&component.at).hint(hint));
}

/// Builds an exporter.
pub fn exporter(
    id: Id,
    settings: ExporterSettings,
    metrics: &Metrics,
    drain: Drain,
) -> Result<Arc<dyn Exporter>, TlsError> {
    let counters = metrics.exporter(&id);
    Ok(match settings {
        ExporterSettings::Debug(verbosity) => Arc::new(DebugExporter { id, verbosity, metrics: counters }),
        ExporterSettings::Grpc(settings) => Arc::new(OtlpGrpcExporter::new(id, settings, counters, drain)?),
        ExporterSettings::Http(settings) => Arc::new(OtlpHttpExporter::new(id, settings, counters, drain)?),
    })
}

/// Reads and compiles a plugin.
pub fn module(clockwork: &Arc<Clockwork>, id: Id, settings: PluginSettings) -> Result<Module, LoadError> {
    Module::load(clockwork, id, settings)
}

/// The place of a key in a component's settings, or of the component itself.
pub fn place<'a>(component: &'a Component, key: &str) -> &'a Position {
    match &component.settings.value {
        Value::Map(map) => map.get(key).map_or(&component.at, |(_, node)| &node.at),
        _ => &component.at,
    }
}
