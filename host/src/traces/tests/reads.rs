//! Every read equals what prost decoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use proptest::prelude::*;
use serde_json::json;

use super::model::Model;
use super::{Case, choices, config};
use crate::traces::fuzz::{Choices, KEYS};
use crate::traces::{Index, Owner, Packed, Read, Spot, TextColumn};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_column_reads_as_prost_decodes(bytes in choices()) {
        let case = Case::new(&mut Choices::new(&bytes));
        let model = Model::new(case.decoded.clone());
        assert_reads(case.batch().index().unwrap(), &model);
    }
}

pub fn assert_reads(index: &Index, model: &Model) {
    spans(index, model);
    rows(index, model);
    for owner in Owner::ALL {
        let rows = model.rows(owner);
        assert_eq!(index.count(owner), rows.len(), "rows of {owner:?}");
        assert_eq!((0..rows.len()).filter_map(|row| index.entry(owner, row)).collect::<Vec<_>>(), rows);
        for key in KEYS.into_iter().chain(["overridden", "no such key"]) {
            one_key(index, model, owner, key, &rows);
        }
        texts(index, model, owner, &rows);
        spots(index, owner);
    }
}

/// A scan of the whole batch finds what a look into each text finds.
fn spots(index: &Index, owner: Owner) {
    let finder = |needle: &'static str| {
        move |bytes: &[u8], from: usize| {
            let at = from + memchr::memmem::find(bytes.get(from..)?, needle.as_bytes())?;
            Some(at..at + needle.len())
        }
    };
    let seen = |spot: &Spot, found_by| (spot.row, spot.entry, spot.key, spot.text, found_by);
    for needles in [&["@"][..], &["E"], &["@", "e", "SELECT 1"], &["", "a@b", "\0", "müß"]] {
        let finders: Vec<_> = needles.iter().map(|needle| finder(needle)).collect();
        // Where it gives up, the texts are looked at one by one.
        let Some(found) = index.find_texts(owner, &finders) else { continue };
        let each = index.all_texts(owner).filter_map(|spot| {
            let holds = |needle: &&str| index.text_at(&spot).contains(*needle);
            let bits = (0..).zip(needles).map(|(bit, needle)| u64::from(holds(needle)) << bit);
            let found_by = bits.fold(0, |all, bit| all | bit);
            (found_by != 0).then(|| seen(&spot, found_by))
        });
        let found: Vec<_> = found.iter().map(|spot| seen(spot, spot.found_by)).collect();
        assert_eq!(found, each.collect::<Vec<_>>(), "{needles:?} of {owner:?}");
    }
}

