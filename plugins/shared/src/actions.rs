//! Actions on the attributes of spans or of resources, in the order of the
//! config, each seeing what those before it did.
//!
//! A plugin's reads do not see its own edits, so the state of every key that an
//! action touches is kept here, a slot a row, and turned into edits at the end. Only
//! what an action asks for is read: setting a constant everywhere reads nothing.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value as Json;
use vespid_plugin::patterns::match_texts;
use vespid_plugin::{Batch, Edits, Owner, Pattern, Rejection, Texts, Value};

use crate::convert::{self, Target};
use crate::{configured, text};

/// One action, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with `key` and `action`")]
pub struct ActionConfig {
    key: Option<String>,
    action: Option<String>,
    value: Option<Json>,
    from_attribute: Option<String>,
    from_context: Option<String>,
    default_value: Option<Json>,
    pattern: Option<String>,
    converted_type: Option<String>,
}

const ACTIONS: &str = "insert, update, upsert, delete, hash, extract, convert";

/// When a value is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// The key is not there.
    Insert,
    /// The key is there.
    Update,
    Upsert,
}

/// Where the value comes from; the default is taken where there is none.
#[derive(Debug)]
enum Source {
    Value(Value),
    Attribute(String),
    Context(Context),
    None,
}

#[derive(Debug)]
enum Context {
    ClientAddress,
    Auth(String),
    Metadata(String),
}

#[derive(Debug)]
enum Step {
    Set { key: String, condition: Condition, source: Source, default: Option<Value> },
    Delete { key: String, keys: Option<Keys> },
    Hash { key: String, keys: Option<Keys> },
    Extract { key: String, pattern: Pattern, groups: Vec<String> },
    Convert { key: String, target: Target },
}

/// A pattern for keys, and what it said of those that came by.
#[derive(Debug)]
struct Keys {
    pattern: Pattern,
    known: HashMap<String, bool>,
}

/// More keys are not remembered: a sender may invent them.
const KNOWN_KEYS: usize = 4096;

impl Keys {
    fn matching(&mut self, keys: &[String]) -> Vec<String> {
        let new: Vec<&String> = keys.iter().filter(|key| !self.known.contains_key(*key)).collect();
        if !new.is_empty() {
            if self.known.len() + new.len() > KNOWN_KEYS {
                self.known.clear();
            }
            let found = match_texts(&[self.pattern], new.iter().collect());
            self.known.extend(new.into_iter().cloned().zip(found));
        }
        // Those that were forgotten a moment ago are asked for again.
        let asked = |key: &String| match self.known.get(key) {
            Some(found) => *found,
            None => match_texts(&[self.pattern], [key].into_iter().collect()) == [true],
        };
        keys.iter().filter(|key| asked(key)).cloned().collect()
    }
}

/// Actions, checked.
#[derive(Debug)]
pub struct Actions {
    steps: Vec<Step>,
}

impl Actions {
    /// Checks the actions that stand under `path`.
    pub fn check(configs: Vec<ActionConfig>, path: &str, wrong: &mut Vec<Rejection>) -> Self {
        let mut steps = vec![];
        for (at, config) in configs.into_iter().enumerate() {
            let path = format!("{path}[{at}]");
            match config.check() {
                Ok(step) => steps.push(step),
                Err((key, message, hint)) => {
                    let rejection = Rejection::new(format!("{path}{key}: {message}"));
                    wrong.push(if hint.is_empty() { rejection } else { rejection.hint(hint) });
                }
            }
        }
        Self { steps }
    }

    /// Works on the given rows.
    pub fn process(&mut self, batch: &Batch, edits: &mut Edits, of: Owner, rows: &[u32]) {
        if rows.is_empty() {
            return;
        }
        let mut work = Work { batch, of, rows, count: batch.row_count(of) as usize, columns: vec![], values: vec![] };
        self.steps.iter_mut().for_each(|step| work.take(step));
        work.finish(edits);
    }
}

