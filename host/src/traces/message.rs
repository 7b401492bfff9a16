//! A request's bytes, with room for gRPC's prefix before them, so that the same
//! buffer goes into a receiver and out of an exporter without a copy.

use bytes::Bytes;

/// gRPC puts a flag byte and a big-endian length before each message.
pub const PREFIX: usize = 5;

/// An `ExportTraceServiceRequest` on the wire. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Message {
    framed: Bytes,
}

impl Message {
    /// Takes a buffer whose first `PREFIX` bytes are free.
    pub fn from_framed(mut buffer: Vec<u8>) -> Self {
        if buffer.len() < PREFIX {
            buffer.resize(PREFIX, 0);
        }
        write_prefix(&mut buffer);
        Self { framed: buffer.into() }
    }

    /// Takes bytes that start with the prefix of an uncompressed gRPC message of just their length.
    pub fn from_grpc(framed: Bytes) -> Option<Self> {
        let (prefix, message) = framed.split_first_chunk::<PREFIX>()?;
        let [flag, length @ ..] = *prefix;
        (flag == 0 && u32::from_be_bytes(length) as usize == message.len()).then_some(Self { framed })
    }

    /// Copies a message.
    pub fn copy_of(message: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(PREFIX + message.len());
        buffer.resize(PREFIX, 0);
        buffer.extend_from_slice(message);
        Self::from_framed(buffer)
    }

    /// Takes a buffer whose message starts at `start`, with at least `PREFIX` bytes before it.
    pub(super) fn from_backwards(mut buffer: Vec<u8>, start: usize) -> Self {
        let start = start.saturating_sub(PREFIX);
        write_prefix(buffer.get_mut(start..).unwrap_or_default());
        Self { framed: Bytes::from(buffer).slice(start..) }
    }

    /// The message alone.
    pub fn bytes(&self) -> Bytes {
        self.framed.slice(PREFIX.min(self.framed.len())..)
    }

    /// The message behind the prefix of an uncompressed gRPC message.
    pub fn framed(&self) -> Bytes {
        self.framed.clone()
    }

    pub fn len(&self) -> usize {
        self.framed.len().saturating_sub(PREFIX)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn write_prefix(buffer: &mut [u8]) {
    let length = buffer.len().saturating_sub(PREFIX) as u32;
    if let Some(prefix) = buffer.first_chunk_mut::<PREFIX>() {
        let [a, b, c, d] = length.to_be_bytes();
        *prefix = [0, a, b, c, d];
    }
}
