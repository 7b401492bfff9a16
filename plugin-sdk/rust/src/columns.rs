//! What a bulk read returns: one column for the whole batch, so that a plugin
//! pays one call for a field and not one for a span.

use std::fmt;

use crate::types::{ChangedColumn, Packed, PackedColumn, TextColumn as ListColumn};

/// An id of `N` bytes as OTLP carries it; shows as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<const N: usize>(pub [u8; N]);

/// 16 bytes.
pub type TraceId = Id<16>;
/// 8 bytes.
pub type SpanId = Id<8>;

impl<const N: usize> Id<N> {
    /// True for the id that OTLP calls invalid; a root span's parent reads so.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }
}

impl<const N: usize> Default for Id<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Display for Id<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Id<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The ids of all rows.
#[derive(Debug, Clone)]
pub struct Ids<const N: usize> {
    bytes: Vec<u8>,
}

impl<const N: usize> Ids<N> {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / N
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The id of a row, or `None` past the last one.
    pub fn get(&self, row: u32) -> Option<Id<N>> {
        self.bytes.as_chunks().0.get(row as usize).copied().map(Id)
    }

    /// The ids in row order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Id<N>> + '_ {
        self.bytes.as_chunks().0.iter().copied().map(Id)
    }
}

/// Many texts in one buffer; reading one allocates nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    data: String,
    ends: Vec<u32>,
}

impl Texts {
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn from_packed(packed: Packed) -> Self {
        #[cfg(not(target_arch = "wasm32"))]
        let data = String::from_utf8(packed.data).expect("the texts of a batch are UTF-8");
        // Validating again would cost more than most plugins do with the text.
        // SAFETY: the interface promises UTF-8 and the collector keeps only
        // validated text. It also owns all of this module's memory, so that
        // there is nothing to defend against it.
        #[cfg(target_arch = "wasm32")]
        let data = unsafe { String::from_utf8_unchecked(packed.data) };
        Self { data, ends: packed.ends }
    }

    pub(crate) fn into_packed(self) -> Packed {
        Packed { data: self.data.into_bytes(), ends: self.ends }
    }

    /// Appends a text and returns its index. All texts together may take 4 GiB.
    pub fn push(&mut self, text: &str) -> u32 {
        self.data.push_str(text);
        self.ends.push(self.data.len() as u32);
        self.ends.len() as u32 - 1
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Text `index`, or `None` past the last one.
    pub fn get(&self, index: u32) -> Option<&str> {
        let index = index as usize;
        let end = *self.ends.get(index)? as usize;
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1] as usize,
        };
        self.data.get(start..end)
    }

    /// The texts in order; for a column of names the position is the row.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.data[start..end as usize];
            start = end as usize;
            text
        })
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut packed = Texts::new();
        for text in texts {
            packed.push(text.as_ref());
        }
        packed
    }
}

/// The rows that hold a key as text, and their values, behind a dictionary:
/// entry i is on row `rows()[i]` and has text `dictionary()[codes()[i]]`.
///
/// Rows ascend. OTLP attributes are a list, so a row that holds the key twice
/// comes twice. The dictionary may repeat a text.
#[derive(Debug, Clone)]
pub struct TextColumn {
    key: String,
    rows: Vec<u32>,
    codes: Vec<u32>,
    dictionary: Texts,
}

impl TextColumn {
    pub(crate) fn from_packed(column: PackedColumn) -> Self {
        Self {
            key: column.key,
            rows: column.rows,
            codes: column.codes,
            dictionary: Texts::from_packed(column.dictionary),
        }
    }

    pub(crate) fn from_list(column: ListColumn) -> Self {
        Self {
            key: column.key,
            codes: (0..column.rows.len() as u32).collect(),
            rows: column.rows,
            dictionary: column.values.into_iter().collect(),
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    pub fn dictionary(&self) -> &Texts {
        &self.dictionary
    }

    /// The first text that the row holds, found by bisection.
    pub fn get(&self, row: u32) -> Option<&str> {
        let first = self.rows.partition_point(|&other| other < row);
        if self.rows.get(first) != Some(&row) {
            return None;
        }
        self.dictionary.get(*self.codes.get(first)?)
    }

    /// Each row with its text, rows ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        let texts = self.codes.iter().map(|&code| self.dictionary.get(code).unwrap_or_default());
        self.rows.iter().copied().zip(texts)
    }

    /// The rows whose text passes; each dictionary text is tried once.
    pub fn rows_where(&self, accept: impl FnMut(&str) -> bool) -> Vec<u32> {
        let accepted: Vec<bool> = self.dictionary.iter().map(accept).collect();
        self.rows
            .iter()
            .zip(&self.codes)
            .filter(|&(_, &code)| accepted.get(code as usize) == Some(&true))
            .map(|(&row, _)| row)
            .collect()
    }
}

/// The rows that hold a key as a number or a boolean, and their values.
/// Rows ascend; a row that holds the key twice comes twice.
#[derive(Debug, Clone)]
pub struct Column<T> {
    rows: Vec<u32>,
    values: Vec<T>,
}

impl<T: Copy> Column<T> {
    pub(crate) fn new(rows: Vec<u32>, values: Vec<T>) -> Self {
        Self { rows, values }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The first value that the row holds, found by bisection.
    pub fn get(&self, row: u32) -> Option<T> {
        let first = self.rows.partition_point(|&other| other < row);
        if self.rows.get(first) != Some(&row) {
            return None;
        }
        self.values.get(first).copied()
    }

    /// Each row with its value, rows ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, T)> + '_ {
        self.rows.iter().copied().zip(self.values.iter().copied())
    }
}

/// What an edit by pattern changed: the rows under each key.
pub type Changed = Vec<ChangedColumn>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_shows_as_hex() {
        assert_eq!(Id([0x0a, 0xff]).to_string(), "0aff");
        assert!(SpanId::default().is_zero());
    }

    #[test]
    fn packed_texts_read_back_in_order() {
        let texts: Texts = ["é", "", "abc"].into_iter().collect();
        assert_eq!(texts.iter().collect::<Vec<_>>(), ["é", "", "abc"]);
        assert_eq!((texts.get(2), texts.get(3)), (Some("abc"), None));
    }

    #[test]
    fn a_column_answers_with_the_first_text_of_a_row() {
        let column = TextColumn {
            key: "k".into(),
            rows: vec![1, 4, 4],
            codes: vec![1, 0, 1],
            dictionary: ["a", "b"].into_iter().collect(),
        };
        assert_eq!(column.get(4), Some("a"));
        assert_eq!(column.get(2), None);
        assert_eq!(column.rows_where(|text| text == "b"), [1, 4]);
        assert_eq!(column.iter().collect::<Vec<_>>(), [(1, "b"), (4, "a"), (4, "b")]);
    }
}
