//! Exporters: spans go out.

mod answer;
mod backends;
mod batching;
pub mod debug;
pub mod file;
pub mod nop;
pub mod otlp_grpc;
pub mod otlp_http;
mod queue;
mod sending;
mod settings;

pub use batching::{Batching, BatchingSettings};
pub use queue::{Queued, abandoned};
pub use sending::{Drain, SendingSettings};
pub use settings::ClientSettings;

use http::{HeaderMap, HeaderValue};

use crate::component::{Authorizer, ConsumeError};
use crate::traces::{Message, Parcel};
use crate::transport::compress::Compression;

/// The innermost reason of an error.
fn root_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

/// Tempo's tenant.
const TENANT: http::HeaderName = http::HeaderName::from_static("x-scope-orgid");

const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-Vespid/", env!("CARGO_PKG_VERSION"));

/// No answer of a destination is read beyond this.
const ANSWER_LIMIT: usize = 4 << 20;

/// A request's headers: those that every request has, the authorizer's, and the tenant
/// that a plugin set, which counts before what the config says.
fn headers(every: &HeaderMap, auth: Option<&dyn Authorizer>, parcel: &Parcel) -> Result<HeaderMap, ConsumeError> {
    let mut headers = every.clone();
    if let Some(auth) = auth {
        auth.authorize(&mut headers, &parcel.context)?;
    }
    if let Some(tenant) = parcel.context.tenant.as_deref().and_then(|tenant| HeaderValue::from_str(tenant).ok()) {
        headers.insert(TENANT, tenant);
    }
    Ok(headers)
}

/// The compressed form, behind gRPC's prefix, in which an unchanged message came, if
/// it would be packed the same way again and the config asks for no level of its own.
fn as_it_came(compression: Compression, message: &Message) -> Option<bytes::Bytes> {
    compression.level.is_none().then(|| message.packed(compression.codec.http_name())).flatten()
}

/// A message larger than this is packed off the workers, which have other senders to serve.
const LARGE: usize = 1 << 20;

/// Packs a message behind `room` free bytes.
async fn pack(compression: Compression, message: bytes::Bytes, room: usize) -> Result<Vec<u8>, ConsumeError> {
    let size = message.len();
    let pack = move || {
        let mut out = vec![0; room];
        compression.compress(&message, &mut out).map(|()| out)
    };
    let packed = if size > LARGE {
        tokio::task::spawn_blocking(pack).await.map_err(std::io::Error::other).flatten()
    } else {
        pack()
    };
    packed.map_err(|error| ConsumeError::permanent(format!("the request cannot be compressed: {error}")))
}
