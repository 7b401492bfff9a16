//! A plugin with a defect, the same in four languages: it takes for granted that
//! its config names every span that comes. The other three stand beside this
//! file, and are built with what the examples give a user against such defects.
//!
//!     {"table": {"GET /orders": {"tag": "orders"}}}

use std::collections::HashMap;

use serde::Deserialize;
use vespid_plugin::{Batch, Edits, Owner, Processor, Rejection, export};

#[derive(Deserialize)]
struct Config {
    table: Option<HashMap<String, Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    tag: String,
}

struct Fails {
    table: HashMap<String, Entry>,
}

impl Processor for Fails {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Rejection> {
        let table = config.table.expect("there is a table"); // fails in configure
        Ok(Self { table })
    }

    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
        for (row, name) in (0..).zip(batch.names().iter()) {
            let entry = self.table.get(name).expect("every name is known"); // fails in process
            edits.set(Owner::Span, &[row], "tag", entry.tag.as_str());
        }
        Ok(())
    }
}

export!(Fails);
