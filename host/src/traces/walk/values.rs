//! The walk's lower half: attributes, values, events, links and statuses.

use std::hash::BuildHasher;
use std::ops::Range;

use super::super::index::{
    Attribute, EventEntry, Holder, Kind, LinkEntry, NONE, Owner, Slice, SpanEntry, State, Value,
};
use super::super::wire::{
    FIXED32, FIXED64, Fault, LENGTH, Wire, fixed64, is_same, is_utf8, is_varint, length, skip, tag,
};
use super::{Known, VALUE_DEPTH, Walker, enumeration, expect, extent, number, slice};

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
        // Two ends, not one with a result from either: the short way stays in registers.
        if let Some((key, value)) = self.pair(content, stop) {
            let place = self.key(key.start, key.end)?;
            self.attribute(owner, entry, (start, stop), place, value, true);
            return Ok(stop);
        }
        let (place, value, plain) = self.any_pair(content, stop)?;
        self.attribute(owner, entry, (start, stop), place, value, plain);
        Ok(stop)
    }

    #[inline(always)]
    fn attribute(
        &mut self,
        owner: Owner,
        entry: usize,
        (start, end): (usize, usize),
        place: usize,
        value: Value,
        plain: bool,
    ) {
        if INDEX {
            let stamp = entry as u32 + 1;
            if let Some(last) = self.known.get_mut(place).and_then(|known| known.holders.get_mut(owner as usize)) {
                self.duplicate = *last == stamp;
                *last = stamp;
            }
            let (start, end, key) = (start as u32, end as u32, (place - Owner::ALL.len()) as u32);
            let attribute = Attribute { start, end, value, key, plain, state: State::Wire };
            self.index.attributes[owner as usize].push(attribute);
        }
    }

    /// The key and the value, where the content is just these two, in either
    /// order, with lengths of one byte, and the value a text or a number: so it
    /// is nearly always. Whatever else it is, `any_pair` says.
    #[inline(always)]
    fn pair(&self, content: usize, stop: usize) -> Option<(Range<usize>, Value)> {
        let &[tag, length @ 0..0x80, ref rest @ ..] = self.bytes.get(content..stop)? else { return None };
        let &[other, rest_length @ 0..0x80, ref rest @ ..] = rest.get(usize::from(length)..)? else { return None };
        if rest.len() != usize::from(rest_length) {
            return None;
        }
        let first = content + 2..content + 2 + usize::from(length);
        let second = first.end + 2..stop;
        let (key, value) = match (tag, other) {
            (0x0a, 0x12) => (first, second),
            (0x12, 0x0a) => (second, first),
            _ => return None,
        };
        Some((key, self.scalar(value.start, value.end)?))
    }

    /// The one text or number that an `AnyValue`'s content is.
    #[inline(always)]
    fn scalar(&self, at: usize, end: usize) -> Option<Value> {
        let (tag, content) = self.bytes.get(at..end)?.split_first()?;
        let (skipped, kind) = match tag {
            0x0a => match content.split_first()? {
                (&length @ 0..0x80, text) if text.len() == usize::from(length) && is_utf8(text) => (2, Kind::Text),
                _ => return None,
            },
            0x10 if is_varint(content) => (1, Kind::Boolean),
            0x18 if is_varint(content) => (1, Kind::Int),
            0x21 if content.len() == 8 => (1, Kind::Double),
            _ => return None,
        };
        Some(Value { slice: slice(at + skipped, end), kind })
    }

    /// The key's place, the value, and whether there is nothing else.
    #[inline(never)]
    fn any_pair(&mut self, content: usize, stop: usize) -> Wire<(usize, Value, bool)> {
        let mut place = None;
        let mut value = None;
        let mut plain = true;
        let mut at = content;
        while at < stop {
            let (field, kind, next) = tag(self.bytes, at)?;
            at = match field {
                1 => {
                    expect(kind, LENGTH, "key", at)?;
                    let (from, to) = length(self.bytes, next, stop)?;
                    plain &= place.is_none();
                    place = Some(self.key(from, to)?);
                    to
                }
                2 => {
                    expect(kind, LENGTH, "value", at)?;
                    let (from, to) = length(self.bytes, next, stop)?;
                    let (found, single) = self.any_member(from, to, VALUE_DEPTH)?;
                    self.index.irregular |= INDEX && value.is_some();
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
        plain &= place.is_some() && value.is_some();
        let place = match place {
            Some(place) => place,
            None => self.key(stop, stop)?,
        };
        // An attribute without a value field reads as one with an empty value.
        Ok((place, value.unwrap_or(Value { slice: slice(stop, stop), kind: Kind::Empty }), plain))
    }

    /// The place of the key between `start` and `stop`. One that equals a key
    /// seen before needs no check of its UTF-8.
    #[inline(always)]
    fn key(&mut self, start: usize, stop: usize) -> Wire<usize> {
        let text = self.bytes.get(start..stop).unwrap_or_default();
        let followers = self.known.get(self.previous).map_or([NONE; 2], |known| known.followers);
        for place in followers.map(|place| place as usize) {
            if let Some(known) = self.known.get(place)
                && known.text.len as usize == text.len()
                && let Some(seen) = self.bytes.get(known.text.at as usize..(known.text.at + known.text.len) as usize)
                && is_same(seen, text)
            {
                self.previous = place;
                return Ok(place);
            }
        }
        self.unforeseen_key(start, stop)
    }

    fn unforeseen_key(&mut self, start: usize, stop: usize) -> Wire<usize> {
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
                self.known.push(Known::new(slice(start, stop)));
                id
            }
        };
        let place = id as usize + Owner::ALL.len();
        if let Some(known) = self.known.get_mut(self.previous) {
            known.followers = [place as u32, known.followers[0]];
        }
        self.previous = place;
        Ok(place)
    }

    /// Walks an `AnyValue`; answers its member and whether that is all it holds.
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
                    if field == 5 {
                        self.array(from, to, depth)?
                    } else {
                        self.key_values(from, to, depth)?
                    };
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
