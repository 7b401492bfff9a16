//! Reads of the batch now being processed.

use std::ops::Range;

use crate::columns::{Column, Ids, TextColumn, Texts};
use crate::patterns::{Pattern, numbers};
use crate::raw::batch as raw;
use crate::types::{KeyValue, Owner, Value, ValueKind};

/// The batch now being processed. Rows count from 0; a row is a span, in
/// arrival order, unless the function says otherwise.
///
/// Reads see the edits of earlier plugins, never those of the same call. A
/// column costs about as much as three single reads: prefer it beyond a few rows.
#[derive(Debug)]
pub struct Batch {
    // Only the SDK makes one: reads trap outside of `process`.
    _private: (),
}

/// OTLP's span kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    #[default]
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

impl SpanKind {
    fn from_wire(number: u8) -> Self {
        match number {
            1 => SpanKind::Internal,
            2 => SpanKind::Server,
            3 => SpanKind::Client,
            4 => SpanKind::Producer,
            5 => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        }
    }
}

/// OTLP's status code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum StatusCode {
    #[default]
    Unset,
    Ok,
    Error,
}

impl StatusCode {
    fn from_wire(number: u8) -> Self {
        match number {
            1 => StatusCode::Ok,
            2 => StatusCode::Error,
            _ => StatusCode::Unset,
        }
    }
}

impl Batch {
    pub(crate) fn current() -> Self {
        Self { _private: () }
    }

    pub fn span_count(&self) -> u32 {
        raw::span_count()
    }

    /// Every span row.
    pub fn rows(&self) -> Range<u32> {
        0..self.span_count()
    }

    /// How many rows the owner has.
    pub fn row_count(&self, of: Owner) -> u32 {
        raw::row_count(of)
    }

    pub fn trace_ids(&self) -> Ids<16> {
        Ids::new(raw::trace_ids())
    }

    pub fn span_ids(&self) -> Ids<8> {
        Ids::new(raw::span_ids())
    }

    /// All zero for a root span.
    pub fn parent_span_ids(&self) -> Ids<8> {
        Ids::new(raw::parent_span_ids())
    }

    /// Nanoseconds since the Unix epoch.
    pub fn start_times(&self) -> Vec<u64> {
        raw::start_times()
    }

    /// Nanoseconds; 0 where the end precedes the start.
    pub fn durations(&self) -> Vec<u64> {
        raw::durations()
    }

    pub fn kinds(&self) -> Vec<SpanKind> {
        raw::kinds().into_iter().map(SpanKind::from_wire).collect()
    }

    pub fn status_codes(&self) -> Vec<StatusCode> {
        let codes = raw::status_codes();
        codes.into_iter().map(StatusCode::from_wire).collect()
    }

    /// The spans' names.
    pub fn names(&self) -> Texts {
        Texts::from_packed(raw::names_packed())
    }

    /// The span rows whose name passes.
    pub fn rows_named(&self, mut accept: impl FnMut(&str) -> bool) -> Vec<u32> {
        let names = self.names();
        let named = (0..).zip(names.iter()).filter(|(_, name)| accept(name));
        named.map(|(row, _)| row).collect()
    }

    /// W3C trace state, as the spans carry it.
    pub fn trace_states(&self) -> Texts {
        Texts::from_packed(raw::trace_states())
    }

    /// OTLP span flags: W3C trace flags in the lowest 8 bits.
    pub fn flags(&self) -> Vec<u32> {
        raw::flags()
    }

    /// The resource row of each span.
    pub fn resource_rows(&self) -> Vec<u32> {
        raw::resource_rows()
    }

    /// The scope row of each span.
    pub fn scope_rows(&self) -> Vec<u32> {
        raw::scope_rows()
    }

    /// The name of each scope row.
    pub fn scope_names(&self) -> Vec<String> {
        raw::scope_names()
    }

    /// The version of each scope row.
    pub fn scope_versions(&self) -> Vec<String> {
        raw::scope_versions()
    }

