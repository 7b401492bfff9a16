//! Runs a plugin natively over a batch in memory, with the collector's
//! semantics: reads do not see the call's own edits, edits apply together, and
//! what would trap in the collector panics.
//!
//! ```
//! use vespid_plugin::{Batch, Edits, NoConfig, Owner, Processor, Rejection};
//! use vespid_plugin::testing::{self, Span, Traces};
//!
//! struct Mark;
//!
//! impl Processor for Mark {
//!     type Config = NoConfig;
//!
//!     fn new(_: NoConfig) -> Result<Self, Rejection> {
//!         Ok(Self)
//!     }
//!
//!     fn process(&mut self, _: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
//!         edits.set(Owner::Span, &[0], "seen", true);
//!         Ok(())
//!     }
//! }
//!
//! let mut plugin: Mark = testing::configure("{}")?;
//! let outcome = testing::run(&mut plugin, Traces::new().span(Span::new("GET /")))?;
//! assert_eq!(outcome.span("GET /").get("seen"), Some(&true.into()));
//! # Ok::<(), Rejection>(())
//! ```

mod apply;
mod traces;

use std::mem;

use crate::memory::{self, Call};
use crate::types::LogLevel;
use crate::{Batch, Edits, Processor, Rejection, config};

pub(crate) use apply::{Edit, Replaced};
pub use traces::{Attributes, Event, Link, Resource, Scope, Span, Status, Traces};

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The batch after the edits. Resources and scopes stay, even without spans.
    pub traces: Traces,
    /// The dropped spans, in row order, each with the reason given first.
    pub dropped: Vec<Dropped>,
    pub logs: Vec<(LogLevel, String)>,
    pub metrics: Vec<Metric>,
}

/// A span that the plugin dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropped {
    pub span: Span,
    pub reason: String,
}

/// One `count` or `record` of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Outcome {
    /// The names of the spans that stayed, in order.
    pub fn span_names(&self) -> Vec<&str> {
        let spans = self.traces.spans.iter();
        spans.map(|span| span.name.as_str()).collect()
    }

    /// The first span of that name that stayed; panics without one.
    pub fn span(&self, name: &str) -> &Span {
        let found = self.traces.spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span `{name}` among {:?}", self.span_names()))
    }

    /// Why the first dropped span of that name was dropped.
    pub fn drop_reason(&self, name: &str) -> Option<&str> {
        let mut dropped = self.dropped.iter();
        let found = dropped.find(|dropped| dropped.span.name == name)?;
        Some(&found.reason)
    }

    /// The sum of what the plugin counted or recorded under the name.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics.iter().filter(|metric| metric.name == name);
        metrics.map(|metric| metric.value).sum()
    }
}

/// Makes a plugin from its config's JSON, as the collector does.
pub fn configure<P: Processor>(config: &str) -> Result<P, Rejection> {
    P::new(config::read(config)?)
}

/// Runs the plugin once over the batch. After a rejection the batch would go on
/// as it was. Panics where the collector would trap.
pub fn run<P: Processor>(plugin: &mut P, traces: Traces) -> Result<Outcome, Rejection> {
    let call = memory::enter(traces);
    plugin.process(&Batch::current(), &mut Edits::current())?;
    let Call { mut traces, edits, logs, metrics } = call.leave();
    let reasons = apply::all(&mut traces, edits);
    let mut dropped = Vec::new();
    for (span, reason) in mem::take(&mut traces.spans).into_iter().zip(reasons) {
        match reason {
            Some(reason) => dropped.push(Dropped { span, reason }),
            None => traces.spans.push(span),
        }
    }
    Ok(Outcome { traces, dropped, logs, metrics })
}

#[cfg(test)]
mod tests;
