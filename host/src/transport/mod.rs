//! What receivers, exporters and the collector's own pages share of HTTP and
//! gRPC: listeners, statuses, compression, TLS.

pub mod body;
pub mod compress;
pub mod listen;
pub mod status;
pub mod tls;
