//! Reads: columns of one field or one key over all rows, and a row at a time.
//! They see the edits that were applied before, and only live rows.

use memchr::memmem::Finder;

use super::index::{Attribute, Index, Kind, NONE, Owner, Slice, SpanEntry, State, Value};
use super::otlp_json::encode_value;
use super::search::Spot;
use super::wire::varint;

/// Texts one behind the other: text i is `data[ends[i - 1]..ends[i]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    pub data: Vec<u8>,
    pub ends: Vec<u32>,
}

impl Packed {
    pub(super) fn push(&mut self, text: &[u8]) {
        self.data.extend_from_slice(text);
        self.ends.push(self.data.len() as u32);
    }

    pub fn get(&self, at: usize) -> Option<&str> {
        let start = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        std::str::from_utf8(self.data.get(start as usize..*self.ends.get(at)? as usize)?).ok()
    }
}

/// The rows that hold `key` as text; row i holds dictionary text `codes[i]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextColumn {
    pub key: String,
    pub rows: Vec<u32>,
    pub codes: Vec<u32>,
    pub dictionary: Packed,
}

impl TextColumn {
    pub(super) fn new(key: &[u8]) -> Self {
        Self { key: String::from_utf8_lossy(key).into_owned(), ..Self::default() }
    }

    /// A value that equals the one before it, as a constant does, is stored once.
    pub(super) fn push(&mut self, row: u32, text: &[u8]) {
        let Packed { data, ends } = &mut self.dictionary;
        let last = ends.iter().rev().nth(1).map_or(0, |&start| start as usize);
        if ends.is_empty() || data.get(last..) != Some(text) {
            self.dictionary.push(text);
        }
        self.rows.push(row);
        self.codes.push(self.dictionary.ends.len() as u32 - 1);
    }

    /// The texts in row order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.codes.iter().map(|&code| self.dictionary.get(code as usize).unwrap_or_default())
    }
}

/// A value as a read hands it over.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    Text(String),
    Boolean(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    /// An `AnyValue` in OTLP JSON.
    Json(String),
}

impl Index {
    fn span_rows(&self) -> impl Iterator<Item = &SpanEntry> {
        self.live(Owner::Span).filter_map(|entry| self.spans.get(entry))
    }

    fn ids<const LEN: usize>(&self, of: impl Fn(&SpanEntry) -> u32) -> Vec<u8> {
        let mut ids = Vec::with_capacity(self.count(Owner::Span) * LEN);
        for span in self.span_rows() {
            ids.extend_from_slice(&self.id::<LEN>(of(span)));
        }
        ids
    }

    /// The id at an offset; zeros where there is none.
    pub(super) fn id<const LEN: usize>(&self, at: u32) -> [u8; LEN] {
        let bytes = if at == NONE { None } else { self.wire.get(at as usize..) };
        bytes.and_then(<[u8]>::first_chunk::<LEN>).copied().unwrap_or([0; LEN])
    }

    pub fn trace_ids(&self) -> Vec<u8> {
        self.ids::<16>(|span| span.trace_id)
    }

    pub fn span_ids(&self) -> Vec<u8> {
        self.ids::<8>(|span| span.span_id)
    }

    pub fn parent_span_ids(&self) -> Vec<u8> {
        self.ids::<8>(|span| span.parent_span_id)
    }

    /// Nanoseconds since the Unix epoch.
    pub fn start_times(&self) -> Vec<u64> {
        self.span_rows().map(|span| span.start_time).collect()
    }

    /// Nanoseconds; 0 where the end precedes the start.
    pub fn durations(&self) -> Vec<u64> {
        self.span_rows().map(|span| span.end_time.saturating_sub(span.start_time)).collect()
    }

    pub fn kinds(&self) -> Vec<u8> {
        self.span_rows().map(|span| span.kind).collect()
    }

    pub fn status_codes(&self) -> Vec<u8> {
        self.span_rows().map(|span| span.status_code).collect()
    }

    pub fn names(&self) -> Packed {
        self.packed(self.span_rows().map(|span| span.name))
    }

    pub fn trace_states(&self) -> Packed {
        self.packed(self.span_rows().map(|span| span.trace_state))
    }

    pub fn flags(&self) -> Vec<u32> {
        self.span_rows().map(|span| span.flags).collect()
    }

    pub fn scope_names(&self) -> Packed {
        self.packed(self.live(Owner::Scope).filter_map(|entry| self.scopes.get(entry)).map(|scope| scope.name))
    }

