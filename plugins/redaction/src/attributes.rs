//! One owner's attributes, key by key.

use std::collections::HashMap;

use vespid_plugin::{Batch, Edits, KeyValue, Owner, TextColumn, Texts, Value, ValueKind};

use crate::Redaction;
use crate::databases::{SYSTEM_KEYS, System};
use crate::keys::Fate;
use crate::sanitize::{self, Dialect};
use crate::summary::{Deed, Summary};

/// The values of one key that have to be looked at: rows and numbers of texts.
struct Cells {
    key: usize,
    fate: Fate,
    texts: Vec<(u32, u32)>,
    /// What is no text, by the text that the rules see in its place.
    others: Vec<(u32, u32)>,
}

/// All that the rows hold that hold a key more than once.
type Doubles = HashMap<u32, Vec<KeyValue>>;

/// Whose statements are read how: the system of each row, and whether MySQL's
/// rules held when it had its turn.
struct Statements {
    systems: Vec<Option<System>>,
    my_sql: Vec<bool>,
}

impl Redaction {
    pub(crate) fn redact(&mut self, batch: &Batch, edits: &mut Edits, of: Owner, my_sql: &[bool]) {
        let mut keys = batch.attribute_keys(of);
        keys.sort_unstable();
        let fates = self.keys.fates(&keys);
        let mut summary = Summary::new(self.summary, &keys, batch.row_count(of));
        let doubles = self.doubles(batch, of, &fates, &summary);
        let (columns, texts) = self.gather(batch, of, &keys, &fates, &doubles, &mut summary, edits);
        let kept = self.values.allowed(&texts);
        let masked = self.values.masked(texts.clone());
        let statements = keys.iter().any(|key| self.databases.takes(key)).then(|| self.statements(batch, of, my_sql));
        for column in columns {
            let Some(key) = keys.get(column.key) else { continue };
            let mut settled: HashMap<(u32, Option<System>, Dialect), Option<u32>> = HashMap::new();
            let (mut old, mut new) = (Texts::new(), Texts::new());
            let mut settle = |cells: &[(u32, u32)]| {
                let (mut rows, mut codes) = (Vec::new(), Vec::new());
                for &(row, text) in cells {
                    if kept.get(text as usize) == Some(&true) {
                        summary.note(Deed::Allowed, row, column.key);
                        continue;
                    }
                    let (system, dialect) = statements.as_ref().map_or((None, Dialect::Any), |it| it.of_row(row));
                    let code = *settled.entry((text, system, dialect)).or_insert_with(|| {
                        let (was, masked) = (texts.get(text)?, masked.get(text)?);
                        let is = match column.fate {
                            Fate::Masked => self.values.mask.whole(was),
                            _ => self.sanitized(key, masked, system, dialect),
                        };
                        (column.fate == Fate::Masked || is != was).then(|| {
                            old.push(was);
                            new.push(&is)
                        })
                    });
                    let Some(code) = code else { continue };
                    summary.note(Deed::Masked, row, column.key);
                    summary.note_change(row, key, new.get(code));
                    rows.push(row);
                    codes.push(code);
                }
                (rows, codes)
            };
            let (rows, codes) = settle(&column.texts);
            let (other_rows, other_codes) = settle(&column.others);
            // Each text in its own place: a key may be held twice.
            edits.replace_texts(of, &rows, key, &codes, old, new.clone());
            edits.set_texts_coded(of, &other_rows, key, &other_codes, new);
        }
        summary.write(batch, edits, of);
    }

    fn sanitized(&self, key: &str, text: &str, system: Option<System>, dialect: Dialect) -> String {
        let text = match self.urls.takes(key) {
            true => sanitize::url(text),
            false => text.to_owned(),
        };
        system.and_then(|system| self.databases.attribute(key, &text, system, dialect)).unwrap_or(text)
    }

