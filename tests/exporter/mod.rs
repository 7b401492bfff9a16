//! The exporters' side of OTLP.

mod answers;
mod sending;
mod tls;
