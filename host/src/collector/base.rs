//! What a reload keeps of the running collector: the metrics, the engine of the
//! plugins, and plugins and exporters of which the config says the same as before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};

use crate::component::{BoxFuture, ConsumeError, Consumer, Exporter, OpenError, Outcome, Processor};
use crate::config::{Component, ComponentId, Config, Map, Node, Pipeline, Problem, Value};
use crate::exporter::Drain;
use crate::pipeline::{FanOut, Repeats};
use crate::plugin::{Clockwork, LoadError, Module, Plugin};
use crate::telemetry::{Level, Metrics};
use crate::traces::Batch;

/// What a graph is built upon.
#[derive(Clone)]
pub struct Base {
    pub(super) metrics: Arc<Metrics>,
    clockwork: Arc<Mutex<Option<Arc<Clockwork>>>>,
    exporters: Exporters,
    plugins: Plugins,
    pub(super) repeats: Arc<Repeats>,
}

pub(super) type Exporters = HashMap<ComponentId, BuiltExporter>;

impl Base {
    /// Nothing is there yet.
    pub fn new(level: Level) -> Self {
        Self {
            metrics: Arc::new(Metrics::new(level)),
            clockwork: Arc::default(),
            exporters: HashMap::new(),
            plugins: Plugins::default(),
            repeats: Arc::default(),
        }
    }

    /// With what the graph that runs is made of.
    pub(super) fn with(&self, life: Option<&Life>) -> Self {
        let parts = life.map(|life| (life.exporters.clone(), life.plugins.clone()));
        let (exporters, plugins) = parts.unwrap_or_default();
        Self { exporters, plugins, ..self.clone() }
    }

    /// The module that runs, if it would be loaded the same way again.
    pub(super) fn module(&self, component: &Component) -> Option<Arc<Module>> {
        let (written, module) = self.plugins.modules.get(&component.id)?;
        let same = written.says_the_same(&component.settings) && module.is_current();
        same.then(|| Arc::clone(module))
    }

    /// The instances of a module that run in a pipeline.
    pub(super) fn plugin(&self, pipeline: &ComponentId, id: &ComponentId, module: &Arc<Module>) -> Option<Arc<Plugin>> {
        let (of, plugin) = self.plugins.placed.get(&(pipeline.clone(), id.clone()))?;
        Arc::ptr_eq(of, module).then(|| Arc::clone(plugin))
    }

    /// The engine of all plugins, started with the first of them.
    pub(super) fn clockwork(&self) -> Result<Arc<Clockwork>, LoadError> {
        let mut clockwork = self.clockwork.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clockwork) = &*clockwork {
            return Ok(Arc::clone(clockwork));
        }
        let started = Clockwork::new().map(Arc::new).map_err(|error| LoadError::Engine(error.to_string()))?;
        Ok(Arc::clone(clockwork.insert(started)))
    }

    /// The exporter that runs, if it would be built the same way again.
    pub(super) fn exporter(&self, component: &Component, config: &Config) -> Option<BuiltExporter> {
        let running = self.exporters.get(&component.id)?;
        let same = running.written.is_same(&Written::of(component, config)) && !names_files(&component.settings);
        same.then(|| running.clone())
    }
}

/// The plugins of a graph: a later one that says the same of them goes on with their
/// instances, and with what these remember.
#[derive(Clone, Default)]
pub(super) struct Plugins {
    modules: HashMap<ComponentId, (Node, Arc<Module>)>,
    /// By pipeline and processor.
    placed: HashMap<(ComponentId, ComponentId), (Arc<Module>, Arc<Plugin>)>,
}

impl Plugins {
    pub fn insert(&mut self, pipeline: &Pipeline, component: &Component, module: &Arc<Module>, plugin: &Arc<Plugin>) {
        let place = (pipeline.id.clone(), component.id.clone());
        self.placed.insert(place, (Arc::clone(module), Arc::clone(plugin)));
        let written = || (component.settings.clone(), Arc::clone(module));
        self.modules.entry(component.id.clone()).or_insert_with(written);
    }
}

/// A plugin that more than one graph may use.
pub(super) struct Shared(pub Arc<Plugin>);

impl Processor for Shared {
    fn process(&self, batch: Batch) -> BoxFuture<'_, Result<Batch, ConsumeError>> {
        self.0.process(batch)
    }

    fn looks_inside(&self) -> bool {
        self.0.looks_inside()
    }
}

/// An exporter, and all that the config says of it.
#[derive(Clone)]
pub(super) struct BuiltExporter {
    pub exporter: Arc<dyn Exporter>,
    /// Tells it that it gets nothing more, and ends its retries.
    pub drain: Arc<watch::Sender<bool>>,
    written: Written,
}