/// The key at fault, what is wrong, what to try.
type Wrong = (&'static str, String, String);

impl ActionConfig {
    fn check(self) -> Result<Step, Wrong> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let name = self.action.as_deref().unwrap_or_default().to_lowercase();
        let known = ACTIONS.split(", ").any(|known| known == name);
        if !known {
            return Err(match &self.action {
                None => ("", "an action needs its `action`".into(), format!("one of {ACTIONS}")),
                Some(other) => (".action", format!("`{other}` is not known"), format!("one of {ACTIONS}")),
            });
        }
        let by_pattern = matches!(name.as_str(), "delete" | "hash");
        if !(given(&self.key) || by_pattern && given(&self.pattern)) {
            let either = if by_pattern { "`key` or `pattern`" } else { "`key`" };
            return Err(("", format!("`{name}` needs a {either}"), String::new()));
        }
        let unused = |key: &'static str, is_given: bool| match is_given {
            true => Err((key, format!("`{name}` does not use it"), "remove it".to_owned())),
            false => Ok(()),
        };
        let has_value = self.value.is_some();
        let (from_attribute, from_context) = (given(&self.from_attribute), given(&self.from_context));
        match name.as_str() {
            "insert" | "update" | "upsert" => {
                unused(".pattern", given(&self.pattern))?;
                unused(".converted_type", given(&self.converted_type))?;
            }
            "delete" | "hash" => {
                unused(".value", has_value)?;
                unused(".from_attribute", from_attribute)?;
                unused(".converted_type", given(&self.converted_type))?;
            }
            _ => {
                unused(".value", has_value)?;
                unused(".from_attribute", from_attribute)?;
                unused(".from_context", from_context)?;
                let other = if name == "extract" { &self.converted_type } else { &self.pattern };
                unused(if name == "extract" { ".converted_type" } else { ".pattern" }, given(other))?;
            }
        }
        let key = self.key.clone().unwrap_or_default();
        match name.as_str() {
            "delete" => Ok(Step::Delete { key, keys: self.keys()? }),
            "hash" => Ok(Step::Hash { key, keys: self.keys()? }),
            "extract" => self.extract(key),
            "convert" => match self.converted_type.as_deref().map(|name| (name, Target::named(name))) {
                Some((_, Some(target))) => Ok(Step::Convert { key, target }),
                Some((name, None)) if !name.is_empty() => {
                    let hint = format!("one of {}", Target::NAMES.join(", "));
                    Err((".converted_type", format!("`{name}` is not known"), hint))
                }
                _ => Err(("", "`convert` needs a `converted_type`".into(), "one of int, double, string".into())),
            },
            _ => self.set(key, &name),
        }
    }

    fn set(self, key: String, name: &str) -> Result<Step, Wrong> {
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let condition = match name {
            "insert" => Condition::Insert,
            "update" => Condition::Update,
            _ => Condition::Upsert,
        };
        let default = self.default_value.as_ref().map(configured);
        let sources = "`value`, `from_attribute` or `from_context`";
        let source = match (self.value.as_ref().map(configured), text(self.from_attribute), text(self.from_context)) {
            (Some(value), None, None) => Source::Value(value),
            (None, Some(from), None) => Source::Attribute(from),
            (None, None, Some(from)) => Source::Context(Context::named(&from)),
            (None, None, None) if default.is_some() => Source::None,
            (None, None, None) => return Err(("", format!("`{name}` needs one of {sources}"), String::new())),
            _ => return Err(("", format!("more than one of {sources}"), "leave one of them".into())),
        };
        Ok(Step::Set { key, condition, source, default })
    }

    fn keys(&self) -> Result<Option<Keys>, Wrong> {
        let Some(pattern) = self.pattern.as_deref().filter(|pattern| !pattern.is_empty()) else { return Ok(None) };
        let pattern = Pattern::new(pattern).map_err(|error| (".pattern", error.text().to_owned(), String::new()))?;
        Ok(Some(Keys { pattern, known: HashMap::new() }))
    }

    fn extract(self, key: String) -> Result<Step, Wrong> {
        let Some(Keys { pattern, .. }) = self.keys()? else {
            return Err(("", "`extract` needs a `pattern`".into(), "such as `^/api/(?P<version>v[0-9]+)/`".into()));
        };
        let groups = pattern.group_names();
        let hint = "write `(?P<name>…)`, or `(?:…)` for a group that gives no attribute";
        match groups.get(1..) {
            None | Some([]) => Err((".pattern", "it has no groups, and they name the attributes".into(), hint.into())),
            Some(named) if named.contains(&String::new()) => {
                Err((".pattern", "one of its groups has no name".into(), hint.into()))
            }
            Some(_) => Ok(Step::Extract { key, pattern, groups }),
        }
    }
}

