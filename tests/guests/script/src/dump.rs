//! Everything that can be read, as one JSON object:
//!
//! - `span_count`, `trace_ids`, `span_ids`, `parent_span_ids` (hex, one a span),
//!   `start_times`, `durations`, `kinds`, `status_codes`, `names`,
//!   `names_packed`, `resource_rows`, `scope_rows`, `event_span_rows`,
//!   `event_names`, `link_span_rows`, `metadata` (by key);
//! - `owners`: by owner `rows` (every row's attributes, `{"key", "value"}`, from
//!   `attributes`), `keys` (by key what `attribute-types`, the five columns and
//!   `attribute` say), `text_columns`, `text_columns_packed`, `found` and `matched`;
//! - `replaced`: the spans' names after `replace-in-texts` with `****`;
//! - `random_differs`, `now`: what the host lends.
//!
//! Columns are lists of `[row, value]`. Values are `{"text": …}`, `{"int": …}` …

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::vespid::plugin::types::{Owner, Packed, PackedColumn, TextColumn, Value};
use crate::vespid::plugin::{batch, host, patterns};

const OWNERS: [(&str, Owner); 5] = [
    ("span", Owner::Span),
    ("resource", Owner::Resource),
    ("scope", Owner::Scope),
    ("event", Owner::Event),
    ("link", Owner::Link),
];

pub fn everything(metadata: &[String], find: &str, patterns: &[u32]) -> Json {
    let names = batch::names_packed();
    let metadata: Map<String, Json> = metadata.iter().map(|key| (key.clone(), json!(batch::metadata(key)))).collect();
    let owners: Map<String, Json> =
        OWNERS.into_iter().map(|(name, of)| (name.to_owned(), owner(of, find, patterns))).collect();
    json!({
        "span_count": batch::span_count(),
        "trace_ids": hex(&batch::trace_ids(), 16),
        "span_ids": hex(&batch::span_ids(), 8),
        "parent_span_ids": hex(&batch::parent_span_ids(), 8),
        "start_times": batch::start_times(),
        "durations": batch::durations(),
        "kinds": batch::kinds(),
        "status_codes": batch::status_codes(),
        "names": batch::names(),
        "names_packed": texts(&names),
        "resource_rows": batch::resource_rows(),
        "scope_rows": batch::scope_rows(),
        "event_span_rows": batch::event_span_rows(),
        "event_names": batch::event_names(),
        "link_span_rows": batch::link_span_rows(),
        "metadata": metadata,
        "owners": owners,
        "replaced": texts(&patterns::replace_in_texts(patterns, &names, "****")),
        "random_differs": (0..8).map(|_| host::random()).collect::<BTreeSet<_>>().len() > 1,
        "now": host::now(),
    })
}

/// What the functions over given texts say: `matched` of all patterns, and for
/// each of them `groups` (names), `found` (`[text, start, end]`) and `captured`
/// (`[text, offsets]`); `replaced` of all with `****`.
pub fn searched(numbers: &[u32], given: &Packed) -> Json {
    let each = |&number: &u32| {
        let captures = patterns::capture_in_texts(number, given);
        let names = patterns::group_names(number);
        let offsets = captures.offsets.chunks(names.len() * 2);
        json!({
            "groups": names,
            "found": patterns::find_in_texts(number, given).iter()
                .map(|it| json!([it.text, it.start, it.end])).collect::<Vec<_>>(),
            "captured": captures.texts.iter().zip(offsets).map(|(text, offsets)| json!([text, offsets])).collect::<Vec<_>>(),
        })
    };
    json!({
        "matched": patterns::match_texts(numbers, given),
        "each": numbers.iter().map(each).collect::<Vec<_>>(),
        "replaced": texts(&patterns::replace_in_texts(numbers, given, "****")),
    })
}

fn owner(of: Owner, find: &str, patterns: &[u32]) -> Json {
    let count = batch::attribute_types(of, "").len() as u32;
    let rows: Vec<_> = (0..count).map(|row| batch::attributes(of, row)).collect();
    let keys: BTreeSet<&str> = rows.iter().flatten().map(|pair| pair.key.as_str()).collect();
    let keys: Map<String, Json> = keys.into_iter().map(|found| (found.to_owned(), key(of, count, found))).collect();
    let rows: Vec<Vec<Json>> = rows
        .iter()
        .map(|row| {
            let pairs = row.iter();
            pairs.map(|pair| json!({"key": pair.key, "value": value(&pair.value)})).collect()
        })
        .collect();
    json!({
        "rows": rows,
        "duplicate_rows": batch::duplicate_rows(of),
        "keys": keys,
        "text_columns": by_key(batch::text_columns(of), text_column),
        "text_columns_packed": by_key(batch::text_columns_packed(of), packed_column),
        "found": by_key(batch::find_text(of, find), text_column),
        "matched": by_key(patterns::find_matches(of, patterns), packed_column),
    })
}

fn key(of: Owner, count: u32, key: &str) -> Json {
    let ints = batch::int_attribute(of, key);
    let doubles = batch::double_attribute(of, key);
    let booleans = batch::boolean_attribute(of, key);
    let single: Vec<Json> =
        (0..count).map(|row| batch::attribute(of, row, key).as_ref().map_or(Json::Null, value)).collect();
    json!({
        "types": batch::attribute_types(of, key),
        "text": text_column(batch::text_attribute(of, key)).1,
        "text_packed": packed_column(batch::text_attribute_packed(of, key)).1,
        "int": pairs(&ints.rows, &ints.values),
        "double": pairs(&doubles.rows, &doubles.values),
        "boolean": pairs(&booleans.rows, &booleans.values),
        "attribute": single,
    })
}

/// Keys are told with their columns as a list, since a host that answered with
/// one key twice would be at fault.
fn by_key<C>(columns: Vec<C>, show: impl Fn(C) -> (String, Json)) -> Vec<Json> {
    let columns = columns.into_iter().map(show);
    columns.map(|(key, entries)| json!({"key": key, "entries": entries})).collect()
}

fn text_column(column: TextColumn) -> (String, Json) {
    let entries = pairs(&column.rows, &column.values);
    (column.key, entries)
}

fn packed_column(column: PackedColumn) -> (String, Json) {
    let dictionary = texts(&column.dictionary);
    let values: Vec<&str> = column.codes.iter().map(|&code| dictionary[code as usize].as_str()).collect();
    (column.key, pairs(&column.rows, &values))
}

fn pairs<T: serde::Serialize>(rows: &[u32], values: &[T]) -> Json {
    assert_eq!(rows.len(), values.len(), "a column has a value a row");
    rows.iter().zip(values).map(|pair| json!(pair)).collect()
}

fn texts(packed: &Packed) -> Vec<String> {
    let mut start = 0;
    let texts = packed.ends.iter().map(|&end| {
        let text = &packed.data[start..end as usize];
        start = end as usize;
        str::from_utf8(text).expect("packed text is UTF-8").to_owned()
    });
    texts.collect()
}

fn value(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!({"text": text}),
        Value::Boolean(truth) => json!({"boolean": truth}),
        Value::Int(number) => json!({"int": number}),
        Value::Double(number) => json!({"double": number}),
        Value::Bytes(bytes) => json!({"bytes": bytes}),
        Value::Json(json) => json!({"json": json}),
    }
}

fn hex(ids: &[u8], length: usize) -> Vec<String> {
    let ids = ids.chunks(length);
    ids.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}
