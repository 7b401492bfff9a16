//! Searches of a whole batch: one scan over the wire's bytes for what the texts
//! must hold to be of interest, which is several times faster than a search in
//! each text. What it finds is mapped to the attributes that hold it.

use std::ops::Range;

use super::columns::TextColumn;
use super::index::{Attribute, Index, Kind, NONE, Owner, Slice, State, Value};

/// A text attribute, and in which of the finders' sight it came: bit i is finder i's.
#[derive(Debug, Clone, Copy)]
pub struct Spot {
    pub row: u32,
    pub(super) entry: u32,
    pub(super) key: u32,
    pub(super) text: Slice,
    pub found_by: u64,
}

/// Finders are told apart by the bits of a `Spot`.
pub const FINDERS: usize = 64;

impl Index {
    pub fn text_at(&self, spot: &Spot) -> &str {
        std::str::from_utf8(self.bytes(spot.text)).unwrap_or_default()
    }

    /// Every text attribute, row after row, as if all finders had found it.
    pub fn all_texts(&self, owner: Owner) -> impl Iterator<Item = Spot> + '_ {
        self.live(owner).enumerate().flat_map(move |(row, entry)| {
            let texts = self.attributes_of(owner, entry).filter(|(_, value)| value.kind == Kind::Text);
            texts.map(move |(key, value)| Spot {
                row: row as u32,
                entry: entry as u32,
                key,
                text: value.slice,
                found_by: u64::MAX,
            })
        })
    }

    /// The text attributes in which any of the finders finds something, in the
    /// order of `all_texts`. A finder gets bytes and where to begin, and says where
    /// it finds something. `None` where they find so much elsewhere that looking at
    /// each text is cheaper, or are more than `FINDERS`.
    pub fn find_texts<F>(&self, owner: Owner, finders: &[F]) -> Option<Vec<Spot>>
    where
        F: Fn(&[u8], usize) -> Option<Range<usize>>,
    {
        if finders.len() > FINDERS {
            return None;
        }
        let mut found = vec![];
        for (number, finder) in finders.iter().enumerate() {
            self.scan_wire(owner, finder, |attribute| found.push((attribute as u32, 1 << number)))?;
        }
        if finders.len() > 1 {
            found.sort_unstable_by_key(|&(attribute, _)| attribute);
            found.dedup_by(|(one, bits), (kept, all)| {
                let same = one == kept;
                *all |= if same { *bits } else { 0 };
                same
            });
        }
        let mut holders = Cursor::default();
        let spots = found.into_iter().filter_map(|(attribute, found_by)| {
            let entry = holders.last(self.entries(owner), |entry| {
                self.holder(owner, entry).is_some_and(|holder| holder.attributes.first <= attribute)
            })?;
            let row = self.live_row(owner, entry)?;
            let it = self.attributes[owner as usize].get(attribute as usize)?;
            let spot = Spot { row, entry: entry as u32, key: it.key, text: it.value.slice, found_by };
            Some((attribute, spot))
        });
        let mut spots: Vec<(u32, Spot)> = spots.collect();
        // Keys and values that edits gave are all in the arena.
        if finders.iter().any(|finder| finder(&self.arena, 0).is_some()) {
            self.find_edited(owner, finders, &mut spots);
            spots.sort_by_key(|(attribute, spot)| (spot.row, *attribute));
        }
        Some(spots.into_iter().map(|(_, spot)| spot).collect())
    }

    /// Calls `found` with the place of each attribute that has its text from the
    /// wire and in whose text the finder finds something.
    fn scan_wire(
        &self,
        owner: Owner,
        finder: impl Fn(&[u8], usize) -> Option<Range<usize>>,
        mut found: impl FnMut(usize),
    ) -> Option<()> {
        let table = &self.attributes[owner as usize];
        let mut strays = table.len() / 4 + 16;
        let mut attributes = Cursor::default();
        let mut at = 0;
        while let Some(hit) = finder(&self.wire, at) {
            // The tables are in the order of the wire.
            let place = attributes
                .last(table.len(), |at| table.get(at).is_some_and(|attribute| attribute.start as usize <= hit.start));
            let held = place.and_then(|place| Some((place, table.get(place)?)));
            match held.filter(|(_, attribute)| hit.start < attribute.end as usize) {
                Some((place, attribute)) if is_within(&hit, attribute) => {
                    at = attribute.end as usize;
                    found(place);
                }
                // Whatever else is in it is not what it reads as.
                Some((_, attribute)) if attribute.state != State::Wire || attribute.value.kind != Kind::Text => {
                    at = attribute.end as usize;
                    strays = strays.checked_sub(1)?;
                }
                _ => {
                    at = hit.start + 1;
                    strays = strays.checked_sub(1)?;
                }
            }
        }
        Some(())
    }

    /// The same for the texts that edits gave.
    fn find_edited<F>(&self, owner: Owner, finders: &[F], spots: &mut Vec<(u32, Spot)>)
    where
        F: Fn(&[u8], usize) -> Option<Range<usize>>,
    {
        for (row, entry) in self.live(owner).enumerate() {
            let mut look = |attribute: u32, key: u32, value: Value| {
                let text = self.bytes(value.slice);
                let bits = |(number, finder): (usize, &F)| u64::from(finder(text, 0).is_some()) << number;
                let found_by = finders.iter().enumerate().map(bits).fold(0, |all, bit| all | bit);
                if value.kind == Kind::Text && found_by != 0 {
                    let spot = Spot { row: row as u32, entry: entry as u32, key, text: value.slice, found_by };
                    spots.push((attribute, spot));
                }
            };
            let run = self.holder(owner, entry).map(|holder| holder.attributes).unwrap_or_default();
            let wire = self.attributes[owner as usize].get(run.range()).unwrap_or_default();
            for (attribute, it) in (run.first..).zip(wire).filter(|(_, it)| it.state == State::Edited) {
                look(attribute, it.key, it.value);
            }
            // Added ones come last.
            let after = self.attributes[owner as usize].len() as u32;
            for (column, added) in (after..).zip(&self.added[owner as usize]) {
                if let Some(Some(value)) = added.values.get(entry) {
                    look(column, added.key, *value);
                }
            }
        }
    }

    /// The row of an entry, if it is still there.
    fn live_row(&self, owner: Owner, entry: usize) -> Option<u32> {
        let row = self.row(owner, entry as u32);
        (self.entry(owner, row as usize) == Some(entry)).then_some(row)
    }

    /// These texts, a column a key, keys in the order of their first sight.
    pub fn columns_of(&self, spots: impl Iterator<Item = Spot>) -> Vec<TextColumn> {
        let mut columns: Vec<TextColumn> = vec![];
        let mut column_of: Vec<u32> = vec![NONE; self.keys.entries.len()];
        for Spot { row, key, text, .. } in spots {
            let Some(place) = column_of.get_mut(key as usize) else { continue };
            if *place == NONE {
                *place = columns.len() as u32;
                columns.push(TextColumn::new(self.key(key)));
            }
            if let Some(column) = columns.get_mut(*place as usize) {
                column.push(row, self.bytes(text));
            }
        }
        columns
    }
}

fn is_within(hit: &Range<usize>, attribute: &Attribute) -> bool {
    let Value { slice, kind } = attribute.value;
    let start = slice.at as usize;
    let inside = start <= hit.start && hit.end <= start + slice.len as usize;
    inside && kind == Kind::Text && attribute.state == State::Wire
}

/// A place in an ascending table that only moves forwards, in steps that double:
/// what is looked for is most often near.
#[derive(Default)]
struct Cursor {
    passed: usize,
}

impl Cursor {
    /// The last place of which `before` holds; it holds of all places up to there.
    fn last(&mut self, len: usize, before: impl Fn(usize) -> bool) -> Option<usize> {
        let mut step = 1;
        while self.passed + step <= len && before(self.passed + step - 1) {
            self.passed += step;
            step *= 2;
        }
        while step > 0 {
            if self.passed + step <= len && before(self.passed + step - 1) {
                self.passed += step;
            }
            step /= 2;
        }
        self.passed.checked_sub(1)
    }
}
