//! Regular expressions run for a guest: compiled while it is configured, and a
//! budget of bytes searched for each call, because neither the deadline nor
//! fuel acts inside a host function.

use std::borrow::Cow;
use std::cell::Cell;

use regex::{NoExpand, Regex, RegexBuilder};

use super::guest::GuestFault;

/// A longer pattern is refused.
const PATTERN_LIMIT: usize = 4096;
/// What one compiled pattern may take, in bytes.
const COMPILED_LIMIT: usize = 1 << 20;
/// How deep groups may be nested in a pattern.
const NESTING_LIMIT: u32 = 64;
/// How many patterns one instance may hold.
const COUNT_LIMIT: usize = 256;
/// How many bytes the searches of one call may look at, each pattern counted.
const BUDGET: usize = 64 << 20;
/// Finding all matches may look at a text once for each match; a text is
/// charged again for each so many of them.
const CHARGE_EVERY: usize = 64;

#[derive(Default)]
pub struct Patterns {
    compiled: Vec<Regex>,
    spent: Cell<usize>,
}

impl Patterns {
    /// The number of the pattern, or what in it is wrong.
    pub fn compile(&mut self, pattern: &str) -> Result<u32, String> {
        if self.compiled.len() >= COUNT_LIMIT {
            return Err(format!("more than {COUNT_LIMIT} patterns"));
        }
        if pattern.len() > PATTERN_LIMIT {
            return Err(format!("the pattern is longer than {PATTERN_LIMIT} bytes"));
        }
        let built = RegexBuilder::new(pattern).size_limit(COMPILED_LIMIT).nest_limit(NESTING_LIMIT).build();
        self.compiled.push(built.map_err(|error| error.to_string())?);
        Ok(self.compiled.len() as u32 - 1)
    }

    /// The names of a pattern's groups; the first is the whole match.
    pub fn group_names(&self, number: u32) -> Result<Vec<String>, GuestFault> {
        let pattern = self.compiled.get(number as usize).ok_or(GuestFault::Pattern(number))?;
        Ok(pattern.capture_names().map(|name| name.unwrap_or_default().to_owned()).collect())
    }

    /// A new call begins, with a whole budget.
    pub fn refill(&self) {
        self.spent.set(0);
    }

    pub fn search(&self, numbers: &[u32]) -> Result<Search<'_>, GuestFault> {
        let find = |&number: &u32| self.compiled.get(number as usize).ok_or(GuestFault::Pattern(number));
        Ok(Search { patterns: numbers.iter().map(find).collect::<Result<_, _>>()?, spent: &self.spent })
    }
}

/// Some of a guest's patterns, with what is left of the call's budget.
pub struct Search<'a> {
    patterns: Vec<&'a Regex>,
    spent: &'a Cell<usize>,
}

impl Search<'_> {
    fn charge(&self, bytes: usize) -> Result<(), GuestFault> {
        self.spent.set(self.spent.get().saturating_add(bytes));
        if self.spent.get() > BUDGET { Err(GuestFault::Budget(BUDGET)) } else { Ok(()) }
    }

    /// Whether any of the patterns matches.
    pub fn matches(&self, text: &[u8]) -> Result<bool, GuestFault> {
        let text = std::str::from_utf8(text).unwrap_or_default();
        for pattern in &self.patterns {
            self.charge(text.len())?;
            if pattern.is_match(text) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Every match of every pattern, start and end.
    pub fn find(&self, text: &str, mut found: impl FnMut(usize, usize)) -> Result<(), GuestFault> {
        for pattern in &self.patterns {
            self.charge(text.len())?;
            for (at, hit) in (1..).zip(pattern.find_iter(text)) {
                if at % CHARGE_EVERY == 0 {
                    self.charge(text.len())?;
                }
                found(hit.start(), hit.end());
            }
        }
        Ok(())
    }

    /// Appends the start and the end of the first match and of each of its groups; false where there is none.
    pub fn capture(&self, text: &str, offsets: &mut Vec<u32>) -> Result<bool, GuestFault> {
        for pattern in &self.patterns {
            self.charge(text.len())?;
            let Some(captures) = pattern.captures(text) else { continue };
            for group in captures.iter() {
                let (start, end) = group.map_or((u32::MAX, u32::MAX), |it| (it.start() as u32, it.end() as u32));
                offsets.extend([start, end]);
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// The text with every match replaced, pattern after pattern.
    pub fn replace<'t>(&self, text: &'t str, replacement: &str) -> Result<Cow<'t, str>, GuestFault> {
        let mut text = Cow::Borrowed(text);
        for pattern in &self.patterns {
            let mut found = 0;
            for _ in pattern.find_iter(&text) {
                if found % CHARGE_EVERY == 0 {
                    self.charge(text.len())?;
                }
                found += 1;
            }
            if found > 0 {
                text = Cow::Owned(pattern.replace_all(&text, NoExpand(replacement)).into_owned());
            }
        }
        Ok(text)
    }
}
