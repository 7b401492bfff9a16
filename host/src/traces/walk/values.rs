//! The walk's lower half: attributes, values, events, links and statuses.

use std::hash::BuildHasher;

use super::super::index::{Attribute, EventEntry, Holder, Kind, LinkEntry, NONE, Owner, Slice, SpanEntry, State, Value};
use super::super::wire::{FIXED32, FIXED64, Fault, LENGTH, Wire, fixed64, is_utf8, length, skip, tag};
use super::{VALUE_DEPTH, Walker, enumeration, expect, extent, number, slice};

/// An id's place, where it has the length that OTLP gives it and is not all zeros.
#[inline(always)]
pub(super) fn id<const LEN: usize>(
    bytes: &[u8],
    kind: u8,
    field: &'static str,
    at: usize,
    end: usize,
    place: &mut u32,
) -> Wire<usize> {
    expect(kind, LENGTH, field, at)?;
    let (start, stop) = length(bytes, at, end)?;
    let valid = bytes.get(start..stop).and_then(|id| <[u8; LEN]>::try_from(id).ok()).is_some_and(|id| id != [0; LEN]);
    *place = if valid { start as u32 } else { NONE };
    Ok(stop)
}

impl<const INDEX: bool> Walker<'_, INDEX> {
    /// Reads a text field at its length prefix; the slice is empty when only validating.
    #[inline(always)]
    pub(super) fn text(&self, kind: u8, field: &'static str, at: usize, end: usize) -> Wire<(Slice, usize)> {
        expect(kind, LENGTH, field, at)?;
        let (start, stop) = length(self.bytes, at, end)?;
        if !self.bytes.get(start..stop).is_some_and(is_utf8) {
            return Err(Fault::Utf8(field).at(start));
        }
        Ok((slice(start, stop), stop))
    }

    /// Walks one attribute whose tag is at `start` and whose length prefix is at
    /// `at`; says in `duplicate` whether its owner had the key before.
    #[inline]
    pub(super) fn key_value(
        &mut self,
        owner: Owner,
        entry: usize,
        kind: u8,
        start: usize,
        at: usize,
        end: usize,
    ) -> Wire<usize> {
        expect(kind, LENGTH, "attributes", start)?;
        let (content, stop) = length(self.bytes, at, end)?;
        let mut key = NONE;
        let mut value = None;
        let mut plain = true;
        let mut at = content;
        while at < stop {
            let (field, kind, next) = tag(self.bytes, at)?;
            at = match field {
                1 => {
                    expect(kind, LENGTH, "key", at)?;
                    let (from, to) = length(self.bytes, next, stop)?;
                    plain &= key == NONE;
                    key = self.key(from, to)?;
                    to
                }
                2 => {
                    expect(kind, LENGTH, "value", at)?;
                    let (from, to) = length(self.bytes, next, stop)?;
                    let (found, single) = self.any_value(from, to, VALUE_DEPTH)?;
                    if INDEX && value.is_some() {
                        self.index.irregular = true;
                    }
                    plain &= single && value.is_none();
                    value = Some(found);
                    to
                }
                _ => {
                    plain = false;
                    skip(self.bytes, field, kind, next, stop)?
                }
            };
        }
        if key == NONE {
            key = self.key(stop, stop)?;
            plain = false;
        }
        let stamp = entry as u32 + 1;
        if let Some(last) = self.holders.get_mut(key as usize).and_then(|holders| holders.get_mut(owner as usize)) {
            self.duplicate = *last == stamp;
            *last = stamp;
        }
        if INDEX {
            // An attribute without a value field reads as one with an empty value.
            let value = value.unwrap_or_else(|| {
                plain = false;
                Value { slice: slice(stop, stop), kind: Kind::Empty }
            });
            let (start, end) = (start as u32, stop as u32);
            let attribute = Attribute { start, end, value, key, plain, state: State::Wire };
            self.index.attributes[owner as usize].push(attribute);
        }
        Ok(stop)
    }

    /// The number of the key between `start` and `stop`. One that equals a key
    /// seen before needs no check of its UTF-8.
    #[inline(always)]
    fn key(&mut self, start: usize, stop: usize) -> Wire<u32> {
        let text = self.bytes.get(start..stop).unwrap_or_default();
        if let Some(candidates) = self.followers.get(self.previous) {
            for &candidate in candidates {
                if let Some(known) = self.index.keys.entries.get(candidate as usize)
                    && known.len as usize == text.len()
                    && self.bytes.get(known.at as usize..(known.at + known.len) as usize) == Some(text)
                {
                    self.previous = candidate as usize + 5;
                    return Ok(candidate);
                }
            }
        }
        self.unforeseen_key(start, stop)
    }

    fn unforeseen_key(&mut self, start: usize, stop: usize) -> Wire<u32> {
        let bytes = self.bytes;
        let text = bytes.get(start..stop).unwrap_or_default();
        let keys = &mut self.index.keys;
        let entries = &mut keys.entries;
        let resolve = |entries: &[Slice], id: u32| {
            let known = entries.get(id as usize).copied().unwrap_or_default();
            bytes.get(known.at as usize..(known.at + known.len) as usize).unwrap_or_default()
        };
        let hash = keys.hasher.hash_one(text);
        let id = match keys.table.find(hash, |&id| resolve(entries, id) == text) {
            Some(&id) => id,
            None => {
                if !is_utf8(text) {
                    return Err(Fault::Utf8("key").at(start));
                }
                let id = entries.len() as u32;
                entries.push(slice(start, stop));
                keys.table.insert_unique(hash, id, |&id| keys.hasher.hash_one(resolve(entries, id)));
                self.followers.push([NONE; 2]);
                self.holders.push([0; 5]);
                id
            }
        };
        if let Some(candidates) = self.followers.get_mut(self.previous) {
            *candidates = [id, candidates[0]];
        }
        self.previous = id as usize + 5;
        Ok(id)
    }

    /// Walks an `AnyValue`; answers its member and whether that is all it holds.
    #[inline(always)]
    fn any_value(&self, at: usize, end: usize, depth: u32) -> Wire<(Value, bool)> {
        // Nearly every value is one text, and nearly every text is short.
        if at < end && self.bytes.get(at) == Some(&0x0a) {
            let (start, stop) = length(self.bytes, at + 1, end)?;
            if stop == end {
                return match self.bytes.get(start..stop).is_some_and(is_utf8) {
                    true => Ok((Value { slice: slice(start, stop), kind: Kind::Text }, true)),
                    false => Err(Fault::Utf8("string_value").at(start)),
                };
            }
        }
        self.any_member(at, end, depth)
    }

    fn any_member(&self, content: usize, end: usize, depth: u32) -> Wire<(Value, bool)> {
        if depth == 0 {
            return Err(Fault::Nesting(VALUE_DEPTH).at(content));
        }
        let bytes = self.bytes;
        let mut value = Value { slice: slice(content, end), kind: Kind::Empty };
        let mut members = 0;
        let mut at = content;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            let (found, from, to) = match field {
                1 => {
                    let (text, stop) = self.text(kind, "string_value", next, end)?;
                    (Kind::Text, text.at as usize, stop)
                }
                2 => (Kind::Boolean, next, number(bytes, kind, "bool_value", next, end)?.1),
                3 => (Kind::Int, next, number(bytes, kind, "int_value", next, end)?.1),
                4 => {
                    expect(kind, FIXED64, "double_value", at)?;
                    (Kind::Double, next, fixed64(bytes, next, end)?.1)
                }
                5 | 6 => {
                    expect(kind, LENGTH, if field == 5 { "array_value" } else { "kvlist_value" }, at)?;
                    let (from, to) = length(bytes, next, end)?;
                    if field == 5 { self.array(from, to, depth)? } else { self.key_values(from, to, depth)? };
                    (Kind::Nested, content, to)
                }
                7 => {
                    expect(kind, LENGTH, "bytes_value", at)?;
                    let (from, to) = length(bytes, next, end)?;
                    (Kind::Bytes, from, to)
                }
                _ => {
                    members += 2;
                    at = skip(bytes, field, kind, next, end)?;
                    continue;
                }
            };
            members += 1;
            let stop = if found == Kind::Nested { end } else { to };
            value = Value { slice: slice(from, stop), kind: found };
            at = to;
        }
        Ok((value, members <= 1))
    }

    fn array(&self, at: usize, end: usize, depth: u32) -> Wire<()> {
        let mut at = at;
        while at < end {
            let (field, kind, next) = tag(self.bytes, at)?;
            at = if field == 1 {
                expect(kind, LENGTH, "values", at)?;
                let (from, to) = length(self.bytes, next, end)?;
                self.any_member(from, to, depth - 1)?;
                to
            } else {
                skip(self.bytes, field, kind, next, end)?
            };
        }
        Ok(())
    }

    fn key_values(&self, at: usize, end: usize, depth: u32) -> Wire<()> {
        let mut at = at;
        while at < end {
            let (field, kind, next) = tag(self.bytes, at)?;
            if field != 1 {
                at = skip(self.bytes, field, kind, next, end)?;
                continue;
            }
            expect(kind, LENGTH, "values", at)?;
            let (from, to) = length(self.bytes, next, end)?;
            let mut inside = from;
            while inside < to {
                let (field, kind, next) = tag(self.bytes, inside)?;
                inside = match field {
                    1 => self.text(kind, "key", next, to)?.1,
                    2 => {
                        expect(kind, LENGTH, "value", inside)?;
                        let (from, stop) = length(self.bytes, next, to)?;
                        self.any_member(from, stop, depth - 1)?;
                        stop
                    }
                    _ => skip(self.bytes, field, kind, next, to)?,
                };
            }
            at = to;
        }
        Ok(())
    }

    pub(super) fn event(&mut self, span: usize, start: usize, content: usize, end: usize) -> Wire<()> {
        let bytes = self.bytes;
        self.previous = Owner::Event as usize;
        let entry = self.next_entry(Owner::Event);
        let mut event = EventEntry {
            extent: extent(start, content, end),
            holder: Holder::new(self.index.attributes[Owner::Event as usize].len()),
            span: span as u32,
            name: Slice::default(),
            time: 0,
        };
        let mut at = content;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            at = match field {
                1 => {
                    expect(kind, FIXED64, "time_unix_nano", at)?;
                    let (time, stop) = fixed64(bytes, next, end)?;
                    event.time = time;
                    stop
                }
                2 => {
                    let (text, stop) = self.text(kind, "name", next, end)?;
                    event.name = text;
                    stop
                }
                3 => {
                    let stop = self.key_value(Owner::Event, entry, kind, at, next, end)?;
                    event.holder.duplicates |= self.duplicate;
                    stop
                }
                4 => number(bytes, kind, "dropped_attributes_count", next, end)?.1,
                _ => skip(bytes, field, kind, next, end)?,
            };
        }
        if INDEX {
            let attributes = self.index.attributes[Owner::Event as usize].len() as u32;
            event.holder.attributes.count = attributes - event.holder.attributes.first;
            self.index.events.push(event);
        }
        Ok(())
    }

    /// Answers whether the link's ids have a length that back ends accept.
    pub(super) fn link(&mut self, span: usize, start: usize, content: usize, end: usize) -> Wire<bool> {
        let bytes = self.bytes;
        self.previous = Owner::Link as usize;
        let entry = self.next_entry(Owner::Link);
        let mut link = LinkEntry {
            extent: extent(start, content, end),
            holder: Holder::new(self.index.attributes[Owner::Link as usize].len()),
            span: span as u32,
            trace_id: NONE,
            span_id: NONE,
        };
        let mut valid = true;
        let mut at = content;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            at = match field {
                1 => {
                    let stop = id::<16>(bytes, kind, "trace_id", next, end, &mut link.trace_id)?;
                    valid &= matches!(stop - length(bytes, next, end)?.0, 0 | 16);
                    stop
                }
                2 => {
                    let stop = id::<8>(bytes, kind, "span_id", next, end, &mut link.span_id)?;
                    valid &= matches!(stop - length(bytes, next, end)?.0, 0 | 8);
                    stop
                }
                3 => self.text(kind, "trace_state", next, end)?.1,
                4 => {
                    let stop = self.key_value(Owner::Link, entry, kind, at, next, end)?;
                    link.holder.duplicates |= self.duplicate;
                    stop
                }
                5 => number(bytes, kind, "dropped_attributes_count", next, end)?.1,
                6 => {
                    expect(kind, FIXED32, "flags", at)?;
                    skip(bytes, field, kind, next, end)?
                }
                _ => skip(bytes, field, kind, next, end)?,
            };
        }
        if INDEX {
            let attributes = self.index.attributes[Owner::Link as usize].len() as u32;
            link.holder.attributes.count = attributes - link.holder.attributes.first;
            self.index.links.push(link);
        }
        Ok(valid)
    }

    pub(super) fn status(&mut self, span: &mut SpanEntry, at: usize, end: usize) -> Wire<()> {
        let bytes = self.bytes;
        let mut at = at;
        while at < end {
            let (field, kind, next) = tag(bytes, at)?;
            at = match field {
                2 => {
                    let (text, stop) = self.text(kind, "message", next, end)?;
                    span.status_message = text;
                    stop
                }
                3 => {
                    let (value, stop) = number(bytes, kind, "code", next, end)?;
                    span.status_code = enumeration(value, 2);
                    stop
                }
                _ => skip(bytes, field, kind, next, end)?,
            };
        }
        Ok(())
    }

    /// The entry that the event or link being walked will get; when only
    /// validating, duplicates do not matter and neither does this.
    fn next_entry(&self, owner: Owner) -> usize {
        self.index.entries(owner)
    }
}
