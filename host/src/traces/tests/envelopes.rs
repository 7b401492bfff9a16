//! Tenants, concatenation and splitting: what happens to a request's envelopes.

use proptest::prelude::*;

use super::super::regular::regular;
use super::encoder::Style;
use super::model::Model;
use super::{Case, assert_same, choices, config, decode};
use crate::traces::fuzz::Choices;
use crate::traces::{Edit, Message, Owner, concatenate, split, walk, wire};

/// A span with all around it: the other fields of its request, resource and scope, byte for byte.
type Span = [Vec<u8>; 4];

/// Every span of a request that has each singular message once.
fn spans(request: &[u8]) -> Vec<Span> {
    let cut = |bytes: &[u8], number: u32| -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut around, mut inside) = (vec![], vec![]);
        for field in wire::fields(bytes, 0, bytes.len()) {
            match field.number == number {
                true => inside.push(bytes[field.value..field.end].to_vec()),
                false => around.extend_from_slice(&bytes[field.start..field.end]),
            }
        }
        (around, inside)
    };
    let mut spans = vec![];
    let (outside, resources) = cut(request, 1);
    for resource in resources {
        let (resource, scopes) = cut(&resource, 2);
        for scope in scopes {
            let (scope, inside) = cut(&scope, 2);
            spans.extend(inside.into_iter().map(|span| [outside.clone(), resource.clone(), scope.clone(), span]));
        }
    }
    spans
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_live_span_goes_to_its_own_tenant_and_only_there(bytes in choices()) {
        let mut choices = Choices::new(&bytes);
        let mut share = choices.share(4);
        let case = Case::new(&mut choices);
        let mut batch = case.batch();
        let mut model = Model::new(case.decoded.clone());
        let all = model.spans.len() as u32;
        let mut some = || (0..all).filter(|_| share.once_in(2)).collect::<Vec<u32>>();
        let edits = vec![
            Edit::SetTenant { entries: some(), tenant: "a".into() },
            Edit::SetTenant { entries: some(), tenant: "b".into() },
            Edit::Drop { entries: some(), reason: "chance".into() },
        ];
        model.apply(&edits);
        batch.apply(edits).unwrap();
        let live = model.rows(Owner::Span);
        let before = spans(&regular(&case.wire));
        let parcels = batch.finish();
        let mut seen = 0;
        for parcel in &parcels {
            let tenant = parcel.context.tenant.clone().unwrap_or_default();
            let expected: Vec<_> = live.iter().filter(|&&span| model.tenants[span] == tenant).collect();
            prop_assert_eq!(parcel.spans, expected.len());
            prop_assert!(parcel.spans > 0);
            let expected: Vec<_> = expected.into_iter().map(|&span| before[span].clone()).collect();
            prop_assert_eq!(spans(&regular(&parcel.message.bytes())), expected);
            let found = decode(&parcel.message.bytes());
            assert_same(&found, &model.parcel(parcels.len() == 1, |span| model.tenants[span] == tenant));
            seen += parcel.spans;
        }
        prop_assert_eq!(seen, live.len());
    }

    #[test]
    fn concatenation_is_what_protobuf_calls_a_merge(one in choices(), other in choices()) {
        let one = Case::new(&mut Choices::new(&one));
        let other = Case::new(&mut Choices::new(&other));
        let both = concatenate([&Message::copy_of(&one.wire), &Message::copy_of(&other.wire)]);
        let mut expected = one.decoded.clone();
        expected.resource_spans.extend(other.decoded.resource_spans.clone());
        assert_same(&decode(&both.bytes()), &expected);
        prop_assert_eq!(walk::validate(&both.bytes()).unwrap().spans, one.batch().spans() + other.batch().spans());
        prop_assert_eq!(both.framed().len(), both.len() + crate::traces::PREFIX);
    }

    #[test]
    fn splitting_loses_and_doubles_nothing_and_keeps_its_limits(bytes in choices()) {
        let mut choices = Choices::new(&bytes);
        let (max_spans, max_bytes) = (1 + choices.below(6), [usize::MAX, 0, 300, 700, 2000][choices.below(5)]);
        let case = Case::new(&mut choices);
        let message = Message::copy_of(&case.wire);
        let pieces = split(&message, max_spans, max_bytes).unwrap();
        let mut found = vec![];
        for piece in &pieces {
            prop_assert!(piece.spans <= max_spans && (piece.spans > 0 || case.batch().spans() == 0));
            prop_assert!(piece.message.len() <= max_bytes || piece.spans == 1);
            prop_assert_eq!(walk::validate(&piece.message.bytes()).unwrap().spans, piece.spans);
            found.extend(spans(&regular(&piece.message.bytes())));
        }
        prop_assert_eq!(found, spans(&regular(&case.wire)));
    }

    #[test]
    fn what_is_small_enough_is_not_cut_and_keeps_its_bytes(bytes in choices()) {
        let case = Case::new(&mut Choices::new(&bytes));
        let pieces = split(&Message::copy_of(&case.wire), 10_000, case.wire.len()).unwrap();
        if !Model::new(case.decoded).spans.is_empty() {
            prop_assert_eq!(pieces.len(), 1);
            prop_assert_eq!(&pieces[0].message.bytes()[..], &case.wire[..]);
        }
    }

    #[test]
    fn putting_pieces_together_changes_nothing_but_their_number(bytes in choices()) {
        let mut choices = Choices::new(&bytes);
        let style = Style { pieces: true, ..Style::any(&mut choices) };
        let case = Case::in_style(&mut choices, style);
        let whole = regular(&case.wire);
        assert_same(&decode(&whole), &case.decoded);
        prop_assert!(!walk::index(&whole.clone().into()).unwrap().index.irregular);
        let (once, twice) = (super::unknowns::unknowns(&whole), super::unknowns::unknowns(&regular(&whole)));
        prop_assert_eq!(&once, &twice);
        let contents = |found: &std::collections::HashMap<super::unknowns::Unknown, usize>| found.values().sum::<usize>();
        prop_assert_eq!(contents(&once), contents(&super::unknowns::unknowns(&case.wire)));
    }
}
