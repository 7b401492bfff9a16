//! OTLP's trace messages as tables, which decoder and encoder both read.

use super::super::wire::{FIXED32, FIXED64, LENGTH, VARINT};

/// A message type. Fields stand in the order in which SDKs write them, so that
/// the field behind the last one is mostly the next.
pub(super) struct Shape {
    pub fields: &'static [Field],
    /// How many bytes the length prefix mostly takes; another width moves the content.
    pub width: usize,
    /// At most one member is set, and values may hold values.
    pub is_value: bool,
    /// The first field is written even where it is absent: who reads a list or an
    /// attribute looks for it.
    pub complete: bool,
}

pub(super) struct Field {
    /// The key in lower camel case.
    pub name: &'static str,
    /// The same with its quotes and the colon.
    pub label: &'static str,
    /// The key in lower snake case, which the Collector accepts as well.
    pub snake: &'static str,
    pub number: u32,
    pub repeated: bool,
    pub kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Bytes in base64.
    Bytes,
    /// So many bytes in hexadecimal digits.
    Id(usize),
    Boolean,
    /// A varint, as decimal text in JSON.
    Int64,
    /// Eight bytes, as decimal text in JSON.
    Fixed64,
    Fixed32,
    Uint32,
    Double,
    /// The names of the numbers from 0 on.
    Enumeration(&'static [&'static str]),
    Message(&'static Shape),
}

impl Shape {
    /// The field of a number and its place; the one found last and the one behind it are tried first.
    #[inline(always)]
    pub fn find(&self, number: u32, last: usize) -> Option<(usize, &Field)> {
        let is_it = |place: &usize| self.fields.get(*place).is_some_and(|field| field.number == number);
        let near = [last, last + 1].into_iter().find(is_it);
        let place = near.or_else(|| (0..self.fields.len()).find(is_it))?;
        Some((place, self.fields.get(place)?))
    }
}

impl Kind {
    /// The wire type.
    pub fn wire(self) -> u8 {
        match self {
            Kind::Text | Kind::Bytes | Kind::Id(_) | Kind::Message(_) => LENGTH,
            Kind::Boolean | Kind::Int64 | Kind::Uint32 | Kind::Enumeration(_) => VARINT,
            Kind::Fixed64 | Kind::Double => FIXED64,
            Kind::Fixed32 => FIXED32,
        }
    }
}

impl Field {
    pub fn is_called(&self, key: &[u8]) -> bool {
        self.name.as_bytes() == key || self.snake.as_bytes() == key
    }
}

macro_rules! field {
    ($name:literal, $snake:literal, $number:literal, [$kind:expr]) => {
        field!($name, $snake, $number, true, $kind)
    };
    ($name:literal, $snake:literal, $number:literal, $kind:expr) => {
        field!($name, $snake, $number, false, $kind)
    };
    ($name:literal, $snake:literal, $number:literal, $repeated:literal, $kind:expr) => {
        Field {
            name: $name,
            label: concat!("\"", $name, "\":"),
            snake: $snake,
            number: $number,
            repeated: $repeated,
            kind: $kind,
        }
    };
}

const fn message(width: usize, fields: &'static [Field]) -> Shape {
    Shape { fields, width, is_value: false, complete: false }
}

const fn complete(width: usize, fields: &'static [Field]) -> Shape {
    Shape { fields, width, is_value: false, complete: true }
}

const KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

const STATUS_CODES: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

pub(super) static REQUEST: Shape =
    complete(0, &[field!("resourceSpans", "resource_spans", 1, [Kind::Message(&RESOURCE_SPANS)])]);

static RESOURCE_SPANS: Shape = message(
    3,
    &[
        field!("resource", "resource", 1, Kind::Message(&RESOURCE)),
        field!("scopeSpans", "scope_spans", 2, [Kind::Message(&SCOPE_SPANS)]),
        field!("schemaUrl", "schema_url", 3, Kind::Text),
    ],
);

static RESOURCE: Shape = message(
    2,
    &[
        field!("attributes", "attributes", 1, [Kind::Message(&KEY_VALUE)]),
        field!("droppedAttributesCount", "dropped_attributes_count", 2, Kind::Uint32),
        field!("entityRefs", "entity_refs", 3, [Kind::Message(&ENTITY_REF)]),
    ],
);

