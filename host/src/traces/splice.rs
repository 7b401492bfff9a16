//! The one splice at the end of a chain: what no edit touched is copied in runs,
//! what changed is written anew. It is written from its end to its start, so
//! that a message's length is known when its prefix is due, however deep the
//! change was.

use super::index::{Extent, Index, Kind, NONE, Owner, Run, SpanEntry, State, Value};
use super::message::{Message, PREFIX};
use super::wire::{fields, varint_length};

/// Tags of length-delimited fields, and of the three scalars that are written.
mod tags {
    pub const RESOURCE_SPANS: u8 = 1 << 3 | 2;
    pub const RESOURCE: u8 = 1 << 3 | 2;
    pub const SCOPE_SPANS: u8 = 2 << 3 | 2;
    pub const SCOPE: u8 = 1 << 3 | 2;
    pub const SPAN: u8 = 2 << 3 | 2;
    pub const NAME: u8 = 5 << 3 | 2;
    pub const EVENT: u8 = 11 << 3 | 2;
    pub const LINK: u8 = 13 << 3 | 2;
    pub const STATUS: u8 = 15 << 3 | 2;
    pub const STATUS_MESSAGE: u8 = 2 << 3 | 2;
    pub const STATUS_CODE: u8 = 3 << 3;
    pub const KEY: u8 = 1 << 3 | 2;
    pub const VALUE: u8 = 2 << 3 | 2;
}

/// A message written backwards, into a buffer that has room for all of it.
struct Backwards {
    out: Vec<u8>,
    /// Where the last byte written stands; what is before it is free.
    at: usize,
}

impl Backwards {
    fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() > self.at {
            // The estimate of the growth was short. It is an upper bound by
            // construction, so this is the slow path of a bug, not of an input.
            let more = bytes.len().max(self.out.len());
            let mut out = vec![0; more];
            out.extend_from_slice(&self.out);
            (self.out, self.at) = (out, self.at + more);
        }
        let start = self.at - bytes.len();
        if let Some(room) = self.out.get_mut(start..self.at) {
            room.copy_from_slice(bytes);
        }
        self.at = start;
    }

    fn byte(&mut self, byte: u8) {
        match self.at.checked_sub(1).and_then(|at| Some((at, self.out.get_mut(at)?))) {
            Some((at, room)) => {
                *room = byte;
                self.at = at;
            }
            None => self.bytes(&[byte]),
        }
    }

    /// The last byte, which is the only one without its high bit, goes in first.
    fn varint(&mut self, value: u64) {
        let mut shift = 7 * (varint_length(value) - 1);
        self.byte((value >> shift) as u8);
        while shift > 0 {
            shift -= 7;
            self.byte((value >> shift) as u8 | 0x80);
        }
    }

    /// Puts length and tag before all that was written since `end`.
    fn close(&mut self, tag: u8, end: usize) {
        let length = (self.out.len() - self.at).saturating_sub(end);
        self.varint(length as u64);
        self.byte(tag);
    }

    /// Takes back all that was written since `end`.
    fn rewind(&mut self, end: usize) {
        self.at = self.out.len() - end;
    }

    /// How much was written so far, counted from the end.
    fn written(&self) -> usize {
        self.out.len() - self.at
    }
}

/// A change inside a span: what stands at `start..end` of the wire is replaced.
struct Change {
    start: u32,
    end: u32,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Attribute(u32),
    Name,
    Status,
    Event(u32),
    Link(u32),
}

/// Which of the live spans are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    All,
    Tenant(u32),
    /// Entries from the first up to, and without, the second.
    Range(u32, u32),
}

impl Chosen {
    pub fn holds(self, span: &SpanEntry) -> bool {
        span.live
            && match self {
                Self::All => true,
                Self::Tenant(tenant) => span.tenant == tenant,
                Self::Range(from, to) => (from..to).contains(&span.entry),
            }
    }
}

pub(super) struct Splice<'a> {
    pub index: &'a Index,
    pub chosen: Chosen,
    /// At most so many bytes will be written.
    pub room: usize,
}

