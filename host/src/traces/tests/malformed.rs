//! Bytes that are no request, and requests with spans that Tempo would refuse.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message as _;

use super::super::regular::regular;
use super::encoder::Style;
use super::unknowns::unknowns;
use super::{Case, assert_same, choices, config, decode, generator};
use crate::traces::fuzz::{self, Choices};
use crate::traces::{Batch, Fault, Message, Owner, VALUE_DEPTH, walk, wire};

/// Cuts, flips, inserts and moves bytes.
fn mutate(bytes: &mut Vec<u8>, choices: &mut Choices) {
    for _ in 0..=choices.below(4) {
        let at = choices.below(bytes.len().max(1));
        match choices.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << choices.below(8)),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = choices.byte()),
            3 => bytes.insert(at.min(bytes.len()), choices.byte()),
            4 if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => {
                let piece: Vec<u8> = bytes.iter().copied().skip(at).take(choices.below(40)).collect();
                let to = choices.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases * 2, ..config() })]

    #[test]
    fn mutated_requests_never_panic_and_prost_accepts_what_we_accept(bytes in choices()) {
        let mut choices = Choices::new(&bytes);
        let mut share = choices.share(4);
        let mut edits = choices.share(8).repeated(1);
        let mut bytes = Case::new(&mut choices).wire;
        mutate(&mut bytes, &mut share);
        fuzz::walk(&bytes);
        if walk::validate(&bytes.clone().into()).is_ok() {
            // The numbers that OTLP keeps for profiles are unknown fields to us,
            // of whatever type; prost knows the type that profiles give them.
            prop_assert!(ExportTraceServiceRequest::decode(&bytes[..]).is_ok() || has_profile_fields(&bytes));
        }
        let mut input = (edits.len() as u16).to_le_bytes().to_vec();
        input.append(&mut edits);
        input.append(&mut bytes);
        fuzz::splice(&input);
    }

    #[test]
    fn bytes_at_random_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz::walk(&bytes);
        fuzz::splice(&bytes);
    }
}

/// Whether a field `key_strindex` or `string_value_strindex` stands in an attribute.
fn has_profile_fields(request: &[u8]) -> bool {
    let mark = |bytes: &[u8]| wire::fields(bytes, 0, bytes.len()).any(|field| matches!(field.number, 3 | 8));
    unknowns(request).keys().any(|unknown| unknown.key.is_some() && mark(&unknown.bytes))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn spans_with_invalid_ids_are_taken_out_and_the_others_keep_all(bytes in choices()) {
        let mut choices = Choices::new(&bytes);
        let mut share = choices.share(4);
        // Repeated fields would give a span a second, valid id.
        let style = Style { repeated: false, zeros: false, ..Style::any(&mut choices) };
        let encoder = choices.share(4).repeated(8);
        let mut request = generator::request(&mut choices);
        let mut expected = request.clone();
        let mut invalid = 0;
        for (resource, kept) in request.resource_spans.iter_mut().zip(&mut expected.resource_spans) {
            for (scope, kept) in resource.scope_spans.iter_mut().zip(&mut kept.scope_spans) {
                let had = scope.spans.len();
                kept.spans.clear();
                for span in &mut scope.spans {
                    match share.below(14) {
                        1 => span.trace_id = vec![],
                        2 => span.trace_id = vec![0; 16],
                        3 => span.trace_id.push(1),
                        4 => span.span_id = vec![0; 8],
                        5 => span.span_id.truncate(7),
                        6 => span.parent_span_id = vec![1; 3],
                        7 if !span.links.is_empty() => span.links[0].trace_id = vec![1; 15],
                        8 if !span.links.is_empty() => span.links[0].span_id = vec![0; 16],
                        _ => {
                            kept.spans.push(span.clone());
                            continue;
                        }
                    }
                    invalid += 1;
                }
                // An envelope goes with the last of its spans, and stays where it had none.
                kept.dropped_envelope(had);
            }
            let had = resource.scope_spans.iter().any(|scope| !scope.spans.is_empty());
            kept.scope_spans.retain(|scope| scope.schema_url != DROPPED);
            if had && kept.scope_spans.iter().all(|scope| scope.spans.is_empty()) {
                kept.schema_url = DROPPED.into();
            }
        }
        expected.resource_spans.retain(|resource| resource.schema_url != DROPPED);
        let wire = super::encoder::encode(&request.encode_to_vec(), &mut Choices::new(&encoder), Style { shuffled: false, descending: false, ..style });
        for indexed in [false, true] {
            let (batch, found) = Batch::receive(Message::copy_of(&wire), Arc::default(), indexed).unwrap();
            prop_assert_eq!(found.len(), invalid);
            let spans = batch.spans();
            let parcels = batch.finish();
            prop_assert_eq!(parcels.iter().map(|parcel| parcel.spans).sum::<usize>(), spans);
            match parcels.first() {
                None => prop_assert_eq!(spans, 0),
                Some(_) if invalid == 0 => prop_assert_eq!(&parcels[0].message.bytes()[..], &wire[..]),
                Some(parcel) => {
                    assert_same(&decode(&parcel.message.bytes()), &expected);
                    let (before, after) = (unknowns(&regular(&wire)), unknowns(&parcel.message.bytes()));
                    prop_assert!(after.len() <= before.len());
                    prop_assert_eq!(walk::validate(&parcel.message.bytes()).unwrap().invalid, 0);
                }
            }
        }
    }
}

