//! Tempo's answers, as a real one gave them: single process, versions 3.0.3 and 2.10.8.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::sink::{Received, Reply};
use super::spans::{Request, all};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Says how long to wait when it limits a rate.
    V3,
    /// Says nothing of that.
    V2,
}

/// What it is configured with, and what it counts.
#[derive(Debug, Clone)]
pub struct Tempo {
    pub version: Version,
    pub multi_tenant: bool,
    /// The limiter's bucket; a request over it can never pass.
    pub burst: usize,
    /// So many requests find the rate exceeded.
    pub rate_limited: usize,
    /// The largest gRPC message, and the largest HTTP body.
    pub largest: (usize, usize),
    /// What it waits for before the next request, in version 3.
    pub pause: Duration,
}

const GRPC_LIMIT: usize = 4 << 20;
const HTTP_LIMIT: usize = 20 << 20;

impl Tempo {
    pub fn new(version: Version) -> Self {
        Self {
            version,
            multi_tenant: false,
            burst: 30_000_000,
            rate_limited: 0,
            largest: (GRPC_LIMIT, HTTP_LIMIT),
            pause: Duration::from_secs(1),
        }
    }

    pub(super) fn answer(&mut self, is_grpc: bool, received: &Received) -> Reply {
        let size = received.message.len();
        if is_grpc && size > self.largest.0 {
            let message = format!("grpc: received message larger than max ({size} vs. {})", self.largest.0);
            return refused(8, 0, message);
        }
        if !is_grpc && size > self.largest.1 {
            return refused(3, 400, "http: request body too large".to_owned());
        }
        if self.multi_tenant {
            let tenant = received.header("x-scope-orgid").unwrap_or_default();
            if let Some((code, http, message)) = tenant_refusal(tenant) {
                return refused(code, http, message);
            }
        }
        let Ok(request) = Request::decode(received.message.as_slice()) else {
            return refused(13, 400, "grpc: error unmarshalling request: unexpected EOF".to_owned());
        };
        if let Some((code, message)) = all(&request).into_iter().find_map(id_refusal) {
            return refused(code, 400, message.to_owned());
        }
        let limits = format!("(local: 200 bytes/s, global: 0 bytes/s, burst: {} bytes)", self.burst);
        if size > self.burst {
            let message = format!(
                "RATE_LIMITED: batch size ({size} bytes) exceeds ingestion limit {limits} while adding {size} bytes \
                 for user rl."
            );
            return self.limited(message);
        }
        if self.rate_limited > 0 {
            self.rate_limited -= 1;
            let message =
                format!("RATE_LIMITED: ingestion rate limit {limits} exceeded while adding {size} bytes for user rl.");
            return self.limited(message);
        }
        // The partial success is there and empty: two bytes.
        Reply::Partial { rejected: 0, message: "" }
    }

    fn limited(&self, message: String) -> Reply {
        let retry = (self.version == Version::V3).then_some(self.pause);
        Reply::Status { grpc: 8, http: 429, message, retry }
    }
}

fn refused(grpc: i32, http: u16, message: String) -> Reply {
    Reply::Status { grpc, http, message, retry: None }
}

fn tenant_refusal(tenant: &str) -> Option<(i32, u16, String)> {
    let refused = |message: String| Some((3, 400, message));
    match tenant {
        "" => Some((14, 503, "no org id".to_owned())),
        _ if tenant.contains('|') => refused("multiple org IDs present".to_owned()),
        _ if tenant.contains('/') => refused(format!("tenant ID '{tenant}' contains unsupported character '/'")),
        _ if tenant.len() > 150 => refused("tenant ID is too long: max 150 characters".to_owned()),
        _ => None,
    }
}

fn id_refusal(span: &Span) -> Option<(i32, &'static str)> {
    let (trace, id) = (&span.trace_id, &span.span_id);
    if !matches!(trace.len(), 0 | 16) {
        return Some((13, "grpc: error unmarshalling request: unmarshal: invalid TraceID length"));
    }
    if !matches!(id.len(), 0 | 8) {
        return Some((13, "grpc: error unmarshalling request: unmarshal: invalid SpanID length"));
    }
    if trace.iter().all(|&byte| byte == 0) {
        return Some((3, "trace ids must be 128 bit, received 0 bits"));
    }
    id.iter().all(|&byte| byte == 0).then_some((3, "span ids must be 64 bit and not all zero, received 0 bits"))
}
