//! What becomes of an attribute by its key alone.

use std::collections::{HashMap, HashSet};

use vespid_plugin::{Pattern, Rejection, Texts, patterns::match_texts};

use crate::compile;
use crate::config::Config;
use crate::summary;

/// Keys repeat from batch to batch; beyond so many the memory of them starts anew.
const KNOWN_LIMIT: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Stays as it is.
    Ignored,
    Removed,
    /// Its value is masked as a whole.
    Masked,
    /// Its value decides.
    Checked,
}

pub struct Keys {
    allow_all: bool,
    allowed: HashSet<String>,
    ignored: HashSet<String>,
    ignored_patterns: Vec<Pattern>,
    blocked_patterns: Vec<Pattern>,
    known: HashMap<String, Fate>,
}

impl Keys {
    pub fn new(config: &mut Config, wrong: &mut Vec<Rejection>) -> Self {
        let mut allowed: HashSet<String> = std::mem::take(&mut config.allowed_keys.0).into_iter().collect();
        allowed.extend(summary::ALLOWED.map(str::to_owned));
        Self {
            allow_all: config.allow_all_keys,
            allowed,
            ignored: std::mem::take(&mut config.ignored_keys.0).into_iter().collect(),
            ignored_patterns: compile("ignored_key_patterns", &config.ignored_key_patterns, wrong),
            blocked_patterns: compile("blocked_key_patterns", &config.blocked_key_patterns, wrong),
            known: HashMap::new(),
        }
    }

    /// True where no key is anything but `Checked`.
    pub fn all_checked(&self) -> bool {
        self.allow_all
            && self.ignored.is_empty()
            && self.ignored_patterns.is_empty()
            && self.blocked_patterns.is_empty()
    }

    /// The fate of each key.
    pub fn fates(&mut self, keys: &[String]) -> Vec<Fate> {
        let new: Vec<&String> = keys.iter().filter(|key| !self.known.contains_key(*key)).collect();
        if !new.is_empty() {
            let ignored = flags(&self.ignored_patterns, &new);
            let blocked = flags(&self.blocked_patterns, &new);
            let found: Vec<(String, Fate)> = new
                .iter()
                .zip(ignored.iter().zip(&blocked))
                .map(|(&key, (&ignored, &blocked))| (key.clone(), self.fate(key, ignored, blocked)))
                .collect();
            if self.known.len() + found.len() > KNOWN_LIMIT {
                self.known.clear();
                if found.len() < keys.len() {
                    return self.fates(keys);
                }
            }
            if found.len() > KNOWN_LIMIT {
                return found.into_iter().map(|(_, fate)| fate).collect();
            }
            self.known.extend(found);
        }
        keys.iter().map(|key| self.known.get(key).copied().unwrap_or(Fate::Masked)).collect()
    }

    fn fate(&self, key: &str, ignored: bool, blocked: bool) -> Fate {
        match () {
            () if ignored || self.ignored.contains(key) => Fate::Ignored,
            () if !self.allow_all && !self.allowed.contains(key) => Fate::Removed,
            () if blocked => Fate::Masked,
            () => Fate::Checked,
        }
    }
}

fn flags(patterns: &[Pattern], keys: &[&String]) -> Vec<bool> {
    if patterns.is_empty() {
        return vec![false; keys.len()];
    }
    match_texts(patterns, keys.iter().collect::<Texts>())
}
