//! Edits form an overlay on the index: a changed value is an offset into the
//! arena, a new key is a dense column, a dropped span a cleared bit. The wire
//! stays as it came until the splice at the chain's end.

use std::collections::BTreeMap;

use super::ids::ids_of;
use super::index::{AddedColumn, Holder, Index, Kind, Owner, Rows, Slice, State, Value};
use super::search::Spot;
use super::wire::{fields, push_varint};
use crate::telemetry::SpanIds;

/// A value as an edit hands it over.
#[derive(Debug, Clone, PartialEq)]
pub enum NewValue {
    Text(String),
    Boolean(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    /// The content of an `AnyValue`, as `decode_value` makes it.
    Nested(Vec<u8>),
}

impl NewValue {
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) | Self::Nested(bytes) => bytes.len(),
            Self::Boolean(_) | Self::Int(_) | Self::Double(_) => 10,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Texts one behind the other, and which of them each row gets.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    pub data: Vec<u8>,
    pub ends: Vec<u32>,
    /// For each row the number of its text; rows and texts are in step where it is empty.
    pub codes: Vec<u32>,
}

impl Texts {
    /// The number of the text of the row, or place, with this number.
    fn code(&self, at: usize) -> usize {
        match self.codes.get(at) {
            Some(&code) => code as usize,
            None => at,
        }
    }
}

/// One edit. `entries` are index entries, which a row was turned into when the
/// edit was made (`Spans::entries_of`).
#[derive(Debug, Clone)]
pub enum Edit {
    Drop {
        entries: Vec<u32>,
        reason: String,
    },
    Set {
        owner: Owner,
        entries: Vec<u32>,
        key: String,
        value: NewValue,
    },
    SetTexts {
        owner: Owner,
        entries: Vec<u32>,
        key: String,
        texts: Texts,
    },
    /// Each text in its own place, also where a key occurs twice.
    Rewrite {
        owner: Owner,
        places: Vec<Place>,
        texts: Texts,
    },
    Remove {
        owner: Owner,
        entries: Vec<u32>,
        key: String,
    },
    SetNames {
        entries: Vec<u32>,
        names: Vec<String>,
    },
    SetStatus {
        entries: Vec<u32>,
        code: u8,
        message: String,
    },
    SetTenant {
        entries: Vec<u32>,
        tenant: String,
    },
}

/// One text attribute, known by where its text is: an edit of the same call that
/// gave it another value comes first, and then it is not rewritten.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    entry: u32,
    key: u32,
    was: Slice,
}

/// The rows under one key whose texts a rewrite changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub key: String,
    pub rows: Vec<u32>,
}

/// Spans that a call dropped, and the reason it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    pub reason: String,
    pub spans: Vec<SpanIds>,
}

/// What writing an attribute or a field anew may take beside key and value:
/// two tags, four length prefixes, and what they make the envelopes grow by.
const OVERHEAD: usize = 48;

impl Index {
    /// Applies the edits of one call: in order, drops last.
    pub(super) fn apply(&mut self, edits: Vec<Edit>) -> Vec<Dropped> {
        self.dirty |= !edits.is_empty();
        let mut drops = vec![];
        for edit in edits {
            match edit {
                Edit::Drop { entries, reason } => drops.push((entries, reason)),
                Edit::Set { owner, entries, key, value } => self.set_one(owner, &entries, &key, &value),
                Edit::SetTexts { owner, entries, key, texts } => self.set_texts(owner, &entries, &key, &texts),
                Edit::Rewrite { owner, places, texts } => self.rewrite(owner, &places, &texts),
                Edit::Remove { owner, entries, key } => self.remove(owner, &entries, &key),
                Edit::SetNames { entries, names } => self.set_names(&entries, &names),
                Edit::SetStatus { entries, code, message } => self.set_status(&entries, code, &message),
                Edit::SetTenant { entries, tenant } => self.set_tenant(&entries, tenant),
            }
        }
        let dropped =
            drops.into_iter().map(|(entries, reason)| Dropped { reason, spans: self.drop(&entries) }).collect();
        self.number_rows();
        dropped
    }

