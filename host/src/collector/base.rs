//! What a reload keeps of the running collector: the metrics, the engine of the
//! plugins, and exporters of which the config says the same as before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::component::{BoxFuture, ConsumeError, Consumer, Exporter, Outcome};
use crate::config::{Component, ComponentId, Config, Node, Problem, Value};
use crate::exporter::Drain;
use crate::pipeline::FanOut;
use crate::plugin::{Clockwork, LoadError};
use crate::telemetry::{Level, Metrics};
use crate::traces::Batch;

/// What a graph is built upon.
#[derive(Clone)]
pub struct Base {
    pub(super) metrics: Arc<Metrics>,
    clockwork: Arc<Mutex<Option<Arc<Clockwork>>>>,
    exporters: Exporters,
}

pub(super) type Exporters = HashMap<ComponentId, BuiltExporter>;

impl Base {
    /// Nothing is there yet.
    pub fn new(level: Level) -> Self {
        Self { metrics: Arc::new(Metrics::new(level)), clockwork: Arc::default(), exporters: HashMap::new() }
    }

    /// With the exporters of the graph that runs.
    pub(super) fn with(&self, exporters: Exporters) -> Self {
        Self { exporters, ..self.clone() }
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

/// An exporter's settings, and the extensions that its credentials may come from.
#[derive(Clone)]
struct Written {
    settings: Node,
    extensions: Vec<(ComponentId, Node)>,
}

impl Written {
    fn of(component: &Component, config: &Config) -> Self {
        let has_auth = matches!(&component.settings.value, Value::Map(map) if map.get("auth").is_some());
        let listed = |extension: &&Component| config.service.extensions.iter().any(|listed| listed.id == extension.id);
        let extensions = config.extensions.iter().filter(|_| has_auth).filter(listed);
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
}

impl Life {
    pub fn new(drain: watch::Sender<bool>, exporters: Exporters) -> Self {
        let (user, used) = mpsc::channel(1);
        Self { used, user: Some(user), drain, exporters }
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
