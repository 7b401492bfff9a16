//! A request's bytes, with room for gRPC's prefix before them, so that the same
//! buffer goes into a receiver and out of an exporter without a copy.

use bytes::Bytes;

/// gRPC puts a flag byte and a big-endian length before each message.
pub const PREFIX: usize = 5;

/// An `ExportTraceServiceRequest` on the wire. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Message {
    framed: Bytes,
    packed: Option<Packed>,
}

/// The compressed form in which the very bytes of a message came.
#[derive(Debug, Clone)]
struct Packed {
    encoding: &'static str,
    framed: Bytes,
}

impl Message {
    /// Takes a buffer whose first `PREFIX` bytes are free.
    pub fn from_framed(mut buffer: Vec<u8>) -> Self {
        if buffer.len() < PREFIX {
            buffer.resize(PREFIX, 0);
        }
        write_prefix(false, &mut buffer);
        Self { framed: buffer.into(), packed: None }
    }

    /// Takes bytes that start with the prefix of an uncompressed gRPC message of just their length.
    pub fn from_grpc(framed: Bytes) -> Option<Self> {
        let (prefix, message) = framed.split_first_chunk::<PREFIX>()?;
        let [flag, length @ ..] = *prefix;
        (flag == 0 && u32::from_be_bytes(length) as usize == message.len()).then_some(Self { framed, packed: None })
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
        write_prefix(false, buffer.get_mut(start..).unwrap_or_default());
        Self { framed: Bytes::from(buffer).slice(start..), packed: None }
    }

    /// Keeps the compressed form that the message came in, behind gRPC's prefix of
    /// a compressed message. It is what an exporter sends on if nobody has changed
    /// the message: packing costs several times as much as all else.
    pub fn came_packed(mut self, encoding: &'static str, framed: Bytes) -> Self {
        self.packed = Some(Packed { encoding, framed });
        self
    }

    /// The compressed form, prefix included, if the message came in this one.
    pub fn packed(&self, encoding: &str) -> Option<Bytes> {
        let packed = self.packed.as_ref().filter(|packed| packed.encoding == encoding)?;
        Some(packed.framed.clone())
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

/// Writes gRPC's prefix into the first bytes of a buffer that has room for it.
pub fn write_prefix(is_packed: bool, buffer: &mut [u8]) {
    // Messages are limited to 2 GiB (`MESSAGE_LIMIT`).
    let length = buffer.len().saturating_sub(PREFIX) as u32;
    if let Some(prefix) = buffer.first_chunk_mut::<PREFIX>() {
        let [a, b, c, d] = length.to_be_bytes();
        *prefix = [u8::from(is_packed), a, b, c, d];
    }
}
