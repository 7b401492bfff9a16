//! Bundled as `redaction`: removes attributes by key, masks or hashes what their
//! values should not show, and takes what is personal out of URLs, database
//! statements and span names. Keys, defaults and results are those of the
//! OpenTelemetry Collector's processor of the same name.
//!
//! It works key by key over the whole batch. Where a config only masks patterns,
//! the collector does all of it; where it needs more, only texts that can matter
//! cross over.

mod attributes;
mod config;
mod databases;
mod keys;
mod mask;
mod names;
pub mod sanitize;
mod summary;
mod values;

use std::collections::HashSet;

use shared::TextList;
use vespid_plugin::{Batch, Edits, Owner, Pattern, Processor, Rejection, export};

pub use config::Config;
use config::UrlSanitizer;
use databases::Databases;
use keys::Keys;
use mask::STARS;
use summary::Level;
use values::Values;

/// In the order in which the Collector goes through them. Links are not among them.
const OWNERS: [Owner; 4] = [Owner::Resource, Owner::Scope, Owner::Span, Owner::Event];

pub struct Redaction {
    keys: Keys,
    values: Values,
    all_types: bool,
    summary: Level,
    urls: Urls,
    databases: Databases,
    /// Whether the last statement among span names was MySQL's; see `rename`.
    my_sql: bool,
    /// Nothing but masks within texts.
    only_masks: bool,
}

/// The sanitizer of URLs.
struct Urls {
    enabled: bool,
    names: bool,
    attributes: HashSet<String>,
}

impl Urls {
    fn new(config: UrlSanitizer) -> Self {
        Self {
            enabled: config.enabled,
            names: config.sanitize_span_name.unwrap_or(true),
            attributes: config.attributes.0.into_iter().collect(),
        }
    }

    fn takes_names(&self) -> bool {
        self.enabled && self.names
    }

    fn takes(&self, key: &str) -> bool {
        self.enabled && self.attributes.contains(key)
    }
}

impl Processor for Redaction {
    type Config = Config;

    fn new(mut config: Config) -> Result<Self, Rejection> {
        let mut wrong = Vec::new();
        config.check(&mut wrong);
        let values = Values::new(&config, &mut wrong);
        let keys = Keys::new(&mut config, &mut wrong);
        if let Some(rejection) = Rejection::all(wrong) {
            return Err(rejection);
        }
        let summary = Level::of(&config.summary);
        let urls = Urls::new(config.url_sanitizer);
        let only_masks = keys.all_checked()
            && !values.has_allowed()
            && values.mask.is_stars()
            && !config.redact_all_types
            && summary == Level::Silent
            && !urls.enabled
            && !config.db_sanitizer.any();
        Ok(Self {
            keys,
            values,
            all_types: config.redact_all_types,
            summary,
            urls,
            databases: Databases::new(config.db_sanitizer),
            my_sql: false,
            only_masks,
        })
    }

    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
        if self.only_masks && self.values.empty().masked.is_none() {
            if !self.values.blocked.is_empty() {
                for owner in OWNERS {
                    edits.replace_matches(owner, &self.values.blocked, STARS);
                }
            }
            return Ok(());
        }
        let my_sql = self.rename(batch, edits);
        for owner in OWNERS {
            self.redact(batch, edits, owner, &my_sql);
        }
        Ok(())
    }
}

/// Compiles the patterns of a key; each that is wrong is added to `wrong`.
fn compile(key: &str, patterns: &TextList, wrong: &mut Vec<Rejection>) -> Vec<Pattern> {
    let compile = |(at, pattern): (usize, &String)| match Pattern::new(pattern) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            wrong.push(Rejection::new(format!("{key}[{at}]: {error}")));
            None
        }
    };
    patterns.0.iter().enumerate().filter_map(compile).collect()
}

export!(Redaction);