    /// At most so many bytes would these edits add to what the batch takes, on
    /// the wire and in the overlay.
    pub fn growth_of(&self, edits: &[Edit]) -> usize {
        // A key that is new to some owner takes a column over all of them.
        let column = |owner| self.entries(owner) * size_of::<Option<Value>>();
        let sets =
            |entries: &[u32], key: &str, value: usize| entries.len().saturating_mul(key.len() + value + OVERHEAD);
        let each = |edit: &Edit| match edit {
            Edit::Set { owner, entries, key, value } => sets(entries, key, value.len()).saturating_add(column(*owner)),
            Edit::SetTexts { owner, entries, key, texts } => {
                let each = |&code: &u32| text_range(texts, code as usize).len();
                let repeated = texts.codes.iter().map(each).fold(0, usize::saturating_add);
                sets(entries, key, 0) + texts.data.len() + repeated + column(*owner)
            }
            Edit::Rewrite { places, texts, .. } => {
                let each = |(at, place): (usize, &Place)| {
                    self.key(place.key).len() + OVERHEAD + text_range(texts, texts.code(at)).len()
                };
                places.iter().enumerate().map(each).fold(texts.data.len(), usize::saturating_add)
            }
            Edit::SetNames { entries, names } => {
                names.iter().map(String::len).sum::<usize>() + entries.len() * OVERHEAD
            }
            Edit::SetStatus { entries, message, .. } => entries.len().saturating_mul(message.len() + OVERHEAD),
            Edit::Drop { .. } | Edit::Remove { .. } | Edit::SetTenant { .. } => 0,
        };
        edits.iter().map(each).fold(0, usize::saturating_add)
    }

    fn set_one(&mut self, owner: Owner, entries: &[u32], key: &str, value: &NewValue) {
        let mut number = vec![];
        let (bytes, kind): (&[u8], Kind) = match value {
            NewValue::Text(text) => (text.as_bytes(), Kind::Text),
            NewValue::Bytes(bytes) => (bytes, Kind::Bytes),
            NewValue::Nested(content) => classify(content),
            NewValue::Boolean(value) => (if *value { &[1] } else { &[0] }, Kind::Boolean),
            NewValue::Int(value) => {
                push_varint(&mut number, *value as u64);
                (&number, Kind::Int)
            }
            NewValue::Double(value) => {
                number.extend_from_slice(&value.to_le_bytes());
                (&number, Kind::Double)
            }
        };
        let value = Value { slice: self.keep(bytes), kind };
        self.set(owner, entries, key, |_| Some(value));
    }

    fn set_texts(&mut self, owner: Owner, entries: &[u32], key: &str, texts: &Texts) {
        let base = self.keep(&texts.data).at;
        let value = |row: usize| {
            let code = if texts.codes.is_empty() { row } else { *texts.codes.get(row)? as usize };
            let range = text_range(texts, code);
            let slice = Slice { at: base + range.start as u32, len: range.len() as u32 };
            Some(Value { slice, kind: Kind::Text })
        };
        self.set(owner, entries, key, value);
    }

    /// What to write so that each of these texts for which `rewrite` has another
    /// one gets it, and the rows that this changes, by key.
    pub fn rewrites<E>(
        &self,
        owner: Owner,
        spots: impl Iterator<Item = Spot>,
        mut rewrite: impl FnMut(&Spot) -> Result<Option<String>, E>,
    ) -> Result<(Edit, Vec<Changed>), E> {
        let (mut places, mut texts, mut changed) = (vec![], Texts::default(), BTreeMap::<u32, Vec<u32>>::new());
        for spot in spots {
            let Some(text) = rewrite(&spot)? else { continue };
            places.push(Place { entry: spot.entry, key: spot.key, was: spot.text });
            texts.data.extend_from_slice(text.as_bytes());
            texts.ends.push(texts.data.len() as u32);
            changed.entry(spot.key).or_default().push(spot.row);
        }
        let name = |key| String::from_utf8_lossy(self.key(key)).into_owned();
        let changed = changed.into_iter().map(|(key, rows)| Changed { key: name(key), rows }).collect();
        Ok((Edit::Rewrite { owner, places, texts }, changed))
    }