impl BuiltExporter {
    pub fn new(
        component: &Component,
        config: &Config,
        build: impl FnOnce(Drain) -> Result<Arc<dyn Exporter>, Problem>,
    ) -> Result<Self, Problem> {
        let (drain, drained) = Drain::new();
        let exporter = build(drained)?;
        Ok(Self { exporter, drain: Arc::new(drain), written: Written::of(component, config) })
    }

    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.drain, &other.drain)
    }
}

/// An exporter's settings, and the extensions that its credentials may come from and
/// that its queue may be kept in.
#[derive(Clone)]
struct Written {
    settings: Node,
    extensions: Vec<(ComponentId, Node)>,
}

impl Written {
    fn of(component: &Component, config: &Config) -> Self {
        let names_some = |map: &Map| map.get("auth").is_some() || names_storage(map);
        let needs_them = matches!(&component.settings.value, Value::Map(map) if names_some(map));
        let listed = |extension: &&Component| config.service.extensions.iter().any(|listed| listed.id == extension.id);
        let extensions = config.extensions.iter().filter(|_| needs_them).filter(listed);
        let extensions = extensions.map(|it| (it.id.clone(), it.settings.clone())).collect();
        Self { settings: component.settings.clone(), extensions }
    }

    fn is_same(&self, other: &Self) -> bool {
        let same = |((id, one), (other_id, other)): (&(ComponentId, Node), &(ComponentId, Node))| {
            id == other_id && one.says_the_same(other)
        };
        self.settings.says_the_same(&other.settings)
            && self.extensions.len() == other.extensions.len()
            && self.extensions.iter().zip(&other.extensions).all(same)
    }
}

fn names_storage(settings: &Map) -> bool {
    let Some((_, queue)) = settings.get("sending_queue") else { return false };
    matches!(&queue.value, Value::Map(queue) if queue.get("storage").is_some())
}

/// Whether `tls` names files: a reload reads them again.
fn names_files(settings: &Node) -> bool {
    let Value::Map(settings) = &settings.value else { return false };
    let Some((_, tls)) = settings.get("tls") else { return false };
    matches!(&tls.value, Value::Map(tls) if tls.names().any(|name| name.ends_with("_file")))
}

/// Whether something of a graph is still in use, and how it is told to come to its end.
pub(super) struct Life {
    /// Each way into the graph holds the other end.
    used: mpsc::Receiver<()>,
    user: Option<mpsc::Sender<()>>,
    drain: watch::Sender<bool>,
    pub exporters: Exporters,
    pub plugins: Plugins,
}

impl Life {
    pub fn new(drain: watch::Sender<bool>, exporters: Exporters, plugins: Plugins) -> Self {
        let (user, used) = mpsc::channel(1);
        Self { used, user: Some(user), drain, exporters, plugins }
    }

    /// A way into the graph.
    pub fn consumer(&self, pipelines: FanOut) -> Arc<dyn Consumer> {
        Arc::new(Way { pipelines, _user: self.user.clone() })
    }

    /// Open batches of pipelines leave at once.
    pub fn flush(&self) {
        self.drain.send_replace(true);
    }

    /// Retries end, too.
    pub fn end(&self) {
        self.flush();
        for built in self.exporters.values() {
            built.drain.send_replace(true);
        }
    }

    /// Gets the queues of the exporters: the part that can fail.
    pub async fn open(&self) -> Result<(), (ComponentId, OpenError)> {
        for (id, built) in &self.exporters {
            built.exporter.open().await.map_err(|error| (id.clone(), error))?;
        }
        Ok(())
    }

    /// Lets the queues be sent.
    pub fn begin(&self) {
        self.exporters.values().for_each(|built| built.exporter.begin());
    }

    /// Sends what queues hold; nothing more comes to them.
    pub async fn drain(&self) {
        join_all(self.exporters.values().map(|built| built.exporter.drain())).await;
    }

    pub async fn close(&self) {
        join_all(self.exporters.values().map(|built| built.exporter.close())).await;
    }

    /// Waits until no request is in the graph, and none can come.
    pub async fn unused(&mut self) {
        self.user = None;
        let _ = self.used.recv().await;
    }
}

struct Way {
    pipelines: FanOut,
    _user: Option<mpsc::Sender<()>>,
}

impl Consumer for Way {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        self.pipelines.consume(batch)
    }

    fn looks_inside(&self) -> bool {
        self.pipelines.looks_inside()
    }
}
