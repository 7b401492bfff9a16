//! What the collector lends, in native tests: patterns, log, metrics, clock, random.

pub(crate) mod patterns {
    use std::sync::{Mutex, PoisonError};

    use regex::{NoExpand, Regex};

    use super::super::{CALL, batch, each_text, pack, unpack, with_call};
    use crate::testing::{Edit, Replaced};
    use crate::types::{Captures, ChangedColumn, Found, Owner, Packed, PackedColumn};

    /// Every pattern of the process, since a test may configure a plugin on one
    /// thread and run it on another.
    static PATTERNS: Mutex<Vec<Regex>> = Mutex::new(Vec::new());

    pub fn compile(pattern: &str) -> Result<u32, String> {
        if CALL.with_borrow(Option::is_some) {
            return Err("patterns compile only while the plugin is configured".to_owned());
        }
        let compiled = Regex::new(pattern).map_err(|error| error.to_string())?;
        let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
        patterns.push(compiled);
        Ok(patterns.len() as u32 - 1)
    }

    fn compiled(numbers: &[u32]) -> Vec<Regex> {
        let patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
        let pattern = |&number: &u32| patterns[number as usize].clone();
        numbers.iter().map(pattern).collect()
    }

    fn replace(patterns: &[Regex], text: &str, replacement: &str) -> String {
        patterns.iter().fold(text.to_owned(), |text, pattern| pattern.replace_all(&text, NoExpand(replacement)).into())
    }

    pub fn find_matches(of: Owner, patterns: &[u32]) -> Vec<PackedColumn> {
        let patterns = compiled(patterns);
        let matches = |text: &str| patterns.iter().any(|pattern| pattern.is_match(text));
        let columns = batch::texts_where(of, matches).into_iter();
        columns.map(batch::packed).collect()
    }

    fn one(number: u32) -> Regex {
        compiled(&[number]).remove(0)
    }

    pub fn group_names(number: u32) -> Vec<String> {
        one(number).capture_names().map(|name| name.unwrap_or_default().to_owned()).collect()
    }

    pub fn match_texts(patterns: &[u32], texts: &Packed) -> Vec<u8> {
        let patterns = compiled(patterns);
        unpack(texts).iter().map(|text| u8::from(patterns.iter().any(|pattern| pattern.is_match(text)))).collect()
    }

    pub fn find_in_texts(number: u32, texts: &Packed) -> Vec<Found> {
        let pattern = one(number);
        let mut found = vec![];
        for (number, text) in (0..).zip(&unpack(texts)) {
            let each = pattern.find_iter(text);
            found.extend(each.map(|it| Found { text: number, start: it.start() as u32, end: it.end() as u32 }));
        }
        found
    }

    pub fn capture_in_texts(number: u32, texts: &Packed) -> Captures {
        let pattern = one(number);
        let mut found = Captures { texts: vec![], offsets: vec![] };
        for (number, text) in (0..).zip(&unpack(texts)) {
            let Some(captures) = pattern.captures(text) else { continue };
            found.texts.push(number);
            for group in captures.iter() {
                let offsets = group.map_or([u32::MAX; 2], |it| [it.start() as u32, it.end() as u32]);
                found.offsets.extend(offsets);
            }
        }
        found
    }

    pub fn replace_in_texts(patterns: &[u32], texts: &Packed, replacement: &str) -> Packed {
        let patterns = compiled(patterns);
        let texts = unpack(texts);
        let replaced: Vec<String> = texts.iter().map(|text| replace(&patterns, text, replacement)).collect();
        pack(replaced.iter().map(String::as_str))
    }

    pub fn replace_matches(of: Owner, patterns: &[u32], replacement: &str) -> Vec<ChangedColumn> {
        let patterns = compiled(patterns);
        with_call(|call| {
            let mut texts = Vec::new();
            each_text(&call.traces, of, |row, key, occurrence, old| {
                let text = replace(&patterns, old, replacement);
                if text != old {
                    texts.push(Replaced { row, key: key.to_owned(), occurrence, text });
                }
            });
            let changed = changed(&texts);
            call.edits.push(Edit::Replace { of, texts });
            changed
        })
    }

    fn changed(texts: &[Replaced]) -> Vec<ChangedColumn> {
        let mut columns: Vec<ChangedColumn> = Vec::new();
        for Replaced { row, key, .. } in texts {
            match columns.iter_mut().find(|column| column.key == *key) {
                Some(column) if column.rows.last() == Some(row) => {}
                Some(column) => column.rows.push(*row),
                None => columns.push(ChangedColumn { key: key.clone(), rows: vec![*row] }),
            }
        }
        columns
    }
}

pub(crate) mod host {
    use std::hash::{BuildHasher, Hasher, RandomState};
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::super::CALL;
    use crate::testing::Metric;
    use crate::types::{Label, LogLevel};

    pub fn log(level: LogLevel, message: &str) {
        eprintln!("{level:?}: {message}");
        CALL.with_borrow_mut(|call| {
            if let Some(call) = call {
                call.logs.push((level, message.to_owned()));
            }
        });
    }

    pub fn counter_add(name: &str, labels: &[Label], amount: f64) {
        let valid = amount.is_finite() && amount >= 0.0;
        assert!(valid, "trap: a counter cannot grow by {amount}");
        histogram_record(name, labels, amount);
    }

    pub fn histogram_record(name: &str, labels: &[Label], value: f64) {
        let labels = labels.iter();
        let metric = Metric {
            name: name.to_owned(),
            labels: labels.map(|label| (label.name.clone(), label.value.clone())).collect(),
            value,
        };
        CALL.with_borrow_mut(|call| {
            if let Some(call) = call {
                call.metrics.push(metric);
            }
        });
    }

    pub fn now() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    }

    pub fn random() -> u32 {
        // Every state is seeded by the system: an empty hash is a fresh number.
        RandomState::new().build_hasher().finish() as u32
    }
}