    /// What the rows hold that hold a key twice, where kinds alone may not do.
    fn doubles(&self, batch: &Batch, of: Owner, fates: &[Fate], summary: &Summary<'_>) -> Doubles {
        let needed = !summary.is_silent()
            || self.all_types
            || fates.contains(&Fate::Masked)
            || self.values.empty().masked.is_some();
        let rows = if needed { batch.duplicate_rows(of) } else { Vec::new() };
        rows.into_iter().map(|row| (row, batch.attributes(of, row))).collect()
    }

    /// Removes what its key condemns, and gathers the values that have to be seen.
    fn gather(
        &self,
        batch: &Batch,
        of: Owner,
        keys: &[String],
        fates: &[Fate],
        doubles: &Doubles,
        summary: &mut Summary<'_>,
        edits: &mut Edits,
    ) -> (Vec<Cells>, Texts) {
        let mut wanted = self.columns(batch, of, keys, fates, !summary.is_silent());
        let (mut columns, mut texts) = (Vec::new(), Texts::new());
        for (number, (key, &fate)) in keys.iter().zip(fates).enumerate() {
            match fate {
                Fate::Ignored if summary.is_silent() => {}
                Fate::Ignored => {
                    each_held(batch, of, key, doubles).into_iter().for_each(|row| summary.note(Deed::Ignored, row, number));
                }
                Fate::Removed if summary.is_silent() => edits.remove(of, &held(batch, of, key), key),
                Fate::Removed => {
                    let rows = each_held(batch, of, key, doubles);
                    for &row in &rows {
                        summary.note(Deed::Redacted, row, number);
                        summary.note_change(row, key, None);
                    }
                    edits.remove(of, &rows, key);
                }
                Fate::Masked | Fate::Checked => {
                    let mut column_texts = Vec::new();
                    if let Some(column) = wanted.remove(key) {
                        let base = texts.len() as u32;
                        column.dictionary().iter().for_each(|text| {
                            texts.push(text);
                        });
                        let each = column.rows().iter().zip(column.codes());
                        column_texts.extend(each.map(|(&row, &code)| (row, base + code)));
                    }
                    let others = self.others(batch, of, (key, fate), doubles, !summary.is_silent(), &mut texts);
                    if !(column_texts.is_empty() && others.is_empty()) {
                        columns.push(Cells { key: number, fate, texts: column_texts, others });
                    }
                }
            }
        }
        (columns, texts)
    }

    /// The columns of text that rules for values may change or have to tell of.
    fn columns(
        &self,
        batch: &Batch,
        of: Owner,
        keys: &[String],
        fates: &[Fate],
        tells: bool,
    ) -> HashMap<String, TextColumn> {
        let by_key = |column: TextColumn| (column.key().to_owned(), column);
        if tells && self.values.has_allowed() {
            return batch.text_attributes(of).into_iter().map(by_key).collect();
        }
        let mut columns = HashMap::new();
        if !self.values.blocked.is_empty() && fates.contains(&Fate::Checked) {
            columns.extend(batch.find_matches(of, &self.values.blocked).into_iter().map(by_key));
        }
        for (key, &fate) in keys.iter().zip(fates) {
            let whole = match fate {
                Fate::Masked => true,
                Fate::Checked => self.urls.takes(key) || self.databases.takes(key),
                _ => false,
            };
            if whole {
                columns.insert(key.clone(), batch.text_attribute(of, key));
            }
        }
        columns
    }

