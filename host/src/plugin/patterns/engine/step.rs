//! A search that goes byte by byte and looks at the clock on its way: slower than
//! the library's own loop by a half, and bounded.

use std::cell::RefCell;

use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::hybrid::{CacheError, LazyStateID};
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;

use super::super::search::Budget;
use super::{CACHE_CAPACITY, Pattern, Span, automaton};
use crate::plugin::guest::GuestFault;

/// How many steps are taken between two reports to the budget.
const STRIDE: usize = 1 << 17;

/// The lazily built automata: forwards for a match's end, backwards from there for its start.
pub struct Stepper {
    forward: Half,
    reverse: Half,
}

struct Half {
    dfa: DFA,
    cache: RefCell<Cache>,
}

impl Half {
    fn of(tree: &Hir, reverse: bool) -> Option<Self> {
        let kind = if reverse { MatchKind::All } else { MatchKind::LeftmostFirst };
        // It never gives up: a cache that does not help is slow, and the clock ends that.
        let config = Config::new()
            .match_kind(kind)
            .cache_capacity(CACHE_CAPACITY)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(None);
        let dfa = DFA::builder().configure(config).build_from_nfa(automaton(tree, reverse)?).ok()?;
        Some(Self { cache: RefCell::new(dfa.create_cache()), dfa })
    }
}

impl Stepper {
    pub fn of(tree: &Hir) -> Option<Self> {
        Some(Self { forward: Half::of(tree, false)?, reverse: Half::of(tree, true)? })
    }

    pub fn cached(&self) -> usize {
        self.forward.cache.borrow().memory_usage() + self.reverse.cache.borrow().memory_usage()
    }

    pub fn forget(&self) {
        for half in [&self.forward, &self.reverse] {
            *half.cache.borrow_mut() = half.dfa.create_cache();
        }
    }

    /// The first match that begins at or after `from`.
    pub fn find(
        &self,
        pattern: &Pattern,
        text: &str,
        mut from: usize,
        budget: &Budget<'_>,
    ) -> Result<Option<Span>, GuestFault> {
        while from <= text.len() {
            let Some(end) = self.end(pattern, text, from, budget)? else { return Ok(None) };
            let start = self.start(pattern, text, from, end, budget)?.unwrap_or(end);
            if start < end || text.is_char_boundary(end) {
                return Ok(Some((start, end)));
            }
            // An empty match within a character is none.
            from = end + 1;
        }
        Ok(None)
    }

    /// The end of the match that begins first.
    fn end(
        &self,
        pattern: &Pattern,
        text: &str,
        from: usize,
        budget: &Budget<'_>,
    ) -> Result<Option<usize>, GuestFault> {
        let Half { dfa, cache } = &self.forward;
        let cache = &mut *cache.borrow_mut();
        let gave_up = |_| GuestFault::LongSearch { pattern: pattern.text().to_owned() };
        let input = Input::new(text).range(from..);
        let mut state = dfa.start_state_forward(cache, &input).map_err(|_| gave_up(()))?;
        let mut found = None;
        let mut pace = Pace::of(pattern);
        for (at, &byte) in text.as_bytes().iter().enumerate().skip(from) {
            state = next(dfa, cache, state, byte).map_err(|_| gave_up(()))?;
            // An automaton says one byte late that it has matched.
            if state.is_match() {
                found = Some(at);
            } else if state.is_dead() {
                return Ok(found);
            }
            pace.step(pattern, budget)?;
        }
        let last = dfa.next_eoi_state(cache, state).map_err(|_| gave_up(()))?;
        Ok(if last.is_match() { Some(text.len()) } else { found })
    }

    /// Where the match begins that ends at `end`.
    fn start(
        &self,
        pattern: &Pattern,
        text: &str,
        from: usize,
        end: usize,
        budget: &Budget<'_>,
    ) -> Result<Option<usize>, GuestFault> {
        let Half { dfa, cache } = &self.reverse;
        let cache = &mut *cache.borrow_mut();
        let gave_up = |_| GuestFault::LongSearch { pattern: pattern.text().to_owned() };
        let input = Input::new(text).range(from..end).anchored(Anchored::Yes);
        let mut state = dfa.start_state_reverse(cache, &input).map_err(|_| gave_up(()))?;
        let mut found = None;
        let mut pace = Pace::of(pattern);
        let (before, within) = text.as_bytes().get(..end).unwrap_or_default().split_at(from.min(end));
        for (at, &byte) in within.iter().enumerate().rev() {
            state = next(dfa, cache, state, byte).map_err(|_| gave_up(()))?;
            if state.is_match() {
                found = Some(from + at + 1);
            } else if state.is_dead() {
                return Ok(found);
            }
            pace.step(pattern, budget)?;
        }
        let last = match before.last() {
            Some(&byte) => next(dfa, cache, state, byte),
            None => dfa.next_eoi_state(cache, state),
        };
        Ok(if last.map_err(|_| gave_up(()))?.is_match() { Some(from) } else { found })
    }
}

fn next(dfa: &DFA, cache: &mut Cache, state: LazyStateID, byte: u8) -> Result<LazyStateID, CacheError> {
    dfa.next_state(cache, state, byte)
}

/// Reports to the budget after so many bytes as are worth a stride of steps.
struct Pace {
    every: usize,
    left: usize,
}

impl Pace {
    fn of(pattern: &Pattern) -> Self {
        let every = (STRIDE / pattern.weight).max(1);
        Self { every, left: every }
    }

    fn step(&mut self, pattern: &Pattern, budget: &Budget<'_>) -> Result<(), GuestFault> {
        self.left -= 1;
        if self.left > 0 {
            return Ok(());
        }
        self.left = self.every;
        budget.spend(pattern, STRIDE)
    }
}
