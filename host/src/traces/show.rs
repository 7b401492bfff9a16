//! Spans as people read them, laid out as the Collector's `debug` exporter does.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::columns::Read;
use super::index::{Extent, Index, Owner, Slice};
use super::message::Message;
use super::wire::{LENGTH, VARINT, fields, varint};

const KINDS: [&str; 6] = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];
const STATUSES: [&str; 3] = ["Unset", "Ok", "Error"];

impl Message {
    /// How many `resource_spans` there are.
    pub fn resource_spans(&self) -> usize {
        let wire = self.bytes();
        fields(&wire, 0, wire.len()).filter(|field| field.number == 1).count()
    }
}

impl Index {
    /// Every live span with all that it holds, under its resource and scope.
    pub fn show(&self) -> String {
        let mut out = String::new();
        self.each_scope(|resource, scope, is_first| {
            if is_first {
                self.show_resource(&mut out, resource);
            }
            self.show_scope(&mut out, resource, scope);
            let spans = self.scopes.get(scope).map(|scope| scope.spans.range()).unwrap_or_default();
            for (number, span) in spans.filter(|&span| self.is_shown(span)).enumerate() {
                let _ = writeln!(out, "Span #{number}");
                self.show_span(&mut out, span);
            }
        });
        printable(out)
    }

    /// Every live span on a line: its name, its ids, its attributes.
    pub fn show_lines(&self) -> String {
        let mut out = String::new();
        self.each_scope(|resource, scope, is_first| {
            if is_first {
                let _ = write!(out, "ResourceTraces #{resource}");
                let extent = self.resources.get(resource).map_or(Extent::ABSENT, |resource| resource.extent);
                self.show_pairs(&mut out, Owner::Resource, resource, &self.schema_url(extent));
            }
            let Some(found) = self.scopes.get(scope) else { return };
            let _ = write!(out, "ScopeTraces #{}", self.number_of(resource, scope));
            let (name, version) = (self.text(found.name), self.text(found.version));
            let at = if version.is_empty() { "" } else { "@" };
            if !name.is_empty() || !version.is_empty() {
                let _ = write!(out, " {name}{at}{version}");
            }
            self.show_pairs(&mut out, Owner::Scope, scope, &self.schema_url(found.extent));
            for entry in found.spans.range().filter(|&span| self.is_shown(span)) {
                let Some(span) = self.spans.get(entry) else { continue };
                let ids = (self.id::<16>(span.trace_id), self.id::<8>(span.span_id));
                let _ = write!(out, "{} {} {}", self.text(span.name), hex(&ids.0), hex(&ids.1));
                self.show_pairs(&mut out, Owner::Span, entry, "");
            }
        });
        printable(out)
    }

    /// Every scope that still has spans, and whether its resource's first.
    fn each_scope(&self, mut visit: impl FnMut(usize, usize, bool)) {
        for (number, resource) in self.resources.iter().enumerate() {
            let mut is_first = true;
            for scope in resource.scopes.range() {
                let spans = self.scopes.get(scope).map(|scope| scope.spans.range()).unwrap_or_default();
                if spans.into_iter().any(|span| self.is_shown(span)) {
                    visit(number, scope, is_first);
                    is_first = false;
                }
            }
        }
    }

    fn is_shown(&self, span: usize) -> bool {
        self.spans.get(span).is_some_and(|span| span.live)
    }

    /// A scope's place in its resource.
    fn number_of(&self, resource: usize, scope: usize) -> usize {
        scope - self.resources.get(resource).map_or(scope, |resource| resource.scopes.first as usize).min(scope)
    }

    fn text(&self, slice: Slice) -> String {
        String::from_utf8_lossy(self.bytes(slice)).into_owned()
    }

    /// The last field of this number and wire type in a message.
    fn last_field(&self, message: Extent, number: u32, kind: u8) -> Option<&[u8]> {
        if !message.is_present() {
            return None;
        }
        let all = fields(&self.wire, message.content as usize, message.end as usize);
        let last = all.filter(|field| field.number == number && field.kind == kind).last()?;
        self.wire.get(last.value..last.end)
    }

    fn schema_url(&self, message: Extent) -> String {
        String::from_utf8_lossy(self.last_field(message, 3, LENGTH).unwrap_or_default()).into_owned()
    }

    fn count_at(&self, message: Extent, number: u32) -> u32 {
        let found = self.last_field(message, number, VARINT).and_then(|bytes| varint(bytes, 0).ok());
        found.map_or(0, |(value, _)| value as u32)
    }

