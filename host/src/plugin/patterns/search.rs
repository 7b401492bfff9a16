//! Some patterns together, as a call of the guest names them, and the time that
//! is left to search for them.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::Duration;

use super::engine::Pattern;
use crate::plugin::guest::{GuestFault, Meter};
use crate::traces::{FINDERS, Index, Owner, Spot};

/// The clock is looked at each time so many steps may have been taken, which is
/// 3 ms at worst and usually less than a tenth of that.
const STEPS_PER_LOOK: usize = 1 << 20;

/// So many bytes does a prefilter look at in the time of one step, at worst.
const BYTES_PER_STEP: usize = 8;

/// How long a search may hold up the other tasks of its worker, as long as the
/// guest itself may between two ticks of the clock.
const PATIENCE: Duration = Duration::from_millis(5);

/// Bounds the searches of one call by the call's deadline.
pub struct Budget<'a> {
    meter: &'a Meter,
    deadline: Duration,
    /// When an impatient search is given up.
    patience: Duration,
    /// Since the last look at the clock.
    steps: Cell<usize>,
}

impl<'a> Budget<'a> {
    pub fn new(meter: &'a Meter, deadline: Duration) -> Self {
        Self { meter, deadline, patience: Duration::MAX, steps: Cell::new(0) }
    }

    /// Ends a search that takes long with `GuestFault::Impatient`.
    pub fn impatient(self) -> Self {
        Self { patience: self.meter.running() + PATIENCE, ..self }
    }

    /// Counts what is about to be done, and says so where the time is over.
    pub(super) fn spend(&self, pattern: &Pattern, steps: usize) -> Result<(), GuestFault> {
        let steps = self.steps.get().saturating_add(steps);
        self.steps.set(if steps < STEPS_PER_LOOK { steps } else { 0 });
        if steps < STEPS_PER_LOOK {
            return Ok(());
        }
        let ran = self.meter.running();
        if ran > self.deadline {
            return Err(GuestFault::Searched { pattern: pattern.text().to_owned(), deadline: self.deadline });
        }
        if ran > self.patience { Err(GuestFault::Impatient) } else { Ok(()) }
    }
}

/// A set of the patterns of one search, a bit each by their place in it.
pub type Which = u64;

/// Some of a guest's patterns.
pub struct Search<'a> {
    patterns: Vec<&'a Pattern>,
    budget: Budget<'a>,
}

impl<'a> Search<'a> {
    pub(super) fn new(patterns: Vec<&'a Pattern>, budget: Budget<'a>) -> Self {
        Self { patterns, budget }
    }

