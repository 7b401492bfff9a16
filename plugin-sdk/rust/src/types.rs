//! The shapes of the interface's `types`, written by hand under the names that
//! the generated bindings expect, so that native code shares them.

/// Whose attributes are meant, and so what a row number counts.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Rows are spans, in arrival order.
    Span,
    /// Rows are resources; see [`Batch::resource_rows`](crate::Batch::resource_rows).
    Resource,
    /// Rows are instrumentation scopes; see [`Batch::scope_rows`](crate::Batch::scope_rows).
    Scope,
    /// Rows are span events; see [`Batch::event_span_rows`](crate::Batch::event_span_rows).
    Event,
    /// Rows are span links; see [`Batch::link_span_rows`](crate::Batch::link_span_rows).
    Link,
}

impl Owner {
    /// All five, for code that treats them alike.
    pub const ALL: [Owner; 5] = [Owner::Span, Owner::Resource, Owner::Scope, Owner::Event, Owner::Link];
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Boolean(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    /// An OTLP `AnyValue` as JSON, for arrays and key-value lists:
    /// `{"arrayValue": {"values": [{"intValue": "1"}]}}`. An attribute without
    /// a value reads as `{}`.
    Json(String),
}

impl Value {
    /// The text, if the value is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value this is.
    pub fn kind(&self) -> ValueKind {
        match self {
            Value::Text(_) => ValueKind::Text,
            Value::Boolean(_) => ValueKind::Boolean,
            Value::Int(_) => ValueKind::Int,
            Value::Double(_) => ValueKind::Double,
            Value::Bytes(_) => ValueKind::Bytes,
            Value::Json(_) => ValueKind::Json,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Value::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Boolean(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Int(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Int(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Double(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Value::Bytes(bytes)
    }
}

/// The kind of an attribute's value, as [`Batch::attribute_kinds`](crate::Batch::attribute_kinds) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    Text,
    Boolean,
    Int,
    Double,
    Bytes,
    Json,
}

impl ValueKind {
    /// From the interface's number: 0 is nothing, else 1 + the case of `value`.
    pub(crate) fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(ValueKind::Text),
            2 => Some(ValueKind::Boolean),
            3 => Some(ValueKind::Int),
            4 => Some(ValueKind::Double),
            5 => Some(ValueKind::Bytes),
            6 => Some(ValueKind::Json),
            _ => None,
        }
    }
}

/// How much a log line matters.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Text i is `data[ends[i - 1]..ends[i]]`, UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    pub data: Vec<u8>,
    pub ends: Vec<u32>,
}

#[derive(Debug, Clone)]
pub struct TextColumn {
    pub key: String,
    pub rows: Vec<u32>,
    pub values: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct PackedColumn {
    pub key: String,
    pub rows: Vec<u32>,
    pub codes: Vec<u32>,
    pub dictionary: Packed,
}

#[derive(Debug, Clone)]
pub struct IntColumn {
    pub rows: Vec<u32>,
    pub values: Vec<i64>,
}

#[derive(Debug, Clone)]
pub struct DoubleColumn {
    pub rows: Vec<u32>,
    pub values: Vec<f64>,
}

#[derive(Debug, Clone)]
pub struct BooleanColumn {
    pub rows: Vec<u32>,
    pub values: Vec<u8>,
}

/// The rows that an edit by pattern changed under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedColumn {
    pub key: String,
    pub rows: Vec<u32>,
}

/// A match: bytes `start` to `end` of the text with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub text: u32,
    pub start: u32,
    pub end: u32,
}

/// The groups of first matches, as [`Pattern::captures`](crate::Pattern::captures) reads them.
#[derive(Debug, Clone, PartialEq)]
pub struct Captures {
    pub texts: Vec<u32>,
    pub offsets: Vec<u32>,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValue {
    pub key: String,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub name: String,
    pub value: String,
}
