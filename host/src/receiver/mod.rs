//! Receivers: spans come in.

pub mod otlp;