const DROPPED: &str = "this envelope lost its last span";

trait Envelope {
    fn dropped_envelope(&mut self, had: usize);
}

impl Envelope for opentelemetry_proto::tonic::trace::v1::ScopeSpans {
    fn dropped_envelope(&mut self, had: usize) {
        if had > 0 && self.spans.is_empty() {
            self.schema_url = DROPPED.into();
        }
    }
}

/// A request whose span has one attribute of the given value.
fn with_value(value: &[u8]) -> Vec<u8> {
    let mut content = vec![];
    wire::push_field(&mut content, 2, value);
    for number in [9, 2, 2, 1] {
        let mut outer = vec![];
        wire::push_field(&mut outer, number, &content);
        content = outer;
    }
    content
}

fn nested(depth: u32, member: u32) -> Vec<u8> {
    let mut content = vec![];
    for _ in 0..depth {
        let mut list = vec![];
        if member == 6 {
            let mut entry = vec![];
            wire::push_field(&mut entry, 2, &content);
            content = entry;
        }
        wire::push_field(&mut list, 1, &content);
        content = vec![];
        wire::push_field(&mut content, member, &list);
    }
    content
}

/// An empty value, behind which the next byte looks like the start of a text.
fn empty_value_before_attribute() -> Vec<u8> {
    let mut resource = vec![];
    for key in ["a", "b"] {
        let mut attribute = vec![];
        wire::push_field(&mut attribute, 1, key.as_bytes());
        wire::push_field(&mut attribute, 2, &[]);
        wire::push_field(&mut resource, 1, &attribute);
    }
    let mut resource_spans = vec![];
    wire::push_field(&mut resource_spans, 1, &resource);
    let mut request = vec![];
    wire::push_field(&mut request, 1, &resource_spans);
    request
}

#[test]
fn an_empty_value_does_not_read_on_into_the_next_attribute() {
    let mut batch = Batch::receive(Message::copy_of(&empty_value_before_attribute()), Arc::default(), true).unwrap().0;
    let index = batch.index().unwrap();
    assert_eq!(index.attribute_types(Owner::Resource, "a"), [6]);
    assert_eq!(index.attribute_types(Owner::Resource, "b"), [6]);
}

#[test]
fn values_may_be_nested_to_the_limit_and_no_deeper() {
    for member in [5, 6] {
        let fits = with_value(&nested(VALUE_DEPTH - 1, member));
        fuzz::walk(&fits);
        let mut batch = Batch::receive(Message::copy_of(&fits), Arc::default(), false).unwrap().0;
        assert_eq!(batch.spans(), 0, "the span has no ids");
        assert_eq!(batch.index().unwrap().count(Owner::Span), 0);
        let deep = walk::validate(&with_value(&nested(VALUE_DEPTH, member)).into()).err().unwrap();
        assert_eq!(deep.fault, Fault::Nesting(VALUE_DEPTH));
    }
}

#[test]
fn each_kind_of_malformed_bytes_is_refused_with_its_own_fault() {
    let fault = |bytes: &[u8]| walk::index(&bytes.to_vec().into()).err().unwrap().fault;
    assert_eq!(fault(&[0x0a, 5]), Fault::Truncated);
    assert_eq!(fault(&[0x08, 1]), Fault::WireType("resource_spans"));
    assert_eq!(fault(&[0x02, 0]), Fault::Tag);
    assert_eq!(fault(&[0x0e]), Fault::Tag);
    assert_eq!(fault(&[0x0c]), Fault::WireType("resource_spans"));
    assert_eq!(fault(&[0xa4, 0x06]), Fault::Group);
    assert_eq!(fault(&[0xff; 12]), Fault::Varint);
    assert_eq!(fault(&with_value(&[0x0a, 1, 0xff])), Fault::Utf8("string_value"));
    assert_eq!(fault(&with_value(&[0x18])), Fault::Truncated);
    assert_eq!(fault(&with_value(&[0x21, 0])), Fault::Truncated);
}

#[test]
fn a_number_that_runs_over_the_end_of_its_message_is_refused() {
    // Each message ends inside the last field, whose rest the next one has.
    for last in [vec![0x18, 0x80], vec![0x80], vec![0x25, 0, 0, 0], vec![0x3b, 0x08]] {
        let mut bytes = with_value(&last);
        bytes.extend([0x01; 16]);
        assert!(walk::validate(&bytes.clone().into()).is_err());
        fuzz::walk(&bytes);
    }
}

#[test]
fn groups_are_refused_beyond_a_depth_and_not_recursed_into() {
    let deep = [0xa3, 0x06].repeat(100_000);
    assert_eq!(walk::validate(&deep.into()).err().unwrap().fault, Fault::Group);
}