    /// Values that are no text: the rules see an empty text, or with
    /// `redact_all_types` what they would look like.
    fn others(
        &self,
        batch: &Batch,
        of: Owner,
        (key, fate): (&str, Fate),
        doubles: &Doubles,
        tells: bool,
        texts: &mut Texts,
    ) -> Vec<(u32, u32)> {
        let empty = self.values.empty();
        let matters = fate == Fate::Masked || empty.masked.is_some() || (empty.allowed && tells);
        if !matters && !self.all_types {
            return Vec::new();
        }
        let kinds = batch.attribute_kinds(of, key);
        let kinds = (0..).zip(kinds).filter(|(row, _)| doubles.is_empty() || !doubles.contains_key(row));
        let is_other = |(row, kind): (u32, Option<ValueKind>)| Some((row, kind.filter(|&kind| kind != ValueKind::Text)?));
        let others = kinds.filter_map(is_other);
        let doubled = doubles.iter().flat_map(|(&row, held)| held.iter().map(move |held| (row, held)));
        let doubled = doubled.filter(|(_, held)| held.key == key && held.value.kind() != ValueKind::Text);
        if !self.all_types {
            let mut number = None;
            let rows = others.map(|(row, _)| row).chain(doubled.map(|(row, _)| row));
            return rows.map(|row| (row, *number.get_or_insert_with(|| texts.push("")))).collect();
        }
        let ints = batch.int_attribute(of, key);
        let doubles = batch.double_attribute(of, key);
        let mut cells = Vec::new();
        for (row, kind) in others {
            let value = match kind {
                ValueKind::Int => ints.get(row).map(Value::Int),
                ValueKind::Double => doubles.get(row).map(Value::Double),
                _ => batch.attribute(of, row, key),
            };
            if let Some(value) = value {
                cells.push((row, texts.push(&shared::text::of(&value))));
            }
        }
        cells.extend(doubled.map(|(row, held)| (row, texts.push(&shared::text::of(&held.value)))));
        cells
    }

    fn statements(&self, batch: &Batch, of: Owner, my_sql: &[bool]) -> Statements {
        let columns = SYSTEM_KEYS.map(|key| batch.text_attribute(of, key));
        let system = |row| {
            let name = columns.iter().find_map(|column| column.get(row).filter(|name| !name.is_empty()))?;
            System::of(name)
        };
        let systems: Vec<Option<System>> = (0..batch.row_count(of)).map(system).collect();
        let rows = systems.len();
        let of_span = |row: &u32| my_sql.get(*row as usize).copied().unwrap_or_default();
        let my_sql = match of {
            _ if !self.databases.takes_sql() => Vec::new(),
            Owner::Span => my_sql.to_vec(),
            Owner::Event => batch.event_span_rows().iter().map(of_span).collect(),
            Owner::Resource => first_rows(&batch.resource_rows(), rows).iter().map(of_span).collect(),
            _ => first_rows(&batch.scope_rows(), rows).iter().map(of_span).collect(),
        };
        Statements { systems, my_sql }
    }
}

impl Statements {
    fn of_row(&self, row: u32) -> (Option<System>, Dialect) {
        let system = self.systems.get(row as usize).copied().flatten();
        let dialect = match self.my_sql.get(row as usize) {
            Some(true) => Dialect::MySql,
            _ => Dialect::Any,
        };
        (system, dialect)
    }
}

/// The rows that hold the key.
fn held(batch: &Batch, of: Owner, key: &str) -> Vec<u32> {
    let kinds = batch.attribute_kinds(of, key);
    (0..).zip(kinds).filter_map(|(row, kind)| kind.map(|_| row)).collect()
}

/// The same, but a row as often as it holds the key.
fn each_held(batch: &Batch, of: Owner, key: &str, doubles: &Doubles) -> Vec<u32> {
    let mut rows = held(batch, of, key);
    for (&row, held) in doubles {
        let times = held.iter().filter(|held| held.key == key).count();
        rows.extend(std::iter::repeat_n(row, times.saturating_sub(1)));
    }
    rows
}

/// For each owner the first span that it has.
fn first_rows(owners: &[u32], count: usize) -> Vec<u32> {
    let mut first = vec![0; count];
    for (row, &owner) in (0..owners.len() as u32).zip(owners).rev() {
        if let Some(first) = first.get_mut(owner as usize) {
            *first = row;
        }
    }
    first
}
