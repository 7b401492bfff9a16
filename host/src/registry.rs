//! The component types that exist, and the settings that each is read with.
//! One `match` per kind of component maps a type's name to its constructor.

mod hints;
mod refusal;

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;

use crate::component::{Authenticator, Authorizer, Built, Exporter, Extension, Extensions, Id, StoragePlace};
use crate::config::{Component, ComponentId, Config, Position, Problem, Problems, Section, Value};
use crate::connector::forward;
use crate::exporter::debug::{self, DebugExporter, DebugSettings};
use crate::exporter::file::{self, FileExporter, FileSettings};
use crate::exporter::nop::{self as nop_exporter, NopExporter};
use crate::exporter::otlp_grpc::{self, GrpcSettings, OtlpGrpcExporter};
use crate::exporter::otlp_http::{self, HttpSettings, OtlpHttpExporter};
use crate::exporter::{Batching, BatchingSettings, ClientSettings, Drain, Queued, SendingSettings};
use crate::extension::FileError;
use crate::extension::basic_auth::{BasicAuthClient, BasicAuthServer, BasicAuthSettings};
use crate::extension::bearer_token::{BearerToken, BearerTokenSettings};
use crate::extension::headers_setter::{HeadersSetter, HeadersSetterSettings};
use crate::extension::health_check::HealthSettings;
use crate::extension::memory_limiter::{Limiter, LimiterSettings};
use crate::extension::zpages::ZpagesSettings;
use crate::extension::{Port, file_storage, pprof};
use crate::plugin::{Clockwork, LoadError, Module, PluginSettings, builtin};
use crate::receiver::nop as nop_receiver;
use crate::receiver::otlp::OtlpSettings;
use crate::telemetry::Metrics;
use crate::transport::tls::TlsError;

pub use refusal::problems_of;

pub const RECEIVERS: &[&str] = &["nop", "otlp"];
pub const PROCESSORS: &[&str] = &["attributes", "batch", "memory_limiter", "resource", "wasm"];
pub const EXPORTERS: &[&str] = &["debug", "file", "nop", "otlp", "otlp_grpc", "otlp_http", "otlphttp"];
pub const CONNECTORS: &[&str] = &["forward"];
pub const EXTENSIONS: &[&str] = &[
    "basicauth",
    "bearertokenauth",
    "file_storage",
    "headers_setter",
    "health_check",
    "healthcheckv2",
    "memory_limiter",
    "pprof",
    "zpages",
];

/// Old names of exporters that still work, and the new ones.
pub const ALIASES: &[(&str, &str)] = &[("otlp", "otlp_grpc"), ("otlphttp", "otlp_http")];

/// All settings, read and checked; nothing is opened or loaded yet.
#[derive(Default)]
pub struct Blueprint {
    pub receivers: HashMap<ComponentId, ReceiverSettings>,
    pub processors: HashMap<ComponentId, ProcessorSettings>,
    pub exporters: HashMap<ComponentId, ExporterSettings>,
    pub extensions: HashMap<ComponentId, ExtensionSettings>,
}

pub enum ReceiverSettings {
    Nop,
    Otlp(Box<OtlpSettings>),
}

pub enum ProcessorSettings {
    /// It is no step on the way: it makes batches in front of the exporters.
    Batch(BatchingSettings),
    MemoryLimiter(LimiterSettings),
    Plugin(PluginSettings),
}

pub enum ExporterSettings {
    Debug(DebugSettings),
    File(FileSettings),
    Nop,
    Grpc(GrpcSettings),
    Http(HttpSettings),
}

pub enum ExtensionSettings {
    Health(HealthSettings),
    BasicAuth(BasicAuthSettings),
    BearerToken(BearerTokenSettings),
    FileStorage(StoragePlace),
    HeadersSetter(HeadersSetterSettings),
    MemoryLimiter(LimiterSettings),
    Zpages(ZpagesSettings),
    /// It does nothing here.
    Pprof,
}

impl ExtensionSettings {
    /// The ports that it will open.
    pub fn ports(&mut self) -> Vec<&mut Port> {
        match self {
            Self::Health(settings) => settings.0.iter_mut().map(|server| &mut server.port).collect(),
            Self::Zpages(settings) => vec![&mut settings.port],
            _ => vec![],
        }
    }
}