    fn show_resource(&self, out: &mut String, resource: usize) {
        let Some(found) = self.resources.get(resource) else { return };
        let _ = writeln!(out, "ResourceSpans #{resource}");
        let _ = writeln!(out, "Resource SchemaURL: {}", self.schema_url(found.extent));
        self.show_attributes(out, Owner::Resource, resource, "Resource attributes:", "     ");
        let content = self.last_field(found.extent, 1, LENGTH).unwrap_or_default();
        let entities = fields(content, 0, content.len()).filter(|field| (field.number, field.kind) == (3, LENGTH));
        for (number, entity) in entities.enumerate() {
            if number == 0 {
                let _ = writeln!(out, "Resource entity refs:");
            }
            let _ = writeln!(out, "     -> Entity ref #{number}:");
            show_entity(out, content.get(entity.value..entity.end).unwrap_or_default());
        }
    }

    fn show_scope(&self, out: &mut String, resource: usize, scope: usize) {
        let Some(found) = self.scopes.get(scope) else { return };
        let _ = writeln!(out, "ScopeSpans #{}", self.number_of(resource, scope));
        let _ = writeln!(out, "ScopeSpans SchemaURL: {}", self.schema_url(found.extent));
        let _ = writeln!(out, "InstrumentationScope {} {}", self.text(found.name), self.text(found.version));
        self.show_attributes(out, Owner::Scope, scope, "InstrumentationScope attributes:", "     ");
    }

    fn show_span(&self, out: &mut String, entry: usize) {
        let Some(span) = self.spans.get(entry) else { return };
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(out, "    {name:<15}: {value}");
        };
        line("Trace ID", &hex(&self.id::<16>(span.trace_id)));
        let parent = self.id::<8>(span.parent_span_id);
        line("Parent ID", &if parent == [0; 8] { String::new() } else { hex(&parent) });
        line("ID", &hex(&self.id::<8>(span.span_id)));
        line("Name", &self.text(span.name));
        line("Kind", KINDS.get(span.kind as usize).copied().unwrap_or_default());
        if span.trace_state.len > 0 {
            line("TraceState", &self.text(span.trace_state));
        }
        line("Start time", &time(span.start_time));
        line("End time", &time(span.end_time));
        line("Status code", STATUSES.get(span.status_code as usize).copied().unwrap_or_default());
        line("Status message", &self.text(span.status_message));
        for (name, number) in [("DroppedAttributesCount", 10), ("DroppedEventsCount", 12), ("DroppedLinksCount", 14)] {
            line(name, &self.count_at(span.extent, number).to_string());
        }
        self.show_attributes(out, Owner::Span, entry, "Attributes:", "     ");
        self.show_events(out, span.events.range());
        self.show_links(out, span.links.range());
    }

    fn show_events(&self, out: &mut String, events: std::ops::Range<usize>) {
        if !events.is_empty() {
            let _ = writeln!(out, "Events:");
        }
        for (number, entry) in events.enumerate() {
            let Some(event) = self.events.get(entry) else { continue };
            let _ = writeln!(out, "SpanEvent #{number}");
            let _ = writeln!(out, "     -> Name: {}", self.text(event.name));
            let _ = writeln!(out, "     -> Timestamp: {}", time(event.time));
            let _ = writeln!(out, "     -> DroppedAttributesCount: {}", self.count_at(event.extent, 4));
            self.show_attributes(out, Owner::Event, entry, "     -> Attributes::", "          ");
        }
    }

    fn show_links(&self, out: &mut String, links: std::ops::Range<usize>) {
        if !links.is_empty() {
            let _ = writeln!(out, "Links:");
        }
        for (number, entry) in links.enumerate() {
            let Some(link) = self.links.get(entry) else { continue };
            let state = String::from_utf8_lossy(self.last_field(link.extent, 3, LENGTH).unwrap_or_default());
            let _ = writeln!(out, "SpanLink #{number}");
            let _ = writeln!(out, "     -> Trace ID: {}", hex(&self.id::<16>(link.trace_id)));
            let _ = writeln!(out, "     -> ID: {}", hex(&self.id::<8>(link.span_id)));
            let _ = writeln!(out, "     -> TraceState: {state}");
            let _ = writeln!(out, "     -> DroppedAttributesCount: {}", self.count_at(link.extent, 5));
            self.show_attributes(out, Owner::Link, entry, "     -> Attributes::", "          ");
        }
    }

    fn show_attributes(&self, out: &mut String, owner: Owner, entry: usize, title: &str, indent: &str) {
        let attributes = self.entry_attributes(owner, entry);
        if attributes.is_empty() {
            return;
        }
        let _ = writeln!(out, "{title}");
        for (key, value) in attributes {
            let _ = writeln!(out, "{indent}-> {key}: {}", typed(&value));
        }
    }

    /// The rest of a line: a schema URL and attributes.
    fn show_pairs(&self, out: &mut String, owner: Owner, entry: usize, schema_url: &str) {
        if !schema_url.is_empty() {
            let _ = write!(out, " [{schema_url}]");
        }
        for (key, value) in self.entry_attributes(owner, entry) {
            let _ = write!(out, " {key}={}", plain(&value));
        }
        let _ = writeln!(out);
    }
}

