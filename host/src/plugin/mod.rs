//! Plugins: WebAssembly components as processors.
//!
//! Only this module names wasmtime. A pipeline sees a plugin as a `Processor`:
//! a batch goes in, the same batch with the plugin's edits in its overlay comes
//! out, and whatever the guest does, the batch is there afterwards.

mod bindings;
pub mod builtin;
mod engine;
mod guest;
mod lend;
mod output;
mod patterns;
mod pool;
mod settings;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use engine::Clockwork;
pub use guest::Limits;
pub use pool::Failure;
pub use settings::{OnError, PluginSettings, Source};

use crate::component::{BoxFuture, ConsumeError, Id, Processor, Task};
use crate::telemetry::{GuestMetrics, LogGate, Metrics, ProcessorMetrics, reason};
use crate::traces::{Batch, Index};
use pool::{Parts, Pool};

/// A larger file is not read.
const MODULE_LIMIT: u64 = 256 << 20;

/// Why a plugin cannot be used. Each has a hint for the person who wrote the config.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("`{0}` cannot be read")]
    Read(Source, #[source] std::io::Error),
    #[error("`{0}` is larger than {MODULE_LIMIT} bytes")]
    Size(Source),
    #[error("`{path}` has the digest `sha256:{found}`")]
    Digest { path: Source, found: String },
    #[error("`{0}` is no WebAssembly at all")]
    NotWasm(Source),
    #[error("`{0}` is a core WebAssembly module, not a component")]
    CoreModule(Source),
    #[error("`{path}` cannot be compiled: {cause}")]
    Compile { path: Source, cause: String },
    #[error("the plugin refused its configuration: {0}")]
    Configure(String),
    #[error("`{path}` cannot be started: {failure}")]
    Start { path: Source, failure: Failure },
    #[error("the WebAssembly engine cannot be started: {0}")]
    Engine(String),
}

impl LoadError {
    /// The key of the settings that the error is about, and what to try.
    pub fn place(&self) -> (&'static str, &'static str) {
        match self {
            Self::Read(..) => ("module", "relative paths count from the directory that the collector was started in"),
            Self::Size(_) | Self::Engine(_) => ("module", ""),
            Self::Digest { .. } => ("digest", "pin this digest if the module is the one you mean"),
            Self::NotWasm(_) => ("module", "name the plugin's `.wasm` file"),
            Self::CoreModule(_) => ("module", "build it with `cargo build --release --target wasm32-wasip2`"),
            Self::Compile { .. } => ("module", "is it a WebAssembly component, and whole?"),
            Self::Configure(_) => ("config", "the plugin's documentation says what it takes"),
            Self::Start { failure: Failure::Start(_), .. } => {
                ("module", "a plugin may import only what `wit/plugin.wit` and WASI 0.2 offer")
            }
            Self::Start { .. } => ("module", "it failed before it saw a batch; its own words, if any, are in the log"),
        }
    }
}

/// A module, read and compiled, for all the pipelines that use it.
pub struct Module {
    id: Id,
    settings: PluginSettings,
    component: wasmtime::component::Component,
    clockwork: Arc<Clockwork>,
    digest: [u8; 32],
}

impl Module {
    pub fn load(clockwork: &Arc<Clockwork>, id: Id, settings: PluginSettings) -> Result<Self, LoadError> {
        let path = || settings.module.clone();
        let wasm = match &settings.module {
            Source::Builtin(name) => Cow::Borrowed(builtin::module(name).map(|(_, wasm)| wasm).unwrap_or_default()),
            Source::File(file) => Cow::Owned(read_file(file, &settings.module)?),
        };
        let digest = Sha256::digest(&wasm);
        if let Some(pinned) = &settings.digest
            && *pinned != engine::hex(&digest)
        {
            return Err(LoadError::Digest { path: path(), found: engine::hex(&digest) });
        }
        if !wasm.starts_with(b"\0asm") {
            return Err(LoadError::NotWasm(path()));
        }
        // The first words of the two formats: version 1, and version 13 of layer 1.
        if wasm.starts_with(b"\0asm\x01\0\0\0") {
            return Err(LoadError::CoreModule(path()));
        }
        let component = clockwork
            .compile(&wasm, &digest)
            .map_err(|error| LoadError::Compile { path: path(), cause: format!("{error:#}") })?;
        Ok(Self { id, settings, component, clockwork: Arc::clone(clockwork), digest: digest.into() })
    }

    /// Whether the file still holds what was loaded.
    pub fn is_current(&self) -> bool {
        match &self.settings.module {
            Source::Builtin(_) => true,
            Source::File(file) => {
                read_file(file, &self.settings.module).is_ok_and(|wasm| Sha256::digest(&wasm)[..] == self.digest)
            }
        }
    }