impl Splice<'_> {
    /// The edited request; answers it with the number of its spans.
    pub fn write(&self) -> (Message, usize) {
        let wire = &self.index.wire;
        let capacity = self.room + 64 + PREFIX;
        let mut out = Backwards { out: vec![0; capacity], at: capacity };
        let mut changes = vec![];
        let mut spans = 0;
        let mut cursor = wire.len() as u32;
        for (entry, resource) in self.index.resources.iter().enumerate().rev() {
            if self.chosen == Chosen::All && !resource.touched {
                spans += resource.spans as usize;
                continue;
            }
            self.copy(&mut out, resource.extent.end, cursor);
            cursor = resource.extent.start;
            spans += self.resource_spans(&mut out, entry, &mut changes);
        }
        self.copy(&mut out, 0, cursor);
        (Message::from_backwards(out.out, out.at), spans)
    }

    fn copy(&self, out: &mut Backwards, from: u32, to: u32) {
        out.bytes(self.index.wire.get(from as usize..to as usize).unwrap_or_default());
    }

    /// Whether any span of these scopes can be among the chosen ones.
    fn is_within(&self, scopes: Run) -> bool {
        let Chosen::Range(from, to) = self.chosen else { return true };
        let scopes = self.index.scopes.get(scopes.range()).unwrap_or_default();
        let (Some(first), Some(last)) = (scopes.first(), scopes.last()) else { return false };
        first.spans.first < to && last.spans.first + last.spans.count > from
    }

    /// Writes a `ResourceSpans` unless it lost all its spans; answers how many it has.
    fn resource_spans(&self, out: &mut Backwards, entry: usize, changes: &mut Vec<Change>) -> usize {
        let Some(resource) = self.index.resources.get(entry) else { return 0 };
        if !self.is_within(resource.scopes) {
            return 0;
        }
        let end = out.written();
        let mut spans = 0;
        let mut cursor = resource.extent.end;
        let mut message = (resource.holder.dirty && resource.message.is_present()).then_some(resource.message);
        if resource.holder.dirty && !resource.message.is_present() {
            self.holder(out, Owner::Resource, entry, Extent::ABSENT, tags::RESOURCE);
        }
        for scope in resource.scopes.range().rev() {
            let found = self.index.scopes.get(scope);
            let Some(extent) = found.map(|scope| scope.extent) else { continue };
            if let Some(place) = message.filter(|message| message.start > extent.start) {
                self.copy(out, place.end, cursor);
                self.holder(out, Owner::Resource, entry, place, tags::RESOURCE);
                (cursor, message) = (place.start, None);
            }
            if self.chosen == Chosen::All && found.is_some_and(|scope| !scope.touched && !scope.holder.dirty) {
                spans += found.map_or(0, |scope| scope.spans.count as usize);
                continue;
            }
            self.copy(out, extent.end, cursor);
            cursor = extent.start;
            spans += self.scope_spans(out, scope, changes);
        }
        if let Some(found) = message {
            self.copy(out, found.end, cursor);
            self.holder(out, Owner::Resource, entry, found, tags::RESOURCE);
            cursor = found.start;
        }
        self.copy(out, resource.extent.content, cursor);
        if spans == 0 && (resource.spans > 0 || self.chosen != Chosen::All) {
            out.rewind(end);
            return 0;
        }
        out.close(tags::RESOURCE_SPANS, end);
        spans
    }

    fn scope_spans(&self, out: &mut Backwards, entry: usize, changes: &mut Vec<Change>) -> usize {
        let Some(scope) = self.index.scopes.get(entry) else { return 0 };
        if !self.is_within(Run { first: entry as u32, count: 1 }) {
            return 0;
        }
        let end = out.written();
        let mut spans = 0;
        let mut cursor = scope.extent.end;
        let mut message = (scope.holder.dirty && scope.message.is_present()).then_some(scope.message);
        if scope.holder.dirty && !scope.message.is_present() {
            self.holder(out, Owner::Scope, entry, Extent::ABSENT, tags::SCOPE);
        }
        for span in self.index.spans.get(scope.spans.range()).unwrap_or_default().iter().rev() {
            if let Some(found) = message.filter(|message| message.start > span.extent.start) {
                self.copy(out, found.end, cursor);
                self.holder(out, Owner::Scope, entry, found, tags::SCOPE);
                (cursor, message) = (found.start, None);
            }
            if self.chosen.holds(span) {
                spans += 1;
                if !span.holder.dirty {
                    continue;
                }
                self.copy(out, span.extent.end, cursor);
                self.span(out, span, changes);
            } else {
                self.copy(out, span.extent.end, cursor);
            }
            cursor = span.extent.start;
        }
        if let Some(found) = message {
            self.copy(out, found.end, cursor);
            self.holder(out, Owner::Scope, entry, found, tags::SCOPE);
            cursor = found.start;
        }
        self.copy(out, scope.extent.content, cursor);
        if spans == 0 && (scope.spans.count > 0 || self.chosen != Chosen::All) {
            out.rewind(end);
            return 0;
        }
        out.close(tags::SCOPE_SPANS, end);
        spans
    }

    fn span(&self, out: &mut Backwards, span: &SpanEntry, changes: &mut Vec<Change>) {
        let end = out.written();
        let mut cursor = span.extent.end;
        self.added(out, Owner::Span, span.entry as usize);
        if span.name_edited && span.name_field.0 == NONE {
            self.name(out, span);
        }
        if span.status_edited && !span.status.is_present() {
            self.status(out, span);
        }
        self.gather(span, changes);
        for change in changes.iter() {
            self.copy(out, change.end, cursor);
            match change.what {
                What::Attribute(attribute) => self.attribute(out, Owner::Span, attribute as usize),
                What::Name => self.name(out, span),
                What::Status => self.status(out, span),
                What::Event(event) => {
                    self.holder(out, Owner::Event, event as usize, self.extent(Owner::Event, event), tags::EVENT)
                }
                What::Link(link) => {
                    self.holder(out, Owner::Link, link as usize, self.extent(Owner::Link, link), tags::LINK)
                }
            }
            cursor = change.start;
        }
        self.copy(out, span.extent.content, cursor);
        out.close(tags::SPAN, end);
    }

    /// What changed inside a span, the last in the wire first.
    fn gather(&self, span: &SpanEntry, changes: &mut Vec<Change>) {
        changes.clear();
        let range = span.holder.attributes.range();
        let attributes = self.index.attributes[Owner::Span as usize].get(range.clone()).unwrap_or_default();
        for (at, attribute) in range.zip(attributes) {
            if attribute.state != State::Wire {
                let what = What::Attribute(at as u32);
                changes.push(Change { start: attribute.start, end: attribute.end, what });
            }
        }
        if span.name_edited && span.name_field.0 != NONE {
            changes.push(Change { start: span.name_field.0, end: span.name_field.1, what: What::Name });
        }
        if span.status_edited && span.status.is_present() {
            changes.push(Change { start: span.status.start, end: span.status.end, what: What::Status });
        }
        for (owner, run) in [(Owner::Event, span.events), (Owner::Link, span.links)] {
            for entry in run.range() {
                if self.index.holder(owner, entry).is_some_and(|holder| holder.dirty) {
                    let extent = self.extent(owner, entry as u32);
                    let what = match owner {
                        Owner::Event => What::Event(entry as u32),
                        _ => What::Link(entry as u32),
                    };
                    changes.push(Change { start: extent.start, end: extent.end, what });
                }
            }
        }
        changes.sort_unstable_by_key(|change| std::cmp::Reverse(change.start));
    }

    fn extent(&self, owner: Owner, entry: u32) -> Extent {
        let entry = entry as usize;
        match owner {
            Owner::Event => self.index.events.get(entry).map(|event| event.extent),
            Owner::Link => self.index.links.get(entry).map(|link| link.extent),
            Owner::Span | Owner::Resource | Owner::Scope => None,
        }
        .unwrap_or(Extent::ABSENT)
    }

    /// Writes a message of which only attributes changed, with its tag.
    fn holder(&self, out: &mut Backwards, owner: Owner, entry: usize, extent: Extent, tag: u8) {
        let end = out.written();
        self.added(out, owner, entry);
        if extent.is_present() {
            let mut cursor = extent.end;
            let run = self.index.holder(owner, entry).map(|holder| holder.attributes).unwrap_or_default();
            for at in run.range().rev() {
                let Some(attribute) = self.index.attributes[owner as usize].get(at) else { continue };
                if attribute.state != State::Wire {
                    self.copy(out, attribute.end, cursor);
                    self.attribute(out, owner, at);
                    cursor = attribute.start;
                }
            }
            self.copy(out, extent.content, cursor);
        } else if out.written() == end {
            // One edit made it and a later one took its only attribute away.
            return;
        }
        out.close(tag, end);
    }

    /// Writes the attributes whose keys the owner did not have.
    fn added(&self, out: &mut Backwards, owner: Owner, entry: usize) {
        for column in self.index.added[owner as usize].iter().rev() {
            if let Some(Some(value)) = column.values.get(entry) {
                let end = out.written();
                self.value(out, *value, &[]);
                self.key(out, column.key);
                out.close(attributes_tag(owner), end);
            }
        }
    }

    fn attribute(&self, out: &mut Backwards, owner: Owner, at: usize) {
        let Some(attribute) = self.index.attributes[owner as usize].get(at) else { return };
        if attribute.state == State::Removed {
            return;
        }
        let end = out.written();
        if attribute.plain {
            self.value(out, attribute.value, &[]);
            self.key(out, attribute.key);
        } else {
            // It holds what OTLP does not know, or knows only once: keep all but the value's member.
            let wire = &self.index.wire;
            let (start, stop) = (attribute.start as usize, attribute.end as usize);
            let content = fields(wire, start, stop).next().map_or(stop, |field| field.value);
            let mut unknown = vec![];
            let mut others = vec![];
            for field in fields(wire, content, stop) {
                if field.number == 2 {
                    let inside = fields(wire, field.value, field.end).filter(|inner| inner.number > 7);
                    unknown.extend(inside.map(|inner| (inner.start, inner.end)));
                } else {
                    others.push((field.start, field.end));
                }
            }
            self.value(out, attribute.value, &unknown);
            self.pieces(out, &others);
        }
        out.close(attributes_tag(owner), end);
    }

    /// Writes the `value` field of a `KeyValue`, after the unknown fields it had.
    fn value(&self, out: &mut Backwards, value: Value, unknown: &[(usize, usize)]) {
        let end = out.written();
        let start = out.written();
        out.bytes(self.index.bytes(value.slice));
        let tag = match value.kind {
            Kind::Text => Some(1 << 3 | 2),
            Kind::Boolean => Some(2 << 3),
            Kind::Int => Some(3 << 3),
            Kind::Double => Some(4 << 3 | 1),
            Kind::Bytes => Some(7 << 3 | 2),
            // The slice is the whole content already.
            Kind::Nested | Kind::Empty => None,
        };
        match (value.kind, tag) {
            (Kind::Text | Kind::Bytes, Some(tag)) => out.close(tag, start),
            (_, Some(tag)) => out.byte(tag),
            (_, None) => {}
        }
        self.pieces(out, unknown);
        out.close(tags::VALUE, end);
    }

    fn key(&self, out: &mut Backwards, key: u32) {
        let end = out.written();
        out.bytes(self.index.key(key));
        out.close(tags::KEY, end);
    }

    fn name(&self, out: &mut Backwards, span: &SpanEntry) {
        let end = out.written();
        out.bytes(self.index.bytes(span.name));
        out.close(tags::NAME, end);
    }

    fn status(&self, out: &mut Backwards, span: &SpanEntry) {
        let end = out.written();
        if span.status_code != 0 {
            out.varint(u64::from(span.status_code));
            out.byte(tags::STATUS_CODE);
        }
        if span.status_message.len > 0 {
            let start = out.written();
            out.bytes(self.index.bytes(span.status_message));
            out.close(tags::STATUS_MESSAGE, start);
        }
        if span.status.is_present() {
            let (content, stop) = (span.status.content as usize, span.status.end as usize);
            let kept = fields(&self.index.wire, content, stop).filter(|field| !matches!(field.number, 2 | 3));
            let kept: Vec<_> = kept.map(|field| (field.start, field.end)).collect();
            self.pieces(out, &kept);
        }
        out.close(tags::STATUS, end);
    }

    /// Copies ranges of the wire, which come in wire order.
    fn pieces(&self, out: &mut Backwards, ranges: &[(usize, usize)]) {
        for &(start, stop) in ranges.iter().rev() {
            out.bytes(self.index.wire.get(start..stop).unwrap_or_default());
        }
    }
}

fn attributes_tag(owner: Owner) -> u8 {
    let field = match owner {
        Owner::Span => 9,
        Owner::Resource => 1,
        Owner::Scope | Owner::Event => 3,
        Owner::Link => 4,
    };
    field << 3 | 2
}