/// A value with its type, as `Str(GET)`.
/// What tells an entity from others: `EntityRef` of OTLP's common.proto.
fn show_entity(out: &mut String, entity: &[u8]) {
    let texts = |number: u32| {
        let texts = fields(entity, 0, entity.len()).filter(move |field| (field.number, field.kind) == (number, LENGTH));
        texts.map(|field| String::from_utf8_lossy(entity.get(field.value..field.end).unwrap_or_default()))
    };
    let _ = writeln!(out, "          -> Type: {}", texts(2).last().unwrap_or_default());
    let _ = writeln!(out, "          -> Schema URL: {}", texts(1).last().unwrap_or_default());
    for (title, number) in [("ID keys", 3), ("Description keys", 4)] {
        for (count, key) in texts(number).enumerate() {
            if count == 0 {
                let _ = writeln!(out, "          -> {title}:");
            }
            let _ = writeln!(out, "               -> {key}");
        }
    }
}

/// A number as JavaScript writes it, which is what the Collector does too.
fn double(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let text =
        if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) { format!("{value:e}") } else { value.to_string() };
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

fn typed(value: &Read) -> String {
    let kind = match value {
        Read::Text(_) => "Str",
        Read::Boolean(_) => "Bool",
        Read::Int(_) => "Int",
        Read::Double(_) => "Double",
        Read::Bytes(_) => "Bytes",
        Read::Json(json) if json.starts_with(r#"{"kvlistValue""#) => "Map",
        Read::Json(json) if json.starts_with(r#"{"arrayValue""#) => "Slice",
        Read::Json(_) => return "Empty()".into(),
    };
    format!("{kind}({})", plain(value))
}

fn plain(value: &Read) -> String {
    match value {
        Read::Text(text) => text.clone(),
        Read::Boolean(value) => value.to_string(),
        Read::Int(value) => value.to_string(),
        Read::Double(value) => double(*value),
        Read::Bytes(bytes) => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes),
        // Bounded by the walk: `VALUE_DEPTH` values within each other.
        Read::Json(json) => match serde_json::from_str(json).map(|value| raw(&value)) {
            Ok(Json::Null) | Err(_) => String::new(),
            Ok(value) => value.to_string(),
        },
    }
}

/// What an `AnyValue` in OTLP JSON is without the names of its types.
fn raw(value: &Json) -> Json {
    let Some((member, content)) = value.as_object().and_then(|members| members.iter().next()) else {
        return Json::Null;
    };
    let items = || content.get("values").and_then(Json::as_array).into_iter().flatten();
    match member.as_str() {
        "arrayValue" => items().map(raw).collect(),
        "kvlistValue" => {
            let pair =
                |item: &Json| Some((item.get("key")?.as_str()?.to_owned(), item.get("value").map_or(Json::Null, raw)));
            Json::Object(items().filter_map(pair).collect())
        }
        "intValue" => content.as_str().and_then(|text| text.parse::<i64>().ok()).into(),
        _ => content.clone(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// As Go prints times: `2018-02-14 00:28:07.133 +0000 UTC`.
fn time(nanoseconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanoseconds);
    let text = humantime::format_rfc3339_nanos(time).to_string().replace('T', " ");
    format!("{} +0000 UTC", text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'))
}

/// Control characters could move a terminal's cursor; all but line breaks and tabs are escaped.
fn printable(text: String) -> String {
    let is_control = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !text.contains(is_control) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_control(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::traces::{Batch, decode_request};

    #[test]
    fn times_look_as_go_prints_them() {
        assert_eq!(time(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(time(1_518_568_087_133_000_000), "2018-02-14 00:28:07.133 +0000 UTC");
        assert_eq!(time(1_518_568_080_000_000_000), "2018-02-14 00:28:00 +0000 UTC");
        assert_eq!(time(u64::MAX), "2554-07-21 23:34:33.709551615 +0000 UTC");
    }

    fn batch(json: &str) -> Batch {
        let message = decode_request(json.as_bytes(), usize::MAX).unwrap();
        assert_eq!(message.resource_spans(), 1);
        Batch::receive(message, Arc::default(), true).unwrap().0
    }

    const REQUEST: &str = r#"{"resourceSpans":[{"schemaUrl":"https://example.org/1","resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"shop"}}],"entityRefs":[{"type":"service","schemaUrl":"https://e",
        "idKeys":["service.name"],"descriptionKeys":["service.version"]}]},"scopeSpans":[{"schemaUrl":"https://example.org/2",
        "scope":{"name":"http","version":"1.2","attributes":[{"key":"a","value":{"boolValue":true}}]},"spans":[{
        "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173",
        "traceState":"x=y","name":"GET /\u001b[2J","kind":2,"startTimeUnixNano":"1518568087133000000",
        "endTimeUnixNano":"1518568088000000000","droppedEventsCount":3,"status":{"code":2,"message":"no"},"attributes":[
        {"key":"int","value":{"intValue":"-5"}},{"key":"double","value":{"doubleValue":1.5}},
        {"key":"bytes","value":{"bytesValue":"AQI="}},{"key":"empty","value":{}},
        {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a\"b"},{"intValue":"7"},{"bytesValue":"AQI="},{}]}}},
        {"key":"map","value":{"kvlistValue":{"values":[{"key":"b","value":{"doubleValue":0.5}},{"key":"c"}]}}}],
        "events":[{"name":"cache miss","timeUnixNano":"1518568087500000000","droppedAttributesCount":1,
        "attributes":[{"key":"key","value":{"stringValue":"k"}}]}],"links":[{"traceId":"5b8efff798038103d269b633813fc60d",
        "spanId":"eee19b7ec3c1b175","traceState":"l=m","attributes":[{"key":"why","value":{"stringValue":"retry"}}]}]}]}]}]}"#;

    #[test]
    fn all_that_a_span_holds_is_shown_as_the_collector_shows_it() {
        let shown = batch(REQUEST).index().unwrap().show();
        let expected = r#"ResourceSpans #0
Resource SchemaURL: https://example.org/1
Resource attributes:
     -> service.name: Str(shop)
Resource entity refs:
     -> Entity ref #0:
          -> Type: service
          -> Schema URL: https://e
          -> ID keys:
               -> service.name
          -> Description keys:
               -> service.version
ScopeSpans #0
ScopeSpans SchemaURL: https://example.org/2
InstrumentationScope http 1.2
InstrumentationScope attributes:
     -> a: Bool(true)
Span #0
    Trace ID       : 5b8efff798038103d269b633813fc60c
    Parent ID      : eee19b7ec3c1b173
    ID             : eee19b7ec3c1b174
    Name           : GET /\u{1b}[2J
    Kind           : Server
    TraceState     : x=y
    Start time     : 2018-02-14 00:28:07.133 +0000 UTC
    End time       : 2018-02-14 00:28:08 +0000 UTC
    Status code    : Error
    Status message : no
    DroppedAttributesCount: 0
    DroppedEventsCount: 3
    DroppedLinksCount: 0
Attributes:
     -> int: Int(-5)
     -> double: Double(1.5)
     -> bytes: Bytes(AQI=)
     -> empty: Empty()
     -> list: Slice(["a\"b",7,"AQI=",null])
     -> map: Map({"b":0.5,"c":null})
Events:
SpanEvent #0
     -> Name: cache miss
     -> Timestamp: 2018-02-14 00:28:07.5 +0000 UTC
     -> DroppedAttributesCount: 1
     -> Attributes::
          -> key: Str(k)
Links:
SpanLink #0
     -> Trace ID: 5b8efff798038103d269b633813fc60d
     -> ID: eee19b7ec3c1b175
     -> TraceState: l=m
     -> DroppedAttributesCount: 0
     -> Attributes::
          -> why: Str(retry)
"#;
        assert_eq!(shown, expected);
    }

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (value, text) in [
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
            (1.0, "1"),
            (-0.1, "-0.1"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-7"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
        ] {
            assert_eq!(double(value), text);
        }
    }

    #[test]
    fn a_span_can_be_shown_on_one_line() {
        let shown = batch(REQUEST).index().unwrap().show_lines();
        let expected = r#"ResourceTraces #0 [https://example.org/1] service.name=shop
ScopeTraces #0 http@1.2 [https://example.org/2] a=true
GET /\u{1b}[2J 5b8efff798038103d269b633813fc60c eee19b7ec3c1b174 int=-5 double=1.5 bytes=AQI= empty= list=["a\"b",7,"AQI=",null] map={"b":0.5,"c":null}
"#;
        assert_eq!(shown, expected);
    }
}
