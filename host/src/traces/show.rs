//! Spans as people read them, for the `debug` exporter.

use std::fmt::Write as _;

use super::columns::Read;
use super::index::{Index, Owner};

const KINDS: [&str; 6] = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];
const STATUSES: [&str; 3] = ["Unset", "Ok", "Error"];

impl Index {
    /// Every live span with all that it holds, under its resource and scope.
    pub fn show(&self) -> String {
        let mut out = String::new();
        let mut within = None;
        for entry in self.live(Owner::Span) {
            let Some(span) = self.spans.get(entry) else { continue };
            if within != Some((span.resource, span.scope)) {
                within = Some((span.resource, span.scope));
                self.show_envelope(&mut out, span.resource as usize, span.scope as usize);
            }
            let parent = self.id::<8>(span.parent_span_id);
            let parent = if parent == [0; 8] { String::new() } else { hex(&parent) };
            let text = |slice| String::from_utf8_lossy(self.bytes(slice));
            let mut line = |name: &str, value: &str| {
                let _ = writeln!(out, "    {name:<15}: {value}");
            };
            line("Trace ID", &hex(&self.id::<16>(span.trace_id)));
            line("Parent ID", &parent);
            line("ID", &hex(&self.id::<8>(span.span_id)));
            line("Name", &text(span.name));
            line("Kind", KINDS.get(span.kind as usize).copied().unwrap_or_default());
            if span.trace_state.len > 0 {
                line("TraceState", &text(span.trace_state));
            }
            line("Start time", &time(span.start_time));
            line("End time", &time(span.end_time));
            line("Status code", STATUSES.get(span.status_code as usize).copied().unwrap_or_default());
            line("Status message", &text(span.status_message));
            self.show_attributes(&mut out, Owner::Span, entry, "    Attributes:");
            for event in span.events.range() {
                let Some(found) = self.events.get(event) else { continue };
                let _ = writeln!(out, "    Event {} at {}", text(found.name), time(found.time));
                self.show_attributes(&mut out, Owner::Event, event, "    Event attributes:");
            }
            for link in span.links.range() {
                let Some(found) = self.links.get(link) else { continue };
                let ids = (hex(&self.id::<16>(found.trace_id)), hex(&self.id::<8>(found.span_id)));
                let _ = writeln!(out, "    Link to trace {} span {}", ids.0, ids.1);
                self.show_attributes(&mut out, Owner::Link, link, "    Link attributes:");
            }
            let _ = writeln!(out);
        }
        out
    }

    /// Every live span on a line: its name, its ids, its attributes.
    pub fn show_lines(&self) -> String {
        let mut out = String::new();
        for entry in self.live(Owner::Span) {
            let Some(span) = self.spans.get(entry) else { continue };
            let name = String::from_utf8_lossy(self.bytes(span.name));
            let ids = (hex(&self.id::<16>(span.trace_id)), hex(&self.id::<8>(span.span_id)));
            let _ = write!(out, "{name} {} {}", ids.0, ids.1);
            for (key, value) in self.entry_attributes(Owner::Span, entry) {
                let _ = write!(out, " {key}={}", plain(&value));
            }
            let _ = writeln!(out);
        }
        out
    }

    fn show_envelope(&self, out: &mut String, resource: usize, scope: usize) {
        self.show_attributes(out, Owner::Resource, resource, "Resource attributes:");
        if let Some(found) = self.scopes.get(scope) {
            let text = |slice| String::from_utf8_lossy(self.bytes(slice));
            let _ = writeln!(out, "InstrumentationScope {} {}", text(found.name), text(found.version));
        }
        self.show_attributes(out, Owner::Scope, scope, "Scope attributes:");
    }

    fn show_attributes(&self, out: &mut String, owner: Owner, entry: usize, title: &str) {
        let attributes = self.entry_attributes(owner, entry);
        if attributes.is_empty() {
            return;
        }
        let _ = writeln!(out, "{title}");
        for (key, value) in attributes {
            let value = match value {
                Read::Text(text) => format!("Str({text})"),
                Read::Boolean(value) => format!("Bool({value})"),
                Read::Int(value) => format!("Int({value})"),
                Read::Double(value) => format!("Double({value})"),
                Read::Bytes(bytes) => format!("Bytes({})", hex(&bytes)),
                Read::Json(json) if json == "{}" => "Empty()".into(),
                Read::Json(json) => json,
            };
            let _ = writeln!(out, "     -> {key}: {value}");
        }
    }
}

fn plain(value: &Read) -> String {
    match value {
        Read::Text(text) => text.clone(),
        Read::Boolean(value) => value.to_string(),
        Read::Int(value) => value.to_string(),
        Read::Double(value) => value.to_string(),
        Read::Bytes(bytes) => hex(bytes),
        Read::Json(json) => json.clone(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn time(nanoseconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanoseconds);
    humantime::format_rfc3339_nanos(time).to_string()
}
