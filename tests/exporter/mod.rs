//! The exporters' side of OTLP.

mod answers;
mod local;
mod sending;
mod tls;
