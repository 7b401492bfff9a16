//! What a walk found, by offset: where the spans are, where each attribute is,
//! keys interned. Offsets at or past the wire's end point into `arena`, where
//! edits put their values; so a read does not ask whether a value was edited.

use std::hash::BuildHasher;

use bytes::Bytes;
use hashbrown::HashTable;

/// Absent, where an offset is expected.
pub(super) const NONE: u32 = u32::MAX;

/// Bytes in the wire, or in the arena where `at` is past the wire's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slice {
    pub at: u32,
    pub len: u32,
}

/// A length-delimited message in the wire: its tag, its first content byte, its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub start: u32,
    pub content: u32,
    pub end: u32,
}

impl Extent {
    pub const ABSENT: Self = Self { start: NONE, content: NONE, end: NONE };

    pub fn is_present(self) -> bool {
        self.start != NONE
    }
}

/// A run of consecutive entries in one of the index's tables.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Run {
    pub first: u32,
    pub count: u32,
}

impl Run {
    pub fn range(self) -> std::ops::Range<usize> {
        self.first as usize..(self.first + self.count) as usize
    }
}

/// The member of an `AnyValue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Text = 1,
    Boolean,
    Int,
    Double,
    Bytes,
    /// An array or a key-value list. The slice is the whole `AnyValue`'s content,
    /// because members of one list may come in several pieces.
    Nested,
    /// An `AnyValue` without a member, which is valid (OTLP: "empty value").
    Empty,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    pub slice: Slice,
    pub kind: Kind,
}

/// An attribute is the `KeyValue` between `start` and `end`, its tag included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute {
    pub start: u32,
    pub end: u32,
    pub value: Value,
    pub key: u32,
    /// Nothing but one key and one value in it, so it can be written anew without loss.
    pub plain: bool,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Wire,
    Edited,
    Removed,
}

/// What a resource, scope, span, event and link have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub attributes: Run,
    /// A key occurs twice among the attributes: look at all of them.
    pub duplicates: bool,
    /// Something in this message changed: it has to be written anew.
    pub dirty: bool,
}

impl Holder {
    pub fn new(first: usize) -> Self {
        Self { attributes: Run { first: first as u32, count: 0 }, duplicates: false, dirty: false }
    }
}

#[derive(Debug, Clone)]
pub(super) struct ResourceEntry {
    pub extent: Extent,
    /// The `resource` field within.
    pub message: Extent,
    pub holder: Holder,
    pub scopes: Run,
    /// Something below changed: this envelope's length has to be written anew.
    pub touched: bool,
    /// Spans that are still live; an envelope that lost its last one is not written.
    pub live: u32,
    pub spans: u32,
}

#[derive(Debug, Clone)]
pub(super) struct ScopeEntry {
    pub extent: Extent,
    pub message: Extent,
    pub holder: Holder,
    pub name: Slice,
    pub version: Slice,
    pub resource: u32,
    pub spans: Run,
    pub touched: bool,
    pub live: u32,
}

#[derive(Debug, Clone)]
pub(super) struct SpanEntry {
    /// Its own place in the table.
    pub entry: u32,
    pub extent: Extent,
    pub holder: Holder,
    pub trace_id: u32,
    pub span_id: u32,
    pub parent_span_id: u32,
    pub name: Slice,
    /// From the tag to the end of the last `name` field; `NONE` where there is none.
    pub name_field: (u32, u32),
    pub trace_state: Slice,
    pub flags: u32,
    pub start_time: u64,
    pub end_time: u64,
    pub status: Extent,
    pub status_message: Slice,
    pub events: Run,
    pub links: Run,
    pub resource: u32,
    pub scope: u32,
    pub tenant: u32,
    pub kind: u8,
    pub status_code: u8,
    pub name_edited: bool,
    pub status_edited: bool,
    pub live: bool,
    /// Ids that a back end would refuse the whole request for.
    pub valid_ids: bool,
}

#[derive(Debug, Clone)]
pub(super) struct EventEntry {
    pub extent: Extent,
    pub holder: Holder,
    pub span: u32,
    pub name: Slice,
    pub time: u64,
}

#[derive(Debug, Clone)]
pub(super) struct LinkEntry {
    pub extent: Extent,
    pub holder: Holder,
    pub span: u32,
    pub trace_id: u32,
    pub span_id: u32,
}

/// Whose attributes are meant, and so what a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Span,
    Resource,
    Scope,
    Event,
    Link,
}

impl Owner {
    pub const ALL: [Self; 5] = [Self::Span, Self::Resource, Self::Scope, Self::Event, Self::Link];
}

/// A key that edits added to owners that did not have it: dense by entry, so
/// that setting one key on every span is one vector.
#[derive(Debug, Clone)]
pub(super) struct AddedColumn {
    pub key: u32,
    pub values: Vec<Option<Value>>,
}

/// What the walk found, and what edits made of it.
#[derive(Debug, Clone)]
pub struct Index {
    pub(super) wire: Bytes,
    pub(super) arena: Vec<u8>,
    pub(super) keys: Keys,
    pub(super) resources: Vec<ResourceEntry>,
    pub(super) scopes: Vec<ScopeEntry>,
    pub(super) spans: Vec<SpanEntry>,
    pub(super) events: Vec<EventEntry>,
    pub(super) links: Vec<LinkEntry>,
    /// By `Owner`: the attributes of all owners of that kind, each owner's a run.
    pub(super) attributes: [Vec<Attribute>; 5],
    pub(super) added: [Vec<AddedColumn>; 5],
    /// Rows to entries, once spans were dropped; until then a row is an entry.
    pub(super) rows: Option<Box<Rows>>,
    /// Entry 0 is the context's own tenant.
    pub(super) tenants: Vec<String>,
    pub(super) dirty: bool,
    /// At most so many bytes does writing the edits add to the wire's length.
    pub(super) growth: usize,
    /// A message that OTLP has once occurs twice, and protobuf merges the two.
    pub(super) irregular: bool,
}

