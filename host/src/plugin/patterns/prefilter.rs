//! What must be in a text for a pattern to match it, derived from the pattern's
//! tree: one of a few needles (`@`, `Bearer `), or a run of so many bytes of one
//! kind (13 digits). It is found in a whole batch many times faster than the
//! pattern, and only where it is found the pattern itself is asked.

use std::ops::Range;

use regex_automata::util::prefilter;
use regex_automata::{MatchKind, Span};
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// How many consecutive positions of a pattern are looked at together.
const POSITIONS: usize = 32;
/// How many needles there may be.
const NEEDLES: usize = 16;
const NEEDLE_LENGTH: usize = 16;
/// A shorter run is not worth looking for.
const SHORTEST_RUN: usize = 4;
/// What is likelier than this at any one place is found too often to be of use.
/// One rare byte passes.
const LIKELIEST: f64 = 0.006;

pub struct Prefilter {
    look: Look,
}

enum Look {
    Needles(prefilter::Prefilter),
    Run { bytes: Box<Bytes>, length: usize },
}

impl Prefilter {
    /// `None` where nothing rare enough is known to be in every match.
    pub fn of(tree: &Hir) -> Option<Self> {
        let mut needs = Needs::default();
        needs.walk(tree);
        needs.cut();
        let needles = needs.needles.filter(|needles| needles.chance <= LIKELIEST);
        let run = needs.run.filter(|run| run.chance <= LIKELIEST);
        let run_is_better = match (&needles, &run) {
            (Some(needles), Some(run)) => run.chance < needles.chance,
            _ => run.is_some(),
        };
        let look = if run_is_better {
            run.map(|run| Look::Run { bytes: Box::new(run.bytes), length: run.length })?
        } else {
            Look::Needles(prefilter::Prefilter::new(MatchKind::LeftmostFirst, &needles?.texts)?)
        };
        Some(Self { look })
    }

    /// The first place at or after `from` where a match may be: it holds this range.
    pub fn find(&self, bytes: &[u8], from: usize) -> Option<Range<usize>> {
        if from > bytes.len() {
            return None;
        }
        match &self.look {
            Look::Needles(needles) => {
                let found = needles.find(bytes, Span { start: from, end: bytes.len() })?;
                Some(found.start..found.end)
            }
            Look::Run { bytes: set, length } => find_run(set, *length, bytes, from),
        }
    }
}

/// Looks at every `length`-th byte only: a run of that length holds one of them.
fn find_run(set: &Bytes, length: usize, bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut probe = from + length - 1;
    while let Some(&byte) = bytes.get(probe) {
        if !set.has(byte) {
            probe += length;
            continue;
        }
        let before = bytes.get(from..probe).unwrap_or_default();
        let start = probe - before.iter().rev().take_while(|&&byte| set.has(byte)).count();
        let missing = (start + length).saturating_sub(probe + 1);
        let after = bytes.get(probe + 1..).unwrap_or_default();
        let more = after.iter().take(missing).take_while(|&&byte| set.has(byte)).count();
        if more == missing {
            return Some(start..start + length);
        }
        // The byte that ends this run cannot be in the next.
        probe += more + 1 + length;
    }
    None
}

/// A set of bytes.
#[derive(Debug, Clone, PartialEq)]
struct Bytes([bool; 256]);

impl Bytes {
    fn of(wanted: impl Fn(u8) -> bool) -> Self {
        let mut set = [false; 256];
        for (place, byte) in set.iter_mut().zip(0..=u8::MAX) {
            *place = wanted(byte);
        }
        Self(set)
    }

    #[inline]
    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or_default()
    }

    fn each(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|&byte| self.has(byte))
    }

    fn union(&self, other: &Self) -> Self {
        Self::of(|byte| self.has(byte) || other.has(byte))
    }

    /// How likely a byte of a request is one of these.
    fn chance(&self) -> f64 {
        self.each().map(chance).sum::<f64>().min(1.0)
    }
}

/// How likely a byte of a request is this one, by a rough count of requests:
/// keys, paths and lengths make up most of them.
fn chance(byte: u8) -> f64 {
    match byte {
        b'a'..=b'z' | b'0'..=b'9' => 0.025,
        0..=0x1f | b' ' | b'/' | b'.' | b'-' | b'_' | b':' | b'"' | b',' | b'=' => 0.02,
        b'A'..=b'Z' => 0.01,
        _ => 0.004,
    }
}

/// One of these texts must occur.
#[derive(Debug, Clone)]
struct Needles {
    texts: Vec<Vec<u8>>,
    chance: f64,
}

/// So many bytes of this set must follow each other.
#[derive(Debug, Clone)]
struct Run {
    bytes: Bytes,
    length: usize,
    chance: f64,
}

/// The rarest of what is known to be in every match.
#[derive(Default)]
struct Needs {
    needles: Option<Needles>,
    run: Option<Run>,
    /// Which bytes may stand at each of the last positions, which follow each
    /// other in every match.
    positions: Vec<Bytes>,
}