    /// What to write so that on each entry the texts of the key that read the old
    /// text with the entry's code get the new one. Entries and codes are as many.
    pub fn replacement(&self, owner: Owner, entries: &[u32], key: &str, old: &Texts, new: Texts) -> Edit {
        let (mut places, mut codes) = (vec![], vec![]);
        let key = self.find_key(key.as_bytes());
        for (&entry, &code) in entries.iter().zip(&new.codes) {
            let was = old.data.get(text_range(old, code as usize));
            for (held, value) in self.attributes_of(owner, entry as usize) {
                if Some(held) == key && value.kind == Kind::Text && Some(self.bytes(value.slice)) == was {
                    places.push(Place { entry, key: held, was: value.slice });
                    codes.push(code);
                }
            }
        }
        Edit::Rewrite { owner, places, texts: Texts { codes, ..new } }
    }

    fn rewrite(&mut self, owner: Owner, places: &[Place], texts: &Texts) {
        let base = self.keep(&texts.data).at;
        for (at, place) in places.iter().enumerate() {
            let range = text_range(texts, texts.code(at));
            let slice = Slice { at: base + range.start as u32, len: range.len() as u32 };
            let (entry, key) = (place.entry as usize, place.key);
            let Some(holder) = self.holder(owner, entry).copied() else { continue };
            let run = self.attributes[owner as usize].get_mut(holder.attributes.range()).unwrap_or_default();
            let mut held = run.iter_mut().filter(|it| it.key == key && it.state != State::Removed);
            let columns = self.added[owner as usize].iter_mut().filter(|column| column.key == key);
            let mut added = columns.filter_map(|column| column.values.get_mut(entry)?.as_mut());
            if let Some(attribute) = held.find(|it| it.value.slice == place.was) {
                attribute.value = Value { slice, kind: Kind::Text };
                attribute.state = State::Edited;
            } else if let Some(value) = added.find(|value| value.slice == place.was) {
                *value = Value { slice, kind: Kind::Text };
            } else {
                continue;
            }
            self.growth += range.len() + self.key(key).len() + OVERHEAD;
            self.mark_dirty(owner, entry);
        }
    }

    /// Leaves exactly one attribute of the key on each entry.
    fn set(&mut self, owner: Owner, entries: &[u32], key: &str, value: impl Fn(usize) -> Option<Value>) {
        let key_len = key.len();
        // No attribute has a key that the batch has not seen.
        let unseen = self.find_key(key.as_bytes()).is_none();
        let key = self.intern(key.as_bytes());
        let mut column = self.added_column(owner, key);
        let mut hint = 0;
        for (row, &entry) in entries.iter().enumerate() {
            let Some(value) = value(row) else { continue };
            let entry = entry as usize;
            let Some(holder) = self.holder(owner, entry).copied() else { continue };
            self.growth = self.growth.saturating_add(value.slice.len as usize + key_len + OVERHEAD);
            self.mark_dirty(owner, entry);
            if unseen || !self.set_in_place(owner, &holder, key, value, &mut hint) {
                let column = *column.get_or_insert_with(|| {
                    let values = vec![None; self.entries(owner)];
                    self.added[owner as usize].push(AddedColumn { key, values });
                    self.added[owner as usize].len() - 1
                });
                let column = self.added[owner as usize].get_mut(column);
                if let Some(slot) = column.and_then(|column| column.values.get_mut(entry)) {
                    *slot = Some(value);
                }
            }
        }
    }