    /// Instances of its own for one pipeline, the first of them configured.
    pub async fn plugin(&self, pipeline: &str, metrics: &Metrics, workers: usize) -> Result<Plugin, LoadError> {
        let guest_metrics = metrics.guest(&self.id);
        let parts = Parts {
            id: Arc::clone(&self.id),
            config: self.settings.config.clone(),
            limits: self.settings.limits,
            log: Arc::new(LogGate::new(self.settings.log_rate, pipeline)),
            metrics: Arc::clone(&guest_metrics),
            workers,
        };
        let started = Pool::start(&self.clockwork, &self.component, parts).await;
        let pool = Arc::new(started.map_err(|failure| match failure {
            Failure::Rejection(text) => LoadError::Configure(text),
            failure => LoadError::Start { path: self.settings.module.clone(), failure },
        })?);
        let ticking = Arc::clone(&pool);
        Ok(Plugin {
            id: Arc::clone(&self.id),
            on_error: self.settings.on_error,
            failures: LogGate::new(self.settings.log_rate, pipeline),
            processor_metrics: metrics.processor(&self.id),
            guest_metrics,
            _ticker: Task::spawn(async move { ticking.keep_ticking().await }),
            pool,
        })
    }
}

fn read_file(file: &Path, source: &Source) -> Result<Vec<u8>, LoadError> {
    let failed = |error| LoadError::Read(source.clone(), error);
    if std::fs::metadata(file).map_err(failed)?.len() > MODULE_LIMIT {
        return Err(LoadError::Size(source.clone()));
    }
    std::fs::read(file).map_err(failed)
}

/// A plugin in its place in a pipeline.
pub struct Plugin {
    id: Id,
    pool: Arc<Pool>,
    on_error: OnError,
    failures: LogGate,
    processor_metrics: ProcessorMetrics,
    guest_metrics: Arc<GuestMetrics>,
    _ticker: Task,
}

impl Plugin {
    /// Bytes of linear memory of the largest instance that is not in a call.
    pub fn memory(&self) -> usize {
        self.pool.memory()
    }

    async fn run(&self, mut batch: Batch) -> Result<Batch, ConsumeError> {
        let incoming = batch.spans();
        if incoming == 0 {
            return Ok(batch);
        }
        let clerk = &self.processor_metrics.clerk;
        self.processor_metrics.incoming.inc_by(incoming as u64);
        batch.held.at(clerk);
        let permanent = |error: crate::traces::WireError| ConsumeError::permanent(error.to_string());
        if let Err(error) = batch.index() {
            batch.held.all_rejected(clerk, reason::MALFORMED);
            return Err(permanent(error));
        }
        let watch = self.processor_metrics.duration.start();
        let (mut batch, outcome) = self.pool.process(batch).await;
        self.processor_metrics.duration.stop(&watch);
        match outcome {
            Ok(edits) if edits.is_empty() => {}
            Ok(edits) => {
                for dropped in batch.apply(edits).map_err(permanent)? {
                    self.guest_metrics.dropped(&dropped.reason, dropped.spans.len());
                    batch.held.dropped(clerk, &dropped.reason, &dropped.spans);
                }
            }
            Err(failure) => batch = self.failed(batch, &failure)?,
        }
        self.processor_metrics.outgoing.inc_by(batch.spans() as u64);
        Ok(batch)
    }

    /// What becomes of a batch that the plugin failed on.
    fn failed(&self, mut batch: Batch, failure: &Failure) -> Result<Batch, ConsumeError> {
        self.guest_metrics.failed(failure.reason());
        let (spans, then) = (batch.spans(), self.on_error.name());
        let mut text = format!("the plugin failed on a batch of {spans} spans (on_error: {then}): {failure}");
        if !failure.backtrace().is_empty() {
            text.push_str("; in ");
            text.push_str(failure.backtrace());
        }
        self.failures.write(&self.id, tracing::Level::ERROR, &text);
        match self.on_error {
            OnError::Pass => Ok(batch),
            OnError::Drop => {
                self.guest_metrics.dropped(reason::ON_ERROR, spans);
                let dropped = batch.indexed().map(Index::live_ids).unwrap_or_default();
                batch.held.dropped(&self.processor_metrics.clerk, reason::ON_ERROR, &dropped);
                Ok(Batch::empty(batch.context))
            }
            OnError::Refuse => {
                batch.held.all_rejected(&self.processor_metrics.clerk, reason::ON_ERROR);
                Err(ConsumeError::retryable(format!("processor `{}` {failure}", self.id)))
            }
        }
    }
}

impl Processor for Plugin {
    fn process(&self, batch: Batch) -> BoxFuture<'_, Result<Batch, ConsumeError>> {
        Box::pin(self.run(batch))
    }
}
