//! A parcel as it stands on the disk: what it is, whose it is, then the request.
//!
//! Version 1, numbers little-endian: a byte 1, spans (u32), the length of the context
//! (u32) and of the request (u32), the context as JSON, the request as an lz4 block or,
//! where that would be no smaller, as it is. A disk is slower than lz4.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::telemetry::Held;
use crate::traces::{Context, MESSAGE_LIMIT, Message, PREFIX, Parcel};

const VERSION: u8 = 1;
/// lz4 spends a byte on 255 at least.
const LARGEST_RATIO: usize = 256;
const HEAD: usize = 13;

/// What travels with a request. Nothing in it is as large as the request is.
#[derive(Serialize, Deserialize)]
struct Whose<'a> {
    #[serde(borrow)]
    receiver: std::borrow::Cow<'a, str>,
    transport: std::borrow::Cow<'a, str>,
    tenant: Option<String>,
    client: Option<SocketAddr>,
    metadata: Vec<(String, String)>,
    auth: Vec<(String, String)>,
}

/// The pieces of a record.
pub(super) fn encode(parcel: &Parcel) -> Vec<Bytes> {
    let context = &parcel.context;
    let whose = Whose {
        receiver: (&*context.receiver).into(),
        transport: context.transport.into(),
        tenant: context.tenant.clone(),
        client: context.client,
        metadata: context.metadata.clone(),
        auth: context.auth.clone(),
    };
    // Texts in lists: it cannot fail.
    let whose = serde_json::to_vec(&whose).unwrap_or_default();
    let mut head = BytesMut::with_capacity(HEAD + whose.len());
    head.put_u8(VERSION);
    head.put_u32_le(u32::try_from(parcel.spans).unwrap_or(u32::MAX));
    head.put_u32_le(u32::try_from(whose.len()).unwrap_or(u32::MAX));
    let message = parcel.message.bytes();
    head.put_u32_le(u32::try_from(message.len()).unwrap_or(u32::MAX));
    head.put_slice(&whose);
    let packed = lz4_flex::block::compress(&message);
    let request = if packed.len() < message.len() { packed.into() } else { message };
    vec![head.freeze(), request]
}

/// The parcel again, in nobody's account; `None` where the record is none of this format.
pub(super) fn decode(record: &Bytes) -> Option<Parcel> {
    let (head, _) = record.split_first_chunk::<HEAD>()?;
    if head.first() != Some(&VERSION) {
        return None;
    }
    let number = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?) as usize);
    let (spans, end, length) = (number(1)?, HEAD.checked_add(number(5)?)?, number(9)?);
    let whose: Whose<'_> = serde_json::from_slice(record.get(HEAD..end)?).ok()?;
    let context = Context {
        receiver: whose.receiver.into(),
        transport: if whose.transport == "http" { "http" } else { "grpc" },
        tenant: whose.tenant,
        client: whose.client,
        metadata: whose.metadata,
        auth: whose.auth,
    };
    let stored = record.get(end..)?;
    // A length that lz4 cannot have made is not set aside for.
    if length > MESSAGE_LIMIT || length / LARGEST_RATIO > stored.len() {
        return None;
    }
    let mut buffer = vec![0; PREFIX + length];
    let request = buffer.get_mut(PREFIX..)?;
    if stored.len() == length {
        request.copy_from_slice(stored);
    } else if lz4_flex::block::decompress_into(stored, request).ok()? != length {
        return None;
    }
    let (message, held) = (Message::from_framed(buffer), Held::default());
    Some(Parcel { message, spans, context: Arc::new(context), held })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parcel() -> Parcel {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let context = Context {
            receiver: "otlp/front".into(),
            transport: "http",
            tenant: Some("blue \"team\"".to_owned()),
            client: Some(([192, 0, 2, 1], 4242).into()),
            metadata: vec![pair("x-scope-orgid", "a"), pair("x-scope-orgid", "b")],
            auth: vec![pair("subject", "änn")],
        };
        let (message, held) = (Message::copy_of(b"the request"), Held::default());
        Parcel { message, spans: 3, context: Arc::new(context), held }
    }

    fn whole(parcel: &Parcel) -> Vec<u8> {
        encode(parcel).concat()
    }

    #[test]
    fn a_parcel_comes_back_with_all_that_travels_with_it() {
        let found = decode(&whole(&parcel()).into()).unwrap();
        assert_eq!((found.spans, &found.context), (3, &parcel().context));
        assert_eq!(found.message.framed(), parcel().message.framed());
        let text = "the same again and ".repeat(1000);
        let large = Parcel { message: Message::copy_of(text.as_bytes()), ..parcel() };
        assert!(whole(&large).len() < text.len() / 10);
        assert_eq!(decode(&whole(&large).into()).unwrap().message.bytes(), text.as_bytes());
        let grpc = Parcel { context: Arc::new(Context { transport: "grpc", ..Context::default() }), ..parcel() };
        assert_eq!(decode(&whole(&grpc).into()).unwrap().context, grpc.context);
    }

    proptest! {
        #[test]
        fn other_bytes_are_no_parcel_and_no_panic(
            at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()
        ) {
            let mut record = whole(&parcel());
            let place = at.index(record.len());
            record[place] = to;
            record.truncate(cut.index(record.len()) + 1);
            decode(&record.into());
        }
    }
}