    pub fn scope_versions(&self) -> Packed {
        self.packed(self.live(Owner::Scope).filter_map(|entry| self.scopes.get(entry)).map(|scope| scope.version))
    }

    fn packed(&self, texts: impl Iterator<Item = Slice>) -> Packed {
        let mut packed = Packed::default();
        for text in texts {
            packed.push(self.bytes(text));
        }
        packed
    }

    pub fn resource_rows(&self) -> Vec<u32> {
        self.span_rows().map(|span| self.row(Owner::Resource, span.resource)).collect()
    }

    pub fn scope_rows(&self) -> Vec<u32> {
        self.span_rows().map(|span| self.row(Owner::Scope, span.scope)).collect()
    }

    pub fn event_span_rows(&self) -> Vec<u32> {
        let events = self.live(Owner::Event).filter_map(|entry| self.events.get(entry));
        events.map(|event| self.row(Owner::Span, event.span)).collect()
    }

    pub fn event_names(&self) -> Packed {
        self.packed(self.live(Owner::Event).filter_map(|entry| self.events.get(entry)).map(|event| event.name))
    }

    pub fn link_span_rows(&self) -> Vec<u32> {
        let links = self.live(Owner::Link).filter_map(|entry| self.links.get(entry));
        links.map(|link| self.row(Owner::Span, link.span)).collect()
    }

