//! What the collector tells of itself: logs and metrics. Everybody may use it,
//! and it uses nobody.

mod guest;
mod log;
mod metrics;

pub use guest::GuestMetrics;
pub use log::{LogGate, LogSettings, start_logging};
pub use metrics::{ExporterMetrics, Metrics, ProcessorMetrics, ReceiverMetrics};
