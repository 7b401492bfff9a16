//! Regular expressions, run by the collector at native speed, so that a plugin
//! carries no engine.

use std::ops::Range;

use crate::columns::Texts;
use crate::raw::patterns as raw;
use crate::rejection::Rejection;
use crate::types::{Captures, Found};

/// A compiled regular expression: RE2 syntax, found in linear time.
///
/// Searches are [`Batch::find_matches`](crate::Batch::find_matches),
/// [`Edits::replace_matches`](crate::Edits::replace_matches) and
/// [`replace_in_texts`]. One that is not done by the call's deadline ends the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pattern {
    number: u32,
}

impl Pattern {
    /// Compiles a pattern; only in [`Processor::new`](crate::Processor::new),
    /// anywhere else it is refused. The rejection says what in the pattern is
    /// wrong, and where.
    ///
    /// A native test runs the `regex` crate instead, which reads `\d`, `\w` and
    /// `\s` as Unicode where the collector reads them as ASCII.
    pub fn new(pattern: &str) -> Result<Self, Rejection> {
        match raw::compile(pattern) {
            Ok(number) => Ok(Self { number }),
            Err(error) => Err(Rejection::new(format!("pattern `{pattern}`: {error}"))),
        }
    }

    /// The names of the groups; the first is the whole match. Empty where a group has none.
    pub fn group_names(self) -> Vec<String> {
        raw::group_names(self.number)
    }

    /// All matches in the texts, text after text.
    pub fn find(self, texts: Texts) -> Vec<Found> {
        raw::find_in_texts(self.number, &texts.into_packed())
    }

    /// The first match in each of the texts, with its groups.
    pub fn captures(self, texts: Texts) -> Captured {
        let Captures { texts, offsets } = raw::capture_in_texts(self.number, &texts.into_packed());
        Captured { texts, offsets }
    }
}

/// For each text whether any of the patterns matches it.
pub fn match_texts(patterns: &[Pattern], texts: Texts) -> Vec<bool> {
    let flags = raw::match_texts(&numbers(patterns), &texts.into_packed());
    flags.into_iter().map(|flag| flag != 0).collect()
}

/// The groups of first matches.
#[derive(Debug, Clone)]
pub struct Captured {
    texts: Vec<u32>,
    offsets: Vec<u32>,
}

impl Captured {
    /// Each text that matches, by its number, with its groups' ranges: the whole
    /// match first, `None` for a group that took no part.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Vec<Option<Range<usize>>>)> {
        let width = self.offsets.len().checked_div(self.texts.len()).unwrap_or_default().max(2);
        let range = |pair: &[u32]| match *pair {
            [start, end] if start != u32::MAX => Some(start as usize..end as usize),
            _ => None,
        };
        let groups = self.offsets.chunks(width).map(move |offsets| offsets.chunks(2).map(range).collect());
        self.texts.iter().copied().zip(groups)
    }
}

/// Replaces every match in the given texts, pattern after pattern. The
/// replacement is literal.
pub fn replace_in_texts(patterns: &[Pattern], texts: Texts, replacement: &str) -> Texts {
    let texts = texts.into_packed();
    let replaced = raw::replace_in_texts(&numbers(patterns), &texts, replacement);
    Texts::from_packed(replaced)
}

pub(crate) fn numbers(patterns: &[Pattern]) -> Vec<u32> {
    patterns.iter().map(|pattern| pattern.number).collect()
}
