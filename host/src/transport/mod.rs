//! What receivers, exporters and the collector's own pages share of HTTP and
//! gRPC: listeners, statuses, compression, TLS.

pub mod body;
pub mod budget;
pub mod compress;
pub mod connect;
mod connection;
pub mod fetch;
pub mod listen;
pub mod proxy;
pub mod status;
pub mod stream;
pub mod tls;