/// Reads every component's settings; what is wrong is in `problems`, all of it.
pub fn blueprint(config: &Config, problems: &Problems) -> Blueprint {
    let mut blueprint = Blueprint::default();
    for (component, section) in sections(&config.receivers, problems) {
        let settings = match component.id.kind.as_str() {
            "nop" => {
                nop_receiver::read(section);
                ReceiverSettings::Nop
            }
            "otlp" => ReceiverSettings::Otlp(Box::new(OtlpSettings::read(section))),
            _ => {
                unknown("receiver", component, RECEIVERS, problems);
                continue;
            }
        };
        blueprint.receivers.insert(component.id.clone(), settings);
    }
    for (component, section) in sections(&config.processors, problems) {
        let settings = match component.id.kind.as_str() {
            "batch" => ProcessorSettings::Batch(BatchingSettings::read_processor(section)),
            "memory_limiter" => ProcessorSettings::MemoryLimiter(LimiterSettings::read(section)),
            "wasm" => ProcessorSettings::Plugin(PluginSettings::read(section)),
            kind => match builtin::module(kind) {
                Some((name, _)) => ProcessorSettings::Plugin(PluginSettings::read_processor(name, section)),
                None => {
                    unknown("processor", component, PROCESSORS, problems);
                    continue;
                }
            },
        };
        blueprint.processors.insert(component.id.clone(), settings);
    }
    for (component, section) in sections(&config.exporters, problems) {
        let settings = match component.id.kind.as_str() {
            "debug" => Some(ExporterSettings::Debug(debug::read(section))),
            "file" => file::read(section).map(ExporterSettings::File),
            "nop" => {
                nop_exporter::read(section);
                Some(ExporterSettings::Nop)
            }
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
        let settings = match component.id.kind.as_str() {
            "file_storage" => {
                let id = component.id.to_string();
                Some(ExtensionSettings::FileStorage(file_storage::read(section, &id)))
            }
            "health_check" => Some(ExtensionSettings::Health(HealthSettings::read(section))),
            "healthcheckv2" => Some(ExtensionSettings::Health(HealthSettings::read_v2(section))),
            "memory_limiter" => Some(ExtensionSettings::MemoryLimiter(LimiterSettings::read(section))),
            "pprof" => {
                pprof::read(section);
                Some(ExtensionSettings::Pprof)
            }
            "zpages" => Some(ExtensionSettings::Zpages(ZpagesSettings::read(section))),
            "basicauth" => BasicAuthSettings::read(section).map(ExtensionSettings::BasicAuth),
            "bearertokenauth" => BearerTokenSettings::read(section).map(ExtensionSettings::BearerToken),
            "headers_setter" => Some(ExtensionSettings::HeadersSetter(HeadersSetterSettings::read(section))),
            _ => {
                unknown("extension", component, EXTENSIONS, problems);
                None
            }
        };
        if let Some(settings) = settings {
            blueprint.extensions.insert(component.id.clone(), settings);
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

/// Builds the extensions that receivers and exporters can name; what else
/// `service.extensions` lists stays in the blueprint.
pub fn extensions(config: &Config, blueprint: &mut Blueprint, problems: &Problems) -> Extensions {
    let mut built = Extensions::default();
    let mut chained = vec![];
    for component in &config.extensions {
        built.insert(component.id.clone(), Built::NotListed);
        if !config.service.extensions.iter().any(|listed| listed.id == component.id) {
            continue;
        }
        let settings = match blueprint.extensions.remove(&component.id) {
            Some(ExtensionSettings::BasicAuth(BasicAuthSettings::Server { file, inline })) => {
                BasicAuthServer::new(file, inline).map(|it| server(Arc::new(it)))
            }
            Some(ExtensionSettings::BasicAuth(BasicAuthSettings::Client { username, password })) => {
                BasicAuthClient::new(&username, &password).map(|it| client(Arc::new(it)))
            }
            Some(ExtensionSettings::BearerToken(settings)) => BearerToken::new(settings).map(|it| {
                let token = Arc::new(it);
                Extension { authenticator: Some(token.clone()), authorizer: Some(token), ..Extension::default() }
            }),
            Some(ExtensionSettings::FileStorage(place)) => {
                Ok(Extension { storage: Some(place), ..Extension::default() })
            }
            Some(ExtensionSettings::MemoryLimiter(settings)) => {
                let limiter = Limiter::new(component.id.to_string().into(), &settings);
                Ok(Extension { gate: Some(Arc::new(limiter)), ..Extension::default() })
            }
            Some(ExtensionSettings::HeadersSetter(settings)) => {
                chained.push((component, settings));
                continue;
            }
            Some(other) => {
                blueprint.extensions.insert(component.id.clone(), other);
                continue;
            }
            None => continue,
        };
        finish_extension(component, settings, &mut built, problems);
    }
    build_chain(chained, &mut built, problems);
    built
}

fn server(authenticator: Arc<dyn Authenticator>) -> Extension {
    Extension { authenticator: Some(authenticator), ..Extension::default() }
}

fn client(authorizer: Arc<dyn Authorizer>) -> Extension {
    Extension { authorizer: Some(authorizer), ..Extension::default() }
}

fn finish_extension(
    component: &Component,
    outcome: Result<Extension, FileError>,
    built: &mut Extensions,
    problems: &Problems,
) {
    match outcome {
        Ok(extension) => built.insert(component.id.clone(), Built::Done(extension)),
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            problems.error(Problem::new(&component.path, format!("{error}{cause}")).at(&component.at));
            built.insert(component.id.clone(), Built::Failed);
        }
    }
}

/// A `headers_setter` may stand on another one: each is built when what it
/// stands on is, and what is left over goes in a circle or stands on nothing.
fn build_chain(mut waiting: Vec<(&Component, HeadersSetterSettings)>, built: &mut Extensions, problems: &Problems) {
    loop {
        let before = waiting.len();
        let mut left = vec![];
        for (component, settings) in waiting {
            let path = format!("{}.additional_auth", component.path);
            let below = settings.additional.as_ref().map(|named| built.authorizer(&path, named)).transpose();
            match below {
                Ok(below) => {
                    let setter = HeadersSetter::new(settings, below).map(|it| client(Arc::new(it)));
                    finish_extension(component, setter, built, problems);
                }
                Err(problem) => left.push((component, settings, problem)),
            }
        }
        if left.len() == before {
            left.into_iter().for_each(|(.., problem)| problems.error(problem));
            return;
        }
        waiting = left.into_iter().map(|(component, settings, _)| (component, settings)).collect();
    }
}

/// Builds an exporter.
pub fn exporter(
    component: &Component,
    settings: ExporterSettings,
    metrics: &Metrics,
    drain: Drain,
    extensions: &Extensions,
) -> Result<Arc<dyn Exporter>, Problem> {
    let id: Id = component.id.to_string().into();
    let counters = metrics.exporter(&id);
    let tls = |error: TlsError| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let problem = Problem::new(format!("{}.tls", component.path), format!("{error}{cause}"));
        problem.at(place(component, "tls"))
    };
    let client = |settings: &ClientSettings| {
        let path = format!("{}.auth.authenticator", component.path);
        settings.auth.as_ref().map(|named| extensions.authorizer(&path, named)).transpose()
    };
    let before = |sending: &SendingSettings, exporter: Arc<dyn Exporter>| -> Result<Arc<dyn Exporter>, Problem> {
        let exporter = match sending.batching.clone() {
            Some(batching) => Arc::new(Batching::new(batching, exporter, counters.clone(), None, drain.clone())),
            None => exporter,
        };
        let Some((settings, storage)) = sending.queued() else { return Ok(exporter) };
        let path = format!("{}.sending_queue.storage", component.path);
        let storage = storage.map(|named| extensions.storage(&path, named)).transpose()?;
        let (counters, queue, drain) = (counters.clone(), metrics.queue(&id, storage.is_some()), drain.clone());
        Ok(Arc::new(Queued::new(id.clone(), settings, storage, exporter, counters, queue, drain)))
    };
    Ok(match settings {
        ExporterSettings::Debug(settings) => Arc::new(DebugExporter::new(id.clone(), settings, counters.clone())),
        ExporterSettings::File(settings) => {
            Arc::new(FileExporter::new(id.clone(), settings, counters.clone(), drain.clone()))
        }
        ExporterSettings::Nop => Arc::new(NopExporter { metrics: counters.clone() }),
        ExporterSettings::Grpc(settings) => {
            let auth = client(&settings.client)?;
            let sending = settings.client.sending.clone();
            let exporter =
                OtlpGrpcExporter::new(id.clone(), settings, auth, counters.clone(), drain.clone()).map_err(tls)?;
            before(&sending, Arc::new(exporter))?
        }
        ExporterSettings::Http(settings) => {
            let auth = client(&settings.client)?;
            let sending = settings.client.sending.clone();
            let exporter =
                OtlpHttpExporter::new(id.clone(), settings, auth, counters.clone(), drain.clone()).map_err(tls)?;
            before(&sending, Arc::new(exporter))?
        }
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
