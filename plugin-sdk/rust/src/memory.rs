//! The interface over a batch in memory, for native tests: the same functions
//! under the same signatures as `bindings` has on wasm32. A panic stands for
//! the trap.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::testing::{Edit, Metric, Traces};
use crate::types::{LogLevel, Owner, Packed, Value};

/// One call of `process`.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub traces: Traces,
    pub edits: Vec<Edit>,
    pub logs: Vec<(LogLevel, String)>,
    pub metrics: Vec<Metric>,
}

thread_local! {
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Begins a call on this thread.
pub(crate) fn enter(traces: Traces) -> Entered {
    CALL.with_borrow_mut(|call| {
        assert!(call.is_none(), "a plugin ran a plugin");
        *call = Some(Call { traces, ..Call::default() });
    });
    Entered
}

/// Ends the call when dropped, a panic's unwinding included.
pub(crate) struct Entered;

impl Entered {
    pub(crate) fn leave(self) -> Call {
        CALL.take().expect("the call was entered")
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CALL.take();
    }
}

fn with_call<T>(visit: impl FnOnce(&mut Call) -> T) -> T {
    CALL.with_borrow_mut(|call| visit(call.as_mut().expect("trap: there is no batch outside of `process`")))
}

fn with_traces<T>(visit: impl FnOnce(&Traces) -> T) -> T {
    with_call(|call| visit(&call.traces))
}

/// Visits every text attribute of the owner, row by row: row, key, occurrence
/// of the key in the row, text.
fn each_text(traces: &Traces, of: Owner, mut visit: impl FnMut(u32, &str, usize, &str)) {
    for (row, attributes) in (0..).zip(traces.attributes(of)) {
        for (at, (key, value)) in attributes.0.iter().enumerate() {
            let earlier = attributes.0[..at].iter();
            let occurrence = earlier.filter(|(other, _)| other == key).count();
            if let Value::Text(text) = value {
                visit(row, key, occurrence, text);
            }
        }
    }
}

fn pack<'a>(texts: impl IntoIterator<Item = &'a str>) -> Packed {
    let mut packed = Packed::default();
    for text in texts {
        packed.data.extend_from_slice(text.as_bytes());
        packed.ends.push(packed.data.len() as u32);
    }
    packed
}

fn unpack(packed: &Packed) -> Vec<String> {
    let mut start = 0;
    let texts = packed.ends.iter().map(|&end| {
        let range = start..end as usize;
        start = end as usize;
        let text = packed.data.get(range).and_then(|t| str::from_utf8(t).ok());
        text.expect("trap: packed text is out of bounds or not UTF-8").to_owned()
    });
    texts.collect()
}

pub(crate) mod batch {
    use super::*;
    use crate::testing::Span;
    use crate::types::{BooleanColumn, DoubleColumn, IntColumn, KeyValue};
    use crate::types::{PackedColumn, TextColumn};

    fn of_spans<T>(read: impl Fn(&Span) -> T) -> Vec<T> {
        with_traces(|traces| traces.spans.iter().map(read).collect())
    }

    pub fn span_count() -> u32 {
        with_traces(|traces| traces.spans.len() as u32)
    }

    pub fn row_count(of: Owner) -> u32 {
        with_traces(|traces| traces.attributes(of).len() as u32)
    }

    pub fn trace_ids() -> Vec<u8> {
        of_spans(|span| span.trace_id.0).concat()
    }

    pub fn span_ids() -> Vec<u8> {
        of_spans(|span| span.span_id.0).concat()
    }

    pub fn parent_span_ids() -> Vec<u8> {
        of_spans(|span| span.parent_span_id.0).concat()
    }

    pub fn start_times() -> Vec<u64> {
        of_spans(|span| span.start_time)
    }

    pub fn durations() -> Vec<u64> {
        of_spans(|span| span.end_time.saturating_sub(span.start_time))
    }

    pub fn kinds() -> Vec<u8> {
        of_spans(|span| span.kind as u8)
    }

    pub fn status_codes() -> Vec<u8> {
        of_spans(|span| span.status.code as u8)
    }

    pub fn names_packed() -> Packed {
        with_traces(|traces| pack(traces.spans.iter().map(|span| span.name.as_str())))
    }

    pub fn trace_states() -> Packed {
        with_traces(|traces| pack(traces.spans.iter().map(|span| span.trace_state.as_str())))
    }

    pub fn flags() -> Vec<u32> {
        of_spans(|span| span.flags)
    }

    pub fn resource_rows() -> Vec<u32> {
        of_spans(|span| span.resource as u32)
    }

    pub fn scope_rows() -> Vec<u32> {
        of_spans(|span| span.scope as u32)
    }

    pub fn scope_names() -> Vec<String> {
        with_traces(|traces| traces.scopes.iter().map(|scope| scope.name.clone()).collect())
    }

    pub fn scope_versions() -> Vec<String> {
        with_traces(|traces| traces.scopes.iter().map(|scope| scope.version.clone()).collect())
    }

