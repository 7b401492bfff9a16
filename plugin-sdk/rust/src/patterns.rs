//! Regular expressions, run by the collector at native speed, so that a plugin
//! carries no engine.

use crate::columns::Texts;
use crate::raw::patterns as raw;
use crate::rejection::Rejection;

/// A compiled regular expression: RE2 syntax, found in linear time.
///
/// Searches are [`Batch::find_matches`](crate::Batch::find_matches),
/// [`Edits::replace_matches`](crate::Edits::replace_matches) and
/// [`replace_in_texts`]. One that exceeds the call's budget traps.
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
