//! The attributes that tell what was done to the others.

use std::collections::HashMap;

use vespid_plugin::{Batch, Edits, Owner, Texts};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Silent,
    /// Counts.
    Info,
    /// Counts and keys.
    Debug,
}

impl Level {
    /// Any other word than these two is silent, as with the Collector.
    pub fn of(word: &str) -> Self {
        match word {
            "debug" => Level::Debug,
            "info" => Level::Info,
            _ => Level::Silent,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Redacted,
    Masked,
    Allowed,
    Ignored,
}

/// Where each deed is told: the keys, and how many they are.
const PLACES: [(Deed, Option<&str>, &str); 4] = [
    (Deed::Redacted, Some("redaction.redacted.keys"), "redaction.redacted.count"),
    (Deed::Masked, Some("redaction.masked.keys"), "redaction.masked.count"),
    (Deed::Allowed, Some("redaction.allowed.keys"), "redaction.allowed.count"),
    (Deed::Ignored, None, "redaction.ignored.count"),
];

/// Those of an earlier redaction that need not be on the list of allowed keys.
/// (What it allowed is not among them.)
pub const ALLOWED: [&str; 5] = [
    "redaction.redacted.keys",
    "redaction.redacted.count",
    "redaction.masked.keys",
    "redaction.masked.count",
    "redaction.ignored.count",
];

/// True for a key in which an earlier redaction may have told what it did.
pub fn tells(key: &str) -> bool {
    PLACES.iter().any(|&(_, keys, count)| keys == Some(key) || count == key)
}

/// What was done to the rows of one owner.
pub struct Summary<'k> {
    level: Level,
    /// All keys of the owner, ascending; deeds name them by position.
    keys: &'k [String],
    deeds: [Vec<Vec<u32>>; 4],
    /// What became of attributes that an earlier redaction left: the new text, or
    /// `None` for one that is gone.
    changed: HashMap<(u32, String), Option<String>>,
}

impl<'k> Summary<'k> {
    pub fn new(level: Level, keys: &'k [String], rows: u32) -> Self {
        let rows = if level == Level::Silent { 0 } else { rows as usize };
        Self { level, keys, deeds: std::array::from_fn(|_| vec![Vec::new(); rows]), changed: HashMap::new() }
    }

    pub fn is_silent(&self) -> bool {
        self.level == Level::Silent
    }

    /// Keys are handed in in ascending order.
    pub fn note(&mut self, deed: Deed, row: u32, key: usize) {
        if let Some(done) = self.deeds.get_mut(deed as usize).and_then(|rows| rows.get_mut(row as usize)) {
            done.push(key as u32);
        }
    }

    pub fn note_change(&mut self, row: u32, key: &str, new: Option<&str>) {
        if !self.is_silent() && tells(key) {
            self.changed.insert((row, key.to_owned()), new.map(str::to_owned));
        }
    }

    pub fn write(self, batch: &Batch, edits: &mut Edits, of: Owner) {
        if self.is_silent() {
            return;
        }
        for (deed, keys, count) in PLACES {
            let Some(rows) = self.deeds.get(deed as usize) else { continue };
            if rows.iter().all(Vec::is_empty) {
                continue;
            }
            if let (Level::Debug, Some(keys)) = (self.level, keys) {
                self.write_keys(batch, edits, of, keys, rows);
            }
            self.write_counts(batch, edits, of, count, rows);
        }
    }

    fn was_there(&self, key: &str) -> bool {
        self.keys.binary_search_by(|probe| probe.as_str().cmp(key)).is_ok()
    }

    fn write_keys(&self, batch: &Batch, edits: &mut Edits, of: Owner, place: &str, deeds: &[Vec<u32>]) {
        let before = self.was_there(place).then(|| batch.text_attribute(of, place));
        let (mut rows, mut codes, mut dictionary) = (Vec::new(), Vec::new(), Texts::new());
        let mut known: HashMap<&[u32], u32> = HashMap::new();
        for (row, done) in (0..).zip(deeds).filter(|(_, done)| !done.is_empty()) {
            let earlier = match self.changed.get(&(row, place.to_owned())) {
                Some(new) => new.as_deref(),
                None => before.as_ref().and_then(|before| before.get(row)),
            };
            let code = match earlier.filter(|earlier| !earlier.is_empty()) {
                None => *known.entry(done).or_insert_with(|| dictionary.push(&self.joined(done, None))),
                earlier => dictionary.push(&self.joined(done, earlier)),
            };
            rows.push(row);
            codes.push(code);
        }
        edits.set_texts_coded(of, &rows, place, &codes, dictionary);
    }

    fn joined(&self, done: &[u32], earlier: Option<&str>) -> String {
        let mut keys: Vec<&str> = done.iter().filter_map(|&key| Some(self.keys.get(key as usize)?.as_str())).collect();
        keys.extend(earlier.into_iter().flat_map(|earlier| earlier.split(',')));
        keys.sort_unstable();
        keys.join(",")
    }

    fn write_counts(&self, batch: &Batch, edits: &mut Edits, of: Owner, place: &str, deeds: &[Vec<u32>]) {
        let before = self.was_there(place).then(|| batch.int_attribute(of, place));
        let mut by_count: HashMap<i64, Vec<u32>> = HashMap::new();
        for (row, done) in (0..).zip(deeds).filter(|(_, done)| !done.is_empty()) {
            let earlier = match self.changed.contains_key(&(row, place.to_owned())) {
                true => None,
                false => before.as_ref().and_then(|before| before.get(row)),
            };
            by_count.entry(earlier.unwrap_or_default().wrapping_add(done.len() as i64)).or_default().push(row);
        }
        for (count, rows) in by_count {
            edits.set(of, &rows, place, count);
        }
    }
}