/// The entries that are still there, by `Owner`, and each span's row.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub entries: [Vec<u32>; 5],
    pub row_of: [Vec<u32>; 5],
}

impl Index {
    pub(super) fn new(wire: Bytes) -> Self {
        Self {
            wire,
            arena: vec![],
            keys: Keys::default(),
            resources: vec![],
            scopes: vec![],
            spans: vec![],
            events: vec![],
            links: vec![],
            attributes: Default::default(),
            added: Default::default(),
            rows: None,
            tenants: vec![String::new()],
            dirty: false,
            growth: 0,
            irregular: false,
        }
    }

    pub(super) fn bytes(&self, slice: Slice) -> &[u8] {
        let at = slice.at as usize;
        let (buffer, at) = match at.checked_sub(self.wire.len()) {
            None => (&self.wire[..], at),
            Some(at) => (&self.arena[..], at),
        };
        buffer.get(at..at + slice.len as usize).unwrap_or_default()
    }

    /// How many bytes the arena can still take: offsets are 32-bit.
    pub fn room(&self) -> usize {
        (u32::MAX as usize).saturating_sub(self.wire.len() + self.arena.len())
    }

    /// Keeps `bytes` for as long as the index lives.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Slice {
        let at = (self.wire.len() + self.arena.len()) as u32;
        self.arena.extend_from_slice(bytes);
        Slice { at, len: bytes.len() as u32 }
    }

    pub(super) fn key(&self, key: u32) -> &[u8] {
        self.keys.entries.get(key as usize).map_or(&[], |&slice| self.bytes(slice))
    }

    /// The number of a key that the batch has seen.
    pub(super) fn find_key(&self, key: &[u8]) -> Option<u32> {
        let hash = self.keys.hasher.hash_one(key);
        self.keys.table.find(hash, |&id| self.key(id) == key).copied()
    }

    /// The number of a key, new ones kept in the arena.
    pub(super) fn intern(&mut self, key: &[u8]) -> u32 {
        if let Some(id) = self.find_key(key) {
            return id;
        }
        let slice = self.keep(key);
        let hash = self.keys.hasher.hash_one(key);
        let Self { keys, wire, arena, .. } = self;
        let Keys { entries, table, hasher } = keys;
        let id = entries.len() as u32;
        entries.push(slice);
        let resolve = |slice: Slice| match (slice.at as usize).checked_sub(wire.len()) {
            None => wire.get(slice.at as usize..).and_then(|rest| rest.get(..slice.len as usize)),
            Some(at) => arena.get(at..).and_then(|rest| rest.get(..slice.len as usize)),
        };
        table.insert_unique(hash, id, |&id| {
            hasher.hash_one(entries.get(id as usize).and_then(|&slice| resolve(slice)).unwrap_or_default())
        });
        id
    }

    pub(super) fn holder(&self, owner: Owner, entry: usize) -> Option<&Holder> {
        match owner {
            Owner::Span => self.spans.get(entry).map(|entry| &entry.holder),
            Owner::Resource => self.resources.get(entry).map(|entry| &entry.holder),
            Owner::Scope => self.scopes.get(entry).map(|entry| &entry.holder),
            Owner::Event => self.events.get(entry).map(|entry| &entry.holder),
            Owner::Link => self.links.get(entry).map(|entry| &entry.holder),
        }
    }

    /// How many entries the table of `owner` has, dropped ones included.
    pub(super) fn entries(&self, owner: Owner) -> usize {
        match owner {
            Owner::Span => self.spans.len(),
            Owner::Resource => self.resources.len(),
            Owner::Scope => self.scopes.len(),
            Owner::Event => self.events.len(),
            Owner::Link => self.links.len(),
        }
    }

    /// How many rows of `owner` there are.
    pub fn count(&self, owner: Owner) -> usize {
        self.rows.as_ref().map_or_else(|| self.entries(owner), |rows| rows.entries[owner as usize].len())
    }

    /// The entry of a row.
    pub fn entry(&self, owner: Owner, row: usize) -> Option<usize> {
        match &self.rows {
            None => (row < self.entries(owner)).then_some(row),
            Some(rows) => rows.entries[owner as usize].get(row).map(|&entry| entry as usize),
        }
    }

    /// The row of an entry that is still there.
    pub(super) fn row(&self, owner: Owner, entry: u32) -> u32 {
        match &self.rows {
            None => entry,
            Some(rows) => rows.row_of[owner as usize].get(entry as usize).copied().unwrap_or(NONE),
        }
    }

    /// The entries of all rows, in row order.
    pub(super) fn live(&self, owner: Owner) -> impl Iterator<Item = usize> + '_ {
        (0..self.count(owner)).filter_map(move |row| self.entry(owner, row))
    }
}

/// The attribute keys of a batch, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub entries: Vec<Slice>,
    pub table: HashTable<u32>,
    /// Seeded by chance, so that nobody can send keys that all collide.
    pub hasher: foldhash::fast::RandomState,
}
