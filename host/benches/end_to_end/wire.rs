//! How requests come to the collector.

use anyhow::{Result, ensure};
use bytes::Bytes;
use vespid::traces::{Message, PREFIX, encode_request};
use vespid::transport::compress::{Codec, Compression};

use crate::batches::SPANS;
use crate::sink::SpanCounter;

/// What requests are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Grpc(Option<Codec>),
    Http,
    Json,
}

impl Wire {
    pub fn is_grpc(self) -> bool {
        matches!(self, Wire::Grpc(_))
    }
}

/// The requests' bodies as they come over this wire.
pub fn on_wire(framed: &[Bytes], wire: Wire) -> Result<Vec<Bytes>> {
    let body = |framed: &Bytes| -> Result<Bytes> {
        let message = framed.slice(PREFIX..);
        Ok(match wire {
            Wire::Grpc(None) => framed.clone(),
            Wire::Grpc(Some(codec)) => {
                let mut packed = vec![1, 0, 0, 0, 0];
                // What SDKs use: gzip's 6, zstd's 3.
                let level = Some(if codec == Codec::Zstd { 3 } else { 6 });
                Compression { codec, level }.compress(&message, &mut packed)?;
                let length = (packed.len() - PREFIX) as u32;
                packed[1..PREFIX].copy_from_slice(&length.to_be_bytes());
                packed.into()
            }
            Wire::Http => message,
            Wire::Json => encode_request(&Message::copy_of(&message))?.into(),
        })
    };
    for framed in framed {
        let mut counter = SpanCounter::of_grpc();
        framed.chunks(1_000).for_each(|piece| counter.feed(piece));
        ensure!(counter.finish() == Some(SPANS), "the load and the sink disagree on the number of spans");
    }
    framed.iter().map(body).collect()
}
