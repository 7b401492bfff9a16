//! What becomes of a value by its text.

use std::cell::OnceCell;

use vespid_plugin::patterns::{match_texts, replace_in_texts};
use vespid_plugin::{Pattern, Rejection, Texts};

use crate::compile;
use crate::config::Config;
use crate::mask::{Mask, STARS};

pub struct Values {
    pub blocked: Vec<Pattern>,
    allowed: Vec<Pattern>,
    pub mask: Mask,
    /// What the rules make of an empty text, which is how they see a value that is
    /// none. Only a batch can ask the patterns, so it is found out with the first.
    empty: OnceCell<Empty>,
}

#[derive(Debug, Clone)]
pub struct Empty {
    pub allowed: bool,
    pub masked: Option<String>,
}

impl Values {
    pub fn new(config: &Config, wrong: &mut Vec<Rejection>) -> Self {
        Self {
            blocked: compile("blocked_values", &config.blocked_values, wrong),
            allowed: compile("allowed_values", &config.allowed_values, wrong),
            mask: Mask::new(config, wrong),
            empty: OnceCell::new(),
        }
    }

    pub fn has_allowed(&self) -> bool {
        !self.allowed.is_empty()
    }

    pub fn empty(&self) -> &Empty {
        self.empty.get_or_init(|| {
            let nothing: Texts = [""].into_iter().collect();
            let allowed = self.allowed(&nothing).first().copied().unwrap_or_default();
            let masked = self.masked(nothing);
            Empty { allowed, masked: masked.get(0).filter(|masked| !masked.is_empty()).map(str::to_owned) }
        })
    }

    /// For each text whether it is to be left alone.
    pub fn allowed(&self, texts: &Texts) -> Vec<bool> {
        if self.allowed.is_empty() || texts.is_empty() {
            return vec![false; texts.len()];
        }
        match_texts(&self.allowed, texts.clone())
    }

    /// The texts with whatever is blocked in them masked.
    pub fn masked(&self, texts: Texts) -> Texts {
        if self.blocked.is_empty() || texts.is_empty() {
            return texts;
        }
        if self.mask.is_stars() {
            return replace_in_texts(&self.blocked, texts, STARS);
        }
        self.blocked.iter().fold(texts, |texts, &pattern| self.hashed(pattern, texts))
    }

    fn hashed(&self, pattern: Pattern, texts: Texts) -> Texts {
        let found = pattern.find(texts.clone());
        if found.is_empty() {
            return texts;
        }
        let mut out = Texts::new();
        let mut found = found.into_iter().peekable();
        for (number, text) in (0..).zip(texts.iter()) {
            let (mut new, mut done) = (String::new(), 0);
            while let Some(found) = found.next_if(|found| found.text == number) {
                let (start, end) = (found.start as usize, found.end as usize);
                new.push_str(text.get(done..start).unwrap_or_default());
                self.mask.write(&mut new, text.get(start..end).unwrap_or_default());
                done = end;
            }
            new.push_str(text.get(done..).unwrap_or_default());
            out.push(&new);
        }
        out
    }
}