impl Context {
    fn named(name: &str) -> Self {
        match (name, name.strip_prefix("auth."), name.strip_prefix("metadata.")) {
            ("client.address", ..) => Self::ClientAddress,
            (_, Some(name), _) => Self::Auth(name.to_owned()),
            (_, _, Some(name)) => Self::Metadata(name.to_owned()),
            // Metadata needed no prefix once.
            _ => Self::Metadata(name.to_owned()),
        }
    }

    fn value(&self, batch: &Batch) -> Option<Value> {
        let values = match self {
            Self::ClientAddress => vec![address(&batch.client_address())],
            Self::Auth(name) => batch.auth(name),
            Self::Metadata(name) => batch.metadata(name),
        };
        (!values.is_empty()).then(|| Value::Text(values.join(";")))
    }
}

/// The address without its port; one of IPv4 inside IPv6 as one of IPv4.
fn address(client: &str) -> String {
    match client.parse::<std::net::SocketAddr>() {
        Ok(client) => client.ip().to_canonical().to_string(),
        Err(_) => client.to_owned(),
    }
}

/// What a row holds under a key, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// As it came, and not looked at.
    Unread,
    Absent,
    /// As it came: something.
    Present,
    /// As it came: the value of this number.
    Held(u32),
    /// Set to the value of this number.
    Set(u32),
    Removed,
}

struct Column {
    key: String,
    slots: Vec<Slot>,
}

/// The state of one batch.
struct Work<'a> {
    batch: &'a Batch,
    of: Owner,
    rows: &'a [u32],
    count: usize,
    columns: Vec<Column>,
    /// Every value that a slot names.
    values: Vec<Value>,
}

