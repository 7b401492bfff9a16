//! Instances of one plugin in one pipeline: at most one for each worker, made
//! when they are needed, handed from call to call, replaced after a trap.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker, TypedFunc};
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use super::bindings::{SpanProcessor, TIMER};
use super::engine::Clockwork;
use super::guest::{Guest, GuestFault, Limits, Phase, Refused};
use crate::component::Id;
use crate::telemetry::{GuestMetrics, LogGate};
use crate::traces::{Batch, Edit};

/// What `configure` may take; a Python plugin imports its modules in it.
const CONFIGURE_DEADLINE: Duration = Duration::from_secs(10);

/// How often `timer.tick` is called.
const TICK_PERIOD: Duration = Duration::from_secs(1);

/// Why a call did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The guest's own error text.
    #[error("rejected: {0}")]
    Rejection(String),
    #[error("ran longer than its deadline of {0:?}")]
    Deadline(Duration),
    #[error("needed more than its {0} bytes of memory")]
    Memory(usize),
    #[error("needed a larger table than a plugin may have")]
    Table,
    #[error("{0}")]
    Fault(String),
    /// The deadline passed in a host function.
    #[error("{0}")]
    Search(String),
    #[error("exited with status {0}")]
    Exit(i32),
    #[error("trapped: {message}")]
    Trap { message: String, backtrace: String },
    #[error("cannot be instantiated: {0}")]
    Start(String),
}

impl Failure {
    /// The metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Rejection(_) => "rejection",
            Self::Deadline(_) | Self::Search(_) => "deadline",
            Self::Memory(_) => "memory",
            Self::Table => "table",
            Self::Fault(_) => "fault",
            Self::Exit(_) => "exit",
            Self::Trap { .. } => "trap",
            Self::Start(_) => "start",
        }
    }

    /// The guest's stack at the trap, where there was one.
    pub fn backtrace(&self) -> &str {
        match self {
            Self::Trap { backtrace, .. } => backtrace,
            _ => "",
        }
    }
}

pub struct Pool {
    id: Id,
    clockwork: Arc<Clockwork>,
    pre: InstancePre<Guest>,
    tick: Option<ComponentExportIndex>,
    config: String,
    limits: Limits,
    log: Arc<LogGate>,
    metrics: Arc<GuestMetrics>,
    idle: Mutex<Vec<Instance>>,
    permits: Semaphore,
}

struct Instance {
    store: Store<Guest>,
    bindings: SpanProcessor,
    tick: Option<TypedFunc<(), (Result<(), String>,)>>,
    ticked: Instant,
}

/// What a pool is made of.
pub struct Parts {
    pub id: Id,
    pub config: String,
    pub limits: Limits,
    pub log: Arc<LogGate>,
    pub metrics: Arc<GuestMetrics>,
    /// How many instances there may be at once.
    pub workers: usize,
}

impl Pool {
    /// Links the module and configures its first instance.
    pub async fn start(clockwork: &Arc<Clockwork>, component: &Component, parts: Parts) -> Result<Self, Failure> {
        let started = |error: wasmtime::Error| Failure::Start(root_cause(&error));
        let mut linker: Linker<Guest> = Linker::new(&clockwork.engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(started)?;
        SpanProcessor::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |guest| guest)
            .map_err(started)?;
        let pre = linker.instantiate_pre(component).map_err(started)?;
        let tick = component.get_export_index(None, TIMER);
        let tick = tick.and_then(|timer| component.get_export_index(Some(&timer), "tick"));
        let Parts { id, config, limits, log, metrics, workers } = parts;
        let (idle, permits) = (Mutex::default(), Semaphore::new(workers));
        let clockwork = Arc::clone(clockwork);
        let pool = Self { id, clockwork, pre, tick, config, limits, log, metrics, idle, permits };
        let first = pool.instantiate().await?;
        pool.put_back(first);
        Ok(pool)
    }

    /// Runs `process` on the batch, which comes back whatever happens; it is not edited here.
    pub async fn process(&self, batch: Batch) -> (Batch, Result<Vec<Edit>, Failure>) {
        let _permit = self.permits.acquire().await;
        let mut instance = match self.take() {
            Some(instance) => instance,
            None => match self.instantiate().await {
                Ok(instance) => instance,
                Err(failure) => return (batch, Err(failure)),
            },
        };
        let guest = instance.store.data_mut();
        let context = Arc::clone(&batch.context);
        let spans = batch.spans();
        guest.batch = Some(batch);
        guest.phase = Phase::Process;
        guest.edits.clear();
        guest.edit_bytes = 0;
        guest.patterns.tidy();
        let Instance { store, bindings, .. } = &mut instance;
        let processor = bindings.vespid_plugin_processor();
        let answer = self.call(store, self.limits.deadline, async |store| processor.call_process(store).await).await;
        let guest = instance.store.data_mut();
        guest.phase = Phase::Idle;
        let edits = std::mem::take(&mut guest.edits);
        debug_assert!(guest.batch.is_some(), "{spans} spans of {context:?} were lost");
        let batch = guest.batch.take();
        self.metrics.ran(guest.meter.ran());
        let result = match answer {
            Ok(Ok(())) => Ok(edits),
            Ok(Err(text)) => Err(Failure::Rejection(text)),
            Err(failure) => Err(failure),
        };
        // A rejection is an ordinary answer; after anything else the instance is of no use.
        if matches!(result, Ok(_) | Err(Failure::Rejection(_))) {
            self.put_back(instance);
        }
        match batch {
            Some(batch) => (batch, result),
            // Nothing takes the batch out of a guest but the line above.
            None => (Batch::empty(context), Err(Failure::Start("its batch is gone".into()))),
        }
    }

