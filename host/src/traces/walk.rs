//! One walk over a request both validates it and, where a plugin will look at
//! it, indexes it. Nothing is decoded into objects.
//!
//! What is refused: lengths beyond their message, wire types other than OTLP's,
//! text that is not UTF-8, unclosed groups, values nested over `VALUE_DEPTH`.
//! Unknown fields are stepped over wherever they stand, and fields may come in
//! any order: a Collector upstream writes every message in descending order.

mod values;

use bytes::Bytes;

use super::index::{Extent, Holder, Index, NONE, Owner, ResourceEntry, Run, ScopeEntry, Slice, SpanEntry};
use super::wire::{FIXED32, FIXED64, Fault, LENGTH, VARINT, Wire, fixed32, fixed64, length, skip, tag, varint};
use crate::telemetry::Traces;
use values::id;

/// How deep arrays and key-value lists may be nested.
pub const VALUE_DEPTH: u32 = 64;

/// Offsets are `u32`, and edits put their values behind the wire's end.
pub const MESSAGE_LIMIT: usize = 1 << 31;

/// What a walk found.
pub(super) struct Walked {
    pub spans: usize,
    /// Spans with ids that a back end would refuse the whole request for.
    pub invalid: usize,
    /// The traces that spans with valid ids belong to (`Traces::mark`), runs once.
    pub marks: Vec<u64>,
    pub index: Index,
}

/// Validates; the index that comes back is empty.
pub(super) fn validate(wire: &Bytes) -> Wire<Walked> {
    Walker::<false>::run(wire)
}

/// Validates and indexes in the same walk, which costs less than validating
/// alone would: a key that was seen before is matched and not checked again.
pub(super) fn index(wire: &Bytes) -> Wire<Walked> {
    Walker::<true>::run(wire)
}

struct Walker<'a, const INDEX: bool> {
    bytes: &'a [u8],
    index: Index,
    spans: usize,
    invalid: usize,
    marks: Vec<u64>,
    /// What is known of each key. The first five stand for the start of each
    /// kind of owner, so that a key's number is its place less five.
    known: Vec<Known>,
    /// The place of the key that came last.
    previous: usize,
    /// The last attribute's key stood in the same owner before.
    duplicate: bool,
}

/// A key as the walk sees it again and again.
#[derive(Clone, Copy)]
struct Known {
    text: Slice,
    /// The places of the two keys that followed it last: SDKs write attributes
    /// in the same order span after span.
    followers: [u32; 2],
    /// For each kind of owner, one more than the entry that held it last.
    holders: [u32; 5],
}

impl Known {
    fn new(text: Slice) -> Self {
        Self { text, followers: [NONE; 2], holders: [0; 5] }
    }
}

#[inline(always)]
fn expect(found: u8, wanted: u8, field: &'static str, at: usize) -> Wire<()> {
    if found == wanted { Ok(()) } else { Err(Fault::WireType(field).at(at)) }
}

/// A varint field's value, which must end inside the message.
#[inline(always)]
fn number(bytes: &[u8], kind: u8, field: &'static str, at: usize, end: usize) -> Wire<(u64, usize)> {
    expect(kind, VARINT, field, at)?;
    let (value, next) = varint(bytes, at)?;
    if next > end { Err(Fault::Truncated.at(at)) } else { Ok((value, next)) }
}

/// An enumeration has 32 bits, whatever the varint has; what OTLP does not name reads as unspecified.
#[inline(always)]
fn enumeration(value: u64, last: u32) -> u8 {
    let value = value as u32;
    if value <= last { value as u8 } else { 0 }
}

#[inline(always)]
fn slice(start: usize, end: usize) -> Slice {
    Slice { at: start as u32, len: (end - start) as u32 }
}

#[inline(always)]
fn extent(start: usize, content: usize, end: usize) -> Extent {
    Extent { start: start as u32, content: content as u32, end: end as u32 }
}

