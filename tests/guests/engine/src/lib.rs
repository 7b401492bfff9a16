//! The mode `redact` of the guest `bench`, by a regular expression engine of its
//! own: what plugins pay that do not let the collector search.

use std::borrow::Cow;

use regex::{NoExpand, Regex};
use serde::Deserialize;
use vespid_plugin::{Batch, Edits, Owner, Processor, Rejection, Texts, export};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    patterns: Vec<String>,
}

struct Redact(Vec<Regex>);

impl Processor for Redact {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Rejection> {
        let compiled: Result<_, _> = config.patterns.iter().map(|pattern| Regex::new(pattern)).collect();
        compiled.map(Self).map_err(|error| Rejection::new(error.to_string()))
    }

    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
        for column in batch.text_attributes(Owner::Span) {
            let (mut rows, mut texts) = (vec![], Texts::new());
            for (row, text) in column.iter() {
                if let Some(replaced) = self.replaced(text) {
                    rows.push(row);
                    texts.push(&replaced);
                }
            }
            if !rows.is_empty() {
                let codes: Vec<u32> = (0..rows.len() as u32).collect();
                edits.set_texts_coded(Owner::Span, &rows, column.key(), &codes, texts);
            }
        }
        Ok(())
    }
}

impl Redact {
    fn replaced(&self, text: &str) -> Option<String> {
        let mut text = Cow::Borrowed(text);
        for pattern in &self.0 {
            if let Cow::Owned(replaced) = pattern.replace_all(&text, NoExpand("****")) {
                text = Cow::Owned(replaced);
            }
        }
        match text {
            Cow::Owned(replaced) => Some(replaced),
            Cow::Borrowed(_) => None,
        }
    }
}

export!(Redact);