fn spans(index: &Index, model: &Model) {
    let spans: Vec<_> = model.rows(Owner::Span).into_iter().map(|entry| model.span(entry)).collect();
    assert_eq!(index.trace_ids(), spans.iter().flat_map(|span| span.trace_id.clone()).collect::<Vec<_>>());
    assert_eq!(index.span_ids(), spans.iter().flat_map(|span| span.span_id.clone()).collect::<Vec<_>>());
    let parents = spans.iter().flat_map(|span| match span.parent_span_id.is_empty() {
        true => vec![0; 8],
        false => span.parent_span_id.clone(),
    });
    assert_eq!(index.parent_span_ids(), parents.collect::<Vec<_>>());
    assert_eq!(unpack(&index.names()), spans.iter().map(|span| span.name.clone()).collect::<Vec<_>>());
    assert_eq!(index.start_times(), spans.iter().map(|span| span.start_time_unix_nano).collect::<Vec<_>>());
    let durations = spans.iter().map(|span| span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
    assert_eq!(index.durations(), durations.collect::<Vec<_>>());
    // A number that the enumeration does not have reads as its zero.
    let known = |value: i32, last: i32| if (0..=last).contains(&value) { value as u8 } else { 0 };
    assert_eq!(index.kinds(), spans.iter().map(|span| known(span.kind, 5)).collect::<Vec<_>>());
    let codes = spans.iter().map(|span| span.status.as_ref().map_or(0, |status| known(status.code, 2)));
    assert_eq!(index.status_codes(), codes.collect::<Vec<_>>());
}

fn rows(index: &Index, model: &Model) {
    let [spans, resources, scopes, events, links] = Owner::ALL.map(|owner| model.rows(owner));
    let row = |rows: &[usize], entry: usize| rows.iter().position(|&it| it == entry).unwrap() as u32;
    let resource = |&span: &usize| row(&resources, model.spans[span].0);
    assert_eq!(index.resource_rows(), spans.iter().map(resource).collect::<Vec<_>>());
    let scope = |&span: &usize| {
        let (resource, scope, _) = model.spans[span];
        row(&scopes, model.scopes.iter().position(|&it| it == (resource, scope)).unwrap())
    };
    assert_eq!(index.scope_rows(), spans.iter().map(scope).collect::<Vec<_>>());
    let event_rows = events.iter().map(|&event| row(&spans, model.events[event].0));
    assert_eq!(index.event_span_rows(), event_rows.collect::<Vec<_>>());
    let link_rows = links.iter().map(|&link| row(&spans, model.links[link].0));
    assert_eq!(index.link_span_rows(), link_rows.collect::<Vec<_>>());
    let names = events.iter().map(|&event| model.event(event).name.clone());
    assert_eq!(unpack(&index.event_names()), names.collect::<Vec<_>>());
}

/// The values under a key, with the row of each.
fn values<'a>(model: &'a Model, owner: Owner, key: &'a str, rows: &'a [usize]) -> Vec<(u32, Option<&'a Value>)> {
    let of_row = |(row, &entry): (usize, &usize)| {
        let attributes = model.attributes(owner, entry).iter().filter(move |it| it.key == key);
        attributes.map(move |it| (row as u32, member(it))).collect::<Vec<_>>()
    };
    rows.iter().enumerate().flat_map(of_row).collect()
}

fn member(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

fn one_key(index: &Index, model: &Model, owner: Owner, key: &str, rows: &[usize]) {
    let values = values(model, owner, key, rows);
    let mut types = vec![0; rows.len()];
    for &(row, value) in values.iter().rev() {
        types[row as usize] = match value {
            Some(Value::StringValue(_)) => 1,
            Some(Value::BoolValue(_)) => 2,
            Some(Value::IntValue(_)) => 3,
            Some(Value::DoubleValue(_)) => 4,
            Some(Value::BytesValue(_)) => 5,
            _ => 6,
        };
    }
    assert_eq!(index.attribute_types(owner, key), types, "{owner:?} `{key}`");
    let texts = values.iter().filter_map(|(row, value)| match value {
        Some(Value::StringValue(text)) => Some((*row, text.clone())),
        _ => None,
    });
    assert_eq!(column(&index.text_attribute(owner, key)), texts.collect::<Vec<_>>());
    let ints = values.iter().filter_map(|(row, value)| match value {
        Some(Value::IntValue(value)) => Some((*row, *value)),
        _ => None,
    });
    assert_eq!(index.int_attribute(owner, key), ints.unzip());
    let doubles = values.iter().filter_map(|(row, value)| match value {
        Some(Value::DoubleValue(value)) => Some((*row, value.to_bits())),
        _ => None,
    });
    let (found_rows, found) = index.double_attribute(owner, key);
    assert_eq!((found_rows, found.into_iter().map(f64::to_bits).collect::<Vec<_>>()), doubles.unzip());
    let booleans = values.iter().filter_map(|(row, value)| match value {
        Some(Value::BoolValue(value)) => Some((*row, u8::from(*value))),
        _ => None,
    });
    assert_eq!(index.boolean_attribute(owner, key), booleans.unzip());
    for row in 0..=rows.len() as u32 {
        let first = values.iter().find(|(it, _)| *it == row);
        let found = index.attribute(owner, row, key);
        assert_eq!(found.is_some(), first.is_some());
        if let (Some(found), Some((_, expected))) = (found, first) {
            assert_read(&found, *expected);
        }
    }
}

fn texts(index: &Index, model: &Model, owner: Owner, rows: &[usize]) {
    for part in [None, Some("@"), Some("e"), Some("müß"), Some("")] {
        let mut found: Vec<_> = match part {
            None => index.text_columns(owner),
            Some(part) => index.find_text(owner, part),
        }
        .iter()
        .flat_map(|it| column(it).into_iter().map(|(row, text)| (it.key.clone(), row, text)))
        .collect();
        let mut expected = vec![];
        for (row, &entry) in rows.iter().enumerate() {
            for attribute in model.attributes(owner, entry) {
                if let Some(Value::StringValue(text)) = member(attribute)
                    && text.contains(part.unwrap_or_default())
                {
                    expected.push((attribute.key.clone(), row as u32, text.clone()));
                }
            }
        }
        // Within one key, rows ascend and a row's own texts keep their order.
        found.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected);
    }
    for (row, &entry) in rows.iter().enumerate() {
        let mut found = index.attributes(owner, row as u32).unwrap();
        let mut expected: Vec<_> = model.attributes(owner, entry).iter().collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(found.len(), expected.len());
        for ((key, value), expected) in found.iter().zip(expected) {
            assert_eq!(*key, expected.key);
            assert_read(value, member(expected));
        }
    }
    assert_eq!(index.attributes(owner, rows.len() as u32), None);
}