    /// The span row of each event.
    pub fn event_span_rows(&self) -> Vec<u32> {
        raw::event_span_rows()
    }

    /// The events' names, in event rows.
    pub fn event_names(&self) -> Vec<String> {
        raw::event_names()
    }

    /// The span row of each link.
    pub fn link_span_rows(&self) -> Vec<u32> {
        raw::link_span_rows()
    }

    /// The sender's metadata under the key (a header that it sent, where the
    /// receiver keeps it). Empty without any.
    pub fn metadata(&self, key: &str) -> Vec<String> {
        raw::metadata(key)
    }

    /// What the receiver's authenticator knows of the sender under the name,
    /// such as `username`. Empty without any.
    pub fn auth(&self, key: &str) -> Vec<String> {
        raw::auth(key)
    }

    /// The sender's address and port, such as `10.0.0.7:52114` or
    /// `[::1]:52114`; empty where there is none, as on a Unix socket.
    pub fn client_address(&self) -> String {
        raw::client_address()
    }

    /// The id of the receiver that the batch came by.
    pub fn receiver(&self) -> String {
        raw::receiver()
    }

    /// `grpc` or `http`.
    pub fn transport(&self) -> String {
        raw::transport()
    }

    /// The rows that may hold some key more than once; no other row does. For
    /// code that must see each value: columns of kinds tell only of the first.
    pub fn duplicate_rows(&self, of: Owner) -> Vec<u32> {
        raw::duplicate_rows(of)
    }

    /// Every key that some row holds, each once.
    pub fn attribute_keys(&self, of: Owner) -> Vec<String> {
        raw::attribute_keys(of)
    }

    /// What each row holds under the key. The first attribute of that key
    /// speaks where a row holds several.
    pub fn attribute_kinds(&self, of: Owner, key: &str) -> Vec<Option<ValueKind>> {
        let kinds = raw::attribute_types(of, key);
        kinds.into_iter().map(ValueKind::from_wire).collect()
    }

    pub fn text_attribute(&self, of: Owner, key: &str) -> TextColumn {
        TextColumn::from_packed(raw::text_attribute_packed(of, key))
    }

    pub fn int_attribute(&self, of: Owner, key: &str) -> Column<i64> {
        let column = raw::int_attribute(of, key);
        Column::new(column.rows, column.values)
    }

    pub fn double_attribute(&self, of: Owner, key: &str) -> Column<f64> {
        let column = raw::double_attribute(of, key);
        Column::new(column.rows, column.values)
    }

    pub fn boolean_attribute(&self, of: Owner, key: &str) -> Column<bool> {
        let column = raw::boolean_attribute(of, key);
        let values = column.values.into_iter().map(|value| value != 0);
        Column::new(column.rows, values.collect())
    }

    /// Every text attribute, a column a key.
    pub fn text_attributes(&self, of: Owner) -> Vec<TextColumn> {
        from_packed(raw::text_columns_packed(of))
    }

    /// Only the texts that contain `part`. The collector searches, so that a
    /// batch without a hit costs the plugin nothing.
    pub fn find_text(&self, of: Owner, part: &str) -> Vec<TextColumn> {
        let columns = raw::find_text(of, part);
        columns.into_iter().map(TextColumn::from_list).collect()
    }

    /// Only the texts that any of the patterns matches.
    pub fn find_matches(&self, of: Owner, patterns: &[Pattern]) -> Vec<TextColumn> {
        from_packed(crate::raw::patterns::find_matches(of, &numbers(patterns)))
    }

    /// One attribute of one row; a row out of range traps.
    pub fn attribute(&self, of: Owner, row: u32, key: &str) -> Option<Value> {
        raw::attribute(of, row, key)
    }

    /// All attributes of one row, in order; a row out of range traps.
    pub fn attributes(&self, of: Owner, row: u32) -> Vec<KeyValue> {
        raw::attributes(of, row)
    }
}

fn from_packed(columns: Vec<crate::types::PackedColumn>) -> Vec<TextColumn> {
    columns.into_iter().map(TextColumn::from_packed).collect()
}