static ENTITY_REF: Shape = message(
    1,
    &[
        field!("schemaUrl", "schema_url", 1, Kind::Text),
        field!("type", "type", 2, Kind::Text),
        field!("idKeys", "id_keys", 3, [Kind::Text]),
        field!("descriptionKeys", "description_keys", 4, [Kind::Text]),
    ],
);

static SCOPE_SPANS: Shape = message(
    3,
    &[
        field!("scope", "scope", 1, Kind::Message(&SCOPE)),
        field!("spans", "spans", 2, [Kind::Message(&SPAN)]),
        field!("schemaUrl", "schema_url", 3, Kind::Text),
    ],
);

static SCOPE: Shape = message(
    1,
    &[
        field!("name", "name", 1, Kind::Text),
        field!("version", "version", 2, Kind::Text),
        field!("attributes", "attributes", 3, [Kind::Message(&KEY_VALUE)]),
        field!("droppedAttributesCount", "dropped_attributes_count", 4, Kind::Uint32),
    ],
);

static SPAN: Shape = message(
    2,
    &[
        field!("traceId", "trace_id", 1, Kind::Id(16)),
        field!("spanId", "span_id", 2, Kind::Id(8)),
        field!("parentSpanId", "parent_span_id", 4, Kind::Id(8)),
        field!("traceState", "trace_state", 3, Kind::Text),
        field!("name", "name", 5, Kind::Text),
        field!("kind", "kind", 6, Kind::Enumeration(KINDS)),
        field!("startTimeUnixNano", "start_time_unix_nano", 7, Kind::Fixed64),
        field!("endTimeUnixNano", "end_time_unix_nano", 8, Kind::Fixed64),
        field!("attributes", "attributes", 9, [Kind::Message(&KEY_VALUE)]),
        field!("droppedAttributesCount", "dropped_attributes_count", 10, Kind::Uint32),
        field!("events", "events", 11, [Kind::Message(&EVENT)]),
        field!("droppedEventsCount", "dropped_events_count", 12, Kind::Uint32),
        field!("status", "status", 15, Kind::Message(&STATUS)),
        field!("links", "links", 13, [Kind::Message(&LINK)]),
        field!("droppedLinksCount", "dropped_links_count", 14, Kind::Uint32),
        field!("flags", "flags", 16, Kind::Fixed32),
    ],
);

static EVENT: Shape = message(
    1,
    &[
        field!("attributes", "attributes", 3, [Kind::Message(&KEY_VALUE)]),
        field!("name", "name", 2, Kind::Text),
        field!("timeUnixNano", "time_unix_nano", 1, Kind::Fixed64),
        field!("droppedAttributesCount", "dropped_attributes_count", 4, Kind::Uint32),
    ],
);

static LINK: Shape = message(
    1,
    &[
        field!("traceId", "trace_id", 1, Kind::Id(16)),
        field!("spanId", "span_id", 2, Kind::Id(8)),
        field!("traceState", "trace_state", 3, Kind::Text),
        field!("attributes", "attributes", 4, [Kind::Message(&KEY_VALUE)]),
        field!("droppedAttributesCount", "dropped_attributes_count", 5, Kind::Uint32),
        field!("flags", "flags", 6, Kind::Fixed32),
    ],
);

static STATUS: Shape = message(
    1,
    &[field!("code", "code", 3, Kind::Enumeration(STATUS_CODES)), field!("message", "message", 2, Kind::Text)],
);

static KEY_VALUE: Shape =
    complete(1, &[field!("key", "key", 1, Kind::Text), field!("value", "value", 2, Kind::Message(&ANY_VALUE))]);

pub(super) static ANY_VALUE: Shape = Shape {
    fields: &[
        field!("stringValue", "string_value", 1, Kind::Text),
        field!("intValue", "int_value", 3, Kind::Int64),
        field!("boolValue", "bool_value", 2, Kind::Boolean),
        field!("doubleValue", "double_value", 4, Kind::Double),
        field!("arrayValue", "array_value", 5, Kind::Message(&ARRAY)),
        field!("kvlistValue", "kvlist_value", 6, Kind::Message(&KEY_VALUES)),
        field!("bytesValue", "bytes_value", 7, Kind::Bytes),
    ],
    width: 1,
    is_value: true,
    complete: false,
};

static ARRAY: Shape = complete(1, &[field!("values", "values", 1, [Kind::Message(&ANY_VALUE)])]);

static KEY_VALUES: Shape = complete(1, &[field!("values", "values", 1, [Kind::Message(&KEY_VALUE)])]);