    /// The values under the names that pass.
    fn values(of: &[(String, Vec<String>)], accept: impl Fn(&str) -> bool) -> Vec<String> {
        of.iter().filter(|(name, _)| accept(name)).flat_map(|(_, values)| values.clone()).collect()
    }

    pub fn metadata(key: &str) -> Vec<String> {
        // Header names have no case.
        with_traces(|traces| values(&traces.metadata, |name| name.eq_ignore_ascii_case(key)))
    }

    pub fn auth(key: &str) -> Vec<String> {
        with_traces(|traces| values(&traces.auth, |name| name == key))
    }

    pub fn client_address() -> String {
        with_traces(|traces| traces.client_address.clone())
    }

    pub fn receiver() -> String {
        "otlp".to_owned()
    }

    pub fn transport() -> String {
        with_traces(|traces| traces.transport.clone())
    }

    /// The span row of everything that `count` counts in a span.
    fn span_rows(count: impl Fn(&Span) -> usize) -> Vec<u32> {
        with_traces(|traces| {
            let spans = (0..).zip(&traces.spans);
            spans.flat_map(|(row, span)| vec![row; count(span)]).collect()
        })
    }

    pub fn event_span_rows() -> Vec<u32> {
        span_rows(|span| span.events.len())
    }

    pub fn event_names() -> Vec<String> {
        with_traces(|traces| {
            let events = traces.spans.iter().flat_map(|span| &span.events);
            events.map(|event| event.name.clone()).collect()
        })
    }

    pub fn link_span_rows() -> Vec<u32> {
        span_rows(|span| span.links.len())
    }

    pub fn duplicate_rows(of: Owner) -> Vec<u32> {
        with_traces(|traces| {
            let twice = |attributes: &&crate::testing::Attributes| {
                let keys: BTreeSet<&str> = attributes.0.iter().map(|(key, _)| key.as_str()).collect();
                keys.len() < attributes.0.len()
            };
            let rows = (0..).zip(traces.attributes(of));
            rows.filter(|(_, attributes)| twice(attributes)).map(|(row, _)| row).collect()
        })
    }

    pub fn attribute_keys(of: Owner) -> Vec<String> {
        with_traces(|traces| {
            let mut keys: Vec<String> = vec![];
            for (key, _) in traces.attributes(of).into_iter().flat_map(|attributes| &attributes.0) {
                if !keys.contains(key) {
                    keys.push(key.clone());
                }
            }
            keys
        })
    }

    pub fn attribute_types(of: Owner, key: &str) -> Vec<u8> {
        with_traces(|traces| {
            let owners = traces.attributes(of).into_iter();
            owners
                .map(|attributes| match attributes.get(key) {
                    Some(value) => value.kind() as u8 + 1,
                    None => 0,
                })
                .collect()
        })
    }

    /// The rows and values under the key that `read` takes.
    fn column<T>(of: Owner, key: &str, read: impl Fn(&Value) -> Option<T>) -> (Vec<u32>, Vec<T>) {
        with_traces(|traces| {
            let owners = (0..).zip(traces.attributes(of));
            owners
                .flat_map(|(row, attributes)| {
                    let values = attributes.all(key).filter_map(&read);
                    values.map(move |value| (row, value))
                })
                .unzip()
        })
    }

    pub fn text_attribute_packed(of: Owner, key: &str) -> PackedColumn {
        let (rows, values) = column(of, key, |value| value.as_text().map(str::to_owned));
        packed(TextColumn { key: key.to_owned(), rows, values })
    }

    pub fn int_attribute(of: Owner, key: &str) -> IntColumn {
        let (rows, values) = column(of, key, |value| match value {
            Value::Int(number) => Some(*number),
            _ => None,
        });
        IntColumn { rows, values }
    }

    pub fn double_attribute(of: Owner, key: &str) -> DoubleColumn {
        let (rows, values) = column(of, key, |value| match value {
            Value::Double(number) => Some(*number),
            _ => None,
        });
        DoubleColumn { rows, values }
    }

    pub fn boolean_attribute(of: Owner, key: &str) -> BooleanColumn {
        let (rows, values) = column(of, key, |value| match value {
            Value::Boolean(truth) => Some(u8::from(*truth)),
            _ => None,
        });
        BooleanColumn { rows, values }
    }

    /// The text attributes that pass, a column a key, keys as first seen.
    pub(super) fn texts_where(of: Owner, accept: impl Fn(&str) -> bool) -> Vec<TextColumn> {
        let mut columns: Vec<TextColumn> = Vec::new();
        let mut add = |row, key: &str, _, text: &str| {
            if !accept(text) {
                return;
            }
            let at = columns.iter().position(|column| column.key == key);
            let at = at.unwrap_or_else(|| {
                columns.push(TextColumn { key: key.to_owned(), rows: Vec::new(), values: Vec::new() });
                columns.len() - 1
            });
            columns[at].rows.push(row);
            columns[at].values.push(text.to_owned());
        };
        with_traces(|traces| each_text(traces, of, &mut add));
        columns
    }

    pub fn text_columns_packed(of: Owner) -> Vec<PackedColumn> {
        texts_where(of, |_| true).into_iter().map(packed).collect()
    }

