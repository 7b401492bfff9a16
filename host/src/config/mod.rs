//! The config as the user wrote it: the OpenTelemetry Collector's YAML, read, merged,
//! substituted and checked for its shape.
//!
//! In the flow: `load` gives a [`Config`]; the registry reads the settings of each
//! component from its [`Node`] with [`Section`] and knows which types exist; nothing
//! in here does. Reading goes `source → parse → load (merge) → expand → shape`, and
//! every value keeps its [`Position`] all the way, so that any later complaint can
//! name line and column.

mod connectors;
mod error;
mod expand;
pub mod fuzz;
mod id;
mod load;
mod mapping;
mod node;
mod parse;
mod redact;
mod scalar;
mod section;
mod shape;
mod signals;
mod source;
mod suggest;
mod units;

pub use error::{Errors, Problem, Problems};
pub use id::{ComponentId, IdError};
pub use load::{Sources, read};
pub use node::{Key, Map, Node, Position, Value};
#[cfg(test)]
pub use parse::parse_for_tests;
pub use redact::Secrets;
pub use section::{Section, Toggle};
pub use source::Fetch;

/// A config whose shape is sound: every reference in a pipeline leads to a component.
/// Whether its types exist and its settings make sense is not known yet.
#[derive(Clone, Debug)]
pub struct Config {
    pub receivers: Vec<Component>,
    pub processors: Vec<Component>,
    pub exporters: Vec<Component>,
    pub connectors: Vec<Component>,
    pub extensions: Vec<Component>,
    pub service: Service,
    /// What is odd but does not keep the collector from starting.
    pub warnings: Vec<Problem>,
    merged: Node,
}

/// A component as configured: its settings are raw, null for all defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    pub id: ComponentId,
    /// Path of its settings: `receivers.otlp`.
    pub path: String,
    /// Place of the id.
    pub at: Position,
    pub settings: Node,
    /// Pipelines name it, but none of traces.
    pub elsewhere: bool,
}

/// A mention of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub id: ComponentId,
    pub at: Position,
}

#[derive(Clone, Debug, Default)]
pub struct Service {
    pub extensions: Vec<Reference>,
    pub pipelines: Vec<Pipeline>,
    pub telemetry: Option<Node>,
}

/// A path that traces take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// `traces` or `traces/name`.
    pub id: ComponentId,
    pub at: Position,
    /// Receivers, and connectors that other pipelines export to.
    pub receivers: Vec<Reference>,
    /// In the order in which a batch meets them.
    pub processors: Vec<Reference>,
    /// Exporters, and connectors.
    pub exporters: Vec<Reference>,
}

impl Config {
    /// The merged config with everything filled in.
    pub fn merged(&self, secrets: Secrets) -> Node {
        match secrets {
            Secrets::Shown => self.merged.clone(),
            Secrets::Hidden => redact::redacted(&self.merged),
        }
    }

    /// The pipelines in an order in which each stands behind all that it leads to by a
    /// connector.
    pub fn downstream_first(&self) -> Vec<&Pipeline> {
        connectors::Graph::new(&self.connectors, &self.service.pipelines).downstream_first().0
    }
}
