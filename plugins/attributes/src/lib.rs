//! The Collector's processor `attributes`: actions on the attributes of those
//! spans that `include` and `exclude` choose.

use serde::Deserialize;
use shared::actions::{ActionConfig, Actions};
use shared::matching::{MatchProperties, Properties};
use vespid_plugin::{Batch, Edits, Owner, Processor, Rejection, export};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    include: Option<MatchProperties>,
    exclude: Option<MatchProperties>,
    actions: Option<Vec<ActionConfig>>,
}

pub struct Attributes {
    include: Option<Properties>,
    exclude: Option<Properties>,
    actions: Actions,
}

impl Processor for Attributes {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Rejection> {
        let mut wrong = vec![];
        let include = config.include.map(|it| it.check("include", &mut wrong));
        let exclude = config.exclude.map(|it| it.check("exclude", &mut wrong));
        let actions = config.actions.unwrap_or_default();
        if actions.is_empty() {
            wrong.push(Rejection::new("it needs `actions`").hint("such as `actions: [{key: a, action: delete}]`"));
        }
        let actions = Actions::check(actions, "actions", &mut wrong);
        match Rejection::all(wrong) {
            Some(rejection) => Err(rejection),
            None => Ok(Self { include, exclude, actions }),
        }
    }

    fn process(&mut self, batch: &Batch, edits: &mut Edits) -> Result<(), Rejection> {
        let rows = match (&self.include, &self.exclude) {
            (None, None) => batch.rows().collect(),
            (include, exclude) => {
                let included = include.as_ref().map(|it| it.matches(batch));
                let excluded = exclude.as_ref().map(|it| it.matches(batch));
                let chosen = |row: &u32| {
                    let row = *row as usize;
                    included.as_ref().is_none_or(|it| it[row]) && !excluded.as_ref().is_some_and(|it| it[row])
                };
                batch.rows().filter(chosen).collect::<Vec<_>>()
            }
        };
        self.actions.process(batch, edits, Owner::Span, &rows);
        Ok(())
    }
}

export!(Attributes);
