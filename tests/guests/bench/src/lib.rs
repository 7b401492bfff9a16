//! The plugin of the end-to-end benchmark, one rule a mode:
//!
//! | config | what it does |
//! |---|---|
//! | `{"mode": "copy", "read": "http.route", "set": "seen.route"}` | reads one text attribute and sets another from it |
//! | `{"mode": "mask"}` | masks every text attribute that contains `@` |
//! | `{"mode": "redact", "patterns": ["[0-9]{13,16}"]}` | replaces every match in every text attribute |
//! | `{"mode": "drop"}` | drops failed health checks, of which the benchmark sends none |

use serde::Deserialize;
use vespid_plugin::{Batch, Edits, Owner, Pattern, Processor, Rejection, StatusCode, export};

const HEALTH_CHECK: &str = "GET /healthz";

#[derive(Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
enum Config {
    Copy { read: String, set: String },
    Mask,
    Redact { patterns: Vec<String> },
    Drop,
}

enum Rule {
    Copy { read: String, set: String },
    Mask,
    Redact(Vec<Pattern>),
    Drop,
}

impl Processor for Rule {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Rejection> {
        Ok(match config {
            Config::Copy { read, set } => Self::Copy { read, set },
            Config::Mask => Self::Mask,
            Config::Redact { patterns } => {
                Self::Redact(patterns.iter().map(|pattern| Pattern::new(pattern)).collect::<Result<_, _>>()?)
            }
            Config::Drop => Self::Drop,
        })
    }

    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
        match self {
            Rule::Copy { read, set } => {
                let column = batch.text_attribute(Owner::Span, read);
                let dictionary = column.dictionary().clone();
                edits.set_texts_coded(Owner::Span, column.rows(), set, column.codes(), dictionary);
            }
            Rule::Mask => {
                for column in batch.find_text(Owner::Span, "@") {
                    edits.set(Owner::Span, column.rows(), column.key(), "***");
                }
            }
            Rule::Redact(patterns) => {
                edits.replace_matches(Owner::Span, patterns, "****");
            }
            Rule::Drop => {
                let statuses = batch.status_codes();
                let mut rows = batch.rows_named(|name| name == HEALTH_CHECK);
                rows.retain(|&row| statuses.get(row as usize) == Some(&StatusCode::Error));
                edits.drop_spans(&rows, "failed health check");
            }
        }
        Ok(())
    }
}

export!(Rule);