fn unpack(packed: &Packed) -> Vec<String> {
    (0..packed.ends.len()).map(|at| packed.get(at).unwrap().to_owned()).collect()
}

fn column(column: &TextColumn) -> Vec<(u32, String)> {
    column.rows.iter().copied().zip(column.texts().map(str::to_owned)).collect()
}

fn assert_read(found: &Read, expected: Option<&Value>) {
    match (found, expected) {
        (Read::Text(found), Some(Value::StringValue(expected))) => assert_eq!(found, expected),
        (Read::Boolean(found), Some(Value::BoolValue(expected))) => assert_eq!(found, expected),
        (Read::Int(found), Some(Value::IntValue(expected))) => assert_eq!(found, expected),
        (Read::Double(found), Some(Value::DoubleValue(expected))) => assert_eq!(found.to_bits(), expected.to_bits()),
        (Read::Bytes(found), Some(Value::BytesValue(expected))) => assert_eq!(found, expected),
        (Read::Json(found), None | Some(Value::ArrayValue(_) | Value::KvlistValue(_))) => {
            assert_eq!(*found, render(expected).to_string());
        }
        _ => panic!("read {found:?}, expected {expected:?}"),
    }
}

fn render(value: Option<&Value>) -> serde_json::Value {
    let inner = |value: &AnyValue| render(value.value.as_ref());
    match value {
        None | Some(Value::StringValueStrindex(_)) => json!({}),
        Some(Value::StringValue(text)) => json!({ "stringValue": text }),
        Some(Value::BoolValue(value)) => json!({ "boolValue": value }),
        Some(Value::IntValue(value)) => json!({ "intValue": value.to_string() }),
        Some(Value::DoubleValue(value)) if value.is_nan() => json!({ "doubleValue": "NaN" }),
        Some(Value::DoubleValue(f64::INFINITY)) => json!({ "doubleValue": "Infinity" }),
        Some(Value::DoubleValue(f64::NEG_INFINITY)) => json!({ "doubleValue": "-Infinity" }),
        Some(Value::DoubleValue(value)) => json!({ "doubleValue": value }),
        Some(Value::BytesValue(bytes)) => json!({ "bytesValue": STANDARD.encode(bytes) }),
        Some(Value::ArrayValue(list)) => {
            json!({ "arrayValue": { "values": list.values.iter().map(inner).collect::<Vec<_>>() } })
        }
        Some(Value::KvlistValue(list)) => {
            let entry = |it: &KeyValue| match &it.value {
                None => json!({ "key": it.key }),
                Some(value) => json!({ "key": it.key, "value": inner(value) }),
            };
            json!({ "kvlistValue": { "values": list.values.iter().map(entry).collect::<Vec<_>>() } })
        }
    }
}
