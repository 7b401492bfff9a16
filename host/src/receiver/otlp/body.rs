//! Requests' bodies: read within the limit, the sender's time and the process's
//! memory, then unpacked within the same.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tonic::Code;

use crate::traces::{Message, PREFIX};
use crate::transport::budget::Lease;
use crate::transport::compress::{Codec, DecompressError, Form};

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the request is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the request's body broke off: {0}")]
    Broken(hyper::Error),
    #[error("the sender paused for more than {0:?}")]
    Slow(Duration),
    #[error("the request did not come within {0:?}")]
    Late(Duration),
    #[error("the collector holds as many bytes of requests as its memory allows")]
    NoRoom,
    #[error(transparent)]
    Packed(DecompressError),
    #[error("the request cannot be unpacked: {0}")]
    Unpacking(tokio::task::JoinError),
}

impl BodyError {
    /// The status that OTLP has for it; HTTP's follows from it but for those that
    /// HTTP tells apart.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge(_) | Self::Packed(DecompressError::TooLarge(_)) => Code::ResourceExhausted,
            Self::Broken(_) | Self::Packed(DecompressError::Malformed(..)) => Code::InvalidArgument,
            Self::Slow(_) | Self::Late(_) => Code::DeadlineExceeded,
            Self::NoRoom | Self::Packed(DecompressError::NoRoom) => Code::Unavailable,
            Self::Unpacking(_) => Code::Internal,
        }
    }
}

/// Between two pieces of a body a sender may pause for so long.
const PAUSE: Duration = Duration::from_secs(30);

/// At most so much is set aside before it has come.
pub(super) const FIRST_PIECE: usize = 1 << 20;

/// Unpacking more than this keeps a worker from its other requests for too long.
const LARGE: usize = 512 << 10;

/// A body that is being read; what came counts against the lease.
pub(super) struct Body<'a> {
    pub incoming: &'a mut Incoming,
    pub lease: &'a mut Lease,
}

impl Body<'_> {
    /// The next piece.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = tokio::time::timeout(PAUSE, self.incoming.frame());
            match frame.await.map_err(|_| BodyError::Slow(PAUSE))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(BodyError::Broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return if self.lease.grow(data.len()) { Ok(Some(data)) } else { Err(BodyError::NoRoom) };
                    }
                }
            }
        }
    }
}

/// A sender that is refused has its answer, and may still be sending: so much of it is
/// read and thrown away, for so long, so that it comes to read the answer before the
/// connection breaks under its writes.
const LINGER: (u64, Duration) = (4 << 20, Duration::from_secs(2));

/// Reads what an answered request still brings, if that is little. HTTP/2 needs no such
/// thing.
pub(super) fn linger(mut incoming: Incoming) {
    let (most, time) = LINGER;
    if incoming.is_end_stream() || incoming.size_hint().lower() > most {
        return;
    }
    tokio::spawn(tokio::time::timeout(time, async move {
        let mut came = 0;
        while let Some(Ok(frame)) = incoming.frame().await {
            came += frame.data_ref().map_or(0, |data| data.len() as u64);
            if came > most {
                return;
            }
        }
    }));
}

/// Unpacks a message of at most `limit` bytes that came behind gRPC's prefix, or
/// behind room for it; what comes out counts against the lease beside what came.
pub(super) async fn unpack(codec: Codec, framed: Bytes, limit: usize, lease: &mut Lease) -> Result<Message, BodyError> {
    let packed = framed.slice(PREFIX.min(framed.len())..);
    let (buffer, form) = if packed.len() > LARGE {
        // The thread that unpacks asks for room by the same lease.
        let mut lent = lease.split();
        let work = move || {
            let out = unpack_here(codec, &packed, limit, &mut lent);
            (out, lent)
        };
        let (out, lent) = tokio::task::spawn_blocking(work).await.map_err(BodyError::Unpacking)?;
        lease.join(lent);
        out
    } else {
        unpack_here(codec, &packed, limit, lease)
    }
    .map_err(BodyError::Packed)?;
    let message = Message::from_framed(buffer);
    Ok(match form {
        Form::Common => message.came_packed(codec.http_name(), framed),
        Form::Peculiar => message,
    })
}

/// With room for gRPC's prefix, so that a gRPC exporter sends this very buffer on.
fn unpack_here(
    codec: Codec,
    packed: &[u8],
    limit: usize,
    lease: &mut Lease,
) -> Result<(Vec<u8>, Form), DecompressError> {
    let mut buffer = vec![0; PREFIX];
    let form = codec.decompress(packed, &mut buffer, limit, &mut |bytes| lease.grow(bytes))?;
    Ok((buffer, form))
}
