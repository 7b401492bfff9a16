//! Requests by chance, as prost's structs.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use crate::traces::fuzz::Choices;

pub fn request(choices: &mut Choices) -> ExportTraceServiceRequest {
    let resource_spans = many(choices, 4, resource_spans);
    ExportTraceServiceRequest { resource_spans }
}

fn many<T>(choices: &mut Choices, below: usize, mut one: impl FnMut(&mut Choices) -> T) -> Vec<T> {
    let count = choices.below(below);
    (0..count).map(|_| one(choices)).collect()
}

fn maybe<T>(choices: &mut Choices, one: impl FnOnce(&mut Choices) -> T) -> Option<T> {
    (choices.below(4) != 3).then(|| one(choices))
}

fn count(choices: &mut Choices) -> u32 {
    if choices.once_in(8) { u32::MAX } else { choices.below(3) as u32 }
}

fn resource_spans(choices: &mut Choices) -> ResourceSpans {
    let resource = maybe(choices, |choices| Resource {
        attributes: attributes(choices),
        dropped_attributes_count: count(choices),
        entity_refs: many(choices, 3, entity_ref),
    });
    let scope_spans = many(choices, 4, scope_spans);
    ResourceSpans { resource, scope_spans, schema_url: choices.text() }
}

fn entity_ref(choices: &mut Choices) -> EntityRef {
    EntityRef {
        schema_url: choices.text(),
        r#type: choices.text(),
        id_keys: many(choices, 3, |choices| choices.key()),
        description_keys: many(choices, 3, |choices| choices.key()),
    }
}

fn scope_spans(choices: &mut Choices) -> ScopeSpans {
    let scope = maybe(choices, |choices| InstrumentationScope {
        name: choices.text(),
        version: choices.text(),
        attributes: attributes(choices),
        dropped_attributes_count: count(choices),
    });
    let spans = many(choices, 5, span);
    ScopeSpans { scope, spans, schema_url: choices.text() }
}

fn id(choices: &mut Choices, length: usize) -> Vec<u8> {
    // A one in front, as an id of zeros is none.
    (0..length).map(|at| if at == 0 { 1 } else { choices.byte() }).collect()
}

fn span(choices: &mut Choices) -> Span {
    let start = choices.number() >> 1;
    Span {
        trace_id: id(choices, 16),
        span_id: id(choices, 8),
        trace_state: choices.text(),
        parent_span_id: match choices.below(3) {
            0 => vec![],
            1 => vec![0; 8],
            _ => id(choices, 8),
        },
        flags: if choices.once_in(2) { 0x101 } else { choices.byte().into() },
        name: choices.text(),
        kind: if choices.once_in(8) { choices.number() as i32 } else { choices.below(6) as i32 },
        start_time_unix_nano: start,
        end_time_unix_nano: if choices.once_in(4) { 1 } else { start + u64::from(choices.byte()) },
        attributes: attributes(choices),
        dropped_attributes_count: count(choices),
        events: many(choices, 3, event),
        dropped_events_count: count(choices),
        links: many(choices, 3, link),
        dropped_links_count: count(choices),
        status: maybe(choices, |choices| Status {
            message: choices.text(),
            code: if choices.once_in(8) { choices.number() as i32 } else { choices.below(3) as i32 },
        }),
    }
}

fn event(choices: &mut Choices) -> Event {
    Event {
        time_unix_nano: choices.number(),
        name: choices.text(),
        attributes: attributes(choices),
        dropped_attributes_count: count(choices),
    }
}

fn link(choices: &mut Choices) -> Link {
    Link {
        trace_id: if choices.once_in(3) { vec![] } else { id(choices, 16) },
        span_id: if choices.once_in(3) { vec![] } else { id(choices, 8) },
        trace_state: choices.text(),
        attributes: attributes(choices),
        dropped_attributes_count: count(choices),
        flags: choices.number() as u32,
    }
}

fn attributes(choices: &mut Choices) -> Vec<KeyValue> {
    many(choices, 5, |choices| key_value(choices, 6))
}

fn key_value(choices: &mut Choices, depth: usize) -> KeyValue {
    let value = (choices.below(8) != 7).then(|| any_value(choices, depth));
    KeyValue { key: choices.key(), value, key_strindex: 0 }
}

fn any_value(choices: &mut Choices, depth: usize) -> AnyValue {
    let value = match choices.below(if depth == 0 { 7 } else { 10 }) {
        0 | 1 => Value::StringValue(choices.text()),
        2 => Value::IntValue(choices.number() as i64),
        3 => Value::BoolValue(choices.once_in(2)),
        4 => Value::DoubleValue(if choices.once_in(2) { f64::NAN } else { f64::from_bits(choices.number()) }),
        5 => Value::BytesValue(id(choices, 9)),
        6 => return AnyValue { value: None },
        7 | 8 => Value::ArrayValue(ArrayValue { values: many(choices, 4, |choices| any_value(choices, depth - 1)) }),
        _ => Value::KvlistValue(KeyValueList { values: many(choices, 4, |choices| key_value(choices, depth - 1)) }),
    };
    AnyValue { value: Some(value) }
}