    /// The attributes of one entry: those of the wire, then those that edits added.
    pub(super) fn attributes_of(&self, owner: Owner, entry: usize) -> impl Iterator<Item = (u32, Value)> + '_ {
        let run = self.holder(owner, entry).map(|holder| holder.attributes).unwrap_or_default();
        let wire = self.attributes[owner as usize].get(run.range()).unwrap_or_default();
        let added = self.added[owner as usize].iter();
        let added = added.filter_map(move |column| Some((column.key, (*column.values.get(entry)?)?)));
        wire.iter().filter(|it| it.state != State::Removed).map(|it| (it.key, it.value)).chain(added)
    }

    /// Calls `found` with every value that a row has under the key, rows ascending.
    fn each_value(&self, owner: Owner, key: &str, mut found: impl FnMut(u32, Value)) {
        let Some(key) = self.find_key(key.as_bytes()) else { return };
        let added = self.added[owner as usize].iter().find(|column| column.key == key);
        let mut hint = 0;
        for (row, entry) in self.live(owner).enumerate() {
            let row = row as u32;
            let Some(holder) = self.holder(owner, entry) else { continue };
            let run = self.attributes[owner as usize].get(holder.attributes.range()).unwrap_or_default();
            let matches = |it: &&Attribute| it.key == key && it.state != State::Removed;
            if holder.duplicates {
                run.iter().filter(matches).for_each(|it| found(row, it.value));
            } else if let Some(it) = run.get(hint).filter(matches) {
                // Spans of one kind carry a key in the same place.
                found(row, it.value);
            } else if let Some(at) = run.iter().position(|it| matches(&it)) {
                hint = at;
                run.get(at).into_iter().for_each(|it| found(row, it.value));
            }
            if let Some(Some(value)) = added.and_then(|column| column.values.get(entry)) {
                found(row, *value);
            }
        }
    }

    /// The rows that came with some key more than once.
    pub fn duplicate_rows(&self, owner: Owner) -> Vec<u32> {
        let duplicates = |entry| self.holder(owner, entry).is_some_and(|holder| holder.duplicates);
        (0..).zip(self.live(owner)).filter(|&(_, entry)| duplicates(entry)).map(|(row, _)| row).collect()
    }

    /// Every key that a row holds, each once, in the order of their first sight.
    pub fn attribute_keys(&self, owner: Owner) -> Vec<String> {
        let mut seen = vec![false; self.keys.entries.len()];
        let mut keys = vec![];
        for (key, _) in self.live(owner).flat_map(|entry| self.attributes_of(owner, entry)) {
            if let Some(seen @ false) = seen.get_mut(key as usize) {
                *seen = true;
                keys.push(String::from_utf8_lossy(self.key(key)).into_owned());
            }
        }
        keys
    }

    /// What each row holds under the key: 0 nothing, else 1 text, 2 boolean,
    /// 3 int, 4 double, 5 bytes, 6 anything else, which reads as JSON.
    pub fn attribute_types(&self, owner: Owner, key: &str) -> Vec<u8> {
        let mut types = vec![0; self.count(owner)];
        self.each_value(owner, key, |row, value| {
            if let Some(place @ 0) = types.get_mut(row as usize) {
                *place = (value.kind as u8).min(Kind::Nested as u8);
            }
        });
        types
    }

    pub fn text_attribute(&self, owner: Owner, key: &str) -> TextColumn {
        let mut column = TextColumn::new(key.as_bytes());
        self.each_value(owner, key, |row, value| {
            if value.kind == Kind::Text {
                column.push(row, self.bytes(value.slice));
            }
        });
        column
    }

    pub fn int_attribute(&self, owner: Owner, key: &str) -> (Vec<u32>, Vec<i64>) {
        self.numbers(owner, key, Kind::Int, |bytes| self.int(bytes))
    }

    pub fn double_attribute(&self, owner: Owner, key: &str) -> (Vec<u32>, Vec<f64>) {
        self.numbers(owner, key, Kind::Double, |bytes| self.double(bytes))
    }

    pub fn boolean_attribute(&self, owner: Owner, key: &str) -> (Vec<u32>, Vec<u8>) {
        self.numbers(owner, key, Kind::Boolean, |bytes| u8::from(self.int(bytes) != 0))
    }

    fn numbers<T>(&self, owner: Owner, key: &str, kind: Kind, read: impl Fn(Slice) -> T) -> (Vec<u32>, Vec<T>) {
        let (mut rows, mut values) = (vec![], vec![]);
        self.each_value(owner, key, |row, value| {
            if value.kind == kind {
                rows.push(row);
                values.push(read(value.slice));
            }
        });
        (rows, values)
    }

    fn int(&self, slice: Slice) -> i64 {
        varint(self.bytes(slice), 0).map_or(0, |(value, _)| value as i64)
    }

    fn double(&self, slice: Slice) -> f64 {
        self.bytes(slice).first_chunk::<8>().map_or(0.0, |bytes| f64::from_le_bytes(*bytes))
    }

    /// Every text attribute, a column a key, keys in the order of their first sight.
    pub fn text_columns(&self, owner: Owner) -> Vec<TextColumn> {
        self.columns_of(self.all_texts(owner))
    }

    /// Every text attribute whose value contains `part`.
    pub fn find_text(&self, owner: Owner, part: &str) -> Vec<TextColumn> {
        let finder = Finder::new(part);
        let find = |bytes: &[u8], from: usize| {
            let at = from + finder.find(bytes.get(from..)?)?;
            Some(at..at + part.len())
        };
        // The empty text is in every text.
        match self.find_texts(owner, &[find]).filter(|_| !part.is_empty()) {
            Some(found) => self.columns_of(found.into_iter()),
            None => {
                let holds = |spot: &Spot| finder.find(self.bytes(spot.text)).is_some();
                self.columns_of(self.all_texts(owner).filter(holds))
            }
        }
    }

    /// The first value under the key; `None` also where there is no such row.
    pub fn attribute(&self, owner: Owner, row: u32, key: &str) -> Option<Read> {
        let entry = self.entry(owner, row as usize)?;
        let key = self.find_key(key.as_bytes())?;
        let (_, value) = self.attributes_of(owner, entry).find(|&(found, _)| found == key)?;
        Some(self.read(value))
    }

    /// All attributes of a row; `None` where there is no such row.
    pub fn attributes(&self, owner: Owner, row: u32) -> Option<Vec<(String, Read)>> {
        let entry = self.entry(owner, row as usize)?;
        Some(self.entry_attributes(owner, entry))
    }

    pub(super) fn entry_attributes(&self, owner: Owner, entry: usize) -> Vec<(String, Read)> {
        let text = |key| String::from_utf8_lossy(self.key(key)).into_owned();
        self.attributes_of(owner, entry).map(|(key, value)| (text(key), self.read(value))).collect()
    }

    fn read(&self, value: Value) -> Read {
        let bytes = self.bytes(value.slice);
        match value.kind {
            Kind::Text => Read::Text(String::from_utf8_lossy(bytes).into_owned()),
            Kind::Boolean => Read::Boolean(self.int(value.slice) != 0),
            Kind::Int => Read::Int(self.int(value.slice)),
            Kind::Double => Read::Double(self.double(value.slice)),
            Kind::Bytes => Read::Bytes(bytes.to_vec()),
            Kind::Nested | Kind::Empty => Read::Json(encode_value(bytes).unwrap_or_default()),
        }
    }
}
