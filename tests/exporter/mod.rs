//! The exporters' side of OTLP.

mod answers;
mod keys;
mod local;
mod routes;
mod sending;
mod tempo;
mod tls;
