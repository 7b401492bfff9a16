//! What the collector tells of itself: logs, metrics and how its components are.
//! Everybody may use it, and it uses nobody.

mod account;
mod families;
mod gate;
mod guest;
mod instrument;
mod log;
mod metrics;
mod otlp;
mod prometheus;
mod reloads;
mod resource;
mod status;

pub use account::{Account, Clerk, Finding, Held, Ledger, Line, SpanIds, State, Traces, Why, reason};
pub use gate::LogGate;
pub use guest::GuestMetrics;
pub use instrument::{Counter, Distribution, Gauge, Histogram, Kind, Level, Point, Snapshot, Stopwatch, Value};
pub use log::{LogError, LogOutput, LogSettings, Logging, Sampling, start_logging};
pub use metrics::{
    BatchMetrics, ExporterMetrics, LimiterMetrics, Metrics, ProcessorMetrics, QueueMetrics, ReceiverMetrics,
};
pub use otlp::encode as encode_otlp;
pub use prometheus::Exposition;
pub use reloads::Reloads;
pub use resource::Resource;
pub use status::{Status, Statuses, Trouble};

/// The instrumentation scope of all that is told.
pub const SCOPE: &str = "vespid";
