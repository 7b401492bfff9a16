//! The exporters' side of OTLP.

mod answers;
mod keys;
mod routes;
mod sending;
mod tempo;
mod tls;