    /// The batch's texts that a pattern may match, as far as prefilters tell.
    pub fn spots<'i>(&self, index: &'i Index, owner: Owner) -> Result<Box<dyn Iterator<Item = Spot> + 'i>, GuestFault> {
        let late = RefCell::default();
        let found = self.finders(&late).and_then(|finders| index.find_texts(owner, &finders));
        match (late.into_inner(), found) {
            (Some(fault), _) => Err(fault),
            (None, Some(found)) => Ok(Box::new(found.into_iter())),
            (None, None) => Ok(Box::new(index.all_texts(owner))),
        }
    }

    /// Packed texts, which were checked before, and which patterns each may match.
    pub fn each<'t>(
        &self,
        data: &'t [u8],
        ends: &'t [u32],
    ) -> Result<impl Iterator<Item = (&'t str, Which)> + use<'t>, GuestFault> {
        // Most often there is nothing to be found at all.
        let late = RefCell::default();
        let which = self.finders(&late).map_or(Which::MAX, |finders| {
            let bits = (0..).zip(&finders).map(|(bit, finder)| Which::from(finder(data, 0).is_some()) << bit);
            bits.fold(0, |all, bit| all | bit)
        });
        if let Some(fault) = late.into_inner() {
            return Err(fault);
        }
        let mut before = 0;
        Ok(ends.iter().map(move |&end| {
            let text = data.get(before..end as usize).unwrap_or_default();
            before = end as usize;
            (std::str::from_utf8(text).unwrap_or_default(), which)
        }))
    }

    /// For each pattern where it may match; `None` where one of them does not tell.
    /// When the time is over they find nothing any more and say why in `late`.
    #[expect(clippy::type_complexity, reason = "`impl` has no name outside of a function")]
    fn finders<'f>(
        &'f self,
        late: &'f RefCell<Option<GuestFault>>,
    ) -> Option<Vec<impl Fn(&[u8], usize) -> Option<Range<usize>> + use<'a, 'f>>> {
        if self.patterns.len() > FINDERS {
            return None;
        }
        let finder = |pattern: &&'a Pattern| {
            let (pattern, prefilter) = (*pattern, pattern.prefilter()?);
            Some(move |bytes: &[u8], from: usize| {
                if let Err(fault) = self.budget.spend(pattern, bytes.len().saturating_sub(from) / BYTES_PER_STEP) {
                    late.replace(Some(fault));
                    return None;
                }
                prefilter.find(bytes, from)
            })
        };
        self.patterns.iter().map(finder).collect()
    }

    /// The patterns that may match, if `which` of them may; those beyond its bits always may.
    fn among(&self, which: Which) -> impl Iterator<Item = (&'a Pattern, bool)> {
        self.patterns
            .iter()
            .enumerate()
            .map(move |(at, pattern)| (*pattern, which.checked_shr(at as u32).is_none_or(|bits| bits & 1 == 1)))
    }

    /// Whether any of `which` patterns matches.
    pub fn matches(&self, text: &str, which: Which) -> Result<bool, GuestFault> {
        for (pattern, _) in self.among(which).filter(|(_, may)| *may) {
            if pattern.is_match(text, &self.budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Every match of `which` patterns.
    pub fn find(
        &self,
        text: &str,
        which: Which,
        mut found: impl FnMut(usize, usize) -> Result<(), GuestFault>,
    ) -> Result<(), GuestFault> {
        let mut among = self.among(which).filter(|(_, may)| *may);
        among.try_for_each(|(pattern, _)| pattern.each_match(text, &self.budget, |(start, end)| found(start, end)))
    }

    /// Appends start and end of the first match and of each of its groups; false where there is none.
    pub fn capture(&self, text: &str, which: Which, offsets: &mut Vec<u32>) -> Result<bool, GuestFault> {
        for (pattern, _) in self.among(which).filter(|(_, may)| *may) {
            let Some(groups) = pattern.capture(text, &self.budget)? else { continue };
            offsets.extend(groups.into_iter().map(|offset| offset.map_or(u32::MAX, |offset| offset as u32)));
            return Ok(true);
        }
        Ok(false)
    }

    /// The text with every match replaced, pattern after pattern, if `which` of
    /// them may match; `None` where none did. What is made is at most `limit` bytes.
    pub fn replace(
        &self,
        text: &str,
        which: Which,
        replacement: &str,
        limit: usize,
    ) -> Result<Option<String>, GuestFault> {
        let mut replaced: Option<String> = None;
        for (pattern, may) in self.among(which) {
            // What a replacement made of the text is not what was looked through before.
            if !may && replaced.is_none() {
                continue;
            }
            let text = replaced.as_deref().unwrap_or(text);
            let (mut out, mut done) = (String::new(), 0);
            let mut any = false;
            pattern.each_match(text, &self.budget, |(start, end)| {
                any = true;
                out.push_str(text.get(done..start).unwrap_or_default());
                out.push_str(replacement);
                done = end;
                if out.len() > limit { Err(GuestFault::Edits { bytes: out.len(), limit }) } else { Ok(()) }
            })?;
            if any {
                out.push_str(text.get(done..).unwrap_or_default());
                replaced = Some(out);
            }
        }
        Ok(replaced)
    }
}