impl<'a, const INDEX: bool> Walker<'a, INDEX> {
    fn run(wire: &'a Bytes) -> Wire<Walked> {
        if wire.len() > MESSAGE_LIMIT {
            return Err(Fault::Size(MESSAGE_LIMIT).at(0));
        }
        let mut walker = Walker::<INDEX> {
            bytes: wire,
            index: Index::new(if INDEX { wire.clone() } else { Bytes::new() }),
            spans: 0,
            invalid: 0,
            marks: vec![],
            known: vec![Known::new(Slice::default()); Owner::ALL.len()],
            previous: 0,
            duplicate: false,
        };
        if INDEX {
            // Room for what a request of this size usually holds: growing costs a copy.
            walker.index.spans.reserve((wire.len() / 256).min(4096));
            walker.index.attributes[Owner::Span as usize].reserve((wire.len() / 40).min(32_768));
        }
        walker.request()?;
        Ok(Walked { spans: walker.spans, invalid: walker.invalid, marks: walker.marks, index: walker.index })
    }

    fn request(&mut self) -> Wire<()> {
        let (bytes, end) = (self.bytes, self.bytes.len());
        let mut at = 0;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            if field == 1 {
                expect(kind, LENGTH, "resource_spans", at)?;
                let (content, stop) = length(bytes, next, end)?;
                self.resource_spans(at, content, stop)?;
                at = stop;
            } else {
                at = skip(bytes, field, kind, next, end)?;
            }
        }
        Ok(())
    }

    fn resource_spans(&mut self, start: usize, content: usize, end: usize) -> Wire<()> {
        let bytes = self.bytes;
        let entry = self.index.resources.len();
        if INDEX {
            self.index.resources.push(ResourceEntry {
                extent: extent(start, content, end),
                message: Extent::ABSENT,
                holder: Holder::new(self.index.attributes[Owner::Resource as usize].len()),
                scopes: Run { first: self.index.scopes.len() as u32, count: 0 },
                touched: false,
                live: 0,
                spans: 0,
            });
        }
        let mut at = content;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            at = match field {
                1 => {
                    expect(kind, LENGTH, "resource", at)?;
                    let (inside, stop) = length(bytes, next, end)?;
                    self.resource(entry, inside, stop)?;
                    if INDEX && let Some(resource) = self.index.resources.get_mut(entry) {
                        self.index.irregular |= resource.message.is_present();
                        resource.message = extent(at, inside, stop);
                    }
                    stop
                }
                2 => {
                    expect(kind, LENGTH, "scope_spans", at)?;
                    let (inside, stop) = length(bytes, next, end)?;
                    self.scope_spans(entry, at, inside, stop)?;
                    stop
                }
                3 => self.text(kind, "schema_url", next, end)?.1,
                _ => skip(bytes, field, kind, next, end)?,
            };
        }
        if INDEX {
            let (scopes, attributes) =
                (self.index.scopes.len() as u32, self.index.attributes[Owner::Resource as usize].len() as u32);
            if let Some(resource) = self.index.resources.get_mut(entry) {
                resource.scopes.count = scopes - resource.scopes.first;
                resource.holder.attributes.count = attributes - resource.holder.attributes.first;
                resource.live = resource.spans;
            }
        }
        Ok(())
    }

    fn resource(&mut self, entry: usize, at: usize, end: usize) -> Wire<()> {
        let bytes = self.bytes;
        self.previous = Owner::Resource as usize;
        let mut at = at;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            at = match field {
                1 => {
                    let stop = self.key_value(Owner::Resource, entry, kind, at, next, end)?;
                    if self.duplicate
                        && let Some(resource) = self.index.resources.get_mut(entry)
                    {
                        resource.holder.duplicates = true;
                    }
                    stop
                }
                2 => number(bytes, kind, "dropped_attributes_count", next, end)?.1,
                3 => {
                    expect(kind, LENGTH, "entity_refs", at)?;
                    let (inside, stop) = length(bytes, next, end)?;
                    self.entity_ref(inside, stop)?;
                    stop
                }
                _ => skip(bytes, field, kind, next, end)?,
            };
        }
        Ok(())
    }

    fn entity_ref(&mut self, at: usize, end: usize) -> Wire<()> {
        let mut at = at;
        while at < end {
            let (field, kind, next) = tag(self.bytes, at)?;
            at = match field {
                1 => self.text(kind, "schema_url", next, end)?.1,
                2 => self.text(kind, "type", next, end)?.1,
                3 => self.text(kind, "id_keys", next, end)?.1,
                4 => self.text(kind, "description_keys", next, end)?.1,
                _ => skip(self.bytes, field, kind, next, end)?,
            };
        }
        Ok(())
    }

    fn scope_spans(&mut self, resource: usize, start: usize, content: usize, end: usize) -> Wire<()> {
        let bytes = self.bytes;
        let entry = self.index.scopes.len();
        if INDEX {
            self.index.scopes.push(ScopeEntry {
                extent: extent(start, content, end),
                message: Extent::ABSENT,
                holder: Holder::new(self.index.attributes[Owner::Scope as usize].len()),
                name: Slice::default(),
                version: Slice::default(),
                resource: resource as u32,
                spans: Run { first: self.index.spans.len() as u32, count: 0 },
                touched: false,
                live: 0,
            });
        }
        let mut at = content;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            at = match field {
                1 => {
                    expect(kind, LENGTH, "scope", at)?;
                    let (inside, stop) = length(bytes, next, end)?;
                    self.scope(entry, inside, stop)?;
                    if INDEX && let Some(scope) = self.index.scopes.get_mut(entry) {
                        self.index.irregular |= scope.message.is_present();
                        scope.message = extent(at, inside, stop);
                    }
                    stop
                }
                2 => {
                    expect(kind, LENGTH, "spans", at)?;
                    let (inside, stop) = length(bytes, next, end)?;
                    self.span(resource, entry, at, inside, stop)?;
                    stop
                }
                3 => self.text(kind, "schema_url", next, end)?.1,
                _ => skip(bytes, field, kind, next, end)?,
            };
        }
        if INDEX {
            let (spans, attributes) =
                (self.index.spans.len() as u32, self.index.attributes[Owner::Scope as usize].len() as u32);
            if let Some(scope) = self.index.scopes.get_mut(entry) {
                scope.spans.count = spans - scope.spans.first;
                scope.live = scope.spans.count;
                scope.holder.attributes.count = attributes - scope.holder.attributes.first;
                let count = scope.spans.count;
                if let Some(resource) = self.index.resources.get_mut(resource) {
                    resource.spans += count;
                }
            }
        }
        Ok(())
    }

    fn scope(&mut self, entry: usize, at: usize, end: usize) -> Wire<()> {
        let bytes = self.bytes;
        self.previous = Owner::Scope as usize;
        let mut at = at;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            at = match field {
                1 | 2 => {
                    let (text, stop) = self.text(kind, if field == 1 { "name" } else { "version" }, next, end)?;
                    if INDEX && let Some(scope) = self.index.scopes.get_mut(entry) {
                        *(if field == 1 { &mut scope.name } else { &mut scope.version }) = text;
                    }
                    stop
                }
                3 => {
                    let stop = self.key_value(Owner::Scope, entry, kind, at, next, end)?;
                    if self.duplicate
                        && let Some(scope) = self.index.scopes.get_mut(entry)
                    {
                        scope.holder.duplicates = true;
                    }
                    stop
                }
                4 => number(bytes, kind, "dropped_attributes_count", next, end)?.1,
                _ => skip(bytes, field, kind, next, end)?,
            };
        }
        Ok(())
    }

    fn span(&mut self, resource: usize, scope: usize, start: usize, content: usize, end: usize) -> Wire<()> {
        let bytes = self.bytes;
        self.previous = Owner::Span as usize;
        let entry = self.index.spans.len();
        let mut span = SpanEntry {
            entry: entry as u32,
            extent: extent(start, content, end),
            holder: Holder::new(self.index.attributes[Owner::Span as usize].len()),
            trace_id: NONE,
            span_id: NONE,
            parent_span_id: NONE,
            name: Slice::default(),
            name_field: (NONE, NONE),
            trace_state: Slice::default(),
            flags: 0,
            start_time: 0,
            end_time: 0,
            status: Extent::ABSENT,
            status_message: Slice::default(),
            events: Run { first: self.index.events.len() as u32, count: 0 },
            links: Run { first: self.index.links.len() as u32, count: 0 },
            resource: resource as u32,
            scope: scope as u32,
            tenant: 0,
            kind: 0,
            status_code: 0,
            name_edited: false,
            status_edited: false,
            live: true,
            valid_ids: true,
        };
        let mut at = content;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            at = match field {
                1 => id::<16>(bytes, kind, "trace_id", next, end, &mut span.trace_id)?,
                2 => id::<8>(bytes, kind, "span_id", next, end, &mut span.span_id)?,
                3 => {
                    let (text, stop) = self.text(kind, "trace_state", next, end)?;
                    span.trace_state = text;
                    stop
                }
                4 => {
                    let stop = id::<8>(bytes, kind, "parent_span_id", next, end, &mut span.parent_span_id)?;
                    // All zeros is a root that wrote its parent out; another length is nobody's id.
                    span.valid_ids &= matches!(stop - length(bytes, next, end)?.0, 0 | 8);
                    stop
                }
                5 => {
                    let (text, stop) = self.text(kind, "name", next, end)?;
                    (span.name, span.name_field) = (text, (at as u32, stop as u32));
                    stop
                }
                6 => {
                    let (value, stop) = number(bytes, kind, "kind", next, end)?;
                    span.kind = enumeration(value, 5);
                    stop
                }
                7 | 8 => {
                    let name = if field == 7 { "start_time_unix_nano" } else { "end_time_unix_nano" };
                    expect(kind, FIXED64, name, at)?;
                    let (value, stop) = fixed64(bytes, next, end)?;
                    *(if field == 7 { &mut span.start_time } else { &mut span.end_time }) = value;
                    stop
                }
                9 => {
                    let stop = self.key_value(Owner::Span, entry, kind, at, next, end)?;
                    span.holder.duplicates |= self.duplicate;
                    stop
                }
                10 => number(bytes, kind, "dropped_attributes_count", next, end)?.1,
                11 => {
                    expect(kind, LENGTH, "events", at)?;
                    let (inside, stop) = length(bytes, next, end)?;
                    self.event(entry, at, inside, stop)?;
                    stop
                }
                12 => number(bytes, kind, "dropped_events_count", next, end)?.1,
                13 => {
                    expect(kind, LENGTH, "links", at)?;
                    let (inside, stop) = length(bytes, next, end)?;
                    span.valid_ids &= self.link(entry, at, inside, stop)?;
                    stop
                }
                14 => number(bytes, kind, "dropped_links_count", next, end)?.1,
                15 => {
                    expect(kind, LENGTH, "status", at)?;
                    let (inside, stop) = length(bytes, next, end)?;
                    self.status(&mut span, inside, stop)?;
                    if INDEX {
                        self.index.irregular |= span.status.is_present();
                    }
                    span.status = extent(at, inside, stop);
                    stop
                }
                16 => {
                    expect(kind, FIXED32, "flags", at)?;
                    let (value, stop) = fixed32(bytes, next, end)?;
                    span.flags = value;
                    stop
                }
                _ => skip(bytes, field, kind, next, end)?,
            };
        }
        span.valid_ids &= span.trace_id != NONE && span.span_id != NONE;
        self.spans += 1;
        self.invalid += usize::from(!span.valid_ids);
        if span.valid_ids {
            self.mark(span.trace_id);
        }
        if INDEX {
            let attributes = self.index.attributes[Owner::Span as usize].len() as u32;
            span.holder.attributes.count = attributes - span.holder.attributes.first;
            span.events.count = self.index.events.len() as u32 - span.events.first;
            span.links.count = self.index.links.len() as u32 - span.links.first;
            self.index.spans.push(span);
        }
        Ok(())
    }

    #[inline(always)]
    fn mark(&mut self, trace_id: u32) {
        let Some(trace) = self.bytes.get(trace_id as usize..).and_then(|rest| rest.first_chunk()) else { return };
        let mark = Traces::mark(*trace);
        if self.marks.last() != Some(&mark) {
            self.marks.push(mark);
        }
    }
}
