//! The receiver's side of OTLP.

mod auth;
mod browser;
mod connections;
mod encodings;
mod grpc;
mod http;
mod json;
mod memory;
mod requests;
mod tls;

use serde_json::{Value, json};

/// A limit of 1 MiB on both protocols.
const LIMIT: usize = 1 << 20;

fn limits() -> [(&'static str, Value); 2] {
    [
        ("receivers.otlp.protocols.grpc.max_recv_msg_size_mib", json!(1)),
        ("receivers.otlp.protocols.http.max_request_body_size", json!(LIMIT)),
    ]
}
