//! Receivers: spans come in.

pub mod nop;
pub mod otlp;
