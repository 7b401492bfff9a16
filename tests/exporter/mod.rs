//! The exporters' side of OTLP.

mod answers;
mod batching;
mod keys;
mod local;
mod routes;
mod sending;
mod tempo;
mod tls;