    /// Calls `tick` of every idle instance for as long as the future is polled.
    pub async fn keep_ticking(&self) {
        if self.tick.is_none() {
            return std::future::pending().await;
        }
        let mut interval = tokio::time::interval(TICK_PERIOD / 2);
        loop {
            interval.tick().await;
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).len();
            for _ in 0..idle {
                let Ok(_permit) = self.permits.try_acquire() else { break };
                let Some(mut instance) = self.take() else { break };
                let due = instance.ticked.elapsed() >= TICK_PERIOD;
                if let Some(tick) = instance.tick.filter(|_| due) {
                    instance.ticked = Instant::now();
                    let deadline = self.limits.deadline;
                    let called =
                        self.call(&mut instance.store, deadline, async |store| tick.call_async(store, ()).await).await;
                    let failure = match called {
                        Ok((Ok(()),)) => None,
                        Ok((Err(text),)) => Some(Failure::Rejection(text)),
                        Err(failure) => Some(failure),
                    };
                    if let Some(failure) = failure {
                        self.metrics.failed(failure.reason());
                        let text = format!("`tick` {failure} {}", failure.backtrace());
                        self.log.write(&self.id, tracing::Level::ERROR, text.trim_end());
                        if !matches!(failure, Failure::Rejection(_)) {
                            continue;
                        }
                    }
                }
                self.put_front(instance);
            }
        }
    }

    /// The linear memory of the idle instance that has most of it.
    pub fn memory(&self) -> usize {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().map(|instance| instance.store.data().limiter.grown).max().unwrap_or_default()
    }

    fn take(&self) -> Option<Instance> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put_back(&self, instance: Instance) {
        if !self.is_spent(&instance) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
        }
    }

    fn put_front(&self, instance: Instance) {
        if !self.is_spent(&instance) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).insert(0, instance);
        }
    }

    /// Linear memory never shrinks: an instance that has used three quarters of
    /// what it may is replaced before it fails.
    fn is_spent(&self, instance: &Instance) -> bool {
        let spent = instance.store.data().limiter.grown > self.limits.memory / 4 * 3;
        if spent {
            self.metrics.recycled();
        }
        spent
    }

    async fn instantiate(&self) -> Result<Instance, Failure> {
        let guest = Guest::new(Arc::clone(&self.id), self.limits, Arc::clone(&self.log), Arc::clone(&self.metrics));
        let meter = Arc::clone(&guest.meter);
        let mut store = Store::new(&self.clockwork.engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        // What one call may make the host copy out of the guest.
        store.set_hostcall_fuel(self.limits.memory.max(1 << 20));
        store.epoch_deadline_callback(move |context| {
            let deadline = context.data().deadline;
            if meter.running() > deadline {
                return Ok(UpdateDeadline::Interrupt);
            }
            // tokio's own yield also lets sockets have their turn; with a plain wake-up
            // a worker looks at them after 61 polls, which are 61 ticks of a looping guest.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        let pre = &self.pre;
        let (bindings, tick) = self
            .call(&mut store, CONFIGURE_DEADLINE, async |store| {
                let instance = pre.instantiate_async(&mut *store).await?;
                let tick = self.tick.as_ref().map(|tick| instance.get_typed_func(&mut *store, tick)).transpose()?;
                Ok((SpanProcessor::new(&mut *store, &instance)?, tick))
            })
            .await?;
        store.data_mut().phase = Phase::Configure;
        let processor = bindings.vespid_plugin_processor();
        let config = &self.config;
        let configured = async |store: &mut Store<Guest>| processor.call_configure(store, config).await;
        self.call(&mut store, CONFIGURE_DEADLINE, configured).await?.map_err(Failure::Rejection)?;
        store.data_mut().phase = Phase::Idle;
        self.metrics.started();
        Ok(Instance { store, bindings, tick, ticked: Instant::now() })
    }

    /// Runs guest code under the deadline. It gives way to other work at every
    /// tick of the clock; one that sleeps is ended by a timer.
    async fn call<R>(
        &self,
        store: &mut Store<Guest>,
        deadline: Duration,
        call: impl AsyncFnOnce(&mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        let _running = self.clockwork.run();
        let meter = Arc::clone(&store.data().meter);
        meter.start();
        store.data_mut().deadline = deadline;
        store.data_mut().limiter.refused = None;
        store.set_epoch_deadline(1);
        let called = {
            let mut future = pin!(call(store));
            let metered = poll_fn(|context| {
                meter.resume();
                let polled = future.as_mut().poll(context);
                meter.pause();
                polled
            });
            tokio::time::timeout(deadline * 10 + Duration::from_secs(1), metered).await
        };
        match called {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure(&error, store.data(), deadline)),
            Err(_) => Err(Failure::Deadline(deadline)),
        }
    }
}

fn failure(error: &wasmtime::Error, guest: &Guest, deadline: Duration) -> Failure {
    match guest.limiter.refused {
        Some(Refused::Memory) => return Failure::Memory(guest.limits.memory),
        Some(Refused::Table) => return Failure::Table,
        None => {}
    }
    if let Some(fault) = error.downcast_ref::<GuestFault>() {
        if matches!(fault, GuestFault::Searched { .. }) {
            return Failure::Search(fault.to_string());
        }
        let cause = std::error::Error::source(fault).map(|cause| format!(": {cause}")).unwrap_or_default();
        return Failure::Fault(format!("{fault}{cause}"));
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return Failure::Exit(exit.0);
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return Failure::Deadline(deadline);
    }
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    Failure::Trap { message: root_cause(error), backtrace }
}

fn root_cause(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

/// The guest's stack, the innermost call first, by the names that the module carries.
fn frames(backtrace: &WasmBacktrace) -> String {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().map(name).collect::<Vec<_>>().join(" < ")
}
