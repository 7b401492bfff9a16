//! The `debug` exporter: spans on standard error, for people.

use std::io::Write as _;

use crate::component::{BoxFuture, ConsumeError, Exporter, Id, Outcome};
use crate::config::Section;
use crate::telemetry::ExporterMetrics;
use crate::traces::{Batch, Parcel};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// One line for each request.
    Basic,
    /// One line for each span.
    Normal,
    /// All that a span holds.
    Detailed,
}

/// Reads the exporter's section.
pub fn read(mut section: Section<'_>) -> Verbosity {
    let verbosity = match section.choice_or("verbosity", &["basic", "normal", "detailed"], "basic") {
        "detailed" => Verbosity::Detailed,
        "normal" => Verbosity::Normal,
        _ => Verbosity::Basic,
    };
    section.finish();
    verbosity
}

pub struct DebugExporter {
    pub id: Id,
    pub verbosity: Verbosity,
    pub metrics: ExporterMetrics,
}

impl DebugExporter {
    fn write(&self, parcel: Parcel) -> Result<Outcome, ConsumeError> {
        let spans = parcel.spans;
        tracing::info!(exporter = %self.id, "resource spans" = true, spans, "Traces");
        if self.verbosity != Verbosity::Basic {
            let mut batch = Batch::of(&parcel);
            let index = batch.index().map_err(|error| ConsumeError::permanent(error.to_string()))?;
            let text = if self.verbosity == Verbosity::Detailed { index.show() } else { index.show_lines() };
            // One write, so that the output of two exporters does not mix.
            let text = format!("{} ({spans} spans)\n{text}\n", self.id);
            let written = std::io::stderr().lock().write_all(text.as_bytes());
            written.map_err(|error| ConsumeError::permanent(format!("standard error cannot be written: {error}")))?;
        }
        self.metrics.sent.inc_by(spans as u64);
        Ok(Outcome::default())
    }
}

impl Exporter for DebugExporter {
    fn export(&self, parcel: Parcel) -> BoxFuture<'_, Result<Outcome, ConsumeError>> {
        Box::pin(std::future::ready(self.write(parcel)))
    }
}
