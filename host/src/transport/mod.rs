//! What receivers, exporters and the collector's own pages share of HTTP and
//! gRPC: listeners, statuses, compression, TLS.

pub mod body;
pub mod gzip;
pub mod listen;
pub mod status;
pub mod tls;
