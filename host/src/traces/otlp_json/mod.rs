//! OTLP JSON to protobuf's wire format and back (OTLP 1.11, "JSON Protobuf Encoding").
//!
//! Requests come and leave as JSON at the collector's edge only; inside they are
//! wire bytes. Neither way makes a tree: the decoder writes each field as it
//! reads it, the encoder reads the wire as it writes.
//!
//! What is decoded is generous where clients differ: either case of keys, enum
//! names, numbers as text and back, `null` for whatever is absent, keys that
//! nobody knows. A key that occurs twice counts as a protobuf field that does:
//! the last text or number stands, lists follow each other, messages merge.
//! Half of a surrogate pair becomes U+FFFD and does not refuse the request:
//! JavaScript writes one where a limit cut a text within an emoji.

mod decode;
mod encode;
mod error;
mod number;
mod scan;
mod shape;
#[cfg(test)]
mod tests;

pub use decode::{decode_request, decode_value};
pub use encode::encode_request;
pub(super) use encode::encode_value;
pub use error::OtlpJsonError;