impl Work<'_> {
    fn take(&mut self, step: &mut Step) {
        match step {
            Step::Set { key, condition, source, default } => self.set(key, *condition, source, default.as_ref()),
            Step::Delete { key, keys } => {
                self.delete(key);
                let matching = keys.as_mut().map(|keys| keys.matching(&self.keys()));
                matching.into_iter().flatten().for_each(|key| self.delete(&key));
            }
            Step::Hash { key, keys } => {
                self.replace(key, |value| Some(Value::Text(convert::hash(value))));
                let matching = keys.as_mut().map(|keys| keys.matching(&self.keys()));
                for key in matching.into_iter().flatten() {
                    self.replace(&key, |value| Some(Value::Text(convert::hash(value))));
                }
            }
            Step::Extract { key, pattern, groups } => self.extract(key, *pattern, groups),
            Step::Convert { key, target } => self.replace(key, |value| convert::to(*target, value)),
        }
    }

    /// The place of a key's column.
    fn column(&mut self, key: &str) -> usize {
        match self.columns.iter().position(|column| column.key == key) {
            Some(at) => at,
            None => {
                self.columns.push(Column { key: key.to_owned(), slots: vec![Slot::Unread; self.count] });
                self.columns.len() - 1
            }
        }
    }

    fn intern(&mut self, value: Value) -> u32 {
        self.values.push(value);
        self.values.len() as u32 - 1
    }

    /// The column, of which it is known where something is.
    fn presence(&mut self, key: &str) -> usize {
        let at = self.column(key);
        if self.columns[at].slots.contains(&Slot::Unread) {
            let kinds = self.batch.attribute_kinds(self.of, key);
            for (slot, kind) in self.columns[at].slots.iter_mut().zip(kinds) {
                if *slot == Slot::Unread {
                    *slot = if kind.is_some() { Slot::Present } else { Slot::Absent };
                }
            }
        }
        at
    }

    /// The column, with the values of all rows that are worked on.
    fn with_values(&mut self, key: &str) -> usize {
        let at = self.presence(key);
        if !self.columns[at].slots.contains(&Slot::Present) {
            return at;
        }
        let (batch, of) = (self.batch, self.of);
        let texts = batch.text_attribute(of, key);
        let first = self.values.len() as u32;
        self.values.extend(texts.dictionary().iter().map(|text| Value::Text(text.to_owned())));
        let mut held: Vec<Option<u32>> = vec![None; self.count];
        for (&row, &code) in texts.rows().iter().zip(texts.codes()).rev() {
            held[row as usize] = Some(first + code);
        }
        // A row whose first value is no text may have one under the same key behind it.
        let kinds = batch.attribute_kinds(of, key);
        for &row in self.rows {
            let slot = row as usize;
            if self.columns[at].slots[slot] != Slot::Present {
                continue;
            }
            let is_text = kinds.get(slot) == Some(&Some(vespid_plugin::ValueKind::Text));
            let number = match held[slot].filter(|_| is_text) {
                Some(number) => Some(number),
                None => batch.attribute(of, row, key).map(|value| self.intern(value)),
            };
            if let Some(number) = number {
                self.columns[at].slots[slot] = Slot::Held(number);
            }
        }
        at
    }

    /// Every key that some row holds now, or held before.
    fn keys(&self) -> Vec<String> {
        let mut keys = self.batch.attribute_keys(self.of);
        for column in &self.columns {
            let is_set = column.slots.iter().any(|slot| matches!(slot, Slot::Set(_)));
            if is_set && !keys.contains(&column.key) {
                keys.push(column.key.clone());
            }
        }
        keys
    }

    fn set(&mut self, key: &str, condition: Condition, source: &Source, default: Option<&Value>) {
        let constant = match source {
            Source::Value(value) => Some(value.clone()),
            Source::Context(context) => context.value(self.batch).or_else(|| default.cloned()),
            Source::None => default.cloned(),
            Source::Attribute(from) => return self.copy(key, condition, from, default),
        };
        let Some(value) = constant else { return };
        let at = if condition == Condition::Upsert { self.column(key) } else { self.presence(key) };
        let number = self.intern(value);
        for &row in self.rows {
            self.columns[at].put(row, condition, Some(number));
        }
    }

    fn copy(&mut self, key: &str, condition: Condition, from: &str, default: Option<&Value>) {
        let source = self.with_values(from);
        let default = default.cloned().map(|value| self.intern(value));
        let at = if condition == Condition::Upsert { self.column(key) } else { self.presence(key) };
        for &row in self.rows {
            let number = self.columns[source].value(row).or(default);
            self.columns[at].put(row, condition, number);
        }
    }

    fn delete(&mut self, key: &str) {
        let at = self.column(key);
        for &row in self.rows {
            let slot = &mut self.columns[at].slots[row as usize];
            if *slot != Slot::Absent {
                *slot = Slot::Removed;
            }
        }
    }

    /// Puts another value in the place of each, where `new` has one.
    fn replace(&mut self, key: &str, new: impl Fn(&Value) -> Option<Value>) {
        let at = self.with_values(key);
        let mut known: HashMap<u32, Option<u32>> = HashMap::new();
        for &row in self.rows {
            let Some(old) = self.columns[at].value(row) else { continue };
            let number = match known.get(&old) {
                Some(number) => *number,
                None => {
                    let number = new(&self.values[old as usize]).map(|value| self.intern(value));
                    known.insert(old, number);
                    number
                }
            };
            if let Some(number) = number {
                self.columns[at].slots[row as usize] = Slot::Set(number);
            }
        }
    }

    fn extract(&mut self, key: &str, pattern: Pattern, groups: &[String]) {
        let at = self.with_values(key);
        let mut numbers: Vec<u32> = self.rows.iter().filter_map(|&row| self.columns[at].value(row)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|&number| matches!(self.values[number as usize], Value::Text(_)));
        let texts: Vec<String> = numbers.iter().map(|&number| text::of(&self.values[number as usize])).collect();
        let captured = pattern.captures(texts.iter().collect::<Texts>());
        // By value, what each group found in it.
        let mut found: HashMap<u32, Vec<u32>> = HashMap::new();
        for (text, ranges) in captured.iter() {
            let (text, number) = (&texts[text as usize], numbers[text as usize]);
            let group = |range: Option<std::ops::Range<usize>>| range.and_then(|it| text.get(it)).unwrap_or_default();
            let values = ranges.into_iter().map(|range| self.intern(Value::Text(group(range).to_owned())));
            found.insert(number, values.collect());
        }
        if found.is_empty() {
            return;
        }
        let sources: Vec<_> = self.rows.iter().map(|&row| self.columns[at].value(row)).collect();
        for (group, name) in groups.iter().enumerate().skip(1) {
            let target = self.column(name);
            for (&row, source) in self.rows.iter().zip(&sources) {
                let value = source.and_then(|source| found.get(&source)?.get(group).copied());
                self.columns[target].put(row, Condition::Upsert, value);
            }
        }
    }

    /// Orders the edits.
    fn finish(self, edits: &mut Edits) {
        for column in &self.columns {
            let removed: Vec<u32> =
                (0..).zip(&column.slots).filter(|(_, slot)| **slot == Slot::Removed).map(|(row, _)| row).collect();
            edits.remove(self.of, &removed, &column.key);
            self.order_sets(edits, column);
        }
    }

    /// One edit for all texts, and one for each other value.
    fn order_sets(&self, edits: &mut Edits, column: &Column) {
        let mut by_value: Vec<(u32, Vec<u32>)> = vec![];
        let mut place: HashMap<u32, usize> = HashMap::new();
        let mut last = (u32::MAX, 0);
        for (row, slot) in (0..).zip(&column.slots) {
            let Slot::Set(number) = *slot else { continue };
            if last.0 != number {
                let at = *place.entry(number).or_insert_with(|| {
                    by_value.push((number, vec![]));
                    by_value.len() - 1
                });
                last = (number, at);
            }
            by_value[last.1].1.push(row);
        }
        if let [(number, rows)] = by_value.as_slice() {
            return edits.set(self.of, rows, &column.key, self.values[*number as usize].clone());
        }
        let (mut texts, mut rows, mut codes) = (Texts::new(), vec![], vec![]);
        for (number, with_it) in by_value {
            match &self.values[number as usize] {
                Value::Text(text) => {
                    let code = texts.push(text);
                    codes.extend(with_it.iter().map(|_| code));
                    rows.extend(with_it);
                }
                value => edits.set(self.of, &with_it, &column.key, value.clone()),
            }
        }
        edits.set_texts_coded(self.of, &rows, &column.key, &codes, texts);
    }
}

impl Column {
    /// The number of the value that the row has now, once values were read.
    fn value(&self, row: u32) -> Option<u32> {
        match self.slots.get(row as usize)? {
            Slot::Held(number) | Slot::Set(number) => Some(*number),
            Slot::Unread | Slot::Absent | Slot::Present | Slot::Removed => None,
        }
    }

    fn put(&mut self, row: u32, condition: Condition, number: Option<u32>) {
        let (Some(number), Some(slot)) = (number, self.slots.get_mut(row as usize)) else { return };
        let absent = matches!(slot, Slot::Absent | Slot::Removed);
        let applies = match condition {
            Condition::Insert => absent,
            Condition::Update => !absent,
            Condition::Upsert => true,
        };
        if applies {
            *slot = Slot::Set(number);
        }
    }
}
