//! Edits on the bytes equal the same edits on prost's structs, and lose nothing
//! that OTLP does not know.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::regular::regular;
use super::encoder::{Level, Style};
use super::model::Model;
use super::reads::assert_reads;
use super::unknowns::{Unknown, unknowns};
use super::{Case, assert_same, choices, config, decode};
use crate::traces::fuzz::{self, Choices};
use crate::traces::{Batch, Edit, NewValue, Owner, decode_value};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_batch_without_edits_keeps_its_very_bytes(bytes in choices()) {
        let case = Case::new(&mut Choices::new(&bytes));
        let mut batch = case.batch();
        batch.index().unwrap();
        batch.apply(vec![]).unwrap();
        let spans = batch.spans();
        let parcels = batch.finish();
        prop_assert_eq!(parcels.len(), 1);
        prop_assert_eq!(parcels[0].spans, spans);
        prop_assert_eq!(&parcels[0].message.bytes()[..], &case.wire[..]);
    }

    #[test]
    fn two_rounds_of_edits_equal_those_on_decoded_structs(bytes in choices()) {
        let mut choices = Choices::new(&bytes);
        let mut share = choices.share(4);
        let case = Case::new(&mut choices);
        two_rounds(&case, &mut share);
    }

    #[test]
    fn a_rewrite_changes_each_text_in_its_own_place(bytes in choices()) {
        let mut choices = Choices::new(&bytes);
        let mut share = choices.share(4);
        let case = Case::new(&mut choices);
        let mut batch = case.batch();
        let mut model = Model::new(case.decoded);
        let first = fuzz::edits(&mut share, batch.index().unwrap(), false);
        batch.apply(first.clone()).unwrap();
        model.apply(&first);
        let rewrite = |text: &str| (text.len() % 2 == 1).then(|| format!("{text}@{text}"));
        for owner in Owner::ALL {
            let index = batch.index().unwrap();
            let edit = index.rewrites(owner, index.all_texts(owner), |spot| Ok::<_, ()>(rewrite(index.text_at(spot))));
            let edit = edit.unwrap().0;
            batch.apply(vec![edit]).unwrap();
            model.rewrite_texts(owner, rewrite);
        }
        assert_reads(batch.index().unwrap(), &model);
        let parcels = batch.finish();
        if let [parcel] = parcels.as_slice() {
            let dropped = model.live.contains(&false);
            prop_assert_eq!(parcel.spans, model.rows(Owner::Span).len());
            if !dropped {
                assert_same(&decode(&parcel.message.bytes()), &model.parcel(true, |_| true));
            }
        }
    }

    #[test]
    fn text_edits_of_every_span_equal_those_on_decoded_structs(bytes in choices()) {
        let mut choices = Choices::new(&bytes);
        let case = Case::in_style(&mut choices, Style::default());
        let mut batch = case.batch();
        let mut model = Model::new(case.decoded);
        let entries: Vec<u32> = (0..model.spans.len() as u32).collect();
        let edits = fuzz::KEYS.map(|key| {
            let value = NewValue::Text(format!("new {key}"));
            Edit::Set { owner: Owner::Span, entries: entries.clone(), key: key.into(), value }
        });
        model.apply(&edits);
        batch.apply(edits.into()).unwrap();
        let parcels = batch.finish();
        if !entries.is_empty() {
            assert_same(&decode(&parcels[0].message.bytes()), &model.parcel(true, |_| true));
        }
    }
}

/// Edits as one plugin makes them, then reads and edits as the next one does.
pub fn two_rounds(case: &Case, choices: &mut Choices) {
    let mut batch = case.batch();
    let mut model = Model::new(case.decoded.clone());
    for _ in 0..2 {
        let edits = fuzz::edits(choices, batch.index().unwrap(), false);
        let dropped = batch.apply(edits.clone()).unwrap();
        let before = model.rows(Owner::Span).len();
        model.apply(&edits);
        let after = model.rows(Owner::Span).len();
        assert_eq!(dropped.iter().map(|it| it.spans.len()).sum::<usize>(), before - after);
        assert_eq!(batch.spans(), after);
        assert_reads(batch.index().unwrap(), &model);
    }
    let dirty = batch.indexed().unwrap().dirty;
    let spans = batch.spans();
    let parcels = batch.finish();
    if spans == 0 && dirty {
        assert!(parcels.is_empty());
        return;
    }
    assert_eq!((parcels.len(), parcels[0].spans), (1, spans));
    let bytes = parcels[0].message.bytes();
    assert_same(&decode(&bytes), &model.parcel(true, |_| true));
    assert_unknown_fields(&unknowns(&regular(&case.wire)), &unknowns(&regular(&bytes)), &model);
}