    /// Gives the first attribute of the key the value and removes the others.
    fn set_in_place(&mut self, owner: Owner, holder: &Holder, key: u32, value: Value, hint: &mut usize) -> bool {
        let Some(run) = self.attributes[owner as usize].get_mut(holder.attributes.range()) else { return false };
        let matches = |attribute: &super::index::Attribute| attribute.key == key && attribute.state != State::Removed;
        let first = match run.get(*hint) {
            Some(attribute) if !holder.duplicates && matches(attribute) => Some(*hint),
            _ => run.iter().position(matches),
        };
        let Some(first) = first else { return false };
        *hint = first;
        for (at, attribute) in run.iter_mut().enumerate().skip(first) {
            if at == first {
                attribute.value = value;
                attribute.state = State::Edited;
                if !holder.duplicates {
                    break;
                }
            } else if attribute.key == key {
                attribute.state = State::Removed;
            }
        }
        true
    }

    fn added_column(&self, owner: Owner, key: u32) -> Option<usize> {
        self.added[owner as usize].iter().position(|column| column.key == key)
    }

    fn remove(&mut self, owner: Owner, entries: &[u32], key: &str) {
        let Some(key) = self.find_key(key.as_bytes()) else { return };
        let column = self.added_column(owner, key);
        for &entry in entries {
            let entry = entry as usize;
            let Some(holder) = self.holder(owner, entry).copied() else { continue };
            let mut found = false;
            for attribute in self.attributes[owner as usize].get_mut(holder.attributes.range()).unwrap_or_default() {
                if attribute.key == key && attribute.state != State::Removed {
                    attribute.state = State::Removed;
                    found = true;
                }
            }
            let column = column.and_then(|column| self.added[owner as usize].get_mut(column));
            if let Some(slot) = column.and_then(|column| column.values.get_mut(entry)) {
                *slot = None;
            }
            if found {
                self.mark_dirty(owner, entry);
            }
        }
    }

    fn set_names(&mut self, entries: &[u32], names: &[String]) {
        for (&entry, name) in entries.iter().zip(names) {
            let slice = self.keep(name.as_bytes());
            self.growth += name.len() + OVERHEAD;
            if let Some(span) = self.spans.get_mut(entry as usize) {
                (span.name, span.name_edited) = (slice, true);
            }
            self.mark_dirty(Owner::Span, entry as usize);
        }
    }

    fn set_status(&mut self, entries: &[u32], code: u8, message: &str) {
        let message = self.keep(message.as_bytes());
        for &entry in entries {
            self.growth = self.growth.saturating_add(message.len as usize + OVERHEAD);
            if let Some(span) = self.spans.get_mut(entry as usize) {
                (span.status_code, span.status_message, span.status_edited) = (code, message, true);
            }
            self.mark_dirty(Owner::Span, entry as usize);
        }
    }

    fn set_tenant(&mut self, entries: &[u32], tenant: String) {
        let known = self.tenants.iter().skip(1).position(|known| *known == tenant).map(|at| at + 1);
        let tenant = known.unwrap_or_else(|| {
            self.tenants.push(tenant);
            self.tenants.len() - 1
        });
        for &entry in entries {
            if let Some(span) = self.spans.get_mut(entry as usize) {
                span.tenant = tenant as u32;
            }
        }
    }

    /// Drops spans; answers which of them were still live.
    pub(super) fn drop(&mut self, entries: &[u32]) -> Vec<SpanIds> {
        let mut dropped = vec![];
        for &entry in entries {
            let Some(span) = self.spans.get_mut(entry as usize) else { continue };
            if !std::mem::take(&mut span.live) {
                continue;
            }
            let (scope, resource) = (span.scope as usize, span.resource as usize);
            dropped.push(ids_of(&self.wire, span));
            if let Some(scope) = self.scopes.get_mut(scope) {
                scope.live -= 1;
                scope.touched = true;
            }
            if let Some(resource) = self.resources.get_mut(resource) {
                resource.live -= 1;
                resource.touched = true;
            }
        }
        self.dirty |= !dropped.is_empty();
        dropped
    }

