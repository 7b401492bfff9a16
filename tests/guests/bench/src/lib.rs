//! The plugin of the end-to-end benchmark, one rule a mode:
//!
//! | config | what it does |
//! |---|---|
//! | `{"mode": "copy", "read": "http.route", "set": "seen.route"}` | reads one text attribute and sets another from it |
//! | `{"mode": "mask"}` | masks every text attribute that contains `@` |
//! | `{"mode": "drop"}` | drops failed health checks, of which the benchmark sends none |

use serde::Deserialize;
use vespid_plugin::{Batch, Edits, Owner, Processor, Rejection, StatusCode, export};

const HEALTH_CHECK: &str = "GET /healthz";

#[derive(Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
enum Rule {
    Copy { read: String, set: String },
    Mask,
    Drop,
}

impl Processor for Rule {
    type Config = Self;

    fn new(rule: Self) -> Result<Self, Rejection> {
        Ok(rule)
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