/// What was unknown is still there, in the same message, and nothing is new.
fn assert_unknown_fields(before: &HashMap<Unknown, usize>, after: &HashMap<Unknown, usize>, model: &Model) {
    let rows = Owner::ALL.map(|owner| model.rows(owner));
    let mut left = HashMap::new();
    for (unknown, count) in after {
        let owner = unknown.owner.map(|(owner, row)| (owner, rows[owner][row]));
        left.insert(Unknown { owner, ..unknown.clone() }, *count);
    }
    for (unknown, count) in &left {
        assert!(before.get(unknown).is_some_and(|had| had >= count), "{unknown:?} was not there before");
    }
    for (unknown, count) in before {
        let Some((owner, entry)) = unknown.owner else {
            assert_eq!(left.get(unknown), Some(count), "{unknown:?}");
            continue;
        };
        if !rows[owner].contains(&entry) {
            assert_eq!(left.get(unknown), None, "{unknown:?}");
            continue;
        }
        let touched = unknown.key.as_ref().and_then(|key| model.touched.get(&(owner, entry, key.clone())));
        let demanded = match touched {
            None => true,
            // A value that an edit replaced takes along what was inside it,
            // but not what stood beside it.
            Some(kept) => *kept && !unknown.nested && matches!(unknown.level, Level::KeyValue | Level::AnyValue),
        };
        if demanded {
            assert_eq!(left.get(unknown), Some(count), "{unknown:?} was lost");
        }
    }
}

fn one_span() -> Batch {
    let case = Case::in_style(&mut Choices::new(&[]), Style::default());
    assert_eq!(case.wire, b"");
    // A resource without a `resource`, a scope without a `scope`, a span with its two ids.
    let mut span = vec![0x0a, 16];
    span.extend([1; 16]);
    span.extend([0x12, 8]);
    span.extend([2; 8]);
    let mut wire = span;
    for tag in [0x12, 0x12, 0x0a] {
        wire.splice(0..0, [tag, wire.len() as u8]);
    }
    Case { decoded: decode(&wire), wire }.batch()
}

fn set(owner: Owner, value: NewValue) -> Edit {
    Edit::Set { owner, entries: vec![0], key: "k".into(), value }
}

fn remove(owner: Owner) -> Edit {
    Edit::Remove { owner, entries: vec![0], key: "k".into() }
}

#[test]
fn an_attribute_that_is_set_and_removed_again_leaves_no_empty_resource() {
    for owner in [Owner::Resource, Owner::Scope] {
        let mut batch = one_span();
        let before = batch.clone().finish()[0].message.bytes();
        batch.apply(vec![set(owner, NewValue::Int(-1))]).unwrap();
        batch.apply(vec![remove(owner)]).unwrap();
        assert_eq!(batch.finish()[0].message.bytes(), before);
    }
}

#[test]
fn a_scalar_that_is_set_as_json_reads_as_that_scalar() {
    for (text, kind) in [
        (r#"{"stringValue":"x"}"#, 1),
        (r#"{"boolValue":true}"#, 2),
        (r#"{"intValue":"-3"}"#, 3),
        (r#"{"doubleValue":0.5}"#, 4),
        (r#"{"bytesValue":"AA=="}"#, 5),
        (r#"{"arrayValue":{"values":[]}}"#, 6),
        ("{}", 6),
    ] {
        let mut batch = one_span();
        batch.apply(vec![set(Owner::Span, NewValue::Nested(decode_value(text).unwrap()))]).unwrap();
        assert_eq!(batch.index().unwrap().attribute_types(Owner::Span, "k"), [kind], "{text}");
    }
}

#[test]
fn texts_whose_ends_lie_beyond_their_data_do_no_harm() {
    for ends in [vec![u32::MAX], vec![5], vec![3, 1]] {
        let mut batch = one_span();
        let texts = crate::traces::Texts { data: b"abc".into(), ends, codes: vec![] };
        let entries = vec![0, 0];
        batch.apply(vec![Edit::SetTexts { owner: Owner::Span, entries, key: "k".into(), texts }]).unwrap();
        let message = &batch.finish()[0].message;
        fuzz::walk(&message.bytes());
        decode(&message.bytes());
    }
}