    /// Numbers the rows anew once something was dropped.
    pub(super) fn number_rows(&mut self) {
        if self.spans.iter().all(|span| span.live) {
            return;
        }
        let mut rows = Rows::default();
        for owner in Owner::ALL {
            let (entries, row_of) = (&mut rows.entries[owner as usize], &mut rows.row_of[owner as usize]);
            for entry in 0..self.entries(owner) {
                let live = match owner {
                    Owner::Span => self.is_live(entry as u32),
                    Owner::Resource => self.is_kept(entry as u32),
                    Owner::Scope => self
                        .scopes
                        .get(entry)
                        .is_some_and(|it| it.live > 0 || (it.spans.count == 0 && self.is_kept(it.resource))),
                    Owner::Event => self.events.get(entry).is_some_and(|it| self.is_live(it.span)),
                    Owner::Link => self.links.get(entry).is_some_and(|it| self.is_live(it.span)),
                };
                row_of.push(entries.len() as u32);
                if live {
                    entries.push(entry as u32);
                }
            }
        }
        self.rows = Some(Box::new(rows));
    }

    /// A resource goes with the last of its spans, and stays where it had none.
    fn is_kept(&self, resource: u32) -> bool {
        self.resources.get(resource as usize).is_some_and(|it| it.live > 0 || it.spans == 0)
    }

    fn is_live(&self, span: u32) -> bool {
        self.spans.get(span as usize).is_some_and(|span| span.live)
    }

    /// Marks a message as changed, and what it stands in as of another length.
    fn mark_dirty(&mut self, owner: Owner, entry: usize) {
        let span = match owner {
            Owner::Span => Some(entry),
            Owner::Event => self.events.get_mut(entry).map(|event| {
                event.holder.dirty = true;
                event.span as usize
            }),
            Owner::Link => self.links.get_mut(entry).map(|link| {
                link.holder.dirty = true;
                link.span as usize
            }),
            Owner::Resource | Owner::Scope => None,
        };
        let scope = match owner {
            Owner::Scope => self.scopes.get_mut(entry).map(|scope| {
                scope.holder.dirty = true;
                entry
            }),
            _ => span.and_then(|span| self.spans.get_mut(span)).map(|span| {
                span.holder.dirty = true;
                span.scope as usize
            }),
        };
        let resource = match owner {
            Owner::Resource => self.resources.get_mut(entry).map(|resource| {
                resource.holder.dirty = true;
                entry
            }),
            _ => scope.and_then(|scope| self.scopes.get_mut(scope)).map(|scope| {
                scope.touched = true;
                scope.resource as usize
            }),
        };
        if let Some(resource) = resource.and_then(|resource| self.resources.get_mut(resource)) {
            resource.touched = true;
        }
    }
}

/// Where a text stands; within the data whatever the ends say, which are a guest's numbers.
pub(super) fn text_range(texts: &Texts, code: usize) -> std::ops::Range<usize> {
    let limit = texts.data.len();
    let start = code.checked_sub(1).and_then(|before| texts.ends.get(before)).map_or(0, |&end| limit.min(end as usize));
    let end = texts.ends.get(code).map_or(start, |&end| limit.min(end as usize));
    start..end.max(start)
}

/// The member that an `AnyValue`'s content holds, so that the next plugin finds
/// a text as a text however it was set.
fn classify(content: &[u8]) -> (&[u8], Kind) {
    let mut members = fields(content, 0, content.len());
    let (Some(member), None) = (members.next(), members.next()) else {
        return (content, if content.is_empty() { Kind::Empty } else { Kind::Nested });
    };
    let kind = match member.number {
        1 => Kind::Text,
        2 => Kind::Boolean,
        3 => Kind::Int,
        4 => Kind::Double,
        7 => Kind::Bytes,
        _ => return (content, Kind::Nested),
    };
    (content.get(member.value..member.end).unwrap_or_default(), kind)
}
