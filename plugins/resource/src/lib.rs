//! The Collector's processor `resource`: the actions of `attributes`, on the
//! attributes of resources.

use serde::Deserialize;
use shared::actions::{ActionConfig, Actions};
use vespid_plugin::{Batch, Edits, Owner, Processor, Rejection, export};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    attributes: Option<Vec<ActionConfig>>,
}

pub struct Resource {
    actions: Actions,
}

impl Processor for Resource {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Rejection> {
        let mut wrong = vec![];
        let actions = config.attributes.unwrap_or_default();
        if actions.is_empty() {
            let hint = "such as `attributes: [{key: a, action: delete}]`";
            wrong.push(Rejection::new("it needs `attributes`").hint(hint));
        }
        let actions = Actions::check(actions, "attributes", &mut wrong);
        match Rejection::all(wrong) {
            Some(rejection) => Err(rejection),
            None => Ok(Self { actions }),
        }
    }

    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
        let rows: Vec<u32> = (0..batch.row_count(Owner::Resource)).collect();
        self.actions.process(batch, edits, Owner::Resource, &rows);
        Ok(())
    }
}

export!(Resource);
