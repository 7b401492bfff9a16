//! A parcel as it stands on the disk: what it is, whose it is, then the request.
//!
//! Version 1, numbers little-endian: a byte 1, spans (u32), the context as JSON behind
//! its length (u32), the request to the end.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::telemetry::Held;
use crate::traces::{Context, Message, PREFIX, Parcel};

const VERSION: u8 = 1;
const HEAD: usize = 9;

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

/// The pieces of a record; the request's bytes are shared and not copied.
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
    head.put_slice(&whose);
    vec![head.freeze(), parcel.message.bytes()]
}

/// The parcel again, in nobody's account; `None` where the record is none of this format.
pub(super) fn decode(record: &Bytes) -> Option<Parcel> {
    let (head, _) = record.split_first_chunk::<HEAD>()?;
    let [version, a, b, c, d, length @ ..] = *head;
    if version != VERSION {
        return None;
    }
    let spans = u32::from_le_bytes([a, b, c, d]) as usize;
    let end = HEAD.checked_add(u32::from_le_bytes(length) as usize)?;
    let whose: Whose<'_> = serde_json::from_slice(record.get(HEAD..end)?).ok()?;
    let context = Context {
        receiver: whose.receiver.into(),
        transport: if whose.transport == "http" { "http" } else { "grpc" },
        tenant: whose.tenant,
        client: whose.client,
        metadata: whose.metadata,
        auth: whose.auth,
    };
    let mut buffer = Vec::with_capacity(PREFIX + record.len() - end);
    buffer.resize(PREFIX, 0);
    buffer.extend_from_slice(record.get(end..)?);
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