impl Needs {
    fn walk(&mut self, tree: &Hir) {
        match tree.kind() {
            // They take no place.
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => {
                literal.0.iter().for_each(|&byte| self.position(Bytes::of(|each| each == byte)));
            }
            HirKind::Class(class) => match one_byte(class) {
                Some(bytes) => self.position(bytes),
                None => self.cut(),
            },
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.walk(part)),
            HirKind::Repetition(repetition) => self.repetition(repetition),
            HirKind::Alternation(branches) => {
                self.cut();
                self.alternation(branches);
            }
        }
    }

    fn position(&mut self, bytes: Bytes) {
        if self.positions.len() == POSITIONS {
            self.cut();
        }
        self.positions.push(bytes);
    }

    fn repetition(&mut self, repetition: &Repetition) {
        let Repetition { min, max, sub, .. } = repetition;
        let one = single(sub);
        let times = (*min as usize).min(POSITIONS);
        match &one {
            Some(bytes) => (0..times).for_each(|_| self.position(bytes.clone())),
            None if times > 0 => self.walk(sub),
            None => {}
        }
        // What follows does not follow what is known, unless all of it is.
        if one.is_none() || *max != Some(times as u32) {
            self.cut();
        }
    }

    /// What must be there is what each branch needs.
    fn alternation(&mut self, branches: &[Hir]) {
        let (mut needles, mut run): (Option<Needles>, Option<Run>) = (None, None);
        for (at, branch) in branches.iter().enumerate() {
            let mut of_branch = Self::default();
            of_branch.walk(branch);
            of_branch.cut();
            if at == 0 {
                (needles, run) = (of_branch.needles, of_branch.run);
                continue;
            }
            needles = needles.zip(of_branch.needles).and_then(|(mut all, more)| {
                all.texts.extend(more.texts);
                all.chance += more.chance;
                (all.texts.len() <= NEEDLES).then_some(all)
            });
            run = run
                .zip(of_branch.run)
                .map(|(one, other)| Run::of(one.bytes.union(&other.bytes), one.length.min(other.length)));
        }
        self.take(needles, run);
    }

    /// The positions so far are followed by something that is not known.
    fn cut(&mut self) {
        let positions = std::mem::take(&mut self.positions);
        for start in 0..positions.len() {
            let from_here = positions.get(start..).unwrap_or_default();
            self.take(needles(from_here), run(from_here));
        }
    }

    fn take(&mut self, needles: Option<Needles>, run: Option<Run>) {
        if let Some(needles) = needles
            && self.needles.as_ref().is_none_or(|best| needles.chance < best.chance)
        {
            self.needles = Some(needles);
        }
        if let Some(run) = run
            && self.run.as_ref().is_none_or(|best| run.chance < best.chance)
        {
            self.run = Some(run);
        }
    }
}

impl Run {
    /// Bytes of one kind come together: after one of them another is likely.
    fn of(bytes: Bytes, length: usize) -> Self {
        let first = bytes.chance();
        let chance = first * first.max(0.6).powi(length as i32 - 1);
        Self { bytes, length, chance }
    }
}

/// As many needles as the first positions make, and as long.
fn needles(positions: &[Bytes]) -> Option<Needles> {
    let (mut texts, mut chance) = (vec![vec![]], 1.0);
    for bytes in positions.iter().take(NEEDLE_LENGTH) {
        if texts.len() * bytes.each().count() > NEEDLES {
            break;
        }
        let longer = |text: &Vec<u8>| bytes.each().map(|byte| [text.as_slice(), &[byte]].concat()).collect::<Vec<_>>();
        texts = texts.iter().flat_map(longer).collect();
        chance *= bytes.chance();
    }
    let some = texts.first().is_some_and(|text: &Vec<u8>| !text.is_empty());
    some.then_some(Needles { texts, chance })
}

/// The rarest run that begins with the first position.
fn run(positions: &[Bytes]) -> Option<Run> {
    let mut all = positions.first()?.clone();
    let mut best: Option<Run> = None;
    for (length, bytes) in (1..).zip(positions) {
        if *bytes != all {
            all = all.union(bytes);
        }
        if length < SHORTEST_RUN {
            continue;
        }
        let run = Run::of(all.clone(), length);
        if best.as_ref().is_none_or(|best| run.chance < best.chance) {
            best = Some(run);
        }
    }
    best
}

/// What may stand at the one position that this takes, if it takes one.
fn single(tree: &Hir) -> Option<Bytes> {
    match tree.kind() {
        HirKind::Class(class) => one_byte(class),
        HirKind::Literal(literal) => match *literal.0 {
            [only] => Some(Bytes::of(|byte| byte == only)),
            _ => None,
        },
        HirKind::Capture(capture) => single(&capture.sub),
        _ => None,
    }
}

/// The characters of a class, if each is one byte long.
fn one_byte(class: &Class) -> Option<Bytes> {
    let Class::Unicode(class) = class else { return None };
    let ascii = class.ranges().iter().all(|range| range.end().is_ascii());
    let has = |byte: u8| class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&char::from(byte)));
    (ascii && !class.ranges().is_empty()).then(|| Bytes::of(|byte| byte.is_ascii() && has(byte)))
}
