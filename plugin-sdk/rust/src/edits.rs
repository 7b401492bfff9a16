//! Edits of the batch now being processed.

use crate::batch::StatusCode;
use crate::columns::{Changed, TextColumn, Texts};
use crate::patterns::{Pattern, numbers};
use crate::raw::edits as raw;
use crate::types::{Owner, Value};

/// Edits of the batch now being processed. They take effect together when
/// `process` returns ok, and not at all when it traps or returns an error: in
/// call order, drops last, rows numbered as at the start of the call.
///
/// Rows may come unsorted; one out of range traps. A set leaves exactly one
/// attribute of the key, in the first one's place or at the end. No rows is no
/// edit and costs nothing.
#[derive(Debug)]
pub struct Edits {
    // Only the SDK makes one: edits trap outside of `process`.
    _private: (),
}

impl Edits {
    pub(crate) fn current() -> Self {
        Self { _private: () }
    }

    /// Drops spans; the reason reaches the account and `vespid why`.
    pub fn drop_spans(&mut self, rows: &[u32], reason: &str) {
        if !rows.is_empty() {
            raw::drop_spans(rows, reason);
        }
    }

    /// Sets the same value on every row.
    pub fn set(&mut self, of: Owner, rows: &[u32], key: &str, value: impl Into<Value>) {
        if !rows.is_empty() {
            raw::set_attribute(of, rows, key, &value.into());
        }
    }

    /// Sets `values[i]` on `rows[i]`; traps when the lengths differ.
    pub fn set_texts<T: AsRef<str>>(&mut self, of: Owner, rows: &[u32], key: &str, values: &[T]) {
        if rows.is_empty() && values.is_empty() {
            return;
        }
        let mut dictionary = Texts::new();
        let mut codes = Vec::with_capacity(values.len());
        let mut previous: Option<(&str, u32)> = None;
        for value in values.iter().map(T::as_ref) {
            // Equal values tend to follow each other; a full lookup would
            // cost more than the bytes that it saves.
            let code = match previous {
                Some((text, code)) if text == value => code,
                _ => dictionary.push(value),
            };
            previous = Some((value, code));
            codes.push(code);
        }
        raw::set_text_attribute_coded(of, rows, key, &codes, &dictionary.into_packed());
    }

    /// Sets `dictionary[codes[i]]` on `rows[i]`; traps when the lengths differ
    /// or a code lies beyond the dictionary.
    pub fn set_texts_coded(&mut self, of: Owner, rows: &[u32], key: &str, codes: &[u32], dictionary: Texts) {
        if !(rows.is_empty() && codes.is_empty()) {
            raw::set_text_attribute_coded(of, rows, key, codes, &dictionary.into_packed());
        }
    }

    /// In their place: on `rows[i]`, what reads `old[codes[i]]` under the key gets
    /// `new[codes[i]]`. A key that a row holds twice keeps both. Traps when rows and
    /// codes, or old and new texts, are not as many.
    pub fn replace_texts(&mut self, of: Owner, rows: &[u32], key: &str, codes: &[u32], old: Texts, new: Texts) {
        if !(rows.is_empty() && codes.is_empty()) {
            raw::replace_texts(of, rows, key, codes, &old.into_packed(), &new.into_packed());
        }
    }

    /// Puts new texts in the place of a column's texts: `new` is asked once for
    /// each dictionary text and answers `None` to leave it. Returns how many
    /// entries changed. A key that a row holds twice keeps both.
    pub fn rewrite(&mut self, of: Owner, column: &TextColumn, mut new: impl FnMut(&str) -> Option<String>) -> usize {
        let (mut before, mut after) = (Texts::new(), Texts::new());
        let replaced: Vec<Option<u32>> = column
            .dictionary()
            .iter()
            .map(|text| {
                let new = new(text)?;
                before.push(text);
                Some(after.push(&new))
            })
            .collect();
        if after.is_empty() {
            return 0;
        }
        let (rows, codes): (Vec<u32>, Vec<u32>) = column
            .rows()
            .iter()
            .zip(column.codes())
            .filter_map(|(&row, &code)| Some((row, (*replaced.get(code as usize)?)?)))
            .unzip();
        self.replace_texts(of, &rows, column.key(), &codes, before, after);
        rows.len()
    }

    /// Removes every attribute of that key.
    pub fn remove(&mut self, of: Owner, rows: &[u32], key: &str) {
        if !rows.is_empty() {
            raw::remove_attribute(of, rows, key);
        }
    }

    /// Names span `rows[i]` `names[i]`; traps when the lengths differ.
    pub fn set_names<T: Into<String>>(&mut self, rows: &[u32], names: impl IntoIterator<Item = T>) {
        let names: Vec<String> = names.into_iter().map(T::into).collect();
        if !(rows.is_empty() && names.is_empty()) {
            raw::set_names(rows, &names);
        }
    }

    /// Sets the status of spans; OTLP wants a message only with `Error`.
    pub fn set_status(&mut self, rows: &[u32], code: StatusCode, message: &str) {
        if !rows.is_empty() {
            raw::set_status(rows, code as u8, message);
        }
    }

    /// Sets Tempo's tenant (`X-Scope-OrgID`) of spans.
    pub fn set_tenant(&mut self, rows: &[u32], tenant: &str) {
        if !rows.is_empty() {
            raw::set_tenant(rows, tenant);
        }
    }

    /// Replaces every match in the batch's text attributes, pattern after
    /// pattern, wholly in the collector. The replacement is literal.
    pub fn replace_matches(&mut self, of: Owner, patterns: &[Pattern], replacement: &str) -> Changed {
        crate::raw::patterns::replace_matches(of, &numbers(patterns), replacement)
    }
}
