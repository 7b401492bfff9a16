//! One compiled pattern. Texts of ordinary length are given to the library's
//! engine, which picks the fastest way and cannot be interrupted. A search that
//! could take long there is stepped through with a look at the clock (`step`).

mod step;

use std::cell::{OnceCell, RefCell};

use regex_automata::meta::{Cache, Regex};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;

use super::prefilter::Prefilter;
use super::search::Budget;
use super::syntax::Syntax;
use crate::plugin::guest::GuestFault;
use step::Stepper;

/// What one compiled pattern may take, in bytes.
const COMPILED_LIMIT: usize = 1 << 20;
/// What each of a pattern's caches may take, in bytes.
const CACHE_CAPACITY: usize = 1 << 20;
/// What the library's engine is let do without a look at the clock: 10 ms at worst.
const STEPS_AT_ONCE: usize = 4 << 20;
/// About what an automaton takes for a state, in bytes.
const STATE_SIZE: usize = 32;

/// Start and end of a match.
pub type Span = (usize, usize);

pub struct Pattern {
    text: String,
    tree: Hir,
    names: Vec<String>,
    regex: Regex,
    cache: RefCell<Cache>,
    /// How many steps one byte of a text may take, if nothing is known of it:
    /// one for each state of the automaton.
    weight: usize,
    /// A search that could take more steps than this looks at the clock on its way.
    at_once: usize,
    stepper: OnceCell<Option<Stepper>>,
    prefilter: Option<Prefilter>,
}

impl Pattern {
    pub fn compile(pattern: &str, syntax: Syntax) -> Result<Self, String> {
        let too_large = || format!("the pattern takes more than {COMPILED_LIMIT} bytes when it is compiled");
        let Syntax { tree, names } = syntax;
        let config = Regex::config().nfa_size_limit(Some(COMPILED_LIMIT)).hybrid_cache_capacity(CACHE_CAPACITY);
        let regex = Regex::builder().configure(config).build_from_hir(&tree);
        let regex =
            regex.map_err(|error| if error.size_limit().is_some() { too_large() } else { error.to_string() })?;
        let automaton = automaton(&tree, false).ok_or_else(too_large)?;
        Ok(Self {
            text: pattern.to_owned(),
            cache: RefCell::new(regex.create_cache()),
            weight: automaton.memory_usage() / STATE_SIZE + 1,
            at_once: STEPS_AT_ONCE,
            stepper: OnceCell::new(),
            prefilter: Prefilter::of(&tree),
            tree,
            names,
            regex,
        })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn prefilter(&self) -> Option<&Prefilter> {
        self.prefilter.as_ref()
    }

    /// How many bytes its caches take.
    pub fn cached(&self) -> usize {
        let stepper = self.stepper.get().and_then(Option::as_ref).map_or(0, Stepper::cached);
        self.cache.borrow().memory_usage() + stepper
    }

    pub fn forget(&self) {
        *self.cache.borrow_mut() = self.regex.create_cache();
        if let Some(Some(stepper)) = self.stepper.get() {
            stepper.forget();
        }
    }

    pub fn is_match(&self, text: &str, budget: &Budget<'_>) -> Result<bool, GuestFault> {
        // Where the library may stop at the first match there is, it overlooks some
        // empty ones that lie behind one within a character.
        if self.tree.properties().minimum_len() == Some(0) || !self.fits(text.len()) {
            return Ok(self.find(text, 0, budget)?.is_some());
        }
        budget.spend(self, self.steps(text.len()))?;
        Ok(self.regex.is_match_with(&mut self.cache.borrow_mut(), &Input::new(text)))
    }

    /// The first match that begins at or after `from`.
    pub fn find(&self, text: &str, from: usize, budget: &Budget<'_>) -> Result<Option<Span>, GuestFault> {
        let length = text.len().saturating_sub(from);
        if self.fits(length) {
            budget.spend(self, self.steps(length))?;
            let input = Input::new(text).range(from..);
            let found = self.regex.search_with(&mut self.cache.borrow_mut(), &input);
            return Ok(found.map(|found| (found.start(), found.end())));
        }
        self.stepper()?.find(self, text, from, budget)
    }

    /// Every match, the first one first; an empty one right behind another is none.
    pub fn each_match(
        &self,
        text: &str,
        budget: &Budget<'_>,
        mut found: impl FnMut(Span) -> Result<(), GuestFault>,
    ) -> Result<(), GuestFault> {
        let (mut from, mut last) = (0, None);
        while from <= text.len() {
            let Some((start, end)) = self.find(text, from, budget)? else { break };
            from = end;
            if start == end && last == Some(end) {
                from += text.get(end..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
                continue;
            }
            last = Some(end);
            found((start, end))?;
        }
        Ok(())
    }

    /// The offsets of the first match and of its groups, in pairs.
    pub fn capture(&self, text: &str, budget: &Budget<'_>) -> Result<Option<Vec<Option<usize>>>, GuestFault> {
        let mut input = Input::new(text);
        if !self.fits(text.len()) {
            // Groups are looked for where the match is known to be.
            let Some((start, end)) = self.find(text, 0, budget)? else { return Ok(None) };
            if self.steps(end - start) > STEPS_AT_ONCE {
                return Err(GuestFault::LongMatch { pattern: self.text.clone(), length: end - start });
            }
            input = input.range(start..end).anchored(Anchored::Yes);
        }
        budget.spend(self, self.steps(input.get_range().len()))?;
        let mut slots: Vec<Option<NonMaxUsize>> = vec![None; self.names.len() * 2];
        let found = self.regex.search_slots_with(&mut self.cache.borrow_mut(), &input, &mut slots);
        Ok(found.map(|_| slots.into_iter().map(|slot| slot.map(NonMaxUsize::get)).collect()))
    }

    /// At most so many steps does a search take over so many bytes.
    fn steps(&self, length: usize) -> usize {
        self.weight.saturating_mul(length + 1)
    }

    fn fits(&self, length: usize) -> bool {
        self.steps(length) <= self.at_once
    }

    fn stepper(&self) -> Result<&Stepper, GuestFault> {
        let stepper = self.stepper.get_or_init(|| Stepper::of(&self.tree)).as_ref();
        stepper.ok_or_else(|| GuestFault::LongSearch { pattern: self.text.clone() })
    }

    /// Searches that look at the clock, however short the text is.
    #[cfg(test)]
    pub fn stepping(mut self) -> Self {
        self.at_once = 0;
        self
    }
}

/// The pattern's automaton without its groups, forwards or backwards; `None`
/// where it takes too much memory.
fn automaton(tree: &Hir, reverse: bool) -> Option<thompson::NFA> {
    let config = thompson::Config::new()
        .reverse(reverse)
        .which_captures(WhichCaptures::None)
        // Backwards the parts of characters share less.
        .nfa_size_limit(Some(if reverse { 4 * COMPILED_LIMIT } else { COMPILED_LIMIT }));
    thompson::Compiler::new().configure(config).build_from_hir(tree).ok()
}