    pub fn find_text(of: Owner, part: &str) -> Vec<TextColumn> {
        texts_where(of, |text| text.contains(part))
    }

    pub(super) fn packed(column: TextColumn) -> PackedColumn {
        let mut distinct: Vec<&str> = Vec::new();
        let codes = column.values.iter().map(|value| {
            let known = distinct.iter().position(|text| text == value);
            known.unwrap_or_else(|| {
                distinct.push(value);
                distinct.len() - 1
            }) as u32
        });
        let codes = codes.collect();
        PackedColumn { dictionary: pack(distinct), key: column.key, rows: column.rows, codes }
    }

    /// The attributes of one row.
    fn row_of(traces: &Traces, of: Owner, row: u32) -> &crate::testing::Attributes {
        let owners = traces.attributes(of);
        let found = owners.get(row as usize).copied();
        found.unwrap_or_else(|| panic!("trap: row {row} of {} {of:?} rows", owners.len()))
    }

    pub fn attribute(of: Owner, row: u32, key: &str) -> Option<Value> {
        with_traces(|traces| row_of(traces, of, row).get(key).cloned())
    }

    pub fn attributes(of: Owner, row: u32) -> Vec<KeyValue> {
        with_traces(|traces| {
            let attributes = row_of(traces, of, row).0.iter().cloned();
            attributes.map(|(key, value)| KeyValue { key, value }).collect()
        })
    }
}

pub(crate) mod edits {
    use super::*;
    use crate::StatusCode;
    use crate::testing::Replaced;

    /// Records an edit once its rows are known to exist.
    fn order(of: Owner, rows: &[u32], edit: Edit) {
        with_call(|call| {
            let count = call.traces.attributes(of).len();
            if let Some(row) = rows.iter().find(|&&row| row as usize >= count) {
                panic!("trap: row {row} of {count} {of:?} rows");
            }
            call.edits.push(edit);
        });
    }

    pub fn drop_spans(rows: &[u32], reason: &str) {
        let edit = Edit::Drop { rows: rows.to_vec(), reason: reason.to_owned() };
        order(Owner::Span, rows, edit);
    }

    pub fn set_attribute(of: Owner, rows: &[u32], key: &str, value: &Value) {
        let edit = Edit::Set { of, rows: rows.to_vec(), key: key.to_owned(), value: value.clone() };
        order(of, rows, edit);
    }

    pub fn set_text_attribute_coded(of: Owner, rows: &[u32], key: &str, codes: &[u32], dictionary: &Packed) {
        same_length(rows.len(), codes.len());
        let texts = unpack(dictionary);
        let text = |&code: &u32| match texts.get(code as usize) {
            Some(text) => text.clone(),
            None => panic!("trap: code {code} of {} texts", texts.len()),
        };
        let edit =
            Edit::SetTexts { of, rows: rows.to_vec(), key: key.to_owned(), values: codes.iter().map(text).collect() };
        order(of, rows, edit);
    }

    pub fn replace_texts(of: Owner, rows: &[u32], key: &str, codes: &[u32], old: &Packed, new: &Packed) {
        same_length(rows.len(), codes.len());
        let (old, new) = (unpack(old), unpack(new));
        same_length(old.len(), new.len());
        let mut texts = Vec::new();
        with_traces(|traces| {
            each_text(traces, of, |row, held, occurrence, text| {
                let mut codes =
                    rows.iter().zip(codes).filter(|&(&other, _)| other == row).map(|(_, &code)| code as usize);
                if let Some(code) = codes.find(|&code| held == key && old[code] == text) {
                    texts.push(Replaced { row, key: key.to_owned(), occurrence, text: new[code].clone() });
                }
            });
        });
        order(of, rows, Edit::Replace { of, texts });
    }

    pub fn remove_attribute(of: Owner, rows: &[u32], key: &str) {
        let edit = Edit::Remove { of, rows: rows.to_vec(), key: key.to_owned() };
        order(of, rows, edit);
    }

    pub fn set_names(rows: &[u32], names: &[String]) {
        same_length(rows.len(), names.len());
        let edit = Edit::Names { rows: rows.to_vec(), names: names.to_vec() };
        order(Owner::Span, rows, edit);
    }

    pub fn set_status(rows: &[u32], code: u8, message: &str) {
        let code = match code {
            0 => StatusCode::Unset,
            1 => StatusCode::Ok,
            2 => StatusCode::Error,
            other => panic!("trap: {other} is no status code"),
        };
        let edit = Edit::Status { rows: rows.to_vec(), code, message: message.to_owned() };
        order(Owner::Span, rows, edit);
    }

    pub fn set_tenant(rows: &[u32], tenant: &str) {
        let edit = Edit::Tenant { rows: rows.to_vec(), tenant: tenant.to_owned() };
        order(Owner::Span, rows, edit);
    }

    fn same_length(rows: usize, values: usize) {
        assert!(rows == values, "trap: {rows} rows, {values} values");
    }
}

mod lent;
pub(crate) use lent::{host, patterns};
