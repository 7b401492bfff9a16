//! Regular expressions run for a guest: compiled while it is configured, read as
//! Go reads them (`syntax`), looked for in a whole batch at once where the
//! pattern allows it (`prefilter`), and never longer than the call may run
//! (`search`, `engine`), because neither the deadline's clock nor fuel acts
//! inside a host function.

mod engine;
mod prefilter;
mod search;
mod syntax;

pub use search::{Budget, Search};

use super::guest::GuestFault;
use engine::Pattern;

/// A longer pattern is refused.
const PATTERN_LIMIT: usize = 4096;
/// How many patterns one instance may hold.
const COUNT_LIMIT: usize = 256;
/// What the caches of all patterns may keep from call to call, in bytes.
const CACHE_LIMIT: usize = 8 << 20;

#[derive(Default)]
pub struct Patterns {
    compiled: Vec<Pattern>,
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
        let syntax = syntax::parse(pattern).map_err(|error| error.to_string())?;
        self.compiled.push(Pattern::compile(pattern, syntax)?);
        Ok(self.compiled.len() as u32 - 1)
    }

    /// The names of a pattern's groups; the first is the whole match.
    pub fn group_names(&self, number: u32) -> Result<Vec<String>, GuestFault> {
        Ok(self.get(number)?.names().to_vec())
    }

    /// Between calls: what searches keep to be fast is given back where it is much.
    pub fn tidy(&self) {
        if self.compiled.iter().map(Pattern::cached).sum::<usize>() > CACHE_LIMIT {
            self.compiled.iter().for_each(Pattern::forget);
        }
    }

    pub fn search<'a>(&'a self, numbers: &[u32], budget: Budget<'a>) -> Result<Search<'a>, GuestFault> {
        Ok(Search::new(numbers.iter().map(|&number| self.get(number)).collect::<Result<_, _>>()?, budget))
    }

    fn get(&self, number: u32) -> Result<&Pattern, GuestFault> {
        self.compiled.get(number as usize).ok_or(GuestFault::Pattern(number))
    }
}

#[cfg(test)]
mod tests;
