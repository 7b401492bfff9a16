//! Connectors: what joins one pipeline to others. They hold no batch: one that is
//! handed on is answered for by the pipelines behind the connector.

pub mod forward;
