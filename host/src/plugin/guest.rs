//! What one instance of a plugin owns on the host's side: the batch of the call
//! under way, the edits made so far, and the limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::output::Output;
use super::patterns::Patterns;
use crate::component::Id;
use crate::telemetry::{GuestMetrics, LogGate};
use crate::traces::{Batch, Edit, Index, Owner};

/// What the guest asked for that it must not have. It ends the call as a trap
/// does, and its text reaches the log.
#[derive(Debug, thiserror::Error)]
pub enum GuestFault {
    #[error("`{0}` was called outside `process`: there is no batch to read or edit")]
    NoBatch(&'static str),
    #[error("`patterns.compile` was called outside `configure`")]
    CompileLate,
    #[error("`{call}` named {owner:?} row {row}, and there are {rows}")]
    Row { call: &'static str, owner: Owner, row: u32, rows: usize },
    #[error("`{call}` gave {rows} rows and {values} values")]
    Uneven { call: &'static str, rows: usize, values: usize },
    #[error("`{call}` gave code {code}, and the dictionary has {texts} texts")]
    Code { call: &'static str, code: u32, texts: usize },
    #[error("`{call}` gave packed texts whose ends do not fit their data")]
    Packed { call: &'static str },
    #[error("`{call}` gave a text that is not UTF-8")]
    Utf8 { call: &'static str },
    #[error("`edits.set-status` gave code {0}, and OTLP has 0 to 2")]
    Status(u8),
    #[error("`{call}` gave a value that is no OTLP JSON")]
    Json { call: &'static str, source: crate::traces::OtlpJsonError },
    #[error("the edits of this call would add {bytes} bytes to the batch, and its limit is {limit}")]
    Edits { bytes: usize, limit: usize },
    #[error("the matches found in this call take {bytes} bytes, and the limit is {limit}")]
    Lent { bytes: usize, limit: usize },
    #[error("pattern {0} was not compiled by this plugin")]
    Pattern(u32),
    #[error("the call's budget of {0} bytes searched by patterns is spent")]
    Budget(usize),
    #[error("the tenant `{0}` is longer than {1} bytes or holds a control character")]
    Tenant(String, usize),
}

/// What the limits of one instance are.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long one call may run, time spent waiting for a worker not counted.
    pub deadline: Duration,
    /// Bytes of linear memory, and of edits that one call may add.
    pub memory: usize,
}

/// Which export runs; the others' host functions are closed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Configure,
    Process,
    Idle,
}

pub struct Guest {
    pub id: Id,
    pub phase: Phase,
    pub batch: Option<Batch>,
    pub edits: Vec<Edit>,
    pub edit_bytes: usize,
    pub limits: Limits,
    /// Of the call under way.
    pub deadline: Duration,
    pub limiter: Limiter,
    pub meter: Arc<Meter>,
    pub log: Arc<LogGate>,
    pub metrics: Arc<GuestMetrics>,
    pub patterns: Patterns,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl Guest {
    pub fn new(id: Id, limits: Limits, log: Arc<LogGate>, metrics: Arc<GuestMetrics>) -> Self {
        // WASI is linked because every toolchain's runtime imports it, and
        // nothing is granted: no file, no variable, no argument, no socket.
        // What it prints goes to the log.
        let wasi = WasiCtx::builder()
            .stdout(Output::new(&id, &log, "stdout"))
            .stderr(Output::new(&id, &log, "stderr"))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        Self {
            id,
            phase: Phase::Idle,
            batch: None,
            edits: vec![],
            edit_bytes: 0,
            limits,
            deadline: limits.deadline,
            limiter: Limiter { memory: limits.memory, grown: 0, refused: None },
            meter: Arc::default(),
            log,
            metrics,
            patterns: Patterns::default(),
            wasi,
            table: ResourceTable::new(),
        }
    }

    /// The index of the batch being processed.
    pub fn index(&self, call: &'static str) -> wasmtime::Result<&Index> {
        match self.batch.as_ref().and_then(Batch::indexed) {
            Some(index) if self.phase == Phase::Process => Ok(index),
            _ => Err(GuestFault::NoBatch(call).into()),
        }
    }

    /// Rows as entries, each one checked.
    pub fn entries(&self, call: &'static str, owner: Owner, mut rows: Vec<u32>) -> wasmtime::Result<Vec<u32>> {
        let index = self.index(call)?;
        for row in &mut rows {
            match index.entry(owner, *row as usize) {
                Some(entry) => *row = entry as u32,
                None => return Err(GuestFault::Row { call, owner, row: *row, rows: index.count(owner) }.into()),
            }
        }
        Ok(rows)
    }

    /// Keeps an edit until the call has ended well.
    pub fn edit(&mut self, call: &'static str, edit: Edit) -> wasmtime::Result<()> {
        let index = self.index(call)?;
        let (grows, limit) = (index.growth_of(std::slice::from_ref(&edit)), self.limits.memory.min(index.room()));
        self.edit_bytes = self.edit_bytes.saturating_add(grows);
        if self.edit_bytes > limit {
            return Err(GuestFault::Edits { bytes: self.edit_bytes, limit }.into());
        }
        self.edits.push(edit);
        Ok(())
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Which limit a guest ran into, told from the growth that was refused to it:
/// what it does after that, most often a trap, does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Memory,
    Table,
}

pub struct Limiter {
    memory: usize,
    /// The largest size of its memory so far.
    pub grown: usize,
    pub refused: Option<Refused>,
}

/// A component may be made of several modules; a JavaScript one has a handful.
const INSTANCES: usize = 64;
const MEMORIES: usize = 16;
const TABLES: usize = 64;
const TABLE_ELEMENTS: usize = 1 << 17;

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory {
            self.refused = Some(Refused::Memory);
            return Ok(false);
        }
        self.grown = self.grown.max(desired);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            self.refused = Some(Refused::Table);
        }
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }

    fn tables(&self) -> usize {
        TABLES
    }
}

/// How long a call has really run: the time inside its polls, and not the time
/// that it waited for a worker.
#[derive(Debug)]
pub struct Meter {
    origin: Instant,
    resumed: AtomicU64,
    before: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { origin: Instant::now(), resumed: AtomicU64::new(0), before: AtomicU64::new(0) }
    }
}

impl Meter {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    pub fn start(&self) {
        self.before.store(0, Ordering::Relaxed);
    }

    pub fn resume(&self) {
        self.resumed.store(self.now(), Ordering::Relaxed);
    }

    pub fn pause(&self) {
        let ran = self.now().saturating_sub(self.resumed.load(Ordering::Relaxed));
        self.before.fetch_add(ran, Ordering::Relaxed);
    }

    /// The run time so far, of a call that is running now.
    pub fn running(&self) -> Duration {
        let ran = self.now().saturating_sub(self.resumed.load(Ordering::Relaxed));
        Duration::from_nanos(self.before.load(Ordering::Relaxed) + ran)
    }

    /// The run time of a call that has ended.
    pub fn ran(&self) -> Duration {
        Duration::from_nanos(self.before.load(Ordering::Relaxed))
    }
}
