//! Properties of the traces module, with prost's decoder as the oracle.
//! `PROPTEST_CASES` sets how many requests each property sees.

mod edits;
mod encoder;
mod envelopes;
mod generator;
mod malformed;
mod model;
mod payloads;
mod reads;
mod unknowns;

use std::collections::HashSet;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message as _;

use super::fuzz::Choices;
use super::{Batch, Message, Owner, walk};
use encoder::Style;

/// A failure prints the choices that lead to it; what it showed becomes a test of its own.
pub(super) fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(1000), failure_persistence: None, ..ProptestConfig::default() }
}

/// What a case is made from.
pub(super) fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..300), proptest::collection::vec(any::<u8>(), 300..2500)]
}

/// A request on the wire, and what prost reads in it.
pub(super) struct Case {
    pub wire: Vec<u8>,
    pub decoded: ExportTraceServiceRequest,
}

impl Case {
    pub fn new(choices: &mut Choices) -> Self {
        let style = Style::any(choices);
        Self::in_style(choices, style)
    }

    fn in_style(choices: &mut Choices, style: Style) -> Self {
        // The encoder gets its own share, or the request would leave it none.
        let share = choices.share(4).repeated(8);
        let request = generator::request(choices);
        let wire = encoder::encode(&request.encode_to_vec(), &mut Choices::new(&share), style);
        let decoded = decode(&wire);
        Self { wire, decoded }
    }

    fn batch(&self) -> Batch {
        let (batch, invalid) = Batch::receive(Message::copy_of(&self.wire), Arc::default(), true).unwrap();
        assert!(invalid.is_empty());
        batch
    }
}

pub(super) fn decode(wire: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(wire).unwrap()
}

/// Bytes that look like chance and are the same every time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn the_generator_makes_all_that_the_properties_are_about() {
    let (mut levels, mut spans, mut irregular, mut duplicates) = (HashSet::new(), 0, 0, 0);
    let mut kinds = HashSet::new();
    for seed in 0..400 {
        let case = Case::new(&mut Choices::new(&noise(seed, 1500)));
        levels.extend(unknowns::unknowns(&case.wire).into_keys().map(|unknown| unknown.level));
        let index = walk::index(&case.wire.clone().into()).unwrap().index;
        spans += index.spans.len();
        irregular += usize::from(index.irregular);
        duplicates += index.spans.iter().filter(|span| span.holder.duplicates).count();
        kinds.extend(Owner::ALL.iter().flat_map(|&owner| {
            let attributes = index.attributes[owner as usize].iter();
            attributes.map(move |it| (owner as u8, it.value.kind as u8, it.plain))
        }));
    }
    // 14 kinds of message; five owners, seven kinds of value, with and without unknown fields.
    assert_eq!((levels.len(), kinds.len()), (14, 5 * 7 * 2));
    assert!(spans > 1000 && irregular > 50 && duplicates > 50, "{spans} {irregular} {duplicates}");
}

/// Two requests are the same where prost writes them the same, which holds for
/// a NaN as well; the order of attributes means nothing.
#[track_caller]
fn assert_same(found: &ExportTraceServiceRequest, expected: &ExportTraceServiceRequest) {
    let (found, expected) = (model::sorted(found.clone()), model::sorted(expected.clone()));
    if found.encode_to_vec() != expected.encode_to_vec() {
        panic!("found {found:#?}\nexpected {expected:#?}");
    }
}
